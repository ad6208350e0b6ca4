"""What a run was asked for still holds when it is gone on with; what may have been billed is told and counted."""

from __future__ import annotations

import os
from typing import Any

import pytest

from llmpipe.engine import run as run_module
from llmpipe.engine.choose import Changed
from llmpipe.engine.files import read_json
from llmpipe.engine.runs import list_runs, remove_run
from llmpipe.engine.story import item_story
from llmpipe.errors import StorageError
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.engine.test_resume import Counts, interrupt_twice, only_run, rows, start, two


@pytest.mark.parametrize(
    ("flag", "step", "ends"), [("--only", "one", {"one": (40, 40, 0, 0, 0)}), ("--from", "two", None)]
)
def test_a_killed_run_of_some_steps_goes_on_with_these_alone(
    project: Project, counts: Counts, flag: str, step: str, ends: Any
) -> None:
    project.rows("d.jsonl", rows(40))
    with Answers(delay_s=0.02) as server:
        project.run(two(server, concurrency=2))
        text = two(server, concurrency=2).replace("one {{", "uno {{").replace("two {{", "due {{")
        project.write("x.yaml", text)
        process = start(project, flag, step)
        server.wait_for(80 + 10)
        process.kill()
        process.communicate()
        report = project.run(resume="last")
        assert report.exit_code == 0, report.reason
        assert 120 <= server.total <= 122, "only the step that was named is asked"
        again = project.run(resume="last")
        assert server.total <= 122
    if ends:
        assert counts(again) == ends
    assert read_json(report.folder / "run.json")["base"]  # type: ignore[index]


@pytest.mark.parametrize("options", [{"limit": 5}, {"key": "r39"}])
def test_a_run_that_goes_on_with_some_rows_leaves_the_others_unsent(
    project: Project, counts: Counts, options: dict[str, Any]
) -> None:
    project.rows("d.jsonl", rows(40))
    with Answers(delay_s=0.002) as server:
        stopped = project.run(two(server, concurrency=2) + "budget: {calls: 20}\n")
        assert stopped.exit_code == 6
        part = project.run(two(server), resume="last", **options)
        assert (part.exit_code, part.status) == (0, "stopped"), part.reason
        assert not part.published
        items, succeeded, _, _, unsent = counts(part)["one"]
        assert items == 40
        assert succeeded + unsent == 40
        assert unsent > 10
        whole = project.run(two(server), resume="auto")
        assert whole.run_id == stopped.run_id
        assert counts(whole)["two"] == (40, 40, 0, 0, 0)
        assert server.total == 80


def test_calls_that_the_second_signal_cuts_off_may_have_been_billed(project: Project) -> None:
    project.rows("d.jsonl", rows(20))
    priced = "limits: {concurrency: 4}, price: {input: 100, output: 1000}, params: {max_output_tokens: 100}"
    with Answers(delay_s=lambda number: 0.0 if number == 1 else 600.0) as server:  # the first opens the gate for four
        text = two(server).replace("limits: {concurrency: 8}", priced) + "budget: {usd: 0.55}\n"
        project.write("x.yaml", text)
        process = start(project)
        server.wait_for(5)
        interrupt_twice(process)
        _, told = process.communicate(timeout=100)
        assert process.returncode == 130
        assert read_json(only_run(project) / "run.json")["maybe_billed"] == 4  # type: ignore[index]
        assert "may have been billed" in told
        server.delay_s = 0.0
        report = project.run(text, resume="last")
        assert report.exit_code == 6
        assert server.total < 20, "the four count for what was reserved for them, ten cents each"


def test_a_run_dies_before_it_has_what_it_builds_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a run.json is no run: the next one builds on the finished run too."""
    project.rows("d.jsonl", rows(5))
    with Answers() as server:
        project.run(two(server))

        def dies(*args: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(run_module, "begin_with", dies)
        with pytest.raises(KeyboardInterrupt):
            project.run(resume="auto")
        monkeypatch.undo()
        report = project.run(resume="auto")
        assert report.exit_code == 0
        assert server.total == 10


def test_a_damaged_ledger_is_told_plainly(project: Project) -> None:
    project.rows("d.jsonl", rows(5))
    report = project.run("""\
        version: 1
        datasets: {d: {path: d.jsonl, key: id}}
        steps: [{id: one, foreach: datasets.d, render: "{{ item.id }}"}]
        """)
    path = report.folder / "run.db"
    data = bytearray(path.read_bytes())
    data[4096 * 4 :] = os.urandom(len(data) - 4096 * 4)
    path.write_bytes(data)
    with pytest.raises(StorageError, match="ledger"):
        project.run(resume="last", accept_changes=True)
    assert project.run(resume="auto").exit_code == 0


def test_a_place_that_cannot_hold_the_cache_is_no_fault_of_llmpipe(project: Project) -> None:
    project.rows("d.jsonl", rows(5))
    with Answers() as server:
        (project.root / "output").mkdir()
        (project.root / "output" / ".cache").write_text("a file")
        with pytest.raises(StorageError):
            project.run(two(server))
    assert read_json(only_run(project) / "run.json")["exit_code"] == 1  # type: ignore[index]


@pytest.mark.parametrize("left", [None, '{"run": '])
@pytest.mark.parametrize("how", ["last", "auto"])
def test_the_ledger_is_enough_to_go_on(project: Project, left: str | None, how: str) -> None:
    project.rows("d.jsonl", rows(40))
    with Answers(delay_s=0.01) as server:
        project.write("x.yaml", two(server))
        process = start(project)
        server.wait_for(40)
        process.kill()
        process.communicate()
        file = only_run(project) / "run.json"
        file.unlink()
        if left is not None:
            file.write_text(left)
        with pytest.raises(Changed):
            project.run(two(server).replace("one {{", "uno {{"), resume="last")
        report = project.run(two(server), resume=how)
        assert report.exit_code == 0
        assert server.total <= 80 + 8


def test_the_story_of_a_carried_item_tells_where_it_was_made(project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    with Answers() as server:
        first = project.run(two(server))
        project.run(resume="auto")
        third = project.run(resume="auto")
    info = list_runs(project.root / "output" / "x")[0]
    assert info.run_id == third.run_id
    told = item_story(info, "one", "r1")
    assert (told.carried, told.made_in) == (True, first.run_id)
    assert [turn["content"] for turn in told.messages] == ["one r1 t1"]
    assert told.replies == ("re: one r1 t1",)
    assert told.usage.input_tokens == 10
    remove_run(next(i for i in list_runs(project.root / "output" / "x") if i.run_id == first.run_id))
    assert item_story(info, "one", "r1").output == "re: one r1 t1"
