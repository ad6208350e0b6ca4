"""An earlier run whose results may be taken over: looked up by step and item key, in its own ledger."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpipe.engine.items import Cell, Item, to_json
from llmpipe.engine.known import COLUMNS, cell_of
from llmpipe.engine.ledger_read import LedgerReader

_FIND = (
    f"SELECT {COLUMNS}, results.failure_file, results.cached, results.reasks, results.retries, results.fallbacks,"  # noqa: S608
    " results.latency_s, results.answered_by, results.notes, results.request_key, results.finished_at,"
    " results.error_type"
    " FROM items JOIN results ON results.item = items.id WHERE items.scope = ? AND items.key = ? AND items.live = 1"
    " AND results.step = ?"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A result of the earlier run."""

    cell: Cell
    rest: Sequence[Any]


class Base:
    """The ledger of an earlier run, opened to be read. `steps` names those that may be taken over; None = all."""

    def __init__(self, folder: Path, steps: frozenset[str] | None = None) -> None:
        self.folder = folder
        self._allowed = steps
        self._ledger = LedgerReader(folder / "run.db")
        self._scopes = dict(self._ledger.rows("SELECT name, id FROM scopes"))
        self._steps = dict(self._ledger.rows("SELECT name, id FROM steps"))

    def find(self, step: str, item: Item) -> Found | None:
        """What the earlier run has for this step and item, or None."""
        if self._allowed is not None and step not in self._allowed:
            return None
        if step not in self._steps or item.scope not in self._scopes:
            return None
        args = (self._scopes[item.scope], item.key, self._steps[step])
        rows = self._ledger.rows(_FIND, args)
        return Found(cell_of(rows[0][1:]), rows[0][8:]) if rows else None

    def row(self, found: Found, step: int, item: Item, folder: Path) -> tuple[Any, ...]:
        """The same result as a row of the new run's ledger; the failure's file comes along."""
        file, cached, reasks, retries, fallbacks, latency, answered_by, notes, key, finished, error_type = found.rest
        if file and (self.folder / file).exists():
            target = folder / file
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(self.folder / file, target)
            target.chmod(0o600)
        cell = found.cell
        output = to_json(cell.output) if cell.status == "succeeded" else None
        return (
            *(step, item.id, cell.status, cell.digest, output, cell.reason or None, error_type, cell.code or None),
            *(cell.error or None, cell.permanent, file, cached, True, reasks, retries, fallbacks, latency),
            *(answered_by, notes, key, finished),
        )

    def close(self) -> None:
        """Close the earlier ledger."""
        self._ledger.close()
