"""A ledger to be thrown away: a plan writes into it what a run would find, on one thread and without waiting."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import Row
from llmpipe.errors import StorageError

_GROUP = 2000  # rows that wait to be written

ASKED = """
CREATE TABLE IF NOT EXISTS asked (
    step TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, why TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS asked_of ON asked (step, kind);
"""
ASK = "INSERT INTO asked (step, item, kind, why) VALUES (?, ?, ?, ?)"


class NoScratch(StorageError):
    """There is no room for what a plan writes down on its way."""

    title = "a plan has no room for its scratch file"
    advice = "Free some space, or name another folder in TMPDIR. Nothing was sent."


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of its own for what a plan writes down on its way, removed with all in it. Raises NoScratch."""
    try:
        made = tempfile.TemporaryDirectory(prefix="llmpipe-plan-")
    except OSError as err:
        raise NoScratch(f"a folder for temporary files cannot be made: {err}") from err
    with made as name:
        yield Path(name)


class ScratchLedger(Ledger):
    """A Ledger whose rows are in the file when they are looked for, and whose `commit` is done at once.

    Nothing survives a crash and nothing has to. It has one table more, `asked`: the items of which a model would be
    asked, and why.
    """

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StorageError if the file cannot be written or is of another version."""
        self._waiting: list[tuple[str, Row]] = []
        super().__init__(path)

    def _begin(self) -> None:
        self._done: asyncio.Future[None] | None = None
        self._writer.execute("PRAGMA synchronous = OFF")
        self._writer.executescript(ASKED)

    def put(self, sql: str, row: Row = ()) -> None:
        """Queue one statement. Raises NoScratch if the file cannot be written."""
        self._waiting.append((sql, row))
        if len(self._waiting) >= _GROUP:
            self._flush()

    def commit(self, sql: str = "", row: Row = ()) -> asyncio.Future[None]:
        """Queue one statement (or none); the future is done."""
        if sql:
            self.put(sql, row)
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
            self._done.set_result(None)
        return self._done

    def rows(self, sql: str, args: Row = ()) -> list[tuple[Any, ...]]:
        """All rows of a small query over what was put."""
        self._flush()
        return super().rows(sql, args)

    def scan(self, sql: str, args: Row = (), *, size: int = 500) -> Iterator[list[tuple[Any, ...]]]:
        """A large query over what was put, in blocks of `size` rows."""
        self._flush()
        yield from super().scan(sql, args, size=size)

    def close(self) -> None:
        """Close the file; what was not written is not needed."""
        self._waiting.clear()
        self._writer.close()
        self._db.close()

    def _flush(self) -> None:
        """Write what waits, strictly in its order: nobody has waited for one row before the next was put."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for sql, entries in groupby(waiting, key=itemgetter(0)):
                self._writer.executemany(sql, [row for _, row in entries])
            self._writer.execute("COMMIT")
        except Exception as err:
            raise NoScratch(f"{self.path.parent}: {err}") from err
