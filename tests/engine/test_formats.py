"""What is published is read back as it was: by Python's csv and json, by pandas, and by a pipeline."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config.pipeline import Dataset, Published
from llmpipe.config.rows import read_rows
from llmpipe.engine.files import publishing
from llmpipe.engine.formats import pieces
from llmpipe.errors import ConfigError, ItemError, Place
from llmpipe.json_numbers import read_number
from tests.engine.conftest import Project

CSV, TSV = ("csv", ","), ("tsv", "\t")
TABLES = pytest.mark.parametrize(("format", "delimiter"), [CSV, TSV])
ENDS = ("\r", "\n", "\r\n", "\n\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0")
MARKS = ('"', '""', ",", "\t", ";", "|", "'", "\\", "\\n", "#", "`", "\ufeff", "\u00a0", "\x1a", "\x7f", "\u200b")
TEXTS = [
    *(text for end in (*ENDS, *MARKS) for text in (end, f"a{end}b", f"{end}b", f"a{end}", f' {end} "{end}')),
    *("", " ", "  ", " a", "a ", "\t", "007", "1e5", "-5", "+1", "=1+1", "@x", "NA", "null", "None", "nan", "true"),
    *("größe", "日本語", "🦊", "e\u0301", "[1]", '{"a": 1}', "1,5", "2026-01-01", "x" * 100_000, "🦊" * 5_000),
]
# Half of what makes readers stumble, half any character but half a surrogate pair.
ANY_TEXT = st.lists(
    st.one_of(st.sampled_from([*ENDS, *MARKS, " ", "a", "=", "é"]), st.characters(exclude_categories=["Cs"])),
    max_size=8,
).map("".join)


def published(path: Path, columns: Sequence[str], **more: Any) -> Published:
    names: Any = dict.fromkeys(columns)
    format = path.suffix[1:]
    return Published("s", path, format, names, Place("x.yaml"), **more)  # type: ignore[arg-type]


def write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], **more: Any) -> None:
    made = [(str(n), dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)]
    with publishing(path) as file:
        file.writelines(pieces(published(path, columns, **more), made))


def by_csv(path: Path, delimiter: str) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


def by_pandas(path: Path, delimiter: str) -> list[list[str]]:
    frame = pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False)
    return [list(frame.columns), *frame.to_numpy().tolist()]


def by_llmpipe(path: Path) -> list[Mapping[str, Any]]:
    dataset = Dataset("d", (path,), path.suffix[1:], None, Place("x.yaml"))  # type: ignore[arg-type]
    return [row.data for row in read_rows(dataset)]


def reads_back(path: Path, delimiter: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    whole = [list(columns), *(list(row) for row in rows)]
    assert by_csv(path, delimiter) == whole
    assert by_llmpipe(path) == [dict(zip(columns, row, strict=True)) for row in rows]
    assert by_pandas(path, delimiter) == whole


@TABLES
def test_every_text_comes_back_from_a_table(format: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"größe.{format}"
    rows = [[text, "x", text] for text in TEXTS]
    write(path, ["key", "größe", "日本 語"], rows)
    reads_back(path, delimiter, ["key", "größe", "日本 語"], rows)
    write(path, ["only"], [[text] for text in TEXTS])
    reads_back(path, delimiter, ["only"], [[text] for text in TEXTS])


@TABLES
def test_every_text_comes_back_as_the_name_of_a_column(format: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{format}"
    names = [text for text in dict.fromkeys(TEXTS) if text and len(text) < 50]
    write(path, names, [["1"] * len(names)])
    reads_back(path, delimiter, names, [["1"] * len(names)])
    for name in names:
        for rows in ([], [["1"]]):
            write(path, [name], rows)
            reads_back(path, delimiter, [name], rows)


@TABLES
@given(columns=st.lists(ANY_TEXT.filter(bool), min_size=1, max_size=4, unique=True), data=st.data())
def test_any_table_comes_back(
    format: str, delimiter: str, columns: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(st.lists(st.lists(ANY_TEXT, min_size=len(columns), max_size=len(columns)), max_size=4))
    path = tmp_path_factory.getbasetemp() / f"any.{format}"
    write(path, columns, rows)
    reads_back(path, delimiter, columns, rows)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), ANY_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY_TEXT, inner, max_size=3)),
    max_leaves=4,
)


@given(rows=st.lists(st.dictionaries(ANY_TEXT, VALUES, min_size=2, max_size=2), max_size=4))
def test_any_value_comes_back_from_json(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = json.loads(json.dumps(rows), parse_float=read_number)  # the form in which a run has every number
    for suffix in ("jsonl", "json"):
        path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        with publishing(path) as file:
            file.writelines(pieces(published(path, ["x"]), [("k", row) for row in rows]))
        text = path.read_bytes().decode()
        assert by_llmpipe(path) == rows
        if suffix == "json":
            assert json.loads(text) == rows
        else:
            assert [json.loads(line) for line in text.splitlines()] == rows


@TABLES
def test_values_of_other_types_are_written_as_json_and_null_is_not_the_empty_text(
    format: str, delimiter: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x.{format}"
    nested = {"a": ["x\r", None, 1.5], "é": "\u2028"}
    write(path, list("abcdefg"), [[True, False, 7, 0.1, nested, None, ""]])
    ((*cells,),) = by_csv(path, delimiter)[1:]
    assert cells[:4] == ["true", "false", "7", "0.1"]
    assert json.loads(cells[4]) == nested
    assert path.read_bytes().endswith(f'{delimiter}{delimiter}""\n'.encode())
    write(path, ["only"], [[None], ["x"]])
    reads_back(path, delimiter, ["only"], [[""], ["x"]])  # the row is there for every reader


@pytest.mark.parametrize(
    ("value", "cell", "escaped"),
    [
        (None, "", ""),
        ("", '""', '""'),
        ("a b", "a b", "a b"),
        (" a", '" a"', '" a"'),
        ("a\u00a0", '"a\u00a0"', '"a\u00a0"'),
        ('a"b', '"a""b"', '"a""b"'),
        ("a;b", '"a;b"', '"a;b"'),
        ("a|b", '"a|b"', '"a|b"'),
        ("\ufeffa", '"\ufeffa"', '"\ufeffa"'),
        ("a\ufeff", "a\ufeff", "a\ufeff"),
        ("=a", "=a", "'=a"),
        ("+a", "+a", "'+a"),
        ("-a", "-a", "'-a"),
        ("@a", "@a", "'@a"),
        ("\ta", '"\ta"', '"\'\ta"'),
        ("\ra", '"\ra"', '"\'\ra"'),
        ("a=", "a=", "a="),
        ("'=a", "'=a", "'=a"),
        (-5, "-5", "-5"),
        (True, "true", "true"),
        ([1, 2], '"[1, 2]"', '"[1, 2]"'),
        (0.5, "0.5", "0.5"),
    ],
)
def test_the_bytes_of_a_cell(value: Any, cell: str, escaped: str) -> None:
    def table(name: str, **more: Any) -> str:
        return "".join(pieces(published(Path(name), ["x", "y"], **more), [("k", {"x": value, "y": 1})]))

    assert table("x.csv") == f"x,y\n{cell},1\n"
    assert table("x.tsv") == f"x\ty\n{cell}\t1\n"
    assert table("x.csv", escape_formulas=True) == f"x,y\n{escaped},1\n"


def test_the_bytes_of_a_file_of_every_format() -> None:
    rows = [("a", {"key": "a", "output": "é"}), ("b", {"key": "b", "output": [1, None]})]

    def text(name: str, rows: list[tuple[str, dict[str, Any]]] = rows) -> str:
        return "".join(pieces(published(Path(name), []), rows))

    assert text("x.csv") == 'key,output\na,é\nb,"[1, null]"\n'
    assert text("x.tsv") == 'key\toutput\na\té\nb\t"[1, null]"\n'
    assert text("x.jsonl") == '{"key": "a", "output": "é"}\n{"key": "b", "output": [1, null]}\n'
    assert text("x.json") == '[\n  {"key": "a", "output": "é"},\n  {"key": "b", "output": [1, null]}\n]\n'
    assert text("x.text") == "é\n[1, null]\n"
    assert [text(f"x.{kind}", []) for kind in ("csv", "tsv", "jsonl", "json", "text")] == [
        "key,output\n", "key\toutput\n", "", "[\n]\n", "",
    ]  # fmt: skip
    one = "".join(pieces(published(Path("x.csv"), ["x"]), [("k", {"x": None}), ("l", {"x": ""})]))
    assert one == 'x\n""\n""\n'


def test_half_a_character_is_named_at_its_row() -> None:
    rows = [("a", {"key": "a", "output": "x"}), ("k" * 200, {"key": "b", "output": {"n": ["\ud800"]}})]
    with pytest.raises(ItemError) as caught:
        list(pieces(published(Path("out/x.jsonl"), []), rows))
    assert caught.value.item_code == "O526"
    assert str(caught.value).startswith(
        f"row 2 (key '{'k' * 99}), column 'output' of x.jsonl: half of a surrogate pair"
    )


def test_a_text_is_published_as_it_is_and_ends_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    one = Published("s", path, "text", {}, Place("x.yaml"))
    rows = [("a", {"key": "a", "output": "=1\r\n\ttwo "}), ("b", {"key": "b", "output": {"n": 1}})]
    with publishing(path) as file:
        file.writelines(pieces(one, rows))
    assert path.read_bytes() == b'=1\r\n\ttwo \n{"n": 1}\n'


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("value", ["a\ud83d", {"deep": ["\udc80"]}, {"\ud800": 1}])
def test_half_a_character_is_refused_with_row_and_column(suffix: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"row 2 \(key '1'\), column 'größe' of x\.\w+: half of a surrogate pair"):
        write(tmp_path / f"x.{suffix}", ["id", "größe"], [["a", "b"], ["c", value]])
    assert list(tmp_path.iterdir()) == []


# -- as a user has it --------------------------------------------------------------------------------------------------

WRITE = """\
version: 1
datasets: {d: {path: in.jsonl, key: id}}
steps: [{id: note, foreach: datasets.d, render: "{{ item.text }}"}]
outputs:
  - {from: steps.note, path: output/größe.csv, columns: {n: key, "Größe, Maß": item.text, " padded ": "'yes'"}}
  - {from: steps.note, path: output/größe.tsv, columns: {n: key, "Größe, Maß": item.text, " padded ": "'yes'"}}
  - {from: steps.note, path: output/größe.jsonl, columns: {n: key, "Größe, Maß": item.text, " padded ": "'yes'"}}
  - {from: steps.note, path: output/größe.json, columns: {n: key, "Größe, Maß": item.text, " padded ": "'yes'"}}
"""
READ = """\
version: 1
datasets: {d: {path: ../output/größe.SUFFIX, key: n}}
steps:
  - {id: back, foreach: datasets.d, render: "{{ item['Größe, Maß'] }}"}
  - {id: padded, foreach: datasets.d, render: "{{ item[' padded '] }}"}
"""


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_one_pipeline_reads_what_another_has_published(suffix: str, project: Project) -> None:
    project.rows("in.jsonl", [{"id": f"k{n}", "text": text} for n, text in enumerate(TEXTS)])
    assert project.run(WRITE).exit_code == 0
    project.write("back.yaml", READ.replace("SUFFIX", suffix))
    report = project.run(READ.replace("SUFFIX", suffix))
    assert report.exit_code == 0
    assert [row["key"] for row in project.results(report, "back")] == [f"k{n}" for n in range(len(TEXTS))]
    assert project.outputs(report, "back") == TEXTS
    assert set(project.outputs(report, "padded")) == {"yes"}


FORMULAS = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "=", "-"]
ESCAPED = """\
version: 1
datasets: {d: {path: in.jsonl, key: id}}
steps: [{id: note, foreach: datasets.d, render: "{{ item.text }}"}]
outputs: [{from: steps.note, path: output/x.SUFFIX, columns: {"=head": output, n: item.n}, MORE}]
"""


@pytest.mark.parametrize(("suffix", "delimiter"), [CSV, TSV])
def test_formulas_are_escaped_where_the_file_asks_for_it(suffix: str, delimiter: str, project: Project) -> None:
    texts = [*FORMULAS, "a=1", " =1", "'=1", "1", ""]
    project.rows("in.jsonl", [{"id": f"k{n}", "text": text, "n": -n} for n, text in enumerate(texts)])
    text = ESCAPED.replace("SUFFIX", suffix)
    path = project.root / "output" / f"x.{suffix}"
    for more in ("format: " + suffix, "escape_formulas: false"):
        assert project.run(text.replace("MORE", more)).exit_code == 0
        assert by_csv(path, delimiter) == [["=head", "n"], *([t, str(-n)] for n, t in enumerate(texts))]
    assert project.run(text.replace("MORE", "escape_formulas: true")).exit_code == 0
    escaped = ["'" + t if t in FORMULAS else t for t in texts]
    assert by_csv(path, delimiter) == [["'=head", "n"], *([t, str(-n)] for n, t in enumerate(escaped))]


def test_the_escape_is_refused_where_nothing_computes(project: Project) -> None:
    project.rows("in.jsonl", [{"id": "a", "text": "b", "n": 1}])
    with pytest.raises(ConfigError, match="C207 'escape_formulas' has no effect on jsonl"):
        project.load(ESCAPED.replace("SUFFIX", "jsonl").replace("MORE", "escape_formulas: true"))


def test_a_column_has_a_name(project: Project) -> None:
    project.rows("in.jsonl", [{"id": "a", "text": "b", "n": 1}])
    with pytest.raises(ConfigError, match="C204 a column has an empty name"):
        project.load(ESCAPED.replace("SUFFIX", "csv").replace(", MORE", "").replace('"=head"', '""'))


# -- who may read them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o644), (0o002, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o644)]
)
def test_published_files_are_for_others_as_the_umask_says_and_runs_are_private(
    umask: int, mode: int, project: Project
) -> None:
    project.rows("in.jsonl", [{"id": "a", "text": "b", "n": 1}])
    text = ESCAPED.replace("SUFFIX", "csv").replace("output/x", "output/deep/er/x").replace(", MORE", "")
    before = os.umask(umask)
    try:
        report = project.run(text)
    finally:
        os.umask(before)
    output = project.root / "output"
    assert mode_of(output / "deep" / "er" / "x.csv") == mode
    assert {mode_of(f) for f in (output, output / "deep", output / "deep" / "er")} == {mode | (mode & 0o444) >> 2}
    assert {mode_of(f) for f in (output / "x", report.folder, output / ".cache")} <= {0o700}
    private = [mode_of(f) for f in report.folder.rglob("*") if f.is_file() and not f.is_symlink()]
    assert set(private) == {0o600}


def test_a_file_that_is_replaced_keeps_its_mode(project: Project) -> None:
    project.rows("in.jsonl", [{"id": "a", "text": "b", "n": 1}])
    text = ESCAPED.replace("SUFFIX", "csv").replace(", MORE", "")
    project.run(text)
    path = project.root / "output" / "x.csv"
    for mode in (0o600, 0o664):
        path.chmod(mode)
        number = path.stat().st_ino
        assert project.run(text).published == (path,)
        assert (mode_of(path), path.stat().st_ino != number) == (mode, True)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777
