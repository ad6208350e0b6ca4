# ruff: noqa: E501 - a pipeline step reads best on one line
"""Going on: after a kill, after failures, on a grown file, on an earlier run's results; nothing is asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.choose import Changed
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.results import RunReport
from llmpipe.engine.runs import NoSuchRun, list_runs, run_document
from tests.engine.answers import Answers
from tests.engine.conftest import Project

Counts = Callable[[RunReport], dict[str, tuple[int, int, int, int, int]]]

TWO = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: {concurrency}}}}}
defaults: {{model: m, cache: {{read: false, write: false}}}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "one {{{{ item.id }}}} {{{{ item.text }}}}"}}
  - {{id: two, foreach: datasets.d, prompt: "two {{{{ steps.one }}}}"}}
"""


def two(server: Answers, concurrency: int = 8) -> str:
    return TWO.format(url=server.url, concurrency=concurrency)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "text": f"t{n}"} for n in range(count)]


def start(project: Project, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


def only_run(project: Project) -> Path:
    (info,) = list_runs(project.root / "output" / "x")
    return info.folder


@pytest.mark.parametrize("after", [3, 40, 77])
def test_a_killed_run_goes_on_and_asks_nothing_again_that_came_back(
    project: Project, counts: Counts, after: int
) -> None:
    project.rows("d.jsonl", rows(60))
    with Answers(delay_s=0.02) as server:
        project.write("x.yaml", two(server))
        process = start(project)
        server.wait_for(after)
        process.kill()
        process.communicate()
        sent = server.total
        report = project.run(resume="last")
        again = server.total - len(server.asked)
    assert report.exit_code == 0
    assert sent < 120
    assert counts(report) == {"one": (60, 60, 0, 0, 0), "two": (60, 60, 0, 0, 0)}
    assert project.outputs(report, "two") == [f"re: two re: one r{n} t{n}" for n in range(60)]
    assert again <= report.maybe_billed <= 8
    assert report.folder == only_run(project)


def test_an_interrupted_run_lets_the_calls_in_flight_end(project: Project) -> None:
    project.rows("d.jsonl", rows(50))
    with Answers(delay_s=0.3) as server:
        project.write("x.yaml", two(server, concurrency=4))
        process = start(project)
        server.wait_for(6)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
        sent = server.total
        assert process.returncode == 143, told
        with LedgerReader(only_run(project) / "run.db") as ledger:
            outcomes = [row[0] for row in ledger.rows("SELECT outcome FROM attempts")]
        assert outcomes == ["ok"] * sent
        report = project.run(resume="last")
        assert server.total == 100
    assert report.exit_code == 0
    assert report.maybe_billed == 0


def interrupt_twice(process: subprocess.Popen[str]) -> None:
    """The second signal once the first has arrived: two at once may count as one."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "stopping" in line:
            break
    process.send_signal(signal.SIGINT)


def test_the_second_signal_stops_now(project: Project) -> None:
    project.rows("d.jsonl", rows(5))
    with Answers(delay_s=30) as server:
        project.write("x.yaml", two(server))
        process = start(project)
        server.wait_for(1)
        interrupt_twice(process)
        process.communicate(timeout=9)  # the first signal alone gives calls in flight ten seconds
    assert process.returncode == 130
    data = json.loads((only_run(project) / "run.json").read_text())
    assert data["status"] == "interrupted"
    assert data["totals"]["unsent"] == data["totals"]["items"] == 10


def test_changed_templates_are_refused_with_what_changed_and_redone_on_request(project: Project) -> None:
    project.rows("d.jsonl", rows(4))
    with Answers() as server:
        text = two(server)
        project.run(text)
        with pytest.raises(Changed, match="step 'two': prompt"):
            project.run(text.replace('"two {{', '"zwei {{'), resume="last")
        report = project.run(text.replace('"two {{', '"zwei {{'), resume="last", accept_changes=True)
        assert server.total == 12
    assert project.outputs(report, "two")[0] == "re: zwei re: one r0 t0"


def test_policy_may_change_between_a_run_and_its_resumption(project: Project) -> None:
    project.rows("d.jsonl", rows(4))
    with Answers() as server:
        project.run(two(server))
        report = project.run(
            two(server, concurrency=2).replace("defaults: {", "defaults: {retry: {max_retries: 1}, "), resume="last"
        )
        assert server.total == 8
    assert report.exit_code == 0


def test_a_grown_file_costs_only_its_new_and_changed_rows(project: Project, counts: Counts) -> None:
    with Answers() as server:
        project.rows("d.jsonl", rows(10))
        first = project.run(two(server), resume="auto")
        assert server.total == 20
        changed = [*rows(12)[3:], {"id": "r0", "text": "t0"}]
        changed[0] = {"id": "r3", "text": "other"}
        project.rows("d.jsonl", changed)
        second = project.run(two(server), resume="auto")
        assert server.total == 20 + 2 * 3
    assert second.run_id != first.run_id
    assert second.exit_code == 0, second.reason
    assert counts(second)["two"] == (10, 10, 0, 0, 0)
    assert [line["key"] for line in project.results(second, "two")] == [row["id"] for row in changed]
    assert project.results(second, "two")[0]["output"] == "re: two re: one r3 other"


def test_auto_redoes_nothing_where_nothing_changed(project: Project) -> None:
    project.rows("d.jsonl", rows(10))
    with Answers() as server:
        project.run(two(server), resume="auto")
        report = project.run(two(server), resume="auto")
        assert server.total == 20
    assert report.status == "complete"
    assert all(step.carried == 10 for step in report.steps)


def test_a_column_that_nobody_reads_may_change(project: Project) -> None:
    with Answers() as server:
        project.rows("d.jsonl", [{**row, "note": 1} for row in rows(5)])
        project.run(two(server), resume="auto")
        project.rows("d.jsonl", [{**row, "note": 2} for row in rows(5)])
        project.run(two(server), resume="auto")
        assert server.total == 10


def test_a_resumed_run_notices_rows_that_came_and_went(project: Project, counts: Counts) -> None:
    with Answers() as server:
        project.rows("d.jsonl", rows(5))
        project.run(two(server))
        project.rows("d.jsonl", rows(7)[1:])
        report = project.run(resume="last")
        assert server.total == 10 + 4
    assert report.exit_code == 0, report.reason
    assert counts(report)["one"] == (6, 6, 0, 0, 0)
    assert [line["key"] for line in project.results(report, "one")] == [f"r{n}" for n in range(1, 7)]


def failing(names: set[str], status: int = 400) -> Callable[[str], Any]:
    error = {"error": {"message": "no", "type": "invalid_request_error"}}
    return lambda prompt: (status, error) if any(f" {name} " in f"{prompt} " for name in names) else f"re: {prompt}"


def test_permanent_failures_are_carried_over_until_asked_for(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(5))
    bad = {"r2"}
    with Answers(lambda prompt: failing(bad)(prompt)) as server:
        text = two(server).replace("defaults: {", "defaults: {min_success: 50%, ")
        first = project.run(text, resume="auto")
        assert counts(first) == {"one": (5, 4, 1, 0, 0), "two": (5, 4, 0, 1, 0)}
        asked = server.total
        second = project.run(text, resume="auto")
        assert server.total == asked
        assert counts(second) == counts(first)
        assert len(list((second.folder / "failures" / "one").iterdir())) == 1
        bad.clear()
        third = project.run(text, retry_failed=second.run_id)
        assert server.total == asked + 2
    assert third.run_id == second.run_id
    assert third.status == "complete"
    assert counts(third) == {"one": (5, 5, 0, 0, 0), "two": (5, 5, 0, 0, 0)}
    assert list((third.folder / "failures" / "one").iterdir()) == []


def test_the_failure_of_a_row_that_is_gone_leaves_no_file(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(3))
    with Answers(failing({"r1"})) as server:
        text = two(server).replace("defaults: {", "defaults: {min_success: 50%, ")
        project.run(text, resume="auto")
        project.rows("d.jsonl", [row for row in rows(3) if row["id"] != "r1"])
        report = project.run(text, resume="auto")
    assert counts(report)["one"] == (2, 2, 0, 0, 0)
    assert not list(report.folder.glob("failures/*/*"))


def test_a_retry_that_fails_again_keeps_the_failure(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(3))
    with Answers(failing({"r1"})) as server:
        text = two(server).replace("defaults: {", "defaults: {min_success: 50%, ")
        first = project.run(text)
        second = project.run(text, retry_failed="last")
    assert counts(second) == counts(first) == {"one": (3, 2, 1, 0, 0), "two": (3, 2, 0, 1, 0)}
    assert len(list((second.folder / "failures" / "one").iterdir())) == 1


def test_a_retry_reads_no_cached_reply_for_what_failed(project: Project) -> None:
    """A label that passes its schema but not its check is cached; the retry has to ask again."""
    project.rows("d.jsonl", rows(3))
    replies = {"text": "wrong"}
    with Answers(lambda prompt: replies["text"] if " r1 " in f"{prompt} " else "fine") as server:
        text = (
            two(server)
            .replace(", cache: {read: false, write: false}", "")
            .replace(
                "{id: one, foreach: datasets.d, ",
                "{id: one, foreach: datasets.d, check: [\"output == 'fine'\"], max_reasks: 0, ",
            )
        )
        first = project.run(text)
        assert first.exit_code == 1
        replies["text"] = "fine"
        second = project.run(text, retry_failed="last")
    assert second.exit_code == 0


def test_failures_that_may_pass_are_tried_again_by_a_resumption(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(3))
    bad = {"r1"}
    with Answers(lambda prompt: failing(bad, 500)(prompt)) as server:
        text = two(server).replace("defaults: {", "defaults: {min_success: 50%, retry: {max_retries: 1, base: 1ms}, ")
        first = project.run(text)
        assert counts(first)["one"] == (3, 2, 1, 0, 0)
        bad.clear()
        second = project.run(text, resume="last")
    assert counts(second) == {"one": (3, 3, 0, 0, 0), "two": (3, 3, 0, 0, 0)}


def test_only_and_from_build_on_an_earlier_run(project: Project) -> None:
    project.rows("d.jsonl", rows(4))
    with Answers() as server:
        first = project.run(two(server))
        only = project.run(only="two")
        assert server.total == 12
        assert project.outputs(only, "two") == project.outputs(first, "two")
        assert only.run_id != first.run_id
        project.run(from_step="one", base=first.run_id)
        assert server.total == 20
        with pytest.raises(NoSuchRun, match="no step 'three'"):
            project.run(only="three")


def test_one_item_may_be_run_again_by_its_key(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(4))
    bad = {"r1", "r2"}
    with Answers(lambda prompt: failing(bad)(prompt)) as server:
        text = two(server).replace("defaults: {", "defaults: {min_success: 25%, ")
        project.run(text)
        bad.clear()
        report = project.run(text, retry_failed="last", key="r2")
    assert counts(report)["one"] == (4, 3, 1, 0, 0)
    assert [line["key"] for line in project.results(report, "one")] == ["r0", "r2", "r3"]


def test_with_the_cache_an_edit_of_a_later_step_pays_only_for_that_step(project: Project) -> None:
    project.rows("d.jsonl", rows(4))
    with Answers() as server:
        text = two(server).replace(", cache: {read: false, write: false}", "")
        project.run(text)
        report = project.run(text.replace('"two {{', '"zwei {{'))
        assert server.total == 12
    assert [step.cached for step in report.steps] == [4, 0]


LISTS = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo}}
defaults: {{model: m, cache: {{read: false, write: false}}}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: list, foreach: datasets.d, prompt: "list {{{{ item.id }}}} {{{{ item.n }}}}", schema: {{parts: "list[string]"}}}}
  - {{id: part, foreach: steps.list.parts, prompt: "part {{{{ item }}}}"}}
  - {{id: kind, foreach: {{group: steps.part, by: "output[-1]"}}, prompt: "kind {{{{ item.key }}}} {{{{ item.rows | length }}}}"}}
  - {{id: all, prompt: "all {{{{ steps.part | length }}}} {{{{ steps.kind | length }}}}"}}
"""


def parts(prompt: str) -> Any:
    if prompt.startswith("list"):
        _, id, n = prompt.split()
        return {"parts": [f"{id}{i}" for i in range(int(n))]}
    return f"re: {prompt}"


@pytest.mark.parametrize("way", ["auto", "last"])
def test_only_what_a_changed_row_reaches_is_redone(project: Project, counts: Counts, way: str) -> None:
    """Fan-outs, groups and whole lists are redone where what they read has changed, and nowhere else."""
    with Answers(parts) as server:
        project.rows("d.jsonl", [{"id": "a", "n": 2}, {"id": "b", "n": 3}, {"id": "c", "n": 1}])
        first = project.run(LISTS.format(url=server.url), resume="auto")
        assert counts(first)["part"] == (6, 6, 0, 0, 0)
        assert counts(first)["kind"] == (3, 3, 0, 0, 0)
        server.asked.clear()
        project.rows("d.jsonl", [{"id": "a", "n": 2}, {"id": "b", "n": 1}, {"id": "c", "n": 1}])
        second = project.run(resume=way)
        assert second.exit_code == 0, second.reason
        assert dict(server.asked) == {"list b 1": 1, "kind 1 1": 1, "all 4 2": 1}
        assert counts(second) == {
            "list": (3, 3, 0, 0, 0), "part": (4, 4, 0, 0, 0), "kind": (2, 2, 0, 0, 0), "all": (1, 1, 0, 0, 0),
        }  # fmt: skip
        server.asked.clear()
        project.rows("d.jsonl", [{"id": "c", "n": 1}, {"id": "a", "n": 2}])
        third = project.run(resume=way)
        assert third.exit_code == 0, third.reason
        assert dict(server.asked) == {"kind 0 2": 1, "all 3 2": 1}
        assert [line["key"] for line in project.results(third, "part")] == ["c/0", "a/0", "a/1"]


def test_calls_of_a_killed_process_count_against_the_budget_as_reserved(project: Project) -> None:
    """Four calls in flight at the kill may have been billed: 5 of 10 calls' worth of budget are gone, at least."""
    project.rows("d.jsonl", rows(40))
    priced = "limits: {concurrency: 4}, price: {input: 100, output: 1000}, params: {max_output_tokens: 100}"
    with Answers(delay_s=lambda number: 0.0 if number == 1 else 600.0) as server:
        text = two(server).replace("limits: {concurrency: 8}", priced).replace("steps:", "budget: {usd: 1.0}\nsteps:")
        project.write("x.yaml", text)
        process = start(project)
        server.wait_for(5)
        process.kill()
        process.communicate()
        server.delay_s = 0.0
        report = project.run(resume="last")
        sent = server.total - 4
    assert report.maybe_billed == 4
    assert report.exit_code == 6
    assert 40 < sent < (1.0 - 4 * 0.1) / 0.006 + 1


def test_a_killed_run_is_listed_with_what_it_came_to(project: Project) -> None:
    project.rows("d.jsonl", rows(60))
    with Answers(delay_s=0.02) as server:
        project.write("x.yaml", two(server))
        process = start(project)
        server.wait_for(40)
        process.kill()
        process.communicate()
    (info,) = list_runs(project.root / "output" / "x")
    assert info.status == "crashed"
    assert not info.finished
    assert info.items == 120
    assert 10 < info.succeeded < 60
    assert info.items == info.succeeded + info.failed + info.skipped + info.unsent
    document = run_document(info.folder) or {}
    assert [step["id"] for step in document["steps"]] == ["one", "two"]


def test_an_edited_function_of_a_python_step_is_called_again(project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    text = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: one, foreach: datasets.d, python: "edited_code:shout"}
"""
    project.write("edited_code.py", "def shout(item):\n    return item['id'] + '!'\n")
    project.run(text, resume="auto", allow_python=True)
    sys.modules.pop("edited_code")
    project.write("edited_code.py", "def shout(item):\n    return item['id'].upper() + '!!'\n")
    report = project.run(text, resume="auto", allow_python=True)
    sys.modules.pop("edited_code")
    assert project.outputs(report, "one") == ["R0!!", "R1!!"]


def test_a_function_is_called_again_when_what_it_imports_is_edited(project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    text = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: one, foreach: datasets.d, python: "edited_user:shout"}
"""
    project.write("edited_user.py", "import edited_words\n\ndef shout(item):\n    return edited_words.END\n")
    found = []
    for end in ("!", "?!"):
        project.write("edited_words.py", f"END = {end!r}\n")
        found.append(project.outputs(project.run(text, resume="auto", allow_python=True), "one"))
        for name in ("edited_user", "edited_words"):
            sys.modules.pop(name)
    assert found == [["!"] * 2, ["?!"] * 2]


def test_auto_leaves_out_a_run_whose_ledger_is_damaged(project: Project) -> None:
    project.rows("d.jsonl", rows(3))
    with Answers() as server:
        first = project.run(two(server), resume="auto")
        second = project.run(two(server), resume="auto")
        (second.folder / "run.db").write_bytes(b"rubbish " * 2000)
        third = project.run(two(server), resume="auto")
        assert server.total == 6
    assert third.exit_code == 0
    assert any(first.run_id in note for note in third.notes)
    assert [second.run_id in reason for reason in third.lost] == [True]
