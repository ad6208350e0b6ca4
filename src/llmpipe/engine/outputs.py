"""Results as files: `steps/<step>.jsonl` of every run, and the `outputs` that a whole, good run publishes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Published
from llmpipe.engine.files import replacing
from llmpipe.engine.items import to_json
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.errors import ItemError

_RESULTS = (
    "SELECT items.id, items.parent, items.key, items.data, results.output FROM items"
    " JOIN results ON results.item = items.id WHERE items.scope = ? AND items.live = 1 AND results.step = ?"
    " AND results.status = 'succeeded' ORDER BY items.ord"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_steps(ledger: LedgerReader, folder: Path, steps: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Write every step's results in input order; returns how many lines each file has.

    `steps` maps an id to the ledger's numbers of the step and its scope. Raises OSError.
    """
    lines: dict[str, int] = {}
    for id, (step, scope) in steps.items():
        count = 0
        with replacing(folder / "steps" / f"{id}.jsonl") as file:
            for block in ledger.scan(_RESULTS, (scope, step)):
                file.writelines(
                    f'{{"key": {json.dumps(key, ensure_ascii=False)}, "output": {output}}}\n'
                    for _, _, key, _, output in block
                )
                count += len(block)
        lines[id] = count
    return lines


class Publisher:
    """Makes the declared `outputs` of a pipeline out of a run's ledger."""

    def __init__(self, pipeline: Pipeline, ledger: LedgerReader) -> None:
        self._pipeline, self._ledger = pipeline, ledger
        self._steps = {name: (id, scope) for id, name, scope in ledger.rows("SELECT id, name, scope FROM steps")}
        self._names = {number: name for name, (number, _) in self._steps.items()}

    def publish(self) -> tuple[Path, ...]:
        """Write all outputs, each whole or not at all. Raises OSError, and ItemError if a column cannot be made."""
        for published in self._pipeline.outputs:
            with replacing(published.path, newline="") as file:
                self._write(published, file)
        return tuple(published.path for published in self._pipeline.outputs)

    def _write(self, published: Published, file: IO[str]) -> None:
        rows = self._rows(published)
        if published.format in ("csv", "tsv"):
            writer = csv.writer(file, delimiter="," if published.format == "csv" else "\t", lineterminator="\n")
            writer.writerow(published.columns or ("key", "output"))
            writer.writerows([_cell(value) for value in row.values()] for row in rows)
        elif published.format == "jsonl":
            file.writelines(to_json(row) + "\n" for row in rows)
        elif published.format == "json":
            _write_array(rows, file)
        else:
            texts = (row["output"] if len(row) == 2 else " ".join(map(str, row.values())) for row in rows)
            file.writelines((text if isinstance(text, str) else to_json(text)) + "\n" for text in texts)

    def _rows(self, published: Published) -> Iterator[dict[str, Any]]:
        step, scope = self._steps[published.step]
        for block in self._ledger.scan(_RESULTS, (scope, step)):
            for id, parent, key, data, output in block:
                names = self._row_names(id, parent, key, json.loads(data), json.loads(output))
                if not published.columns:
                    yield {"key": key, "output": names["output"]}
                    continue
                yield {name: _evaluated(column, names, name, key) for name, column in published.columns.items()}

    def _row_names(self, id: int, parent: int | None, key: str, data: Any, output: Any) -> dict[str, Any]:
        """What a column's expression may name: the item, what encloses it, and what each step made of them."""
        names = {"item": data, "key": key, "output": output, "vars": dict(self._pipeline.vars)}
        steps = self._root_outputs() | self._outputs_of(id)
        if parent is not None:
            names["parent"] = json.loads(self._ledger.value("SELECT data FROM items WHERE id = ?", (parent,)))
        while parent is not None:
            steps = self._outputs_of(parent) | steps
            parent = self._ledger.value("SELECT parent FROM items WHERE id = ?", (parent,))
        names["steps"] = steps
        return names

    def _outputs_of(self, item: int) -> dict[str, Any]:
        sql = "SELECT step, output FROM results WHERE item = ? AND step = ? AND status = 'succeeded'"
        found = (row for number in self._names for row in self._ledger.rows(sql, (item, number)))
        return {self._names[step]: json.loads(output) for step, output in found}

    def _root_outputs(self) -> dict[str, Any]:
        if not any(step.scope == ROOT_SCOPE for step in self._pipeline.steps):
            return {}
        return self._outputs_of(1)


def _evaluated(column: Any, names: Mapping[str, Any], name: str, key: str) -> Any:
    try:
        return column.evaluate(names)
    except ItemError as err:
        raise ItemError(f"column '{name}' of item {key}: {err}", code=err.item_code) from err


def _cell(value: Any) -> Any:
    """A value as a spreadsheet takes it: text that it would run as a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return to_json(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def _write_array(rows: Iterator[dict[str, Any]], file: IO[str]) -> None:
    file.write("[")
    for n, row in enumerate(rows):
        file.write(f"{',' if n else ''}\n  {to_json(row)}")
    file.write("\n]\n")
