"""Which error a reply is: by its body first, then by `x-should-retry`, then by its status (facts B2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from llmpipe.errors import (
    AccountError,
    Billed,
    CallFailed,
    QuotaExhausted,
    RedirectRefused,
    RequestRefused,
    ServerFault,
)
from llmpipe.frozen import frozen
from llmpipe.late import late
from llmpipe.providers.body import NotJsonBody, as_list, as_map, as_text, clean, read_json
from llmpipe.providers.limits import retry_hint
from llmpipe.providers.rules import RULES, Rule, by_status
from llmpipe.providers.table import Target
from llmpipe.types import HttpReply

MAX_RAW = 256 * 1024
_MAX_WORDS = 20_000
_GAVE_UP = frozenset(
    {408, 499, 502, 504, 520, 522, 524, 598, 599}
)  # gateways that had sent the request on, or may have
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id")
_TITLE = late(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_HTML = late(r"^\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)


@frozen
class Evidence:
    """What an error body says, in no provider's shape. `status` is the body's own where HTTP said success."""

    status: int
    codes: tuple[str, ...]  # lower case, in the order of their weight
    words: str  # the provider's message as it came
    message: str  # everything that phrases are searched in, lower case
    details: Any


def raw_text(reply: HttpReply) -> str:
    """The body as text for the failure file, at most MAX_RAW bytes of it."""
    return reply.body[:MAX_RAW].decode("utf-8", "replace")


def request_id_of(reply: HttpReply, data: Mapping[str, Any] | None = None) -> str | None:
    """The provider's own id of the exchange, from the headers or the body (facts A1); at most 200 characters."""
    for name in _REQUEST_ID_HEADERS:
        if reply.headers.get(name):
            return clean(reply.headers[name], 200)
    body = data or {}
    found = as_text(body.get("request_id")) or as_text(body.get("responseId"))
    return clean(found, 200) if found else None


def has_error(data: Any) -> bool:
    """Whether a body is an error body, whatever its status was (facts A4: Azure, Responses; A6: Ollama, lists)."""
    if isinstance(data, list):
        return len(data) == 1 and has_error(data[0])
    if not isinstance(data, Mapping):
        return False
    return bool(data.get("error")) or data.get("type") == "error" or data.get("object") == "error"


def classify(reply: HttpReply, target: Target, *, data: Any = None) -> CallFailed:
    """The error that `reply` is. `data` is its body if it has been read already."""
    if 300 <= reply.status < 400:
        return _redirect(reply, target)
    if data is None:
        data = _read(reply)
    evidence = read_error(data, reply)
    kind, firm = _kind(evidence, reply, target)
    verdict = None if firm else _should_retry(reply.headers)
    if verdict is True and not kind.retryable:
        kind = ServerFault
    return kind(
        _sentence(evidence, reply, target),
        status=reply.status,
        provider_code=evidence.codes[0] if evidence.codes else None,
        retry_after=_hint(kind, evidence, reply),
        should_retry=verdict,
        raw=raw_text(reply),
        billed=_billed(reply.status),
        provider_request_id=request_id_of(reply, as_map(data)),
    )


def read_error(data: Any, reply: HttpReply) -> Evidence:
    """The evidence in an error body of any provider's shape (facts A6)."""
    body = as_map(data[0] if isinstance(data, list) and data else data)
    error = body.get("error") or (body or None)
    if isinstance(error, str):
        error = {"message": error}
    fields = as_map(error)
    codes = tuple(dict.fromkeys(code.lower() for code in _codes(fields, body) if code))
    words = _words(fields, body) or _page(reply)
    numbers = [int(c) for c in codes if c.isascii() and c.isdigit() and 400 <= int(c[:4]) < 600]
    status = numbers[0] if 200 <= reply.status < 300 and numbers else reply.status
    message = " ".join([words, *_quotas(fields), as_text(fields.get("param"))])[:_MAX_WORDS].lower()
    named = tuple(code for code in codes if not code.isdigit())
    return Evidence(status, named or codes, words, message, fields.get("details"))


def find_rule(evidence: Evidence) -> Rule | None:
    """The first row of the table that fits, if any does."""
    status = 200 if evidence.status // 100 == 2 else evidence.status
    for rule in RULES:
        if rule.statuses and status not in rule.statuses:
            continue
        if not rule.codes.isdisjoint(evidence.codes):
            return rule
        if rule.phrase is not None and rule.phrase.search(evidence.message):
            return rule
    return None


def _kind(evidence: Evidence, reply: HttpReply, target: Target) -> tuple[type[CallFailed], bool]:
    rule = find_rule(evidence)
    if rule is not None and rule.firm:
        return rule.error, True
    if _zero_quota(evidence) or _bare_spend_cap(evidence, reply, target):
        return QuotaExhausted, True
    if rule is not None:
        return rule.error, False
    return by_status(evidence.status), False


def _bare_spend_cap(evidence: Evidence, reply: HttpReply, target: Target) -> bool:
    """Anthropic's 429 without `retry-after` is the monthly spend cap (facts 0.5).

    Only where the reply is Anthropic's own, which its request id shows: a gateway may have dropped the header.
    """
    return (
        target.dialect.bare_429_is_spend_cap
        and reply.status == 429
        and "ramp_limit_exceeded" not in evidence.codes
        and "rate_limit_error" in evidence.codes
        and "retry-after" not in reply.headers
        and "request-id" in reply.headers
    )


def _zero_quota(evidence: Evidence) -> bool:
    """Gemini's quota of 0: the model is not part of the plan, and no wait changes that."""
    return any(
        as_map(violation).get("quotaValue") in ("0", 0)
        for entry in as_list(evidence.details)
        for violation in as_list(as_map(entry).get("violations"))
    )


def _codes(fields: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    """Every word in the body that names the error, the most telling first (facts 0.4: `code` before `type`)."""
    details = fields.get("details")
    yield as_text(as_map(details).get("error_code"))
    for entry in as_list(details):
        yield as_text(as_map(entry).get("reason"))
    inner = as_map(fields.get("innererror") or fields.get("inner_error"))
    yield _code(fields.get("code"))
    yield as_text(inner.get("code"))
    yield as_text(fields.get("status"))
    yield as_text(fields.get("type"))
    if as_text(body.get("error_type")):
        yield as_text(body.get("error_type"))


def _code(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else as_text(value)


def _words(fields: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    said = as_text(fields.get("message")) or as_text(fields.get("Message")) or as_text(fields.get("error"))
    said = said or _detail(fields.get("detail")) or _detail(body.get("detail")) or as_text(body.get("message"))
    upstream = as_map(fields.get("metadata")).get("raw")
    return f"{said} ({upstream})" if isinstance(upstream, str) and upstream else said


def _detail(value: Any) -> str:
    """FastAPI's `detail`: a text, or a list of complaints."""
    if isinstance(value, list):
        return "; ".join(as_text(as_map(entry).get("msg")) for entry in value[:5])
    return as_text(value) or as_text(as_map(value).get("message"))


def _quotas(fields: Mapping[str, Any]) -> Iterator[str]:
    for entry in as_list(fields.get("details")):
        for violation in as_list(as_map(entry).get("violations")):
            yield as_text(as_map(violation).get("quotaId"))


def _page(reply: HttpReply) -> str:
    """What a body that is not JSON says about itself: the title of a web page, or its first words."""
    text = raw_text(reply)[:4_000]
    if _HTML.search(text):
        title = _TITLE.search(raw_text(reply))
        return f"a web page{f' titled {clean(title.group(1), 100)!r}' if title else ''} instead of an answer"
    return text if not text.lstrip().startswith(("{", "[")) else ""


def _read(reply: HttpReply) -> Any:
    try:
        return read_json(reply.body)
    except NotJsonBody:
        return None


def _should_retry(headers: Mapping[str, str]) -> bool | None:
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _hint(kind: type[CallFailed], evidence: Evidence, reply: HttpReply) -> float | None:
    """The wait that the server asks for; none where waiting does not help, nor from the head of a 200 (facts 0.6)."""
    if issubclass(kind, AccountError | RequestRefused):
        return None
    return retry_hint(reply.headers if reply.status >= 400 else {}, evidence.details)


def _billed(status: int) -> Billed:
    """An error status says that there is no answer, and answers are what providers bill; Gemini's say so in so many
    words (https://ai.google.dev/gemini-api/docs/billing). Not so the statuses of those who only stopped waiting."""
    return "maybe" if status < 400 or status in _GAVE_UP else "no"


def _sentence(evidence: Evidence, reply: HttpReply, target: Target) -> str:
    head = f"HTTP {reply.status} from {target.label}"
    if 200 <= reply.status < 300:
        head = f"{target.label} answered with an error (HTTP {reply.status})"
    words = clean(evidence.words) or ", ".join(evidence.codes)
    if reply.status in (404, 405) and not evidence.codes:
        words = f"{words or 'nothing more'} [check base_url, now {target.base_url}, and the model id]"
    return f"{head}: {words}" if words else head


def _redirect(reply: HttpReply, target: Target) -> CallFailed:
    location = reply.headers.get("location", "")
    try:
        parts = urlsplit(location)
        host = f"{parts.scheme}://{parts.hostname}" if parts.scheme and parts.hostname else parts.hostname or ""
    except ValueError:
        host = ""
    goal = clean(host or location, 200) or "nowhere"
    return RedirectRefused(
        f"HTTP {reply.status} from {target.label}: {target.origin} redirects to {goal}; redirects are not followed",
        status=reply.status,
        raw=raw_text(reply),
        provider_request_id=request_id_of(reply),
    )
