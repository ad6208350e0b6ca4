"""The run's SQLite file: one writer thread off the event loop that commits in groups, and reads beside it.

    event loop ── put(sql, row) ──────────► queue ──► writer thread: BEGIN … many rows … COMMIT ──► futures resolve
               ── await commit(sql, row) ─► queue ──┘

`put` only keeps the order; `commit` returns when the row, and every row queued before it, is in the file. That is in
WAL mode with `synchronous=NORMAL`: a killed process loses nothing that was committed; a power cut may lose the last
moments, never integrity (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from llmpipe.client.batches import gather
from llmpipe.engine import ledger_schema as schema
from llmpipe.engine.ledger_read import LedgerReader, Row, reading_uri, reason
from llmpipe.engine.ledger_versions import LedgerUnreadable, make_current
from llmpipe.errors import InternalError, LlmpipeError, StorageError
from llmpipe.local_faults import local_fault, why_unwritable

_Entry = tuple[str, Row, asyncio.Future[None] | None]
_BREATH_S = 0.05  # in which others may give memory back
_GROUP = 4000  # rows a transaction at the most, so that a future never waits for long


class Ledger(LedgerReader):
    """The open ledger of a run. Create and use it on the event loop's thread; only the writer thread writes."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it. Raises StorageError; LedgerUnreadable, with the file as it was, if it is no ledger
        that this version knows."""
        if path.exists():
            LedgerReader(path).close()
        try:
            self._writer = _opened(path)
        except sqlite3.Error as err:
            raise _fault(path, "used", err) from err
        with ExitStack() as faulty:
            faulty.callback(self._writer.close)
            super().__init__(path)
            faulty.callback(super().close)
            self._ids = {t: self.value(f"SELECT COALESCE(MAX(id), 0) FROM {t}") for t in ("items", "attempts")}  # noqa: S608 - fixed names
            self._place = _identity(path)
            self._failed: LlmpipeError | None = None
            self._begin()
            faulty.pop_all()

    def _begin(self) -> None:
        """Start the writer."""
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._taken: list[_Entry | None] = []  # from the queue, and not told yet what became of it
        self._out_of_memory = False
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    @property
    def is_in_place(self) -> bool:
        """False once the file was removed, moved or replaced: what is written then goes where nobody finds it."""
        return _identity(self.path) == self._place

    def next_id(self, table: str) -> int:
        """A fresh id for `items` or `attempts`."""
        self._ids[table] += 1
        return int(self._ids[table])

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, sql: str, row: Row = ()) -> None:
        """Queue one statement; it is in the file when a later `commit` returns. Raises StorageError after a fault."""
        if self._failed:
            raise self._failed
        self._queue.put((sql, row, None))

    def commit(self, sql: str = "", row: Row = ()) -> asyncio.Future[None]:
        """Queue one statement (or none); the future is done when it and all before it are in the file."""
        if self._failed:
            raise self._failed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((sql, row, future))
        return future

    def close(self) -> None:
        """Write what is queued, check the WAL in, and close."""
        self._queue.put(None)
        self._thread.join()
        super().close()

    @property
    def failed(self) -> LlmpipeError | None:
        """The fault that stopped the writer, if any: nothing queued after it is in the file."""
        return self._failed

    def _write(self) -> None:
        """The writer thread: it outlives every fault, so that whoever waits hears of it."""
        ended = False
        while not ended:
            try:
                ended = self._write_next()
            except MemoryError:  # there may be none even to say so; the next round does
                self._out_of_memory = True
                time.sleep(_BREATH_S)
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, MemoryError) as err:  # the rows stay in the WAL, where the next opening finds them
            self._failed = self._failed or _fault(self.path, "checked in", err)
        self._writer.close()

    def _write_next(self) -> bool:
        """Write what has piled up in one transaction and tell who waits for it; whether it was the last."""
        if self._out_of_memory and self._failed is None:
            self._failed = _fault(self.path, "written", MemoryError("there is not enough memory"))
        group = self._taken
        if not group:
            group.append(self._queue.get())
            gather(self._queue)
            while len(group) < _GROUP and not self._queue.empty():
                group.append(self._queue.get())
        work = [entry for entry in group if entry is not None]
        if self._failed is None:
            try:
                _write_group(self._writer, work)
            except (sqlite3.Error, OSError, MemoryError) as err:
                self._failed = _fault(self.path, "written", err)
            except Exception as err:  # noqa: BLE001 - whoever waits for the commit has to hear of any fault
                self._failed = InternalError(f"the ledger could not take a row: {type(err).__name__}: {err}")
                self._failed.__cause__ = err
        _tell([future for _, _, future in work if future is not None], self._failed)
        ended = None in group
        group.clear()  # large rows are not kept until there is more to write
        return ended


def _fault(path: Path, verb: str, err: sqlite3.Error | OSError | MemoryError) -> StorageError:
    """What happened, in the database's words and in those of the machine below it."""
    said = reason(path, verb, err) if isinstance(err, sqlite3.Error) else StorageError(f"the ledger {path}: {err}")
    cause = local_fault(err) or (None if isinstance(said, LedgerUnreadable) else why_unwritable(path))
    return said if cause is None else StorageError(f"{said} ({cause})").advising(cause.advice)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -4000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that writes, to a ledger of this version. Raises sqlite3.Error."""
    connection = _connect(path)
    try:
        path.chmod(0o600)
        make_current(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def copy_ledger(source: Path, target: Path, changes: Sequence[tuple[str, Row]]) -> None:
    """Copy a ledger, whoever may be reading it, and apply `changes` to the copy. Raises StorageError."""
    try:
        with (
            closing(sqlite3.connect(reading_uri(source), uri=True)) as old,
            closing(_connect(target)) as new,
        ):
            target.chmod(0o600)
            old.backup(new)
            make_current(new)
            new.execute("BEGIN IMMEDIATE")
            for sql, row in changes:
                new.execute(sql, row)
            new.execute("COMMIT")
    except sqlite3.Error as err:
        raise reason(source, "copied", err) from err


_ORDER = {sql: rank for rank, sql in enumerate((schema.INSERT_ITEM, schema.INTEND, schema.SETTLE, schema.PUT_RESULT))}


def _write_group(connection: sqlite3.Connection, work: list[tuple[str, Row, Any]]) -> None:
    """One transaction; rows of the same statement go in one call.

    Rows of one statement keep their order; statements go in the order of `_ORDER`, the others behind them in the order
    in which they came. Nothing queued relies on another order within a group: an attempt is settled after its intent.
    """
    batches: dict[str, list[Row]] = {}
    for sql, row, _ in work:
        if sql:
            batches.setdefault(sql, []).append(row)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql in sorted(batches, key=lambda s: _ORDER.get(s, len(_ORDER))):
            connection.executemany(sql, batches[sql])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _tell(futures: list[asyncio.Future[None]], failed: LlmpipeError | None) -> None:
    if not futures:
        return

    def resolve() -> None:
        for future in futures:
            if future.done():
                continue
            if failed:
                future.set_exception(failed)
            else:
                future.set_result(None)

    try:
        futures[0].get_loop().call_soon_threadsafe(resolve)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
