"""Datasets of every format come out as rows with stable keys."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import Row, count_rows, file_digest, peek_columns, read_rows
from llmpipe.config.rows_json import stream_array
from llmpipe.errors import Place
from llmpipe.json_numbers import one_form

PLACE = Place("p.yaml")


def dataset(*paths: Path, format: Any, key: str | None = None, **rest: Any) -> Dataset:
    return Dataset("d", tuple(paths), format, key, PLACE, **rest)


def rows_of(tmp_path: Path, data: bytes | str, format: Any, key: str | None = None, **rest: Any) -> list[Row]:
    path = tmp_path / "data.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_rows(dataset(path, format=format, key=key, **rest)))


SAMPLES = {
    "jsonl": '{"id": 1, "t": "ä"}\n\n  \r\n{"id": 2, "t": "b"}\r\n',
    "json": '\n[\n {"id": 1, "t": "ä"},\n\n {"id": 2,\n "t": "b"} ]\n',
    "csv": "id, t\n1,ä\n\n2,b\n",
    "tsv": "id\tt\n1\tä\n2\tb",
    "yaml": "- {id: 1, t: ä}\n\n- id: 2\n  t: b\n",
}


@pytest.mark.parametrize("format", SAMPLES)
@pytest.mark.parametrize("packing", ["plain", "gzip", "mark", "stdin", "stdin-gzip"])
def test_every_format_from_every_kind_of_source(tmp_path: Path, format: str, packing: str) -> None:
    data = SAMPLES[format].encode()
    if packing == "mark":
        data = codecs.BOM_UTF8 + data
    if packing.endswith("gzip"):
        data = gzip.compress(data)
    if packing.startswith("stdin"):
        rows = list(read_rows(dataset(format=format, key="id", stdin=True), stdin=io.BytesIO(data)))
    else:
        path = tmp_path / ("x.gz" if packing == "gzip" else "x")
        path.write_bytes(data)
        source = dataset(path, format=format, key="id")
        rows = list(read_rows(source))
        assert count_rows(source) == 2
        assert peek_columns(source) == ("id", "t")
    assert [row.key for row in rows] == ["1", "2"]
    assert [row.data["t"] for row in rows] == ["ä", "b"]
    assert [row.line for row in rows] == {
        "jsonl": [1, 4],
        "json": [3, 5],
        "csv": [2, 4],
        "tsv": [2, 3],
        "yaml": [1, 3],
    }[format]


def test_lines_keep_their_number_and_lose_blank_ones(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "one\n\n  \n two \r\nthree", "lines")
    assert [row.data for row in rows] == [
        {"text": "one", "number": 1},
        {"text": " two ", "number": 4},
        {"text": "three", "number": 5},
    ]


def test_the_key_of_a_line_does_not_change_when_lines_come_before_it(tmp_path: Path) -> None:
    before = rows_of(tmp_path, "a\nb\n", "lines")
    after = rows_of(tmp_path, "new\na\nb\n", "lines")
    assert [row.key for row in after[1:]] == [row.key for row in before]


def test_text_files_have_path_name_and_text_and_the_path_as_key(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    one, two = tmp_path / "docs" / "a.md", tmp_path / "b.txt"
    one.write_bytes(codecs.BOM_UTF8 + "ä\r\n".encode())
    two.write_text("")
    source = dataset(one, two, format="files", root=tmp_path)
    first, second = read_rows(source)
    assert first.data == {"path": "docs/a.md", "name": "a.md", "text": "ä\r\n"}
    assert (first.key, second.key, second.data["text"]) == ("docs/a.md", "b.txt", "")
    assert (count_rows(source), peek_columns(source)) == (2, ("path", "name", "text"))


def test_csv_keeps_quoted_line_ends_and_counts_lines_by_them(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 'id,t\n1,"a\n""b"", c"\n2,\n', "csv")
    assert [(row.line, row.data["t"]) for row in rows] == [(2, 'a\n"b", c'), (4, "")]


def test_a_csv_field_may_be_longer_than_the_csv_modules_default(tmp_path: Path) -> None:
    long = "x" * 200_000
    assert rows_of(tmp_path, f"t\n{long}\n", "csv")[0].data["t"] == long


def test_an_encoding_that_is_named_is_used(tmp_path: Path) -> None:
    assert rows_of(tmp_path, '{"t": "ä"}\n'.encode("latin-1"), "jsonl", encoding="latin-1")[0].data == {"t": "ä"}
    assert rows_of(tmp_path, "t\nä\n".encode("utf-16"), "csv", encoding="utf-16")[0].data == {"t": "ä"}
    marked = codecs.BOM_UTF16_LE + "t\nä\n".encode("utf-16-le")
    assert rows_of(tmp_path, marked, "csv", encoding="utf-16-le")[0].data == {"t": "ä"}


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f'{{"n": "{name}"}}')
    rows = list(read_rows(dataset(tmp_path / "a", tmp_path / "b", format="jsonl", key="n")))
    assert [(row.key, Path(row.file).name, row.line) for row in rows] == [("a", "a", 1), ("b", "b", 1)]


def test_content_keys_ignore_the_order_of_names_and_number_equal_rows(tmp_path: Path) -> None:
    keys = [row.key for row in rows_of(tmp_path, '{"a":1,"b":2}\n{"b":2, "a":1}\n{"a":1}\n{"a":1,"b":2}', "jsonl")]
    assert len(keys[0]) == 16
    assert keys == [keys[0], f"{keys[0]}-2", keys[2], f"{keys[0]}-3"]
    assert keys[2] != keys[0]


def test_rows_are_read_as_they_come() -> None:
    """The first row is there before the second has been written."""

    class Slow(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.given += 1
            data = f'{{"n": {self.given}}}\n'.encode()
            buffer[: len(data)] = data
            return len(data)

    source = Slow()
    stream = io.BufferedReader(source, 64)
    rows = read_rows(dataset(format="jsonl", stdin=True), stdin=stream)
    assert [next(rows).data["n"], next(rows).data["n"]] == [1, 2]
    assert source.given < 2000


def test_standard_input_is_left_open() -> None:
    stream = io.BytesIO(b"a\nb\n")
    assert len(list(read_rows(dataset(format="lines", stdin=True), stdin=stream))) == 2
    assert not stream.closed
    assert count_rows(dataset(format="lines", stdin=True)) is None


def test_no_rows_is_no_error(tmp_path: Path) -> None:
    assert [
        rows_of(tmp_path, data, f) for data, f in (("", "jsonl"), ("[]", "json"), ("a,b\n", "csv"), ("\n", "lines"))
    ] == [[]] * 4


def test_the_digest_is_of_the_content_and_for_text_files_of_the_names_too(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a\n")
    two.write_text("a\n")
    assert file_digest(dataset(one, format="lines")) == file_digest(dataset(two, format="lines"))
    assert file_digest(dataset(one, format="files", root=tmp_path)) != file_digest(
        dataset(two, format="files", root=tmp_path)
    )
    before = file_digest(dataset(one, format="lines"))
    one.write_text("b\n")
    assert file_digest(dataset(one, format="lines")) != before


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON_VALUES, max_size=3)),
    st.booleans(),
)
def test_an_array_streams_to_what_json_reads(rows: list[Any], readable: bool) -> None:
    data = json.dumps(rows, ensure_ascii=not readable, indent=1 if readable else None).encode()

    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(3)  # every element crosses the edge of a chunk

    found = list(stream_array(Dripping(data), file="x"))
    assert [value for _, value in found] == one_form(rows)
    text = data.decode()
    lines = text.split("\n")
    assert all(lines[line - 1].lstrip(" [,").startswith("{") for line, _ in found)


def test_blanks_beside_a_delimiter_belong_to_no_name_unless_the_header_is_quoted(tmp_path: Path) -> None:
    for head, names in (("id , name", ["id", "name"]), ('"id "," name"', ["id ", " name"]), ('"a;b"', ["a;b"])):
        rows = rows_of(tmp_path, f"{head}\n{','.join(['x'] * len(names))}\n", "csv")
        assert [row.data for row in rows] == [dict.fromkeys(names, "x")]
