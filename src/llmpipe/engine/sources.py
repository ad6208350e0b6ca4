"""Where the items of a scope come from, and how they get into the ledger: fresh, or matched with what is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmpipe.config.paths import display
from llmpipe.config.pipeline import ROOT_SCOPE, Dataset, Scope
from llmpipe.config.rows import Row, read_rows
from llmpipe.config.rows_source import Reading, changed_meanwhile
from llmpipe.engine.entering import Entering, Fresh
from llmpipe.engine.groups import group_items
from llmpipe.engine.items import Item, canonical, child_ord, digest_of, unmade
from llmpipe.engine.ledger_read import from_json
from llmpipe.engine.masking import has_masked_rows
from llmpipe.engine.pieces import split_text
from llmpipe.engine.state import RunState
from llmpipe.engine.unchanged import Head, began_with, is_still_head, note_read, noted_head
from llmpipe.errors import ItemError

_CHUNK = 256
_READ_AHEAD = 16 * 1024 * 1024  # bytes; packed files count ten times
_CHANGED = "EXISTS (SELECT 1 FROM changed_items WHERE item = items.id)"
_IN_ORDER = (
    "SELECT id, key, ord, data, digest, EXISTS (SELECT 1 FROM changed_items WHERE item = items.id)"
    " FROM items WHERE scope = ? AND live = 1"
)
_SUCCEEDED = "SELECT 1 FROM results WHERE step = ? AND item = items.id AND status = 'succeeded'"
_HAS_RESULTS = (
    "SELECT item FROM results WHERE item IN (SELECT value FROM json_each(?))"
    " AND step IN (SELECT value FROM json_each(?))"
)
_AND_SUCCEEDED = "AND status = 'succeeded'"
_AND_LASTING = "AND (status <> 'failed' OR permanent = 1)"
_LASTING = "SELECT 1 FROM results WHERE step = ? AND item = items.id AND (status <> 'failed' OR permanent = 1)"


class Sources:
    """Makes the items of scopes and writes them down. One per run."""

    def __init__(self, run: RunState, *, matched: bool) -> None:
        """`matched`: the ledger may have items already, of an earlier process or an earlier run."""
        self._run = run
        self._matched = matched
        self._entering = Entering(run)
        self.complete: set[str] = set()  # top scopes whose items are all in the ledger
        self._read: dict[Path, tuple[str, bytes]] = {}  # by which dataset a file was read first, and its SHA-256 then
        self.counted: set[str] = set()  # top scopes of which it is known how many items they will have

    # -- reading ahead ---------------------------------------------------------------------------------------------

    async def read_ahead(self, scopes: Iterable[str]) -> None:
        """Read small datasets to their end before anything is sent, so a bad row costs nothing. Raises DataError."""
        for id in scopes:
            scope = self._run.pipeline.scopes[id]
            if scope.dataset is None or id in self.complete:
                continue
            dataset = self._run.pipeline.datasets[scope.dataset]
            if _size(dataset) > _READ_AHEAD:
                continue
            rows = await asyncio.to_thread(lambda dataset=dataset: sum(1 for _ in read_rows(dataset)))  # type: ignore[misc]
            self._expect(scope, rows)

    def _expect(self, scope: Scope, rows: int) -> None:
        options = self._run.options
        if options.key is not None:
            return
        for step in self._run.pipeline.steps:
            if step.scope == scope.id:
                self._run.tallies[step.id].expected_items = rows if options.limit is None else min(rows, options.limit)
        self.counted.add(scope.id)

    # -- top scopes ------------------------------------------------------------------------------------------------

    async def top_items(self, scope: Scope, open_steps: Sequence[str] = ()) -> AsyncIterator[list[Item]]:
        """The items of a top scope, in blocks, written down. Raises DataError.

        With `open_steps`, items that are as they were and have a lasting result of each of these steps are left out.
        """
        if scope.id in self.complete:
            for block in self._from_ledger(scope, open_steps):
                yield block
            return
        head = Head()
        if self._matched and open_steps and scope.dataset and not self._has_masked_rows(scope):
            head = await self._unchanged_head(self._dataset(scope))
            self._entering.see_first(scope, head.rows)
            for block in self._from_ledger(scope, open_steps, first=head.rows):
                yield block
        count, reading = head.rows, Reading(head.size)
        async for fresh in self._fresh(scope, reading, skip=count):
            count += len(fresh)
            items, same = self._entering.enter(scope, fresh, matched=self._matched)
            yield self._open(items, same, open_steps)
        options = self._run.options
        whole = not scope.dataset or (options.limit is None and options.key is None)
        if whole and head.rows and not began_with(reading, head, self._dataset(scope)):
            raise changed_meanwhile(display(self._dataset(scope).paths[0]))
        self.complete.add(scope.id)
        if whole:
            await self._note_complete(scope, reading, count)

    async def _unchanged_head(self, dataset: Dataset) -> Head:
        head = noted_head(self._run.ledger, dataset)
        return head if await asyncio.to_thread(is_still_head, head, dataset) else Head()

    def _open(self, items: list[Item], same: set[int], open_steps: Sequence[str]) -> list[Item]:
        """The items without those that are as they were and lack nothing."""
        if not same or not open_steps:
            return items
        numbers = [self._run.step_numbers[id] for id in open_steps]
        lasting = _AND_LASTING if self._run.options.retry_failed is None else _AND_SUCCEEDED
        sql = f"{_HAS_RESULTS} {lasting} GROUP BY item HAVING COUNT(*) = ?"
        done = {id for (id,) in self._run.ledger.rows(sql, (json.dumps(list(same)), json.dumps(numbers), len(numbers)))}
        return [item for item in items if item.id not in done]

    async def _note_complete(self, scope: Scope, reading: Reading, count: int) -> None:
        if self._matched:
            self._entering.drop_unseen(scope)
        if scope.dataset:
            note_read(self._run.ledger, self._dataset(scope), reading, count)
            self._compare(scope.dataset, reading)
        await self._run.ledger.commit()

    def _compare(self, dataset: str, reading: Reading) -> None:
        """Say it if another dataset has read another version of one of the files."""
        for file in reading.files:
            name, sha256 = self._read.setdefault(file.path, (dataset, file.sha256))
            if sha256 != file.sha256:
                self._run.note(
                    f"{display(file.path)} changed between two readings: the datasets {name} and {dataset} have rows of"
                    " different versions of it; run again with --resume auto"
                )

    def _has_masked_rows(self, scope: Scope) -> bool:
        return has_masked_rows(self._run.ledger, self._run.scope_numbers[scope.id])

    def _dataset(self, scope: Scope) -> Dataset:
        return self._run.pipeline.datasets[scope.dataset or ""]

    async def _fresh(self, scope: Scope, reading: Reading, *, skip: int) -> AsyncIterator[list[Fresh]]:
        if scope.kind == "dataset":
            async for block in self._rows(self._dataset(scope), reading, skip):
                yield block
        elif scope.kind == "group":
            groups = ((n, *group) for n, group in enumerate(group_items(self._run, scope)))
            for block in _blocks(groups):
                yield block
        else:
            for block in _blocks(self._children_data(self._run.root, scope)):
                yield block

    async def _rows(self, dataset: Dataset, reading: Reading, skip: int) -> AsyncIterator[list[Fresh]]:
        """The rows behind the first `skip`, which are read all the same: keys must not repeat."""
        options = self._run.options
        rows = enumerate(read_rows(dataset, reading=reading))
        left = options.limit
        while left is None or left > 0:
            block, error = await asyncio.to_thread(_take, rows, _CHUNK if left is None else min(left, _CHUNK))
            left = None if left is None else left - len(block)
            wanted = [(n, row) for n, row in block if n >= skip and (options.key is None or row.key == options.key)]
            if wanted:
                yield [(n, row.key, row.data, digest_of(canonical(row.data))) for n, row in wanted]
            if error is not None:
                raise error
            if not block or (options.key is not None and wanted):
                break

    def _from_ledger(
        self, scope: Scope, open_steps: Sequence[str], *, first: int | None = None
    ) -> Iterator[list[Item]]:
        """The items of a top scope as the ledger has them, only the `first` places if given."""
        numbers = [self._run.step_numbers[id] for id in open_steps]
        lasting = _LASTING if self._run.options.retry_failed is None else _SUCCEEDED
        lacks = " OR ".join([f"NOT EXISTS ({lasting})" for _ in numbers] + [_CHANGED] * bool(numbers))
        chosen, more = self._chosen(scope)
        upto = () if first is None else (child_ord("", first),)
        sql = f"{_IN_ORDER}{f' AND ({lacks})' if lacks else ''}{' AND ord < ?' if upto else ''}{chosen}"
        args = (self._run.scope_numbers[scope.id], *numbers, *upto, *more)
        for block in self._run.ledger.scan(sql, args, size=_CHUNK):
            yield [self._item(scope, row) for row in block]

    def _item(self, scope: Scope, row: tuple[Any, ...]) -> Item:
        id, key, ord, data, digest, changed = row
        item = Item(id, scope.id, key, ord, from_json(data), parent=self._run.root, digest=digest)
        item.changed = bool(changed)
        return item

    def _chosen(self, scope: Scope) -> tuple[str, tuple[Any, ...]]:
        """What --key and --limit leave of a dataset's items."""
        options = self._run.options
        if not scope.dataset:
            return " ORDER BY ord", ()
        key = "" if options.key is None else " AND key = ?"
        limit = "" if options.limit is None else " LIMIT ?"
        args = tuple(value for value in (options.key, options.limit) if value is not None)
        return f"{key} ORDER BY ord{limit}", args

    # -- items below an item ---------------------------------------------------------------------------------------

    def expand(self, parent: Item, scope: Scope, *, matched: bool) -> list[Item]:
        """The items of a child scope below `parent`, written down. `matched`: some may be in the ledger already."""
        fresh = list(self._children_data(parent, scope))
        items, _ = self._entering.enter(scope, fresh, parent=parent, matched=matched)
        if matched:
            self._entering.drop_others(parent, scope, {item.id for item in items})
        return items

    def forget(self, parent: Item, scope: Scope) -> None:
        """Take out the items of a child scope below `parent`: there is no list any more that they could be of."""
        self._entering.drop_others(parent, scope, set())

    def forget_all(self, scope: Scope) -> None:
        """Take out the items of a top scope that earlier processes left, where nothing can be said of its items now."""
        if self._matched:
            self._entering.drop_unseen(scope)

    def _children_data(self, parent: Item, scope: Scope) -> Iterator[Fresh]:
        prefix = f"{parent.key}/" if parent.key else ""
        if scope.kind == "values":
            for n, (key, value) in enumerate(_values(_at(self._run.pipeline.vars, scope.path))):
                yield n, key, value, digest_of(canonical(value))
            return
        if scope.kind == "models":
            suffixes: Sequence[str] = scope.models
            values: Sequence[Any] = [parent.data] * len(scope.models)
        else:
            values = self._listed(parent, scope)
            suffixes = [str(n) for n in range(len(values))]
        for n, (suffix, value) in enumerate(zip(suffixes, values, strict=True)):
            yield n, f"{prefix}{suffix}", value, digest_of(canonical(value))

    def _listed(self, parent: Item, scope: Scope) -> Sequence[Any]:
        if scope.kind == "samples":
            return [parent.data] * scope.count
        source = parent.cells.get(scope.step or "")
        if scope.kind == "fanout":
            found = _at(source.output, scope.path) if source else None
            return found if isinstance(found, list) else []
        return self._pieces(parent, scope)

    def _pieces(self, parent: Item, scope: Scope) -> Sequence[Any]:
        """Pieces of a text. A text that is missing becomes one item that fails in every step, with the reason."""
        split = scope.split
        assert split is not None
        names = {"item": self._run.expand(parent), "key": parent.key, "vars": dict(self._run.pipeline.vars)}
        if parent.parent is not None and parent.parent.scope != ROOT_SCOPE:
            names["parent"] = self._run.expand(parent.parent)
        names["steps"] = {id: cell.output for id, cell in parent.cells.items() if cell.status == "succeeded"}
        source = parent.cells.get(scope.step or "")
        if source is not None:
            names["output"] = source.output
        try:
            text = split.text.evaluate(names)
        except ItemError as err:
            return [unmade(f"the text to split cannot be found: {err}")]
        if not isinstance(text, str):
            return [unmade(f"the text to split is {type(text).__name__}, not text")]
        pieces = split_text(text, by=split.by, size=split.size, overlap=split.overlap)
        return [asdict(piece) for piece in pieces]


def _size(dataset: Dataset) -> int:
    """About how many bytes there are to read."""
    try:
        return sum(path.stat().st_size * (10 if path.suffix == ".gz" else 1) for path in dataset.paths)
    except OSError:
        return 0  # reading it gives the reason


def _take(rows: Iterator[tuple[int, Row]], count: int) -> tuple[list[tuple[int, Row]], Exception | None]:
    """Up to `count` rows, and the error that came instead of the next one."""
    block: list[tuple[int, Row]] = []
    try:
        for row in rows:
            block.append(row)
            if len(block) >= count:
                break
    except Exception as err:  # noqa: BLE001 - raised again by the caller, behind the rows that came before
        return block, err
    return block, None


def _values(values: Any) -> Iterator[tuple[str, Any]]:
    """Elements of a list in `vars`: named by themselves where they are texts, by their place otherwise."""
    taken: set[str] = set()
    for n, value in enumerate(values if isinstance(values, (list, tuple)) else []):
        key = value if isinstance(value, str) and value and value not in taken else f"#{n}"
        taken.add(key)
        yield key, value


def _blocks(fresh: Iterable[Fresh]) -> Iterator[list[Fresh]]:
    block: list[Fresh] = []
    for one in fresh:
        block.append(one)
        if len(block) >= _CHUNK:
            yield block
            block = []
    if block:
        yield block


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if hasattr(value, "get") else None
    return value
