"""One flight for equal requests: who asks what is being asked already waits for that answer."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from decimal import Decimal

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.journal import resting
from llmpipe.errors import CallFailed, TotalTimeout
from llmpipe.types import LLMResponse

_LATE_LEADERS = 2


class _Flight:
    """The call that leads, and what it leaves for those who wait: a response, an error, or None: take over."""

    __slots__ = ("landed", "leader")

    def __init__(self, leader: Call) -> None:
        self.leader = leader
        self.landed: asyncio.Future[LLMResponse | CallFailed | None] | None = None

    def land(self, outcome: LLMResponse | CallFailed | None) -> None:
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(outcome)

    async def wait(self) -> LLMResponse | CallFailed | None:
        if self.landed is None:
            self.landed = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self.landed)  # shielded: one follower's end is not the others' end


def single_flight(inner: Handler, deps: Deps) -> Handler:
    """Let equal requests share one flight; what makes them equal is the cache key, and whether the cache may be read.

    Followers get the leader's answer (marked "shared", without attempts, at no cost) or a copy of its error. Policies
    do not make requests different: a follower gets what came of the leader's retries and clocks. Only when the leader
    was cancelled or ran out of its total time does a follower take over; after two that ran out of time, the others
    give up too.
    """
    flights: dict[tuple[str, bool], _Flight] = {}

    async def lead(call: Call, name: tuple[str, bool]) -> LLMResponse:
        flight = flights[name] = _Flight(call)
        outcome: LLMResponse | CallFailed | None = None
        try:
            outcome = await inner(call)
        except CallFailed as err:
            outcome = err
            raise
        else:
            return outcome
        finally:
            del flights[name]
            flight.land(outcome)

    async def handle(call: Call) -> LLMResponse:
        name = (call.key, call.policy.cache.read)
        late = 0
        while (flight := flights.get(name)) is not None:
            with resting(call, "an equal call"):
                outcome = await flight.wait()
            if isinstance(outcome, LLMResponse):
                return _shared(outcome, call)
            call.silence.share(flight.leader.silence)
            if isinstance(outcome, TotalTimeout):
                late += 1
                if late < _LATE_LEADERS:
                    continue
            if outcome is not None:
                raise _copied(outcome)
        return await lead(call, name)

    return handle


def _shared(response: LLMResponse, call: Call) -> LLMResponse:
    notes = (*response.notes, "shared")
    return replace(response, notes=notes, attempts=(), cost_usd=Decimal(0), request_id=call.request_id)


def _copied(err: CallFailed) -> CallFailed:
    """An error of one's own: attempts and traceback belong to the call that raises it."""
    twin = copy.copy(err)
    twin.attempts = ()
    twin.__cause__ = err
    return twin
