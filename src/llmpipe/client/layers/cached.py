"""Answers that were given before: read, bought by one buyer at a time, and kept."""

from __future__ import annotations

from decimal import Decimal

from llmpipe.client.cache import Cache
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.encoding import seal, unseal
from llmpipe.client.journal import waiting
from llmpipe.errors import NotRecorded
from llmpipe.types import LLMResponse

CLAIM_S = 600.0  # the longest that a buyer is waited for; also the default of timeout.total
_FIRST_LOOK_S = 0.05
_LAST_LOOK_S = 1.0


def cached(inner: Handler, deps: Deps) -> Handler:
    """Answer from the cache as far as `policy.cache` allows, and keep what is bought.

    A cached answer is marked so, costs 0 and is never older than `ttl_s` (measured when it is read, so that a shorter
    ttl counts at once). Errors, refusals, cut and empty answers are never kept. While another process has claimed the
    same key, this one waits for its answer, for at most ten minutes or the call's own total. Offline, a miss is
    NotRecorded.
    """

    warm = False  # whether the last look found something

    async def handle(call: Call) -> LLMResponse:
        nonlocal warm
        cache, policy = deps.cache, call.policy.cache
        if cache is None or not (policy.read or policy.write) or call.policy.offline:
            hit = await _look_up(cache, call, deps) if cache is not None and policy.read else None
            if hit is not None:
                return hit
            _refuse_offline(call)
            return await inner(call)
        mine = False
        try:
            if policy.read:
                hit = await _look_up(cache, call, deps) if warm else None
                if hit is None:
                    # Claimed before the look that decides: what another buyer keeps in between is never bought again.
                    mine = cache.claim(call.key, CLAIM_S)
                    hit = await _look_up(cache, call, deps)
                if hit is None and not mine:
                    mine, hit = await _wait_for_buyer(cache, call, deps)
                warm = hit is not None
                if hit is not None:
                    return hit
            response = await inner(call)
            if policy.write and response.finish == "stop" and response.text.strip():
                await cache.put(call.key, seal(response, material=call.material, at=deps.wall()))
            return response
        finally:
            if mine:
                cache.release(call.key)

    return handle


async def _look_up(cache: Cache, call: Call, deps: Deps) -> LLMResponse | None:
    data = await cache.get(call.key)
    stored = unseal(data, key=call.key) if data is not None else None
    if stored is None:
        return None
    ttl = call.policy.cache.ttl_s
    if ttl is not None and deps.wall() - stored.at > ttl:
        return None
    return stored.response.having(cached=True, cost_usd=Decimal(0), request_id=call.request_id)


async def _wait_for_buyer(cache: Cache, call: Call, deps: Deps) -> tuple[bool, LLMResponse | None]:
    """Wait until the other buyer's answer is there or its claim ends: whether the claim is ours now, and the answer."""
    total = call.policy.timeout.total
    until = deps.clock() + (CLAIM_S if total is None else min(CLAIM_S, total))
    pause = _FIRST_LOOK_S
    while True:
        mine = cache.claim(call.key, CLAIM_S)
        hit = await _look_up(cache, call, deps)
        if mine or hit is not None or deps.clock() >= until:
            return mine, hit
        with waiting(call):
            await deps.sleep(pause)
        pause = min(_LAST_LOOK_S, pause * 2)


def _refuse_offline(call: Call) -> None:
    if call.policy.offline:
        err = NotRecorded(f"offline, and the cache holds no answer of {call.model.label} to this request")
        err.sent = False
        raise err
