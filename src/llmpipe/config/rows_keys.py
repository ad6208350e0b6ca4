"""The keys of rows: from a column or from the content, never the same twice."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from typing import Any

from llmpipe.config.rows_json import canonical
from llmpipe.errors import DataError

CONTENT_KEY_DIGITS = 16  # 64 bits: two of a million rows share one with a probability of 3e-8


class KeyTable:
    """The keys that were seen, each with a number, in 27 to 54 bytes a key: 32 MiB for a million, 48 while it grows.

    An open hash table over the 64-bit hashes of the keys; two of a million keys fall together with a probability
    of 3e-8.
    """

    def __init__(self) -> None:
        self._slots = array("q", bytes(8 * 1024))
        self._numbers = array("Q", bytes(8 * 1024))
        self._count = 0

    def put(self, key: str, number: int) -> int | None:
        """Remember `number` for a new key; for a known one return its number and keep that."""
        if self._count * 5 > len(self._slots) * 3:
            self._grow()
        wanted, slots = hash(key) or 1, self._slots
        slot = self._slot(slots, wanted)
        if slots[slot]:
            return self._numbers[slot]
        slots[slot], self._numbers[slot] = wanted, number
        self._count += 1
        return None

    def count(self, key: str) -> int:
        """How often this key has been counted, this time included."""
        if self.put(key, 1) is None:
            return 1
        slot = self._slot(self._slots, hash(key) or 1)
        self._numbers[slot] += 1
        return self._numbers[slot]

    @staticmethod
    def _slot(slots: array[int], wanted: int) -> int:
        mask = len(slots) - 1
        slot = wanted & mask
        while (found := slots[slot]) and found != wanted:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        """Twice the room; the old tables are given up as soon as they are copied."""
        slots = array("q", bytes(16 * len(self._slots)))
        numbers = array("Q", bytes(16 * len(self._slots)))
        for wanted, number in zip(self._slots, self._numbers, strict=True):
            if wanted:
                slot = self._slot(slots, wanted)
                slots[slot], numbers[slot] = wanted, number
        self._slots, self._numbers = slots, numbers


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
