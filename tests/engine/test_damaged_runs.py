"""Runs whose files are damaged: `--resume auto` begins anew, everything else says in one message what can be done."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmpipe.cli.main import main
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_schema import VERSION
from llmpipe.engine.ledger_versions import LedgerUnreadable
from llmpipe.engine.results import RunReport
from llmpipe.engine.runs import RUN_VERSION, list_runs
from llmpipe.errors import LlmpipeError
from llmpipe.report.summary import cron
from tests.engine.conftest import Project

TEXT = """\
version: 1
name: x
datasets: {d: {path: d.jsonl, key: id}}
models: {m: {provider: echo, model: demo}}
defaults: {model: m}
steps:
  - {id: one, foreach: datasets.d, prompt: "{{ item.id }} {{ item.text }}"}
  - {id: two, foreach: datasets.d, render: "<{{ steps.one }}>"}
"""
ROWS = [{"id": f"r{n:02}", "text": "x" * 300} for n in range(40)]


def overwritten(start: int, size: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(random.Random(7).randbytes(size))

    return damage


def in_the_middle(path: Path) -> None:
    pages = path.stat().st_size // 4096
    overwritten(4096 * (pages // 2), 4096 * (pages // 4))(path)


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def said_version(version: str | None) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as ledger, ledger:
            ledger.execute("DELETE FROM meta WHERE name = 'version'")
            if version is not None:
                ledger.execute("INSERT INTO meta VALUES ('version', ?)", (version,))

    return damage


def another_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE phones (name, number)")


LEDGER: dict[str, Callable[[Path], None]] = {
    "first page": overwritten(0, 4096),
    "second page": overwritten(4096, 4096),
    "middle": in_the_middle,
    "half": cut(0.5),
    "nearly whole": cut(0.95),
    "a few bytes": cut(0.001),
    "empty": cut(0),
    "text": lambda path: path.write_text("no database\n" * 1000) and None,
    "missing": lambda path: path.unlink(),
    "folder": folder,
    "newer": said_version(str(VERSION + 1)),
    "no version": said_version(None),
    "another": another_database,
}


def unfinished(project: Project) -> RunReport:
    return project.run(TEXT + "budget: {calls: 15}\n")


def finished(project: Project) -> RunReport:
    return project.run(TEXT)


def damage_ledger(report: RunReport, what: str) -> None:
    for beside in ("run.db-wal", "run.db-shm"):
        (report.folder / beside).unlink(missing_ok=True)
    LEDGER[what](report.folder / "run.db")


@pytest.fixture
def small(project: Project) -> Project:
    project.rows("d.jsonl", ROWS)
    return project


def whole(project: Project, report: RunReport) -> None:
    assert (report.exit_code, report.status) == (0, "complete"), report.reason
    assert project.outputs(report, "two") == [f"<echo: {row['id']} {row['text']}>" for row in ROWS]


@pytest.mark.parametrize("state", [unfinished, finished])
@pytest.mark.parametrize("what", LEDGER)
def test_auto_begins_a_new_run_and_says_why(small: Project, what: str, state: Callable[[Project], RunReport]) -> None:
    broken = state(small)
    damage_ledger(broken, what)
    first = small.run(TEXT, resume="auto")
    whole(small, first)
    assert first.run_id != broken.run_id
    assert [f"run {broken.run_id} cannot be read: " in line for line in first.lost] == [True]
    assert [line.count(f"run {broken.run_id} cannot be read: ") for line in cron(first)] == [1], "under --quiet too"
    assert first.notes == ("nothing is carried over",)
    assert [step.calls for step in first.steps if step.id == "one"] == [25 if state is unfinished else 0], "cached"
    second = small.run(TEXT, resume="auto")
    whole(small, second)
    assert (second.notes, second.lost) == ((f"carrying over from run {first.run_id}",), ())
    assert cron(second) == []


@pytest.mark.parametrize("what", ["first page", "middle", "missing"])
def test_auto_carries_over_from_the_last_run_that_can_be_read(small: Project, what: str) -> None:
    good = finished(small)
    damage_ledger(finished(small), what)
    damage_ledger(unfinished(small), what)
    report = small.run(TEXT, resume="auto", cache="off")
    whole(small, report)
    assert report.notes == (f"carrying over from run {good.run_id}",)
    assert len(report.lost) == 2
    assert [step.calls for step in report.steps if step.id == "one"] == [0]


@pytest.mark.parametrize("how", [{"resume": "last"}, {"retry_failed": "last"}, {"only": "two", "base": "last"}])
@pytest.mark.parametrize("state", [unfinished, finished])
@pytest.mark.parametrize("what", LEDGER)
def test_a_run_that_is_named_is_refused_and_left_as_it_is(
    small: Project, what: str, state: Callable[[Project], RunReport], how: dict[str, Any]
) -> None:
    broken = state(small)
    damage_ledger(broken, what)
    before = {path: path.read_bytes() for path in broken.folder.rglob("*") if path.is_file()}
    with pytest.raises(LlmpipeError) as refused:
        small.run(TEXT, **how)
    assert refused.value.exit_code in (1, 2)
    assert "--resume auto" in refused.value.advice or "start a new run" in refused.value.advice
    assert {path: path.read_bytes() for path in broken.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("resume", ["last", "its own id"])
def test_a_run_that_was_killed_before_it_was_begun_is_not_taken_for_another_pipeline(
    small: Project, resume: str
) -> None:
    run_id = "abc123"
    (small.root / "output" / "x" / run_id).mkdir(parents=True)
    Ledger(small.root / "output" / "x" / run_id / "run.db").close()
    with pytest.raises(LedgerUnreadable, match="ended before it had asked for anything") as refused:
        small.run(TEXT, resume=run_id if resume == "its own id" else "last")
    assert "--resume auto" in refused.value.advice
    assert small.run(TEXT, resume="auto").exit_code == 0


RUN_FILES = {
    "missing": None, "empty": "", "half": '{"run": "x", "status": "runn', "list": "[1]", "binary": "\0\1\2",
    "wrong kinds": '{"status": 7, "started_at": "x", "totals": [], "fingerprint": 1, "number": "a", "whole": 0}',
}  # fmt: skip


@pytest.mark.parametrize("state", [unfinished, finished])
@pytest.mark.parametrize("what", RUN_FILES)
@pytest.mark.parametrize("ledger", [None, "first page", "missing"])
def test_a_damaged_run_file_stops_nothing(
    small: Project, what: str, state: Callable[[Project], RunReport], ledger: str | None
) -> None:
    broken = state(small)
    text = RUN_FILES[what]
    (broken.folder / "run.json").unlink()
    if text is not None:
        (broken.folder / "run.json").write_text(text)
    if ledger is not None:
        damage_ledger(broken, ledger)
    assert command(small, "runs") == 0
    assert command(small, "show") in (0, 1, 2)
    whole(small, small.run(TEXT, resume="auto"))
    whole(small, small.run(TEXT, resume="auto"))
    assert command(small, "runs", "gc", "--keep", "1") == 0


def command(project: Project, *words: str) -> int:
    with contextlib.chdir(project.root):
        return main(list(words))


@pytest.mark.parametrize("what", LEDGER)
def test_no_command_falls_over_a_damaged_run(small: Project, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = unfinished(small)
    small.load(TEXT)
    damage_ledger(broken, what)
    file = str(small.root / "pipelines" / "x.yaml")
    for words, codes in [
        (("runs",), {0}),
        (("runs", "--json"), {0}),
        (("show",), {0}),
        (("show", "--json"), {0}),
        (("show", "last", "one"), {1, 2}),
        (("show", "last", "one", "r01"), {1, 2}),
        (("plan", file), {0}),
        (("plan", file, "--resume", "auto"), {0}),
        (("plan", file, "--resume"), {1, 2}),
        (("cache", "stats"), {0}),
        (("run", file, "--resume"), {1, 2}),
        (("run", file, "--retry-failed"), {1, 2}),
        (("runs", "rm", broken.run_id), {0}),
        (("run", file, "--quiet"), {0}),
    ]:
        assert command(small, *words) in codes, words
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if codes == {1, 2}:
            assert sum(line.startswith("error[X93") for line in err.splitlines()) == 1, err


def test_a_run_of_a_newer_version_is_refused_by_its_run_file_too(small: Project) -> None:
    newer = unfinished(small)
    path = newer.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": RUN_VERSION + 1}))
    before = path.read_bytes()
    with pytest.raises(LlmpipeError, match=f"version {RUN_VERSION + 1}; this llmpipe reads") as refused:
        small.run(TEXT, resume="last")
    assert refused.value.exit_code == 2
    whole(small, small.run(TEXT, resume="auto"))
    assert path.read_bytes() == before


def test_a_value_that_is_damaged_in_an_intact_file_is_met_once(small: Project) -> None:
    """No check of the file's structure finds it: the run that meets it ends with 1, the next one begins anew."""
    good = finished(small)
    with closing(sqlite3.connect(good.folder / "run.db")) as ledger, ledger:
        ledger.execute("UPDATE results SET output = substr(output, 1, 9) WHERE item = 7")
    assert small.run(TEXT, resume="auto").exit_code == 1
    report = small.run(TEXT, resume="auto")
    whole(small, report)
    assert report.notes == ("nothing is carried over",)


def test_damage_that_comes_while_a_run_is_at_work_ends_it_with_1(small: Project) -> None:
    """The file is overwritten under a run that has much left to read."""
    first = finished(small)
    changed = [*ROWS[:5], *({"id": row["id"], "text": "new"} for row in ROWS[5:])]
    small.rows("d.jsonl", changed)
    ends = []
    for _ in range(3):
        try:
            report = small.run(TEXT + "budget: {calls: 1}\n", resume="auto")
            LEDGER["middle"](report.folder / "run.db")
        except LlmpipeError as err:
            ends.append(err.exit_code)
    assert set(ends) <= {1}
    report = small.run(TEXT, resume="auto")
    assert (report.exit_code, len(small.outputs(report, "two"))) == (0, len(ROWS))
    assert {info.run_id for info in list_runs(small.root / "output" / "x")} >= {first.run_id, report.run_id}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"last": 3}', '{"last": {"finished_at": "x"}}'])
def test_a_damaged_status_file_is_replaced(small: Project, text: str) -> None:
    finished(small)
    path = small.root / "output" / "x" / "status.json"
    path.write_text(text)
    report = finished(small)
    assert json.loads(path.read_text())["last"]["run"] == report.run_id


def test_a_run_without_its_write_ahead_log_is_not_half_read(small: Project) -> None:
    """A copy of a killed run's ledger without its log is an older state of it, or none at all."""
    whole(small, finished(small))
    copy = small.root / "output" / "x" / "c0ffee"
    shutil.copytree(list_runs(small.root / "output" / "x")[0].folder, copy)
    (copy / "run.db").write_bytes((copy / "run.db").read_bytes()[:4096])
    whole(small, small.run(TEXT, resume="auto"))
