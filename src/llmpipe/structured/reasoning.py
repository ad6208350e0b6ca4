"""Takes apart what a model thought and what it answered, where both come in one text.

`<think>` is the tag that open models are trained on (DeepSeek R1, Qwen 3 and others); servers without a parser for it
hand it on inside of the answer. Other tags may be what the prompt asked for, and stay where they are.
"""

from __future__ import annotations

import re

_OPENED = re.compile(r"\A\s*<think>", re.IGNORECASE)
_ANY = re.compile(r"<think>", re.IGNORECASE)
_CLOSED = re.compile(r"</think>", re.IGNORECASE)
_CLOSED_LINE = re.compile(r"</think>[ \t]*(?:\r?\n|\Z)", re.IGNORECASE)


def apart(text: str) -> tuple[str, str] | None:
    """(what was thought, what was answered), or None where the text holds no reasoning.

    Reasoning that never ends leaves no answer. Some chat templates put the opening tag into the prompt: then a single
    closing tag at the end of a line is enough.
    """
    if opened := _OPENED.match(text):
        closed = _CLOSED.search(text, opened.end())
        if closed is None:
            return text[opened.end() :].strip(), ""
        return text[opened.end() : closed.start()].strip(), text[closed.end() :].lstrip()
    found = _CLOSED.findall(text)
    closed = _CLOSED_LINE.search(text) if len(found) == 1 and not _ANY.search(text) else None
    return None if closed is None else (text[: closed.start()].strip(), text[closed.end() :].lstrip())
