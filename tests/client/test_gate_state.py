"""What a gate decides, in exact numbers: whom it lets pass when, and what each end of a call changes."""

from __future__ import annotations

import math

import pytest

from llmpipe.client.breaker import DEFAULT_BREAKER, BreakerPolicy
from llmpipe.client.gate_state import GateState, Outcome
from llmpipe.errors import (
    BadRequest,
    BudgetExceeded,
    CallFailed,
    KeyRefused,
    NetworkFault,
    Overloaded,
    RateLimited,
    RemoteFetchFailed,
    ServerFault,
)
from llmpipe.policy import Limits
from llmpipe.providers.limits import RateLimits, Window

OK = Outcome(answered=True)


def rejection(hint: float | None = None) -> Outcome:
    return Outcome(error=RateLimited("429", retry_after=hint))


def proven(limits: Limits = Limits(), policy: BreakerPolicy = DEFAULT_BREAKER) -> GateState:
    state = GateState(limits, breaker=policy)
    state.proven = True
    return state


def one(state: GateState, now: float, outcome: Outcome, tokens: int = 0) -> str:
    """A call that passes and ends at once; what its end changed, in words."""
    return state.ended(state.admit(now, tokens), now, outcome)


@pytest.mark.parametrize(
    ("asked", "longest", "heeded"),
    [(None, None, None), (0.0, None, None), (5.0, None, 5.0), (5.0, 5.0, 5.0), (5.0, 4.9, None), (5.0, 0.0, None)],
)
def test_a_hint_is_heeded_up_to_the_longest_hold(
    asked: float | None, longest: float | None, heeded: float | None
) -> None:
    assert Outcome(error=RateLimited("x", retry_after=asked), longest_hold=longest).hold_s == heeded
    assert Outcome().hold_s is None


def test_a_new_gate_lets_one_call_pass_and_an_embedded_one_all() -> None:
    for embedded, wait in ((False, math.inf), (True, 0.0)):
        state = GateState(Limits(), embedded=embedded)
        assert (state.in_flight, state.rejections, state.held_until, state.answered, state.tries) == (0, 0, 0.0, 0, 0)
        assert (state.closed_by, state.silent_since, state.last_fault, state.wait(0.0)) == (None, None, "", 0.0)
        state.admit(0.0, 0)
        assert state.wait(0.0) == wait
    for limits, embedded, allowed in (
        (Limits(concurrency=3), False, 3),
        (Limits(concurrency=3), True, 3),
        (Limits(concurrency=3, most=2), True, 2),
        (Limits(), False, 8),
        (Limits(), True, 1024),
    ):
        assert GateState(limits, embedded=embedded).ramp.allowed == allowed


@pytest.mark.parametrize(
    "outcome", [Outcome(), Outcome(error=BudgetExceeded("x")), Outcome(error=ServerFault("x"), own=True)]
)
def test_after_a_probe_without_a_verdict_on_the_provider_the_next_call_is_the_probe(outcome: Outcome) -> None:
    if isinstance(outcome.error, BudgetExceeded):
        outcome.error.sent = False
    state = proven(Limits(concurrency=8), BreakerPolicy(threshold=1, first_wait_s=1.0))
    one(state, 0.0, Outcome(error=ServerFault("x")))
    assert one(state, 1.0, outcome) == ""
    assert state.wait(2.0) == 0.0
    assert state.admit(2.0, 0).passed.probe


def test_each_rate_makes_the_next_call_wait_for_its_own_share() -> None:
    by_request, by_token = proven(Limits(rpm=60)), proven(Limits(tpm=600))
    assert (by_request.tokens, by_token.requests) == (None, None)
    by_request.admit(10.0, 100)
    assert by_request.wait(10.0) == pytest.approx(1.0025 - 0.1, abs=1e-9)
    ticket = by_token.admit(10.0, 100)
    assert by_token.wait(10.0) == pytest.approx(10.025 - 0.1, abs=1e-9)
    assert by_token.wait(30.0) == 0.0
    by_token.ended(ticket, 10.0, Outcome(answered=True, tokens=60))
    assert by_token.wait(10.0) == pytest.approx(6.015 - 0.1, abs=1e-9)
    by_token.ended(by_token.admit(20.0, 100), 20.0, OK)
    assert by_token.wait(20.0) == pytest.approx(10.025 - 0.1, abs=1e-9), "what was used is not known"


def test_a_ticket_says_its_rank_its_tokens_its_number_and_its_epoch() -> None:
    state = proven()
    first, second = state.admit(0.0, 7), state.admit(0.0, 0)
    assert [(t.rank, t.tokens, t.passed.number, t.epoch) for t in (first, second)] == [(1, 7, 1, 0), (2, 0, 2, 0)]
    state.ended(first, 0.0, rejection())
    third = state.admit(1.0, 0)
    assert (third.rank, third.passed.number, third.epoch) == (2, 3, 1)


def test_rejections_one_after_another_double_the_hold_up_to_8_s_and_the_tenth_means_down() -> None:
    state, now, words = proven(), 0.0, []
    for number in range(1, 12):
        words.append(one(state, now, rejection()))
        assert state.breaker.is_down(now) is state.held_again_and_again is (number >= 10)
        assert state.wait(now) == pytest.approx(state.held_until - now)
        now = state.held_until
    assert words == [f"held for {s} s" for s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8, 8, 8, 8)]
    assert state.rejections == 11
    assert one(state, now, OK) == ""
    assert not state.held_again_and_again
    assert one(state, now, rejection()) == "held for 0.1 s"


def test_a_hint_is_the_hold_and_a_shorter_one_later_does_not_end_it() -> None:
    state = proven(Limits(concurrency=8))
    tickets = [state.admit(0.0, 0) for _ in range(5)]
    assert state.ended(tickets[0], 1.0, rejection(7.0)) == "held for 7 s"
    assert (state.held_until, state.rejections) == (8.0, 1)
    assert state.ended(tickets[1], 2.0, rejection(3.0)) == "", "of the same burst"
    assert state.held_until == 8.0
    assert state.ended(tickets[2], 2.0, rejection(9.0)) == ""
    assert state.held_until == 11.0
    assert state.ended(tickets[3], 2.0, rejection()) == ""
    late = Outcome(error=RateLimited("x", retry_after=50.0), longest_hold=20.0)
    state.ended(tickets[4], 2.0, late)
    assert (state.held_until, state.rejections) == (11.0, 5)


def test_a_cut_is_said_and_a_second_rejection_without_an_answer_cuts_nothing() -> None:
    state = proven()
    tickets = [state.admit(0.0, 0) for _ in range(8)]
    assert state.ended(tickets[6], 0.0, rejection()) == "held for 0.1 s, limit 6"
    for ticket in tickets[:6] + tickets[7:]:
        state.ended(ticket, 0.0, Outcome())
    assert (one(state, 1.0, rejection()), state.ramp.allowed) == ("held for 0.2 s", 6)
    assert state.ramp.ceiling == 6


def test_after_a_hold_one_more_passes_per_answer_and_from_the_limit_on_it_grows_again() -> None:
    state = proven()
    state.ended(state.admit(0.0, 0), 0.0, OK)
    slow = [state.admit(0.0, 0) for _ in range(2)]
    state.ended(slow.pop(), 0.0, rejection())
    state.ended(slow.pop(), 0.0, OK)  # had passed before: its answer counts, its place does not
    now = 1.0
    for allowed in range(2, 8):
        tickets = []
        while state.wait(now) == 0:
            tickets.append(state.admit(now, 0))
        assert len(tickets) == allowed
        state.ended(tickets[0], now, OK)
        for ticket in tickets[1:]:
            state.ended(ticket, now, Outcome())
    assert state.ramp.allowed == 8
    tickets = [state.admit(now, 0) for _ in range(8)]
    assert state.wait(now) == math.inf
    state.ended(tickets[0], now, OK)
    assert state.ramp.allowed == 9
    state.ended(tickets[1], now, OK)
    assert state.ramp.allowed == 9, "not all places were in use"


def test_what_a_gate_says_of_its_silence_counts_faults_and_rejections_since_the_last_sign_of_life() -> None:
    state = proven()
    for number, error in enumerate((NetworkFault("cut"), RateLimited("slow"), Overloaded("busy")), 1):
        one(state, 10.0 * number, Outcome(error=error))
        assert (state.tries, state.silent_since, state.last_fault) == (number, 10.0, error.message)
    for outcome in (Outcome(), Outcome(error=unsent(ServerFault("x"))), Outcome(error=KeyRefused("x"))):
        one(state, 50.0, outcome)
        assert (state.tries, state.silent_since, state.answered) == (3, 10.0, 0)
    for outcome in (OK, Outcome(error=BadRequest("x")), Outcome(error=RemoteFetchFailed("x"))):
        one(state, 60.0, Outcome(error=NetworkFault("cut")))
        ticket = state.admit(61.0, 0)
        state.ended(ticket, 61.0, outcome)
        assert (state.tries, state.silent_since, state.last_fault) == (0, None, "")
        assert state.answered == ticket.passed.number


def test_the_highest_number_that_was_answered_is_kept() -> None:
    state = proven()
    first, second = state.admit(0.0, 0), state.admit(0.0, 0)
    state.ended(second, 0.0, OK)
    state.ended(first, 0.0, OK)
    assert state.answered == 2


def unsent(error: CallFailed) -> CallFailed:
    error.sent = False
    return error


@pytest.mark.parametrize(
    ("outcome", "proves", "faults"),
    [
        (OK, True, 0),
        (Outcome(error=BadRequest("x")), True, 0),
        (Outcome(error=unsent(BudgetExceeded("x"))), False, 2),
        (Outcome(), False, 2),
        (Outcome(error=KeyRefused("x")), False, 2),
        (Outcome(error=ServerFault("x")), False, 3),
        (Outcome(error=Overloaded("x")), False, 3),
        (Outcome(error=ServerFault("x"), own=True), False, 2),
        (Outcome(error=RateLimited("x")), False, 0),
        (Outcome(error=RemoteFetchFailed("x")), False, 0),
    ],
)
def test_which_ends_prove_the_account_and_which_count_against_the_provider(
    outcome: Outcome, proves: bool, faults: int
) -> None:
    state = GateState(Limits(concurrency=8), breaker=BreakerPolicy(threshold=9))
    for _ in range(2):
        one(state, 0.0, Outcome(error=ServerFault("x")))
    one(state, 0.0, outcome)
    assert (state.proven, state.breaker.faults, state.in_flight) == (proves, faults, 0)


def test_an_account_error_closes_once_and_its_first_verdict_stays() -> None:
    state = proven()
    tickets = [state.admit(0.0, 0) for _ in range(2)]
    first, second = KeyRefused("a"), KeyRefused("b")
    assert state.ended(tickets[0], 0.0, Outcome(error=first)) == "closed by KeyRefused"
    assert state.ended(tickets[1], 0.0, Outcome(error=second)) == ""
    assert state.closed_by is first


def test_the_breaker_says_when_it_opens_and_closes_and_the_gate_ramps() -> None:
    state = proven(Limits(concurrency=8), BreakerPolicy(threshold=2, first_wait_s=3.0))
    fault = Outcome(error=ServerFault("x"))
    assert [one(state, 1.0, fault) for _ in range(2)] == ["", "breaker opened after 2 faults in a row"]
    assert state.wait(1.0) == 3.0
    probe = state.admit(4.0, 0)
    assert state.wait(4.0) == math.inf
    assert state.ended(probe, 4.0, OK) == "breaker closed"
    tickets = []
    while state.wait(5.0) == 0:
        tickets.append(state.admit(5.0, 0))
    assert len(tickets) == 2
    assert state.ended(tickets[0], 5.0, OK) == ""


def test_an_overload_that_opens_the_breaker_says_so() -> None:
    state = proven(policy=BreakerPolicy(threshold=2))
    overload = Outcome(error=Overloaded("x"))
    assert one(state, 0.0, overload) == "held for 0.1 s"
    assert one(state, 1.0, overload) == "breaker opened after 2 faults in a row"


class TestHeaders:
    @pytest.mark.parametrize(
        ("window", "rate"),
        [
            (Window(limit=600), 600),
            (Window(limit=10, window_s=1.0), 600),
            (Window(limit=600, window_s=60.1), None),
            (Window(limit=0), None),
            (Window(), None),
        ],
    )
    def test_a_rate_over_a_minute_or_less_is_taken(self, window: Window, rate: float | None) -> None:
        for name in ("requests", "tokens"):
            state = proven()
            words = state.learn(0.0, RateLimits(**{name: window}))
            pace, other = getattr(state, name), getattr(state, "tokens" if name == "requests" else "requests")
            assert other is None
            assert (pace and pace.per_minute) == rate
            assert words == ("" if rate is None else f"{name} {rate} per minute, as the reply's headers state")

    def test_both_rates_are_named_and_a_change_of_a_hundredth_is_none(self) -> None:
        state = proven()
        both = RateLimits(requests=Window(limit=600), tokens=Window(limit=1000))
        says = "per minute, as the reply's headers state"
        assert state.learn(0.0, both) == f"requests 600 {says}, tokens 1000 {says}"
        for limit, words in ((606, ""), (595, ""), (606.5, f"requests 606.5 {says}"), (600, f"requests 600 {says}")):
            assert state.learn(0.0, RateLimits(requests=Window(limit=limit))) == words  # type: ignore[arg-type]
        lowered = proven()
        lowered.learn(0.0, RateLimits(requests=Window(limit=606)))
        assert lowered.learn(0.0, RateLimits(requests=Window(limit=600))) == ""

    def test_a_new_rate_stands_where_the_old_one_stood(self) -> None:
        state = proven()
        state.learn(0.0, RateLimits(requests=Window(limit=60)))
        state.admit(10.0, 0)
        before = state.wait(10.0)
        state.learn(10.0, RateLimits(requests=Window(limit=6000)))
        assert state.wait(10.0) == pytest.approx(before)

    @pytest.mark.parametrize(
        ("limits", "reads_requests", "reads_tokens"),
        [(Limits(), True, True), (Limits(rpm=5), False, True), (Limits(tpm=0), True, False)],
    )
    def test_what_the_file_sets_is_not_read(self, limits: Limits, reads_requests: bool, reads_tokens: bool) -> None:
        empty = Window(limit=600, remaining=0, reset_s=30.0)
        for name, reads in (("requests", reads_requests), ("tokens", reads_tokens)):
            state = proven(limits)
            assert bool(state.learn(5.0, RateLimits(**{name: empty}))) is reads
            assert state.wait(5.0) == (1.0 if reads else 0.0)

    @pytest.mark.parametrize(
        ("window", "seconds"),
        [
            (Window(limit=600, remaining=0, reset_s=30.0), 1.0),
            (Window(limit=100, remaining=0, reset_s=30.0), 6.0),
            (Window(limit=100, remaining=0, reset_s=3.0), 3.0),
            (Window(limit=10_000, remaining=0, reset_s=30.0), 1.0),
            (Window(limit=1, remaining=0, reset_s=500.0), 60.0),
            (Window(limit=500, remaining=0, reset_s=3000.0, window_s=3600.0), 60.0),
            (Window(remaining=0, reset_s=30.0), 30.0),
            (Window(remaining=0, reset_s=100.0), 60.0),
            (Window(limit=600, remaining=1, reset_s=30.0), 0.0),
            (Window(limit=600, remaining=0, reset_s=0.0), 0.0),
            (Window(limit=600, remaining=0), 0.0),
            (Window(limit=600, reset_s=30.0), 0.0),
        ],
    )
    def test_an_empty_window_pauses_for_a_tenth_of_itself_within_a_minute(self, window: Window, seconds: float) -> None:
        state = proven()
        state.learn(5.0, RateLimits(tokens=window))
        assert state.wait(5.0) == pytest.approx(seconds)
        state.learn(6.0, RateLimits(tokens=Window(remaining=0, reset_s=0.25)))
        assert state.wait(6.0) == pytest.approx(max(seconds - 1.0, 0.25)), "the longer pause stays"
