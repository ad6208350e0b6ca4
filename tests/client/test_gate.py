"""The gate: its decisions against simulated providers, and its queue in a real event loop."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.breaker import BreakerPolicy
from llmpipe.client.gate import Gate, Gates, GateStats, unsent
from llmpipe.client.gate_state import GateState, Outcome, Ticket
from llmpipe.errors import (
    BadRequest,
    CallFailed,
    KeyRefused,
    NetworkFault,
    Overloaded,
    ProviderDown,
    QuotaExhausted,
    RateLimited,
    RetryAfterTooLong,
    ServerFault,
)
from llmpipe.policy import Limits
from llmpipe.providers.limits import RateLimits, Window
from llmpipe.providers.table import resolve
from llmpipe.types import Attempt, Model, Usage

OK = Outcome(answered=True)


def rejection(hint: float | None = None) -> Outcome:
    return Outcome(error=RateLimited("429", retry_after=hint))


class Simulation:
    """Calls through one gate to a provider that is a function of (time, how many it is working on)."""

    def __init__(self, state: GateState, serve: Callable[[float, int], tuple[float, Outcome]]) -> None:
        self.state, self.serve = state, serve
        self.now, self.busy, self.answers, self.rejected, self.sent = 0.0, 0, 0, 0, 0
        self.openings = 0
        self._events: list[tuple[float, int, Ticket, Outcome]] = []

    def run(self, answers: int, *, until: float = math.inf) -> None:
        while self.answers < answers and self.now < until:
            wait = self.state.wait(self.now)
            if wait == 0:
                self._send()
            elif self._events and self._events[0][0] <= self.now + wait:
                self._finish()
            else:
                self.now += wait

    def _send(self) -> None:
        ticket = self.state.admit(self.now, 0)
        seconds, outcome = self.serve(self.now, self.busy)
        self.busy += outcome.answered
        self.sent += 1
        heapq.heappush(self._events, (self.now + seconds, self.sent, ticket, outcome))

    def _finish(self) -> None:
        self.now, _, ticket, outcome = heapq.heappop(self._events)
        self.busy -= outcome.answered
        self.answers += outcome.answered
        self.rejected += not outcome.answered
        self.openings += "opened" in self.state.ended(ticket, self.now, outcome)


def admitting(most: int, latency: float = 0.05) -> Callable[[float, int], tuple[float, Outcome]]:
    return lambda now, busy: (latency, OK) if busy < most else (0.002, rejection())


@pytest.mark.parametrize("most", [1, 3, 10, 40, 100])
def test_auto_comes_within_a_tenth_of_the_best_fixed_number_and_is_rarely_rejected(most: int) -> None:
    answers = max(4000, 80 * most)
    best = Simulation(GateState(Limits(concurrency=most)), admitting(most))
    best.run(answers)
    auto = Simulation(GateState(Limits()), admitting(most))
    auto.run(answers)
    assert auto.now < best.now * 1.1
    assert auto.rejected / auto.sent < 0.02
    assert best.rejected == 0


def test_an_outage_of_two_seconds_draws_few_calls() -> None:
    def serve(now: float, busy: int) -> tuple[float, Outcome]:
        return (0.01, rejection()) if 1.0 <= now < 3.0 else (0.05, OK)

    simulation = Simulation(GateState(Limits(concurrency=64)), serve)
    simulation.run(5000)
    assert simulation.rejected <= 64 + 10
    assert simulation.now < 8


def test_nobody_passes_while_a_hint_holds_and_then_it_ramps() -> None:
    state = GateState(Limits(concurrency=64))
    state.ended(state.admit(0.0, 0), 0.0, OK)
    held = state.admit(1.0, 0)
    state.ended(held, 1.0, rejection(7.0))
    assert state.wait(1.0) == 7.0
    assert state.wait(7.9) == pytest.approx(0.1)
    first = state.admit(8.0, 0)
    assert state.wait(8.0) == math.inf, "after a hold one call tries"
    state.ended(first, 8.1, OK)
    two = [state.admit(8.1, 0), state.admit(8.1, 0)]
    assert state.wait(8.1) == math.inf
    for ticket in two:
        state.ended(ticket, 8.2, OK)
    assert [state.admit(8.2, 0).rank for _ in range(4)] == [1, 2, 3, 4]
    assert state.wait(8.2) == math.inf


def test_a_burst_of_rejections_is_one_cut_and_one_hold() -> None:
    state = GateState(Limits())
    state.ended(state.admit(0.0, 0), 0.0, OK)
    for _ in range(200):
        state.ended(state.admit(0.0, 0), 0.0, OK)
    tickets = [state.admit(0.0, 0) for _ in range(state.ramp.allowed)]
    limits = []
    for ticket in reversed(tickets):
        state.ended(ticket, 0.1, rejection())
        limits.append(state.ramp.allowed)
    assert len(set(limits)) == 1
    assert state.wait(0.1) == pytest.approx(0.1)
    assert state.rejections == len(tickets)


def test_calls_in_flight_from_before_a_hold_do_not_block_the_ramp() -> None:
    state = GateState(Limits(concurrency=10))
    state.ended(state.admit(0.0, 0), 0.0, OK)
    slow = [state.admit(0.0, 0) for _ in range(8)]
    state.ended(slow.pop(), 0.0, rejection(1.0))
    assert state.wait(1.0) == 0


def test_one_call_goes_ahead_until_the_first_answer() -> None:
    state = GateState(Limits(concurrency=64))
    first = state.admit(0.0, 0)
    assert state.wait(0.0) == math.inf
    state.ended(first, 1.0, Outcome(error=ServerFault("500")))
    second = state.admit(1.0, 0)
    assert state.wait(1.0) == math.inf, "a fault proves nothing"
    state.ended(second, 2.0, Outcome(error=BadRequest("400")))
    assert [state.admit(2.0, 0).rank for _ in range(3)] == [1, 2, 3]


def test_the_embedded_provider_needs_no_proof_and_has_no_limit_but_a_bound() -> None:
    state = GateState(Limits(), embedded=True)
    tickets = []
    while state.wait(0.0) == 0:
        tickets.append(state.admit(0.0, 0))
    assert len(tickets) == 1024


def test_a_provider_that_only_rejects_counts_as_down() -> None:
    simulation = Simulation(GateState(Limits()), lambda now, busy: (0.01, rejection()))
    simulation.run(1, until=60)
    assert simulation.state.breaker.down_until > 0
    assert simulation.sent < 20


def test_a_provider_that_is_dead_draws_its_probes_and_counts_as_down() -> None:
    policy = BreakerPolicy(threshold=5, first_wait_s=0.5, probes=6)
    state = GateState(Limits(concurrency=64), breaker=policy)
    state.ended(state.admit(0.0, 0), 0.0, OK)
    simulation = Simulation(state, lambda now, busy: (0.01, Outcome(error=NetworkFault("refused"))))
    simulation.run(1, until=35)
    assert 31 < state.breaker.down_until - policy.rest_s < 33
    assert simulation.sent <= 64 + 4 + 6


def shaky(rate: float, fault_s: tuple[float, float], answer_s: tuple[float, float]) -> Any:
    """Each call fails with that chance; faults and answers take seconds from these ranges."""
    rng = random.Random(11)

    def serve(now: float, busy: int) -> tuple[float, Outcome]:
        failed = rng.random() < rate
        seconds = rng.uniform(*(fault_s if failed else answer_s))
        return seconds, Outcome(error=ServerFault("500")) if failed else OK

    return serve


@pytest.mark.parametrize(
    ("fault_s", "answer_s"),
    [((0.05, 0.05), (5, 5)), ((0.01, 0.3), (0.5, 20)), ((0.1, 0.3), (0.1, 0.3)), ((5, 9), (0.05, 0.2))],
    ids=["faults at once", "faults soon", "alike", "faults late"],
)
@pytest.mark.parametrize("flight", [16, 256, 1024])
def test_a_tenth_of_very_many_calls_may_fail(flight: int, fault_s: Any, answer_s: Any) -> None:
    state = GateState(Limits(concurrency=flight))
    state.ended(state.admit(0.0, 0), 0.0, OK)
    simulation = Simulation(state, shaky(0.1, fault_s, answer_s))
    simulation.run(10_000)
    assert simulation.openings == 0


@pytest.mark.parametrize("rate", [0.2, 0.3])
def test_many_faults_are_no_outage(rate: float) -> None:
    state = GateState(Limits(concurrency=256))
    state.ended(state.admit(0.0, 0), 0.0, OK)
    simulation = Simulation(state, shaky(rate, (0.05, 0.2), (1, 5)))
    simulation.run(10_000)
    assert simulation.openings <= 1


@pytest.mark.parametrize("flight", [1, 8, 64, 256])
@pytest.mark.parametrize("fault_s", [(0.001, 0.002), (0.05, 0.5), (1, 30)])
def test_a_provider_that_goes_down_draws_little_more_than_what_was_in_flight(flight: int, fault_s: Any) -> None:
    rng, at = random.Random(3), [0]

    def serve(now: float, busy: int) -> tuple[float, Outcome]:
        if now < 20:
            return rng.uniform(0.5, 5), OK
        at[0] += 1
        return rng.uniform(*fault_s), Outcome(error=NetworkFault("refused"))

    state = GateState(Limits(concurrency=flight))
    simulation = Simulation(state, serve)
    while state.breaker.down_until == 0 and simulation.now < 2000:
        simulation.run(10**9, until=simulation.now + 1)
    assert state.breaker.down_until > 0
    assert at[0] <= 5 + 1.65 * flight + 12, "a flight, what opens it, and the probes"


def test_answers_that_were_begun_before_an_outage_do_not_let_calls_through() -> None:
    """New connections are refused at once while old ones still answer, one by one."""
    sent: list[float] = []

    def serve(now: float, busy: int) -> tuple[float, Outcome]:
        sent.append(now)
        return (60.0 + len(sent) / 7, OK) if now < 1 else (0.001, Outcome(error=NetworkFault("refused")))

    state = GateState(Limits(concurrency=64))
    state.ended(state.admit(0.0, 0), 0.0, OK)
    simulation = Simulation(state, serve)
    simulation.run(10**9, until=0.5)
    simulation.state.ramp.limit = 128
    simulation.now = 2.0
    simulation.run(10**9, until=90)
    assert len([at for at in sent if at >= 1]) <= 64 + 64 + 12


def test_a_breaker_that_closes_ramps_instead_of_storming() -> None:
    def serve(now: float, busy: int) -> tuple[float, Outcome]:
        return (0.01, Outcome(error=NetworkFault("refused"))) if now < 2 else (0.05, OK)

    simulation = Simulation(GateState(Limits(concurrency=64)), serve)
    simulation.run(1000)
    assert simulation.rejected <= 5 + 3
    assert simulation.now < 6


EVENTS = st.one_of(
    st.just("admit"),
    st.tuples(
        st.sampled_from(["ok", "429", "hint", "overload", "fault", "bad", "cancel", "account"]), st.integers(0, 50)
    ),
    st.floats(0, 20),
)


def outcome_of(kind: str) -> Outcome:
    errors: dict[str, CallFailed] = {
        "429": RateLimited("x"),
        "hint": RateLimited("x", retry_after=3),
        "overload": Overloaded("x"),
        "fault": NetworkFault("x"),
        "bad": BadRequest("x"),
        "account": KeyRefused("x"),
    }
    return OK if kind == "ok" else Outcome(error=errors.get(kind))


@given(st.lists(EVENTS, max_size=200), st.one_of(st.none(), st.integers(1, 20)))
def test_whatever_happens_no_place_leaks_and_the_gate_opens_again(story: list[Any], concurrency: int | None) -> None:
    state, now, out = GateState(Limits(concurrency=concurrency)), 0.0, []
    for event in story:
        if event == "admit":
            if state.wait(now) == 0:
                out.append(state.admit(now, 0))
                assert state.in_flight <= state.ramp.allowed
        elif isinstance(event, float):
            now += event
        elif out:
            state.ended(out.pop(event[1] % len(out)), now, outcome_of(event[0]))
        assert state.in_flight == len(out)
    for ticket in out:
        state.ended(ticket, now, Outcome())
    assert state.in_flight == 0
    assert state.wait(now + 3600) == 0, "after an hour of quiet a call may pass"


class TestHeaders:
    def test_rates_are_taken_from_the_headers_where_the_file_sets_none(self) -> None:
        state = GateState(Limits())
        words = state.learn(0.0, RateLimits(requests=Window(limit=600), tokens=Window(limit=30_000)))
        assert "600" in words
        assert state.requests is not None
        assert state.requests.per_minute == 600
        assert state.tokens is not None
        assert state.learn(1.0, RateLimits(requests=Window(limit=600))) == ""

    def test_the_files_own_limits_stay_and_0_switches_pacing_off(self) -> None:
        state = GateState(Limits(rpm=60, tpm=0))
        state.learn(0.0, RateLimits(requests=Window(limit=6000), tokens=Window(limit=1)))
        assert state.requests is not None
        assert state.requests.per_minute == 60
        assert state.tokens is None

    def test_a_limit_per_day_is_not_paced(self) -> None:
        state = GateState(Limits())
        state.learn(0.0, RateLimits(requests=Window(limit=14_400, window_s=86_400)))
        assert state.requests is None

    def test_an_empty_window_makes_everybody_wait_a_little(self) -> None:
        state = GateState(Limits())
        state.learn(0.0, RateLimits(requests=Window(limit=600, remaining=0, reset_s=30)))
        assert 0.5 < state.wait(0.0) <= 30

    def test_a_new_rate_does_not_let_a_burst_through(self) -> None:
        state = GateState(Limits())
        state.learn(0.0, RateLimits(requests=Window(limit=60)))
        state.proven = True
        state.admit(0.0, 0)
        state.learn(0.1, RateLimits(requests=Window(limit=30)))
        assert state.wait(0.1) > 0.5


# ------------------------------------------------------------------ in an event loop


def gate(limits: Limits, *, proven: bool = True) -> Gate:
    state = GateState(limits)
    state.proven = proven
    return Gate("p/m", state, clock=asyncio.get_running_loop().time, tell=lambda name, words: None)


def test_calls_pass_in_order_of_arrival() -> None:
    async def main() -> list[int]:
        g, order = gate(Limits(concurrency=1)), []

        async def call(number: int) -> None:
            ticket = await g.enter()
            order.append(number)
            await asyncio.sleep(0)
            g.leave(ticket, OK)

        await asyncio.gather(*(call(n) for n in range(50)))
        return order

    assert asyncio.run(main()) == list(range(50))


def test_the_probes_are_those_that_were_tried_least_and_stand_furthest_behind() -> None:
    """Neighbours may all be broken; somewhere there is one that can be answered, if the provider works."""

    async def main() -> list[int]:
        state = GateState(Limits(concurrency=8), breaker=BreakerPolicy(first_wait_s=0.01, wait_cap_s=0.01, probes=9))
        state.proven = True
        g = Gate("p/m", state, clock=asyncio.get_running_loop().time, tell=lambda name, words: None)
        order = []
        tickets = [await g.enter() for _ in range(5)]

        async def call(number: int, tried: int) -> None:
            ticket = await g.enter(order=number, tried=tried)
            order.append(number)
            g.leave(ticket, OK if number == 2 else Outcome(error=ServerFault("500")))

        for ticket in tickets:
            g.leave(ticket, Outcome(error=ServerFault("500")))
        assert state.breaker.state == "open"
        await asyncio.gather(*(call(number, tried=int(number > 5)) for number in range(8)))
        return order

    assert asyncio.run(main()) == [5, 4, 3, 2, 0, 1, 6, 7]


def test_faults_of_calls_that_fail_while_later_ones_are_answered_open_nothing() -> None:
    state = GateState(Limits(concurrency=8), breaker=BreakerPolicy(threshold=2))
    state.proven = True
    for now in range(20):
        ticket = state.admit(now, 0)
        state.ended(ticket, now, Outcome(error=ServerFault("500"), own=True))
    assert state.breaker.state == "closed"


def test_cancelling_those_who_wait_or_were_just_admitted_leaks_nothing() -> None:
    async def main() -> None:
        g = gate(Limits(concurrency=2))
        first, second = await g.enter(), await g.enter()
        tasks = [asyncio.create_task(g.enter()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[1::2]:
            task.cancel()
        g.leave(first, OK)
        tasks[0].cancel()  # its place was granted in this very turn
        await asyncio.sleep(0)
        g.leave(second, OK)
        for task in tasks[2::2]:
            g.leave(await task, OK)
        await asyncio.gather(*tasks, return_exceptions=True)
        stats = g.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0)

    asyncio.run(main())


def test_an_account_error_fails_those_who_wait_and_those_who_come_unsent() -> None:
    async def main() -> None:
        g = gate(Limits(), proven=False)
        first = await g.enter()
        waiting = [asyncio.create_task(g.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        error = KeyRefused("no such key", raw="body", billed="maybe")
        g.leave(first, Outcome(error=error))
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert type(result) is KeyRefused
            assert (result.sent, result.raw, result.billed) == (False, None, "no")
        with pytest.raises(KeyRefused) as caught:
            await g.enter()
        assert caught.value.sent is False
        assert error.sent is True
        assert g.stats().closed

    asyncio.run(main())


def test_a_hint_longer_than_the_policy_allows_fails_those_who_wait_at_once() -> None:
    async def main() -> None:
        g = gate(Limits(concurrency=1))
        first = await g.enter()
        waiting = asyncio.create_task(g.enter(max_hold=60))
        patient = asyncio.create_task(g.enter())
        await asyncio.sleep(0)
        g.leave(first, rejection(3600))
        with pytest.raises(RetryAfterTooLong) as caught:
            await asyncio.wait_for(waiting, 60)
        assert caught.value.sent is False
        assert not patient.done()
        patient.cancel()
        with pytest.raises(RetryAfterTooLong):
            await g.enter(max_hold=60)

    asyncio.run(main())


def test_a_call_with_another_model_does_not_wait_for_an_open_breaker() -> None:
    async def main() -> None:
        g = gate(Limits(concurrency=8))
        for _ in range(5):
            g.leave(await g.enter(), Outcome(error=NetworkFault("x")))
            g.state.held_until = 0
        with pytest.raises(ProviderDown) as caught:
            await g.enter(patient=False)
        assert caught.value.sent is False

    asyncio.run(main())


def test_a_held_gate_wakes_by_itself() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        g = gate(Limits(concurrency=4))
        g.leave(await g.enter(), rejection(0.1))
        start = loop.time()
        await g.enter()
        return loop.time() - start

    assert 0.09 < asyncio.run(main()) < 30


def test_the_pace_is_kept_in_real_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        g = gate(Limits(concurrency=50, rpm=3000))

        async def call() -> None:
            g.leave(await g.enter(), OK)

        start = loop.time()
        await asyncio.gather(*(call() for _ in range(25)))
        return loop.time() - start

    assert 0.35 < asyncio.run(main()) < 20


class Lines:
    """What loguru's logger offers, as far as the gates use it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def bind(self, **fields: Any) -> Lines:
        self.seen.append(fields)
        return self

    def info(self, event: str) -> None:
        self.seen[-1]["event"] = event


def test_models_of_one_origin_key_and_id_share_a_gate_and_its_history_is_logged() -> None:
    async def main() -> None:
        log = Lines()
        gates = Gates(clock=asyncio.get_running_loop().time, logger=log)
        one = gates.of(resolve(Model("a", "openai", "gpt-5-mini")), Limits())
        two = gates.of(resolve(Model("b", "openai", "gpt-5-mini")), Limits())
        other = gates.of(resolve(Model("c", "openai", "gpt-5")), Limits())
        assert one is two
        assert one is not other
        one.leave(await one.enter(), rejection(0.01))
        change = "held for 0.01 s"
        assert log.seen == [{"event": "llm_gate", "model": "openai/gpt-5-mini", "change": change}]
        assert [s.name for s in gates.stats()] == ["openai/gpt-5-mini", "openai/gpt-5"]
        assert gates.stats()[0].rejections == 1
        other.leave(await other.enter(), Outcome(error=QuotaExhausted("x")))
        gates.reopen()
        assert [s.name for s in gates.stats()] == ["openai/gpt-5-mini"]

    asyncio.run(main())


def test_a_gate_tells_what_it_is_and_what_has_changed() -> None:
    now, told = [10.0], list[tuple[str, str]]()

    async def main() -> None:
        g = Gate("p/m", GateState(Limits(concurrency=2)), clock=lambda: now[0], tell=lambda *said: told.append(said))
        assert g.silence() == "p/m did not answer for less than a second (0 tries)"
        first = await g.enter()
        waiting = [asyncio.create_task(g.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        await asyncio.sleep(0)
        assert g.stats() == GateStats("p/m", 1, 2, 2, 0.0, 0, "closed", False)
        now[0] = 10.9
        g.leave(first, rejection(5.0))
        assert told == [("p/m", "held for 5 s")]
        assert g.stats() == GateStats("p/m", 0, 2, 2, 5.0, 1, "closed", False)
        assert g.silence() == "p/m did not answer for less than a second (1 try): 429"
        for at, words in ((11.0, "1 s"), (12.0, "2 s"), (22.6, "13 s")):
            now[0] = at
            assert g.silence() == f"p/m did not answer for {words} (1 try): 429"
        assert g.stats().held_s == 0.0
        g.learn(RateLimits(requests=Window(limit=600)))
        g.learn(RateLimits(requests=Window(limit=600)))
        assert told[1:] == [("p/m", "requests 600 per minute, as the reply's headers state")]
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        g.leave(await g.enter(), rejection(0.5))
        assert g.silence() == "p/m did not answer for 13 s (2 tries): 429"
        g.state.breaker.give_up(now[0])
        assert g.is_down
        now[0] += 60
        assert not g.is_down
        g.leave(await g.enter(), Outcome(error=KeyRefused("x")))
        assert g.stats() == GateStats("p/m", 0, 0, 2, 0.0, 2, "closed", True)

    asyncio.run(main())


@pytest.mark.parametrize(("limits", "counts"), [(Limits(), False), (Limits(rpm=9), False), (Limits(tpm=9), True)])
def test_a_gate_with_a_rate_of_tokens_asks_how_many_a_call_takes(limits: Limits, counts: bool) -> None:
    async def main() -> None:
        assert gate(limits).counts_tokens is counts

    asyncio.run(main())


@pytest.mark.parametrize(
    ("hint", "most", "refused"), [(60.0, 60.0, False), (60.0, 59.9, True), (60.0, None, False), (0.5, 0.0, True)]
)
def test_a_hold_that_is_longer_than_the_call_would_wait_refuses_it(hint: float, most: float, refused: bool) -> None:
    now = [5.0]

    async def main() -> None:
        g = Gate("p/m", GateState(Limits()), clock=lambda: now[0], tell=lambda name, words: None)
        g.leave(await g.enter(), rejection(hint))
        entering = asyncio.create_task(g.enter(max_hold=most))
        await asyncio.sleep(0)
        assert entering.done() is refused
        if refused:
            error = entering.exception()
            assert isinstance(error, RetryAfterTooLong)
            assert (error.retry_after, error.sent) == (hint, False)
            assert str(error) == f"p/m asks for a wait of another {hint:.0f} s, more than {most:g} s"
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)

    asyncio.run(main())


def test_who_would_not_wait_for_a_probe_is_refused_while_one_is_out_and_passes_once_it_is_answered() -> None:
    async def main() -> None:
        state = GateState(Limits(concurrency=8), breaker=BreakerPolicy(threshold=1, first_wait_s=0.0))
        g = Gate("p/m", state, clock=asyncio.get_running_loop().time, tell=lambda name, words: None)
        g.leave(await g.enter(patient=False), Outcome(error=ServerFault("500")))
        probe = await g.enter()
        assert g.stats().breaker == "probing"
        with pytest.raises(ProviderDown, match=r"p/m did not answer for less than a second \(1 try\): 500"):
            await g.enter(patient=False)
        g.leave(probe, OK)
        g.leave(await g.enter(patient=False), OK)

    asyncio.run(main())


def test_a_gate_belongs_to_one_origin_one_key_and_one_model() -> None:
    gates = Gates(clock=lambda: 0.0)
    models = [
        Model("a", "openai", "gpt-5", base_url="https://a.example/v1", api_key_env="ONE_API_KEY"),
        Model("b", "openai", "gpt-5", base_url="https://b.example/v1", api_key_env="ONE_API_KEY"),
        Model("c", "openai", "gpt-5", base_url="https://a.example/v1", api_key_env="TWO_API_KEY"),
        Model("d", "openai", "gpt-5-mini", base_url="https://a.example/v1", api_key_env="ONE_API_KEY"),
    ]
    found = [gates.of(resolve(model), Limits(concurrency=number)) for number, model in enumerate(models, 1)]
    assert len(set(found)) == 4
    assert list(gates) == found
    assert [stats.limit for stats in gates.stats()] == [1, 2, 3, 4]
    assert gates.of(resolve(models[0]), Limits(concurrency=9)) is found[0]
    found[0].learn(RateLimits(requests=Window(limit=600)))  # nothing listens
    assert gates.of(resolve(Model("e", "echo", "demo")), Limits()).stats().limit == 1024


def test_an_unsent_copy_keeps_the_verdict_and_leaves_the_evidence() -> None:
    error = QuotaExhausted(
        "used up", status=429, raw="{}", provider_code="insufficient_quota", usage=Usage(1, 2), billed="yes"
    )
    error.request_id, error.attempts, error.__cause__ = (
        "r-1",
        (Attempt(1, "p/m", 0.0, 0.0, "KeyRefused"),),
        ValueError("below"),
    )
    twin = unsent(error)
    assert (twin.attempts, twin.usage, twin.request_id, twin.billed) == ((), None, None, "no")
    assert (twin.__cause__, twin.__traceback__, twin.provider_code) == (None, None, "insufficient_quota")
    assert (error.billed, len(error.attempts)) == ("yes", 1)
    assert type(twin) is QuotaExhausted
    assert (twin.sent, twin.raw, twin.status, str(twin)) == (False, None, 429, "used up")
    assert (error.sent, error.raw) == (True, "{}")
