"""What a run cost, in words: the known part, what it lacks, and what the budget holds beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from llmpipe.report.figures import cost, count, money, plural


class Known(Protocol):
    """What is known of a cost."""

    @property
    def cost_usd(self) -> Decimal | None: ...
    @property
    def cost_known_usd(self) -> Decimal: ...
    @property
    def unpriced(self) -> int: ...
    @property
    def unknown_usage(self) -> int: ...
    @property
    def maybe_billed(self) -> int: ...


def cost_line(known: Known) -> str:
    """A cost in a line about calls, with what it lacks: "at least $1.20 (317 calls without a price)"."""
    text = cost(known.cost_usd, known.cost_known_usd)
    if known.cost_usd is not None:
        return text
    silent = min(known.unknown_usage, known.unpriced)
    reasons = (
        (known.unpriced - silent, "without a price"),
        (silent, "without a price or usage"),
        (known.maybe_billed, "that may have been billed"),
    )
    lacks = ", ".join(f"{plural(number, 'call')} {reason}" for number, reason in reasons if number)
    return f"{'cost ' if text == 'unknown' else ''}{text}{f' ({lacks})' if lacks else ''}"


def billing(maybe: int, silent: int, held_usd: Decimal, held_tokens: int) -> str:
    """What may have been billed beside the cost, and what the budget holds for it; "" if nothing.

    `maybe`: attempts that may have been billed; `silent`: responses without usage.
    """
    attempts = plural(maybe, "attempt")
    if not held_usd and not held_tokens:
        return f"{attempts} may have been billed: the outcome is not known" if maybe else ""
    parts = [f"{attempts} that may have been billed"] if maybe else []
    parts += [f"{plural(silent, 'response')} without usage"] if silent else []
    held = f"{money(held_usd)} more is" if held_usd else f"{count(held_tokens)} tokens more are"
    return f"{held} reserved for {' and '.join(parts)}"
