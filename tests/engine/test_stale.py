"""No result of other input or of another definition survives, however a run ended that was to redo it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmpipe.engine.results import RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.engine.test_resume import Counts, start

MANY = 900  # more rows than are at work at once, so that a stop leaves some that nobody looked at

ONE_TWO = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 16}}}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "{word} {{{{ item.id }}}} {{{{ item.text }}}}"}}
  - {{id: two, foreach: datasets.d, render: "{{{{ steps.one }}}}"}}
"""


def one_two(server: Answers, word: str = "one") -> str:
    return ONE_TWO.format(url=server.url, word=word)


def rows(count: int, text: str = "old") -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "text": text} for n in range(count)]


def texts(project: Project, report: RunReport) -> set[str]:
    return {output.split()[1] for output in project.outputs(report, "two")}


@pytest.mark.parametrize("how", [{"resume": "auto"}, {"resume": "last", "accept_changes": True}])
def test_a_kill_amid_changed_templates_leaves_no_old_result_behind(project: Project, how: dict[str, Any]) -> None:
    project.rows("d.jsonl", rows(MANY))
    words = ["--resume", "auto"] if how["resume"] == "auto" else ["--resume", "--accept-changes"]
    with Answers(delay_s=0.005) as server:
        project.run(one_two(server, "before"))
        project.write("x.yaml", one_two(server, "after"))
        process = start(project, *words)
        server.wait_for(MANY + 30)
        process.kill()
        process.communicate()
        report = project.run(resume="auto")
        assert report.exit_code == 0, report.reason
        assert texts(project, report) == {"after"}
        assert server.total <= 2 * MANY + 16


def test_a_definition_that_changed_and_changed_back_leaves_no_result_of_the_one_between(project: Project) -> None:
    project.rows("d.jsonl", rows(MANY))
    with Answers(delay_s=0.002) as server:
        project.run(one_two(server, "before"))
        stopped = project.run(one_two(server, "between") + "budget: {calls: 50}\n", resume="auto")
        assert stopped.exit_code == 6
        report = project.run(one_two(server, "before"), resume=stopped.run_id, accept_changes=True)
    assert report.exit_code == 0, report.reason
    assert texts(project, report) == {"before"}


def test_rows_that_changed_are_redone_although_a_run_stopped_before_it_came_to_them(
    project: Project, counts: Counts
) -> None:
    project.rows("d.jsonl", rows(MANY))
    with Answers(delay_s=0.002) as server:
        text = one_two(server).replace("{{ item.id }} {{ item.text }}", "{{ item.text }} {{ item.id }}")
        project.run(text)
        project.rows("d.jsonl", rows(MANY, "new"))
        stopped = project.run(text + "budget: {calls: 50}\n", resume="auto")
        assert stopped.exit_code == 6
        assert counts(stopped)["one"] == (MANY, 50, 0, 0, MANY - 50), "old results are no successes of this run"
        report = project.run(text, resume="auto")
        assert server.total == 2 * MANY
    assert report.exit_code == 0, report.reason
    assert {output.split()[2] for output in project.outputs(report, "two")} == {"new"}


CLAIMS = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - id: label
    foreach: datasets.d
    if: item.text != "skip"
    prompt: "label {{{{ item.id }}}} {{{{ item.text }}}}"
    schema: {{claims: [string]}}
    max_reasks: 0
    min_success: 1
  - {{id: verify, foreach: steps.label.claims, prompt: "verify {{{{ item }}}} {{{{ parent.id }}}}"}}
  - {{id: all, render: "{{{{ steps.verify | map(attribute='key') | join(' ') }}}}"}}
"""


@pytest.mark.parametrize("text", ["bad", "skip"])
def test_what_was_made_of_a_list_goes_when_the_list_is_no_more(project: Project, counts: Counts, text: str) -> None:
    def reply(prompt: str) -> Any:
        return "no JSON" if "bad" in prompt else {"claims": ["a", "b"]} if prompt.startswith("label") else "yes"

    data = rows(3)
    project.rows("d.jsonl", data)
    with Answers(reply) as server:
        first = project.run(CLAIMS.format(url=server.url))
        assert counts(first)["verify"] == (6, 6, 0, 0, 0)
        data[1]["text"] = text
        project.rows("d.jsonl", data)
        second = project.run(resume="auto")
    assert second.exit_code == 0, second.reason
    assert counts(second)["verify"] == (4, 4, 0, 0, 0)
    assert project.outputs(second, "all") == ["r0/0 r0/1 r2/0 r2/1"]


def test_a_step_that_moves_to_another_dataset_leaves_its_results_there(
    project: Project, counts: Callable[[RunReport], Any]
) -> None:
    project.rows("d.jsonl", rows(5))
    project.rows("e.jsonl", rows(2))
    text = """\
        version: 1
        datasets: {{d: {{path: d.jsonl, key: id}}, e: {{path: e.jsonl, key: id}}}}
        steps:
          - {{id: one, foreach: datasets.{name}, render: "{{{{ item.id }}}}"}}
        """
    project.run(text.format(name="d"))
    there = project.run(text.format(name="e"), resume="auto")
    assert (there.exit_code, counts(there)["one"]) == (0, (2, 2, 0, 0, 0)), there.reason
    back = project.run(text.format(name="d"), resume=there.run_id, accept_changes=True)
    assert (back.exit_code, counts(back)["one"]) == (0, (5, 5, 0, 0, 0)), back.reason


@pytest.mark.parametrize("more", [0, 1])
def test_rows_that_are_named_by_another_column_are_other_items(project: Project, more: int) -> None:
    data = [{"id": f"a{n}", "other": f"b{n}"} for n in range(3)]
    project.rows("d.jsonl", data)
    text = """\
        version: 1
        datasets: {{d: {{path: d.jsonl, key: {column}}}}}
        steps:
          - {{id: one, foreach: datasets.d, render: "{{{{ key }}}}"}}
        """
    project.run(text.format(column="id"))
    project.rows("d.jsonl", data + [{"id": "a3", "other": "b3"}] * more)
    report = project.run(text.format(column="other"), resume="auto")
    assert project.outputs(report, "one") == [f"b{n}" for n in range(3 + more)]
