"""Answers that were given before: read, bought by one buyer at a time, and kept."""

from __future__ import annotations

from decimal import Decimal

from llmpipe.client.cache import Cache
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.claims import ClaimLost
from llmpipe.client.encoding import seal, unseal
from llmpipe.client.journal import resting, waiting
from llmpipe.errors import NotRecorded
from llmpipe.types import LLMResponse

CLAIM_S = 600.0  # how long a buyer without clocks is waited for
_FIRST_LOOK_S = 0.05
_LAST_LOOK_S = 1.0


def cached(inner: Handler, deps: Deps) -> Handler:
    """Answer from the cache as far as `policy.cache` allows, and keep what is bought.

    A cached answer is marked so, costs 0 and is never older than `ttl_s` (measured when it is read, so that a shorter
    ttl counts at once). Errors, refusals, cut and empty answers are never kept. While another process has claimed the
    same key and is at work, this one waits for its answer, for as long as the call's own total (else its attempt clock)
    allows; then it buys for itself. Offline, a miss is NotRecorded.
    """

    buyer = _Buyer(inner, deps)

    async def handle(call: Call) -> LLMResponse:
        cache, policy = deps.cache, call.policy.cache
        if cache is None or not (policy.read or policy.write) or call.policy.offline:
            hit = await _look_up(cache, call, deps) if cache is not None and policy.read else None
            if hit is not None:
                return hit
            _refuse_offline(call)
            return await inner(call)
        while True:
            try:
                return await buyer.answer(cache, call)
            except ClaimLost:
                continue

    return handle


class _Buyer:
    """Looks an answer up, or buys it under a claim."""

    def __init__(self, inner: Handler, deps: Deps) -> None:
        self._inner, self._deps = inner, deps
        self._warm = False  # whether the last look found something

    async def answer(self, cache: Cache, call: Call) -> LLMResponse:
        """The answer, from the cache or bought and kept. Raises ClaimLost if somebody else may have bought it."""
        policy = call.policy.cache
        try:
            hit = await self._known(cache, call) if policy.read else None
            if hit is not None:
                return hit
            response = await self._inner(call)
            if policy.write and response.finish == "stop" and response.text.strip():
                deps = self._deps
                sealed = seal(response, material=call.material, at=deps.wall(), redactor=deps.redactor)
                await cache.put(call.key, sealed)
            return response
        finally:
            if call.claimed:
                call.claimed = False
                cache.release(call.key)

    async def _known(self, cache: Cache, call: Call) -> LLMResponse | None:
        """The answer if it is there; None: the call is to be bought, under a claim unless the wait for it was over."""
        hit = await _look_up(cache, call, self._deps) if self._warm else None
        if hit is None:
            # Claimed before the look that decides: what another buyer keeps in between is never bought again.
            call.claimed = cache.claim(call.key, _patience(call))
            hit = await _look_up(cache, call, self._deps)
        if hit is None and not call.claimed:
            with resting(call, "another run"):
                call.claimed, hit = await _wait_for_buyer(cache, call, self._deps)
        self._warm = hit is not None
        return hit


async def _look_up(cache: Cache, call: Call, deps: Deps) -> LLMResponse | None:
    data = await cache.get(call.key)
    stored = unseal(data, key=call.key, redactor=deps.redactor) if data is not None else None
    if stored is None:
        return None
    ttl = call.policy.cache.ttl_s
    if ttl is not None and abs(deps.wall() - stored.at) > ttl:  # else a clock that was ahead made it last longer
        return None
    return stored.response.having(cached=True, cost_usd=Decimal(0), request_id=call.request_id)


async def _wait_for_buyer(cache: Cache, call: Call, deps: Deps) -> tuple[bool, LLMResponse | None]:
    """Wait until the other buyer's answer is there or its claim ends: whether the claim is ours now, and the answer."""
    patience = _patience(call)
    until = deps.clock() + patience
    pause = _FIRST_LOOK_S
    while True:
        mine = cache.claim(call.key, patience)
        hit = await _look_up(cache, call, deps)
        if mine or hit is not None or deps.clock() >= until:
            return mine, hit
        with waiting(call):
            await deps.sleep(pause)
        pause = min(_LAST_LOOK_S, pause * 2)


def _patience(call: Call) -> float:
    clocks = call.policy.timeout
    return next((seconds for seconds in (clocks.total, clocks.attempt) if seconds is not None), CLAIM_S)


def _refuse_offline(call: Call) -> None:
    if call.policy.offline:
        err = NotRecorded(f"offline, and the cache holds no answer of {call.model.label} to this request")
        err.sent = False
        raise err
