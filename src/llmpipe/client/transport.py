"""The way out for one event loop: which pool of connections a call takes. httpx is imported when the first one does."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from llmpipe.client.exchange import Exchange
from llmpipe.client.proxies import Proxies, checked_host
from llmpipe.errors import InternalError
from llmpipe.policy import Timeout
from llmpipe.types import HttpCall, HttpReply

if TYPE_CHECKING:
    from llmpipe.client.http import Pool

MAX_REPLY_BYTES = 8 * 1024 * 1024  # the longest answers of today's models are below 2 MB


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
        self._pools: dict[tuple[bool, str | None], Pool] = {}
        self._by_url: dict[str, Pool] = {}
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
        pool = self._pool(call.url)
        return Exchange(pool, pool.request(call, secret, timeout), host, timeout, self._max_reply_bytes)

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = list(self._pools.values()), {}
        self._by_url.clear()
        for pool in pools:
            await pool.aclose()

    def _pool(self, url: str) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise InternalError("a Transport belongs to one event loop")
            self._loop = loop
        pool = self._by_url.get(url)
        if pool is None:
            key = (url.startswith("https:"), self._proxies.for_url(url))
            if key not in self._pools:
                self._pools[key] = _new_pool(*key, self._ca_file)
            pool = self._by_url[url] = self._pools[key]
        return pool


def _new_pool(tls: bool, proxy: str | None, ca_file: str | None) -> Pool:
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # its command line, rich and click: 50 ms
    from llmpipe.client.http import new_pool

    return new_pool(tls=tls, proxy=proxy, ca_file=ca_file)
