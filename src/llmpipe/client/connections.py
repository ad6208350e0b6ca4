"""The connections to one kind of place: opened (name, TCP, proxy, TLS), kept while they are fit, handed out again.

As many are open as requests are in flight; the gates say how many that are. The one that was used last is used first,
so that what a burst has opened runs out.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmpipe.client.clock import Clock
from llmpipe.client.connection import Connection, NotHttp
from llmpipe.frozen import frozen

if TYPE_CHECKING:
    import ssl

KEEP_ALIVE_S = 30.0  # servers and balancers hang up after 60 or more
_NAMES_KEPT_S = 10.0
_NEXT_ADDRESS_S = 0.25  # then the next address is tried beside the first (RFC 8305)


class ProxyRefused(Exception):
    """The proxy would not open the way."""


@frozen
class Host:
    """Where a connection leads: a name or an address (without brackets), and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@frozen
class Proxy:
    """An HTTP proxy. `credentials` are what follows `Basic`; `tls`: it is spoken to over TLS itself."""

    host: Host
    credentials: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The header that the proxy wants, if any."""
        return [(b"Proxy-Authorization", f"Basic {self.credentials}".encode())] if self.credentials else []


def basic(user: str, password: str) -> str:
    """Credentials as a header has them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class Connections:
    """The connections of one event loop, over TLS or not, through a proxy or not. Every failure to open one is an
    OSError (ssl's among them), a ProxyRefused, or TimeoutError when it took longer than it may."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None, keep_s: float = KEEP_ALIVE_S
    ) -> None:
        self._tls, self._proxy, self._keep_s = tls, proxy, keep_s
        self._loop = asyncio.get_running_loop()
        self._unused: dict[Host, list[Connection]] = {}
        self._used: set[Connection] = set()
        self._names: dict[Host, tuple[float, asyncio.Task[list[Any]]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def take(self, host: Host, *, within_s: float | None) -> Connection:
        """A connection that is fit for a request, an old one if there is one."""
        unused = self._unused.get(host)
        while unused:
            connection = unused.pop()
            if connection.is_fit:
                self._used.add(connection)
                return connection
            connection.abort()
        with Clock(within_s):
            connection = await self._opened(host)
        self._used.add(connection)
        return connection

    def give_back(self, host: Host, connection: Connection) -> None:
        """Keep a connection for the next request to the host, or close it if it is not fit for one."""
        self._used.discard(connection)
        if not connection.is_fit:
            connection.abort()
            return
        connection.unused_since = self._loop.time()
        self._unused.setdefault(host, []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keep_s, self._sweep)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for _, task in self._names.values():
            task.cancel()
        unused, self._unused = self._unused, {}
        for connection in [*self._used, *(one for kept in unused.values() for one in kept)]:
            connection.abort()
        self._used.clear()
        for _ in range(3):  # TLS closes what carries it in a second turn of the loop
            await asyncio.sleep(0)

    def _sweep(self) -> None:
        """Close what nobody has used for long."""
        self._sweeper = None
        oldest = self._loop.time() - self._keep_s
        for host, kept in list(self._unused.items()):
            still = [one for one in kept if one.unused_since > oldest]
            for connection in kept:
                if connection.unused_since <= oldest:
                    connection.abort()
            if still:
                self._unused[host] = still
            else:
                del self._unused[host]
        if self._unused:
            self._sweeper = self._loop.call_later(self._keep_s / 2, self._sweep)

    # -- opening ---------------------------------------------------------------------------------------------------

    async def _opened(self, host: Host) -> Connection:
        proxy = self._proxy
        if proxy is None:
            return await self._connected(host, self._tls)
        connection = await self._connected(proxy.host, proxy.tls)
        if self._tls is None:
            return connection
        try:
            return await self._through(connection, proxy, host, self._tls)
        except BaseException:
            connection.abort()
            raise

    async def _connected(self, host: Host, tls: ssl.SSLContext | None) -> Connection:
        from aiohappyeyeballs import start_connection

        addresses = await self._addresses(host)
        connected = await start_connection(
            addresses, loop=self._loop, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1
        )
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a long silence is no reason to forget us
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._loop),
            sock=connected,
            ssl=tls,
            server_hostname=host.name if tls is not None else None,
        )
        return connection

    async def _through(self, outer: Connection, proxy: Proxy, host: Host, tls: ssl.SSLContext) -> Connection:
        """A connection to `host` in a tunnel through the proxy (RFC 9110, CONNECT)."""
        fields = b"".join(b"%s: %s\r\n" % field for field in proxy.fields)
        where = str(host).encode()
        reply = await outer.ask(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (where, where, fields))
        if not 200 <= reply.status < 300:
            raise ProxyRefused(f"the proxy answered CONNECT with status {reply.status}")
        if reply.pieces:
            raise NotHttp("the proxy spoke before the tunnel was used")
        inner = Connection(self._loop)
        reply.release()
        transport = await self._loop.start_tls(outer.transport, inner, tls, server_hostname=host.name)
        if transport is None:
            raise ConnectionError("the connection ended within the TLS handshake")
        inner.connection_made(transport)
        return inner

    async def _addresses(self, host: Host) -> list[Any]:
        """What the name stands for, asked once for all who open connections to it at the same time."""
        literal = _literal(host)
        if literal is not None:
            return literal
        at, task = self._names.get(host, (0.0, None))
        now = self._loop.time()
        if task is None or now - at > _NAMES_KEPT_S or (task.done() and (task.cancelled() or task.exception())):
            task = self._loop.create_task(self._looked_up(host))
            task.add_done_callback(_ended)
            self._names[host] = now, task
        return await asyncio.shield(task)

    async def _looked_up(self, host: Host) -> list[Any]:
        return await self._loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)


def _literal(host: Host) -> list[Any] | None:
    """What getaddrinfo would make of an address, which needs no thread; None for a name."""
    for family, more in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with suppress(OSError):
            socket.inet_pton(family, host.name)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host.name, host.port, *more))]
    return None


def _ended(task: asyncio.Task[list[Any]]) -> None:
    """Nobody may be left to hear of a failure."""
    if not task.cancelled():
        task.exception()
