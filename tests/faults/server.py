"""A server on loopback that misbehaves by name: `with FaultServer(["rate_limit", "ok"]) as server: ... server.url`.

It runs in a thread of its own, so that synchronous code, asyncio code and child processes can all be tested against it.
`plan` is a list of fault names, one per request, the last one repeated; or a function from the request's number
(from 0) and its body to a name. The wire is told from the path; the base URLs are `server.base(wire)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults import replies, streams

Plan = Sequence[str] | Callable[[int, bytes], str]


@dataclass
class Seen:
    """One request as the server saw it."""

    fault: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    in_flight: int
    closed_after: float | None = None  # seconds until the client hung up before it had a whole reply


Then = Callable[[], Awaitable[str]]


@dataclass
class Exchange:
    """What a fault works with."""

    seen: Seen
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    text: str
    echo: Callable[[str], str] | None = None  # what to say of the key that came, wherever there is room for it
    then: Then | None = None  # what a slow reply is in the end
    wire: str = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.wire = replies.wire_of(self.seen.path.partition("?")[0])
        headers = self.seen.headers
        key = headers.get("authorization", "").removeprefix("Bearer ")
        self.key = key or headers.get("x-api-key", "") or headers.get("x-goog-api-key", "")
        self.said = f" {self.echo(self.key)}" if self.echo is not None else ""
        self.text += self.said

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
        if self.echo is not None:
            headers = (*headers, f"x-ratelimit-limit-requests: {self.key}")
            if not body.startswith(b"{") or body == b"{'single': quotes}":
                body += self.said.encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def error(self, kind: str, status: int, *headers: str) -> None:
        await self.reply(status, replies.error(self.wire, kind, status, self.key, more=self.said), *headers)

    @property
    def streamed(self) -> bool:
        return streams.asked_for(self.seen.path, self.seen.body)

    async def start_stream(self) -> None:
        head = ["HTTP/1.1 200 OK", f"Content-Type: {streams.kind(self.wire)}", "Transfer-Encoding: chunked"]
        await self.raw("\r\n".join(head).encode() + b"\r\n\r\n")

    async def event(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def events(self, *, most: int | None = None) -> None:
        """A stream's head and its first `most` events; all of them and the end of the body if None."""
        await self.start_stream()
        for data in streams.events(self.wire, self.text)[:most]:
            await self.event(data)
        if most is None:
            await self.raw(b"0\r\n\r\n")

    def good(self) -> bytes:
        return json.dumps(replies.answer(self.wire, self.text)).encode()

    async def until_client_closes(self) -> None:
        """Silence, until the client hangs up."""
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            await self.reader.read()
        self.seen.closed_after = time.monotonic() - start


Fault = Callable[[Exchange], Awaitable[None]]
FAULTS: dict[str, Fault] = {}
CLOSES: set[str] = set()  # faults after which the server hangs up


def fault(*, closes: bool = False) -> Callable[[Fault], Fault]:
    """Enter a function into FAULTS under its name."""

    def enter(function: Fault) -> Fault:
        name = function.__name__.strip("_")
        FAULTS[name] = function
        if closes:
            CLOSES.add(name)
        return function

    return enter


def _error_row(name: str, kind: str, status: int, *headers: str) -> None:
    async def give(x: Exchange) -> None:
        await x.error(kind, status, *headers)

    FAULTS[name] = give


for _row in (
    ("rate_limit", "rate_limit", 429),
    ("rate_limit_1s", "rate_limit", 429, "Retry-After: 1"),
    ("rate_limit_ms", "rate_limit", 429, "retry-after-ms: 200"),
    ("rate_limit_hour", "rate_limit", 429, "Retry-After: 3600"),
    ("rate_limit_bad_hint", "rate_limit", 429, "Retry-After: 1e308"),
    ("rate_limit_negative", "rate_limit", 429, "Retry-After: -5"),
    ("overloaded", "overloaded", 529),
    ("unavailable", "overloaded", 503),
    ("server_error", "server_error", 500),
    ("should_not_retry", "server_error", 500, "x-should-retry: false"),
    ("key_refused", "key_refused", 401),
    ("access_denied", "denied", 403),
    ("quota", "quota", 429),
    ("model_unknown", "model_unknown", 404),
    ("bad_request", "bad_request", 400),
    ("rate_limit_date", "rate_limit", 429, "Retry-After: Fri, 01 Jan 2099 00:00:00 GMT"),
    ("request_timeout", "server_error", 408),
    ("bad_gateway", "server_error", 502),
    ("context_length", "context_length", 400),
    ("content_filter", "content_filter", 400),
    ("schema_rejected", "schema_rejected", 400),
    ("error_with_200", "overloaded", 200),
    ("should_retry", "bad_request", 400, "x-should-retry: true"),
):
    _error_row(*_row)


def _body_row(name: str, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
    async def give(x: Exchange) -> None:
        await x.reply(status, body, *headers, kind=kind)

    FAULTS[name] = give


_PAGE = b"<!doctype html><html><body><h1>Just a moment...</h1></body></html>"
_body_row("html_200", 200, _PAGE, kind="text/html")
_body_row("html_502", 502, _PAGE, kind="text/html")
_body_row("empty_body", 200, b"")
_body_row("not_json", 200, b"{'single': quotes}")
_body_row("null_json", 200, b"null")
_body_row("deep_json", 200, b"[" * 200_000)
_body_row("nan_json", 200, b'{"choices": NaN}')
_body_row("bad_utf8", 200, b'{"choices": "\xff\xfe"}')
_body_row("redirect_file", 302, b"", "Location: file:///etc/passwd")
_body_row("redirect", 307, b"", "Location: http://169.254.169.254/latest/meta-data")
_body_row("twice_gzip", 200, b"\x1f\x8b" + b"\0" * 40, "Content-Encoding: gzip, gzip")
_body_row("gzip", 200, b"\x1f\x8b" + b"\0" * 40, "Content-Encoding: gzip")
_body_row("many_headers", 200, b"{}", *(f"x-h{i}: {i}" for i in range(100_000)))
_body_row("long_header", 200, b"{}", "x-long: " + "a" * 1_000_000)


def _ended_row(how: str) -> None:
    async def give(x: Exchange) -> None:
        await x.reply(200, json.dumps(replies.ended(x.wire, how, x.text)).encode())

    FAULTS[f"ends_{how}"] = give


for _how in ("length", "refusal", "filtered", "unknown", "empty"):
    _ended_row(_how)


@fault()
async def surrogate(x: Exchange) -> None:
    """A whole answer with half a surrogate pair in its text."""
    await x.reply(200, x.good().replace(b"hello", b"hel\\ud800lo"))


@fault()
async def twice_named(x: Exchange) -> None:
    """A whole answer, and the same names once more."""
    await x.reply(200, x.good()[:-1] + b", " + x.good()[1:])


@fault()
async def many_values(x: Exchange) -> None:
    """Small on the wire, large once it is read."""
    await x.reply(200, x.good()[:-1] + b', "more": [' + b"[]," * 2_000_000 + b"[]]}")


@fault()
async def long_answer(x: Exchange) -> None:
    """Longer than any model's answer, in characters that take four bytes each once they are read."""
    await x.reply(200, json.dumps(replies.answer(x.wire, "\U0001f600" + "a" * 1_000_000)).encode())


@fault()
async def utf16(x: Exchange) -> None:
    await x.reply(200, x.good().decode().encode("utf-16"), kind="application/json; charset=utf-16")


@fault()
async def escapes(x: Exchange) -> None:
    """What would take over a terminal if it were printed as it came."""
    body = replies.error(x.wire, "bad_request", 400, more=" \x1b[2J\x1b]0;owned\x07\u202e\r\n" + x.said)
    await x.reply(400, body)


@fault(closes=True)
async def endless_head(x: Exchange) -> None:
    """Headers without end, as fast as they are taken."""
    await x.raw(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(ConnectionError):
        while not x.reader.at_eof():
            await x.raw(b"x-more: " + b"a" * 1000 + b"\r\n")
    x.seen.closed_after = 0.0


@fault()
async def ok(x: Exchange) -> None:
    if x.streamed:
        await x.events()
        return
    await x.reply(200, x.good(), "x-request-id: req_1")


@fault()
async def slow(x: Exchange) -> None:
    """A reply that is decided on when its time has come, as by a server that goes down with requests in flight."""
    await asyncio.sleep(0.05)
    x.seen.fault = await x.then() if x.then else "ok"
    await FAULTS[x.seen.fault](x)


@fault(closes=True)
async def ok_then_close(x: Exchange) -> None:
    await x.reply(200, x.good(), "Connection: close")


@fault()
async def ok_then_silent_close(x: Exchange) -> None:
    """The reply promises keep-alive, and the connection is closed all the same."""
    await ok(x)
    x.writer.close()


@fault()
async def ok_chunked(x: Exchange) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [x.good()[i : i + 7] for i in range(0, len(x.good()), 7)]
    await x.raw(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")


@fault(closes=True)
async def ok_close_delimited(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + x.good())


@fault()
async def silence(x: Exchange) -> None:
    await x.until_client_closes()


@fault()
async def silence_after_head(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    await x.until_client_closes()


@fault()
async def silence_in_body(x: Exchange) -> None:
    await x.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"partial')
    await x.until_client_closes()


async def _drip(x: Exchange, data: bytes) -> None:
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for byte in data:
            await x.raw(bytes([byte]))
            await asyncio.sleep(0.05)
            if x.reader.at_eof():
                break
    x.seen.closed_after = time.monotonic() - start


@fault(closes=True)
async def drip_head(x: Exchange) -> None:
    await _drip(x, b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 2000)


@fault(closes=True)
async def drip_body(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await _drip(x, b"a" * 2000)


@fault(closes=True)
async def hang_up(x: Exchange) -> None:
    pass


@fault(closes=True)
async def reset(x: Exchange) -> None:
    x.writer.transport.abort()


@fault(closes=True)
async def cut_length(x: Exchange) -> None:
    await x.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"partial": true')


@fault(closes=True)
async def cut_chunked(x: Exchange) -> None:
    await x.raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"partia\r\n')


@fault(closes=True)
async def cut_close_delimited(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + x.good()[:40])


@fault(closes=True)
async def not_http(x: Exchange) -> None:
    await x.raw(b"SSH-2.0-OpenSSH_9.6\r\n")


@fault(closes=True)
async def two_lengths(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\n{}xxxxx")


@fault(closes=True)
async def huge_length(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n{")
    await x.until_client_closes()


@fault(closes=True)
async def endless_body(x: Exchange) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        while not x.reader.at_eof():
            await x.raw(piece)
    x.seen.closed_after = 0.0


@fault()
async def stream_slow(x: Exchange) -> None:
    """More than a second in all, and never silent for long."""
    await x.start_stream()
    events = streams.events(x.wire, x.text)
    for data in events:
        for _ in range(1 + 24 // len(events)):
            await asyncio.sleep(0.05)
            await x.event(b"\n" if x.wire == "ollama" else b": ping\n\n")
        await x.event(data)
    await x.raw(b"0\r\n\r\n")


@fault(closes=True)
async def stream_cut(x: Exchange) -> None:
    """The connection closes in the midst of a chunked body."""
    await x.events(most=-1)


@fault()
async def stream_unfinished(x: Exchange) -> None:
    """The body ends as HTTP wants it, without the terminal event."""
    await x.events(most=-1)
    await x.raw(b"0\r\n\r\n")


@fault(closes=True)
async def stream_close_delimited(x: Exchange) -> None:
    """Cut where only the terminal event could tell: no length, no chunks."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {streams.kind(x.wire)}\r\n\r\n".encode()
    await x.raw(head + b"".join(streams.events(x.wire, x.text)[:-1]))


@fault()
async def stream_error(x: Exchange) -> None:
    await x.events(most=-1)
    await x.event(streams.error(x.wire))
    await x.raw(b"0\r\n\r\n")


@fault(closes=True)
async def stream_stall(x: Exchange) -> None:
    await x.events(most=-1)
    await x.until_client_closes()


@fault(closes=True)
async def stream_stall_at_head(x: Exchange) -> None:
    await x.start_stream()
    await x.until_client_closes()


@fault(closes=True)
async def stream_comments(x: Exchange) -> None:
    """Signs of life without end, and never another event."""
    await x.events(most=-1)
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while not x.reader.at_eof():
            await x.event(b"\n" if x.wire == "ollama" else b": ping\n\n")
            await asyncio.sleep(0.02)
    x.seen.closed_after = time.monotonic() - start


@fault(closes=True)
async def stream_endless(x: Exchange) -> None:
    """One event again and again, as fast as they are taken."""
    await x.start_stream()
    data = streams.events(x.wire, "a" * 8192)[
        -2 if x.wire in ("ollama", "gemini") else 3 if x.wire == "anthropic" else 1
    ]
    with contextlib.suppress(ConnectionError):
        while not x.reader.at_eof():
            await x.event(data)
    x.seen.closed_after = 0.0


@fault(closes=True)
async def stream_long_line(x: Exchange) -> None:
    """A line without end."""
    await x.start_stream()
    await x.event(b'{"a": "' if x.wire == "ollama" else b'data: {"a": "')
    with contextlib.suppress(ConnectionError):
        while not x.reader.at_eof():
            await x.event(b"a" * 65536)
    x.seen.closed_after = 0.0


@fault()
async def stream_not_json(x: Exchange) -> None:
    await x.start_stream()
    await x.event(b"{'single'\n" if x.wire == "ollama" else b"data: {'single'\n\n")
    await x.raw(b"0\r\n\r\n")


class FaultServer:
    """See the module's first line. `requests` is what came, `peak` the most in flight at once."""

    def __init__(
        self,
        plan: Plan = ("ok",),
        *,
        text: str = "hello",
        echo: Callable[[str], str] | None = None,
        then: Then | None = None,
    ) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self.peak = 0
        self._plan, self._text, self._in_flight, self._echo, self._then = plan, text, 0, echo, then
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def base(self, wire: str) -> str:
        """The base URL to configure for a provider of that wire (facts A1)."""
        return self.url + ("/v1" if wire.startswith("openai") else "")

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._in_flight

    def names(self) -> list[str]:
        return [seen.fault for seen in self.requests]

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=64 * 1024 * 1024, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        with contextlib.suppress(ConnectionError, RuntimeError):
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        number = len(self.requests)
        name = self._plan(number, body) if callable(self._plan) else self._plan[min(number, len(self._plan) - 1)]
        self._in_flight += 1
        self.peak = max(self.peak, self._in_flight)
        path = head[0].split(" ")[1]
        seen = Seen(name, path, headers, body, time.monotonic(), self._in_flight)
        self.requests.append(seen)
        try:
            await FAULTS[name](Exchange(seen, reader, writer, self._text, self._echo, self._then))
        finally:
            self._in_flight -= 1
        return seen.fault not in CLOSES


def wait_until(condition: Callable[[], Any], *, seconds: float = 60.0) -> bool:
    """True once `condition` holds; False if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
