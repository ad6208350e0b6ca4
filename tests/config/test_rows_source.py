"""What is known of a file after it was read: its bytes, their beginning, its end, and that they were in it together."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmpipe.config.rows_source import FileRead, Reading, Source, file_sha256, head_sha256
from llmpipe.errors import DataError

TEXT = b"one\ntwo\n"


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def read(path: Path, *, mark: int = 0, block: int = 3, meanwhile: Callable[[], None] = lambda: None) -> FileRead:
    """The file read block by block, `meanwhile` after the first."""
    with io.FileIO(path) as file:
        source = Source(file, mark=mark)
        assert source.readable()
        source.read(block)
        meanwhile()
        while source.read(block):
            pass
        return source.finish(path, name="f")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "f"
    file.write_bytes(TEXT)
    return file


@pytest.mark.parametrize("block", [1, 2, 3, 4, 8, 100])
def test_a_file_and_its_beginning_are_hashed_as_they_are_read(path: Path, block: int) -> None:
    for mark in range(10):
        found = read(path, mark=mark, block=block)
        marked = sha(TEXT[:mark]) if 0 < mark <= len(TEXT) else None
        assert found == FileRead(path, 8, sha(TEXT), marked, ends_line=True)


def test_the_rest_is_read_at_the_end(path: Path) -> None:
    with io.FileIO(path) as file:
        assert Source(file).finish(path, name="f") == FileRead(path, 8, sha(TEXT), None, ends_line=True)


@pytest.mark.parametrize(("data", "ends_line"), [(b"", False), (b"\n", True), (b"x", False), (b"x\ny", False)])
def test_whether_the_last_line_has_an_end(path: Path, data: bytes, ends_line: bool) -> None:
    path.write_bytes(data)
    assert read(path) == FileRead(path, len(data), sha(data), None, ends_line)


def test_what_is_appended_after_the_end_was_seen_is_no_part_of_it(path: Path) -> None:
    with io.FileIO(path) as file, path.open("ab") as end:
        source = Source(file)
        assert (source.read(100), source.read(100)) == (TEXT, b"")
        end.write(b"three\n")
        end.flush()
        assert source.read(100) == b""
        assert source.finish(path, name="f").sha256 == sha(TEXT)


def test_a_file_that_grew_after_it_was_read_is_as_it_was_read(path: Path) -> None:
    with io.FileIO(path) as file:
        source = Source(file)
        while source.read(3):
            pass
        path.write_bytes(TEXT + b"three\n")
        assert source.finish(path, name="f") == FileRead(path, 8, sha(TEXT), None, ends_line=True)


@pytest.mark.parametrize("now", [b"", b"one\n", b"one\ntwo", b"ONE\ntwo\n", b"ONE\ntwo\nthree\n"])
def test_a_file_that_shrank_or_was_written_over_may_never_have_been_as_it_was_read(path: Path, now: bytes) -> None:
    def write() -> None:
        with path.open("r+b") as file:
            file.write(now)
            file.truncate()

    with pytest.raises(DataError, match="the file was changed while it was read") as caught:
        read(path, meanwhile=write)
    assert (caught.value.row_code, caught.value.file) == ("D301", "f")


def test_a_file_that_was_replaced_is_as_it_was_read(path: Path) -> None:
    def replace() -> None:
        other = path.with_name("other")
        other.write_bytes(b"another\n")
        other.replace(path)

    assert read(path, meanwhile=replace).sha256 == sha(TEXT)


def test_a_pipe_is_read_to_its_end() -> None:
    out, into = os.pipe()
    os.write(into, TEXT)
    os.close(into)
    with io.FileIO(out) as file:
        assert Source(file, mark=4).finish(Path("-"), name="f") == FileRead(
            Path("-"), 8, sha(TEXT), sha(b"one\n"), True
        )


@pytest.mark.parametrize("size", range(10))
def test_the_beginning_of_a_file(path: Path, size: int) -> None:
    assert head_sha256(path, size) == (sha(TEXT[:size]) if size <= 8 else None)


def test_the_beginning_of_a_large_file(path: Path) -> None:
    data = b"0123456789abcdef" * (2**16 + 1)  # more than is read at once
    path.write_bytes(data)
    for size in (2**20 - 1, 2**20, 2**20 + 1, len(data)):
        assert head_sha256(path, size) == sha(data[:size])
    assert head_sha256(path, len(data) + 1) is None
    assert read(path, mark=2**20 + 1, block=2**19) == FileRead(
        path, len(data), sha(data), sha(data[: 2**20 + 1]), False
    )


def test_a_file_that_cannot_be_read_has_no_beginning_and_no_digest(path: Path, tmp_path: Path) -> None:
    assert head_sha256(tmp_path / "none", 0) is head_sha256(tmp_path, 3) is None
    assert file_sha256(path) == sha(TEXT)
    with pytest.raises(DataError, match="cannot read it: No such file or directory"):
        file_sha256(tmp_path / "none")


def test_a_reading_begins_without_a_mark() -> None:
    assert (Reading().mark, Reading().files) == (0, [])
