"""What a model thought is told from what it answered."""

from __future__ import annotations

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
    ],
)
def test_reasoning_is_taken_apart(text: str, found: tuple[str, str] | None) -> None:
    assert apart(text) == found


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_keeps_reasoning_apart_and_keeps_it(wire: str) -> None:
    provider = {"openai_chat": "openai"}.get(wire, wire)
    target = target_of({"provider": provider, "model": "m"})
    response = decode(reply_of(200, {}, answer(wire, '<think>2 + 2</think>\n{"a": 4}')), target)
    assert (response.text, response.reasoning, response.notes) == ('{"a": 4}', "2 + 2", ("think_stripped",))
    with pytest.raises(EmptyAnswer):
        decode(reply_of(200, {}, answer(wire, "<think>2 + 2, and on")), target)
