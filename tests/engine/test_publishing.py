"""Outputs are published all or none, and never over what the pipeline reads."""

from __future__ import annotations

import json

import pytest

from llmpipe.errors import ConfigError
from tests.engine.conftest import Project

RENDER = """\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: one, foreach: datasets.d, render: "{word} {{{{ item.id }}}}"}}
outputs:
  - {{from: steps.one, path: output/first.jsonl}}
  - {{from: steps.one, path: {path}, columns: {{x: {column}}}}}
"""


def test_an_output_that_cannot_be_made_keeps_the_others_as_they_were(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "n": 1}, {"id": "b"}])
    first = project.run(RENDER.format(word="old", path="output/second.csv", column="item.id"))
    assert len(first.published) == 2
    second = project.run(RENDER.format(word="new", path="output/second.csv", column="item.n"))
    assert (second.exit_code, second.published) == (1, ())
    assert "old a" in (project.root / "output" / "first.jsonl").read_text()
    assert (project.root / "output" / "second.csv").read_text() == "x\na\nb\n"
    assert [p.name for p in (project.root / "output").glob("*.part")] == []


def test_an_output_does_not_take_the_place_of_the_rows_it_was_made_of(project: Project) -> None:
    path = project.rows("d.jsonl", [{"id": "a"}])
    with pytest.raises(ConfigError, match="O523"):
        project.run(RENDER.format(word="x", path="pipelines/d.jsonl", column="item.id"))
    assert path.read_text() == '{"id": "a"}\n'


def test_a_result_is_one_line_to_whoever_splits_lines_as_unicode_does(project: Project) -> None:
    word = "a\x85b\u2028c\u2029d \u00e9"
    project.rows("d.jsonl", [{"id": word}, {"id": "q\x1c\x0b"}])
    report = project.run(RENDER.format(word="x", path="output/second.json", column="item.id"))
    for path in (report.folder / "steps" / "one.jsonl", project.root / "output" / "first.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["key"] for line in lines] == [word, "q\x1c\x0b"]
        assert "\u00e9" in lines[0]
