"""How much a gate lets through: an even pace for rates, a ramp for the number in flight. Pure: time comes in."""

from __future__ import annotations

from collections import deque

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
    first rejection. The call that was rejected knows how many were in flight: one less is the ceiling, and it is
    remembered. From then on one more is tried after PATIENCE answers at the ceiling; each try that fails doubles the
    patience, one that succeeds makes the next step larger. The number of CPUs plays no part.

    Not every rejection is about the number in flight. One that comes while few are says nothing about it, unless
    several in a row come at about the same number: then the provider has become narrower. One of a call that was alone
    shows that the number was never the matter: the search starts anew, and the next rejections change nothing.
    """

    SAME = 6  # so many rejections at about the same number are no chance
    SPREAD = 1.3
    INNOCENT = 10.0  # outweighs the next dozen rejections

    def __init__(self, fixed: int | None = None, most: int | None = None) -> None:
        self.fixed = fixed
        self.most = most or max(AUTO_MOST, fixed or 0)
        self.limit = min(fixed or AUTO_START, self.most)
        self.ceiling: int | None = None
        self._patience = PATIENCE
        self._step = 1
        self._answers = 0  # since the limit last changed course
        self._tried = False  # the limit was last changed by a try
        self._ranks: deque[int] = deque(maxlen=self.SAME)
        self._at_few = self._at_many = 0.0  # rejections of late, older ones counting less

    @property
    def allowed(self) -> int:
        """The number that may be in flight, 1 at least."""
        return self.limit

    def answered(self, *, in_use: bool) -> None:
        """Note an answer; `in_use`: as many calls as allowed were in flight, so that more would have been welcome."""
        if self.fixed is not None or not in_use:
            return
        self._answers += 1
        if self.ceiling is None:
            self.limit = min(self.most, self.limit + 1)
        elif self._answers >= self._patience:
            self._answers = 0
            self.limit = self.ceiling = min(self.most, self.ceiling + self._step)
            self._step, self._tried = self._step * 2, True

    def rejected(self, rank: int) -> bool:
        """Note the first rejection of a burst, of call number `rank` in flight. True: the limit changed."""
        if self.fixed is not None:
            return False
        if rank == 1:
            return self._start_anew()
        most = self._most_at(rank)
        if most is None:
            return False
        if self._tried:
            self._patience = min(PATIENCE_MOST, self._patience * 2)
        before = self.limit
        self.limit = self.ceiling = max(1, most)
        self._answers, self._step, self._tried = 0, 1, False
        self._ranks.clear()
        return self.limit != before

    def _start_anew(self) -> bool:
        before, self.limit, self.ceiling = self.limit, max(self.limit, min(AUTO_START, self.most)), None
        self._at_few = self.INNOCENT
        self._ranks.clear()
        return self.limit != before

    def _most_at(self, rank: int) -> int | None:
        """The number that a rejection at `rank` leaves possible; None if it says nothing about the number."""
        self._ranks.append(rank)
        many = rank > self.limit / 2
        self._at_few = self._at_few * 0.9 + (not many)
        self._at_many = self._at_many * 0.9 + many
        if len(self._ranks) == self.SAME and max(self._ranks) <= self.SPREAD * min(self._ranks):
            return min(*self._ranks, self.limit) - 1
        if many and 4 * self._at_few <= self._at_few + self._at_many:
            return min(rank, self.limit) - 1
        return None
