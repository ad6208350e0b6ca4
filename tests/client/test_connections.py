"""Connections over real sockets: what is read as a reply, when one is used again, and the way through proxies."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from llmpipe.client.connection import MAX_HEADERS, Disconnected, NotHttp
from llmpipe.client.connections import Connections, Host
from llmpipe.client.proxies import Proxies
from llmpipe.client.transport import Transport
from llmpipe.errors import BadReply, BadRequest, CallTimeout, NetworkFault
from llmpipe.policy import Timeout
from llmpipe.types import HttpCall, HttpReply

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Script:
    """A server that answers the n-th request on any connection with the n-th entry; an empty one hangs up."""

    def __init__(self, replies: Sequence[bytes]) -> None:
        self.replies = list(replies)
        self.connections = 0
        self.heads: list[bytes] = []
        self.ended = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                self.heads.append(head)
                reply = self.replies[min(len(self.heads), len(self.replies)) - 1]
                writer.write(reply)
                if not reply or b"Connection: close" in reply:
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                    return
        finally:
            self.ended += 1


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of a request whose body is read too; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    await reader.readexactly(int(length or 0))
    return head


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server's port; at the end all that it has begun is over."""
    begun: set[asyncio.Task[Any] | None] = set()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(noted, "127.0.0.1", 0, ssl=tls) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            if begun:
                await asyncio.wait(list(begun), timeout=60)  # type: ignore[type-var]
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in this loop."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def served(serve: Serve, use: Callable[[int], Awaitable[Any]]) -> Any:
    """What `use` makes of a server's port."""

    async def main() -> Any:
        async with serving(serve) as port:
            return await use(port)

    return asyncio.run(main())


def sent(serve: Serve, times: int = 1, **transport: Any) -> list[HttpReply]:
    """The replies to requests that are sent one after another."""

    async def use(port: int) -> list[HttpReply]:
        way = Transport(**transport)
        try:
            call = HttpCall(f"http://127.0.0.1:{port}/v1?a=b", b'{"a":1}')
            return [await way.send(call, timeout=Timeout(connect=60, first_token=60, idle=60)) for _ in range(times)]
        finally:
            await way.aclose()

    found: list[HttpReply] = served(serve, use)
    return found


def test_a_request_is_sent_as_http_asks() -> None:
    script = Script([OK])
    sent(script)
    first, *fields = script.heads[0].decode().split("\r\n")
    assert first == "POST /v1?a=b HTTP/1.1"
    names = [field.partition(":")[0].lower() for field in fields if field]
    assert sorted(names) == ["accept-encoding", "content-length", "content-type", "host", "user-agent"]
    assert fields[0].startswith("Host: 127.0.0.1:")
    assert "Content-Length: 7" in fields


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2], ids=["100", "103"]
)
def test_what_announces_a_reply_is_passed_over(before: bytes) -> None:
    replies = sent(Script([before + OK]), times=2)
    assert [(reply.status, reply.body, dict(reply.headers)) for reply in replies] == [
        (200, b"{}", {"content-length": "2"})
    ] * 2


def test_trailers_are_no_headers() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Late: 1\r\n\r\n"
    script = Script([chunked])
    replies = sent(script, times=2)
    assert [(reply.body, dict(reply.headers)) for reply in replies] == [(b"{}", {"transfer-encoding": "chunked"})] * 2
    assert script.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSpaced : 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 400_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"ICY 200 OK\r\n\r\n{}",
        b'{"error": "what?"}\n',
    ],
)
def test_a_reply_that_is_none_is_refused_as_such(reply: bytes) -> None:
    with pytest.raises(BadReply) as caught:
        sent(Script([reply + b"Connection: close"]))
    assert caught.value.billed == "maybe"


@pytest.mark.parametrize("more", [OK, b"nonsense", b"\r\n\r\nGET / HTTP/1.1\r\n"])
def test_what_follows_a_whole_reply_belongs_to_no_other_request(more: bytes) -> None:
    script = Script([OK + more])
    assert [reply.body for reply in sent(script, times=2)] == [b"{}", b"{}"]
    assert script.connections == 2


def test_a_connection_that_speaks_while_it_is_unused_is_dropped() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await _head(reader):
            writer.write(OK)
            await writer.drain()
            await answered.wait()
            answered.clear()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def use(port: int) -> list[bytes]:
        way, bodies = Transport(), []
        for _ in range(2):
            bodies.append((await way.send(HttpCall(f"http://127.0.0.1:{port}/", b"{}"))).body)
            answered.set()
            await asyncio.sleep(0.2)
        await way.aclose()
        return bodies

    connections, answered = 0, asyncio.Event()
    assert served(serve, use) == [b"{}", b"{}"]
    assert connections == 2


def test_an_old_protocol_and_a_body_up_to_the_end_are_read() -> None:
    script = Script([b'HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{"a": 1}'])
    assert [reply.body for reply in sent(script, times=2)] == [b'{"a": 1}'] * 2
    assert script.connections == 2


def test_unused_connections_are_closed_after_a_while() -> None:
    async def use(port: int) -> bool:
        connections = Connections(keep_s=2.0)
        host = Host("127.0.0.1", port)
        several = [await connections.take(host, within_s=60) for _ in range(3)]
        for one in several:
            await one.ask(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            while await one.piece():
                pass
            connections.give_back(host, one)
        again = await connections.take(host, within_s=60)
        await until(lambda: script.ended == 2)  # one is in use: that is not closed before the end
        await connections.aclose()
        return again is several[-1]

    script = Script([OK])
    assert served(script, use)
    assert (script.connections, script.ended) == (3, 3)


def test_a_fast_sender_is_held_back_until_somebody_reads() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await _head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(bytes(100_000))
                await writer.drain()
                written += 100_000
        except ConnectionError:
            pass
        writer.close()

    async def use(port: int) -> int:
        connections = Connections()
        one = await connections.take(Host("127.0.0.1", port), within_s=60)
        await one.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.5)
        held, taken = written, 0
        while taken < 100_000_000:
            piece = await one.piece()
            assert piece is not None
            assert len(piece) < 2_000_000
            taken += len(piece)
        assert await one.piece() is None
        await connections.aclose()
        return held

    written = 0
    assert served(serve, use) < 20_000_000


def test_a_connection_that_ended_says_so() -> None:
    async def use(port: int) -> None:
        connections = Connections()
        one = await connections.take(Host("127.0.0.1", port), within_s=60)
        with pytest.raises(Disconnected):
            await one.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert not one.is_fit
        with pytest.raises(Disconnected):
            await one.ask(b"GET / HTTP/1.1\r\n\r\n")
        await connections.aclose()

    served(Script([b""]), use)


def test_a_name_is_asked_for_once_by_all_who_open_connections_to_it() -> None:
    async def use(port: int) -> int:
        loop = asyncio.get_running_loop()
        look_up = loop.getaddrinfo

        async def counted(*args: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return await look_up(*args, **options)

        loop.getaddrinfo = counted  # type: ignore[method-assign]
        connections = Connections()
        await asyncio.gather(*(connections.take(Host("localhost", port), within_s=60) for _ in range(20)))
        await connections.aclose()
        return asked

    asked = 0
    assert served(Script([OK]), use) == 1


def test_a_name_that_nobody_knows_is_no_connection_and_is_asked_for_again() -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def use() -> list[str]:
        asyncio.get_running_loop().getaddrinfo = unknown  # type: ignore[method-assign]
        way, said = Transport(), []
        for _ in range(2):
            with pytest.raises(NetworkFault, match="could not connect") as caught:
                await way.send(HttpCall("http://nobody.invalid/", b"{}"), allow_http=True)
            said.append(caught.value.billed)
        await way.aclose()
        return said

    asked = 0
    assert asyncio.run(use()) == ["no", "no"]
    assert asked == 2


@pytest.mark.parametrize("headers", [{"x-a": "1\r\nx-evil: 1"}, {"x-a\r\nx-evil": "1"}, {"x a": "1"}, {"x": "\u2028"}])
def test_a_header_that_would_end_its_line_is_refused(headers: dict[str, str]) -> None:
    async def use(port: int) -> None:
        way = Transport()
        with pytest.raises(BadRequest) as caught:
            await way.send(HttpCall(f"http://127.0.0.1:{port}/", b"{}", headers))
        assert caught.value.sent is False
        await way.aclose()

    script = Script([OK])
    served(script, use)
    assert not script.heads


def test_bytes_of_a_head_that_never_ends_are_bounded() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                writer.write(b"A: " + b"b" * 5000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            writer.close()

    with pytest.raises(BadReply):
        sent(serve)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:llm.example,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class TestProxies:
    """The way through a proxy: a tunnel to what speaks TLS, whole addresses to what does not."""

    @staticmethod
    def server_side(pair: tuple[Path, Path]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        return context

    def through(
        self, pair: tuple[Path, Path], *, say: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
        tls: bool = False, user: str = "", timeout: Timeout = Timeout(connect=60),
    ) -> tuple[list[HttpReply], list[bytes], int]:  # fmt: skip
        """Two requests to https://llm.example: the replies, the heads that the proxy saw, the connections behind."""
        heads: list[bytes] = []
        script = Script([OK])

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(say)
            if b" 200 " in say:
                await _bridge(reader, writer, inner)
            writer.close()

        async def main() -> list[HttpReply]:
            nonlocal inner
            context = self.server_side(pair) if tls else None
            async with serving(script, self.server_side(pair)) as inner, serving(proxy, context) as outer:
                url = f"{'https' if tls else 'http'}://{user}127.0.0.1:{outer}"
                way = Transport(proxies=Proxies(https=url), ca_file=str(pair[0]))
                try:
                    call = HttpCall("https://llm.example:8443/v1", b"{}", auth_header="Authorization")
                    return [await way.send(call, secret="sk-1", timeout=timeout) for _ in range(2)]
                finally:
                    await way.aclose()

        inner = 0
        return asyncio.run(main()), heads, script.connections

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    def test_tls_goes_through_a_tunnel_that_is_used_again(self, certificate: tuple[Path, Path], tls: bool) -> None:
        replies, heads, connections = self.through(certificate, tls=tls)
        assert [reply.body for reply in replies] == [b"{}", b"{}"]
        assert connections == len(heads) == 1
        assert heads[0] == b"CONNECT llm.example:8443 HTTP/1.1\r\nHost: llm.example:8443\r\n\r\n"

    def test_the_proxys_name_and_password_are_for_the_proxy_alone(self, certificate: tuple[Path, Path]) -> None:
        _, heads, _ = self.through(certificate, user="me:p%40ss@")
        basic = base64.b64encode(b"me:p@ss")
        assert b"Proxy-Authorization: Basic " + basic + b"\r\n" in heads[0]
        assert b"sk-1" not in heads[0]

    def test_a_proxy_that_refuses_cost_nothing(self, certificate: tuple[Path, Path]) -> None:
        say = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(NetworkFault, match=r"the proxy refused the connection.*407") as caught:
            self.through(certificate, say=say)
        assert caught.value.billed == "no"

    @pytest.mark.parametrize("say", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b""])
    def test_a_proxy_that_is_none_cost_nothing(self, certificate: tuple[Path, Path], say: bytes) -> None:
        with pytest.raises(NetworkFault) as caught:
            self.through(certificate, say=say)
        assert caught.value.billed == "no"

    def test_a_tunnel_without_end_runs_against_the_connect_clock(self, certificate: tuple[Path, Path]) -> None:
        with pytest.raises(CallTimeout) as caught:
            self.through(certificate, say=b"HTTP/1.1 200 OK\r\n", timeout=Timeout(connect=0.3))
        assert (caught.value.clock, caught.value.billed) == ("connect", "no")

    def test_what_speaks_plain_http_is_asked_for_by_its_whole_address(self) -> None:
        async def use(port: int) -> int:
            way = Transport(proxies=Proxies(http=f"http://me:pass@127.0.0.1:{port}"))
            try:
                call = HttpCall("http://llm.example/v1?a=1", b"{}")
                return (await way.send(call, allow_http=True)).status
            finally:
                await way.aclose()

        script = Script([OK])
        assert served(script, use) == 200
        assert script.heads[0].startswith(b"POST http://llm.example/v1?a=1 HTTP/1.1\r\nHost: llm.example\r\n")
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass") in script.heads[0]


async def _bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Carry bytes both ways between a connection and a port, until either side ends."""
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()

    tasks = [asyncio.create_task(carry(reader, inner_writer)), asyncio.create_task(carry(inner_reader, writer))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    inner_writer.close()
    with suppress(ConnectionError):
        await inner_writer.wait_closed()


def test_a_reply_before_anything_was_asked_is_no_reply() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read()
        writer.close()

    async def use(port: int) -> None:
        connections = Connections()
        one = await connections.take(Host("127.0.0.1", port), within_s=60)
        await asyncio.sleep(0.1)
        with pytest.raises(NotHttp):
            await one.ask(b"GET / HTTP/1.1\r\n\r\n")
        await connections.aclose()

    served(serve, use)
