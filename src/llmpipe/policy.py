"""Frozen policy data and its pure decisions: how long, how often, how many, how much."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from typing import Literal

from llmpipe.frozen import frozen

DEFAULT_BASE_S = 0.5
DEFAULT_CAP_S = 8.0


def backoff_delay(attempt: int, *, base: float = DEFAULT_BASE_S, cap: float = DEFAULT_CAP_S) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1): `min(cap, base * 2 ** (attempt - 1))`.

    Raises ValueError for an attempt below 1 or a negative base or cap.
    """
    if attempt < 1 or base < 0 or cap < 0:
        raise ValueError("backoff_delay needs attempt >= 1, base >= 0 and cap >= 0")
    if base == 0 or attempt - 1 > 1023:
        return min(cap, 0.0 if base == 0 else cap)
    return min(cap, base * 2.0 ** (attempt - 1))


def add_jitter(delay: float, *, rng: random.Random | None = None) -> float:
    """A uniformly random wait between 0 and `delay` seconds ("full jitter", facts B2.3)."""
    return (rng or _RNG).uniform(0.0, delay)


_RNG = random.Random()  # noqa: S311 - spreads waits, guards nothing


@frozen
class Timeout:
    """The clocks of a call, in seconds; None = that clock is off."""

    connect: float | None = 5.0
    first_token: float | None = None
    idle: float | None = 60.0
    attempt: float | None = 120.0
    total: float | None = 600.0


@frozen
class Retry:
    """How often and how patiently a request is sent again after a fault."""

    max_retries: int = 4  # after the first attempt
    base: float = DEFAULT_BASE_S
    cap: float = DEFAULT_CAP_S
    jitter: Literal["full", "none"] = "full"
    retry_after_max: float = 60.0
    retry_after_over: Literal["fail", "backoff"] = "fail"


@frozen
class Limits:
    """What one gate lets through. `concurrency` None = auto; rpm / tpm None = as headers of replies say, 0 = off.

    `most` bounds the concurrency besides, whatever it is: set by a run for the connections that its process may have.
    """

    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    most: int | None = None


@frozen
class CachePolicy:
    """Whether answers are read from and written to the cache; `ttl_s` None = they never grow old."""

    read: bool = True
    write: bool = True
    ttl_s: float | None = None


@frozen
class CallPolicy:
    """How one call is made. None of it enters the cache key.

    `fallback` names the models to ask when the first one fails, None = those of the model's own entry. `fallback_on`
    narrows it: one of these models is asked after errors that its words mean (llmpipe.error_words), one that is not in
    it after every error whose class says that another model may be asked.
    `offline`: answer from journal and cache, and send nothing (a miss is NotRecorded).
    """

    timeout: Timeout = Timeout()
    retry: Retry = Retry()
    cache: CachePolicy = CachePolicy()
    fallback: tuple[str, ...] | None = None
    fallback_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    offline: bool = False


@frozen
class Budget:
    """What a run may spend; None = unlimited. `wall_s` counts per invocation, the rest over resumes too."""

    usd: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None
    wall_s: float | None = None


@frozen
class MinSuccess:
    """The contract of a step: a share (0..1) of succeeded + failed, or a count of successes."""

    share: float | None = 1.0
    count: int | None = None

    def met(self, succeeded: int, failed: int) -> bool:
        """True if so many successes and failures keep the contract."""
        if self.count is not None:
            return succeeded >= self.count
        total = succeeded + failed
        return total == 0 or succeeded >= (self.share or 0.0) * total - 1e-9


@frozen
class MaxFailures:
    """When a run stops early: more failed items than `count`, or than this `share` (0..1) of succeeded + failed."""

    share: float | None = None
    count: int | None = None

    def exceeded(self, failed: int, ended: int) -> bool:
        """True if `failed` of `ended` items are too many. A share is judged from 20 ended items on."""
        if self.count is not None and failed > self.count:
            return True
        return self.share is not None and ended >= 20 and failed > self.share * ended + 1e-9
