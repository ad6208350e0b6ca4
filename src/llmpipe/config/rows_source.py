"""The bytes of a dataset's files, hashed as they are read: what is known of a file is then true of its rows."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import field
from pathlib import Path

from llmpipe.errors import DataError
from llmpipe.frozen import frozen

_CHUNK = 1024 * 1024


@frozen
class FileRead:
    """A file as one pass has read it: how many bytes, their SHA-256, and that of the first `mark` of them."""

    path: Path
    size: int
    sha256: bytes
    marked: bytes | None  # None: fewer came
    ends_line: bool  # the last byte is a newline


@frozen
class Reading:
    """One pass over the files of a dataset: each gets an entry in `files` when it has been read to its end."""

    mark: int = 0
    files: list[FileRead] = field(default_factory=list)


class Source(io.RawIOBase):
    """An open file that hashes what is read from it.

    Its end is final once it was seen: the rest of a line that is being appended would otherwise become a row.
    """

    def __init__(self, file: io.FileIO, *, mark: int = 0) -> None:
        self._file, self._mark = file, mark
        found = os.fstat(file.fileno())
        self._is_file, self._least = stat.S_ISREG(found.st_mode), found.st_size
        self._hash = hashlib.sha256()
        self._marked: bytes | None = None
        self._size, self._last, self._ended = 0, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = 0 if self._ended else self._file.readinto(view) or 0
        self._ended = count == 0
        if count:
            self._take(view[:count])
        return count

    def _take(self, data: memoryview) -> None:
        before = self._mark - self._size
        if 0 < before <= len(data):
            self._hash.update(data[:before])
            self._marked = self._hash.digest()
            self._hash.update(data[before:])
        else:
            self._hash.update(data)
        self._size += len(data)
        self._last = bytes(data[-1:])

    def finish(self, path: Path, *, name: str) -> FileRead:
        """What was read, once the rows have been. Raises DataError D301 if these bytes are no longer in the file.

        A file that was replaced or only grew is as it was read. One that shrank or was written over may have been read
        in parts that were never in it together.
        """
        while self.read(_CHUNK):
            continue
        read = FileRead(path, self._size, self._hash.digest(), self._marked, self._last == b"\n")
        if self._is_file and (self._size < self._least or self._found_now() != read.sha256):
            raise changed_meanwhile(name)
        return read

    def _found_now(self) -> bytes | None:
        self._file.seek(0)
        return _sha256(self._file, self._size)


def changed_meanwhile(name: str) -> DataError:
    """The error for a file of which no version was read as a whole."""
    message = "the file was changed while it was read, so rows may be missing or mixed; run again when it is complete"
    return DataError(message, file=name, code="D301")


def head_sha256(path: Path, size: int) -> bytes | None:
    """The SHA-256 of the first `size` bytes of a file; None if it has fewer or cannot be read."""
    try:
        with path.open("rb", 0) as file:
            return _sha256(file, size)
    except OSError:
        return None


def _sha256(file: io.FileIO, size: int) -> bytes | None:
    digest, left = hashlib.sha256(), size
    while left and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest() if not left else None


def file_sha256(path: Path) -> bytes:
    """The SHA-256 of a file as it is now. Raises DataError D301."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise DataError(f"cannot read it: {error.strerror or error}", file=str(path), code="D301") from None
