# ruff: noqa: E501 - a pipeline step reads best on one line
"""Numbers on their way through a run: equal values are one value, and no long decimal is rounded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from llmpipe.config.vars import parse_assignments
from llmpipe.errors import ConfigError
from tests.engine.answers import Answers
from tests.engine.conftest import Project

LONG = "0.1234567890123456789"
SPELLINGS = ["3", "3.0", "3e0", "30e-1", "0.3E1", "3.000"]


def head(server: Answers) -> str:
    return f"""\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{server.url}", model: demo}}
defaults: {{model: m}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
"""


def spelled(project: Project) -> None:
    project.write("d.jsonl", "".join(f'{{"id": "r{n}", "n": {text}}}\n' for n, text in enumerate(SPELLINGS)))


def test_one_number_is_one_group_one_prompt_and_one_answer(project: Project) -> None:
    spelled(project)
    with Answers(lambda prompt: prompt) as server:
        report = project.run(
            head(server)
            + """\
  - {id: say, foreach: datasets.d, prompt: "n is {{ item.n }}"}
  - {id: groups, foreach: {group: steps.say, by: item.n}, prompt: "{{ item.key }} has {{ item.rows | length }}"}
  - {id: halves, foreach: {group: steps.say, by: item.n / 1.5}, render: "{{ item.key }}"}
"""
        )
    assert report.exit_code == 0
    assert [a["output"] for a in project.results(report, "say")] == ["n is 3"] * 6
    assert project.results(report, "groups") == [{"key": "3", "output": "3 has 6"}]
    assert project.results(report, "halves") == [{"key": "2", "output": "2"}]
    assert Counter(server.prompts) == {"n is 3": 1, "3 has 6": 1}


def test_booleans_and_texts_are_values_of_their_own(project: Project) -> None:
    project.write(
        "d.jsonl",
        '{"id":"a","n":1.0}\n{"id":"b","n":true}\n{"id":"c","n":"1"}\n{"id":"d","n":1}\n{"id":"e","n":[1.0]}\n{"id":"f","n":[1]}\n',
    )
    report = project.run(
        """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: say, foreach: datasets.d, render: "{{ item.n }}"}
  - {id: groups, foreach: {group: steps.say, by: item.n}, render: "{{ item.rows | map(attribute='key') | join }}"}
"""
    )
    assert [r["output"] for r in project.results(report, "groups")] == ["ad", "b", "c", "ef"]


def test_an_answer_of_3_0_is_the_integer_3_wherever_it_goes(project: Project) -> None:
    spelled(project)
    with Answers(lambda prompt: f'{{"n": {SPELLINGS[int(prompt[1:])]}, "xs": [3.0, 2.50]}}') as server:
        report = project.run(
            head(server)
            + """\
  - id: read
    foreach: datasets.d
    prompt: "{{ item.id }}"
    schema: {n: integer, xs: "list[number]"}
    check: output.n == 3 and output.xs[0] == 3
  - {id: each, foreach: steps.read.xs, render: "{{ item }} {{ steps.read.n }}"}
  - {id: groups, foreach: {group: steps.read, by: output.n}, render: "{{ item.rows | length }}"}
outputs:
  - {from: steps.read, path: output/n.csv, columns: {id: item.id, n: output.n, half: output.n / 2, whole: output.n / 3}}
  - {from: steps.read, path: output/n.jsonl}
"""
        )
    assert report.exit_code == 0
    assert [r["output"] for r in project.results(report, "each")][:2] == ["3 3", "2.5 3"]
    assert project.results(report, "groups") == [{"key": "3", "output": "6"}]
    lines = (project.root / "output/n.csv").read_text().splitlines()
    assert lines == ["id,n,half,whole", *(f"r{n},3,1.5,1" for n in range(6))]
    assert set((project.root / "output/n.jsonl").read_text().splitlines()) == {
        f'{{"key": "r{n}", "output": {{"n": 3, "xs": [3, 2.5]}}}}' for n in range(6)
    }


def test_a_row_that_is_only_spelled_differently_is_not_asked_again(project: Project) -> None:
    with Answers(lambda prompt: prompt) as server:
        text = head(server) + '  - {id: say, foreach: datasets.d, prompt: "{{ item | tojson }}"}\n'
        project.write("d.jsonl", '{"id":1,"n":3,"m":{"a":[100,0]}}\n{"id":2,"n":1.5,"m":0}\n')
        first = project.run(text)
        project.write("d.jsonl", '{"id":1.0,"n":3.0,"m":{"a":[1E2,-0.0]}}\n{"id":2,"n":1.50,"m":0}\n')
        again = project.run(text, resume="auto", cache="off")
    assert first.exit_code == again.exit_code == 0
    assert len(server.prompts) == 2
    assert project.results(again, "say") == project.results(first, "say")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("d.jsonl", f'{{"id": "a", "rate": 1}}\n{{"id": "b", "rate": {{"x": [{LONG}]}}}}\n'),
        ("d.json", f'[{{"id": "a", "rate": 1}},\n{{"id": "b", "rate": {LONG}}}]'),
        ("d.yaml", f"- {{id: a, rate: 1}}\n- {{id: b, rate: {LONG}}}\n"),
        ("d.jsonl", '{"id": "a", "rate": 1}\n{"id": "b", "rate": 12345678901234567.89}\n'),
        ("d.jsonl", '{"id": "a", "rate": 1}\n{"id": "b", "rate": 1e400}\n'),
    ],
)
def test_a_row_with_a_longer_number_is_refused_before_anything_is_sent(project: Project, file: str, text: str) -> None:
    project.write(file, text)
    with Answers() as server:
        body = head(server).replace("d.jsonl", file)
        report = project.run(body + '  - {id: say, foreach: datasets.d, prompt: "{{ item.rate }}"}\n')
    assert report.exit_code == 2
    assert server.prompts == []
    assert report.problem is not None
    assert report.problem.place.line == 2
    assert "the number" in report.problem.message
    if file != "d.yaml":
        assert "column 'rate'" in report.problem.message


def test_a_table_keeps_every_digit_of_its_texts(project: Project) -> None:
    project.write("d.csv", f"id,rate\na,{LONG}\nb,0.10\n")
    report = project.run(
        """\
version: 1
datasets: {d: {path: d.csv, key: id}}
steps:
  - {id: say, foreach: datasets.d, render: "{{ item.rate }}"}
outputs: [{from: steps.say, path: output/r.csv, columns: {rate: item.rate}}]
"""
    )
    assert project.outputs(report, "say") == [LONG, "0.10"]
    assert (project.root / "output/r.csv").read_text() == f"rate\n{LONG}\n0.10\n"


def test_an_answer_with_a_longer_number_is_asked_for_again_with_the_reason(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}])
    replies = iter([f'{{"x": {LONG}}}', '{"x": 0.12}'])
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return next(replies)

    with Answers(reply) as server:
        report = project.run(head(server) + '  - {id: say, foreach: datasets.d, prompt: "a", schema: {x: number}}\n')
    assert report.exit_code == 0
    assert project.outputs(report, "say") == [{"x": 0.12}]
    assert f"the number {LONG} has more digits" in asked[-1]
    assert "a number may have 15 digits" in asked[-1]
    assert "in quotes" not in asked[-1]


def test_vars_keep_their_digits_or_are_refused(project: Project, tmp_path: Path) -> None:
    text = """\
version: 1
vars: {price: 1.5, n: {type: integer, default: 2.0}, many: [3.0, 1E2]}
steps: [{id: say, render: "{{ vars.price }} {{ vars.n }} {{ vars.many }}"}]
"""
    project.write("x.yaml", text)
    assert project.load().vars == {"price": 1.5, "n": 2, "many": [3, 100]}
    file = tmp_path / "v.yaml"
    file.write_text("n: 30e-1\nprice: 3.0\n")
    given = parse_assignments(["many=[-0.0, 0.5]"], [file])
    assert repr(dict(project.load(vars=given).vars)) == "{'price': 3, 'n': 3, 'many': [0, 0.5]}"
    for assignments in ([f"price={LONG}"], [f"many=[{LONG}]"]):
        with pytest.raises(ConfigError) as caught:
            project.load(vars=parse_assignments(assignments))
        assert f"the number {LONG} has more digits" in caught.value.problems[0].hint
    project.write("x.yaml", text.replace("price: 1.5", f"price: {LONG}"))
    with pytest.raises(ConfigError) as caught:
        project.load()
    assert "more digits than a number keeps" in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [f"{{x: number ..{LONG}}}", f"{{type: object, properties: {{x: {{maximum: {LONG}}}}}}}", "s.json", "r.json"],
)
def test_the_bounds_of_a_schema_are_not_rounded(project: Project, schema: str) -> None:
    project.write("s.json", f'{{"type": "number", "maximum": {LONG}}}')
    project.write("r.json", '{"$ref": "s.json"}')
    with pytest.raises(ConfigError) as caught:
        project.load(
            f'version: 1\nmodels: {{m: {{provider: echo}}}}\nsteps: [{{id: say, prompt: a, schema: "{schema}"}}]'.replace(
                '"{', "{"
            ).replace('}"', "}")
        )
    assert any("more digits than a number keeps" in problem.message for problem in caught.value.problems)


def test_python_code_gives_and_gets_the_same_numbers(project: Project) -> None:
    project.write("d.jsonl", '{"id": "a", "n": 3.0, "big": 123456789012345678901}\n')
    project.write(
        "plain_numbers.py",
        "def f(item):\n    return [item['n'], type(item['n']).__name__, item['big'] + 1, 6 / 2, 0.1 + 0.2]\n",
    )
    report = project.run(
        """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps: [{id: say, foreach: datasets.d, python: "plain_numbers:f"}]
""",
        allow_python=True,
    )
    assert project.outputs(report, "say") == [[3, "int", 123456789012345678902, 3, 0.30000000000000004]]
    assert "3.0" not in (report.folder / "steps" / "say.jsonl").read_text()


TABLE = """\
version: 1
datasets: {d: {path: d.csv, key: id%s}}
steps:
  - {id: adult, foreach: datasets.d, if: %s, render: "{{ item.age }}"}
outputs: [{from: steps.adult, path: output/a.jsonl, columns: {id: item.id, age: item.age}}]
"""


def test_a_comparison_of_text_with_a_number_never_skips_a_row(project: Project) -> None:
    """It is seen while it is made, where no look at the file can see it."""
    project.write("d.csv", "id,age\n1,18\n2,\n3,40\n")
    for condition in ('[item] | selectattr("age", "eq", 18) | list | length == 1', "18 in item.values() | list"):
        report = project.run(TABLE % ("", f"'{condition}'"))
        (step,) = report.steps
        assert (report.exit_code, step.failed, step.skipped) == (1, 3, 0)
        errors = [json.loads(p.read_text())["error"] for p in (report.folder / "failures/adult").iterdir()]
        assert [e[:8] for e in errors] == ["column '"] * 3
        assert all("| int` (or float), or `types: {" in error for error in errors)


def test_columns_with_types_are_numbers_from_the_row_to_the_published_file(project: Project) -> None:
    project.write("d.csv", "id,age\n1,18\n2,\n3,40.0\n4,7\n")
    condition = "item.age is not none and item.age >= 18"
    report = project.run(TABLE % (", types: {age: integer}", condition))
    assert report.exit_code == 0
    assert project.results(report, "adult") == [{"key": "1", "output": "18"}, {"key": "3", "output": "40"}]
    assert (project.root / "output/a.jsonl").read_text() == '{"id": "1", "age": 18}\n{"id": "3", "age": 40}\n'


def test_a_cell_that_is_not_of_its_type_sends_nothing_and_names_its_row(project: Project) -> None:
    project.write("d.csv", "id,age\n1,18\n2,20\n3,forty\n")
    with Answers() as server:
        text = head(server).replace("d.jsonl, key: id", "d.csv, key: id, types: {age: integer}")
        report = project.run(text + '  - {id: say, foreach: datasets.d, prompt: "{{ item.age }}"}\n')
    assert report.exit_code == 2
    assert server.total == 0
    assert report.problem is not None
    assert (report.problem.code, report.problem.place.line) == ("D316", 4)
    assert report.problem.message == "column 'age': expected a whole number, found 'forty'"


def test_a_changed_type_changes_the_rows_that_it_changes(project: Project) -> None:
    project.write("d.csv", "id,age,name\n1,18.0,a\n2,20,b\n")
    with Answers(lambda prompt: prompt) as server:
        text = head(server).replace("d.jsonl, key: id", "d.csv, key: id%s") + (
            '  - {id: say, foreach: datasets.d, prompt: "{{ item.age }}"}\n'
            '  - {id: name, foreach: datasets.d, prompt: "{{ item.name }}"}\n'
        )
        first = project.run(text % "")
        typed = project.run(text % ", types: {age: number}", resume="auto", cache="off")
        again = project.run(text % ", types: {age: number}", resume="auto", cache="off")
    assert [first.exit_code, typed.exit_code, again.exit_code] == [0, 0, 0]
    assert project.outputs(first, "say") == ["18.0", "20"]
    assert project.outputs(typed, "say") == project.outputs(again, "say") == ["18", "20"]
    assert Counter(server.prompts) == {"18.0": 1, "20": 2, "18": 1, "a": 1, "b": 1}


def test_rows_below_an_item_are_still_text_of_their_table(project: Project) -> None:
    project.write("d.csv", "id,age\n1,18\n")
    report = project.run(
        """\
version: 1
models: {m: {provider: echo}}
datasets: {d: {path: d.csv, key: id}}
steps:
  - {id: some, foreach: datasets.d, samples: 2, prompt: "{{ item.id }}"}
  - {id: all, foreach: datasets.d, render: "{% for r in steps.some %}{{ r.item.age == 18 }}{% endfor %}"}
  - {id: groups, foreach: {group: steps.some}, render: "{{ item.rows | selectattr('item.age', 'eq', 18) | list | length }}"}
  - {id: once, render: "{{ steps.some | map(attribute='item.age') | sum }}", on_error: continue}
"""
    )
    assert {step.id: (step.succeeded, step.failed) for step in report.steps if step.id != "some"} == dict.fromkeys(
        ("all", "groups", "once"), (0, 1)
    )


def test_texts_of_other_files_are_unequal_to_numbers_as_json_has_it(project: Project) -> None:
    project.write(
        "d.jsonl", '{"id":1,"v":1}\n{"id":2,"v":true}\n{"id":3,"v":1.0}\n{"id":4,"v":"1"}\n{"id":5,"v":[1.0]}\n'
    )
    report = project.run(
        """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps: [{id: one, foreach: datasets.d, if: "item.v == 1 or item.v == [1]", render: "{{ item.v }}"}]
"""
    )
    assert report.exit_code == 0
    assert [r["key"] for r in project.results(report, "one")] == ["1", "3", "5"]
