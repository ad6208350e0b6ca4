"""One exchange as it comes: the request goes out, the reply's head and body come in, within clocks and bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from llmpipe.client.clock import Clock
from llmpipe.client.large_replies import Share, unbounded
from llmpipe.client.transport_faults import fault_of
from llmpipe.errors import BadReply, CallFailed, CallTimeout, ReplyTooLarge
from llmpipe.policy import Timeout
from llmpipe.types import HttpReply

if TYPE_CHECKING:
    import httpx

EVIDENCE_CHARS = 64 * 1024  # how much of a broken reply goes into a failure file


class Exchange:
    """One request and its reply. After `start`: `status`, `headers`, then `chunks()`; or `whole()` alone."""

    def __init__(self, pool: Any, request: httpx.Request, host: str, timeout: Timeout, max_bytes: int) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.received = bytearray()  # what has arrived of the body so far
        self._pool, self._request, self._host, self._timeout, self._max_bytes = pool, request, host, timeout, max_bytes
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] | None = None

    @property
    def sent(self) -> bool:
        """False while there is no connection yet over which anything could be sent."""
        return "sent" in self._request.extensions

    async def __aenter__(self) -> Exchange:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Send the request and read the reply's head; the clock first_token runs."""
        try:
            with Clock(self._timeout.first_token):
                await self._open()
        except TimeoutError as error:
            raise self._timed_out("first_token") from error

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; first_token runs until its first byte, then idle between any two.

        Only its beginning is kept here, as evidence; how much is too much is for the reader to say.
        """
        clock, seconds = "first_token", self._timeout.first_token
        while True:
            try:
                with Clock(seconds):
                    chunk = await self._next()
            except TimeoutError as error:
                raise self._timed_out(clock) from error
            if chunk is None:
                return
            del self.received[EVIDENCE_CHARS:]
            yield chunk
            clock, seconds = "idle", self._timeout.idle

    async def whole(self, share: Share | None = None) -> HttpReply:
        """Send the request and read the reply to its end, under one timer that changes its meaning on the way.

        What has come is held in `share`, and no more is read while that has to wait.
        """
        share = unbounded() if share is None else share
        name = "first_token"
        try:
            with Clock(self._timeout.first_token) as clock:
                await self._open()
                while await self._next() is not None:
                    name = "idle"
                    await share.hold(len(self.received))
                    clock.set(self._timeout.idle)
        except TimeoutError as error:
            raise self._timed_out(name) from error
        body, self.received = self.received, bytearray()
        return HttpReply(self.status, self.headers, body)

    async def aclose(self) -> None:
        """Close the reply; a connection with anything unread on it is closed for real. Never raises for the network."""
        response, self._response = self._response, None
        if response is None:
            return
        try:
            await response.stream.aclose()  # type: ignore[union-attr]
        except Exception as error:
            if fault_of(error, self._host) is None:
                raise

    async def _open(self) -> None:
        try:
            self._response = response = await self._pool.handle_async_request(self._request)
        except Exception as error:
            raise self._named(error) from error
        self.status = response.status_code
        self.headers = _header_mapping(response.headers.raw)
        self._refuse_head()
        self._body = response.stream.__aiter__()

    async def _next(self) -> bytes | None:
        assert self._body is not None
        try:
            chunk = await anext(self._body, None)
        except Exception as error:
            raise self._named(error) from error
        if chunk is not None:
            self.received += chunk
            if len(self.received) > self._max_bytes:
                raise self._too_large()
        return chunk

    def _refuse_head(self) -> None:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            text = f"{self._host}: the reply is encoded as {encoding[:40]!r}, though only identity was accepted"
            raise BadReply(text, status=self.status, billed="maybe")
        if self.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise BadReply(f"{self._host}: the reply is not sent as HTTP asks", status=self.status, billed="maybe")
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()

    def _named(self, error: Exception) -> Exception:
        """The error under its own name, with what had arrived; an exception of our own making stays what it is."""
        fault = fault_of(error, self._host, **self._evidence())
        return error if fault is None else fault

    def _timed_out(self, clock: str) -> CallFailed:
        seconds = getattr(self._timeout, clock)
        words = "nothing came back" if clock == "first_token" else "nothing more came"
        words = words if self.sent else "no connection"
        text = f"{self._host}: {words} within {seconds:g} s (clock {clock})"
        return CallTimeout(text, clock=clock, **{"billed": "maybe" if self.sent else "no", **self._evidence()})

    def _too_large(self) -> ReplyTooLarge:
        text = f"{self._host}: the reply is larger than {self._max_bytes:,} bytes"
        return ReplyTooLarge(text, **self._evidence())

    def _evidence(self) -> dict[str, Any]:
        if not self.status:
            return {}
        raw = bytes(self.received[:EVIDENCE_CHARS]).decode("utf-8", "replace")
        return {"status": self.status, "raw": raw or None, "billed": "maybe"}


def _header_mapping(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated ones joined with a comma, as HTTP allows."""
    fields: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields
