"""What the run's own ledger already has for an item: read when a run is continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmpipe.engine.items import Cell, Item
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import from_json

COLUMNS = (
    "results.step, results.status, results.digest, results.output, results.reason, results.code, results.error,"
    " results.permanent"
)

CELLS = (  # by step and item, as results are found; by the item alone all of them would be read
    f"SELECT {COLUMNS} FROM results WHERE results.step IN (SELECT id FROM steps) AND results.item = ?"  # noqa: S608
)


def cell_of(row: Sequence[Any]) -> Cell:
    """A cell of the columns behind `results.step` in COLUMNS."""
    status, digest, output, reason, code, error, permanent = row[:7]
    value = from_json(output) if output is not None else None
    return Cell(status, digest, value, reason or "", code or "", error or "", bool(permanent))


class Known:
    """The results that earlier processes of this run wrote down."""

    def __init__(self, ledger: Ledger, step_numbers: Mapping[str, int]) -> None:
        self._ledger = ledger
        self._names = {number: id for id, number in step_numbers.items()}

    def cells(self, item: Item) -> Mapping[str, Cell]:
        """step id → cell, read once per item."""
        if item.known is None:
            rows = self._ledger.rows(CELLS, (item.id,))
            item.known = {self._names[row[0]]: cell_of(row[1:]) for row in rows if row[0] in self._names}
        return item.known
