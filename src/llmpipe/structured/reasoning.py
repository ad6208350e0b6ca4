"""Takes apart what a model thought and what it answered, where both come in one text.

Servers without a parser for a model's marks hand them on inside of the answer. What is known here are the marks that
models are trained on and that no prompt asks for, at the beginning of the text:

    <think> ... </think>                          DeepSeek R1, Qwen 3, GLM and most open models
    <seed:think> ... </seed:think>                Seed-OSS
    [THINK] ... [/THINK]                          Magistral
    ◁think▷ ... ◁/think▷                          Kimi
    <|START_THINKING|> ... <|END_THINKING|>       Command A, the answer within <|START_RESPONSE|>
    <|channel|>analysis<|message|> ... <|channel|>final<|message|> ...      gpt-oss (harmony), also without the marks:
    analysis ... assistantfinal ...                                         where a server drops special tokens

Tags that people ask for in prompts (`<thinking>`, `<reasoning>`, `<thought>`, `<answer>`) stay in a text. Where data is
asked for they are taken away in front of it (`reading`), for there nothing but the data is wanted.
"""

from __future__ import annotations

import re

from llmpipe.late import late

_OPENED = late(r"\A\s*<think>", re.IGNORECASE)
_ANY = late(r"<think>", re.IGNORECASE)
_CLOSED = late(r"</think>", re.IGNORECASE)
_CLOSED_LINE = late(r"</think>[ \t]*(?:\r?\n|\Z)", re.IGNORECASE)
_PAIRS = (
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_RESPONSE = late(r"\A<\|START_RESPONSE\|>(.*?)(?:<\|END_RESPONSE\|>.*)?\Z", re.DOTALL)
_MAY_BEGIN = ("<", "[THINK]", "◁", "analysis")
_CHANNELS = late(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?P<name>\w{1,40})(?P<to>[^<]{0,200})(?:<\|constrain\|>\w{1,40}\s?)?<\|message\|>"
    r"(?P<body>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)(?:<\|(?:end|return|call)\|>)*",
    re.DOTALL,
)
_HARMONY = ("<|channel|>", "<|start|>assistant")
_BARE = late(r"\Aanalysis(?P<thought>.*?)assistantfinal(?P<answer>.*)\Z", re.DOTALL)


def apart(text: str) -> tuple[str, str] | None:
    """(what was thought, what was answered), or None where the text holds no reasoning.

    Reasoning that never ends leaves no answer. Some chat templates put the opening tag into the prompt: then a single
    closing tag at the end of a line is enough.
    """
    start = text.lstrip()
    if start.startswith(_MAY_BEGIN):
        found = _marked(start)
        if found is not None:
            return found
    if opened := _OPENED.match(text):
        closed = _CLOSED.search(text, opened.end())
        if closed is None:
            return text[opened.end() :].strip(), ""
        return text[opened.end() : closed.start()].strip(), text[closed.end() :].lstrip()
    ends = _CLOSED.findall(text)
    closed = _CLOSED_LINE.search(text) if len(ends) == 1 and not _ANY.search(text) else None
    return None if closed is None else (text[: closed.start()].strip(), text[closed.end() :].lstrip())


def _marked(text: str) -> tuple[str, str] | None:
    """As `apart`, for the marks other than <think>; `text` begins with something else than a blank."""
    for opening, closing in _PAIRS:
        if text.startswith(opening):
            thought, _, answer = text[len(opening) :].partition(closing)
            whole = _RESPONSE.match(answer.strip())
            return thought.strip(), whole[1].strip() if whole else answer.lstrip()
    if text.startswith(_HARMONY):
        return _harmony(text)
    bare = _BARE.match(text)
    return None if bare is None else (bare["thought"].strip(), bare["answer"].lstrip())


def _harmony(text: str) -> tuple[str, str] | None:
    """The channel `final` is the answer; what goes to a tool (`to=...`), and other channels, are none."""
    messages = list(_CHANNELS.finditer(text))
    if not messages or messages[0].start():
        return None
    finals = [m["body"] for m in messages if m["name"] == "final" and "to=" not in m["to"]]
    others = [m["body"].strip() for m in messages if m["name"] != "final" or "to=" in m["to"]]
    return "\n".join(filter(None, others)), "".join(finals).lstrip()
