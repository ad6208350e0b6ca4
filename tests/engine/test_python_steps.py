"""Steps of the user's own code: what they are given, what they may do with it, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.results import RunReport
from llmpipe.errors import ConfigError
from tests.engine.conftest import Project

HEAD = "version: 1\ndatasets: {d: {path: d.jsonl, key: id}}\nsteps:\n"
ROWS: list[dict[str, Any]] = [{"id": "a", "n": 1, "tags": ["x"]}, {"id": "b", "n": 2, "tags": []}]


@pytest.fixture
def code(project: Project, request: pytest.FixtureRequest) -> Any:
    """Runs steps with functions written into a module of its own: modules stay imported for the whole process."""
    module = "own_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    project.rows("d.jsonl", ROWS)

    def run(functions: str, steps: str) -> RunReport:
        project.write(f"{module}.py", functions)
        return project.run(HEAD + steps.replace("own:", f"{module}:"), allow_python=True)

    return run


def failure(report: RunReport, step: str) -> dict[str, Any]:
    path = min(Path(report.folder / "failures" / step).iterdir())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_function_in_a_thread_walks_whole_lists_of_results(project: Project, code: Any) -> None:
    report = code(
        "def walk(steps):\n"
        "    rows = steps['one']\n"
        "    rest = [row['item']['n'] for row in rows[1:]]\n"
        "    return [[row['output'] for row in rows], len(rows), rows[0]['key'], rows.failed, rest]\n",
        '  - {id: one, foreach: datasets.d, render: "{{ item.id }}1"}\n'
        '  - {id: two, needs: one, python: "own:walk"}\n'
        '  - {id: three, foreach: datasets.d, needs: two, render: "{{ steps.one }}"}\n',
    )
    assert report.exit_code == 0, report.reason
    assert project.outputs(report, "two") == [[["a1", "b1"], 2, "a", 0, [2]]]


SPOIL = """\
def first(item):
    return {"x": 1}


def spoil(item, steps, vars):
    item["n"] = 99
    item["tags"].append("new")
    steps["one"]["x"] = 5
    vars["more"] = 1
    for below in steps["piece"]:
        below["output"] = below["item"]["text"] = "gone"
    return item
"""


def test_what_a_function_changes_nobody_else_sees(project: Project, code: Any) -> None:
    report = code(
        SPOIL,
        """\
  - {id: one, foreach: datasets.d, python: "own:first"}
  - {id: piece, foreach: {split: datasets.d, text: item.id, size: 5}, render: "{{ item.text }}"}
  - {id: two, foreach: datasets.d, needs: [one, piece], python: "own:spoil"}
  - id: three
    foreach: datasets.d
    needs: two
    render: "{{ item.n }} {{ item.tags }} {{ steps.one }} {% for p in steps.piece %}{{ p.output }}{% endfor %}"
""",
    )
    assert report.exit_code == 0, report.reason
    assert project.outputs(report, "two")[0] == {"id": "a", "n": 99, "tags": ["x", "new"]}
    assert project.outputs(report, "three") == ['1 ["x"] {"x": 1} a', '2 [] {"x": 1} b']


@pytest.mark.parametrize(
    ("body", "code_of", "said"),
    [
        ("raise ValueError('no é')", "D330", "raised ValueError: no é"),
        ("raise SystemExit(3)", "D330", "raised SystemExit(3)"),
        ("next(iter(()))", "D330", "raised StopIteration()"),
        ("return {1, 2}", "D331", "returned what JSON cannot hold"),
        ("return float('nan')", "D331", "returned what JSON cannot hold"),
        ("return {1: 2, '1': 3}", "D331", "two of its keys are the same name"),
    ],
)
def test_what_goes_wrong_in_a_function_is_a_failure_of_its_item(code: Any, body: str, code_of: str, said: str) -> None:
    steps = '  - {id: one, foreach: datasets.d, python: "own:f"}\n'
    report = code(f"def f(item):\n    {body}\n", steps)
    counts = report.steps[0]
    assert (report.exit_code, counts.failed, counts.succeeded) == (1, 2, 0)
    found = failure(report, "one")
    assert said in found["error"]
    assert report.causes[0].code == code_of


def test_a_function_that_takes_too_long_is_a_failure_of_its_item(code: Any) -> None:
    steps = '  - {id: one, foreach: datasets.d, python: "own:f", timeout: {total: 200ms}}\n'
    report = code("def f(item):\n    import time; time.sleep(30)\n", steps)
    assert (report.exit_code, report.steps[0].failed) == (1, 2)
    assert "took longer than 0.2 s" in failure(report, "one")["error"]
    assert report.causes[0].code == "D332"


def test_the_shorter_clock_counts(code: Any) -> None:
    steps = '  - {id: one, foreach: datasets.d, python: "own:f", timeout: {attempt: 100ms, total: 30s}}\n'
    report = code("async def f(item):\n    import asyncio\n    await asyncio.sleep(30)\n", steps)
    assert "took longer than 0.1 s" in failure(report, "one")["error"]


@pytest.mark.parametrize("clock", ["connect", "first_token", "idle"])
def test_a_clock_of_connections_has_no_effect_on_code(code: Any, clock: str) -> None:
    with pytest.raises(ConfigError, match=f"'{clock}' of 'timeout' has no effect"):
        code("def f(item):\n    return 1\n", f'  - {{id: one, python: "own:f", timeout: {{{clock}: 1s}}}}\n')


RAISED = [
    *("asyncio.CancelledError()", "concurrent.futures.CancelledError()", "SystemExit(0)", "StopIteration()"),
    *("StopAsyncIteration()", "GeneratorExit()", "BaseException('x')", "BaseExceptionGroup('x', [BaseException()])"),
    *("MemoryError()", "RecursionError()", "asyncio.TimeoutError()"),
]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_whatever_code_raises_is_a_failure_of_its_item_and_ends_nothing_else(
    kind: str, project: Project, code: Any
) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}", "n": n} for n in range(len(RAISED) + 1)])
    report = code(
        f"import asyncio, concurrent.futures\n{kind} fail(item):\n    if item['n']:\n"
        f"        raise ({', '.join(RAISED)})[item['n'] - 1]\n    return 'good'\n",
        '  - {id: one, foreach: datasets.d, min_success: 1, python: "own:fail"}\n',
    )
    (step,) = report.steps
    assert (report.exit_code, step.succeeded, step.failed, step.unsent) == (0, 1, len(RAISED), 0)


@pytest.mark.parametrize("value", ["'a\\ud83d'", "{'\\udc00': 1}", "[['\\udcff']]"])
def test_half_a_character_is_no_output(value: str, project: Project, code: Any) -> None:
    report = code(f"def half():\n    return {value}\n", '  - {id: one, foreach: datasets.d, python: "own:half"}\n')
    assert (report.exit_code, report.causes[0].code, report.causes[0].count) == (1, "D331", 2)
    assert "half of a surrogate pair" in report.causes[0].example_error
