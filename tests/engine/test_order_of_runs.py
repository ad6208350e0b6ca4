"""Runs are in the order in which they were made, and last as long as they worked, whatever the clock says."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmpipe.cli.main import main
from llmpipe.cli.runs import all_runs, superfluous
from llmpipe.client.encoding import seal, unseal
from llmpipe.config.environment import Environment
from llmpipe.config.load import load_pipeline
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import RunReport
from llmpipe.engine.run import run_pipeline
from llmpipe.engine.runs import find_run, list_runs, remove_run
from llmpipe.engine.sequence import next_number
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.engine.test_resume import rows as many
from tests.engine.test_resume import start, two

TEXT = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
models: {m: {provider: echo, model: demo}}
defaults: {model: m}
steps: [{id: one, foreach: datasets.d, prompt: "{{ item.id }}"}]
"""
YEAR = 366 * 86400.0


def home(project: Project) -> Path:
    return project.root / "output" / "x"


def change(report: RunReport, **said: Any) -> None:
    path = report.folder / "run.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (data | said).items() if value is not None}))


def moved(report: RunReport, seconds: float) -> None:
    """As if the clock had been ahead by so much while the run was at work."""
    for path in (report.folder / "run.json", report.folder / "run.db", report.folder):
        os.utime(path, (time.time() + seconds,) * 2)
    data = json.loads((report.folder / "run.json").read_text())
    ended = data["finished_at"]
    change(report, started_at=data["started_at"] + seconds, finished_at=ended and ended + seconds)
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger, ledger:
        ledger.execute("UPDATE results SET finished_at = finished_at + ?", (seconds,))
        ledger.execute(
            "UPDATE invocations SET started_at = started_at + ?, finished_at = finished_at + ?", [seconds] * 2
        )
        ledger.execute("UPDATE attempts SET started_at = started_at + ?", (seconds,))


@pytest.fixture
def small(project: Project) -> Project:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(4)])
    return project


@pytest.mark.parametrize("seconds", [YEAR, 3600.0, 0.0, -3600.0, -YEAR])
def test_the_last_run_is_the_one_that_was_made_last(small: Project, seconds: float) -> None:
    first = small.run(TEXT)
    second = small.run(TEXT)
    moved(first, seconds)
    third = small.run(TEXT)
    moved(second, -seconds)
    made = [first.run_id, second.run_id, third.run_id]
    assert [info.run_id for info in reversed(list_runs(home(small)))] == made
    assert [info.run_id for info in reversed(all_runs(small.root / "output"))] == made
    assert [info.number for info in reversed(list_runs(home(small)))] == [1, 2, 3]
    assert find_run(small.root / "output", "last", None).run_id == third.run_id
    assert (home(small) / "latest").readlink() == Path(third.run_id)
    assert json.loads((home(small) / "status.json").read_text())["last"]["run"] == third.run_id
    going = superfluous(list_runs(home(small)), keep=1, before=time.time() + 9 * YEAR)
    assert [info.run_id for info in going] == [second.run_id, first.run_id]
    assert small.run(TEXT, resume="auto").notes == (f"carrying over from run {third.run_id}",)
    assert small.run(TEXT, from_step="one").notes[0].startswith("building on run")


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_gc_keeps_the_runs_that_were_made_last(small: Project, seconds: float) -> None:
    first, second, third = small.run(TEXT), small.run(TEXT), small.run(TEXT)
    moved(first, seconds)
    moved(third, -seconds)
    assert main(["runs", "gc", "--keep", "2", "--output", str(small.root / "output")]) == 0
    assert {info.run_id for info in list_runs(home(small))} == {second.run_id, third.run_id}


def test_auto_continues_the_last_run_although_a_finished_one_is_of_next_year(small: Project) -> None:
    finished = small.run(TEXT)
    moved(finished, YEAR)
    stopped = small.run(TEXT + "budget: {calls: 1}\n", cache="off")
    assert stopped.exit_code == 6
    report = small.run(TEXT, resume="auto")
    assert (report.run_id, report.exit_code) == (stopped.run_id, 0)


def test_runs_of_several_pipelines_are_in_one_order(small: Project) -> None:
    small.write("y.yaml", TEXT)
    small.run(TEXT)

    other = run_pipeline(
        load_pipeline(small.root / "pipelines" / "y.yaml"),
        RunOptions(),
        environment=Environment({}),
        progress=small.seen,
    )
    moved(other, -YEAR)
    assert find_run(small.root / "output", None, None).run_id == other.run_id
    assert [info.pipeline for info in all_runs(small.root / "output")] == ["y", "x"]


def test_runs_without_a_number_come_first_by_their_time(small: Project) -> None:
    old = [small.run(TEXT), small.run(TEXT)]
    for report, at in zip(old, (2000.0, 1000.0), strict=True):
        change(report, number=None, version=None, started_at=at)
    new = small.run(TEXT)
    change(new, started_at=1.0)
    assert [info.run_id for info in list_runs(home(small))] == [new.run_id, old[0].run_id, old[1].run_id]


@pytest.mark.parametrize("left", [None, "", "many", "-3"])
def test_a_lost_counter_goes_on_above_the_runs_that_there_are(small: Project, left: str | None) -> None:
    made = [small.run(TEXT), small.run(TEXT)]
    counter = small.root / "output" / ".sequence"
    counter.unlink()
    if left is not None:
        counter.write_text(left)
    made.append(small.run(TEXT))
    assert [info.number for info in list_runs(home(small))] == [3, 2, 1]
    assert [info.run_id for info in reversed(list_runs(home(small)))] == [report.run_id for report in made]


def test_numbers_are_taken_one_at_a_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: next_number(tmp_path), range(100))) == list(range(1, 101))


@pytest.mark.parametrize("lost", ["run.json", "both"])
def test_a_run_that_lost_its_files_keeps_its_place(small: Project, lost: str) -> None:
    first, broken = small.run(TEXT), small.run(TEXT)
    (broken.folder / "run.json").write_text("{")
    if lost == "both":
        (broken.folder / "run.db").write_bytes(b"")
    os.utime(broken.folder, (1000.0, 1000.0))
    assert [info.run_id for info in list_runs(home(small))] == [broken.run_id, first.run_id]
    third = small.run(TEXT)
    found = [info.run_id for info in list_runs(home(small))]
    assert found[0] == third.run_id
    assert set(found) == {first.run_id, broken.run_id, third.run_id}


def test_an_older_run_that_is_continued_does_not_become_the_last(small: Project) -> None:
    older = small.run(TEXT + "budget: {calls: 1}\n", cache="off")
    newer = small.run(TEXT)
    assert small.run(TEXT, resume=older.run_id).exit_code == 0
    assert find_run(small.root / "output", "last", None).run_id == newer.run_id
    assert (home(small) / "latest").readlink() == Path(newer.run_id)
    remove_run(find_run(small.root / "output", newer.run_id, None))
    assert (home(small) / "latest").readlink() == Path(older.run_id)


@pytest.mark.parametrize("before", ["none", "an earlier run", "one that is gone"])
def test_latest_leads_to_a_run_that_was_killed_before_it_did(small: Project, before: str) -> None:
    earlier = small.run(TEXT)
    killed = small.run(TEXT + "budget: {calls: 1}\n", cache="off")
    link = home(small) / "latest"
    link.unlink()
    if before != "none":
        link.symlink_to(earlier.run_id if before == "an earlier run" else "abcdef")
    assert small.run(TEXT, resume=killed.run_id).exit_code == 0
    assert link.readlink() == Path(killed.run_id)


def lasted(report: RunReport) -> float:
    return float(json.loads((report.folder / "run.json").read_text())["duration_s"])


def test_the_time_of_several_processes_is_added_up(small: Project) -> None:
    first = small.run(TEXT + "budget: {calls: 1}\n", cache="off")
    change_duration(first, 100.0)
    moved(first, YEAR)
    second = small.run(TEXT, resume="last")
    both = lasted(second)
    assert 100.0 < both < 200.0
    assert second.duration_s < 100.0
    third = small.run(TEXT, resume="last")
    assert both < lasted(third) < 200.0
    assert find_run(small.root / "output", None, None).duration_s == lasted(third)


def change_duration(report: RunReport, seconds: float | None) -> None:
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger, ledger:
        ledger.execute("UPDATE invocations SET duration_s = ?", (seconds,))


@pytest.mark.parametrize("ends", [50.0, -50.0])
def test_the_time_of_a_process_that_kept_none_is_never_negative(small: Project, ends: float) -> None:
    first = small.run(TEXT + "budget: {calls: 1}\n", cache="off")
    change_duration(first, None)
    with closing(sqlite3.connect(first.folder / "run.db")) as ledger, ledger:
        ledger.execute("UPDATE invocations SET finished_at = started_at + ?", (ends,))
    second = small.run(TEXT, resume="last")
    assert lasted(second) >= max(ends, 0.0)
    assert lasted(second) < max(ends, 0.0) + 40.0


def test_what_an_earlier_process_made_counts_as_carried_although_its_clock_was_ahead(project: Project) -> None:
    project.rows("d.jsonl", many(30))
    with Answers(delay_s=0.01) as server:
        project.write("x.yaml", two(server))
        process = start(project)
        server.wait_for(30)
        process.kill()
        process.communicate()
        (info,) = list_runs(home(project))
        with closing(sqlite3.connect(info.folder / "run.db")) as ledger, ledger:
            ledger.execute("UPDATE results SET finished_at = finished_at + ?", (YEAR,))
            ((had,),) = ledger.execute("SELECT COUNT(*) FROM results").fetchall()
        report = project.run(resume="last")
    assert report.exit_code == 0
    assert sum(step.carried for step in report.steps) == had


@pytest.mark.parametrize(("off", "cached"), [(YEAR, 0), (3600.0, 4), (-3600.0, 4), (-YEAR, 0)])
def test_a_response_from_the_future_lasts_no_longer_than_its_time_to_live(
    small: Project, off: float, cached: int, sealed: Callable[..., None]
) -> None:
    text = TEXT.replace("{model: m}", "{model: m, cache: {ttl: 7d}}")
    small.run(text)
    sealed(small.root / "output" / ".cache" / "cache.db", off)
    report = small.run(text)
    assert [step.cached for step in report.steps] == [cached]


@pytest.fixture
def sealed() -> Callable[..., None]:
    """Moves the time of every stored response."""

    def move(database: Path, seconds: float) -> None:
        with closing(sqlite3.connect(database)) as cache, cache:
            for key, value in cache.execute("SELECT key, value FROM Cache").fetchall():
                stored = unseal(bytes(value), key=key)
                assert stored is not None
                again = seal(stored.response, material=stored.material, at=stored.at + seconds)
                cache.execute("UPDATE Cache SET value = ? WHERE key = ?", (again, key))

    return move
