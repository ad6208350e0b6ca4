"""Ledgers of other versions: an older one is read as it stands and extended before it is written, a newer one refused.

The statements of `ledger_schema.TABLES` say what every table has. What an older file lacks is found by comparing its
columns with them, so a new column needs no code here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

from llmpipe.engine import ledger_schema as schema
from llmpipe.errors import StorageError
from llmpipe.frozen import frozen

_CHANGES = {  # statements that a ledger needs on its way to a version
    2: ("UPDATE datasets SET sha256 = '', head_sha256 = ''",),  # digests of what was in the files after they were read
}


class LedgerUnreadable(StorageError):
    """A file that should be a run's ledger is damaged, incomplete or something else."""

    code = "X931"
    title = "the ledger of a run cannot be read"
    advice = (
        "Start a new run (without --resume RUN, or with --resume auto): responses that are in the cache are not paid"
        " for again. `llmpipe runs rm RUN` removes the unreadable run."
    )


class DamagedValue(LedgerUnreadable):
    """A value in an intact ledger that is not what was written."""


class LedgerTooNew(LedgerUnreadable):
    """A ledger that a newer llmpipe wrote; it is left as it is."""

    code = "X932"
    title = "a run was made by a newer llmpipe"
    advice = "Upgrade llmpipe to continue this run, or start a new run with this version."
    exit_code = 2


@frozen
class _Column:
    name: str
    declared: str  # type and constraint, as ALTER TABLE takes them
    default: str  # an SQL literal


@cache
def _declared() -> dict[str, tuple[_Column, ...]]:
    """The columns of every table of this version."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(schema.TABLES)
        names = [name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: tuple(_columns(empty, name)) for name in names}


def _columns(connection: sqlite3.Connection, table: str) -> Iterator[_Column]:
    for _, name, kind, notnull, default, _ in connection.execute(f"PRAGMA table_info({table})"):
        required = f" NOT NULL DEFAULT {default}" if notnull else f" DEFAULT {default}" if default is not None else ""
        yield _Column(name, f"{kind}{required}", default or "NULL")


def _lacking(connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[_Column, ...], bool]]:
    """Each table that lacks columns: its name, the columns, whether the table is there at all."""
    for table, columns in _declared().items():
        there = {row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")}
        missing = tuple(column for column in columns if column.name not in there)
        if missing:
            yield table, missing, bool(there)


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerUnreadable or LedgerTooNew for a version that is not known here; sqlite3.Error."""
    found = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    if found is None or not str(found[0]).isdecimal():
        raise LedgerUnreadable(f"the ledger {path} does not say its version")
    version = int(found[0])
    if version > schema.VERSION:
        raise LedgerTooNew(
            f"the ledger {path} is of version {version}; this llmpipe reads versions up to {schema.VERSION}"
        )


def read_as_current(connection: sqlite3.Connection) -> None:
    """Let queries find every column of this version, with its default where the file has none. Writes nothing."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for table, missing, exists in list(_lacking(connection)):
        added = ", ".join(f"{column.default} AS {column.name}" for column in missing)
        source = f"*, {added} FROM main.{table}" if exists else f"{added} WHERE 0"
        connection.execute(f"CREATE TEMP VIEW {table} AS SELECT {source}")  # shadows main's table of that name


def make_current(connection: sqlite3.Connection) -> None:
    """Create what a ledger of an older version, or a new one, lacks. All of it or nothing. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        before = _version_or_none(connection)
        for statement in _statements(schema.TABLES):
            connection.execute(statement)
        for table, missing, _ in list(_lacking(connection)):
            for column in missing:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column.name} {column.declared}")
        for version in range((before or schema.VERSION) + 1, schema.VERSION + 1):
            for statement in _CHANGES.get(version, ()):
                connection.execute(statement)
        _make_views(connection)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (str(schema.VERSION),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version_or_none(connection: sqlite3.Connection) -> int | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return None
    found = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    return None if found is None else int(found[0])


def _make_views(connection: sqlite3.Connection) -> None:
    for statement in _statements(schema.VIEWS):
        name = statement.split()[2]  # CREATE VIEW name
        kept = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ?", (name,)).fetchone()
        if kept is None or kept[0] != statement:
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(statement)


def _statements(script: str) -> list[str]:
    return [text.strip() for text in script.split(";") if text.strip()]
