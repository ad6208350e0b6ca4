"""Writes down each attempt: intent before anything is sent, outcome before anything uses it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.events import attempt_made
from llmpipe.errors import CallFailed, TotalTimeout
from llmpipe.types import Attempt, LLMResponse

RAW_CHARS = 256 * 1024  # how much of a reply that was no answer is kept


def journalled(inner: Handler, deps: Deps) -> Handler:
    """Make one `Attempt` of each pass, append it to the call, log it, and settle it in the journal if there is one.

    An attempt that is cancelled is settled too, as maybe billed once its request may have been sent (facts B2.8).
    Evidence is bounded and redacted here, before it goes anywhere else.
    """

    async def handle(call: Call) -> LLMResponse:
        number, journal = call.number, call.journal
        started, wall = deps.clock(), deps.wall()
        made: dict[str, Any] = {"number": number, "model": call.model.label, "started_at": wall}
        intended = False
        response: LLMResponse | None = None
        try:
            if journal is not None:
                await journal.intend(key=call.key, number=number, model=call.model.label, request_id=call.request_id)
            intended = True
            started = deps.clock()
            response = await inner(call)
        except CallFailed as err:
            _redact(err, deps)
            attempt = Attempt(**made, latency_s=deps.clock() - started, **_of_error(err))
            raise
        except BaseException as err:
            outcome = _of_cut(err, call, deps, sent=intended)
            attempt = Attempt(**made, latency_s=deps.clock() - started, **outcome)
            raise
        else:
            latency = deps.clock() - started
            attempt = Attempt(**made, latency_s=latency, **_of_answer(response))
            response = replace(
                response, request_id=call.request_id, latency_s=latency, answered_by=call.model.label
            )
            return response
        finally:
            call.attempts.append(attempt)
            attempt_made(deps.logger, call, attempt)
            if journal is not None:
                await journal.settle(key=call.key, attempt=attempt, response=response)

    return handle


def _of_answer(response: LLMResponse) -> dict[str, Any]:
    return {
        "outcome": "ok",
        "billed": "yes",
        "usage": response.usage,
        "provider_request_id": response.provider_request_id,
    }


def _of_error(err: CallFailed) -> dict[str, Any]:
    return {
        "outcome": err.kind,
        "code": err.code,
        "status": err.status,
        "error": err.message,
        "billed": err.billed,
        "usage": err.usage,
        "raw": err.raw,
        "provider_request_id": err.provider_request_id,
    }


def _of_cut(err: BaseException, call: Call, deps: Deps, *, sent: bool) -> dict[str, Any]:
    """What is known of an attempt that ended without an answer or a classified error."""
    billed = "maybe" if sent else "no"
    if not isinstance(err, asyncio.CancelledError):
        return {"outcome": type(err).__name__, "error": deps.redactor.text(str(err)), "billed": billed}
    left = call.deadline.left(deps.clock())
    if left is not None and left < 0.01:
        return {"outcome": TotalTimeout.__name__, "code": TotalTimeout.code, "error": "cut off", "billed": billed}
    return {"outcome": "Cancelled", "error": "cancelled", "billed": billed}


def _redact(err: CallFailed, deps: Deps) -> None:
    err.message = deps.redactor.text(err.message)
    err.args = (err.message,)
    if err.raw is not None:
        err.raw = deps.redactor.text(err.raw)[:RAW_CHARS]
    if err.details is not None:
        err.details = deps.redactor.data(err.details)
