"""The one module that speaks HTTP: a transport of httpx over our own connections, and the requests that it is given.

httpx gives the interface and the request and reply objects. Its own pool scans every connection for every request and
costs 18 ms of CPU a call at 256 in flight; this transport, called without httpx's client layer, costs half of what a
call through aiohttp does (`make bench`). It takes the connections of client/connections.py, which httptools reads.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import NoReturn

import httpx

from llmpipe.client.connection import Connection, Disconnected, NotHttp
from llmpipe.client.connections import Connections, Host, Proxy, ProxyRefused, basic
from llmpipe.errors import BadRequest, KeyRefused
from llmpipe.frozen import frozen
from llmpipe.policy import Timeout
from llmpipe.types import HttpCall

_PORTS = {"http": 80, "https": 443}


@frozen
class _Way:
    """What all requests share that differ in their bodies alone; making it anew costs 80 µs a call."""

    url: httpx.URL
    headers: httpx.Headers
    host: Host  # where the connection leads
    head: bytes  # as it is sent, up to the number of the body's bytes


class Pool(httpx.AsyncBaseTransport):
    """A transport of httpx, for requests that `request` made. HTTP/1.1 alone; the body is read from the stream."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None) -> None:
        self._connections = Connections(tls=tls, proxy=proxy)
        self._proxy = proxy if tls is None else None  # over TLS the proxy is asked for a tunnel, and sees no request

    def request(self, call: HttpCall, secret: str | None, timeout: Timeout) -> httpx.Request:
        """The request that a call amounts to; `secret` goes into the header that `call.auth_header` names.

        Raises KeyRefused and BadRequest for what cannot stand in a header.
        """
        prefix = None if call.auth_header is None or secret is None else call.auth_prefix
        named = (call.auth_header, prefix, secret) if prefix is not None else None
        way = _way(call.method, call.url, tuple(call.headers.items()), named, self._proxy)
        return httpx.Request(
            call.method,
            way.url,
            headers=way.headers,
            stream=httpx.ByteStream(call.body),
            extensions={"timeout": {"connect": timeout.connect}, "way": way},
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the reply once its head is there.

        Raises httpx's ConnectTimeout, ConnectError and ProxyError before anything was sent, then NetworkError for a
        connection that ended without a head and RemoteProtocolError for a reply that is none.
        """
        way: _Way = request.extensions["way"]
        body = request.read()
        connection = await self._connection(way.host, request)
        request.extensions["sent"] = True
        stream = _Body(self._connections, way.host, connection)
        try:
            reply = await connection.ask(b"%s%d\r\n\r\n%s" % (way.head, len(body), body))
        except NotHttp as error:
            await stream.aclose()
            raise httpx.RemoteProtocolError(str(error), request=request) from error
        except Disconnected as error:
            await stream.aclose()
            raise httpx.NetworkError(str(error), request=request) from error
        except BaseException:
            await stream.aclose()
            raise
        return httpx.Response(reply.status, headers=reply.fields, stream=stream, request=request)

    async def _connection(self, host: Host, request: httpx.Request) -> Connection:
        try:
            return await self._connections.take(host, within_s=request.extensions["timeout"]["connect"])
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error), request=request) from error
        except (ProxyRefused, NotHttp, Disconnected) as error:
            raise httpx.ProxyError(str(error), request=request) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connections.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a reply as it comes. Closed before its end, it closes the connection."""

    def __init__(self, connections: Connections, host: Host, connection: Connection) -> None:
        self._connections, self._host, self._connection = connections, host, connection

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._connection.piece()
        except Disconnected as error:
            raise httpx.ReadError(str(error)) from error
        except NotHttp as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._connections.give_back(self._host, self._connection)


def new_pool(*, tls: bool, proxy: str | None, ca_file: str | None) -> Pool:
    """A pool for one event loop. `proxy`: the URL of an HTTP proxy, which may hold a name and a password."""
    return Pool(tls=_tls_context(ca_file) if tls else None, proxy=_proxy(proxy, ca_file) if proxy else None)


def _proxy(url: str, ca_file: str | None) -> Proxy:
    parts = httpx.Proxy(url)
    return Proxy(
        _host(parts.url),
        credentials=basic(*parts.auth) if parts.auth else None,
        tls=_tls_context(ca_file) if parts.url.scheme == "https" else None,
    )


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    return httpx.create_ssl_context(verify=True, trust_env=False)


_Fields = tuple[tuple[str, str], ...]


@lru_cache(maxsize=256)
def _way(method: str, url: str, own: _Fields, key: tuple[str, str, str] | None, proxy: Proxy | None) -> _Way:
    """The way of a request. `key`: its header, what stands before it, the key; `proxy`: what the request is sent to."""
    parsed = httpx.URL(url)
    headers = _headers(own, key)
    target = parsed.raw_path if proxy is None else str(parsed.copy_with(fragment=None)).encode("ascii")
    fields = [*headers.raw, *(proxy.fields if proxy is not None else ())]
    lines = [
        b"%s %s HTTP/1.1" % (method.encode("ascii"), target),
        b"Host: " + parsed.netloc,
        *(b"%s: %s" % field for field in fields),
        b"Content-Length: ",
    ]
    return _Way(parsed, headers, _host(parsed) if proxy is None else proxy.host, b"\r\n".join(lines))


def _host(url: httpx.URL) -> Host:
    return Host(url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])


def _headers(own: _Fields, key: tuple[str, str, str] | None) -> httpx.Headers:
    headers = {name.lower(): value for name, value in own}
    headers["accept-encoding"] = "identity"  # decoding a hostile body has no bound (facts C, httpx)
    headers.setdefault("content-type", "application/json")
    headers.setdefault("user-agent", "llmpipe")
    for name, value in headers.items():
        if not (_is_token(name) and _fits(value)):
            _refuse(BadRequest(f"the header {name[:40]!r} has characters that cannot stand in a header"))
    if key is not None:
        header, prefix, secret = key
        headers[header.lower()] = prefix + _checked_secret(secret)
    return httpx.Headers(headers, encoding="latin-1")


def _is_token(name: str) -> bool:
    return name.isascii() and name.isprintable() and not any(ch in " :" for ch in name) and bool(name)


def _fits(value: str) -> bool:
    """Whether a value may stand in a header: nothing in it ends the line (RFC 9110, 5.5), or is beyond Latin-1."""
    return not any((ch < " " and ch != "\t") or ch == "\x7f" or ch > "\xff" for ch in value)


def _checked_secret(secret: str) -> str:
    """The key as it may stand in a header; an exception of the HTTP library would quote it."""
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        _refuse(KeyRefused("the API key has characters that cannot stand in a header (a line break, a space?)"))
    return secret


def _refuse(error: BadRequest | KeyRefused) -> NoReturn:
    error.sent = False
    raise error
