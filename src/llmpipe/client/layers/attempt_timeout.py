"""Ends an attempt that takes too long; the connection is closed on the way out."""

from __future__ import annotations

from llmpipe.client.arrived import arrived
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.clock import Clock
from llmpipe.errors import CallTimeout
from llmpipe.types import LLMResponse


def attempt_timeout(inner: Handler, deps: Deps) -> Handler:
    """Bound each attempt by `policy.timeout.attempt` seconds. It starts after the gate, so that queueing never counts.

    The exchange may have been billed if anything of its request was sent (facts B2.8).
    """

    async def handle(call: Call) -> LLMResponse:
        seconds = call.policy.timeout.attempt
        if seconds is None:
            return await inner(call)
        clock = Clock(seconds)
        try:
            with clock:
                return await inner(call)
        except TimeoutError as error:
            if not clock.expired:
                raise
            text = f"{call.model.label}: no complete answer within {seconds:g} s (clock attempt)"
            raise CallTimeout(text, clock="attempt", **{"billed": "maybe", **arrived(error)}) from error

    return handle
