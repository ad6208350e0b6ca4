"""The policies: their documented defaults, and each decision on both sides of its boundary."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest

from llmpipe.policy import (
    Budget,
    CachePolicy,
    CallPolicy,
    Limits,
    MaxFailures,
    MinSuccess,
    Retry,
    Timeout,
    add_jitter,
    backoff_delay,
)


def test_the_documented_defaults() -> None:
    nested = {"timeout": Timeout(), "retry": Retry(), "cache": CachePolicy()}
    expected: list[tuple[Any, dict[str, Any]]] = [
        (Timeout(), {"connect": 5.0, "first_token": None, "idle": 60.0, "attempt": 120.0, "total": 600.0}),
        (
            Retry(),
            {
                "max_retries": 4,
                "base": 0.5,
                "cap": 8.0,
                "jitter": "full",
                "retry_after_max": 60.0,
                "retry_after_over": "fail",
            },
        ),
        (Limits(), {"concurrency": None, "rpm": None, "tpm": None, "most": None}),
        (CachePolicy(), {"read": True, "write": True, "ttl_s": None}),
        (CallPolicy(), {**nested, "fallback": None, "fallback_on": {}, "offline": False}),
        (Budget(), {"usd": None, "tokens": None, "calls": None, "wall_s": None}),
        (MinSuccess(), {"share": 1.0, "count": None}),
        (MaxFailures(), {"share": None, "count": None}),
    ]
    for policy, values in expected:
        assert {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)} == values


@pytest.mark.parametrize(
    ("attempt", "base", "cap", "seconds"),
    [
        (1, 0.5, 8.0, 0.5),
        (2, 0.5, 8.0, 1.0),
        (5, 0.5, 8.0, 8.0),
        (6, 0.5, 8.0, 8.0),
        (2, 1.0, 8.0, 2.0),
        (1, 3.0, 2.0, 2.0),
        (4, 1.5, 100.0, 12.0),
        (1, 0.0, 8.0, 0.0),
        (5000, 0.0, 8.0, 0.0),
        (1, 0.5, 0.0, 0.0),
        (1024, 5e-324, math.inf, 5e-324 * 2.0**1023),
        (1025, 5e-324, 7.0, 7.0),
        (1025, 0.5, 8.0, 8.0),
    ],
)
def test_a_wait_doubles_up_to_its_cap_however_many_attempts(
    attempt: int, base: float, cap: float, seconds: float
) -> None:
    assert backoff_delay(attempt, base=base, cap=cap) == seconds


@pytest.mark.parametrize(("attempt", "base", "cap"), [(0, 0.5, 8.0), (-1, 0.5, 8.0), (1, -0.1, 8.0), (1, 0.5, -0.1)])
def test_a_senseless_backoff_is_refused(attempt: int, base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="attempt >= 1, base >= 0 and cap >= 0"):
        backoff_delay(attempt, base=base, cap=cap)


def test_jitter_is_drawn_from_the_given_source_and_differs_without_one() -> None:
    assert add_jitter(8.0, rng=random.Random(1)) == random.Random(1).uniform(0.0, 8.0)
    waits = {add_jitter(8.0) for _ in range(50)}
    assert len(waits) > 1
    assert all(0 <= wait <= 8 for wait in waits)


@pytest.mark.parametrize(
    ("policy", "succeeded", "failed", "met"),
    [
        (MinSuccess(), 0, 0, True),
        (MinSuccess(), 9, 0, True),
        (MinSuccess(), 9, 1, False),
        (MinSuccess(), 0, 1, False),
        (MinSuccess(share=0.9), 9, 1, True),
        (MinSuccess(share=0.9), 89, 11, False),
        (MinSuccess(share=0.3), 3, 7, True),  # 0.3 x 10 is a little more than 3 in binary
        (MinSuccess(share=0.07), 7, 93, True),
        (MinSuccess(share=0.0), 0, 5, True),
        (MinSuccess(share=None), 0, 5, True),
        (MinSuccess(count=3), 3, 100, True),
        (MinSuccess(count=3), 2, 0, False),
        (MinSuccess(count=0), 0, 0, True),
        (MinSuccess(share=1.0, count=1), 1, 9, True),
    ],
)
def test_a_contract_is_met(policy: MinSuccess, succeeded: int, failed: int, met: bool) -> None:
    assert policy.met(succeeded, failed) is met


@pytest.mark.parametrize(
    ("policy", "failed", "ended", "exceeded"),
    [
        (MaxFailures(), 1000, 1000, False),
        (MaxFailures(count=3), 3, 3, False),
        (MaxFailures(count=3), 4, 4, True),
        (MaxFailures(count=0), 0, 9, False),
        (MaxFailures(count=0), 1, 1, True),
        (MaxFailures(share=0.5), 19, 19, False),
        (MaxFailures(share=0.5), 11, 20, True),
        (MaxFailures(share=0.5), 10, 20, False),
        (MaxFailures(share=0.07), 7, 100, False),
        (MaxFailures(share=0.07), 8, 100, True),
        (MaxFailures(share=0.1), 3, 30, False),
        (MaxFailures(share=0.0), 0, 20, False),
        (MaxFailures(share=0.0), 1, 20, True),
        (MaxFailures(share=0.5, count=5), 6, 10, True),
        (MaxFailures(share=0.1, count=50), 3, 20, True),
        (MaxFailures(share=0.1, count=50), 2, 20, False),
    ],
)
def test_a_run_stops_early(policy: MaxFailures, failed: int, ended: int, exceeded: bool) -> None:
    assert policy.exceeded(failed, ended) is exceeded
