"""Running counts of a step, kept while it runs; the ledger has the truth and must agree at the end."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from llmpipe.engine.items import Cell
from llmpipe.engine.spending import Spending

_BUCKET = 1.05  # each bucket of the latency histogram is 5 % wider than the one before


class Latencies:
    """A histogram of seconds with 5 % resolution and bounded memory."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self._buckets[math.ceil(math.log(max(seconds, 1e-6), _BUCKET))] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the latencies do not exceed; None without any."""
        left = math.ceil(share * self._buckets.total())
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return round(float(_BUCKET**bucket), 4)
        return None


@dataclass(slots=True)
class Tally:
    """One step's counts so far. `status` counts the cells that are in the ledger, from earlier processes too."""

    status: Counter[str] = field(default_factory=Counter)
    known_items: int = 0  # items of the step's scope that exist so far
    expected_items: int = 0  # how many there will be, where the dataset was read ahead
    failing: int = 0  # cells that failed and are not in the ledger yet
    carried: int = 0
    cached: int = 0
    calls: int = 0
    retries: int = 0
    reasks: int = 0
    fallbacks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_usage: int = 0
    cost_known_usd: Decimal = Decimal(0)
    unpriced: int = 0
    maybe_billed: int = 0
    maybe_unpriced: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    done: bool = False
    first_failure: tuple[str, str, str] | None = None  # key, code, error

    def change(self, old: Cell | None, new: Cell) -> None:
        """A cell came to be, or became another."""
        if old is not None:
            self.forget(old)
        self.status[new.status] += 1

    def forget(self, old: Cell) -> None:
        """A cell of an earlier process or run is no more."""
        self.lose(old.status, 1)

    def lose(self, status: str, count: int) -> None:
        """So many cells of an earlier process or run went with their items."""
        self.status[status] -= count
        self.carried -= count

    def begin_with(self, before: Spending) -> None:
        """Count what earlier processes took and spent."""
        for name in ("calls", "input_tokens", "output_tokens", "unknown_usage", "cost_known_usd", "unpriced",
                     "maybe_billed", "maybe_unpriced"):  # fmt: skip
            setattr(self, name, getattr(before, name))

    @property
    def cost_usd(self) -> Decimal | None:
        """USD so far; None if a part of it is not known."""
        return None if self.unpriced or self.maybe_unpriced else self.cost_known_usd

    def failures(self) -> int:
        """Cells that failed so far, those that are still to be written down too."""
        return self.status["failed"] + self.failing
