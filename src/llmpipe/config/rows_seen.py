"""The keys that were seen, each with a number: a table in memory that moves into a temporary file when it gets large.

Both are hash tables over 64-bit hashes of the keys; two of a million keys fall together with a probability of 3e-8.
With the file, reading a million rows takes no more memory than reading a hundred thousand. It is not mapped: mapped
pages would count as the process's own.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator

IN_MEMORY = 65_536  # keys, in 2 to 3 MiB
_ENTRY = struct.Struct("<qq")  # a hash (0 where none is) and its number
_WIDTH = 8
_BUCKET = struct.Struct(f"<{2 * _WIDTH}q")
_CHUNK = 128 * 1024  # bytes of a file that are copied at once

_Entries = Iterable[tuple[int, int]]


class KeyTable:
    """Every key that was put in, with its number. Close it: it may have a file open."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        """`in_memory`: with more keys than this the table lies in a temporary file, where one can be had."""
        self._limit = in_memory
        self._table: _Memory | _File = _Memory()

    def put(self, key: str, number: int) -> int | None:
        """Remember `number` for a new key; for a known one return its number and keep that."""
        return self._put(hash(key) or 1, number)

    def count(self, key: str) -> int:
        """How often this key has been counted, this time included."""
        wanted = hash(key) or 1
        before = self._put(wanted, 1)
        if before is None:
            return 1
        self._change(wanted, before + 1)
        return before + 1

    def close(self) -> None:
        """Let go of the file, if there is one."""
        self._table.close()

    def _put(self, wanted: int, number: int) -> int | None:
        if self._table.is_full():
            self._grow()
        try:
            return self._table.put(wanted, number)
        except OSError:
            self._leave_file()
            return self._table.put(wanted, number)

    def _change(self, wanted: int, number: int) -> None:
        try:
            self._table.change(wanted, number)
        except OSError:
            self._leave_file()
            self._table.change(wanted, number)

    def _grow(self) -> None:
        """Twice the slots in memory, four times as many in a file; the old table is given up once it is copied."""
        old = self._table
        if old.used < self._limit:
            self._table = _Memory(old.items(), room=old.used * 3 // 2)
            old.close()
            return
        try:
            self._table = _File(old.items(), room=old.used * 3)
            old.close()
        except OSError:
            self._leave_file()

    def _leave_file(self) -> None:
        """Keep everything in memory: there is no folder for temporary files, or no space in it."""
        self._limit = 1 << 62
        old = self._table
        self._table = _Memory(old.items(), room=old.used * 3 // 2)
        old.close()


class _Memory:
    """A table in two arrays: 16 bytes a slot, at most three of five in use."""

    def __init__(self, entries: _Entries = (), *, room: int = 600) -> None:
        """With room for `room` entries at least."""
        size = 1 << (room * 5 // 3).bit_length()
        self._slots, self._numbers = array("q", bytes(8 * size)), array("q", bytes(8 * size))
        self.used = 0
        for wanted, number in entries:
            self.put(wanted, number)

    def is_full(self) -> bool:
        return self.used * 5 > len(self._slots) * 3

    def put(self, wanted: int, number: int) -> int | None:
        slot = self._slot(wanted)
        if self._slots[slot]:
            return self._numbers[slot]
        self._slots[slot], self._numbers[slot] = wanted, number
        self.used += 1
        return None

    def change(self, wanted: int, number: int) -> None:
        self._numbers[self._slot(wanted)] = number

    def items(self) -> Iterator[tuple[int, int]]:
        return ((wanted, number) for wanted, number in zip(self._slots, self._numbers, strict=True) if wanted)

    def close(self) -> None:
        """Nothing is held."""

    def _slot(self, wanted: int) -> int:
        """Where a hash is, or would be put."""
        slots = self._slots
        mask = len(slots) - 1
        slot = wanted & mask
        while (found := slots[slot]) and found != wanted:
            slot = (slot + 1) & mask
        return slot


class _File:
    """A table in a nameless temporary file of 128-byte buckets; a full bucket runs over into the next."""

    def __init__(self, entries: _Entries, *, room: int) -> None:
        """With room for `room` entries at least. Raises OSError."""
        self._buckets = 1 << (room * 5 // 3 // _WIDTH).bit_length()
        self._file = tempfile.TemporaryFile(prefix="llmpipe-keys-", buffering=0)  # noqa: SIM115 - closed by `close`
        self._at = self._file.fileno()
        self.used = 0
        try:
            os.ftruncate(self._at, self._buckets * _BUCKET.size)
            for wanted, number in entries:
                self.put(wanted, number)
        except BaseException:
            self._file.close()
            raise

    def is_full(self) -> bool:
        return self.used * 5 > self._buckets * _WIDTH * 3

    def put(self, wanted: int, number: int) -> int | None:
        at, known = self._find(wanted)
        if known is None:
            os.pwrite(self._at, _ENTRY.pack(wanted, number), at)
            self.used += 1
        return known

    def change(self, wanted: int, number: int) -> None:
        at, _ = self._find(wanted)
        os.pwrite(self._at, _ENTRY.pack(wanted, number), at)

    def items(self) -> Iterator[tuple[int, int]]:
        for at in range(0, self._buckets * _BUCKET.size, _CHUNK):
            block = _ENTRY.iter_unpack(os.pread(self._at, _CHUNK, at))
            yield from ((wanted, number) for wanted, number in block if wanted)

    def close(self) -> None:
        self._file.close()

    def _find(self, wanted: int) -> tuple[int, int | None]:
        """Where in the file a hash is, or would be put; and its number if it is there."""
        mask, size = self._buckets - 1, _BUCKET.size
        bucket = wanted & mask
        while True:
            cells = _BUCKET.unpack(os.pread(self._at, size, bucket * size))
            there = cells[::2]
            if wanted in there:
                place = there.index(wanted)
                return bucket * size + place * _ENTRY.size, cells[2 * place + 1]
            if 0 in there:
                return bucket * size + there.index(0) * _ENTRY.size, None
            bucket = (bucket + 1) & mask
