"""What a plan says is what the run then does: cold, warm, after changes, going on, with every flag that matters."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from llmpipe.engine.choose import Changed
from llmpipe.engine.runs import NoSuchRun, list_runs
from llmpipe.errors import ConfigError
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.engine.foreseen import foresee, foresee_and_run
from tests.engine.speaking import Speaking
from tests.engine.test_output import GOOD, KEYS
from tests.engine.test_output import pipeline as labelling

HEAD = """\
version: 1
models: {m: {provider: echo, model: demo}, n: {provider: echo, model: other}}
defaults: {model: m}
datasets: {d: {path: d.jsonl, key: id}}
vars: {places: [north, south]}
steps:
"""
SHAPES = {
    "once": "  - {id: a, prompt: hello}\n  - {id: b, prompt: 'and {{ steps.a }}'}\n",
    "chain": """\
  - {id: a, foreach: datasets.d, prompt: "a {{ item.text }}"}
  - {id: b, foreach: datasets.d, prompt: "b {{ steps.a }}"}
  - {id: c, foreach: datasets.d, render: "{{ steps.b }}!"}
  - {id: d, prompt: "{% for e in steps.c %}{{ e.output }}{% endfor %}"}
""",
    "side by side": """\
  - {id: a, foreach: datasets.d, prompt: "a {{ item.text }}"}
  - {id: b, foreach: datasets.d, prompt: "b {{ item.text }}", if: item.n % 2 == 0}
  - {id: c, foreach: datasets.d, prompt: "{{ steps.a }}", if: item.n > 2}
""",
    "lists": """\
  - {id: a, foreach: datasets.d, prompt: "a {{ item.text }}", schema: {parts: "list[string]"}}
  - {id: b, foreach: steps.a.parts, prompt: "b {{ item }} of {{ parent.text }}"}
  - {id: c, foreach: datasets.d, prompt: "{% for e in steps.b %}{{ e.output }}{% endfor %} {{ item.id }}"}
""",
    "groups": """\
  - {id: a, foreach: datasets.d, prompt: "a {{ item.text }}", schema: {kind: "enum[x, y, z]"}}
  - {id: b, foreach: {group: steps.a, by: output.kind, size: 3}, prompt: "{{ item.key }} {{ item.rows | length }}"}
  - {id: c, render: "{{ steps.b | length }} of {{ steps.a | length }}"}
""",
    "variants": """\
  - {id: a, foreach: datasets.d, samples: 3, prompt: "a {{ item.text }}"}
  - {id: b, foreach: datasets.d, model: [m, n], prompt: "b {{ item.text }}"}
  - {id: c, foreach: vars.places, prompt: "c {{ item }}"}
  - {id: e, foreach: {split: datasets.d, text: item.text, by: characters, size: 4}, prompt: "{{ item.text }}"}
""",
    "a list of one": """\
  - {id: a, prompt: "names", schema: {names: "list[string]"}}
  - {id: b, foreach: steps.a.names, prompt: "b {{ item }}"}
""",
}


def rows(count: int, text: str = "row") -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "n": n, "text": f"{text} {n}"} for n in range(count)]


def written(project: Project, shape: str, count: int = 9) -> str:
    project.rows("d.jsonl", rows(count))
    return HEAD + SHAPES[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_cold_and_warm(project: Project, shape: str) -> None:
    text = written(project, shape)
    cold, first = foresee_and_run(project, text)
    assert sum(step.calls.least for step in cold.report.steps) > 0
    warm, second = foresee_and_run(project, text)
    for step in warm.report.steps:
        assert step.items.is_exact, step
        assert step.calls.is_nothing, step
    assert sum(s.calls for s in first.steps) > 0
    assert sum(s.calls for s in second.steps) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_more_rows_on_a_warm_cache(project: Project, shape: str) -> None:
    project.run(written(project, shape, 6))
    plan, _ = foresee_and_run(project, written(project, shape, 9))
    assert plan.report.exit_code == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {"limit": 4},
        {"key": "r3"},
        {"cache": "off"},
        {"cache": "refresh"},
        {"resume": "auto"},
        {"only": "b"},
        {"from_step": "b"},
        {"offline": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_with_a_flag(project: Project, shape: str, options: dict[str, Any]) -> None:
    text = written(project, shape)
    project.run(text)
    rows_now = rows(9)
    rows_now[3]["text"] = "another text"
    project.rows("d.jsonl", [*rows_now, *rows(11)[9:]])
    if options == {"key": "r3"} and "datasets.d" not in text:
        with pytest.raises(NoSuchRun):
            foresee(project, text, **options)
        return
    foresee_and_run(project, text, **options)


def test_changed_and_new_rows_are_told_when_a_run_is_built_on(project: Project) -> None:
    text = written(project, "chain")
    project.run(text)
    now = rows(9)
    now[3]["text"], now[4]["n"] = "another", 99  # what nobody reads may change
    project.rows("d.jsonl", [*now[:8], *rows(11)[9:]])
    plan, _ = foresee_and_run(project, text, resume="auto", cache="off")
    assert "carrying over from run" in plan.report.going_on
    assert plan.keys("a", "changed") == ["r3"]
    assert plan.keys("a", "new") == ["r9", "r10"]
    assert plan.step("a").carried == plan.step("b").carried == 7
    assert plan.step("a").items.value == plan.step("b").items.value == 10
    assert plan.step("b").open == 3
    assert plan.step("b").builds_on == ("a",)
    assert (plan.step("b").calls.value, plan.step("b").calls.sure) == (3, "about")


def test_a_changed_prompt_redoes_its_step_and_is_refused_unless_allowed(project: Project) -> None:
    with Answers(lambda prompt: (500, {}) if prompt.startswith("b") else prompt) as server:
        model = f"{{provider: openai_compatible, base_url: '{server.url}', model: demo}}"
        text = written(project, "chain").replace("{provider: echo, model: demo}", model)
        text = text.replace("defaults: {model: m}", "defaults: {model: m, retry: {max_retries: 0}, cache: off}")
        report = project.run(text)
        assert report.exit_code != 0
        again = text.replace('"a {{', '"A {{')
        with pytest.raises(Changed):
            foresee(project, again, resume="last")
        server.reply = lambda prompt: prompt
        plan = foresee(project, again, resume="last", accept_changes=True)
        assert plan.step("a").calls.value == 9
        assert set(plan.keys("a")) == set(plan.keys("a", "changed"))
        assert any("step 'a'" in line for line in plan.report.changed)
        report = project.run(again, resume="last", accept_changes=True)
        assert report.exit_code == 0
        assert sum(prompt.startswith("A") for prompt in server.prompts) == 9


def test_failures_are_asked_for_again_where_that_was_asked(project: Project) -> None:
    with Answers(lambda prompt: (400, {"error": {"message": "no"}}) if "3" in prompt else prompt) as server:
        model = f"{{provider: openai_compatible, base_url: '{server.url}', model: demo}}"
        text = written(project, "chain").replace("{provider: echo, model: demo}", model)
        project.run(text)
        server.reply = lambda prompt: prompt
        kept, _ = foresee_and_run(project, text, resume="auto")
        assert kept.step("a").calls.is_nothing
        plan, report = foresee_and_run(project, text, retry_failed="last")
        assert plan.keys("a", "failed") == ["r3"]
        assert "P410" in plan.asked["a"][0].why
        assert report.exit_code == 0


def test_what_a_killed_run_was_told_is_recalled(project: Project) -> None:
    from tests.engine.test_resume import start

    project.rows("d.jsonl", rows(60))
    text = HEAD + SHAPES["chain"]
    with Answers(delay_s=0.02) as server:
        model = f"{{provider: openai_compatible, base_url: '{server.url}', model: demo, limits: {{concurrency: 4}}}}"
        text = text.replace("{provider: echo, model: demo}", model).replace("{model: m}", "{model: m, cache: off}")
        project.write("x.yaml", text)
        process = start(project)
        server.wait_for(30)
        process.kill()
        process.communicate()
        sent = server.total
        plan, _ = foresee_and_run(project, text, resume="last")
        assert "continuing run" in plan.report.going_on
        assert plan.step("a").items.value == 60
        assert plan.step("a").calls.least < 60
        assert server.total - sent >= sum(step.calls.least for step in plan.report.steps)


SCHEMA = {
    "type": "object",
    "properties": {"category": {"type": "string", "maxLength": 20}, "score": {"type": "integer"}},
    "required": ["category", "score"],
    "additionalProperties": False,
}


def schema(**category: Any) -> str:
    found = json.loads(json.dumps(SCHEMA))
    found["properties"]["category"] |= category
    return json.dumps(found)


def say(asked: Any) -> str:
    number = int("".join(c for c in asked.texts[-1].split(":")[0] if c.isdigit()) or 0)
    return json.dumps({"category": "x" * (number + 1), "score": 1})


@pytest.fixture
def rated(project: Project) -> Project:
    project.rows("rows.jsonl", [{"id": f"r{n}", "body": f"text {n}"} for n in range(8)])
    project.variables = KEYS
    return project


def test_a_schema_that_is_sent_asks_for_everything_again(rated: Project) -> None:
    with Speaking(say) as server:
        rated.run(labelling(server, schema=schema()))
        plan, _ = foresee_and_run(rated, labelling(server, schema=schema(description="one word")))
    assert plan.step("label").calls.value == 8
    assert plan.step("label").cached.is_nothing
    assert plan.report.changed == ("step 'label': schema",)
    assert plan.step("label").schema == "sent natively to m"


def test_what_of_a_schema_is_not_sent_asks_only_for_what_no_longer_fits(rated: Project) -> None:
    with Speaking(say) as server:
        rated.run(labelling(server, schema=schema()))
        plan, _ = foresee_and_run(rated, labelling(server, schema=schema(**{"not": {"pattern": "x{6}"}})))
    assert plan.step("label").cached.value == 5
    assert plan.keys("label", "misfit") == ["r5", "r6", "r7"]
    assert plan.keys("label") == ["r5", "r6", "r7"]
    assert "the answer that is there does not fit: $.category" in plan.asked["label"][0].why
    (kind,) = plan.step("label").asked
    assert (kind.kind, kind.count) == ("misfit", 3)


def test_a_check_asks_only_for_what_does_not_pass_it(rated: Project) -> None:
    with Speaking(say) as server:
        rated.run(labelling(server, schema=schema()))
        text = labelling(server, schema=schema(), step="check: output.category | length < 7")
        plan, _ = foresee_and_run(rated, text)
    assert plan.keys("label", "misfit") == ["r6", "r7"]
    assert "the check" in plan.asked["label"][0].why


def test_answers_that_no_longer_fit_fail_where_nobody_is_to_be_asked_again(rated: Project) -> None:
    with Speaking(say) as server:
        rated.run(labelling(server, schema=schema()))
        text = labelling(server, schema=schema(**{"not": {"pattern": "x{6}"}}), step="max_reasks: 0")
        plan, report = foresee_and_run(rated, text)
    assert plan.step("label").calls.is_nothing
    assert [(f.code, f.count, f.example_key) for f in plan.step("label").failing] == [("O503", 3, "r5")]
    assert report.steps[0].failed == 3


@pytest.mark.parametrize("mode", ["prompt", "json_object"])
def test_a_schema_in_the_prompt_is_sent_whole(rated: Project, mode: str) -> None:
    def answer(asked: Any) -> str:
        return say(asked)

    with Speaking(answer) as server:
        text = labelling(server, schema=schema()).replace(
            "openai, model: m,", f"openai, model: m, schema_mode: {mode},"
        )
        rated.run(text)
        same, _ = foresee_and_run(rated, text)
        assert same.step("label").calls.is_nothing
        plan, _ = foresee_and_run(rated, text.replace('"maxLength": 20', '"maxLength": 19'))
        assert plan.step("label").calls.value == 8
        assert plan.step("label").schema == "sent in the prompt to m"
        told, _ = foresee_and_run(rated, text.replace('"type": "object"', '"$comment": "for people", "type": "object"'))
        assert told.step("label").calls.is_nothing


def test_a_provider_that_refused_a_schema_is_asked_once_more(rated: Project) -> None:
    def refusing(asked: Any) -> Any:
        if asked.schema is not None:
            return 400, {"error": {"message": "Invalid schema for response_format", "code": "invalid_json_schema"}}
        return GOOD

    with Speaking(refusing) as server:
        rated.run(labelling(server))
        plan = foresee(rated, labelling(server))
        before = server.total
        report = rated.run(labelling(server))
        assert report.exit_code == 0
        assert plan.step("label").calls.value == server.total - before == 1
        assert plan.step("label").cached.value == 8


def test_equal_requests_are_one_call(project: Project) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}", "text": f"t{n % 3}"} for n in range(9)])
    text = HEAD + '  - {id: a, foreach: datasets.d, prompt: "{{ item.text }}"}\n'
    plan, _ = foresee_and_run(project, text)
    assert plan.step("a").calls.value == 3
    assert plan.step("a").shared == 6
    assert plan.keys("a", "shared") == ["r3", "r4", "r5", "r6", "r7", "r8"]


def test_what_fails_without_a_model_is_told(project: Project) -> None:
    broken = [{"id": "r0", "n": 0, "text": "x"}, {"id": "r1", "n": 1}]
    project.rows("d.jsonl", broken)
    text = HEAD + '  - {id: a, foreach: datasets.d, prompt: "{{ item.text }}", on_error: fail}\n'
    plan = foresee(project, text)
    (failing,) = plan.step("a").failing
    assert (failing.code, failing.count, failing.example_key) == ("D310", 1, "r1")
    assert "step a failed for item r1" in plan.report.would_stop
    assert plan.step("a").calls.value == 1


DOUBLING = """\
import pathlib

pathlib.Path(__file__).with_name("ran").write_text("")


def double(item):
    return item["text"] * 2
"""


def test_python_code_is_never_called_by_a_plan(project: Project) -> None:
    project.rows("d.jsonl", rows(3))
    project.write("doubling.py", DOUBLING)
    text = HEAD + (
        "  - {id: a, foreach: datasets.d, python: doubling:double}\n"
        '  - {id: b, foreach: datasets.d, prompt: "{{ steps.a }}"}\n'
    )
    with pytest.raises(ConfigError) as refused:
        foresee(project, text)
    assert {problem.code for problem in refused.value.problems} == {"C251"}
    plan, report = foresee_and_run(project, text, allow_python=True)
    assert report.exit_code == 0
    assert plan.step("a").open == 3
    assert plan.step("b").calls.sure == "about"
    assert plan.step("b").builds_on == ("a",)
    assert foresee(project, text, allow_python=True, resume="auto").step("b").calls.is_nothing


def test_a_torn_row_is_told_as_a_run_tells_it(project: Project) -> None:
    project.rows("d.jsonl", rows(3))
    with (project.root / "pipelines/d.jsonl").open("a") as file:
        file.write('{"id": "r3", "te\n')
    with pytest.raises(ConfigError) as torn:
        foresee(project, HEAD + SHAPES["chain"])
    (problem,) = torn.value.problems
    assert problem.code == "D302"
    assert problem.place.line == 4


def test_there_is_nothing_to_go_on_with(project: Project) -> None:
    text = written(project, "chain")
    for options in ({"resume": "last"}, {"retry_failed": "last"}, {"only": "b"}, {"only": "b", "base": "no"}):
        with pytest.raises(NoSuchRun):
            foresee(project, text, **options)
    assert foresee(project, text, resume="auto").report.going_on == ""
    assert list_runs(project.root / "output" / "x") == ()


@pytest.mark.parametrize(
    ("items", "again", "share"),
    [(19, 1, "5"), (18, 1, ""), (20, 0, ""), (49, 1, "2"), (50, 1, ""), (5, 15, "75"), (5, 14, "")],
)
def test_what_share_of_an_earlier_runs_calls_came_on_top(project: Project, items: int, again: int, share: str) -> None:
    """Said from 20 calls and 2 % on."""
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(items)])
    text = """\
        version: 1
        datasets: {d: {path: d.jsonl, key: id}}
        models: {m: {provider: echo, model: demo}}
        defaults: {model: m}
        steps: [{id: one, foreach: datasets.d, prompt: "{{ item.id }}"}]
        """
    report = project.run(text, cache="off")
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger, ledger:
        (names,) = ledger.execute("SELECT group_concat(name) FROM pragma_table_info('attempts') WHERE name <> 'id'")
        for _ in range(again):
            ledger.execute(f"INSERT INTO attempts ({names[0]}) SELECT {names[0]} FROM attempts WHERE id = 1")
    said = f"{share}% of the calls of run {report.run_id} were retries and re-asks, which are not counted here"
    assert foresee(project).report.again == (said if share else "")


@pytest.mark.parametrize(
    ("options", "cut", "rows"),
    [
        ({}, "", {"d": 3, "e": 2}), ({"limit": 2}, "--limit 2", {"d": 2, "e": 2}),
        ({"limit": 9}, "--limit 9", {"d": 3, "e": 2}), ({"key": "b"}, "--key b", {"d": 1, "e": 1}),
    ],
)  # fmt: skip
def test_the_rows_that_a_run_would_look_at(
    project: Project, options: dict[str, Any], cut: str, rows: dict[str, int]
) -> None:
    project.rows("d.jsonl", [{"id": id} for id in "abc"])
    project.rows("e.jsonl", [{"id": id} for id in "bc"])
    text = """\
        version: 1
        datasets: {d: {path: d.jsonl, key: id}, e: {path: e.jsonl, key: id}, unused: {path: e.jsonl, key: id}}
        models: {m: {provider: echo, model: demo}}
        defaults: {model: m}
        steps:
          - {id: one, foreach: datasets.d, prompt: "{{ item.id }}"}
          - {id: two, foreach: datasets.e, prompt: "{{ item.id }}"}
        """
    report = foresee(project, text, **options).report
    assert (report.cut, dict(report.datasets)) == (cut, rows)
    assert report.no_model is True
    assert (report.pipeline, report.pipeline_path, report.root) == (
        "x",
        project.root / "pipelines" / "x.yaml",
        project.root,
    )
