"""The schema of a step: its mistakes at their places, in the pipeline file and in files of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmpipe.config.load import load_pipeline
from tests.config.project import place_of, problems, unmark, write_project

HEAD = "version: 1\nmodels: {m: {provider: echo}}\ndefaults: {model: m}\nsteps:\n  - id: a\n    prompt: x\n    schema: "


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{type: object, properties: {a: {type: string}}, «requierd»: [a]}", "did you mean 'required'?"),
        ("{type: object, properties: {a: {type: string, «nullable»: true}}}", '"null"'),
        ("{type: object, properties: {a: {type: integer, «minimum»: 5, maximum: 1}}}", "no value fits"),
        ("{type: object, properties: {a: {$ref: «'http://127.0.0.1:9/x.json'»}}}", "not fetched"),
        ("{type: object, properties: {a: {$ref: «'../../../x.json'»}}}", "outside the project"),
        ("{«type»: string}", "may mean JSON Schema or a field"),
        ("{a: «string /(/»}", "does not compile"),
        ("{a: «strnig»}", "did you mean 'string'?"),
        ('{a: {b: «"enum[x, x]"»}}', "twice"),
    ],
)
def test_a_mistake_is_told_at_its_place(schema: str, said: str, tmp_path: Path) -> None:
    text, places = unmark(HEAD + schema.replace("$ref: «", "«$ref»: ").replace("'»", "'") + "\n")
    (problem,) = problems(tmp_path, text)
    assert problem.code == "C227"
    assert said in f"{problem.message} {problem.hint}"
    assert place_of(problem) == places[0]


def test_what_decides_nothing_is_a_warning_at_its_place(tmp_path: Path) -> None:
    schema = "{type: object, properties: {a: {type: string, «wordcount»: 3}, b: {type: string, «format»: phone}}}\n"
    text, places = unmark(HEAD + schema)
    warnings = load_pipeline(write_project(tmp_path, text)).warnings
    assert [(w.code, w.severity, place_of(w)) for w in warnings] == [("C227", "warning", place) for place in places]
    assert "wordcount" in warnings[0].message
    assert "'phone' is not checked" in warnings[1].message


def test_a_warning_in_a_file_of_its_own_names_that_file(tmp_path: Path) -> None:
    path = write_project(tmp_path, HEAD + "x.schema.json\n")
    (path.parent / "x.schema.json").write_text('{"type": "object",\n "wordcount": 3}')
    (warning,) = load_pipeline(path).warnings
    assert warning.place.file.endswith("pipelines/x.schema.json")
    assert (warning.place.line, warning.place.column) == (2, 2)
