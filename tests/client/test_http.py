"""The transport over real sockets: what is sent, what is bounded, and what every fault is called."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from llmpipe.client import transport as client_transport
from llmpipe.client.client import LLMClient
from llmpipe.client.proxies import Proxies, is_loopback
from llmpipe.client.transport import Transport
from llmpipe.client.transport_faults import MEANINGS, fault_of, meaning_of
from llmpipe.errors import (
    BadReply,
    CallFailed,
    CallTimeout,
    CertificateRefused,
    ConfigError,
    KeyRefused,
    NetworkFault,
    PlainHttpRefused,
    ReplyTooLarge,
    StreamCut,
)
from llmpipe.policy import Timeout
from llmpipe.types import HttpCall, HttpReply, LLMRequest, Model
from tests.faults import replies
from tests.faults.server import FaultServer, wait_until

PATIENT = Timeout(connect=60, first_token=60, idle=60)


def expiring(clock: str) -> Timeout:
    """Clocks of which only the one that is to expire is short, so that no slow machine is taken for it."""
    return replace(PATIENT, **{clock: 0.3})


def post(server: FaultServer, **options: Any) -> HttpReply:
    """One request through a transport of its own."""
    return asyncio.run(_post(server.url + "/v1/chat/completions", **options))


async def _post(
    url: str, *, timeout: Timeout = Timeout(), times: int = 1, max_bytes: int = 1 << 20, **options: Any
) -> HttpReply:
    transport = Transport(max_reply_bytes=max_bytes)
    call = HttpCall(url, b'{"a":1}', {"X-Extra": "1"}, auth_header="Authorization", auth_prefix="Bearer ")
    try:
        for _ in range(times):
            reply = await transport.send(call, timeout=timeout, **options)
        return reply
    finally:
        await transport.aclose()


def test_a_request_carries_its_key_its_headers_and_asks_for_no_encoding() -> None:
    with FaultServer() as server:
        reply = post(server, secret="sk-canary")
    assert reply.status == 200
    assert reply.headers["x-request-id"] == "req_1"
    sent = server.requests[0]
    assert sent.body == b'{"a":1}'
    assert sent.headers["authorization"] == "Bearer sk-canary"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["x-extra"] == "1"
    assert "cookie" not in sent.headers


def test_without_a_secret_no_header_is_sent() -> None:
    with FaultServer() as server:
        post(server)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("name", ["ok", "ok_chunked", "ok_close_delimited", "ok_then_close"])
def test_every_way_of_ending_a_body_is_read(name: str) -> None:
    with FaultServer([name]) as server:
        assert b"hello" in post(server).body


def test_connections_are_kept_for_the_next_call() -> None:
    with FaultServer() as server:
        post(server, times=5)
        assert server.connections == 1


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    with FaultServer(["ok_then_close"]) as server:
        post(server, times=3)
        assert server.connections == 3


def test_as_many_connections_stand_as_calls_are_in_flight() -> None:
    async def many() -> None:
        transport = Transport()
        call = HttpCall(server.url, b"{}")
        await asyncio.gather(*(transport.send(call) for _ in range(150)))
        await asyncio.gather(*(transport.send(call) for _ in range(150)))
        await transport.aclose()

    with FaultServer(["slow"]) as server:
        asyncio.run(many())
        assert server.peak > 100  # httpx's own default would stop at 100
        assert server.connections == 150


@pytest.mark.parametrize(
    ("name", "error", "billed"),
    [
        ("hang_up", NetworkFault, "maybe"),
        ("reset", NetworkFault, "maybe"),
        ("cut_length", StreamCut, "maybe"),
        ("cut_chunked", StreamCut, "maybe"),
        ("not_http", BadReply, "maybe"),
        ("two_lengths", BadReply, "maybe"),
        ("gzip", BadReply, "maybe"),
        ("many_headers", BadReply, "maybe"),
        ("long_header", BadReply, "maybe"),
        ("huge_length", ReplyTooLarge, "maybe"),
        ("endless_body", ReplyTooLarge, "maybe"),
    ],
)
def test_each_fault_has_its_own_class(name: str, error: type[CallFailed], billed: str) -> None:
    with FaultServer([name]) as server, pytest.raises(error) as caught:
        post(server, secret="sk-canary-9431")
    assert type(caught.value) is error
    assert caught.value.billed == billed
    assert "127.0.0.1" in caught.value.message
    assert "canary" not in repr(caught.value) + str(caught.value.raw)


def test_a_broken_reply_keeps_what_had_arrived() -> None:
    with FaultServer(["cut_length"]) as server, pytest.raises(StreamCut) as caught:
        post(server)
    assert caught.value.raw == '{"partial": true'
    assert caught.value.status == 200


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("silence", "first_token"),
        ("drip_head", "first_token"),
        ("silence_after_head", "first_token"),
        ("silence_in_body", "idle"),
    ],
)
def test_an_expired_clock_closes_the_socket(name: str, clock: str) -> None:
    with FaultServer([name]) as server:
        with pytest.raises(CallTimeout) as caught:
            post(server, timeout=expiring(clock))
        assert caught.value.clock == clock
        assert caught.value.billed == "maybe"
        assert wait_until(lambda: server.requests[0].closed_after is not None)


def test_a_drip_is_stopped_by_the_attempt_clock_outside_and_the_socket_is_closed() -> None:
    async def attempt() -> None:
        transport = Transport()
        try:
            async with asyncio.timeout(0.4):
                await transport.send(HttpCall(server.url, b"{}"), timeout=PATIENT)
        finally:  # the pool stays open: the connection alone must be gone
            closed.append(await asyncio.to_thread(wait_until, lambda: server.requests[0].closed_after is not None))
            await transport.aclose()

    closed: list[bool] = []
    with FaultServer(["drip_body"]) as server, pytest.raises(TimeoutError):
        asyncio.run(attempt())
    assert closed == [True]


@pytest.mark.parametrize("name", ["silence", "silence_in_body"])
def test_cancelling_closes_the_connection(name: str) -> None:
    async def cancelled() -> None:
        transport = Transport()
        task = asyncio.create_task(transport.send(HttpCall(server.url, b"{}")))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(wait_until, lambda: server.requests[0].closed_after is not None)
        await transport.aclose()

    with FaultServer([name]) as server:
        asyncio.run(cancelled())


def test_nobody_listening_is_a_network_fault_that_cost_nothing() -> None:
    with FaultServer() as server:
        url = server.url
    with pytest.raises(NetworkFault) as caught:
        asyncio.run(_post(url))
    assert caught.value.billed == "no"


def test_a_redirect_is_handed_on_and_not_followed() -> None:
    with FaultServer(["redirect"]) as server:
        reply = post(server)
    assert reply.status == 307
    assert reply.headers["location"].startswith("http://169.254")
    assert len(server.requests) == 1


def test_a_tls_handshake_without_end_runs_against_the_connect_clock() -> None:
    with FaultServer() as server, pytest.raises(CallTimeout) as caught:
        asyncio.run(_post(server.url.replace("http:", "https:"), timeout=Timeout(connect=0.3)))
    assert (caught.value.clock, caught.value.billed) == ("connect", "no")


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _over_tls(pair: tuple[Path, Path], ca_file: str | None) -> HttpReply:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def main() -> HttpReply:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        transport = Transport(ca_file=ca_file)
        try:
            return await transport.send(HttpCall(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"{}"))
        finally:
            await transport.aclose()
            server.close()

    return asyncio.run(main())


def test_a_certificate_that_nobody_signed_is_refused_and_not_tried_again(self_signed: tuple[Path, Path]) -> None:
    with pytest.raises(CertificateRefused, match="certificate") as caught:
        _over_tls(self_signed, None)
    assert (caught.value.billed, caught.value.retryable, caught.value.account) == ("no", False, True)


def test_an_authority_of_ones_own_is_accepted_from_a_file(self_signed: tuple[Path, Path]) -> None:
    assert _over_tls(self_signed, str(self_signed[0])).status == 200


def test_the_authority_is_named_in_the_environment(self_signed: tuple[Path, Path], tmp_path: Path) -> None:
    certificate = str(self_signed[0])
    assert Proxies.from_environment({"SSL_CERT_FILE": certificate}.get).ca_file == certificate
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            Proxies.from_environment({"SSL_CERT_FILE": str(path)}.get)


def test_a_client_trusts_the_authority_of_its_environment(self_signed: tuple[Path, Path]) -> None:
    body = json.dumps(replies.answer("openai_chat")).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async def ask(proxies: Proxies) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self_signed)
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            models = {"m": Model("m", "openai_compatible", "t", base_url=url)}
            async with LLMClient(models, proxies=proxies) as client:
                return str(await client.acall(LLMRequest(model="m", prompt="hi"), max_retries=0))

    assert asyncio.run(ask(Proxies(ca_file=str(self_signed[0])))) == "hello"
    with pytest.raises(CertificateRefused, match="certificate"):
        asyncio.run(ask(Proxies()))


def test_plain_http_to_another_host_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(PlainHttpRefused):
        asyncio.run(_post("http://llm.example.com/v1", secret="sk-1"))


def test_plain_http_is_allowed_where_the_user_says_so() -> None:
    async def prepare() -> str:
        return Transport().exchange(HttpCall("http://llm.example.com/v1", b"{}"), allow_http=True)._host

    assert asyncio.run(prepare()) == "llm.example.com"


@pytest.mark.parametrize("secret", ["sk-1\r\nx-evil: 1", "sk-1\n", "", "schlüssel", "two words"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_being_quoted(secret: str) -> None:
    with FaultServer() as server, pytest.raises(KeyRefused) as caught:
        post(server, secret=secret)
    assert not server.requests
    assert caught.value.sent is False
    assert not secret or secret.strip() not in str(caught.value)


def test_a_streamed_reply_comes_in_pieces_and_a_stall_is_noticed() -> None:
    async def stream(timeout: Timeout) -> bytes:
        transport = Transport()
        try:
            async with transport.exchange(HttpCall(server.url, b"{}"), timeout=timeout) as exchange:
                assert exchange.status == 200
                return b"".join([piece async for piece in exchange.chunks()])
        finally:
            await transport.aclose()

    with FaultServer(["ok_chunked", "silence_in_body", "silence_after_head"]) as server:
        assert b"hello" in asyncio.run(stream(PATIENT))
        for clock in ("idle", "first_token"):
            with pytest.raises(CallTimeout) as caught:
                asyncio.run(stream(expiring(clock)))
            assert caught.value.clock == clock
        assert wait_until(lambda: server.requests[1].closed_after is not None)


def test_a_reply_over_the_cap_takes_bounded_memory() -> None:
    with FaultServer(["endless_body"]) as server, pytest.raises(ReplyTooLarge):
        post(server, max_bytes=100_000)
    assert len(server.requests) == 1


def every_exception_class() -> list[type[BaseException]]:
    found = {
        thing
        for _, thing in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(thing, Exception) and not issubclass(thing, Warning)
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


def test_the_enumeration_sees_the_libraries_exceptions() -> None:
    names = {cls.__name__ for cls in every_exception_class()}
    assert {"ConnectTimeout", "RemoteProtocolError", "ReadError"} <= names


@pytest.mark.parametrize("cls", every_exception_class(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_exception_of_the_libraries_has_a_meaning(cls: type[BaseException]) -> None:
    error = cls.__new__(cls)
    meaning = meaning_of(error)
    assert meaning is not None
    assert issubclass(meaning.error, CallFailed)


def test_a_mistake_of_our_own_is_no_network_fault() -> None:
    assert fault_of(AttributeError("x"), "host") is None
    assert fault_of(KeyError("x"), "host") is None


def test_a_certificate_is_told_from_other_failures_to_connect() -> None:
    wrapper = httpx.ConnectError("no")
    wrapper.__cause__ = ssl.SSLCertVerificationError(1, "self-signed certificate")
    fault = fault_of(wrapper, "host")
    assert type(fault) is CertificateRefused
    assert fault.billed == "no"
    wrapper.__cause__ = ssl.SSLError(1, "wrong version number")
    assert type(fault_of(wrapper, "host")) is NetworkFault


def test_only_faults_before_the_request_left_cost_nothing() -> None:
    free = {name for name, meaning in MEANINGS.items() if meaning.billed == "no"}
    assert not {"httpx.ReadError", "httpx.NetworkError", "httpx.RemoteProtocolError"} & free
    assert {"httpx.ConnectError", "httpx.ConnectTimeout", "httpx.ProxyError"} <= free


class TestProxies:
    ENVIRONMENT: ClassVar[dict[str, str]] = {
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "internal.example, .corp, 10.0.0.0/8, h:8443",
    }

    @pytest.mark.parametrize(
        ("url", "used"),
        [
            ("https://api.openai.com/v1", True),
            ("https://127.0.0.1:8080/v1", False),
            ("https://localhost/v1", False),
            ("https://[::1]/v1", False),
            ("https://internal.example/v1", False),
            ("https://sub.internal.example/v1", False),
            ("https://notinternal.example/v1", True),
            ("https://a.corp/v1", False),
            ("https://10.2.3.4/v1", False),
            ("https://h:8443/v1", False),
            ("https://h/v1", True),
            ("http://api.example/v1", False),
        ],
    )
    def test_hosts_that_go_through_the_proxy(self, url: str, used: bool) -> None:
        proxies = Proxies.from_environment(self.ENVIRONMENT.get)
        assert (proxies.for_url(url) is not None) is used

    def test_all_proxy_and_lower_case_names_count(self) -> None:
        proxies = Proxies.from_environment({"all_proxy": "http://p:1"}.get)
        assert proxies.for_url("http://a.example/") == proxies.for_url("https://a.example/") == "http://p:1"

    def test_a_star_exempts_everything(self) -> None:
        proxies = Proxies.from_environment({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}.get)
        assert proxies.for_url("https://a.example/") is None

    def test_socks_is_refused_with_the_variable_named(self) -> None:
        with pytest.raises(ConfigError, match="ALL_PROXY"):
            Proxies.from_environment({"ALL_PROXY": "socks5://p:1"}.get)

    def test_a_request_really_goes_through_the_proxy(self) -> None:
        async def through() -> HttpReply:
            transport = Transport(proxies=Proxies(http=server.url))
            try:
                call = HttpCall("http://llm.invalid/v1/chat/completions", b"{}")
                return await transport.send(call, allow_http=True)
            finally:
                await transport.aclose()

        with FaultServer() as server:
            assert asyncio.run(through()).status == 200
        assert server.requests[0].path == "http://llm.invalid/v1/chat/completions"

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("localhost", True),
            ("127.8.9.1", True),
            ("::1", True),
            ("a.localhost", True),
            ("10.0.0.1", False),
            ("localhost.evil.com", False),
        ],
    )
    def test_loopback(self, host: str, loopback: bool) -> None:
        assert is_loopback(host) is loopback


def test_a_transport_keeps_to_its_event_loop() -> None:
    transport = Transport()
    with FaultServer() as server:

        async def use() -> None:
            await transport.send(HttpCall(server.url, b"{}"))
            await transport.aclose()

        asyncio.run(use())
        with pytest.raises(client_transport.InternalError):
            asyncio.run(use())
