"""The exchange itself: encode, send, decode; `echo` is answered here, without a network."""

from __future__ import annotations

import asyncio
import contextlib

from llmpipe.client.arrived import note_arrived
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.exchange import EVIDENCE_CHARS, Exchange
from llmpipe.client.large_replies import Share
from llmpipe.client.own import not_there
from llmpipe.errors import CallFailed
from llmpipe.providers.stream import StreamReader
from llmpipe.providers.wires import decode, encode, prefers_stream, reader_for
from llmpipe.types import HttpCall, HttpReply, LLMResponse


def provider(deps: Deps) -> Handler:
    """The innermost handler: one attempt at an answer, no policy."""

    async def handle(call: Call) -> LLMResponse:
        return await exchange(call, deps)

    return handle


async def exchange(call: Call, deps: Deps) -> LLMResponse:
    """One exchange with the provider of `call`. Raises the CallFailed that its reply or its lack amounts to."""
    if call.target.wire == "echo":
        return await _echo(call, deps)
    if call.target.wire == "own":
        if call.target.provider not in deps.own:
            raise not_there(call.target.provider)
        return await deps.own[call.target.provider](call)
    stream = prefers_stream(call.request, call.target) if call.model.stream is None else call.model.stream
    message = encode(call.request, call.target, stream=stream)
    reading = Share(deps.reading)
    try:
        reply = await (_streamed if stream else _whole)(message, call, deps, reading)
        await call.work.hold(len(reply.body))
        return _decoded(reply, call)
    except BaseException:
        call.work.release()
        raise
    finally:
        reading.release()


def _decoded(reply: HttpReply, call: Call) -> LLMResponse:
    try:
        return decode(reply, call.target, call.request)
    except CallFailed as error:
        if error.raw is None:
            error.raw = reply.body[:EVIDENCE_CHARS].decode("utf-8", "replace")
        raise


def _exchange(message: HttpCall, call: Call, deps: Deps) -> Exchange:
    return deps.transport.exchange(
        message, secret=_secret(call, deps), timeout=call.policy.timeout, allow_http=call.model.allow_http
    )


async def _whole(message: HttpCall, call: Call, deps: Deps, share: Share) -> HttpReply:
    exchange = _exchange(message, call, deps)
    try:
        return await exchange.whole(share)
    except asyncio.CancelledError as cut:
        raw = bytes(exchange.received[:EVIDENCE_CHARS]).decode("utf-8", "replace")
        note_arrived(cut, sent=exchange.sent, status=exchange.status, raw=raw)
        raise
    finally:
        await exchange.aclose()


async def _streamed(message: HttpCall, call: Call, deps: Deps, share: Share) -> HttpReply:
    """A streamed reply, put together; of one that broke off or was cut off, what had arrived is in the error."""
    reader: StreamReader | None = None
    exchange = _exchange(message, call, deps)
    try:
        await exchange.start()
        reader = reader_for(call.target, exchange.status, exchange.headers)
        await _read(exchange, reader, share)
        return reader.reply()
    except CallFailed as error:
        error.raw = (reader.partial() if reader is not None else None) or error.raw
        raise
    except asyncio.CancelledError as cut:
        raw = reader.partial() if reader is not None else None
        note_arrived(cut, sent=exchange.sent, status=exchange.status, raw=raw)
        raise
    finally:
        await exchange.aclose()


async def _read(exchange: Exchange, reader: StreamReader, share: Share) -> None:
    """Feed the reader until it has all it needs. What follows the terminal event is not waited for."""
    async with contextlib.aclosing(exchange.chunks()) as chunks:
        async for chunk in chunks:
            reader.feed(chunk)
            if reader.done:
                return
            await share.hold(reader.kept)


def _secret(call: Call, deps: Deps) -> str | None:
    """The first of the target's key variables that has a value."""
    for name in call.target.api_key_envs:
        value = deps.secrets(name)
        if value:
            return value
    return None


async def _echo(call: Call, deps: Deps) -> LLMResponse:
    """The embedded provider's answer, after the latency that it was told to have, so that every clock applies."""
    from llmpipe.providers import echo

    plan = echo.plan(call.request, attempt=call.number, model=call.target.model)
    if plan.delay_s > 0:
        await deps.sleep(plan.delay_s)
    else:
        await asyncio.sleep(0)
    if isinstance(plan.outcome, CallFailed):
        raise plan.outcome
    return plan.outcome
