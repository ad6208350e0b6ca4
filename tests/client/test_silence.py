"""Whether a call failed by itself: what its gates have answered to others since its first fault."""

from __future__ import annotations

import pytest

from llmpipe.client.gate import Gate
from llmpipe.client.gate_state import GateState
from llmpipe.client.silence import Silence
from llmpipe.policy import Limits


def gate(name: str = "p/m", answered: int = 0) -> Gate:
    made = Gate(name, GateState(Limits()), clock=lambda: 0.0, tell=lambda *words: None)
    made.state.answered = answered
    return made


@pytest.mark.parametrize(
    ("number", "before", "after", "own"),
    [(3, 0, 3, False), (3, 0, 4, True), (3, 5, 5, False), (3, 5, 6, True), (3, 0, 0, False)],
)
def test_a_fault_is_the_calls_own_once_a_later_call_is_answered(
    number: int, before: int, after: int, own: bool
) -> None:
    silence, asked = Silence(), gate(answered=before)
    assert silence.fault(asked, number) is False
    assert not silence.is_over
    asked.state.answered = after
    assert silence.is_over is own
    assert silence.fault(asked, number + 100) is own, "the first fault counts"


def test_it_lasts_until_the_call_is_answered_and_knows_all_gates() -> None:
    silence, one, two = Silence(), gate("a/one"), gate("b/two")
    assert (bool(silence), silence.is_over, str(silence)) == (False, False, "")
    silence.fault(one, 1)
    other = Silence()
    other.fault(two, 1)
    silence.share(other)
    assert silence
    assert str(silence) == f"{one.silence()}; {two.silence()}"
    assert silence.is_unbroken
    assert not silence.is_outage
    one.state.breaker.give_up(0.0)
    assert not silence.is_outage
    two.state.breaker.give_up(0.0)
    assert silence.is_outage
    two.state.answered = 1
    assert (silence.is_unbroken, silence.is_over) == (False, False)
    two.state.answered = 2
    assert silence.is_over
    silence.answered(two)
    silence.answered(two)
    assert str(silence) == one.silence()
    assert not silence.is_over
    silence.answered(one)
    assert not silence
