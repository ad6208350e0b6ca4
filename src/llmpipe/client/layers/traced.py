"""What a call leaves for people: its request id, its attempts, and the lines that no single attempt can write."""

from __future__ import annotations

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.events import cache_hit, call_ended
from llmpipe.errors import CallFailed
from llmpipe.types import LLMResponse


def traced(inner: Handler, deps: Deps) -> Handler:
    """Give the response or the error of a call its request id and all its attempts.

    Logs `llm_cache_hit` for an answer from the cache, and `llm_call_failed` for an end that is no attempt's own: a
    closed gate, an open breaker, the budget, a wait that would be too long, the total clock. Attempts are logged where
    they are made.
    """

    async def handle(call: Call) -> LLMResponse:
        started = deps.clock()
        try:
            response = await inner(call)
        except CallFailed as err:
            err.request_id = call.request_id
            err.attempts = tuple(call.attempts)
            err.silence = call.silence
            if not call.attempts or call.attempts[-1].outcome != err.kind:
                call_ended(deps.logger, call, err, latency_s=deps.clock() - started)
            raise
        if response.cached:
            response = response.having(latency_s=deps.clock() - started)
            cache_hit(deps.logger, call, response)
        return response.having(attempts=tuple(call.attempts)) if call.attempts else response

    return handle
