"""The keys of rows: from a column or from the content, never the same twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from llmpipe.config.rows_json import canonical
from llmpipe.config.rows_seen import KeyTable
from llmpipe.errors import DataError

CONTENT_KEY_DIGITS = 16  # 64 bits: two of a million rows share one with a probability of 3e-8


class ContentKeys:
    """Keys made of what a row holds: the same row has the same key wherever it stands in the file.

    The first 16 hexadecimal digits of the SHA-256 of the row as canonical JSON; rows that are equal in everything get
    `-2`, `-3` … behind it, in their order.
    """

    def __init__(self) -> None:
        self._seen = KeyTable()

    def key(self, content: Any, *, file: str, line: int) -> str:
        """The key of the next row. Raises DataError D309 if it is nested too deeply."""
        try:
            digest = hashlib.sha256(canonical(content)).hexdigest()[:CONTENT_KEY_DIGITS]
        except RecursionError:
            raise DataError("the row is nested too deeply", file=file, line=line, code="D309") from None
        occurrence = self._seen.count(digest)
        return digest if occurrence == 1 else f"{digest}-{occurrence}"

    def close(self) -> None:
        """Forget the keys."""
        self._seen.close()


class ColumnKeys:
    """Keys taken from a column; a key that comes twice is an error that names both lines."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._seen = KeyTable()
        self._files: list[str] = []

    def key(self, row: Mapping[str, Any], *, file: str, line: int) -> str:
        """The key of the next row. Raises DataError: D306 no usable key, D305 a duplicate."""
        key = self._text(row, file, line)
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        first = self._seen.put(key, (len(self._files) - 1) << 40 | line)
        if first is not None:
            origin = self._files[first >> 40]
            at = f"line {first & (1 << 40) - 1}" + (f" of {origin}" if origin != file else "")
            message = f"the key {key!r:.100} ({self._column}) is already that of {at}"
            raise DataError(message, file=file, line=line, code="D305")
        return key

    def close(self) -> None:
        """Forget the keys."""
        self._seen.close()

    def _text(self, row: Mapping[str, Any], file: str, line: int) -> str:
        if self._column not in row:
            there = ", ".join(str(name)[:60] for name in list(row)[:20]) or "none"
            raise DataError(
                f"the row has no {self._column!r}, its key; it has: {there}", file=file, line=line, code="D306"
            )
        value = row[self._column]
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        what = "empty" if isinstance(value, str) else f"{canonical(value).decode()[:60]}, not a text or whole number"
        raise DataError(f"the key {self._column!r} is {what}", file=file, line=line, code="D306")
