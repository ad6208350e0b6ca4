"""Reading a ledger: small queries and long walks, by its writer or by anyone else."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from llmpipe.client.damage import is_damage
from llmpipe.client.read_only import read_only
from llmpipe.engine.ledger_versions import DamagedValue, LedgerUnreadable, check_version, read_as_current
from llmpipe.errors import StorageError

Row = Sequence[Any] | Mapping[str, Any]
_no_trace: ContextVar[bool] = ContextVar("no_trace", default=False)


@contextmanager
def leaving_no_trace() -> Iterator[None]:
    """Within the block ledgers are opened so that not even SQLite's files beside them are made or touched.

    Not for a ledger that this process writes to: what is written after it was opened may not be seen.
    """
    before = _no_trace.set(True)
    try:
        yield
    finally:
        _no_trace.reset(before)


def reading_uri(path: Path) -> str:
    """How a ledger is opened to be read."""
    return read_only(path) if _no_trace.get() else f"{path.resolve().as_uri()}?mode=ro"


def reason(path: Path, verb: str, err: sqlite3.Error | OSError) -> StorageError:
    """What SQLite says of a ledger, as an error that tells damage from trouble with the disk."""
    damaged = is_damage(err) or (isinstance(err, sqlite3.OperationalError) and "no such table" in str(err))
    kind = LedgerUnreadable if damaged else StorageError
    return kind(f"the ledger {path} cannot be {verb}: {err}")


def from_json(text: str) -> Any:
    """A value that a ledger has as JSON. Raises DamagedValue."""
    try:
        return json.loads(text)
    except ValueError as err:
        raise DamagedValue(f"a value in the ledger is damaged, {text!r:.80} is no JSON: {err}") from err


class LedgerReader:
    """A ledger opened to be read. Safe beside a run that writes it, and for several threads (code of the user's own
    walks lists of results in threads)."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises StorageError; LedgerUnreadable if it is missing or no ledger that this version knows."""
        self.path = path
        self._one_at_a_time = threading.Lock()
        self.between_blocks: Callable[[], None] = lambda: None  # may raise, to end a long walk
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where the folder cannot be entered
            raise LedgerUnreadable(f"there is no ledger {path}")
        if not os.access(path, os.R_OK):
            raise LedgerUnreadable(f"the ledger {path} cannot be read: permission denied")
        try:
            self._db = sqlite3.connect(
                reading_uri(path), uri=True, isolation_level=None, timeout=30, check_same_thread=False
            )
        except sqlite3.Error as err:
            raise reason(path, "read", err) from err
        try:
            check_version(self._db, path)
            read_as_current(self._db)
        except sqlite3.Error as err:
            self._db.close()
            raise reason(path, "read", err) from err
        except StorageError:
            self._db.close()
            raise

    def rows(self, sql: str, args: Row = ()) -> list[tuple[Any, ...]]:
        """All rows of a small query over what is committed."""
        try:
            with self._one_at_a_time:
                return self._db.execute(sql, args).fetchall()
        except sqlite3.DatabaseError as err:
            raise self._fault(err) from err

    def value(self, sql: str, args: Row = ()) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(sql, args)
        return found[0][0] if found else None

    def scan(self, sql: str, args: Row = (), *, size: int = 500) -> Iterator[list[tuple[Any, ...]]]:
        """A large query, in blocks of `size` rows."""
        try:
            with self._one_at_a_time:
                cursor = self._db.execute(sql, args)
                block = cursor.fetchmany(size)
            while block:
                yield block
                self.between_blocks()
                with self._one_at_a_time:
                    block = cursor.fetchmany(size)
        except sqlite3.DatabaseError as err:
            raise self._fault(err) from err

    def check(self) -> None:
        """Raise LedgerUnreadable if the file's structure is damaged anywhere. Reads all of it."""
        found = self.value("PRAGMA main.quick_check(1)")
        if found != "ok":
            raise LedgerUnreadable(f"the ledger {self.path} is damaged: {' '.join(str(found).split())}")

    def _fault(self, err: sqlite3.DatabaseError) -> StorageError:
        if isinstance(err, sqlite3.ProgrammingError):  # a statement of ours that is wrong, or a reader that is closed
            raise err
        return reason(self.path, "read", err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
