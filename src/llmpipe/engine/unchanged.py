"""What a ledger says of a dataset's files: that they are the same, or that rows were only added at the end."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import file_digest
from llmpipe.engine.ledger import Ledger

_NOTE = "INSERT OR REPLACE INTO datasets (name, sha256, rows, head_bytes, head_sha256) VALUES (?, ?, ?, ?, ?)"
Noted = list[tuple[int, int, str]]
_CHUNK = 1024 * 1024
_BY_LINES = ("jsonl", "csv", "tsv", "lines")  # formats in which bytes behind a line's end cannot change the rows before


def note_read(ledger: Ledger, dataset: Dataset, rows: int) -> None:
    """Write down what a dataset was when its last row was entered. Reads the files."""
    head_bytes, head = 0, ""
    path = _one_file(dataset)
    if path is not None:
        head_bytes = path.stat().st_size
        head = _head_digest(dataset, path, head_bytes) if _ends_with_newline(path, head_bytes) else ""
    ledger.put(_NOTE, (dataset.name, _digest(dataset), rows, head_bytes, head))


def is_unchanged(ledger: Ledger, dataset: Dataset) -> bool:
    """True if the ledger has every row of the dataset's files as they are now. Reads the files."""
    known = ledger.value("SELECT sha256 FROM datasets WHERE name = ?", (dataset.name,))
    return known is not None and known == _digest(dataset)


def noted(ledger: Ledger, dataset: Dataset) -> Noted:
    """What `note_read` wrote down of the dataset."""
    return ledger.rows("SELECT rows, head_bytes, head_sha256 FROM datasets WHERE name = ?", (dataset.name,))


def unchanged_rows(found: Noted, dataset: Dataset) -> int:
    """How many rows at the beginning of the dataset's file are known to be as the ledger has them. Reads the file."""
    path = _one_file(dataset)
    if not found or path is None:
        return 0
    rows, head_bytes, head = found[0]
    if not head or path.stat().st_size < head_bytes or _head_digest(dataset, path, head_bytes) != head:
        return 0
    return int(rows)


def _one_file(dataset: Dataset) -> Path | None:
    one = dataset.format in _BY_LINES and len(dataset.paths) == 1 and dataset.paths[0].suffix != ".gz"
    return dataset.paths[0] if one else None


def _reading(dataset: Dataset) -> bytes:
    """How the files are read: with another key, format or encoding the same bytes are other rows."""
    return repr((dataset.format, dataset.key, dataset.encoding)).encode("utf-8", "surrogatepass")


def _digest(dataset: Dataset) -> str:
    return hashlib.sha256(_reading(dataset) + file_digest(dataset).encode()).hexdigest()


def _head_digest(dataset: Dataset, path: Path, size: int) -> str:
    digest = hashlib.sha256(_reading(dataset))
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest() if size == 0 else ""


def _ends_with_newline(path: Path, size: int) -> bool:
    if size == 0:
        return False
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
