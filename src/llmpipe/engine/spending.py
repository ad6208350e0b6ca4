"""What the attempts of a run took and cost, as its ledger has it: the one place that says what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any, Self

from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.frozen import frozen

_MAYBE = "COALESCE(billed, 'maybe') = 'maybe'"  # an attempt without an outcome may have been billed
_OPEN = "COALESCE(billed, 'maybe') <> 'no' AND (input_tokens IS NULL OR output_tokens IS NULL)"
_SUMS = f"""SELECT COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0),
    COALESCE(SUM(outcome = 'ok' AND (input_tokens IS NULL OR output_tokens IS NULL)), 0),
    COALESCE(SUM(cost_usd), 0), COALESCE(SUM(cost_usd IS NULL AND billed = 'yes'), 0),
    COALESCE(SUM({_MAYBE}), 0), COALESCE(SUM(cost_usd IS NULL AND {_MAYBE}), 0),
    COALESCE(SUM(CASE WHEN {_OPEN} THEN reserved_usd END), 0),
    COALESCE(SUM(CASE WHEN {_OPEN} THEN reserved_tokens END), 0) FROM attempts"""  # noqa: S608 - fixed text


UNRESERVED = (  # for calls of which nobody knows what they took, made while no budget asked for it
    f"UPDATE attempts SET reserved_usd = ?, reserved_tokens = ? WHERE step = ? AND {_OPEN}"  # noqa: S608 - fixed text
    " AND COALESCE(reserved_tokens, 0) = 0"
)


@frozen
class Spending:
    """The sum over attempts, of one step or of all.

    `unpriced`: attempts that were billed and whose cost is not known. `maybe_billed`: attempts of which nobody knows
    whether they were billed; `maybe_unpriced` those of them that a price of 0 does not settle. `held_usd` and
    `held_tokens` are what the budget goes on holding for all of whose usage nothing is known.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_usage: int = 0
    cost_known_usd: Decimal = Decimal(0)
    unpriced: int = 0
    maybe_billed: int = 0
    maybe_unpriced: int = 0
    held_usd: Decimal = Decimal(0)
    held_tokens: int = 0

    @property
    def cost_usd(self) -> Decimal | None:
        """USD; None if any part of it is not known."""
        return None if self.unpriced or self.maybe_unpriced else self.cost_known_usd

    def told(self) -> Mapping[str, Any]:
        """What is said of a step: the fields of StepCounts."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("maybe_unpriced", "held_usd", "held_tokens"):
            del kept[name]
        return kept | {"cost_usd": self.cost_usd}

    @classmethod
    def of(cls, ledger: LedgerReader, step: int | None = None) -> Self:
        """What the ledger says of a step (by its number there), or of the whole run."""
        where, args = ("", ()) if step is None else (" WHERE step = ?", (step,))
        values = list(ledger.rows(_SUMS + where, args)[0])
        for at in (4, 8):
            values[at] = Decimal(str(round(values[at], 9)))
        return cls(*values)


def spent(ledger: LedgerReader, step: int | None = None) -> tuple[Decimal, int, int]:
    """USD, tokens and calls that count against the budget: what was used, or was reserved where nobody knows it.

    Of one step (by its number in the ledger), or of the whole run.
    """
    where, args = ("", ()) if step is None else (" WHERE step = ?", (step,))
    sums = (
        f"SELECT COALESCE(SUM(CASE WHEN {_OPEN} THEN reserved_usd ELSE cost_usd END), 0),"  # noqa: S608 - fixed text
        f" COALESCE(SUM(CASE WHEN {_OPEN} THEN reserved_tokens"
        " ELSE COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0) END), 0), COUNT(*) FROM attempts"
    )
    usd, tokens, calls = ledger.rows(sums + where, args)[0]
    return Decimal(str(usd)), tokens, calls


def tried(ledger: LedgerReader, step: int) -> int:
    """How many items of a step brought about a call."""
    return int(ledger.value("SELECT COUNT(DISTINCT item) FROM attempts WHERE step = ?", (step,)))


def longest_input(ledger: LedgerReader) -> int:
    """Tokens of the longest input that a reply counted; 0 without any."""
    return int(ledger.value("SELECT COALESCE(MAX(input_tokens), 0) FROM attempts"))


def overlong(ledger: LedgerReader) -> Mapping[str, int]:
    """By "provider/model-id": tokens of the longest answer among the replies that took more than was reserved."""
    sql = (
        "SELECT model, MAX(output_tokens) FROM attempts"
        " WHERE reserved_tokens > 0 AND input_tokens + output_tokens > reserved_tokens GROUP BY model"
    )
    return dict(ledger.rows(sql))
