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
        ("1ns", 1e-9),
        ("2us", 2e-6),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("1d1h1m1s1ms1us1ns", 90061.001001001),
        ("0s", 0.0),
        ("1" * 39 + "s", float("1" * 39)),
        ("1" * 40 + "s", None),
        ("", None),
        ("6", None),
        ("s", None),
        ("6m!", None),
    ],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    assert go_duration(text) == (None if seconds is None else pytest.approx(seconds, rel=1e-12))


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


@pytest.mark.parametrize(
    ("window", "per_minute"),
    [
        (Window(), None), (Window(0), None), (Window(1), 1.0), (Window(7, window_s=1.0), 420.0),
        (Window(1440, window_s=86400.0), 1.0),
    ],
)  # fmt: skip
def test_a_limit_is_a_rate(window: Window, per_minute: float | None) -> None:
    assert window.per_minute == per_minute
    assert (Window().limit, Window().remaining, Window().reset_s, Window().window_s) == (None, None, None, 60.0)


ALL_OF_OPENAI = {f"x-ratelimit-{part}-{kind}": value for kind, values in (("requests", "123"), ("tokens", "456"))
                 for part, value in zip(("limit", "remaining", "reset"), values, strict=True)}  # fmt: skip
ALL_OF_ANTHROPIC = {
    f"anthropic-ratelimit-{kind}-{part}": value
    for kind, values in (("requests", "123"), ("tokens", "456"), ("input-tokens", "789"), ("output-tokens", "147"))
    for part, value in zip(("limit", "remaining", "reset"), values, strict=True)
}


def test_every_header_of_every_family_is_read() -> None:
    found = limits_from_headers(ALL_OF_OPENAI, "openai")
    assert found == RateLimits(requests=Window(1, 2, 3.0), tokens=Window(4, 5, 6.0))
    found = limits_from_headers(ALL_OF_OPENAI, "groq")
    assert found == RateLimits(requests=Window(1, 2, 3.0, 86400.0), tokens=Window(4, 5, 6.0))
    assert limits_from_headers(ALL_OF_ANTHROPIC, "anthropic") == RateLimits(
        Window(1, 2, 3.0), Window(4, 5, 6.0), Window(7, 8, 9.0), Window(1, 4, 7.0)
    )
    assert limits_from_headers(ALL_OF_OPENAI, "anthropic") == limits_from_headers(ALL_OF_ANTHROPIC, "openai")
    for name, value in {**ALL_OF_OPENAI, **ALL_OF_ANTHROPIC}.items():  # each alone is a window
        family = "anthropic" if name.startswith("anthropic") else "openai"
        alone = limits_from_headers({name: value}, family)
        assert [w for w in (alone.requests, alone.tokens, alone.input_tokens, alone.output_tokens) if w is not None]


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("second", 1.0), ("minute", 60.0), ("hour", 3600.0), ("day", 86400.0), ("month", 2_592_000.0)],
)
def test_mistrals_windows_in_every_unit(unit: str, seconds: float) -> None:
    for times, factor in (("", 1), ("0-", 1), ("1-", 1), ("2-", 2)):
        headers = {
            f"x-ratelimit-limit-req-{times}{unit}": "1",
            f"x-ratelimit-remaining-req-{times}{unit}": "2",
            f"x-ratelimit-reset-req-{times}{unit}": "3",
            f"x-ratelimit-limit-tokens-{times}{unit}": "4",
            f"x-ratelimit-reset-tokens-{times}{unit}": "2026-11-01T12:00:05Z",
        }
        assert limits_from_headers(headers, "mistral", now=NOON) == RateLimits(
            Window(1, 2, 3.0, seconds * factor), Window(4, None, 5.0, seconds * factor)
        )


@pytest.mark.parametrize(
    ("value", "count", "reset"),
    [
        ("7", 7, 7.0), ("7.9", 7, 7.9), ("0", 0, 0.0), ("-1", None, None), ("+7", 7, 7.0), (" 7 ", 7, 7.0),
        ("none", None, None), ("9" * 309, None, None), ("0" * 399 + "7", 7, 7.0), ("0" * 400 + "7", None, None),
        (" 1m ", None, 60.0), ("2026-11-01T12:00:30Z", None, 30.0), (" 2026-11-01T12:00:30 ", None, 30.0),
        ("2026-11-01T13:00:30+01:00", None, 30.0), ("2026-11-01T11:59:59Z", None, 0.0), (".5", 0, 0.5), ("5.", 5, 5.0),
        ("", None, None),
    ],
)  # fmt: skip
def test_a_count_and_a_reset(value: str, count: int | None, reset: float | None) -> None:
    headers = {
        "x-ratelimit-limit-tokens": value,
        "x-ratelimit-reset-tokens": value,
        "x-ratelimit-remaining-tokens": "1",
    }
    assert limits_from_headers(headers, "openai", now=NOON).tokens == Window(count, 1, reset)


def test_the_replys_own_clock_comes_before_ours() -> None:
    reset = {"x-ratelimit-reset-tokens": "2026-11-01T12:00:30Z"}
    assert limits_from_headers(reset | {"date": DATE}, "openai", now=5.0).tokens == Window(None, None, 30.0)
    assert limits_from_headers(reset | {"date": "no date"}, "openai", now=NOON).tokens == Window(None, None, 30.0)
    assert retry_hint({"retry-after": DATE, "date": "Sun, 01 Nov 2026 11:59:59 -0000"}, now=5.0) == 1.0
    assert retry_hint({"retry-after": DATE, "date": "Sun, 01 Nov 2026 12:00:00 GMT"}, now=5.0) is None


def test_small_hints_count_and_the_first_of_several_does() -> None:
    assert retry_hint({"retry-after-ms": "0.5"}) == 0.0005
    assert retry_hint({"retry-after": "0.25"}, [{"retryDelay": "9s"}]) == 0.25
    assert retry_hint({"retry-after": "0"}, [{"retryDelay": "0s"}, {"retryDelay": "0.5s"}, {"retryDelay": "9s"}]) == 0.5
    assert retry_hint({}, {"retryDelay": "9s"}) is retry_hint({}) is None


def test_which_headers_are_limit_headers() -> None:
    kept = limit_headers(
        {"x-ratelimit-b": "v" * 201, "anthropic-ratelimit-a": "1", "ratelimit": "2", "my-ratelimit": "3", "x": "4"}
    )
    assert list(kept.items()) == [("anthropic-ratelimit-a", "1"), ("ratelimit", "2"), ("x-ratelimit-b", "v" * 200)]
    assert list(limit_headers({f"ratelimit-{n:02}": "" for n in reversed(range(41))})) == [
        f"ratelimit-{n:02}" for n in range(40)
    ]
