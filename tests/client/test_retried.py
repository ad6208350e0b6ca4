"""Retries: what is sent again, when, how often, and what is said when it is not."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe import errors
from llmpipe.client.allowance import RetryAllowance
from llmpipe.client.call import Deadline
from llmpipe.client.layers.journalled import journalled
from llmpipe.client.layers.retried import Verdict, decide, retried
from llmpipe.errors import CallFailed, LlmpipeError, RetryAfterTooLong, RetryAllowanceSpent, TotalTimeout, every_class
from llmpipe.policy import CallPolicy, Retry, add_jitter, backoff_delay
from llmpipe.types import Usage
from tests.client.things import HandClock, a_call, an_answer, deps, script

FAULTS = [c for c in every_class(CallFailed) if not issubclass(c, errors.AccountError)]


def run(handler: Any, call: Any) -> Any:
    return asyncio.run(handler(call))


def with_retry(**retry: Any) -> CallPolicy:
    return CallPolicy(retry=Retry(**retry))


@given(st.integers(1, 5000), st.just(0.0) | st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_backoff_is_the_formula(attempt: int, base: float, cap: float) -> None:
    expected = min(cap, base * 2.0 ** min(attempt - 1, 900))
    assert backoff_delay(attempt, base=base, cap=cap) == pytest.approx(expected)


def test_backoff_has_the_documented_defaults() -> None:
    assert [backoff_delay(n) for n in (1, 2, 3, 4, 5, 6)] == [0.5, 1, 2, 4, 8, 8]
    with pytest.raises(ValueError, match="attempt >= 1"):
        backoff_delay(0)


@pytest.mark.parametrize(
    ("err", "tries", "retry", "verdict"),
    [
        (errors.ServerFault("x"), 1, {}, Verdict("again", 0.5)),
        (errors.ServerFault("x"), 4, {}, Verdict("again", 4.0)),
        (errors.ServerFault("x"), 5, {}, Verdict("stop")),
        (errors.ServerFault("x"), 1, {"max_retries": 0}, Verdict("stop")),
        (errors.ServerFault("x"), 3, {"base": 3.0, "cap": 7.0}, Verdict("again", 7.0)),
        (errors.Conflict("x"), 1, {}, Verdict("again", 0.5)),
        (errors.Conflict("x"), 2, {}, Verdict("stop")),
        (errors.EmptyAnswer("x"), 2, {}, Verdict("again", 1.0)),
        (errors.EmptyAnswer("x"), 2, {"max_retries": 1}, Verdict("stop")),
        (errors.EmptyAnswer("x"), 3, {}, Verdict("stop")),
        (errors.BadRequest("x"), 1, {}, Verdict("stop")),
        (errors.BadRequest("x", should_retry=True), 1, {}, Verdict("again", 0.5)),
        (errors.BadRequest("x", should_retry=False), 1, {}, Verdict("stop")),
        (CallFailed("x", should_retry=True), 1, {}, Verdict("again", 0.5)),
        (CallFailed("x"), 1, {}, Verdict("stop")),
        (errors.ServerFault("x", should_retry=True), 1, {}, Verdict("again", 0.5)),
        (errors.ServerFault("x", should_retry=False), 1, {}, Verdict("stop")),
        (errors.RateLimited("x", retry_after=0.4), 1, {}, Verdict("again", 0.5)),
        (errors.RateLimited("x", retry_after=0.6), 1, {}, Verdict("again", 0.6)),
        (errors.RateLimited("x", retry_after=60.0), 1, {}, Verdict("again", 60.0)),
        (errors.RateLimited("x", retry_after=60.1), 1, {}, Verdict("hint_too_long")),
        (errors.RateLimited("x", retry_after=60.0), 1, {"retry_after_over": "backoff"}, Verdict("again", 60.0)),
        (errors.RateLimited("x", retry_after=60.1), 1, {"retry_after_over": "backoff"}, Verdict("again", 0.5)),
        (errors.RateLimited("x", retry_after=60.1), 5, {}, Verdict("stop")),
    ],
)
def test_what_follows_a_failure(err: CallFailed, tries: int, retry: dict[str, Any], verdict: Verdict) -> None:
    policy = Retry(**{"jitter": "none", **retry})
    assert decide(err, Counter({err.kind: tries}), policy, random.Random(3)) == verdict


def test_the_wait_is_spread_unless_the_policy_says_not_to_and_0_is_none() -> None:
    err = errors.ServerFault("x")
    spread = decide(err, Counter(ServerFault=4), Retry(), random.Random(3))
    assert spread == Verdict("again", random.Random(3).uniform(0.0, 4.0))
    assert Verdict("again").wait_s == 0.0
    clock, inner = HandClock(), script(err, an_answer())
    run(retried(inner, deps(clock)), a_call(policy=with_retry(base=0.0)))
    assert (len(inner.calls), clock.slept) == (2, [])


def test_a_verdict_on_a_failure_keeps_all_evidence_of_it() -> None:
    evidence = {
        "status": 429, "provider_code": "c", "retry_after": 61.0, "raw": "{}", "usage": Usage(1, 2), "billed": "maybe",
        "provider_request_id": "p-1", "details": {"a": 1},
    }  # fmt: skip
    with pytest.raises(RetryAfterTooLong) as caught:
        run(retried(script(errors.RateLimited("slow", **evidence)), deps()), a_call())
    assert {name: getattr(caught.value, name) for name in evidence} == evidence
    assert str(caught.value) == "the server asks to wait 61 s, more than retry_after_max (60 s): slow"
    assert isinstance(caught.value.__cause__, errors.RateLimited)


@pytest.mark.parametrize(("left", "ends"), [(0.5, True), (0.6, False)])
def test_a_wait_that_takes_all_that_is_left_of_the_total_ends_the_call(left: float, ends: bool) -> None:
    clock = HandClock()

    async def fail(call: Any) -> Any:
        call.deadline = Deadline(left)
        call.deadline.start(clock())
        raise errors.ServerFault("down")

    attempt = run_caught(retried(script(fail, an_answer()), deps(clock)), a_call(policy=with_retry(jitter="none")))
    assert (str(attempt) == "yes") is not ends
    if ends:
        assert str(attempt) == "the next attempt would be in 0.5 s, 0.5 s of the total are left: down"


def run_caught(handler: Any, call: Any) -> Any:
    try:
        return run(handler, call)
    except CallFailed as err:
        return err


def test_the_allowance_is_full_again_at_most_and_a_retry_must_fit_into_it() -> None:
    allowance = RetryAllowance(capacity=19)
    assert (RetryAllowance().capacity, RetryAllowance().tokens) == (10_000, 10_000)
    assert [allowance.take(throttled=False), allowance.take(throttled=True), allowance.take(throttled=True)] == [
        14,
        5,
        0,
    ]
    allowance.give_back(0)
    assert allowance.tokens == 1
    allowance.give_back(14)
    assert (allowance.tokens, allowance.take(throttled=False)) == (15, 14)
    allowance.give_back(5)
    allowance.give_back(14)
    assert allowance.tokens == 19


@given(st.floats(0, 1e6), st.integers())
def test_jitter_stays_between_nothing_and_the_delay(delay: float, seed: int) -> None:
    assert 0 <= add_jitter(delay, rng=random.Random(seed)) <= delay


def test_jitter_is_spread_over_the_whole_delay() -> None:
    waits = [add_jitter(1.0, rng=random.Random(seed)) for seed in range(200)]
    assert min(waits) < 0.05
    assert max(waits) > 0.95


def test_sends_again_until_it_succeeds() -> None:
    clock, inner = HandClock(), script(errors.ServerFault("a"), errors.NetworkFault("b"), an_answer())
    answer = run(retried(inner, deps(clock)), a_call())
    assert str(answer) == "yes"
    assert len(inner.calls) == 3
    assert len(clock.slept) == 2
    assert clock.slept[0] <= 0.5
    assert clock.slept[1] <= 1.0


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_makes_at_most_max_retries_plus_one_attempts(retries: int) -> None:
    inner = script(errors.ServerFault("down"))
    with pytest.raises(errors.ServerFault):
        run(retried(inner, deps()), a_call(policy=with_retry(max_retries=retries)))
    assert len(inner.calls) == retries + 1


@pytest.mark.parametrize("kind", FAULTS, ids=lambda c: c.__name__)
def test_only_the_temporary_classes_are_sent_again(kind: type[CallFailed]) -> None:
    inner = script(kind("x"))
    with pytest.raises(CallFailed) as caught:
        run(retried(inner, deps()), a_call(policy=with_retry(max_retries=4)))
    limit = 4 if kind.retry_limit is None else kind.retry_limit
    assert len(inner.calls) == (1 + limit if issubclass(kind, errors.TemporaryFault) else 1)
    assert caught.value.kind == kind.__name__


def test_the_limit_of_a_class_counts_that_class_alone() -> None:
    """An empty answer may come twice more, wherever server faults fall in between."""
    empty, fault = errors.EmptyAnswer("e"), errors.ServerFault("s")
    inner = script(empty, fault, empty, fault, empty)
    with pytest.raises(errors.EmptyAnswer):
        run(retried(inner, deps()), a_call(policy=with_retry(max_retries=10)))
    assert len(inner.calls) == 5


def test_the_servers_hint_wins_when_it_is_longer() -> None:
    clock, inner = HandClock(), script(errors.RateLimited("slow", retry_after=7.0), an_answer())
    run(retried(inner, deps(clock)), a_call())
    assert clock.slept == [7.0]


def test_the_backoff_wins_when_the_hint_is_shorter() -> None:
    clock, inner = HandClock(), script(errors.RateLimited("slow", retry_after=0.001), an_answer())
    run(retried(inner, deps(clock)), a_call(policy=with_retry(jitter="none")))
    assert clock.slept == [0.5]


@pytest.mark.parametrize("hint", [-1.0, 0.0, float("nan")])
def test_a_senseless_hint_means_plain_backoff(hint: float) -> None:
    clock, inner = HandClock(), script(errors.RateLimited("slow", retry_after=hint), an_answer())
    run(retried(inner, deps(clock)), a_call(policy=with_retry(jitter="none")))
    assert clock.slept == [0.5]


def test_a_hint_beyond_the_limit_fails_at_once_and_keeps_the_hint() -> None:
    clock, inner = HandClock(), script(errors.RateLimited("slow", status=429, retry_after=65_205.0, raw="{}"))
    with pytest.raises(RetryAfterTooLong) as caught:
        run(retried(inner, deps(clock)), a_call())
    assert (caught.value.retry_after, caught.value.status, caught.value.raw) == (65_205.0, 429, "{}")
    assert clock.slept == []


def test_a_hint_beyond_the_limit_can_be_made_to_back_off() -> None:
    clock, inner = HandClock(), script(errors.RateLimited("slow", retry_after=1e9), an_answer())
    run(retried(inner, deps(clock)), a_call(policy=with_retry(retry_after_over="backoff", jitter="none")))
    assert clock.slept == [0.5]


def test_a_verdict_of_the_server_stops_retries() -> None:
    inner = script(errors.ServerFault("no", should_retry=False))
    with pytest.raises(errors.ServerFault):
        run(retried(inner, deps()), a_call())
    assert len(inner.calls) == 1


def test_a_verdict_of_the_server_allows_a_retry_where_only_the_status_spoke() -> None:
    inner = script(errors.BadRequest("odd", should_retry=True), an_answer())
    assert str(run(retried(inner, deps()), a_call())) == "yes"


@pytest.mark.parametrize("kind", [errors.KeyRefused, errors.QuotaExhausted, errors.ContextTooLong, errors.Refused])
def test_a_verdict_of_the_server_does_not_outweigh_what_the_body_said(kind: type[CallFailed]) -> None:
    inner = script(kind("x", should_retry=True))
    with pytest.raises(kind):
        run(retried(inner, deps()), a_call())
    assert len(inner.calls) == 1


def test_what_was_not_sent_is_not_sent_again() -> None:
    err = errors.RateLimited("held")
    err.sent = False
    inner = script(err)
    with pytest.raises(errors.RateLimited):
        run(retried(inner, deps()), a_call())
    assert len(inner.calls) == 1


def test_it_does_not_sleep_into_the_total() -> None:
    clock = HandClock()

    async def fail(call: Any) -> Any:
        call.deadline = Deadline(10.0)
        call.deadline.start(clock())
        raise errors.RateLimited("slow", retry_after=11.0)

    with pytest.raises(TotalTimeout, match="slow"):
        run(retried(script(fail), deps(clock)), a_call())
    assert clock.slept == []


def test_the_wait_stands_in_the_attempt() -> None:
    parts = deps()
    call = a_call()
    run(retried(journalled(script(errors.RateLimited("s", retry_after=3.0), an_answer()), parts), parts), call)
    assert [(a.number, a.outcome, a.wait_s) for a in call.attempts] == [(1, "RateLimited", 3.0), (2, "ok", None)]


def test_cancelling_during_the_wait_leaves_at_once() -> None:
    async def scene() -> int:
        inner = script(errors.RateLimited("slow", retry_after=30.0), an_answer())
        task = asyncio.create_task(retried(inner, deps(sleep=asyncio.sleep))(a_call()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(inner.calls)

    assert asyncio.run(scene()) == 1


def test_the_allowance_ends_retries_for_everybody() -> None:
    allowance = RetryAllowance(capacity=30)
    inner = script(errors.ServerFault("down"))
    parts = deps(allowance=allowance)
    with pytest.raises(RetryAllowanceSpent) as caught:
        run(retried(inner, parts), a_call(policy=with_retry(max_retries=100)))
    assert len(inner.calls) == 3  # two retries at 14 tokens
    assert isinstance(caught.value.__cause__, errors.ServerFault)
    with pytest.raises(RetryAllowanceSpent):
        run(retried(script(errors.ServerFault("down")), parts), a_call())


def test_the_allowance_is_refunded_by_success() -> None:
    allowance = RetryAllowance(capacity=30)
    parts = deps(allowance=allowance)
    for _ in range(100):
        run(retried(script(errors.ServerFault("once"), an_answer()), parts), a_call())
    assert allowance.tokens == 30


def test_throttled_retries_are_cheaper() -> None:
    allowance = RetryAllowance()
    assert (allowance.take(throttled=True), allowance.take(throttled=False)) == (5, 14)
    assert allowance.tokens == allowance.capacity - 19


@given(st.integers(1, 50), st.integers(0, 20), st.one_of(st.none(), st.floats()))
def test_a_decision_never_waits_longer_than_the_policy_allows(tries: int, most: int, hint: float | None) -> None:
    retry = Retry(max_retries=most, base=0.5, cap=8.0, retry_after_max=60.0)
    verdict = decide(errors.RateLimited("x", retry_after=hint), Counter(RateLimited=tries), retry, random.Random(1))
    assert 0 <= verdict.wait_s <= 60.0
    assert (verdict.next == "stop") == (tries > most)


def test_every_error_of_a_call_is_a_runtime_error() -> None:
    raised = (CallFailed, errors.KeyMissing)
    assert all(issubclass(c, RuntimeError) == issubclass(c, raised) for c in every_class(LlmpipeError))
