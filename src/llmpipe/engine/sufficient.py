"""What a budget that stopped a run has to be for its rest, as flags of the command that continues it (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Literal

from llmpipe.frozen import frozen
from llmpipe.policy import Budget

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount, Shortfall

_ROOM = Decimal("1.5")  # times what items took so far: the rest may take more
Kind = Literal["usd", "tokens", "calls"]


@frozen
class Rest:
    """What is left of a step: open items; what those that were `tried` took; what one call more may take."""

    left: int
    tried: int
    taken: Amount
    most: Amount


def sufficient(budget: Budget, lack: Shortfall, spent: Amount, rests: Sequence[Rest]) -> tuple[str, ...]:
    """Flags that raise each limit which the rest would break."""
    found: list[str] = []
    kinds: tuple[Kind, ...] = ("usd", "tokens", "calls")
    for kind in kinds:
        limit = getattr(budget, kind)
        one = lack.more if kind == lack.kind else Decimal(0)
        needed = _of(spent, kind) + one + sum((_needed(rest, kind, one) for rest in rests), Decimal(0))
        if limit is not None and needed > limit:
            found += _flag(kind, needed)
    return tuple(found)


def _needed(rest: Rest, kind: Kind, one: Decimal) -> Decimal:
    """What the open items may take: as those that were tried, and room; the fewer these are, the more of the bound."""
    most = _of(rest.most, kind) or one
    return rest.left * (_of(rest.taken, kind) * _ROOM + most) / (rest.tried + 1)


def _of(amount: Amount, kind: Kind) -> Decimal:
    return Decimal(getattr(amount, kind) or 0)


def _flag(kind: Kind, amount: Decimal) -> tuple[str, str]:
    if kind == "usd":
        return "--max-cost", str(amount.quantize(Decimal("0.01" if amount >= Decimal("0.1") else "0.000001"), ROUND_UP))
    return "--set", f"budget.{kind}={math.ceil(amount)}"
