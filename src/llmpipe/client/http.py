"""The one module that speaks HTTP: one request out, one bounded reply back, every fault under its own name.

httpx gives the request and reply objects; the connections are aiohttp's, through httpx-aiohttp. httpx's own pool scans
every connection for every request and costs 18 ms of CPU a call at 256 in flight; this transport, called without
httpx's client layer, costs 0.05 ms more than bare aiohttp (`make bench`).
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llmpipe.client.proxies import Proxies, checked_host
from llmpipe.client.transport_faults import fault_of
from llmpipe.errors import BadReply, CallFailed, CallTimeout, InternalError, KeyRefused, ReplyTooLarge
from llmpipe.policy import Timeout
from llmpipe.types import HttpCall, HttpReply

if TYPE_CHECKING:
    import httpx

MAX_REPLY_BYTES = 8 * 1024 * 1024  # the longest answers of today's models are below 2 MB
MAX_HEADERS = 128
MAX_FIELD_BYTES = 16 * 1024
EVIDENCE_CHARS = 64 * 1024  # how much of a broken reply goes into a failure file
KEEP_ALIVE_S = 30.0


class Transport:
    """A pool of connections for one event loop. Never follows a redirect, never decodes a body, never skips TLS checks.

    The pool has no limit of its own: the gates decide how many calls are in flight, and every connection is kept.
    `proxies` and `ca_file` (a PEM bundle instead of certifi's, as SSL_CERT_FILE means it) come from the caller:
    nothing here reads the environment.
    """

    def __init__(
        self, *, proxies: Proxies | None = None, ca_file: str | None = None, max_reply_bytes: int = MAX_REPLY_BYTES
    ) -> None:
        self._proxies = proxies or Proxies()
        self._ca_file = ca_file
        self._max_reply_bytes = max_reply_bytes
        self._pools: dict[tuple[bool, str | None], Any] = {}
        self._by_url: dict[str, Any] = {}
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # its command line, rich and click: 50 ms
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(
        self, call: HttpCall, *, secret: str | None = None, timeout: Timeout = Timeout(), allow_http: bool = False
    ) -> HttpReply:
        """Send `call` and read the whole reply, of whatever status.

        `secret` goes into the header that `call.auth_header` names and nowhere else. Of `timeout`, the clocks connect,
        first_token and idle run here; attempt and total are the layers'. Raises CallTimeout, NetworkFault, StreamCut,
        BadReply, ReplyTooLarge, PlainHttpRefused, KeyRefused.
        """
        exchange = self.exchange(call, secret=secret, timeout=timeout, allow_http=allow_http)
        try:
            return await exchange.whole()
        finally:
            await exchange.aclose()

    def exchange(
        self, call: HttpCall, *, secret: str | None = None, timeout: Timeout = Timeout(), allow_http: bool = False
    ) -> Exchange:
        """An exchange that is read as it comes; `async with` starts it and closes it. Raises as `send` does."""
        host = checked_host(call.url, allow_http)
        request = _request(call, secret, timeout)
        return Exchange(self._pool(call.url), request, host, timeout, self._max_reply_bytes)

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = list(self._pools.values()), {}
        self._by_url.clear()
        for pool in pools:
            await pool.aclose()

    def _pool(self, url: str) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise InternalError("a Transport belongs to one event loop")
        self._loop = loop
        pool = self._by_url.get(url)
        if pool is None:
            key = (url.startswith("https:"), self._proxies.for_url(url))
            if key not in self._pools:
                self._pools[key] = _new_pool(tls=key[0], proxy=key[1], ca_file=self._ca_file)
            pool = self._by_url[url] = self._pools[key]
        return pool


class Exchange:
    """One request and its reply. After `start`: `status`, `headers`, then `chunks()`; or `whole()` alone."""

    def __init__(self, pool: Any, request: httpx.Request, host: str, timeout: Timeout, max_bytes: int) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.received = bytearray()  # what has arrived of the body so far
        self._pool, self._request, self._host, self._timeout, self._max_bytes = pool, request, host, timeout, max_bytes
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> Exchange:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Send the request and read the reply's head; the clock first_token runs."""
        try:
            async with asyncio.timeout(self._timeout.first_token):
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
                async with asyncio.timeout(seconds):
                    chunk = await self._next()
            except TimeoutError as error:
                raise self._timed_out(clock) from error
            if chunk is None:
                return
            del self.received[EVIDENCE_CHARS:]
            yield chunk
            clock, seconds = "idle", self._timeout.idle

    async def whole(self) -> HttpReply:
        """Send the request and read the reply to its end, under one timer that changes its meaning on the way."""
        clock = "first_token"
        try:
            async with asyncio.timeout(self._timeout.first_token) as timer:
                await self._open()
                while await self._next() is not None:
                    clock = "idle"
                    timer.reschedule(_later(self._timeout.idle))
        except TimeoutError as error:
            raise self._timed_out(clock) from error
        return HttpReply(self.status, self.headers, bytes(self.received))

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
        text = f"{self._host}: {words} within {seconds:g} s (clock {clock})"
        return CallTimeout(text, clock=clock, **{"billed": "maybe", **self._evidence()})

    def _too_large(self) -> ReplyTooLarge:
        text = f"{self._host}: the reply is larger than {self._max_bytes:,} bytes"
        return ReplyTooLarge(text, **self._evidence())

    def _evidence(self) -> dict[str, Any]:
        if not self.status:
            return {}
        raw = bytes(self.received[:EVIDENCE_CHARS]).decode("utf-8", "replace")
        return {"status": self.status, "raw": raw or None, "billed": "maybe"}


def _later(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _request(call: HttpCall, secret: str | None, timeout: Timeout) -> httpx.Request:
    import httpx

    connect: dict[str, float] = {} if timeout.connect is None else {"pool": timeout.connect}
    request = httpx.Request(
        call.method,
        _url(call.url),
        headers=_headers(tuple(call.headers.items()), call.auth_header, call.auth_prefix, secret),
        stream=httpx.ByteStream(call.body),
        extensions={"timeout": connect},
    )
    request.read()
    return request


@lru_cache(maxsize=256)
def _headers(
    own: tuple[tuple[str, str], ...], auth_header: str | None, auth_prefix: str, secret: str | None
) -> httpx.Headers:
    """The headers of all calls that differ in their bodies alone; making them anew costs 60 µs a call."""
    import httpx

    headers = {name.lower(): value for name, value in own}
    headers["accept-encoding"] = "identity"  # decoding a hostile body has no bound (facts C, httpx)
    headers.setdefault("content-type", "application/json")
    headers.setdefault("user-agent", "llmpipe")
    if auth_header and secret is not None:
        headers[auth_header.lower()] = auth_prefix + _checked_secret(secret)
    return httpx.Headers(headers, encoding="latin-1")


@lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    import httpx

    return httpx.URL(url)


def _checked_secret(secret: str) -> str:
    """The key as it may stand in a header; an exception of the HTTP library would quote it."""
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        error = KeyRefused("the API key has characters that cannot stand in a header (a line break, a space?)")
        error.sent = False
        raise error
    return secret


def _header_mapping(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated ones joined with a comma, as HTTP allows. At most MAX_HEADERS fields."""
    fields: dict[str, str] = {}
    for name, value in raw[:MAX_HEADERS]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


def _new_pool(*, tls: bool, proxy: str | None, ca_file: str | None) -> Any:
    import aiohttp
    import httpx
    from httpx_aiohttp import AiohttpTransport

    context = _tls_context(ca_file) if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )

    return AiohttpTransport(client=session, verify=context, proxy=httpx.Proxy(proxy) if proxy else None)


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    import httpx

    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    return httpx.create_ssl_context(verify=True, trust_env=False)
