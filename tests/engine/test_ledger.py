"""The ledger: what was committed is there, in order, and a fault is told to everybody who waits."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from llmpipe.engine import entering, known
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader, from_json, leaving_no_trace
from llmpipe.engine.ledger_schema import INSERT_ITEM, INTEND, SETTLE
from llmpipe.engine.ledger_versions import DamagedValue, LedgerUnreadable
from llmpipe.errors import LlmpipeError, StorageError
from tests.short_of_memory import run_short_of_memory


def item(id: int, key: str) -> tuple[object, ...]:
    return (id, 1, key, None, f"{id:08x}", "{}", b"")


def test_a_commit_makes_its_row_and_all_before_it_readable(tmp_path: Path) -> None:
    async def main() -> list[tuple[str]]:
        ledger = Ledger(tmp_path / "run.db")
        for n in range(1000):
            ledger.put(INSERT_ITEM, item(ledger.next_id("items"), f"k{n}"))
        await ledger.commit()
        found = ledger.rows("SELECT key FROM items ORDER BY id")
        ledger.close()
        return found

    assert asyncio.run(main()) == [(f"k{n}",) for n in range(1000)]


def test_what_is_queued_at_the_end_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger(tmp_path / "run.db")
        ledger.put(INSERT_ITEM, item(1, "a"))
        ledger.close()

    asyncio.run(main())
    with LedgerReader(tmp_path / "run.db") as reader:
        assert reader.rows("SELECT key FROM items") == [("a",)]


def test_numbers_go_on_where_an_earlier_process_stopped(tmp_path: Path) -> None:
    async def main() -> int:
        ledger = Ledger(tmp_path / "run.db")
        id = ledger.next_id("items")
        await ledger.commit(INSERT_ITEM, item(id, f"k{id}"))
        ledger.close()
        return id

    assert [asyncio.run(main()) for _ in range(3)] == [1, 2, 3]


def test_a_writer_without_memory_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger(tmp_path / "run.db")
        with pytest.raises(StorageError, match="not enough memory"):
            await asyncio.wait_for(ledger.commit(INSERT_ITEM, item(1, "a")), 60)
        with pytest.raises(StorageError, match="not enough memory"):
            ledger.put(INSERT_ITEM, item(2, "b"))
        ledger.close()

    run_short_of_memory(main())


def test_an_attempt_is_settled_after_its_intent_even_in_one_group(tmp_path: Path) -> None:
    async def main() -> list[tuple[str]]:
        ledger = Ledger(tmp_path / "run.db")
        settled = ("ok", None, 200, None, 0.1, None, "yes", 1, 2, None, None, 0.1, "{}", None, None, "m", 7)
        ledger.put(SETTLE, ("ok", *[None] * 14, "m", 99))
        ledger.put(INTEND, (7, 1, 1, 1, "r", "k", 1, "m", 0.0, None, None, None, "maybe"))
        ledger.put(SETTLE, settled)
        await ledger.commit()
        found = ledger.rows("SELECT outcome FROM attempts WHERE id = 7")
        ledger.close()
        return found

    assert asyncio.run(main()) == [("ok",)]


def test_a_fault_of_the_writer_reaches_everybody_who_waits(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger(tmp_path / "run.db")
        with pytest.raises(StorageError, match="cannot be written"):
            await ledger.commit("INSERT INTO nowhere VALUES (1)")
        with pytest.raises(StorageError):
            ledger.put(INSERT_ITEM, item(1, "a"))
        ledger.close()

    asyncio.run(main())


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger(tmp_path / "run.db")
        await ledger.commit("UPDATE meta SET value = '99' WHERE name = 'version'")
        ledger.close()
        with pytest.raises(StorageError, match="version 99"):
            Ledger(tmp_path / "run.db")

    asyncio.run(main())


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(b"not a database, but somebody's data " * 100)
    with pytest.raises(StorageError):
        Ledger(path)
    assert path.read_bytes().startswith(b"not a database")


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    async def main() -> None:
        Ledger(tmp_path / "run.db").close()

    asyncio.run(main())
    assert (tmp_path / "run.db").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_keeps_what_was_committed(tmp_path: Path) -> None:
    """The file size limit stands for a disk that is full: writes fail in the middle, rows before it stay."""
    path = tmp_path / "run.db"
    code = f"""
        import asyncio, resource, signal
        from pathlib import Path
        from llmpipe.engine.ledger import Ledger
        from llmpipe.engine.ledger_schema import INSERT_ITEM
        from llmpipe.errors import LlmpipeError, StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def main():
            ledger = Ledger(Path({str(path)!r}))
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            done = 0
            try:
                for n in range(1, 100_000):
                    await ledger.commit(INSERT_ITEM, (n, 1, f"k{{n}}", None, "", "x" * 2000, b""))
                    done = n
            except StorageError as err:
                print(done, err, err.advice, sep="|")
        asyncio.run(main())
    """
    out = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, timeout=60, check=False)
    number, said, advice = out.stdout.strip().split("|")
    done = int(number)
    assert done > 10
    assert said.endswith("(a file reached the size limit of this process (ulimit -f))")
    assert advice == "Raise the limit, then continue with --resume."
    with LedgerReader(path) as reader:
        kept = reader.value("SELECT COUNT(*) FROM items")
    assert kept >= done
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000


@pytest.mark.parametrize(
    "sql", [known.CELLS, entering.THERE, entering.LOST, entering.DROP_RESULTS, f"{entering.LIVE} AND parent = 1"]
)
def test_what_is_asked_for_every_item_reads_no_whole_table(tmp_path: Path, sql: str) -> None:
    """Else a run that goes on takes time by the square of its rows."""

    async def work() -> list[str]:
        ledger = Ledger(tmp_path / "run.db")
        plan = ledger.rows(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))
        ledger.close()
        return [row[-1] for row in plan]

    plan = asyncio.run(work())
    assert [line for line in plan if line.startswith("SCAN") and "json_each" not in line and "steps" not in line] == []
    assert not any("items_in_order (scope=?)" in line and "parent" in sql for line in plan)


def test_a_row_that_the_ledger_cannot_take_is_told_to_whoever_waits(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger(tmp_path / "run.db")
        try:
            await asyncio.wait_for(ledger.commit(INSERT_ITEM, item(1, "\udcff")), 60)
        finally:
            ledger.close()

    with pytest.raises(LlmpipeError, match="surrogates not allowed"):
        asyncio.run(main())


def made_by(path: Path, *statements: str) -> None:
    """A ledger of today to which these are done."""

    async def main() -> None:
        Ledger(path).close()

    asyncio.run(main())
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join(statements))


OLDER = (
    "INSERT INTO datasets VALUES ('d', 'abc', 3, 5, 'def')",
    "INSERT INTO items (id, scope, key, ord, data, digest) VALUES (1, 1, 'a', '1', '{}', x'')",
    "INSERT INTO results (step, item, status, digest, finished_at) VALUES (1, 1, 'failed', x'', 1.0)",
    "UPDATE meta SET value = '1' WHERE name = 'version'",
    "ALTER TABLE results DROP COLUMN permanent",
    "ALTER TABLE results DROP COLUMN notes",
    "DROP TABLE changed_items",
    "DROP VIEW spending",
    "CREATE VIEW spending AS SELECT 1 AS step",
)
NEWER = "SELECT permanent, notes, (SELECT COUNT(*) FROM changed_items) FROM results"


def test_a_ledger_of_an_older_version_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, *OLDER)
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        assert reader.rows(NEWER) == [(0, None, 0)]
        assert reader.rows("SELECT sha256, head_sha256 FROM datasets") == [("abc", "def")]
    assert path.read_bytes() == before


def test_a_ledger_of_an_older_version_is_extended_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, *OLDER)

    async def main() -> None:
        ledger = Ledger(path)
        assert ledger.rows(NEWER) == [(0, None, 0)]
        await ledger.commit("UPDATE results SET permanent = 1, notes = 'n'")
        await ledger.commit("INSERT INTO changed_items VALUES (1)")
        ledger.close()

    asyncio.run(main())
    with closing(sqlite3.connect(path)) as found:
        assert found.execute(NEWER).fetchall() == [(1, "n", 1)]
        assert found.execute("SELECT value FROM meta WHERE name = 'version'").fetchall() == [("2",)]
        # what was in the files after they were read says nothing of the rows
        assert found.execute("SELECT * FROM datasets").fetchall() == [("d", "", 3, 5, "")]
        assert found.execute("SELECT model, attempts FROM spending").fetchall() == []
        assert found.execute("SELECT step, key FROM answers").fetchall() == []


def test_a_ledger_of_this_version_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, OLDER[0])
    made_by(path, "SELECT 1")
    with LedgerReader(path) as reader:
        assert reader.rows("SELECT * FROM datasets") == [("d", "abc", 3, 5, "def")]


def test_a_ledger_that_cannot_be_extended_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, *OLDER, "DROP VIEW spending", "CREATE TABLE spending (step)")

    async def main() -> None:
        with pytest.raises(StorageError, match="cannot be used"):
            Ledger(path)

    asyncio.run(main())
    with closing(sqlite3.connect(path, timeout=0)) as found:
        found.execute("BEGIN EXCLUSIVE")  # nobody holds it
        assert found.execute("SELECT value FROM meta WHERE name = 'version'").fetchall() == [("1",)]
        assert found.execute("SELECT * FROM datasets").fetchall() == [("d", "abc", 3, 5, "def")]
        assert "permanent" not in {row[1] for row in found.execute("PRAGMA table_info(results)")}


def test_a_database_that_is_no_ledger_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, "DROP TABLE meta")
    with pytest.raises(LedgerUnreadable, match="cannot be read: no such table"):
        LedgerReader(path)


def test_small_queries_long_walks_and_a_check_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, *(f"INSERT INTO scopes VALUES ({n}, 's{n}')" for n in range(1, 6)))
    with LedgerReader(path) as reader:
        sql = "SELECT id FROM scopes WHERE id >= ? ORDER BY id"
        assert (reader.value(sql, (2,)), reader.value(sql, (9,))) == (2, None)
        turns: list[int] = []
        reader.between_blocks = lambda: turns.append(1)
        assert list(reader.scan(sql, (1,), size=2)) == [[(1,), (2,)], [(3,), (4,)], [(5,)]]
        assert len(turns) == 3
        assert list(reader.scan(sql, (9,))) == []
        assert [len(block) for block in reader.scan("SELECT 1 FROM scopes a, scopes b, scopes c, scopes d")] == [
            500,
            125,
        ]
        reader.check()
        with pytest.raises(LedgerUnreadable, match="cannot be read: no such table"):
            reader.rows("SELECT 1 FROM nowhere")
        with pytest.raises(LedgerUnreadable, match="cannot be read: no such table"):
            list(reader.scan("SELECT 1 FROM nowhere"))
    with pytest.raises(sqlite3.ProgrammingError):
        reader.rows(sql, (1,))
    with pytest.raises(LedgerUnreadable, match="there is no ledger"):
        LedgerReader(tmp_path / "other.db")
    with pytest.raises(LedgerUnreadable, match="there is no ledger"):
        LedgerReader(tmp_path)


def test_a_value_that_is_no_json_is_damage() -> None:
    assert from_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(DamagedValue, match="is no JSON"):
        from_json("{'a'")


def test_a_reader_may_leave_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    made_by(path, OLDER[0])
    inside = {p.name for p in tmp_path.iterdir()}
    with leaving_no_trace(), LedgerReader(path) as reader:
        assert reader.value("SELECT rows FROM datasets") == 3
        assert {p.name for p in tmp_path.iterdir()} == inside == {"run.db"}
    with LedgerReader(path) as reader:
        assert reader.value("SELECT rows FROM datasets") == 3
        assert (tmp_path / "run.db-shm").exists()


def test_whether_the_file_is_still_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    async def main() -> None:
        ledger = Ledger(path)
        assert (ledger.is_in_place, ledger.failed) == (True, None)
        path.rename(tmp_path / "away.db")
        assert ledger.is_in_place is False
        path.write_bytes(b"another")
        assert ledger.is_in_place is False
        ledger.close()

    asyncio.run(main())
