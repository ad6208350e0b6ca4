"""What an exception of the HTTP library means: a table by class name, that people can read and that imports nothing.

`billed` says whether the request may have reached the provider: "no" only where the
connection cannot have been used yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmpipe.errors import (
    BadReply,
    BadRequest,
    Billed,
    CallFailed,
    CallTimeout,
    CertificateRefused,
    NetworkFault,
    RedirectRefused,
    StreamCut,
)
from llmpipe.frozen import frozen
from llmpipe.local_faults import no_descriptor_left, out_of_resources


@frozen
class Meaning:
    """The class of failure, whether the request may have been sent, and what people are told."""

    error: type[CallFailed]
    billed: Billed
    words: str
    clock: str = ""  # for CallTimeout


_CONNECT = Meaning(NetworkFault, "no", "could not connect")
_CERTIFICATE = Meaning(CertificateRefused, "no", "the server's TLS certificate was not accepted")
_PROXY = Meaning(NetworkFault, "no", "the proxy refused the connection")
_BROKEN = Meaning(NetworkFault, "maybe", "the connection broke before the reply was complete")
_CUT = Meaning(StreamCut, "maybe", "the reply broke off")
_NOT_HTTP = Meaning(BadReply, "maybe", "the server did not answer in HTTP")
_REDIRECT = Meaning(RedirectRefused, "no", "the server answered with a redirect")
_URL = Meaning(BadRequest, "no", "the address is not usable")
_CONNECT_CLOCK = Meaning(CallTimeout, "no", "no connection in time", clock="connect")
_IDLE_CLOCK = Meaning(CallTimeout, "maybe", "the server fell silent", clock="idle")
_ATTEMPT_CLOCK = Meaning(CallTimeout, "maybe", "no reply in time", clock="attempt")

MEANINGS: dict[str, Meaning] = {
    # httpx
    "httpx.ConnectTimeout": _CONNECT_CLOCK,
    "httpx.PoolTimeout": _CONNECT_CLOCK,
    "httpx.TimeoutException": _IDLE_CLOCK,
    "httpx.ConnectError": _CONNECT,
    "httpx.ProxyError": _PROXY,
    "httpx.UnsupportedProtocol": _URL,
    "httpx.InvalidURL": _URL,
    "httpx.ReadError": _CUT,
    "httpx.DecodingError": _NOT_HTTP,
    "httpx.RemoteProtocolError": _NOT_HTTP,
    "httpx.ProtocolError": _BROKEN,
    "httpx.NetworkError": _BROKEN,
    "httpx.TooManyRedirects": _REDIRECT,
    "httpx.HTTPError": _BROKEN,
    "httpx.StreamError": _CUT,
    "httpx.CookieConflict": _NOT_HTTP,
    # the interpreter
    "ssl.SSLCertVerificationError": _CERTIFICATE,
    "builtins.TimeoutError": _ATTEMPT_CLOCK,
    "builtins.OSError": _BROKEN,
    "builtins.EOFError": _CUT,
    "asyncio.IncompleteReadError": _CUT,
}


def meaning_of(error: BaseException) -> Meaning | None:
    """What `error` means; None for an exception that is no fault of the network (a mistake in our own code)."""
    for candidate in _candidates(error):
        for name in _names(type(candidate)):
            if name in MEANINGS:
                return MEANINGS[name]
    return None


def fault_of(error: BaseException, host: str, **evidence: Any) -> CallFailed | None:
    """The error to raise for `error` from `host`, with `evidence` as in CallFailed; None as in `meaning_of`."""
    meaning = meaning_of(error)
    limit = out_of_resources(error)
    if limit is None and meaning in (_CONNECT, _PROXY):
        limit = no_descriptor_left()  # a resolver that could open no file says that the name is not known
    if limit is not None:
        limit.billed = "maybe" if meaning is None else meaning.billed
        return limit
    if meaning is None:
        return None
    detail = f" ({_words(error)})" if str(error) else ""
    evidence = {"billed": meaning.billed, **evidence}
    if issubclass(meaning.error, CallTimeout):
        return meaning.error(f"{host}: {meaning.words}{detail}", clock=meaning.clock, **evidence)
    return meaning.error(f"{host}: {meaning.words}{detail}", **evidence)


def _candidates(error: BaseException) -> Iterator[BaseException]:
    """The cause first where it is the certificate: httpx calls every failure to connect by one name."""
    cause = error.__cause__
    if cause is not None and "ssl.SSLCertVerificationError" in _names(type(cause)):
        yield cause
    yield error


def _names(cls: type[BaseException]) -> Iterator[str]:
    for base in cls.__mro__:
        yield f"{base.__module__.partition('.')[0]}.{base.__name__}"


def _words(error: BaseException) -> str:
    """The exception's own words, on one line and bounded: they may quote what a hostile server sent."""
    return " ".join(str(error).split())[:300]
