"""Sends nothing under a claim that another process may have taken over meanwhile."""

from __future__ import annotations

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.claims import ClaimLost
from llmpipe.types import LLMResponse


def rechecked(inner: Handler, deps: Deps) -> Handler:
    """Raise ClaimLost, at which the layer `cached` looks again, where the process stood still since it made its claim.

    It stands within the gate, because calls wait there for longest; each attempt is looked at.
    """

    async def handle(call: Call) -> LLMResponse:
        if call.claimed and deps.cache is not None and not deps.cache.holds(call.key):
            raise ClaimLost(call.key)
        return await inner(call)

    return handle
