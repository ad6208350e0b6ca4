"""The clock over all attempts of a call and the waits between them, from the first admission on."""

from __future__ import annotations

from llmpipe.client.call import Call, Deadline, Deps, Handler
from llmpipe.client.clock import Clock
from llmpipe.errors import Billed, TotalTimeout
from llmpipe.types import LLMResponse


def total_timeout(inner: Handler, deps: Deps) -> Handler:
    """End the call with TotalTimeout once `policy.timeout.total` seconds have passed since its first admission."""

    async def handle(call: Call) -> LLMResponse:
        total = call.policy.timeout.total
        call.deadline = Deadline(total)
        if total is None:
            return await inner(call)
        clock = Clock(None)
        call.deadline.on_start(clock.set)
        first = len(call.attempts)
        try:
            with clock:
                return await inner(call)
        except TimeoutError:
            if not clock.expired:
                raise
            raise _expired(call, first, total) from None

    return handle


def _expired(call: Call, first: int, total: float) -> TotalTimeout:
    attempts = call.attempts[first:]
    billed: Billed = "maybe" if any(a.billed == "maybe" for a in attempts) else "no"
    last = attempts[-1] if attempts else None
    text = f"no answer within {total:g} s (total), after {len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"
    if last is not None and last.error:
        text += f"; the last one: {last.error}"
    return TotalTimeout(text, billed=billed, raw=last.raw if last else None, status=last.status if last else None)
