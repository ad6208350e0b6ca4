"""What a run that has no verdict yet (at work, or killed) has come to: counted in its ledger, which is the truth."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.spending import Spending
from llmpipe.errors import StorageError

_STEPS = "SELECT id, name, scope, kind, model FROM steps ORDER BY id"
_ENDS = (
    "SELECT COALESCE(results.status, 'unsent'), COUNT(*), COALESCE(SUM(results.cached), 0) FROM items"
    " LEFT JOIN results ON results.item = items.id AND results.step = ?"
    " WHERE items.scope = ? AND items.live = 1 GROUP BY 1"
)
STATUSES = ("succeeded", "failed", "skipped", "unsent")


def number_of(folder: Path) -> int:
    """The place of a run among the others as its ledger says it; 0 if that does not."""
    try:
        with LedgerReader(folder / "run.db") as ledger:
            return int(ledger.value("SELECT value FROM meta WHERE name = 'number'") or 0)
    except (StorageError, ValueError):
        return 0


def counted(folder: Path) -> dict[str, Any]:
    """Totals, steps and open bills of a run, with the names that `run.json` has for them. Raises StorageError.

    Items whose rows were not read yet are not among them.
    """
    with LedgerReader(folder / "run.db") as ledger:
        steps = [_step(ledger, row) for row in ledger.rows(_STEPS)]
        spending = Spending.of(ledger)
    names = ("items", *STATUSES, "cached", "calls", "input_tokens", "output_tokens", "unknown_usage", "unpriced",
             "maybe_billed")  # fmt: skip
    totals: dict[str, Any] = {name: sum(step[name] for step in steps) for name in names}
    costs = [step["cost_usd"] for step in steps]
    totals["cost_usd"] = None if None in costs else sum(costs)
    totals["cost_known_usd"] = sum(step["cost_known_usd"] for step in steps)
    return {
        "totals": totals,
        "steps": steps,
        "maybe_billed": spending.maybe_billed,
        "held_usd": float(spending.held_usd),
        "held_tokens": spending.held_tokens,
    }


def _step(ledger: LedgerReader, row: tuple[Any, ...]) -> dict[str, Any]:
    number, name, scope, kind, model = row
    ends = {status: (count, cached) for status, count, cached in ledger.rows(_ENDS, (number, scope))}
    return {
        "id": name,
        "kind": kind,
        "model": model,
        "items": sum(count for count, _ in ends.values()),
        **{status: ends.get(status, (0, 0))[0] for status in STATUSES},
        "cached": sum(cached for _, cached in ends.values()),
        **{n: float(v) if isinstance(v, Decimal) else v for n, v in Spending.of(ledger, number).told().items()},
    }
