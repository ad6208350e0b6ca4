"""Answers from the run's own journal: what an earlier process of the run was told is not asked again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.types import LLMResponse


def recalled(inner: Handler, deps: Deps) -> Handler:
    """Answer from `call.journal` where it holds the answer.

    Such an answer is marked "recalled", has no attempts and costs nothing: the run's accounts hold its price already.
    """

    async def handle(call: Call) -> LLMResponse:
        if call.journal is None:
            return await inner(call)
        response = call.journal.recall(call.key)
        if response is None:
            return await inner(call)
        notes = (*(n for n in response.notes if n != "recalled"), "recalled")
        return replace(response, notes=notes, attempts=(), cost_usd=Decimal(0), request_id=call.request_id)

    return handle
