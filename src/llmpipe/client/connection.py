"""One connection that speaks HTTP/1.1: a request goes out, its reply comes in piece by piece, head and pieces bounded.

    ask ──► bytes out            data_received ──► httptools (llhttp, strict) ──► Reply ──► ask returns at the head,
                                                                                            piece at each piece

One request at a time. What arrives beside the reply that was asked for makes the connection unfit for another one.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

MAX_HEADERS = 128
MAX_FIELD_BYTES = 16 * 1024
MAX_HEAD_BYTES = 256 * 1024
_AHEAD_BYTES = 256 * 1024  # of a body that nobody has taken yet; more is left to the kernel, and so to the sender


class NotHttp(Exception):
    """The server sent something that is no HTTP/1.1 reply, or one whose head is out of all bounds."""


class Disconnected(Exception):
    """The connection ended before the reply did."""


class Reply:
    """What has come of a reply so far. The parser calls `on_…`; trailers are dropped."""

    __slots__ = ("ended", "fields", "has_head", "parser", "pieces", "status", "stays", "unasked")

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.has_head = self.ended = False
        self.stays = False  # the connection may be used again
        self.unasked = False  # more came than one reply
        self.pieces: list[bytes] = []
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def release(self) -> None:
        """Let go of the parser, which refers to the reply: so neither has to be found by the search for cycles."""
        self.parser = None

    def on_message_begin(self) -> None:
        self.unasked = self.ended

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return
        if len(self.fields) >= MAX_HEADERS:
            raise NotHttp(f"more than {MAX_HEADERS} headers")
        if len(name) + len(value) > MAX_FIELD_BYTES:
            raise NotHttp(f"a header of more than {MAX_FIELD_BYTES:,} bytes")
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.unasked:
            return
        assert self.parser is not None
        self.status = self.parser.get_status_code()
        if self.status == 101:
            raise NotHttp("the server wants to speak another protocol")
        self.has_head = self.status >= 200  # others announce the reply that follows

    def on_body(self, data: bytes) -> None:
        if not self.unasked:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.has_head:
            if not self.ended:
                self.stays = self.parser is not None and self.parser.should_keep_alive()
            self.ended = True
        else:
            self.fields.clear()

    @property
    def is_delimited(self) -> bool:
        """Whether the head says where the body ends; otherwise it ends with the connection."""
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.fields)


class Connection(asyncio.Protocol):
    """A connection, once it is made. `ask`, then `piece` until it is None; then `is_fit` says whether to ask again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._fault: Exception | None = None
        self._over = False  # nothing more will come
        self._paused = False
        self._head_bytes = 0
        self.unused_since = 0.0

    @property
    def transport(self) -> asyncio.Transport:
        """What carries the bytes."""
        assert self._transport is not None
        return self._transport

    @property
    def is_fit(self) -> bool:
        """Whether another request may be sent: the last reply is complete, nothing else came, and nobody hung up."""
        reply = self._reply
        if self._over or self._fault is not None or self.transport.is_closing():
            return False
        return reply is None or (reply.stays and not reply.unasked and not reply.pieces)

    async def ask(self, request: bytes) -> Reply:
        """Send a request; the reply as soon as its head is there. Raises Disconnected, NotHttp."""
        self._reply = reply = Reply()
        self._head_bytes = 0
        if not self._over:
            self.transport.write(request)
        while not reply.has_head:
            await self._more()
        return reply

    async def piece(self) -> bytes | None:
        """What has come of the body since the last time, as soon as there is any; None at its end."""
        reply = self._reply
        assert reply is not None
        while not reply.pieces:
            if reply.ended:
                return None
            if self._over and self._fault is None and not reply.is_delimited:
                reply.ended = True
                return None
            await self._more()
        pieces, reply.pieces = reply.pieces, []
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abort(self) -> None:
        """Close it now, whatever is under way."""
        if self._reply is not None:
            self._reply.release()
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        """Wait until something has come. Raises what stands in the way of more."""
        if self._fault is not None:
            raise self._fault
        if self._over:
            raise Disconnected("the server closed the connection")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- called by the event loop ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        parser = None if reply is None else reply.parser
        if reply is None or parser is None:
            self._fault = NotHttp("the server spoke without being asked")
            self.abort()
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fault = NotHttp("the server wants to speak another protocol")
        except httptools.HttpParserError as error:
            self._fault = _refusal(error)
        else:
            self._bound(reply, len(data))
        if reply.ended:
            if self._fault is not None:
                reply.unasked, self._fault = True, None  # what follows a whole reply does not spoil it
            reply.release()
        self._wake()

    def _bound(self, reply: Reply, size: int) -> None:
        if not reply.has_head:
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fault = NotHttp(f"a head of more than {MAX_HEAD_BYTES:,} bytes")
        elif not reply.ended and sum(map(len, reply.pieces)) > _AHEAD_BYTES:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._over = True
        self._wake()
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if exc is not None and self._fault is None:
            self._fault = Disconnected(str(exc) or type(exc).__name__)
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _refusal(error: httptools.HttpParserError) -> NotHttp:
    cause = error.__context__
    return cause if isinstance(cause, NotHttp) else NotHttp(str(error) or type(error).__name__)
