"""Results as files: `steps/<step>.jsonl` of every run, and the `outputs` that a whole, good run publishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Published
from llmpipe.engine.entries import ListEntries, StepEntries, entry
from llmpipe.engine.files import publishing, replacing, sweep_drafts
from llmpipe.engine.formats import pieces
from llmpipe.engine.group_rows import Expand, expander
from llmpipe.engine.items import to_json
from llmpipe.engine.ledger_read import LedgerReader, from_json
from llmpipe.errors import ItemError
from llmpipe.frozen import frozen
from llmpipe.json_numbers import one_form

_RESULTS = (
    "SELECT items.id, items.parent, items.ord, items.key, items.data, results.output FROM items"
    " JOIN results ON results.item = items.id WHERE items.scope = ? AND items.live = 1 AND results.step = ?"
    " AND results.status = 'succeeded' ORDER BY items.ord"
)
_TEXTS = (
    "SELECT items.key, results.output, json_valid(results.output) FROM items JOIN results ON results.item = items.id"
    " WHERE items.scope = ? AND items.live = 1 AND results.step = ? AND results.status = 'succeeded' ORDER BY items.ord"
)
_BELOW = (
    "SELECT items.key, items.data, results.status, results.output FROM items"
    " JOIN results ON results.item = items.id AND results.step = ?"
    " WHERE items.scope = ? AND items.live = 1 AND items.ord > ? AND items.ord < ? ORDER BY items.ord"
)
_PARENT = "SELECT items.data, scopes.name FROM items JOIN scopes ON scopes.id = items.scope WHERE items.id = ?"


def export_steps(ledger: LedgerReader, folder: Path, steps: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Write every step's results in input order; returns how many lines each file has.

    `steps` maps an id to the ledger's numbers of the step and its scope. Raises OSError, DamagedValue.
    """
    lines: dict[str, int] = {}
    for id, (step, scope) in steps.items():
        count = 0
        with replacing(folder / "steps" / f"{id}.jsonl") as file:
            for block in ledger.scan(_TEXTS, (scope, step)):
                for _, output, valid in block:
                    if not valid:
                        from_json(output)  # SQLite refuses some JSON that is deep
                file.writelines(f'{{"key": {to_json(key)}, "output": {output}}}\n' for key, output, _ in block)
                count += len(block)
        lines[id] = count
    return lines


class Publisher:
    """Makes the declared `outputs` of a pipeline out of a run's ledger."""

    def __init__(self, pipeline: Pipeline, ledger: LedgerReader, without_keys: Callable[[Any], Any]) -> None:
        """`without_keys` takes the values of keys out of what columns make of vars and of parts of rows."""
        self._pipeline, self._ledger, self._without_keys = pipeline, ledger, without_keys
        self._steps = {name: (id, scope) for id, name, scope in ledger.rows("SELECT id, name, scope FROM steps")}
        self._home = {step.id: step.scope for step in pipeline.steps}
        self._wholes: dict[str, StepEntries] = {}

    def publish(self) -> tuple[Path, ...]:
        """Write all outputs, or none of them. Raises OSError, and ItemError if a column cannot be made."""
        with ExitStack() as written:  # at its end each takes its place
            for published in self._pipeline.outputs:
                sweep_drafts(published.path)
                written.enter_context(publishing(published.path)).writelines(pieces(published, self._rows(published)))
        return tuple(published.path for published in self._pipeline.outputs)

    def _rows(self, published: Published) -> Iterator[tuple[str, dict[str, Any]]]:
        """The key of each row, and its columns."""
        step, scope = self._steps[published.step]
        expand = self._seen(self._home[published.step])
        read = {r.path[1] for column in published.columns.values() for r in column.reads if r.path[:1] == ("steps",)}
        for block in self._ledger.scan(_RESULTS, (scope, step)):
            for row in block:
                item = _Row(row[0], row[1], row[2], row[3], from_json(row[4]))
                if not published.columns:
                    yield item.key, {"key": item.key, "output": from_json(row[5])}
                    continue
                names = {**self._names(item), "item": expand(item.data), "output": from_json(row[5])}
                names["steps"] = self._other_steps(published.step, item, sorted(read))
                columns = published.columns.items()
                cells = {name: _evaluated(column, names, name, item.key) for name, column in columns}
                yield item.key, {name: self._without_keys(value) for name, value in cells.items()}

    def _seen(self, scope: str) -> Expand:
        """What makes of the data of a scope's items what columns see of them."""
        numbers = {name: number for name, (number, _) in self._steps.items()}
        return expander(self._pipeline, self._ledger, numbers, scope) or (lambda data: data)

    def _names(self, item: _Row) -> dict[str, Any]:
        names = {"key": item.key, "vars": dict(self._pipeline.vars)}
        if item.parent is not None:
            data, scope = self._ledger.rows(_PARENT, (item.parent,))[0]
            names["parent"] = self._seen(scope)(from_json(data))
        return names

    def _other_steps(self, step: str, item: _Row, names: Sequence[str]) -> dict[str, Any]:
        """What the columns may say of other steps: an output, the list below the item, or the whole list.

        A step that has no result for the item is left out, so that `is defined` tells.
        """
        chain = _enclosing(self._pipeline, self._home[step])
        found: dict[str, Any] = {}
        for name in names:
            home = self._home[name]
            if home in chain:
                output = self._output(name, item, chain.index(home), home)
                if output is not None:
                    found[name] = from_json(output)
            elif self._home[step] in _enclosing(self._pipeline, home) and self._home[step] != ROOT_SCOPE:
                found[name] = self._below(name, item)
            else:
                found[name] = self._whole(name)
        return found

    def _output(self, name: str, item: _Row, up: int, home: str) -> str | None:
        id: int | None = item.id
        for _ in range(up if home != ROOT_SCOPE else 0):
            id = self._ledger.value("SELECT parent FROM items WHERE id = ?", (id,))
        sql = "SELECT output FROM results WHERE item = ? AND step = ? AND status = 'succeeded'"
        return self._ledger.value(sql, (1 if home == ROOT_SCOPE else id, self._steps[name][0]))  # type: ignore[no-any-return]

    def _below(self, name: str, item: _Row) -> ListEntries:
        step, scope = self._steps[name]
        rows = self._ledger.rows(_BELOW, (step, scope, f"{item.ord}.", f"{item.ord}/"))
        seen = self._seen(self._home[name])
        entries = [entry(key, seen(from_json(data)), from_json(output)) for key, data, _, output in rows if output]
        states = [status for _, _, status, _ in rows]
        return ListEntries(entries, failed=states.count("failed"), skipped=states.count("skipped"))

    def _whole(self, name: str) -> StepEntries:
        if name not in self._wholes:
            step, scope = self._steps[name]
            self._wholes[name] = StepEntries(self._ledger, scope=scope, step=step, expand=self._seen(self._home[name]))
        return self._wholes[name]


@frozen
class _Row:
    """An item as the ledger has it."""

    id: int
    parent: int | None
    ord: str
    key: str
    data: Any


def _enclosing(pipeline: Pipeline, scope: str) -> list[str]:
    """The scope and those around it, innermost first."""
    found = [scope]
    while (parent := pipeline.scopes[found[-1]].parent) is not None:
        found.append(parent)
    return found


def _evaluated(column: Any, names: Mapping[str, Any], name: str, key: str) -> Any:
    try:
        return one_form(column.evaluate(names))
    except ItemError as err:
        raise ItemError(f"column '{name}' of item {key}: {err}", code=err.item_code) from err
