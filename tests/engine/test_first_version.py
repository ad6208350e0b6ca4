"""Runs and caches that version 0.1.0 left are read and continued; what a newer version left is refused as it is."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_schema import TABLES, VERSION
from llmpipe.engine.ledger_versions import LedgerTooNew, LedgerUnreadable
from llmpipe.engine.runs import find_run
from llmpipe.engine.story import item_story, step_items
from tests.engine.conftest import Project

FILES = Path(__file__).parent / "first_version"  # made by 0.1.0 on six rows, of which r2 fails its check
RUNS = ("finished", "failed", "killed", "partial")


def restored(script: Path, database: Path) -> Path:
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(sqlite3.connect(database)) as made:
        made.executescript(script.read_text(encoding="utf-8"))
    return database


@pytest.fixture
def old(project: Project) -> Project:
    for name in ("x.yaml", "d.jsonl"):
        shutil.copy(FILES / name, project.root / "pipelines" / name)
    return project


def with_run(project: Project, name: str) -> Path:
    said = json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))
    folder = project.root / "output" / "x" / str(said["run"])
    restored(FILES / f"{name}.sql", folder / "run.db")
    shutil.copy(FILES / f"{name}.json", folder / "run.json")
    return folder


def calls(folder: Path) -> int:
    with LedgerReader(folder / "run.db") as ledger:
        return int(ledger.value("SELECT COUNT(*) FROM attempts"))


def columns() -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(TABLES)
        tables = [name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [row[1] for row in empty.execute(f"PRAGMA table_info({table})")] for table in tables}


@pytest.mark.parametrize("name", RUNS)
def test_every_column_of_today_can_be_asked_for_and_the_file_stays_as_it_is(old: Project, name: str) -> None:
    path = with_run(old, name) / "run.db"
    before = path.read_bytes()
    with LedgerReader(path) as ledger:
        for table, names in columns().items():
            ledger.rows(f"SELECT {', '.join(names)} FROM {table}")
        assert ledger.value("SELECT COUNT(*) FROM items") in (5, 7)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", RUNS)
def test_its_items_are_shown(old: Project, name: str) -> None:
    info = find_run(old.root / "output", with_run(old, name).name, "x")
    listed = {row.key: row.status for row in step_items(info, "one")}
    assert listed["r1"] == "succeeded"
    assert listed["r2"] == "failed"
    assert item_story(info, "one", "r1").output == "echo: r1 t1"


@pytest.mark.parametrize("how", ["auto", "last"])
def test_a_run_that_was_killed_is_continued(old: Project, how: str) -> None:
    folder = with_run(old, "killed")
    had = calls(folder)
    report = old.run(resume=how)
    assert (report.exit_code, report.run_id) == (0, folder.name)
    assert old.outputs(report, "two") == [f"<echo: r{n} t{n}>" for n in (0, 1, 3, 4, 5)]
    assert calls(folder) - had == 2


def test_a_finished_run_is_carried_over_without_a_call(old: Project) -> None:
    folder = with_run(old, "finished")
    report = old.run(resume="auto")
    assert report.exit_code == 0
    assert report.run_id != folder.name
    assert len(old.outputs(report, "two")) == 5
    assert calls(report.folder) == 0


def test_rows_that_changed_while_the_first_version_read_them_are_run(old: Project) -> None:
    """That version noted a digest of the file as it was after the rows had been read, which may be that of new rows."""
    folder = with_run(old, "finished")
    with closing(sqlite3.connect(folder / "run.db")) as ledger, ledger:
        ledger.execute("UPDATE items SET data = replace(data, 't4', 'older'), digest = x'00' WHERE key = 'r4'")
        ledger.execute("UPDATE results SET digest = x'00' WHERE item = (SELECT id FROM items WHERE key = 'r4')")
    report = old.run(resume="auto", cache="off")
    assert calls(report.folder) == 1


def test_its_failed_items_are_retried_in_place(old: Project) -> None:
    folder = with_run(old, "failed")
    text = (FILES / "x.yaml").read_text(encoding="utf-8").replace("min_success: 1", "min_success: 100%")
    report = old.run(text, retry_failed="last")
    assert (report.exit_code, report.run_id) == (1, folder.name)
    assert calls(folder) == 6 + 1


def test_a_run_of_some_rows_is_no_run_to_carry_over(old: Project) -> None:
    folder = with_run(old, "partial")
    report = old.run(resume="auto", cache="off")
    assert (report.exit_code, report.run_id == folder.name) == (0, False)
    assert calls(report.folder) == 6


def test_its_cached_responses_are_used(old: Project) -> None:
    restored(FILES / "cache.sql", old.root / "output" / ".cache" / "cache.db")
    report = old.run()
    assert report.exit_code == 0
    assert [counts.cached for counts in report.steps if counts.id == "one"] == [5]
    assert calls(report.folder) == 0


@pytest.mark.parametrize("name", RUNS)
def test_opening_it_to_write_makes_it_one_of_today(old: Project, name: str) -> None:
    path = with_run(old, name) / "run.db"
    asyncio.run(opened(path))
    with closing(sqlite3.connect(path)) as ledger:
        assert ledger.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() == (str(VERSION),)
        for table, names in columns().items():
            assert {row[1] for row in ledger.execute(f"PRAGMA table_info({table})")} == set(names)


async def opened(path: Path) -> None:
    Ledger(path).close()


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (str(VERSION + 1), LedgerTooNew, f"is of version {VERSION + 1}; this llmpipe reads versions up to {VERSION}"),
        ("two", LedgerUnreadable, "does not say its version"),
        (None, LedgerUnreadable, "does not say its version"),
    ],
)
def test_a_ledger_of_an_unknown_version_is_refused_and_left_alone(
    tmp_path: Path, found: str | None, kind: type[Exception], words: str
) -> None:
    path = restored(FILES / "finished.sql", tmp_path / "run.db")
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("DELETE FROM meta WHERE name = 'version'")
        if found is not None:
            ledger.execute("INSERT INTO meta VALUES ('version', ?)", (found,))
    before = path.read_bytes()
    with pytest.raises(kind, match=words):
        asyncio.run(opened(path))
    with pytest.raises(kind, match=words):
        LedgerReader(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.db"]
