"""Writes down each attempt: intent before anything is sent, outcome before anything uses it."""

from __future__ import annotations

import asyncio
from typing import Any

from llmpipe.client.arrived import arrived
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.events import attempt_made
from llmpipe.errors import CallFailed, TotalTimeout
from llmpipe.types import Attempt, LLMResponse

RAW_CHARS = 256 * 1024  # how much of a reply that was no answer is kept


def journalled(inner: Handler, deps: Deps) -> Handler:
    """Make one `Attempt` of each pass, append it to the call, log it, and settle it in the journal if there is one.

    An attempt that is cancelled is settled too, as maybe billed, because its request may have been sent (facts B2.8).
    Evidence is bounded and redacted here, before it goes anywhere else; a response is handed on as it came, and who
    writes it down takes the keys out that `Attempt.masked` names. A journal that refuses the intent (the run stops)
    makes no attempt.
    """

    async def handle(call: Call) -> LLMResponse:
        pass_ = _Pass(call, deps)
        await pass_.intend()
        response: LLMResponse | None = None
        try:
            response = pass_.answered(await inner(call))
            return response
        except CallFailed as err:
            pass_.failed(err)
            raise
        except BaseException as err:
            pass_.cut(err)
            raise
        finally:
            await pass_.settle(response)

    return handle


class _Pass:
    """One attempt, from its intent to its outcome."""

    def __init__(self, call: Call, deps: Deps) -> None:
        self._call, self._deps = call, deps
        self._number = call.number
        self._wall, self._started = deps.wall(), deps.clock()
        self._attempt: Attempt | None = None

    async def intend(self) -> None:
        call = self._call
        if call.journal is None:
            return
        try:
            await call.journal.intend(
                key=call.key,
                number=self._number,
                model=call.model,
                request_id=call.request_id,
                reserved=call.reserved,
            )
        except asyncio.CancelledError:
            self._end(outcome="Cancelled", error="cancelled before it was sent")
            await self.settle(None)
            raise
        self._started = self._deps.clock()

    def answered(self, response: LLMResponse) -> LLMResponse:
        redactor, id = self._deps.redactor, response.provider_request_id
        self._end(
            outcome="ok",
            billed="yes",
            usage=response.usage,
            provider_request_id=id and redactor.known(id),
            masked=redactor.names(*_texts(response)),
        )
        assert self._attempt is not None
        return response.having(
            request_id=self._call.request_id,
            latency_s=self._attempt.latency_s,
            answered_by=self._call.model.label,
        )

    def failed(self, err: CallFailed) -> None:
        masked = self._deps.redactor.names(err.message, err.raw or "", str(err.details or ""))
        _redact(err, self._deps)
        self._end(
            masked=masked,
            outcome=err.kind,
            code=err.code,
            status=err.status,
            error=err.message,
            billed=err.billed,
            usage=err.usage,
            raw=err.raw,
            provider_request_id=err.provider_request_id,
        )

    def cut(self, err: BaseException) -> None:
        """An end without an answer or a classified error: what the provider made of the request is not known."""
        if not isinstance(err, asyncio.CancelledError):
            self._end(outcome=type(err).__name__, error=self._deps.redactor.text(str(err)), billed="maybe")
            return
        seen = {"billed": "maybe", **arrived(err)}
        if seen.get("raw"):
            seen["raw"] = self._deps.redactor.text(seen["raw"])[:RAW_CHARS]
        left = self._call.deadline.left(self._deps.clock())
        if left is not None and left < 0.01:
            self._end(outcome=TotalTimeout.__name__, code=TotalTimeout.code, error="cut off", **seen)
        else:
            self._end(outcome="Cancelled", error="cancelled", **seen)

    async def settle(self, response: LLMResponse | None) -> None:
        call, attempt = self._call, self._attempt
        assert attempt is not None
        call.attempts.append(attempt)
        attempt_made(self._deps.logger, call, attempt)
        if call.journal is not None:
            await call.journal.settle(key=call.key, attempt=attempt, response=response)

    def _end(self, **outcome: Any) -> None:
        self._attempt = Attempt(
            number=self._number,
            model=self._call.model.label,
            started_at=self._wall,
            latency_s=self._deps.clock() - self._started,
            **outcome,
        )


def _texts(response: LLMResponse) -> tuple[str, ...]:
    """Whatever a provider may echo a key in."""
    rest = (response.reasoning or "", response.provider_request_id or "", *response.rate_limits.values())
    return (response.text, response.model, *rest)


def _redact(err: CallFailed, deps: Deps) -> None:
    err.message = deps.redactor.text(err.message)
    err.args = (err.message,)
    for name in ("provider_request_id", "provider_code"):
        if getattr(err, name) is not None:
            setattr(err, name, deps.redactor.text(getattr(err, name)))
    if err.raw is not None:
        err.raw = deps.redactor.text(err.raw)[:RAW_CHARS]
    if err.details is not None:
        err.details = deps.redactor.data(err.details)
