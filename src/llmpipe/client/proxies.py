"""How a host may be reached: whether without encryption, and through which proxy; pure decisions on settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from llmpipe.errors import ConfigError, Place, PlainHttpRefused, Problem
from llmpipe.frozen import frozen

_VARIABLES = {"https": "HTTPS_PROXY", "http": "HTTP_PROXY", "all": "ALL_PROXY", "no": "NO_PROXY"}


def is_loopback(host: str) -> bool:
    """True if `host` (a name or an address, without brackets) can only be this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def checked_host(url: str, allow_http: bool) -> str:
    """`host` or `host:port` of `url`. Raises PlainHttpRefused for http to another machine, unless that is allowed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        error = PlainHttpRefused(f"{host}: plain http would show the key and the prompts to everybody on the way")
        error.sent = False
        raise error
    return host if parts.port is None else f"{host}:{parts.port}"


@frozen
class Proxies:
    """Proxy addresses by scheme, and the hosts that need none. Loopback never goes through a proxy (facts D9).

    `ca_file` is a PEM bundle of the authorities to trust in place of those that come with the package.
    """

    https: str | None = None
    http: str | None = None
    exempt: tuple[str, ...] = ()
    ca_file: str | None = None

    @classmethod
    def from_environment(cls, get: Callable[[str], str | None]) -> Proxies:
        """Read HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY (or their lower-case forms), SSL_CERT_FILE through `get`.

        `get` must look into the real environment only: a `.env` of a checked-out project may not redirect traffic.
        Raises ConfigError for a proxy that is not `http://` or `https://`, and for a file that holds no certificates.
        """
        values = {kind: get(name) or get(name.lower()) or "" for kind, name in _VARIABLES.items()}
        for kind in ("https", "http", "all"):
            _check(_VARIABLES[kind], values[kind])
        return cls(
            https=values["https"] or values["all"] or None,
            http=values["http"] or values["all"] or None,
            ca_file=_checked_bundle(get("SSL_CERT_FILE") or None),
            exempt=tuple(part.strip().lower() for part in values["no"].split(",") if part.strip()),
        )

    def for_url(self, url: str) -> str | None:
        """The proxy for `url`, or None for a direct connection."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").lower()
        if proxy is None or is_loopback(host):
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return None if any(_covers(entry, host, port) for entry in self.exempt) else proxy


def _check(variable: str, value: str) -> None:
    if value and urlsplit(value).scheme not in ("http", "https"):
        problem = Problem(
            "P409",
            f"the proxy in {variable} is neither http:// nor https://",
            Place("environment"),
            note="SOCKS proxies are not supported; unset the variable or name an HTTP proxy",
        )
        raise ConfigError([problem])


def _checked_bundle(path: str | None) -> str | None:
    if path is None:
        return None
    import ssl

    try:
        ssl.create_default_context(cafile=path)
    except OSError as err:
        message = f"the certificates in SSL_CERT_FILE cannot be read: {err.strerror or err}"
        note = "name a PEM file, or unset the variable"
        raise ConfigError([Problem("P409", message, Place("environment"), note=note)]) from err
    return path


def _covers(entry: str, host: str, port: int) -> bool:
    """True if an entry of NO_PROXY (`*`, a name, `.suffix`, `name:port`, an address, a network) means this host."""
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        if int(number) != port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        suffix = entry.lstrip("*").lstrip(".")
        return host == suffix or host.endswith("." + suffix)
