"""What a model thought is told from what it answered."""

from __future__ import annotations

import time

import pytest

from llmpipe.errors import EmptyAnswer
from llmpipe.providers.wires import decode
from llmpipe.structured.reasoning import apart
from tests.faults.replies import WIRES, answer
from tests.providers.golden_files import reply_of, target_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>a\nb</think>\n\nyes", ("a\nb", "yes")),
        ("\n<THINK></THINK>yes", ("", "yes")),
        ("<think>a</think>b</think>c", ("a", "b</think>c")),
        ("<think>never ends", ("never ends", "")),
        ("so, 2 and 2\n</think>\n\n4", ("so, 2 and 2", "4")),
        ("so\n</think>", ("so", "")),
        ("yes", None),
        ("Write <think>x</think> first", None),
        ("The tag </think> closes it", None),
        ('{"a": "</think>"}', None),
        ("a</think>\nb</think>\n", None),
        ("<thinking>as the prompt asked</thinking>yes", None),
        ("<reasoning>as the prompt asked</reasoning>", None),
        ("<thought>as the prompt asked</thought>yes", None),
        ("<answer>yes</answer>", None),
        ("<seed:think>a\nb</seed:think>yes", ("a\nb", "yes")),
        ("[THINK]a[/THINK]\nyes", ("a", "yes")),
        ("[THINK]never ends", ("never ends", "")),
        ("[THIN] yes", None),
        ("[1, 2]", None),
        ("◁think▷a◁/think▷yes", ("a", "yes")),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>", ("a", "yes")),
        ("<|START_THINKING|>a<|END_THINKING|>yes", ("a", "yes")),
        (
            "<|channel|>analysis<|message|>We need one word.<|end|><|start|>assistant<|channel|>final<|message|>four",
            ("We need one word.", "four"),
        ),
        ("<|channel|>final<|message|>four<|return|>", ("", "four")),
        ('<|channel|>final <|constrain|>json<|message|>{"a": 4}', ("", '{"a": 4}')),
        ("<|start|>assistant<|channel|>analysis<|message|>so<|end|><|channel|>final<|message|>4", ("so", "4")),
        ('<|channel|>commentary to=functions.ls <|constrain|>json<|message|>{"a": 1}<|call|>', ('{"a": 1}', "")),
        ("<|channel|>analysis<|message|>We need to", ("We need to", "")),
        (
            "<|channel|>analysis<|message|>a < b<|end|><|start|>assistant<|channel|>final<|message|>a < b",
            ("a < b", "a < b"),
        ),
        ("The sequence <|channel|>final<|message|>x begins the answer", None),
        (
            "analysisWe need to answer in one word. And nothing else.assistantfinalfour",
            ("We need to answer in one word. And nothing else.", "four"),
        ),
        ('analysisSo.assistantfinal{"a": 4}', ("So.", '{"a": 4}')),
        ("analysis of the text: fine", None),
        ("The analysis is that assistantfinal is a leak", None),
    ],
)
def test_reasoning_is_taken_apart(text: str, found: tuple[str, str] | None) -> None:
    assert apart(text) == found


@pytest.mark.parametrize(
    "opening", ["<|channel|>", "<|channel|>final<|message|>", "[THINK]", "analysis", "<think>", "<|"]
)
@pytest.mark.parametrize("more", ["<|channel|>" * 20_000, "<|message|>" * 20_000, "a" * 300_000, "assistant" * 30_000,
                                  "<|channel|>a<|message|>" * 10_000, "</think" * 30_000])  # fmt: skip
def test_no_text_takes_long(opening: str, more: str) -> None:
    began = time.process_time()
    apart(opening + more)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_keeps_reasoning_apart_and_keeps_it(wire: str) -> None:
    provider = {"openai_chat": "openai"}.get(wire, wire)
    target = target_of({"provider": provider, "model": "m"})
    response = decode(reply_of(200, {}, answer(wire, '<think>2 + 2</think>\n{"a": 4}')), target)
    assert (response.text, response.reasoning, response.notes) == ('{"a": 4}', "2 + 2", ("think_stripped",))
    with pytest.raises(EmptyAnswer):
        decode(reply_of(200, {}, answer(wire, "<think>2 + 2, and on")), target)
