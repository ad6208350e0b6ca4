"""Waits and limits in every spelling that servers use, and in none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.providers.limits import RateLimits, Window, go_duration, limit_headers, limits_from_headers, retry_hint

NOON = 1_793_534_400.0  # 2026-11-01T12:00:00Z
DATE = "Sun, 01 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "1e2"}, 100.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "1e308"}, 1e308),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "-1", "retry-after": "1"}, 1.0),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Nov 2026 12:10:00 GMT", "date": "Sun, 01 Nov 2026 12:09:50 GMT"}, 10.0),
        ({"retry-after": "Fri, 01 Jan 2099 00:00:00 GMT"}, 2_277_374_400.0),
    ],
)
def test_a_hint_is_read(headers: dict[str, str], seconds: float) -> None:
    assert retry_hint(headers, now=NOON) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["0", "-5", "nan", "inf", "-inf", "Infinity", "1e999", "", "soon", "1_000", "٣", "5s", "0x10", "9" * 500,
     "Sun, 01 Nov 2026 11:59:59 GMT", "Sun, 99 Nov 2026 11:59:59 GMT", "5, 10", "1e308;q=1"],
)  # fmt: skip
def test_a_hint_that_is_none_is_none(value: str) -> None:
    assert retry_hint({"retry-after": value, "retry-after-ms": value, "date": DATE}, now=NOON) is None


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("34s", 34.0), ("0.5s", 0.5), ("65205s", 65205.0), ("0s", None), ("x", None), (5, None), ("5", None)],
)
def test_retry_info_is_read(delay: object, seconds: float | None) -> None:
    assert retry_hint({}, [{"@type": "x"}, {"retryDelay": delay}]) == seconds


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_reading(value: str, date: str) -> None:
    found = retry_hint({"retry-after": value, "date": date}, now=NOON)
    assert found is None or (found > 0 and math.isfinite(found))
    for family in ("openai", "groq", "anthropic", "mistral", "none"):
        names = ("x-ratelimit-reset-requests", "anthropic-ratelimit-tokens-reset", "x-ratelimit-reset-req-minute")
        limits = limits_from_headers(dict.fromkeys(names, value), family, now=NOON)
        for window in (limits.requests, limits.tokens):
            assert window is None or window.reset_s is None or (window.reset_s >= 0 and math.isfinite(window.reset_s))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6ms", 0.006),
        ("1s", 1.0),
        ("1.2s", 1.2),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("17µs", 1.7e-5),
        ("", None),
        ("6", None),
        ("s", None),
        ("6m!", None),
    ],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    assert go_duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_openai_limits() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert limits_from_headers(headers, "openai") == RateLimits(
        requests=Window(500, 499, pytest.approx(0.12), 60.0), tokens=Window(200000, 0, 360.0, 60.0)
    )


def test_azure_counts_bare_seconds() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "7",
        "x-ratelimit-renewalperiod-requests": "60",
    }
    assert limits_from_headers(headers, "openai").requests == Window(None, 9, 7.0)


def test_groq_counts_requests_by_the_day() -> None:
    found = limits_from_headers({"x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "6000"}, "groq")
    assert found.requests is not None
    assert found.requests.per_minute == pytest.approx(10.0)
    assert found.tokens is not None
    assert found.tokens.per_minute == pytest.approx(6000.0)


def test_anthropic_limits_reset_at_a_time() -> None:
    headers = {
        "date": DATE,
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-01T12:00:01Z",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-01T11:00:00Z",
    }
    found = limits_from_headers(headers, "anthropic", now=0.0)
    assert found.requests == Window(50, 49, 1.0)
    assert found.input_tokens == Window(30000)
    assert found.output_tokens == Window(None, 8000, 0.0)
    assert found.tokens is None


def test_mistral_names_its_windows() -> None:
    headers = {
        "x-ratelimit-limit-req-minute": "60",
        "x-ratelimit-limit-req-10-second": "6",
        "x-ratelimit-remaining-req-10-second": "5",
        "x-ratelimit-limit-tokens-minute": "500000",
        "x-ratelimit-limit-tokens-month": "1000000000",
    }
    assert limits_from_headers(headers, "mistral") == RateLimits(
        requests=Window(6, 5, None, 10.0), tokens=Window(500000, None, None, 60.0)
    )


@pytest.mark.parametrize("family", ["openai", "groq", "anthropic", "mistral", "none", "a family of next year"])
def test_no_headers_no_limits(family: str) -> None:
    assert limits_from_headers({"content-type": "x"}, family) == RateLimits()


def test_limit_headers_are_kept_as_they_came_and_bounded() -> None:
    headers = {f"x-ratelimit-{n:03}": "v" * 500 for n in range(100)} | {"authorization": "x", "ratelimit": "r"}
    kept = limit_headers(headers)
    assert len(kept) == 40
    assert all(len(value) <= 200 for value in kept.values())
    assert "authorization" not in kept
