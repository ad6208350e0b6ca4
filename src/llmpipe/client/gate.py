"""The gates: one per (origin, key variable, model id), where calls wait for their turn until they may pass.

Every decision is made in gate_state.py; here is what waits for it: a queue, futures, one timer.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from llmpipe.client.breaker import DEFAULT_BREAKER, BreakerPolicy
from llmpipe.client.gate_state import GateState, Outcome, Ticket
from llmpipe.errors import CallFailed, ProviderDown, RetryAfterTooLong
from llmpipe.frozen import frozen
from llmpipe.policy import Limits
from llmpipe.providers.limits import RateLimits
from llmpipe.providers.table import Target

Clock = Callable[[], float]
Failure = TypeVar("Failure", bound=CallFailed)
TIMER_SLACK_S = 0.001


@frozen
class GateStats:
    """What a progress display shows of a gate. `held_s`: seconds that it is still held, 0 if it is not."""

    name: str  # "provider/model-id"
    in_flight: int
    waiting: int
    limit: int
    held_s: float
    rejections: int  # 429s and overloads
    breaker: str  # "closed", "open" or "probing"
    closed: bool  # by an account error


@dataclass(slots=True, eq=False)
class _Waiter:
    turn: tuple[int, int]  # the order of the call, then of its arrival
    place: asyncio.Future[Ticket]
    tokens: int
    max_hold: float | None
    tried: int

    def __lt__(self, other: _Waiter) -> bool:
        return self.turn < other.turn


class Gate:
    """One gate. `enter` before a call is sent, `leave` when it has ended, whatever came of it."""

    def __init__(self, name: str, state: GateState, *, clock: Clock, tell: Callable[[str, str], None]) -> None:
        self.name = name
        self.state = state
        self._clock = clock
        self._tell = tell
        self._queue: list[_Waiter] = []  # a heap
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def counts_tokens(self) -> bool:
        """True if `enter` should be told how many tokens a call is expected to take."""
        return self.state.tokens is not None

    async def enter(
        self, tokens: int = 0, *, max_hold: float | None = None, patient: bool = True, order: int = 0, tried: int = 0
    ) -> Ticket:
        """Wait for a place; cancelling gives it back. The lowest `order` goes first, among equals whoever came first:
        a run gives each call the number of its row, so that rows begun are ended before more are begun.

        `tried`: the attempts that the call has made before. `max_hold`: the longest wait in seconds that a server may
        ask for, None = any. `patient` False: do not wait for a breaker to close (another model can be asked). Raises
        RetryAfterTooLong, ProviderDown, or the account error that closed the gate, all with `sent` False.
        """
        now = self._clock()
        self._refuse(now, max_hold, patient)
        if not self._queue and self.state.wait(now) == 0:
            return self.state.admit(now, tokens)
        self._arrivals += 1
        waiter = _Waiter((order, self._arrivals), asyncio.get_running_loop().create_future(), tokens, max_hold, tried)
        heapq.heappush(self._queue, waiter)
        self._pump()
        try:
            return await waiter.place
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def leave(self, ticket: Ticket, outcome: Outcome) -> None:
        """Give a place back and let those who wait have what it changed."""
        words = self.state.ended(ticket, self._clock(), outcome)
        if words:
            self._tell(self.name, words)
        if outcome.error is not None:
            self._turn_away()
        if self._queue:
            self._pump()

    def learn(self, stated: RateLimits) -> None:
        """Take note of the limits that a reply's headers state."""
        words = self.state.learn(self._clock(), stated)
        if words:
            self._tell(self.name, words)

    @property
    def is_down(self) -> bool:
        """True if the provider stays down, and nobody should wait for it."""
        return self.state.breaker.is_down(self._clock())

    def silence(self) -> str:
        """How long nobody has been answered, in words."""
        state = self.state
        seconds = 0.0 if state.silent_since is None else self._clock() - state.silent_since
        tries = f"{state.tries} tries" if state.tries != 1 else "1 try"
        last = f": {state.last_fault}" if state.last_fault else ""
        return f"{self.name} did not answer for {_said(seconds)} ({tries}){last}"

    def stats(self) -> GateStats:
        """A snapshot."""
        state = self.state
        return GateStats(
            name=self.name,
            in_flight=state.in_flight,
            waiting=sum(not waiter.place.done() for waiter in self._queue),
            limit=state.ramp.allowed,
            held_s=max(0.0, state.held_until - self._clock()),
            rejections=state.rejections,
            breaker=state.breaker.state,
            closed=state.closed_by is not None,
        )

    def _withdraw(self, waiter: _Waiter) -> None:
        place = waiter.place
        if place.done() and not place.cancelled() and place.exception() is None:
            self.leave(place.result(), Outcome())  # admitted and cancelled in the same turn of the loop
        else:
            self._pump()

    def _refuse(self, now: float, max_hold: float | None, patient: bool = True) -> None:
        error = self._refusal(now, max_hold, patient)
        if error is not None:
            raise error

    def _refusal(self, now: float, max_hold: float | None, patient: bool) -> CallFailed | None:
        state = self.state
        if state.closed_by is not None:
            return unsent(state.closed_by)
        if state.breaker.is_down(now):
            return _unsent(ProviderDown(self.silence()))
        if not patient and state.breaker.state != "closed":
            return _unsent(ProviderDown(self.silence()))
        held = state.held_until - now
        if max_hold is not None and held > max_hold:
            text = f"{self.name} asks for a wait of another {held:.0f} s, more than {max_hold:g} s"
            return _unsent(RetryAfterTooLong(text, retry_after=held))
        return None

    def _turn_away(self) -> None:
        """Fail those who wait for what will not come."""
        now = self._clock()
        for waiter in self._queue:
            if not waiter.place.done():
                error = self._refusal(now, waiter.max_hold, True)
                if error is not None:
                    waiter.place.set_exception(error)

    def _pump(self) -> None:
        """Admit from the head of the queue as many as may pass now, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            if self._queue[0].place.done():
                heapq.heappop(self._queue)
                continue
            now = self._clock()
            wait = self.state.wait(now)
            if wait > 0:
                self._wake_in(wait)
                return
            waiter = self._taken()
            waiter.place.set_result(self.state.admit(now, waiter.tokens))

    def _taken(self) -> _Waiter:
        """The one who goes next, no longer in the queue.

        As a probe goes the one that has been tried least and stands furthest behind: a fault that comes of the
        requests themselves looks like an outage as long as the same ones, or neighbours, are tried.
        """
        if self.state.breaker.state == "closed":
            return heapq.heappop(self._queue)
        waiting = (waiter for waiter in self._queue if not waiter.place.done())
        probe = min(waiting, key=lambda waiter: (waiter.tried, -waiter.turn[0], -waiter.turn[1]))
        self._queue.remove(probe)
        heapq.heapify(self._queue)
        return probe

    def _wake_in(self, seconds: float) -> None:
        if seconds < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds + TIMER_SLACK_S, self._pump)


class Gates:
    """All gates of a client. `logger` gets one line whenever a gate is held, cut, opened or closed: its history."""

    def __init__(self, *, clock: Clock, logger: Any = None, breaker: BreakerPolicy = DEFAULT_BREAKER) -> None:
        self._clock, self._logger, self._breaker = clock, logger, breaker
        self._gates: dict[tuple[str, str | None, str], Gate] = {}

    def of(self, target: Target, limits: Limits) -> Gate:
        """The gate of a target; `limits` counts when it is asked for the first time."""
        key = (target.origin, target.api_key_env, target.model)
        gate = self._gates.get(key)
        if gate is None:
            state = GateState(limits, embedded=target.wire == "echo", breaker=self._breaker)
            gate = self._gates[key] = Gate(target.label, state, clock=self._clock, tell=self._log)
        return gate

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())

    def stats(self) -> tuple[GateStats, ...]:
        """A snapshot of each gate, in order of first use."""
        return tuple(gate.stats() for gate in self)

    def reopen(self) -> None:
        """Forget account errors and faults, so that a user who has mended the key can go on in the same process."""
        self._gates = {key: gate for key, gate in self._gates.items() if gate.state.closed_by is None}

    def _log(self, gate: str, words: str) -> None:
        if self._logger is not None:
            self._logger.bind(model=gate, change=words).info("llm_gate")


def _said(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else "less than a second"


def unsent(error: Failure) -> Failure:
    """The same verdict for a call that was not sent: no attempts, no evidence of its own."""
    twin = copy.copy(error)
    twin.attempts, twin.usage, twin.raw, twin.request_id, twin.billed = (), None, None, None, "no"
    twin.__cause__ = twin.__traceback__ = None
    return _unsent(twin)


def _unsent(error: Failure) -> Failure:
    error.sent = False
    return error
