"""Base URLs: one spelling each, joined to a wire's path, and whether a key may go there."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

from llmpipe.frozen import frozen
from llmpipe.late import late

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECRET_PARAMETERS = late(r"(?i)^(key|api[-_]?key|token|access[-_]?token|secret|password|sig|signature)$")
_VERSION_AT_END = late(r"/v[0-9]+[a-z0-9]*$")
_VERSION_AT_START = late(r"^/v[0-9]+[a-z0-9]*(?=/)")
_HOST = late(r"^[a-z0-9_]([a-z0-9._-]*[a-z0-9])?$")


@frozen
class Address:
    """A base URL taken apart: `base` has no trailing slash and no query; `query` starts with "?" or is empty."""

    base: str
    origin: str
    host: str
    query: str

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        return is_loopback(self.host)

    def join(self, path: str) -> str:
        """The URL of `path` below the base.

        Where the base ends as the path begins, that part stands once; a version at the end of the base ("/v1") takes
        the place of the one that the path begins with.
        """
        own = _VERSION_AT_END.search(self.base.removeprefix(self.origin))
        path = _VERSION_AT_START.sub("", path) if own else path
        base = self.base.removesuffix(_overlap(self.base.removeprefix(self.origin), path))
        return f"{base}{path}{self.query}"


def parse_address(text: str, *, allow_http: bool = False) -> Address:
    """Read a base URL. Raises ValueError with a sentence that says what is wrong with it.

    Plain http is for loopback, unless `allow_http`.
    """
    url = text.strip()
    if not url or any(c <= " " or c == "\x7f" or c == "\\" for c in url):
        raise ValueError(f"base_url {text!r} is not an address: it is empty or has blanks in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise ValueError(f"base_url {text!r} is not an address: {err}") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"base_url {text!r} must start with https:// (or http:// for this machine)")
    host = _host(parts, text)
    _refuse_secrets(parts)
    if scheme == "http" and not allow_http and not is_loopback(host):
        raise ValueError(
            f"base_url {text!r} is plain http to another machine: use https://, or set `allow_http: true` on the model"
        )
    shown = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{shown}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[scheme]) else "")
    query = f"?{parts.query}" if parts.query else ""
    return Address(base=origin + parts.path.rstrip("/"), origin=origin, host=host, query=query)


def is_loopback(host: str) -> bool:
    """Whether `host` (without port or brackets) names this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_matches(host: str, allowed: Sequence[str]) -> bool:
    """Whether `host` is one of `allowed`, where an entry with a leading dot means any host below it."""
    return any(host.endswith(entry) if entry.startswith(".") else host == entry for entry in allowed)


def _host(parts: SplitResult, text: str) -> str:
    host = (parts.hostname or "").lower().rstrip(".")
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        host = ""
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            host = ""
    if not _HOST.match(host):
        raise ValueError(f"base_url {text!r} names no host: write it like https://host.example/v1")
    return host


def _refuse_secrets(parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold a user name or password; name the key's variable with `api_key_env`")
    if parts.fragment:
        raise ValueError("base_url must not have a part after '#'")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET_PARAMETERS.match(name):
            raise ValueError(
                f"base_url must not hold a secret ('?{name}=', which ends up in logs): "
                "name the key's variable with `api_key_env`"
            )


def _overlap(base_path: str, path: str) -> str:
    """The longest end of `base_path` that is also a beginning of `path`, in whole segments."""
    pieces = path.split("/")[1:]
    for count in range(len(pieces), 0, -1):
        head = "/" + "/".join(pieces[:count])
        if base_path.endswith(head):
            return head
    return ""
