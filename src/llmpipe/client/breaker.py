"""The circuit breaker of a gate: opens after faults in a row, waits, probes with one call, closes. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`threshold` faults in a row open it; the waits before the probes double from `first_wait_s` to `wait_cap_s`;
    after `probes` that failed, the provider counts as down, and no call waits for it until `rest_s` have passed.

    The defaults wait for half a minute in all. The threshold is the number of attempts of one call with default
    retries, so that a provider that is down costs one item at most where calls are made one after another.
    """

    threshold: int = 5
    first_wait_s: float = 0.5
    wait_cap_s: float = 30.0
    probes: int = 6
    rest_s: float = 60.0


DEFAULT_BREAKER = BreakerPolicy()


class Breaker:
    """Closed (all may pass), open (nobody until `ready_at`), or probing (one call is out, its end decides)."""

    def __init__(self, policy: BreakerPolicy = DEFAULT_BREAKER) -> None:
        self.policy = policy
        self.faults = 0  # in a row
        self.failed_probes = 0
        self.down_until = 0.0
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        """ "closed", "open" or "probing"."""
        if self._probing:
            return "probing"
        return "closed" if self._open_until is None else "open"

    def ready_at(self) -> float:
        """From when on the next call may pass: 0 if closed, infinity while a probe is out."""
        if self._probing:
            return math.inf
        return self._open_until or 0.0

    def is_down(self, now: float) -> bool:
        """True if the provider stays down, and nobody should wait for it."""
        return now < self.down_until

    def passed(self) -> bool:
        """Note that a call passes; True if it is the probe."""
        if self._open_until is None:
            return False
        self._open_until, self._probing = None, True
        return True

    def answered(self) -> None:
        """Note an answer of whatever kind that shows the provider alive."""
        self.faults = self.failed_probes = 0
        self.down_until = 0.0
        self._open_until, self._probing = None, False

    def fault(self, now: float, *, probe: bool) -> bool:
        """Note a fault; True if it opened the breaker (again). While it is open, only the probe's fault counts."""
        self.faults += 1
        if probe:
            self.failed_probes += 1
        elif self.state != "closed" or self.faults < self.policy.threshold:
            return False
        self._probing = False
        wait = min(self.policy.wait_cap_s, self.policy.first_wait_s * 2.0 ** min(self.failed_probes, 60))
        if self.failed_probes >= self.policy.probes:
            self.give_up(now)
            wait = self.policy.rest_s
        self._open_until = now + wait
        return True

    def give_up(self, now: float) -> None:
        """Count the provider as down for a while."""
        self.down_until = now + self.policy.rest_s

    def abandoned(self, now: float) -> None:
        """Note that the probe ended without a verdict (it was cancelled): the next call is the probe."""
        if self._probing:
            self._probing, self._open_until = False, now
