"""The bytes of a dataset: files or standard input, unpacked, as UTF-8 without a byte order mark, line by line."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmpipe.config.paths import display
from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows_json import MAX_ROW
from llmpipe.config.rows_source import Reading, Source
from llmpipe.errors import DataError
from llmpipe.frozen import frozen

LIMIT = f"{MAX_ROW // 1024 // 1024} MiB"
_CHUNK = 256 * 1024
_GZIP = b"\x1f\x8b"
_UTF8 = frozenset({"utf-8", "utf_8", "utf8", "utf-8-sig", "ascii", "us-ascii"})
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@frozen
class Part:
    """One file of a dataset, open: its bytes as UTF-8, its name in messages, its path (None: standard input)."""

    stream: BinaryIO
    file: str
    path: Path | None


def parts(dataset: Dataset, stdin: BinaryIO | None, reading: Reading | None = None) -> Iterator[Part]:
    """The files of a dataset, one after the other, each closed when the next is asked for, and then noted in `reading`.

    Whoever reads from one does so under `reporting`. Raises DataError: D301 it cannot be opened, or was changed while
    it was read for a `reading`; D303 its encoding.
    """
    if dataset.stdin:
        source = stdin if stdin is not None else sys.stdin.buffer
        with reporting("<stdin>"):
            piped = io.BufferedReader(_Chunks(_read_on(source)), _CHUNK)
            yield Part(_prepared(piped, "<stdin>", dataset.encoding), "<stdin>", None)
        return
    for path in dataset.paths:
        file = display(path)
        with reporting(file), path.open("rb", 0) as opened:
            source = Source(opened, mark=reading.mark if reading is not None else 0)
            packed: Any = io.BufferedReader(source, _CHUNK)  # buffered, so that it can be looked into
            if path.suffix == ".gz" and packed.peek(1) and packed.peek(2)[:2] != _GZIP:
                raise DataError("the file is named .gz but is not packed with gzip", file=file, code="D301")
            yield Part(_prepared(packed, file, dataset.encoding), file, path)
            if reading is not None:
                reading.files.append(source.finish(path, name=file))


@contextmanager
def reporting(file: str) -> Iterator[None]:
    """Faults of the disk and of gzip as DataError D301."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the packed file is damaged or cut off: {error}", file=file, code="D301") from None
    except OSError as error:
        raise DataError(f"cannot read it: {error.strerror or error}", file=file, code="D301") from None


def _prepared(packed: Any, file: str, encoding: str) -> BinaryIO:
    """The stream unpacked, in UTF-8, after the byte order mark."""
    stream: Any = packed  # buffered, whatever lies below
    if packed.peek(2)[:2] == _GZIP:
        stream = io.BufferedReader(gzip.GzipFile(fileobj=packed), _CHUNK)
    if encoding.lower() not in _UTF8:
        return cast(BinaryIO, io.BufferedReader(_Chunks(_transcoded(stream, file, encoding)), _CHUNK))
    head = stream.peek(4)[:4]
    for mark, name in _MARKS:
        if head.startswith(mark):
            raise _wide(file, name)
    if head.startswith(codecs.BOM_UTF8):
        stream.read(3)
    elif len(head) == 4 and head.count(0) >= 2 and (head[0] == 0) != (head[1] == 0):
        raise _wide(file, "utf-16-be" if head[0] == 0 else "utf-16-le")
    return cast(BinaryIO, stream)


def _wide(file: str, name: str) -> DataError:
    message = f"the file is {name.upper()}, not UTF-8; save it as UTF-8 or write `encoding: {name}`"
    return DataError(message, file=file, line=1, code="D303")


class _Chunks(io.RawIOBase):
    """A raw stream over pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _read_on(stream: BinaryIO) -> Iterator[bytes]:
    """What a stream gives, as it comes, without closing it."""
    read = getattr(stream, "read1", stream.read)
    while piece := read(64 * 1024):
        yield piece


def _transcoded(stream: BinaryIO, file: str, encoding: str) -> Iterator[bytes]:
    """Text of another encoding as UTF-8. Raises DataError D303 with the line."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}", file=file, code="D303") from None
    line, last, begun = 1, False, False
    while not last:
        data = stream.read(64 * 1024)
        last = not data
        try:
            text = decoder.decode(data, final=last)
        except UnicodeError as error:
            good = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
            line += good.decode(encoding, "ignore").count("\n")
            raise DataError(f"this is not {encoding}", file=file, line=line, code="D303") from None
        line += text.count("\n")
        if text:
            yield (text if begun else text.removeprefix("\ufeff")).encode()
            begun = True


def raw_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Every line, as bytes with its end; one that is too long comes in parts."""
    return iter(lambda: stream.readline(MAX_ROW + 1), b"")


def lines(stream: BinaryIO, *, file: str) -> Iterator[tuple[int, str]]:
    """Every line with its number from 1 and its line end. Raises DataError: D303 not UTF-8, D309 too long."""
    for number, raw in enumerate(raw_lines(stream), 1):
        if len(raw) > MAX_ROW:
            raise DataError(f"the line is longer than {LIMIT}", file=file, line=number, code="D309")
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(error, file=file, line=number) from None


def whole_text(stream: BinaryIO, *, file: str) -> str:
    """The whole text of a file. Raises DataError: D303 not UTF-8, D309 too large."""
    data = stream.read(MAX_ROW + 1)
    if len(data) > MAX_ROW:
        raise DataError(f"the file is larger than {LIMIT}", file=file, code="D309")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error, file=file, line=1 + data.count(b"\n", 0, error.start)) from None


def not_utf8(error: UnicodeDecodeError, *, file: str, line: int) -> DataError:
    """The DataError for bytes that are no UTF-8, with what they may be."""
    byte = error.object[error.start]
    message = f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8 or name its `encoding` (perhaps windows-1252)"
    return DataError(message, file=file, line=line, code="D303")
