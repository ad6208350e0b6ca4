"""The `datasets` of a file: names to files, found and sorted."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmpipe.config.fields import Fields, items
from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows_types import TEXT_FORMATS
from llmpipe.config.shapes import ANY, BOOLEAN, CELL, NUMBER, Shape, record
from llmpipe.errors import DataError
from llmpipe.types import EMPTY

_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".txt": "files",
    ".text": "files",
    ".md": "files",
    ".markdown": "files",
    ".rst": "files",
    ".html": "files",
}
_PEEK_ROWS = 50
_PEEK_BYTES = 64 * 1024
_FIXED = {"files": ("path", "name", "text"), "lines": ("text", "number")}
_MADE = {"lines": {"number": NUMBER}}  # columns that are not text, though the others are


def read_datasets(pipeline: Fields, loading: Loading) -> dict[str, Dataset]:
    """Every dataset that can be used; the others have left a problem."""
    found = {}
    for name, node in pipeline.each("datasets"):
        dataset = _read(name, node, loading)
        if dataset is not None:
            found[name] = dataset
    return found


def _read(name: str, node: Node, loading: Loading) -> Dataset | None:
    fields = Fields(node, "dataset", loading.problems)
    path, encoding = fields.get("path"), fields.text("encoding", "utf-8")
    key, wanted = fields.text("key"), fields.text("format")
    entries = items(path)
    if path is None or not entries:
        return None
    if not _is_text_encoding(str(encoding)):
        note = "for example utf-8, latin-1, cp1252"
        loading.problems.add("C204", f"there is no encoding '{encoding}'", fields.get("encoding") or node, note=note)
        return None
    stdin = any(entry.value == "-" for entry in entries)
    paths = () if stdin else _paths(name, entries, loading)
    if paths is None:
        return None
    if stdin and len(entries) > 1:
        loading.problems.add("C204", "'-' (stdin) stands alone", path)
        return None
    format = wanted or ("jsonl" if stdin else _format(paths, path, loading))
    if format is None:
        return None
    types = _types(fields, format, loading)
    return Dataset(name, paths, format, key, node.place, stdin=stdin, encoding=str(encoding), types=types)  # type: ignore[arg-type]


def _types(fields: Fields, format: str, loading: Loading) -> Mapping[str, str]:
    """The types of the columns; a problem where the values have types of their own."""
    types = fields.get("types")
    if types is None or types.kind != "map":
        return EMPTY
    if format not in TEXT_FORMATS:
        note = f"`types` is for {', '.join(TEXT_FORMATS)}, whose values are all text"
        loading.problems.add("C207", f"values of {format} have types of their own", types, hint="remove it", note=note)
        return EMPTY
    return MappingProxyType({column: str(t.value) for column, t in types.value.items() if not t.is_spoilt})


def _is_text_encoding(name: str) -> bool:
    """Whether Python knows it, and knows it as one of texts that can be read on behind what is wrong in them."""
    try:
        b"a".decode(name, "ignore")
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        return False
    return True


def _paths(name: str, entries: list[Node], loading: Loading) -> tuple[Path, ...] | None:
    found: list[Path] = []
    complete = True
    for entry in entries:
        paths = _found(name, entry, loading)
        complete = complete and paths is not None
        found += paths or ()
    return tuple(dict.fromkeys(found)) if complete else None


def _found(name: str, entry: Node, loading: Loading) -> tuple[Path, ...] | None:
    text = loading.fill(entry)
    if text is None:
        return None
    found = loading.refused(entry, lambda: loading.fence.files(loading.folder(entry), text))
    loading.inputs.update(found or ())
    loading.patterns[str(loading.folder(entry) / text)] = name
    return found


def _format(paths: tuple[Path, ...], node: Node, loading: Loading) -> str | None:
    formats = {_FORMATS.get(Path(p.name.lower().removesuffix(".gz")).suffix) for p in paths}
    if len(formats) == 1 and None not in formats:
        return formats.pop()
    if len(formats) > 1:
        shown = ", ".join(sorted({p.suffix or p.name for p in paths})[:5])
        loading.problems.add("D303", f"files of several formats ({shown}) in one dataset", node, hint="set `format`")
        return None
    note = "set `format`: jsonl, json, csv, tsv, yaml, lines or files"
    loading.problems.add("D303", f"cannot tell the format of '{paths[0].name}' by its name", node, note=note)
    return None


def row_shape(dataset: Dataset, node: Node, loading: Loading) -> Shape:
    """The columns of a dataset as far as its first rows tell; a problem if the first is unreadable or lacks the key."""
    fixed = _FIXED.get(dataset.format)
    if fixed is not None:
        _check_types(dataset, fixed, node, loading)
        if dataset.format == "lines" and not dataset.stdin:
            _first_rows(dataset, node, loading)
        return _typed_record(fixed, dataset, sure=True)
    found = _first_rows(replace(dataset, types=EMPTY), node, loading) if not dataset.stdin else None
    if found is None:
        return ANY
    rows, is_all = found
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return ANY
    if _check_types(dataset, columns, node, loading):
        _first_rows(dataset, node, loading)
    if dataset.key is not None and dataset.key not in rows[0]:
        message = f"the first row of dataset '{dataset.name}' has no '{dataset.key}', its key"
        hint, note = did_you_mean(dataset.key, columns), f"columns: {listed(columns)}"
        loading.problems.add("D306", message, node.value.get("key", node), hint=hint, note=note)
    count = "row" if len(rows) == 1 else f"{len(rows)} rows"
    seen = f"the {'' if is_all else 'first '}{count} of dataset '{dataset.name}'"
    return _typed_record(columns, dataset, sure=dataset.format in ("csv", "tsv"), seen=seen)


def _first_rows(dataset: Dataset, node: Node, loading: Loading) -> tuple[list[Mapping[str, Any]], bool] | None:
    """The first rows, and whether they are all; None, and a problem, where they cannot be read."""
    try:
        return _peeked(dataset)
    except DataError as error:
        _unreadable(error, dataset, node.value.get("path", node), loading)
        return None


def _check_types(dataset: Dataset, columns: tuple[str, ...], node: Node, loading: Loading) -> bool:
    """Whether every column of `types` is there; a problem for each that is not."""
    for column in set(dataset.types) & set(_MADE.get(dataset.format, ())):
        place = node.value["types"].key_place(column)
        loading.problems.add("C207", f"'{column}' of {dataset.format} is a number already", place, hint="remove it")
    unknown = [column for column in dataset.types if column not in columns]
    for column in unknown:
        message = f"there is no column '{column}' in dataset '{dataset.name}'"
        hint, note = did_you_mean(column, columns), f"columns: {listed(columns)}"
        loading.problems.add("C217", message, node.value["types"].key_place(column), hint=hint, note=note)
    return not unknown


def _typed_record(columns: tuple[str, ...], dataset: Dataset, *, sure: bool, seen: str = "") -> Shape:
    """The shape of a row: which columns are text that is not to be taken for a number."""
    shape = record(columns, sure=sure, what="columns", seen=seen)
    if dataset.format not in TEXT_FORMATS:
        return shape
    kinds = {"integer": NUMBER, "number": NUMBER, "boolean": BOOLEAN}
    cells = {name: kinds.get(dataset.types.get(name, ""), CELL) for name in columns}
    return replace(shape, fields=cells | _MADE.get(dataset.format, {}))


def _unreadable(error: DataError, dataset: Dataset, path: Node, loading: Loading) -> None:
    """A fault of a row stands at the row, one of the whole file where the file is named."""
    message = f"dataset '{dataset.name}': {error.message}"
    if error.line:
        loading.problems.extend([replace(error.problem(), message=message)])
    else:
        loading.problems.add(error.row_code, message, path, note=f"in {error.file}")


def _peeked(dataset: Dataset) -> tuple[list[Mapping[str, Any]], bool]:
    """The first rows, and whether they are all. Raises DataError for the first row; what follows is the run's to tell.

    One row of a table has every column that any has; of other formats up to 50 rows, or 64 KiB, are looked at.
    """
    from llmpipe.config.rows import read_rows
    from llmpipe.config.rows_json import canonical

    most = 1 if dataset.format in ("csv", "tsv") else _PEEK_ROWS
    found: list[Mapping[str, Any]] = []
    size = 0
    with closing(read_rows(replace(dataset, key=None))) as rows:  # type: ignore[type-var]
        try:
            for row in rows:
                if len(found) == most or size > _PEEK_BYTES:
                    return found, False
                found.append(row.data)
                size += len(canonical(row.data)) if most > 1 else 0
        except DataError:
            if not found or dataset.format == "lines":  # NULs seldom begin in the first line
                raise
            return found, False
    return found, True
