"""How much a gate lets through: an even pace for rates, a ramp for the number in flight. Pure: time comes in."""

from __future__ import annotations

AUTO_START = 8
AUTO_MOST = 1024
PATIENCE = 500  # answers at the ceiling before one more call in flight is tried
PATIENCE_MOST = 16_000


class Pace:
    """Lets at most `per_minute` units through in any minute, evenly (the generic cell rate algorithm).

    `SLACK_S` worth of units may pass at once, since timers are not exact; the rate is lowered by as much, so that the
    limit holds in every window of 60 s, not on the average. One call may be larger than the slack: it passes, and those
    behind it wait the longer.
    """

    SLACK_S = 0.1

    def __init__(self, per_minute: float) -> None:
        if not per_minute > 0:
            raise ValueError("a pace needs a rate above 0")
        self.per_minute = per_minute
        self._unit_s = (60.0 + 1.5 * self.SLACK_S) / per_minute
        self._free_at = 0.0  # when all that has passed is paid for

    def ready_at(self) -> float:
        """From when on the next call may pass."""
        return self._free_at - self.SLACK_S

    def start_at(self, at: float) -> None:
        """Let nothing pass before `at`."""
        self._free_at = at + self.SLACK_S

    def take(self, now: float, units: float) -> None:
        """Note that a call of so many units passes at `now`."""
        self._free_at = max(now, self._free_at) + units * self._unit_s

    def correct(self, units: float) -> None:
        """Add what a call used beyond what it had reserved (negative: it used less)."""
        self._free_at += units * self._unit_s


class Ramp:
    """How many calls may be in flight: a fixed number, or one that is found out.

    Found out: from AUTO_START, one more per answer while the limit is in use (it doubles every round trip), until the
    first rejection. The call that was rejected knows how many were in flight before it: that is the ceiling, and it is
    remembered. From then on one more is tried after PATIENCE answers at the ceiling; each try that fails doubles the
    patience, one that succeeds makes the next step larger. A rejection soon after the last one is no question of the
    ceiling: the limit falls to four fifths and rises by one per round trip. The number of CPUs plays no part.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        self.limit = float(fixed or AUTO_START)
        self.ceiling: float | None = None
        self._patience = PATIENCE
        self._step = 1.0
        self._answers = 0  # since the limit last changed course

    @property
    def allowed(self) -> int:
        """The number that may be in flight, 1 at least."""
        return max(1, int(self.limit))

    def answered(self, *, in_use: bool) -> None:
        """Note an answer; `in_use`: as many calls as allowed were in flight, so that more would have been welcome."""
        if self.fixed is not None or not in_use:
            return
        self._answers += 1
        if self.ceiling is None:
            self.limit = min(AUTO_MOST, self.limit + 1)
        elif self.limit < self.ceiling:
            self.limit = min(self.ceiling, self.limit + 1 / self.limit)
        elif self._answers >= self._patience:
            self._answers = 0
            self.limit = self.ceiling = min(AUTO_MOST, self.ceiling + self._step)
            self._step *= 2

    def rejected(self, rank: int) -> bool:
        """Note the first rejection of a burst, of call number `rank` in flight. True: the limit changed."""
        if self.fixed is not None:
            return False
        before = self.limit
        soon = self.ceiling is not None and self._step == 1.0 and self._answers < self._patience
        if soon:
            self.ceiling, self.limit = self.limit, max(1.0, self.limit * 0.8)
        else:
            if self.ceiling is not None:
                self._patience = min(PATIENCE_MOST, self._patience * 2)
            self.ceiling = self.limit = float(max(1, min(rank - 1, int(self.limit))))
        self._answers, self._step = 0, 1.0
        return self.limit != before
