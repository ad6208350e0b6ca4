"""Groups: the results of a step in batches, by an expression's value, by number, or both."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from llmpipe.config.pipeline import Scope
from llmpipe.engine.context import Blocked
from llmpipe.engine.entries import StepEntries
from llmpipe.engine.items import canonical, digest_of, unmade
from llmpipe.engine.ledger_read import from_json
from llmpipe.engine.state import RunState
from llmpipe.errors import ItemError
from llmpipe.json_numbers import one_form

_DATA = "SELECT data FROM items WHERE id = ?"


class _Batch:
    """A group that is being filled: the numbers of its members (8 bytes each) and a digest of their contents."""

    __slots__ = ("_sha", "key", "members", "number")

    def __init__(self, key: Any, number: int) -> None:
        self.key, self.number = key, number
        self.members = array("q")
        self._sha = hashlib.sha256()

    def add(self, member: int, row: dict[str, Any]) -> None:
        """One more member."""
        self.members.append(member)
        self._sha.update(digest_of(canonical(row)))

    def digest(self, key: str) -> bytes:
        """16 bytes that change with the group's key, its members' contents and their order."""
        return digest_of(key, self._sha.digest())


def group_items(run: RunState, scope: Scope) -> Iterator[tuple[str, Any, bytes]]:
    """(key, data, digest) of each group of `scope`, in the order in which its first member stands in the input.

    Only member numbers are kept in memory, not their contents.
    """
    source = scope.step or ""
    try:
        entries = run.wholes.get(source)
    except Blocked as blocked:
        run.note(f"no groups of {source} were made: {blocked.cell.reason or 'it was not finished'}")
        return
    batches: dict[str, list[_Batch]] = {}
    order: list[_Batch] = []
    names = _Names(run, scope)
    without: list[tuple[str, str]] = []
    for id, parent, row in _numbered(run, source, entries):
        try:
            value = one_form(scope.by.evaluate(names.of(parent, row))) if scope.by is not None else None
            name = canonical(value)
        except (ItemError, ValueError) as err:
            without.append((row["key"], f"`by` gives no group for it: {err}"))
            continue
        known = batches.setdefault(name, [])
        if not known or (scope.size is not None and len(known[-1].members) >= scope.size):
            known.append(_Batch(value, len(known)))
            order.append(known[-1])
        known[-1].add(id, row)
    taken: set[str] = set()
    for n, batch in enumerate(order):
        if scope.by is None:
            batch.key = batch.number = n
        key = _group_key(batch, scope, taken)
        data = {"key": batch.key, "number": batch.number, "members": batch.members.tolist()}
        yield key, data, batch.digest(key)
    for row_key, reason in without:
        key = f"{row_key}/by" if row_key in taken else row_key
        taken.add(key)
        yield key, unmade(reason), digest_of(key, reason)


def _numbered(run: RunState, step: str, entries: StepEntries) -> Iterator[tuple[int, int | None, dict[str, Any]]]:
    ids = (
        "SELECT items.id, items.parent FROM items JOIN results ON results.item = items.id"
        " WHERE items.scope = ? AND items.live = 1 AND results.step = ? AND results.status = 'succeeded'"
        " ORDER BY items.ord"
    )
    scope = run.scope_numbers[run.pipeline.step(step).scope]
    numbers = (pair for block in run.ledger.scan(ids, (scope, run.step_numbers[step])) for pair in block)
    rows: Iterable[Any] = entries
    return ((id, parent, row) for (id, parent), row in zip(numbers, rows, strict=True))


class _Names:
    """What `by` sees of a row: `item`, `output`, `key`, `vars`, and `parent` where it names it."""

    def __init__(self, run: RunState, scope: Scope) -> None:
        self._vars = dict(run.pipeline.vars)
        self._ledger = run.ledger
        around = run.pipeline.scopes[run.pipeline.step(scope.step or "").scope].parent
        self._expand = (run.expander(around) if around is not None else None) or (lambda data: data)
        self._reads_parent = scope.by is not None and any(read.path[0] == "parent" for read in scope.by.reads)
        self._last: tuple[int, Any] = (0, None)  # rows of one parent follow one another

    def of(self, parent: int | None, row: dict[str, Any]) -> dict[str, Any]:
        """The names for a row, whose item lies below the one with this number."""
        names = {**row, "vars": self._vars}
        if self._reads_parent and parent is not None:
            if parent != self._last[0]:
                self._last = (parent, self._expand(from_json(self._ledger.value(_DATA, (parent,)))))
            names["parent"] = self._last[1]
        return names


def _group_key(batch: _Batch, scope: Scope, taken: set[str]) -> str:
    name = batch.key if isinstance(batch.key, str) else canonical(batch.key)
    key = f"{name}/{batch.number}" if scope.by is not None and scope.size is not None else name
    if key in taken:  # the text "1" beside the number 1
        key = f"{canonical(batch.key)}/{batch.number}"
    taken.add(key)
    return key
