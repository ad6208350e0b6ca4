"""Columns of a table with types: what is converted, what is refused, and in which words."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import count_rows, read_rows
from llmpipe.errors import DataError, Place
from tests.config.project import load, problems


def read(folder: Path, cell: str, type: str, name: str = "d.csv") -> Any:
    path = folder / name
    path.write_text(f'id,x,y\n1,"{cell}",007\n', newline="")
    dataset = Dataset("d", (path,), "csv", "id", Place("p"), types={"x": type})
    (row,) = read_rows(dataset)
    assert row.data["id"] == "1"
    assert row.data["y"] == "007"
    return row.data["x"]


@pytest.mark.parametrize(
    ("cell", "type", "value"),
    [
        ("18", "integer", 18),
        ("-18", "integer", -18),
        (" 18 ", "integer", 18),
        ("3.0", "integer", 3),
        ("1e3", "integer", 1000),
        ("-0", "integer", 0),
        ("9" * 4_300, "number", 10**4_300 - 1),
        ("0." + "0" * 290 + "1", "number", 1e-291),
        ("12345678901234567890123", "integer", 12345678901234567890123),
        ("0.10", "number", 0.1),
        ("3.0", "number", 3),
        ("1E-7", "number", 1e-07),
        ("true", "boolean", True),
        ("TRUE", "boolean", True),
        ("False", "boolean", False),
        ("", "integer", None),
        ("  ", "number", None),
        ("", "boolean", None),
        ("", "string", ""),
        (" 007 ", "string", " 007 "),
    ],
)
def test_a_cell_is_converted(tmp_path: Path, cell: str, type: str, value: Any) -> None:
    assert repr(read(tmp_path, cell, type)) == repr(value)


@pytest.mark.parametrize(
    ("cell", "type", "words"),
    [
        ("x", "integer", "expected a whole number, found 'x'"),
        ("3.5", "integer", "expected a whole number, found '3.5'"),
        ("007", "integer", "begins with 0 is a text"),
        ("-01", "number", "begins with 0 is a text"),
        ("+5", "integer", "without '+'"),
        ("1,5", "number", "a decimal with a point"),
        ("1,000", "integer", "thousands with nothing between"),
        ("1,234,567.5", "number", "thousands with nothing between"),
        ("1.000,5", "number", "expected a number, found '1.000,5'"),
        ("1_000", "integer", "'1_000'"),
        ("1 000", "integer", "'1 000'"),
        ("NaN", "number", "'NaN'"),
        ("inf", "number", "'inf'"),
        ("0x10", "integer", "'0x10'"),
        (".5", "number", "'.5'"),
        ("٣", "integer", "expected a whole number"),
        ("1e400", "number", "too large"),
        ("0.1234567890123456789", "number", "(it would become 0.12345678901234568); without a type it stays text"),
        ("9" * 5000, "integer", "at most 4,300 digits"),
        ("9" * 4301, "number", "at most 4,300 digits"),
        ("x" * 61, "number", "found '" + "x" * 59),
        ("+-5", "integer", "expected a whole number, found '+-5'"),
        ("+x", "integer", "expected a whole number, found '+x'"),
        ("0x", "integer", "expected a whole number, found '0x'"),
        ("1,x", "number", "expected a number, found '1,x'"),
        ("1", "boolean", "write true or false"),
        ("yes", "boolean", "write true or false"),
        ("null", "integer", "'null'"),
    ],
)
def test_what_is_not_of_its_type_is_refused_at_its_place(tmp_path: Path, cell: str, type: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, cell, type)
    assert (caught.value.row_code, caught.value.line) == ("D316", 2)
    assert caught.value.message.startswith("column 'x': ")
    assert words in caught.value.message
    assert len(caught.value.message) < 300


def test_in_every_format_of_text_and_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\tx\na\t1\n\nb\t2\n")
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"x\tid\n3.0\tc\n"))
    tables = Dataset("d", (tmp_path / "a.tsv", tmp_path / "b.tsv.gz"), "tsv", "id", Place("p"), types={"x": "number"})
    assert [(r.key, r.data["x"]) for r in read_rows(tables)] == [("a", 1), ("b", 2), ("c", 3)]
    assert count_rows(tables) == 3
    (tmp_path / "c.txt").write_text("1\n2.50\n")
    lines = Dataset("d", (tmp_path / "c.txt",), "lines", None, Place("p"), types={"text": "number"})
    assert [r.data["text"] for r in read_rows(lines)] == [1, 2.5]
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"z\tid\n3.0\tc\n"))
    with pytest.raises(DataError) as caught:
        list(read_rows(tables))
    assert "there is no column 'x', which `types` names; columns: z, id" in caught.value.message


def test_a_key_may_have_a_type(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1.0\n2\n")
    dataset = Dataset("d", (tmp_path / "a.csv",), "csv", "id", Place("p"), types={"id": "integer"})
    assert [row.key for row in read_rows(dataset)] == ["1", "2"]


FILE = """\
version: 1
datasets: {d: {path: %s, types: {%s}}}
steps: [{id: a, foreach: datasets.d, render: a}]
"""


@pytest.mark.parametrize(
    ("path", "types", "rows", "code", "words", "hint"),
    [
        ("a.csv", "agge: integer", "id,age\n1,2\n", "C217", "no column 'agge' in dataset 'd'", "did you mean 'age'?"),
        ("a.csv", "age: int", "id,age\n1,2\n", "C204", "'int'", "did you mean 'integer'?"),
        ("a.csv", "age: integer", "id,age\n1,x\n", "D316", "expected a whole number, found 'x'", ""),
        ("a.txt, format: lines", "number: string", "1", "C207", "'number' of lines is a number already", "remove it"),
        ("a.jsonl", "age: integer", '{"age": 1}\n', "C207", "jsonl have types of their own", "remove it"),
        ("a.txt", "text: integer", "1", "C207", "files have types of their own", "remove it"),
    ],
)
def test_mistakes_are_told_at_load(
    tmp_path: Path, path: str, types: str, rows: str, code: str, words: str, hint: str
) -> None:
    (problem,) = problems(tmp_path, FILE % (path, types), {path.partition(",")[0]: rows})
    assert (problem.code, problem.hint) == (code, hint)
    assert words in problem.message


def test_types_stand_in_the_dataset(tmp_path: Path) -> None:
    found = load(tmp_path, FILE % ("a.csv", "age: integer, id: string"), {"a.csv": "id,age\n1,2\n"})
    assert found.datasets["d"].types == {"age": "integer", "id": "string"}
    assert found.warnings == ()
