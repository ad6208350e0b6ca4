"""The circuit breaker of a gate: opens after faults that are no chance, waits, probes with one call, closes. Pure."""

from __future__ import annotations

import math

from llmpipe.frozen import frozen


@frozen
class BreakerPolicy:
    """`threshold` faults in a row open it, and more where other calls are still out (`is_no_chance`): a provider at
    which up to `tolerated` of the calls fail is not down. The waits before the probes double from `first_wait_s` to
    `wait_cap_s`; after `probes` that failed, the provider counts as down, and no call waits for it until `rest_s` have
    passed.

    The defaults wait for half a minute in all. The threshold is the number of attempts of one call with default
    retries, so that a provider that is down costs one item at most where calls are made one after another.
    """

    threshold: int = 5
    tolerated: float = 0.3
    first_wait_s: float = 0.5
    wait_cap_s: float = 30.0
    probes: int = 6
    rest_s: float = 60.0


DEFAULT_BREAKER = BreakerPolicy()


def is_no_chance(faults: int, others: int, policy: BreakerPolicy) -> bool:
    """Whether `faults` and not one answer among `faults + others` calls are more than a shaky provider explains.

    `others` are calls of which nothing is known yet: each may still be answered. The bound is Chernoff's for a
    provider at which `tolerated` of the calls fail, at the level at which `threshold` faults stand by themselves.
    """
    tolerated, calls = policy.tolerated, faults + others
    share = faults / calls if calls else 0.0
    if faults < policy.threshold or share <= tolerated:
        return False
    weight = share * math.log(share / tolerated)
    if share < 1.0:
        weight += (1.0 - share) * math.log((1.0 - share) / (1.0 - tolerated))
    return calls * weight >= policy.threshold * -math.log(tolerated) - 1e-9


@frozen
class Pass:
    """A call that has passed: its number, in order, and whether its end decides over the breaker."""

    number: int
    probe: bool = False


class Breaker:
    """Closed (all may pass), open (nobody until `ready_at`), or probing (one call is out, its end decides).

    Calls are judged in the order in which they passed, not in that of their ends: faults come quicker than answers, so
    with many calls in flight a few faults always come in a row. An answer speaks for the provider as it was when the
    call passed; it refutes the faults of calls that had passed before it, and no later ones.
    """

    def __init__(self, policy: BreakerPolicy = DEFAULT_BREAKER) -> None:
        self.policy = policy
        self.failed_probes = 0
        self.down_until = 0.0
        self._passed = 0
        self._answered = 0  # the highest number of a call that was answered
        self._out: set[int] = set()
        self._faults: list[int] = []  # the numbers of calls that failed, above the highest answered
        self._open_until: float | None = None
        self._probing = False

    @property
    def faults(self) -> int:
        """How many faults no answer has refuted."""
        return len(self._faults)

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

    def passed(self) -> Pass:
        """Note that a call passes."""
        self._passed += 1
        self._out.add(self._passed)
        if self._open_until is None:
            return Pass(self._passed)
        self._open_until, self._probing = None, True
        return Pass(self._passed, probe=True)

    def answered(self, call: Pass) -> bool:
        """Note an end that shows the provider alive; True if it closed the breaker."""
        self._out.discard(call.number)
        self._answered = max(self._answered, call.number)
        if self._faults:
            self._faults = [number for number in self._faults if number > self._answered]
        if self.state == "closed" or (not call.probe and len(self._faults) >= self.policy.threshold):
            return False
        self.failed_probes = 0
        self.down_until = 0.0
        self._open_until, self._probing = None, False
        return True

    def fault(self, now: float, call: Pass) -> bool:
        """Note a fault; True if it opened the breaker (again). While it is open, only the probe's fault counts."""
        self._out.discard(call.number)
        if call.number > self._answered:
            self._faults.append(call.number)
        if call.probe:
            self.failed_probes += 1
        elif self.state != "closed" or not self._is_no_chance():
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

    def abandoned(self, now: float, call: Pass) -> None:
        """Note an end without a verdict (the call was cancelled); after a probe the next call is the probe."""
        self._out.discard(call.number)
        if call.probe and self._probing:
            self._probing, self._open_until = False, now

    def _is_no_chance(self) -> bool:
        """Calls that passed after all that failed have had no time to show anything."""
        if len(self._faults) < self.policy.threshold:
            return False
        newest = max(self._faults)
        others = sum(self._answered < number < newest for number in self._out)
        return is_no_chance(len(self._faults), others, self.policy)
