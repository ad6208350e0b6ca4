"""What a budget that stopped a run has to be for its rest, as flags of the command that continues it (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING

from llmpipe.engine.results import StepCounts
from llmpipe.policy import Budget

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount, Shortfall

_ROOM = Decimal("1.5")  # times what calls took so far: the rest may be longer


def sufficient(
    budget: Budget, lack: Shortfall, spent: Amount, steps: tuple[StepCounts, ...], left: Mapping[str, int]
) -> tuple[str, ...]:
    """Flags that raise each limit which the rest would break; `left` is the number of open items by step."""
    found: list[str] = []
    for kind, limit, before in (
        ("usd", budget.usd, spent.usd or Decimal(0)),
        ("tokens", budget.tokens, Decimal(spent.tokens)),
        ("calls", budget.calls, Decimal(spent.calls)),
    ):
        one = lack.more if kind == lack.kind else Decimal(0)
        rest = (
            left[s.id] * (_taken(kind, s) * _ROOM / s.calls if s.calls else one) for s in steps if s.kind == "model"
        )
        needed = before + one + sum(rest, Decimal(0))
        if limit is not None and needed > limit:
            found += _flag(kind, needed)
    return tuple(found)


def _taken(kind: str, step: StepCounts) -> Decimal:
    if kind == "usd":
        return step.cost_known_usd
    return Decimal(step.input_tokens + step.output_tokens if kind == "tokens" else step.calls)


def _flag(kind: str, amount: Decimal) -> tuple[str, str]:
    if kind == "usd":
        return "--max-cost", str(amount.quantize(Decimal("0.01" if amount >= Decimal("0.1") else "0.000001"), ROUND_UP))
    return "--set", f"budget.{kind}={math.ceil(amount)}"
