"""What a ledger says of a dataset's files: that they are the same, or that rows were only added at the end."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import file_digest
from llmpipe.config.rows_source import Reading, head_sha256
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.errors import DataError
from llmpipe.frozen import frozen

_NOTE = "INSERT OR REPLACE INTO datasets (name, sha256, rows, head_bytes, head_sha256) VALUES (?, ?, ?, ?, ?)"
_HEAD = "SELECT rows, head_bytes, head_sha256 FROM datasets WHERE name = ?"
_BY_LINES = ("jsonl", "csv", "tsv", "lines")  # formats in which bytes behind a line's end cannot change the rows before
_WHERE = ("name", "paths", "place", "stdin", "root")  # of a dataset: what does not change the rows in the files


@frozen
class Head:
    """The beginning of a dataset's only file, up to the end of a line: how many rows and bytes it has, and a digest."""

    rows: int = 0
    size: int = 0
    digest: str = ""


def note_read(ledger: Ledger, dataset: Dataset, reading: Reading, rows: int) -> None:
    """Write down the bytes that the rows of a dataset were read from."""
    head = Head()
    if _one_file(dataset) is not None and reading.files[0].ends_line:
        head = Head(rows, reading.files[0].size, _digest(dataset, reading.files[0].sha256.hex()))
    digest = _digest(dataset, file_digest(dataset, [file.sha256 for file in reading.files]))
    ledger.put(_NOTE, (dataset.name, digest, rows, head.size, head.digest))


def is_unchanged(ledger: LedgerReader, dataset: Dataset) -> bool:
    """True if the ledger has every row of the dataset's files as they are now. Reads the files."""
    known = ledger.value("SELECT sha256 FROM datasets WHERE name = ?", (dataset.name,))
    try:
        return bool(known) and known == _digest(dataset, file_digest(dataset))
    except DataError:
        return False  # reading the rows gives the reason


def noted_head(ledger: LedgerReader, dataset: Dataset) -> Head:
    """The beginning of the dataset's file whose rows the ledger has."""
    found = ledger.rows(_HEAD, (dataset.name,))
    return Head(*found[0]) if found and found[0][2] else Head()


def is_still_head(head: Head, dataset: Dataset) -> bool:
    """True if the dataset's file still begins so. Reads it."""
    path = _one_file(dataset)
    found = head_sha256(path, head.size) if path is not None and head.size else None
    return found is not None and _digest(dataset, found.hex()) == head.digest


def began_with(reading: Reading, head: Head, dataset: Dataset) -> bool:
    """True if the file began so when it was read, with `head.size` as the reading's mark."""
    marked = reading.files[0].marked
    return marked is not None and _digest(dataset, marked.hex()) == head.digest


def _one_file(dataset: Dataset) -> Path | None:
    one = dataset.format in _BY_LINES and len(dataset.paths) == 1 and dataset.paths[0].suffix != ".gz"
    return dataset.paths[0] if one else None


def _digest(dataset: Dataset, content: str) -> str:
    """Of what was read and how: with another key, format or encoding the same bytes are other rows."""
    how = repr([(f.name, getattr(dataset, f.name)) for f in fields(dataset) if f.name not in _WHERE]).encode(
        "utf-8", "surrogatepass"
    )
    return hashlib.sha256(how + content.encode()).hexdigest()
