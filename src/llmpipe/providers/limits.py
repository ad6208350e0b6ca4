"""Rate-limit headers of every family as one shape, and the server's hints how long to wait."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from llmpipe.frozen import frozen
from llmpipe.late import late
from llmpipe.providers.body import as_list, as_map, as_text

Headers = Mapping[str, str]
_NUMBER = late(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$", re.ASCII)
_GO_PART = late(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "month": 2_592_000.0}
_MISTRAL = late(r"^x-ratelimit-(limit|remaining|reset)-(req|tokens)-(?:(\d+)-)?(second|minute|hour|day|month)$")
_SHOWN = late(r"^(x-ratelimit|anthropic-ratelimit|ratelimit)")


@frozen
class Window:
    """One limit: how much per `window_s` seconds, how much is left of it, and in how many seconds it is whole again."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    window_s: float = 60.0

    @property
    def per_minute(self) -> float | None:
        """The limit as a rate per minute; None if unknown or 0."""
        return self.limit * 60.0 / self.window_s if self.limit else None


@frozen
class RateLimits:
    """What a reply's headers say about the account's limits; None where they say nothing.

    `tokens` counts input and output together; a provider that counts them apart fills the other two.
    """

    requests: Window | None = None
    tokens: Window | None = None
    input_tokens: Window | None = None
    output_tokens: Window | None = None


Kind = Literal["requests", "tokens", "input_tokens", "output_tokens"]
_OPENAI = ("x-ratelimit-limit-{}", "x-ratelimit-remaining-{}", "x-ratelimit-reset-{}")
_ANTHROPIC = tuple(f"anthropic-ratelimit-{{}}-{part}" for part in ("limit", "remaining", "reset"))
# Per family: what is counted, the names of its three headers, and the window it is counted over. Groq's requests are
# per day.
_FAMILIES: Mapping[str, tuple[tuple[Kind, str, tuple[str, ...], float], ...]] = MappingProxyType(
    {
        "openai": (("requests", "requests", _OPENAI, 60.0), ("tokens", "tokens", _OPENAI, 60.0)),
        "groq": (("requests", "requests", _OPENAI, 86400.0), ("tokens", "tokens", _OPENAI, 60.0)),
        "anthropic": (
            ("requests", "requests", _ANTHROPIC, 60.0),
            ("tokens", "tokens", _ANTHROPIC, 60.0),
            ("input_tokens", "input-tokens", _ANTHROPIC, 60.0),
            ("output_tokens", "output-tokens", _ANTHROPIC, 60.0),
        ),
    }
)


def limits_from_headers(headers: Headers, family: str, *, now: float | None = None) -> RateLimits:
    """The limits that `headers` (lower-case names) state, read as `family` spells them (facts A6).

    Resets are Go durations ("6m0s"), bare seconds (Azure) or RFC 3339 times relative to the reply's Date header, else
    to `now` (seconds since the epoch). What cannot be read is None; "none" and unknown families state nothing.
    """
    if family == "mistral":
        return _mistral(headers, _now(headers, now))
    found: dict[str, Window] = {}
    for kind, word, (limit, remaining, reset), window_s in _FAMILIES.get(family, ()):
        window = Window(
            limit=_count(headers.get(limit.format(word))),
            remaining=_count(headers.get(remaining.format(word))),
            reset_s=_reset(headers.get(reset.format(word)), _now(headers, now)),
            window_s=window_s,
        )
        if window != Window(window_s=window_s):
            found[kind] = window
    return RateLimits(**found)


def limit_headers(headers: Headers) -> dict[str, str]:
    """The limit headers of a reply as they came, at most 40 of at most 200 characters."""
    shown = [(name, value[:200]) for name, value in headers.items() if _SHOWN.match(name)]
    return dict(sorted(shown)[:40])


def retry_hint(headers: Headers, details: Any = None, *, now: float | None = None) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, `retry-after`, then Gemini's RetryInfo in `details`.

    A date counts from the reply's Date header if there is one (clock skew), else from `now`. Zero, negative, infinite,
    past and unreadable hints are None; a long one stays as it is, for the policy to judge (facts B2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds > 0:
        return milliseconds / 1000.0
    seconds = _retry_after(headers, now)
    return seconds if seconds is not None else _retry_info(details)


def _retry_after(headers: Headers, now: float | None) -> float | None:
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is None:
        date = _http_date(value)
        seconds = None if date is None else date - _now(headers, now)
    return seconds if seconds is not None and seconds > 0 else None


def _retry_info(details: Any) -> float | None:
    for entry in as_list(details):
        delay = as_text(as_map(entry).get("retryDelay"))
        if delay.endswith("s") and (seconds := _number(delay[:-1])) is not None and seconds > 0:
            return seconds
    return None


def _number(text: str | None) -> float | None:
    """A finite decimal number of at most 400 characters, without Python's liberties (underscores, "inf", "nan")."""
    text = (text or "").strip()
    if len(text) > 400 or not _NUMBER.match(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _count(text: str | None) -> int | None:
    value = _number(text)
    return int(value) if value is not None and value >= 0 else None


def _reset(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    seconds = _number(text)
    if seconds is None:
        seconds = go_duration(text.strip())
    if seconds is None and (at := _rfc3339(text.strip())) is not None:
        seconds = max(0.0, at - now)
    return seconds if seconds is not None and seconds >= 0 else None


def go_duration(text: str) -> float | None:
    """Seconds of a Go duration ("6ms", "1.2s", "6m0s"); None if `text` is none (facts A6)."""
    if not text or len(text) > 40 or _GO_PART.sub("", text):
        return None
    return sum(float(amount) * _GO_UNITS[unit] for amount, unit in _GO_PART.findall(text))


def _rfc3339(text: str) -> float | None:
    try:
        at = dt.datetime.fromisoformat(text[:40])
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo else at.replace(tzinfo=dt.UTC).timestamp()


def _http_date(text: str) -> float | None:
    try:
        from email.utils import parsedate_to_datetime  # 3 ms to import, for a header in its oldest form

        at = parsedate_to_datetime(text[:60])
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _now(headers: Headers, now: float | None) -> float:
    date = _http_date(headers["date"]) if "date" in headers else None
    return date if date is not None else time.time() if now is None else now


def _mistral(headers: Headers, now: float) -> RateLimits:
    """The narrowest window of each kind: `x-ratelimit-remaining-req-10-second` and its like."""
    windows: dict[tuple[str, float], dict[str, Any]] = {}
    for name, value in headers.items():
        if found := _MISTRAL.match(name):
            part, kind, times, unit = found.groups()
            window_s = _SECONDS[unit] * max(1, int(times or 1))
            read = _reset(value, now) if part == "reset" else _count(value)
            windows.setdefault((kind, window_s), {})["reset_s" if part == "reset" else part] = read

    def narrowest(kind: str) -> Window | None:
        fits = sorted((window_s, parts) for (of, window_s), parts in windows.items() if of == kind)
        return Window(window_s=fits[0][0], **fits[0][1]) if fits else None

    return RateLimits(requests=narrowest("req"), tokens=narrowest("tokens"))
