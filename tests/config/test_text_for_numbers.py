"""Cells of a table that are used as numbers: told at load where it can be seen, at the item where it cannot."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config.load import load_pipeline
from llmpipe.config.templates import compile_expression, compile_template
from llmpipe.config.text_cells import TextCell, TextRow
from llmpipe.errors import ConfigError, ItemError, Place, Problem
from tests.config.project import write_project

ROWS = "id,age,ok,unit price\n1,18,true,1.50\n2,,false,\n"
HEAD = """\
version: 1
vars: {limit: 18, on: true, sep: "-", many: [1, 2]}
datasets: {d: {path: a.csv, key: id%s}}
models: {m: {provider: echo}}
steps:
  - {id: first, foreach: datasets.d, prompt: "{{ key }}", schema: {n: integer, s: string, b: boolean}}
  - {id: text, foreach: datasets.d, prompt: "{{ key }}"}
"""
PLACE = Place("p.yaml", 1, 1)


def found(folder: Path, step: str, types: str = "", rows: str = ROWS, file: str = "a.csv") -> tuple[Problem, ...]:
    text = (HEAD % types).replace("a.csv", file) + step
    try:
        return load_pipeline(write_project(folder, text, {file: rows})).warnings
    except ConfigError as error:
        return error.problems


def quoted(expression: str) -> str:
    return "'" + expression.replace("'", "''") + "'"


COMPARED = [
    "item.age == 18",
    "18 == item.age",
    "item.age != 18.0",
    "item.age > 18",
    "-1 <= item.age",
    "item['age'] in [17, 18]",
    "item.age not in (17, 18)",
    "item.age is eq 18",
    "item.age is gt(18)",
    "item.age is sameas 18",
    "item.age is in [18]",
    "item.age is divisibleby 2",
    "item.age is odd",
    "item.age | trim == 18",
    "item.age.strip() == 18",
    "(item.age or 0) > 18",
    "item.age | default(0) > 18",
    "item.age == vars.limit",
    "item.age > (steps.first.n)",
    "item.age == (item.id | int)",
    "item.age == item.id | length",
    "item.age + 1 == 19",
    "item.age * 2 == 36",
    "item.age % 2 == 0",
    "-item.age < 0",
    "item.age | abs == 18",
    "not (item.age == 18) and true",
    "item.ok == true",
    "item.ok == vars.on",
    "item.ok != steps.first.b",
    "item['unit price'] < 2",
]


@pytest.mark.parametrize("expression", COMPARED)
def test_a_cell_that_is_used_as_a_number_is_an_error_with_the_conversion(tmp_path: Path, expression: str) -> None:
    (problem,) = found(tmp_path, f"  - {{id: x, foreach: datasets.d, if: {quoted(expression)}, render: a}}\n")
    assert (problem.code, problem.severity) == ("C231", "error")
    assert "is text, and is used with a" in problem.message
    assert "`if` of step 'x'" in problem.message
    column = next(name for name in ("age", "ok", "unit price") if name in expression)
    assert f"types: {{{column}: " in problem.hint
    assert ("| int`" in problem.hint) == ("ok" not in expression)


@pytest.mark.parametrize(
    "step",
    [
        "  - {id: x, foreach: steps.text, prompt: '{% if item.age > 18 %}a{% endif %}'}\n",
        "  - {id: x, foreach: datasets.d, samples: 2, prompt: a, if: item.age > 18}\n",
        "  - {id: x, foreach: datasets.d, samples: 2, prompt: a, if: parent.age > 18}\n",
        "  - {id: x, foreach: datasets.d, prompt: a, check: output | length > 0 and item.age == 18}\n",
        "  - {id: x, foreach: datasets.d, prompt: '{{ key }}', schema: {n: number}, check: output.n == item.age}\n",
        "  - {id: x, foreach: {group: steps.first, by: item.age > 18}, prompt: a}\n",
        "  - {id: x, foreach: {group: steps.first, by: item.age}, if: item.key > 18, prompt: a}\n",
        "  - {id: x, foreach: {split: datasets.d, text: item.ok, size: 9}, if: parent.age == 1, prompt: a}\n",
        "outputs: [{from: steps.first, path: output/x.csv, columns: {a: item.age * 2}}]\n",
    ],
)
def test_wherever_the_row_can_be_named(tmp_path: Path, step: str) -> None:
    assert [p.code for p in found(tmp_path, step) if p.severity == "error"] == ["C231"]


@pytest.mark.parametrize(
    "expression",
    [
        "item.age == '18'",
        "item.age | int(0) > 18",
        "item.age | int(0) in [1, 2]",
        "item.age in ['18']",
        "item.age | length > 1",
        "item.age > '3'",
        "item.age ~ 3 == '183'",
        "item.age == item.id",
        "steps.first.n == 3",
        "vars.limit > 3",
        "vars.sep * 3 == '---'",
        "item.ok == 'true'",
        "item.age is defined",
    ],
)
def test_texts_may_be_used_as_texts(tmp_path: Path, expression: str) -> None:
    assert found(tmp_path, f"  - {{id: x, foreach: datasets.d, if: {quoted(expression)}, render: a}}\n") == ()


@pytest.mark.parametrize("expression", ["item.age is number", "steps.text == 3", "steps.first.s != 1", "key == 1"])
def test_what_may_be_meant_is_a_warning(tmp_path: Path, expression: str) -> None:
    (problem,) = found(tmp_path, f"  - {{id: x, foreach: datasets.d, if: {quoted(expression)}, render: a}}\n")
    assert (problem.code, problem.severity) == ("C231", "warning")


@pytest.mark.parametrize("expression", [e for e in COMPARED if "ok" not in e and "unit" not in e and ".strip" not in e])
def test_a_column_with_a_type_is_no_text(tmp_path: Path, expression: str) -> None:
    step = f"  - {{id: x, foreach: datasets.d, if: {quoted(expression)}, render: a}}\n"
    assert found(tmp_path, step, ", types: {age: integer}") == ()
    assert len(found(tmp_path, step, ", types: {age: string}")) == 1


def test_rows_of_other_formats_have_values_of_their_own(tmp_path: Path) -> None:
    step = "  - {id: x, foreach: datasets.d, if: item.age == 18, render: a}\n"
    assert found(tmp_path, step, rows='{"id": 1, "age": "18", "ok": 1}\n', file="a.jsonl") == ()
    assert len(found(tmp_path, step, rows="id\tage\n1\t18\n", file="a.tsv")) == 1


@pytest.mark.parametrize("expression", ["item.number > 1", "item.number in [1, 2]", "item.number == vars.limit"])
def test_the_number_of_a_line_is_a_number_and_its_text_is_not(tmp_path: Path, expression: str) -> None:
    def codes(expression: str) -> list[str]:
        step = f"  - {{id: x, foreach: datasets.d, if: {quoted(expression)}, render: a}}\n"
        return [p.code for p in found(tmp_path, step, ", format: lines", "1\n2\n", "a.txt")]

    assert codes(expression) == []
    assert codes(expression.replace("number", "text")) == ["C231"]


ROW = {"item": TextRow({"id": "3", "age": "18", "price": "1.5", "note": "18-20", "n": 7})}
NAMES = ROW | {"rows": [ROW, {"item": {"age": 5}}]}


@pytest.mark.parametrize(
    "expression",
    [
        "[item] | selectattr('age', 'eq', 18) | list",
        "[item] | rejectattr('age', 'gt', 18) | list",
        "[item] | selectattr('age', 'in', [18]) | list",
        "rows | map(attribute='item.age') | sum",
        "rows | map(attribute='item.age') | max",
        "rows | sort(attribute='item.age')",
        "rows | groupby('item.age')",
        "[1, item.age] | min",
        "item.values() | select('eq', 3) | list",
        "item.get('age') == 18",
        "(item.note | replace('-20', '')) == 18",
        "item.note.split('-')[0] == 18",
        "item.note[:2] == 18",
        "item.age | upper < 3",
        "18 in [item.age]",
        "item.age in [1, 2]",
        "item.age % 2",
        "2 * item.age",
        "item.age // 2",
        "2 ** item.age",
        "-item.age",
        "item.price | round",
        "item.price | abs",
        "item.age == true",
        "item.age is divisibleby 3",
    ],
)
def test_what_only_the_rendering_knows_fails_with_the_column_and_the_conversion(expression: str) -> None:
    with pytest.raises(ItemError) as caught:
        compile_expression(expression, place=PLACE).evaluate(NAMES)
    message = str(caught.value)
    assert message.startswith("column '")
    assert "is text ('" in message
    assert "types: {" in message
    assert message.endswith("(p.yaml:1:1)") or "(p.yaml:1:" in message


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("item.age == '18' and '18' == item.age and item.age != 'x'", True),
        ("item.age in ['17', '18'] and item.age not in ['x']", True),
        ("item.age | int + 1", 19),
        ("item.price | float * 2", 3.0),
        ("item.age + '1' + item.age", "18118"),
        ("item.age ~ 1", "181"),
        ("item.n + 1", 8),
        ("item | length", 5),
        ("item.age > '1' and item.age >= item.age", True),
        ("{'18': 'x'}[item.age]", "x"),
        ("item.age == none", False),
        ("[item.age, '2'] | sort", ["18", "2"]),
        ("'%s and %5s' | format(item.age, item.price)", "18 and   1.5"),
        ("item.age is string", True),
    ],
)
def test_a_cell_is_a_text_in_every_other_respect(expression: str, value: Any) -> None:
    assert compile_expression(expression, place=PLACE).evaluate(NAMES) == value


def test_a_row_is_written_as_it_is() -> None:
    text = "{{ item | tojson }} {{ item }} {{ item.age }} {% for n, v in item.items() %}{{ n }}={{ v }} {% endfor %}"
    row = '{"id": "3", "age": "18", "price": "1.5", "note": "18-20", "n": 7}'
    assert compile_template(text, place=PLACE).render(NAMES) == (
        f"{row} {row} 18 id=3 age=18 price=1.5 note=18-20 n=7 "
    )
    plain = compile_template("{{ item.age }}", place=PLACE).render(NAMES)
    assert (plain, type(plain)) == ("18", str)


@pytest.mark.parametrize(
    "expression", ["item.age", "item['age']", "item.age | trim", "item.note[:2]", "item.age.strip()"]
)
def test_what_an_expression_gives_is_a_plain_text(expression: str) -> None:
    assert type(compile_expression(expression, place=PLACE).evaluate(NAMES)) is str


def test_what_an_expression_gives_can_be_copied() -> None:
    found = compile_expression("{'row': item, 'cells': [item.age, item.note]}", place=PLACE).evaluate(NAMES)
    for copied in (
        copy.copy(found["cells"][0]),
        *copy.deepcopy(found)["cells"],
        *pickle.loads(pickle.dumps(found["cells"])),
    ):
        assert type(copied) is str
    assert copy.deepcopy(found) == found == pickle.loads(pickle.dumps(found))


def test_the_hash_of_a_cell_is_that_of_its_text() -> None:
    assert {TextCell("a", "x"): 1}["a"] == 1
    assert {"a", TextCell("a", "x")} == {"a"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("v.one == 1.0 and v.one == 1", True),
        ("v.true == 1", False),
        ("v.true == true", True),
        ("1 != v.true", True),
        ("v.true in [1, 2]", False),
        ("v.true not in [1, 2]", True),
        ("v.zero == false", False),
        ("[v.true] == [1]", False),
        ("{'a': v.true} == {'a': 1.0}", False),
        ("{'a': [v.one]} == {'a': [1.0]}", True),
        ("[1, v.true, 0] | select('eq', 1) | list", [1]),
        ("[1, v.true, 0] | reject('in', [1]) | list", [True, 0]),
        ("v.text == 1", False),
        ("v.big == 1e23", True),
        ("3.0", 3),
        ("1 in v.range", True),
    ],
)
def test_values_are_equal_as_json_has_it(expression: str, value: Any) -> None:
    names = {"v": {"one": 1, "true": True, "zero": 0, "text": "1", "big": 10**23, "range": range(3)}}
    found = compile_expression(expression, place=PLACE).evaluate(names)
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 6 / 2 }} {{ 1.5 * 2 }} {{ 5 / 2 }}", "3 3 2.5"),
        ("{{ '3' | float }} {{ (6 / 2) | tojson }} {{ 6 / 2 ~ 'x' }}", "3 3 3x"),
        ("{{ '%.1f' | format(3) }} {{ '{:.2f}'.format(3) }}", "3.0 3.00"),
    ],
)
def test_a_computed_number_is_written_as_one_of_a_row(template: str, text: str) -> None:
    assert compile_template(template, place=PLACE).render({}) == text
