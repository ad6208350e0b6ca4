"""Lists of results as templates see them: in memory for the few below one item, from the ledger for a whole step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from llmpipe.config.templates import Entries
from llmpipe.engine.items import Item
from llmpipe.engine.ledger_read import LedgerReader, from_json

_WHOLE = (
    "SELECT items.key, items.data, results.output FROM items JOIN results ON results.item = items.id"
    " WHERE items.scope = ? AND items.live = 1 AND results.step = ? AND results.status = 'succeeded' ORDER BY items.ord"
)


def entry(key: str, item: Any, output: Any) -> dict[str, Any]:
    """One entry of a list of results."""
    return {"key": key, "item": item, "output": output}


class _Counted(Entries):
    """A list that knows how many results are missing from it."""

    _failed = 0
    _skipped = 0

    @property
    def failed(self) -> int:
        """How many items failed."""
        return self._failed

    @property
    def skipped(self) -> int:
        """How many items were skipped."""
        return self._skipped


class ListEntries(_Counted):
    """Entries in memory: the few below one item."""

    def __init__(self, entries: Sequence[dict[str, Any]], *, failed: int, skipped: int) -> None:
        self._entries, self._failed, self._skipped = entries, failed, skipped

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._entries[index]


def item_entries(step: str, items: Sequence[Item], expand: Callable[[Item], Any]) -> ListEntries:
    """The results of a step for these items; `expand` makes of an item what templates see of it."""
    cells = [(item, item.cells[step]) for item in items if step in item.cells]
    return ListEntries(
        [entry(i.key, expand(i), c.output) for i, c in cells if c.status == "succeeded"],
        failed=sum(c.status == "failed" for _, c in cells),
        skipped=sum(c.status == "skipped" for _, c in cells),
    )


class StepEntries(_Counted):
    """All results of a step, in input order, read from the ledger in blocks whenever they are walked."""

    def __init__(self, ledger: LedgerReader, *, scope: int, step: int, expand: Any = None) -> None:
        """`scope` and `step` are the ledger's numbers; `expand` makes an item's data of what the ledger holds."""
        self._ledger, self._scope, self._step = ledger, scope, step
        self._expand = expand or (lambda data: data)
        counts = dict(
            ledger.rows(
                "SELECT results.status, COUNT(*) FROM items JOIN results ON results.item = items.id"
                " WHERE items.scope = ? AND items.live = 1 AND results.step = ? GROUP BY results.status",
                (scope, step),
            )
        )
        self._length = int(counts.get("succeeded", 0))
        self._failed = int(counts.get("failed", 0))
        self._skipped = int(counts.get("skipped", 0))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        for block in self._ledger.scan(_WHOLE, (self._scope, self._step)):
            for key, data, output in block:
                yield entry(key, self._expand(from_json(data)), from_json(output))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            start, stop, stride = index.indices(self._length)
            if stride > 0:
                return list(self._window(start, max(0, stop - start)))[::stride]
            return list(self)[index]
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(index)
        return next(self._window(at, 1))

    def _window(self, start: int, count: int) -> Iterator[Any]:
        args = (self._scope, self._step, count, start)
        for key, data, output in self._ledger.rows(_WHOLE + " LIMIT ? OFFSET ?", args):
            yield entry(key, self._expand(from_json(data)), from_json(output))

    def digest(self) -> bytes:
        """16 bytes that change when any entry, or a count of what is missing, changes."""
        sha = hashlib.sha256(f"{self.failed} {self.skipped}".encode())
        for block in self._ledger.scan(_WHOLE, (self._scope, self._step), size=5000):
            for row in block:
                for text in row:
                    raw = text.encode("utf-8", "surrogatepass")
                    sha.update(len(raw).to_bytes(8, "big"))
                    sha.update(raw)
        return sha.digest()[:16]
