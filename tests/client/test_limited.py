"""What a call tells its gate: what it may take, how it ended, and how long it would wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmpipe.client.call import Call, Deadline
from llmpipe.client.gate import Gate, Gates
from llmpipe.client.layers.limited import limited
from llmpipe.errors import BadRequest, CallFailed, KeyRefused, ProviderDown, RateLimited, RetryAfterTooLong, ServerFault
from llmpipe.policy import CallPolicy, Limits, Retry
from llmpipe.providers.estimate import estimate_input
from llmpipe.types import Attempt, LLMResponse, Model, Usage
from tests.client.things import HandClock, a_call, an_answer, deps, script

NO_LIMITS = Limits()


def call_of(limits: Limits = NO_LIMITS, fallback: tuple[str, ...] | None = None, **retry: Any) -> Call:
    policy = CallPolicy(retry=Retry(**retry), fallback=fallback)
    models = {"m": Model("m", "openai", "none-such", limits=limits)}
    return a_call(name="m", models=models, policy=policy, max_output_tokens=100)


class Scene:
    """Calls through one gate, by a clock that stands at 1000 s."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.gates = Gates(clock=self.clock)

    def end(self, call: Call, step: Any) -> Any:
        """What comes of a call that ends in `step`: an answer or the error."""
        try:
            return asyncio.run(limited(script(step), deps(self.clock, gates=self.gates))(call))
        except CallFailed as err:
            return err

    @property
    def gate(self) -> Gate:
        (gate,) = self.gates
        return gate


@pytest.mark.parametrize(
    ("end", "used"),
    [
        (an_answer(usage=Usage(30, 20)), 50),
        (an_answer(usage=Usage(None, 20)), None),
        (an_answer(usage=Usage(30, None)), None),
        (BadRequest("x", usage=Usage(3, 4)), 7),
        (BadRequest("x"), None),
    ],
)
def test_a_rate_of_tokens_counts_what_is_expected_and_then_what_was_used(
    end: LLMResponse | CallFailed, used: int | None
) -> None:
    scene, call = Scene(), call_of(Limits(tpm=600))
    unit, expected = 60.15 / 600, estimate_input(call.request) + 100
    seen: list[float] = []

    async def look(call: Call) -> LLMResponse:
        assert scene.gate.state.tokens is not None
        seen.append(scene.gate.state.tokens.ready_at())
        if isinstance(end, CallFailed):
            raise end
        return end

    scene.end(call, look)
    assert scene.gate.state.tokens is not None
    seen.append(scene.gate.state.tokens.ready_at())
    counted = [expected, expected if used is None else used]
    assert seen == [pytest.approx(1000 + tokens * unit - 0.1, abs=1e-6) for tokens in counted]


@pytest.mark.parametrize(
    ("over", "hint", "held"),
    [("fail", 61.0, 61.0), ("fail", 60.0, 60.0), ("backoff", 61.0, 0.1), ("backoff", 60.0, 60.0)],
)
def test_a_hint_that_is_too_long_holds_nobody_where_the_policy_backs_off(over: Any, hint: float, held: float) -> None:
    scene = Scene()
    scene.end(call_of(), an_answer())
    scene.end(call_of(retry_after_over=over), RateLimited("x", retry_after=hint))
    assert scene.gate.state.held_until == pytest.approx(1000 + held)
    if held > 60:
        assert isinstance(scene.end(call_of(), an_answer()), RetryAfterTooLong)


def test_the_total_starts_when_the_gate_admits_the_call() -> None:
    scene, call = Scene(), call_of()
    call.deadline = Deadline(7.0)
    scene.end(call, an_answer())
    assert call.deadline.at == 1007.0


def test_the_end_of_a_call_proves_the_gate_closes_it_or_says_nothing() -> None:
    for step, proven, closed in (
        (an_answer(), True, False),
        (ServerFault("x"), False, False),
        (KeyRefused("x"), False, True),
        (asyncio.CancelledError(), False, False),
    ):
        scene = Scene()
        try:
            end = scene.end(call_of(), step)
        except asyncio.CancelledError:
            end = step
        assert end is step
        state = scene.gate.state
        assert (state.proven, state.closed_by is not None, state.in_flight) == (proven, closed, 0)


def test_an_account_error_counts_as_sent_for_the_first_call_alone() -> None:
    scene, errors = Scene(), [KeyRefused("a"), KeyRefused("b")]
    scene.end(call_of(), an_answer())

    async def main() -> None:
        parts, both = deps(scene.clock, gates=scene.gates), asyncio.Event()

        async def fail(call: Call) -> LLMResponse:
            at = len(call.attempts)
            if scene.gate.state.in_flight == 2:
                both.set()
            await both.wait()
            raise errors[at]

        calls = [call_of(), call_of()]
        calls[1].attempts.append(an_attempt())
        handler = limited(script(fail), parts)
        await asyncio.gather(*map(handler, calls), return_exceptions=True)

    asyncio.run(main())
    assert sorted(error.sent for error in errors) == [False, True]


def an_attempt() -> Any:
    return Attempt(1, "openai/none-such", 0.0, 0.0, "ServerFault")


@pytest.mark.parametrize(
    ("error", "kept"), [(ServerFault("x"), True), (RateLimited("x"), True), (BadRequest("x"), False)]
)
def test_faults_and_rejections_begin_a_silence_and_an_answer_ends_it(error: CallFailed, kept: bool) -> None:
    scene, call = Scene(), call_of()
    scene.end(call, error)
    assert bool(call.silence) is kept
    scene.clock.now += 60
    scene.end(call, an_answer())
    assert not call.silence
    unsent = ServerFault("x")
    unsent.sent = False
    scene.end(call, unsent)
    assert not call.silence


@pytest.mark.parametrize(("fallback", "waits"), [(("other",), False), (("m",), True), ((), True), (None, True)])
def test_only_a_call_without_another_model_waits_for_a_breaker(fallback: tuple[str, ...] | None, waits: bool) -> None:
    scene = Scene()
    for _ in range(5):
        scene.end(call_of(), ServerFault("x"))
    assert scene.gate.stats().breaker == "open"
    scene.clock.now += 60
    end = scene.end(call_of(fallback=fallback), an_answer())
    assert isinstance(end, LLMResponse if waits else ProviderDown)


def test_limits_in_the_headers_of_an_answer_are_learned() -> None:
    scene = Scene()
    scene.end(call_of(), an_answer())
    assert scene.gate.state.requests is None
    scene.end(call_of(), an_answer(rate_limits={"x-ratelimit-limit-requests": "600"}))
    assert scene.gate.state.requests is not None
    assert scene.gate.state.requests.per_minute == 600
