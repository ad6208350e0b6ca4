"""What is wrong with a dataset is said with its file, its line and a code."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config import rows_files
from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import count_rows, file_digest, peek_columns, read_rows
from llmpipe.errors import DataError, Place

CASES: list[tuple[str, Any, bytes, str, int | None, str]] = [
    # name, format, bytes, code, line, a part of the message
    ("a bare CR", "lines", b"one\rtwo\rthree\r", "D302", 1, "bare CR"),
    ("one bare CR below", "lines", b"one\r\ntwo\nthr\ree\n", "D302", 3, "bare CR"),
    ("two CRs before a LF", "lines", b"one\r\r\n", "D302", 1, "bare CR"),
    ("NULs behind the last line", "lines", b"one\n" + bytes(64), "D302", 2, "NUL"),
    ("a NUL in a line", "lines", b"one\nt\0wo\n", "D302", 2, "NUL"),
    ("lines in utf-16 without a mark", "lines", "one\ntwo\n".encode("utf-16-le"), "D303", 1, "utf-16-le"),
    ("torn line", "jsonl", b'{"id": 1}\n{"id": 2, "t": "abc', "D302", 2, "breaks off"),
    ("not json", "jsonl", b'{"id": 1}\n\n{id: 2}\n{"id": 3}', "D302", 3, "column 2"),
    ("two on a line", "jsonl", b'{"id": 1} {"id": 2}\n', "D302", 1, "column 11"),
    ("a list", "jsonl", b'{"id": 1}\n[1]\n', "D304", 2, "a list"),
    ("null", "jsonl", b"null\n", "D304", 1, "null"),
    ("a text", "jsonl", b'"x"\n', "D304", 1, "a text"),
    ("nan", "jsonl", b'{"id": NaN}\n', "D308", 1, "NaN"),
    ("infinity", "jsonl", b'{"id": -Infinity}\n', "D308", 1, "Infinity"),
    ("too large a number", "jsonl", b'{"id": 1, "x": 1e999}\n', "D308", 1, "too large"),
    ("too long a number", "jsonl", b'{"id": 1, "x": ' + b"9" * 5000 + b"}\n", "D308", 1, "more than 4,300 digits"),
    ("a name twice", "jsonl", b'{"id": 1, "a": {"b": 1, "b": 2}}\n', "D308", 1, "'b' stands twice"),
    ("half a pair", "jsonl", b'{"id": "\\ud800"}\n', "D308", 1, "surrogate"),
    ("too deep", "jsonl", b'{"id": 1}\n{"id": ' + b"[" * 200_000 + b"\n", "D309", 2, "deep"),
    ("not utf-8", "jsonl", b'{"id": "a"}\n{"id": "\xe4"}\n', "D303", 2, "0xe4"),
    ("utf-16", "jsonl", '{"id": 1}'.encode("utf-16"), "D303", 1, "utf-16"),
    ("utf-16 without a mark", "csv", "id,t\n1,2\n".encode("utf-16-be"), "D303", 1, "utf-16-be"),
    ("no key", "jsonl", b'{"id": 1}\n{"uid": 2}\n', "D306", 2, "it has: uid"),
    ("an empty key", "csv", b"id,t\n1,a\n,b\n", "D306", 3, "empty"),
    ("a null key", "jsonl", b'{"id": null}\n', "D306", 1, "null"),
    ("a boolean key", "jsonl", b'{"id": true}\n', "D306", 1, "true"),
    ("a key twice", "jsonl", b'{"id": 1}\n{"id": 2}\n{"id": "1"}\n', "D305", 3, "line 1"),
    ("ragged", "csv", b"id,t\n1,a\n2,b,c\n", "D307", 3, "3 fields, the header 2"),
    ("short", "csv", b"id,t\n1\n", "D307", 2, "1 fields"),
    ("a column twice", "csv", b"id,t, id\n1,a,2\n", "D307", 1, "'id'"),
    ("semicolons", "csv", b"id;t\n1;2\n", "D307", 1, "';'"),
    ("an open quote", "csv", b'id,t\n1,a\n2,"b\n3,c\n', "D302", 3, "unexpected end"),
    ("a stray quote", "csv", b'id,t\n1,"a"b\n', "D302", 2, "expected after"),
    ("an object", "json", b'{"id": 1}', "D302", 1, "format: jsonl"),
    ("an array cut off", "json", b'[\n{"id": 1},\n{"id": 2', "D302", 3, "breaks off"),
    ("an array without end", "json", b'[{"id": 1}', "D302", 1, "breaks off"),
    ("a comma too many", "json", b'[{"id": 1},\n]', "D302", 2, "a ',' before the closing ']'; remove it"),
    (
        "a comma too many in an element",
        "json",
        b'[{"id": 1 ,\n}]',
        "D302",
        1,
        "column 11: a ',' before the closing '}'; remove it",
    ),
    (
        "a comma too many in a row",
        "jsonl",
        b'{"id": 1}\n{"id": 2,}\n',
        "D302",
        2,
        "a ',' before the closing '}'; remove",
    ),
    (
        "a comma too many in a list",
        "jsonl",
        b'{"id": [1, 2, ]}\n',
        "D302",
        1,
        "a ',' before the closing ']'; remove it",
    ),
    ("a value missing", "jsonl", b'{"id": ]}\n', "D302", 1, "expecting value"),
    ("a comma alone", "json", b"[,]", "D304", 1, "object"),
    ("no comma", "json", b'[{"id": 1}\n{"id": 2}]', "D302", 2, "','"),
    ("text behind", "json", b'[{"id": 1}]\n]', "D302", 2, "more text"),
    ("an element wrong inside", "json", b'[{"id": 1},\n {"id": 2,\n  "t" 3}]' + b" " * 200_000, "D302", 3, "column 7"),
    ("numbers", "json", b"[1, 2]", "D304", 1, "object"),
    ("array nan", "json", b'[{"id": NaN}]', "D308", 1, "NaN"),
    ("array half a pair", "json", b'[\n{"id": "\\udc00"}]', "D308", 2, "surrogate"),
    ("array not utf-8", "json", b'[{"id": 1},\n{"id": "\xff"}]', "D303", 2, "UTF-8"),
    ("array too deep", "json", b'[{"id": ' + b"[" * 200_000, "D309", 1, "deep"),
    ("nothing", "json", b"", "D302", 1, "the file is empty"),
    ("nothing but blanks", "json", b" \n\n", "D302", 3, "the file is empty"),
    ("old line ends", "csv", b"id,t\r1,a\r2,b\r", "D302", 1, "bare CR; save it with LF or CRLF"),
    ("yaml of another encoding", "yaml", b"- {id: 1}\n- {id: \xe9}\n", "D303", 2, "0xe9"),
    ("yaml too deep", "yaml", b"- {id: 1}\n- " + b"[" * 200 + b"\n", "D309", 2, "deeper"),
    ("yaml text", "yaml", b"- {id: 1}\n- just text\n", "D304", 2, "a text"),
    ("yaml broken", "yaml", b"- {id: 1}\n- {id: [\n", "D302", None, ""),
    ("yaml name twice", "yaml", b"- {id: 1}\n- {id: 2, id: 3}\n", "D302", 2, "id"),
    ("lines not utf-8", "lines", b"a\n\xff\n", "D303", 2, "0xff"),
]


def read(path: Path, format: Any, key: str | None = "id", **rest: Any) -> list[Any]:
    return list(read_rows(Dataset("d", (path,), format, key, Place("p.yaml"), **rest)))


@pytest.mark.parametrize(("format", "data", "code", "line", "part"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_trouble_is_named_with_its_line(
    tmp_path: Path, format: str, data: bytes, code: str, line: int | None, part: str
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path, format, None if format == "lines" else "id")
    assert caught.value.row_code == code
    assert caught.value.file == str(path)
    if line is not None:
        assert caught.value.line == line
    assert part in caught.value.message
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("format", "data"), [c[1:3] for c in CASES], ids=[c[0] for c in CASES])
def test_a_look_at_the_columns_never_fails(tmp_path: Path, format: Any, data: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(data)
    assert isinstance(peek_columns(Dataset("d", (path,), format, "id", Place("p.yaml"))), tuple)


@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "yaml", "lines", "files"])
def test_a_damaged_archive_is_no_end_of_file(tmp_path: Path, format: str) -> None:
    whole = gzip.compress(b"".join(b'{"id": %d, "t": "%d"}\n' % (n, n * 7919) for n in range(20_000)))
    for data in (whole[:-100], whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:]):
        path = tmp_path / "x.gz"
        path.write_bytes(data)
        with pytest.raises(DataError):
            read(path, format, None)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        count_rows(Dataset("d", (path,), "jsonl", None, Place("p.yaml")))
    assert caught.value.row_code == "D301"


def test_a_file_named_gz_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="is named") as caught:
        read(path, "jsonl")
    assert caught.value.row_code == "D301"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        for look in (lambda p: read(p, "jsonl"), lambda p: file_digest(Dataset("d", (p,), "jsonl", None, Place("x")))):
            with pytest.raises(DataError) as caught:
                look(path)
            assert caught.value.row_code == "D301"


def test_a_key_twice_in_two_files_names_both(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text('{"id": 7}\n')
    source = Dataset("d", (tmp_path / "a", tmp_path / "b"), "jsonl", "id", Place("p.yaml"))
    with pytest.raises(DataError, match=r"line 1 of .*a$") as caught:
        list(read_rows(source))
    assert caught.value.file == str(tmp_path / "b")


def test_a_wrong_foreign_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"id,t\n1,a\n2,\xff\n")
    with pytest.raises(DataError, match="shift_jis") as caught:
        read(path, "csv", encoding="shift_jis")
    assert (caught.value.row_code, caught.value.line) == ("D303", 3)
    with pytest.raises(DataError, match="no encoding 'klingon'"):
        read(path, "csv", encoding="klingon")


@pytest.mark.parametrize("format", ["jsonl", "csv", "json", "lines", "files"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, format: str) -> None:
    """A few hundred kilobytes that unpack to one row of 80 MiB."""
    path = tmp_path / "bomb.gz"
    head = {"json": b'[{"t": "', "csv": b't\n"'}.get(format, b"")
    path.write_bytes(gzip.compress(head + b"x" * (80 * 1024 * 1024), compresslevel=1))
    with pytest.raises(DataError) as caught:
        read(path, format, None)
    assert caught.value.row_code in ("D309", "D302")
    assert rows_files.LIMIT in caught.value.message or "limit" in caught.value.message


def test_rows_before_the_trouble_come_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"id": 1}\n{"id": 2}\n{"id"')
    rows = read_rows(Dataset("d", (path,), "jsonl", "id", Place("p.yaml")))
    assert [next(rows).key, next(rows).key] == ["1", "2"]
    with pytest.raises(DataError):
        next(rows)


def test_standard_input_has_a_name_in_messages() -> None:
    source = Dataset("d", (), "jsonl", "id", Place("p.yaml"), stdin=True)
    with pytest.raises(DataError, match=r"<stdin>:1: D302"):
        list(read_rows(source, stdin=io.BytesIO(b"{")))


def test_the_column_of_what_is_not_json_is_known(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    for format, text, line in (("jsonl", '{"id": 1}\n{"id" 2}\n', 2), ("json", '[{"id": 1},\n\n{"id" 2}]', 3)):
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            read(path, format)
        assert (caught.value.line, caught.value.column) == (line, 7)


def test_a_row_that_breaks_off_is_told_at_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": 2\n{"id": 3}\n')
    with pytest.raises(DataError, match="breaks off") as caught:
        list(read_rows(Dataset("d", (path,), "jsonl", "id", Place("x.yaml"))))
    assert (caught.value.line, caught.value.column) == (2, 9)
