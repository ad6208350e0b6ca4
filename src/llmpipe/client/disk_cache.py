"""The cache that outlives the process: diskcache without pickle, without files of its own, without eviction.

The only module that knows diskcache (facts C). Rows are bytes under hexadecimal keys, always inside the database: a row
that says anything else (a pickled key or value, a file name, another type) is refused and counts as a miss, so neither
CVE-2025-69872 nor a planted file name has a way in. The database is never deleted: one that is damaged is set aside
(client/damage.py); when it cannot be used for another reason, the cache says so once and the run goes on uncached.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmpipe.client.batches import Batches
from llmpipe.client.cache_database import (
    DATABASE,
    LOCK_WAIT_S,
    LOOK,
    SETTINGS,
    check_settings,
    is_damaged,
    opened_reader,
)
from llmpipe.client.claims import Claims
from llmpipe.client.damage import SET_ASIDE, is_damage, set_aside
from llmpipe.client.encoding import unseal
from llmpipe.client.forks import leave_to_parent, tell_of_forks
from llmpipe.client.private_folder import private_folder
from llmpipe.errors import StorageError
from llmpipe.frozen import frozen

_PATIENCE = 3  # batches in a row that could not be written; after them no answer waits for a write again


class CacheWarning(UserWarning):
    """The response cache cannot be used, or not wholly; the run goes on."""


@frozen
class CacheStats:
    """What a cache holds: answers, bytes on disk, when the oldest and newest were stored (epoch seconds)."""

    entries: int
    bytes: int
    oldest: float | None
    newest: float | None


class DiskCache:
    """Sealed answers in `folder`, shared by the runs of a project; read at once, written by a thread of its own.

    Raises StorageError if the folder is not ours alone (client/private_folder.py). Any other fault of the storage is
    told to `warn` once, with one sentence, and the cache is then as good as empty. With `heals` a damaged database is
    set aside under another name, told too: when it is opened, or when it is closed if the damage shows in between.
    """

    def __init__(self, folder: Path, *, warn: Callable[[str], None] | None = None, heals: bool = True) -> None:
        self.folder = private_folder(Path(folder))
        self._warn = warn or _warned
        self._told: set[str] = set()
        self._claims: Claims | None = None
        self._store: Any = None
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._failed_writes = 0
        self._heals, self._damaged = heals, False
        with self._tolerant("opened"):
            self._store = self._begun()
            self._reader = opened_reader(self.folder / DATABASE)
            self._claims = Claims(self.folder / "claims.lock")
        self._writes: Batches[tuple[str, bytes], bool] = Batches("llmpipe-cache-write", self._write_all, self._let_go)
        tell_of_forks(self)

    def forked(self) -> None:
        """Read by a connection of one's own in the child of a fork; the store sees to itself."""
        self._reading = threading.Lock()
        if self._reader is not None:
            leave_to_parent(self._reader)
            self._reader = None
            with self._tolerant("opened"):
                self._reader = opened_reader(self.folder / DATABASE)

    @property
    def usable(self) -> bool:
        """Whether the cache works at all."""
        return self._store is not None

    async def get(self, key: str) -> bytes | None:
        """What was put under `key`, or None.

        Read at once: no writer holds up a reader (write-ahead log), and a look costs 10 µs where a hop to a thread and
        back costs 60.
        """
        return self.peek(key)

    def peek(self, key: str) -> bytes | None:
        """What was put under `key`, for a look from outside of a run. Blocks."""
        with self._reading:
            if self._reader is None:
                return None
            try:
                row = self._reader.execute(LOOK, (key,)).fetchone()
            except sqlite3.Error as err:
                self._tell("read", err)
                return None
        return row[0] if row is not None and type(row[0]) is bytes else None

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`; returns once it is committed, or once it is clear that it cannot be kept."""
        if self._store is not None and self._failed_writes < _PATIENCE:
            with self._tolerant("written"):
                await self._writes.ask((key, value))

    def claim(self, key: str, ttl_s: float) -> bool:
        """Whether the caller may now buy the answer (client/claims.py)."""
        return self._claims is None or self._claims.claim(key, ttl_s)

    def holds(self, key: str) -> bool:
        """Whether what was claimed is still for the caller to buy (client/claims.py)."""
        return self._claims is None or self._claims.holds(key)

    def release(self, key: str) -> None:
        """Give a claim back."""
        if self._claims is not None:
            self._claims.release(key)

    def close(self) -> None:
        """Write what is still to be written, and let go of the database."""
        self._writes.close()
        self._let_go()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        if self._claims is not None:
            self._claims.close()
        if self._damaged:
            self._damaged = False
            with self._tolerant("set aside"):
                self._set_aside("had")

    def stats(self) -> CacheStats:
        """What the cache holds. Raises StorageError if it cannot be read. Blocks."""
        with self._strict() as store:
            ((entries, oldest, newest),) = _rows(store, "SELECT COUNT(*), MIN(store_time), MAX(store_time) FROM Cache")
        size = sum(path.stat().st_size for path in self.folder.glob(f"{DATABASE}*"))
        return CacheStats(entries, size, oldest, newest)

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Every intact key and sealed answer, oldest first. Raises StorageError if the cache cannot be read. Blocks."""
        with self._strict() as store:
            keys = [key for (key,) in _rows(store, "SELECT key FROM Cache WHERE raw = 1 ORDER BY rowid")]
            for key in keys:
                value = store.get(key) if isinstance(key, str) else None
                if isinstance(value, bytes) and unseal(value, key=key) is not None:
                    yield key, value

    def clear(self) -> int:
        """Delete every answer and give the space back; how many there were. Raises StorageError. Blocks.

        Databases that were set aside are deleted too.
        """
        for path in self.folder.glob(SET_ASIDE):
            path.unlink(missing_ok=True)
        return self._delete("rowid IS NOT NULL", ())

    def prune(self, *, older_than_s: float | None = None, max_bytes: int | None = None) -> int:
        """Delete answers stored longer than `older_than_s` ago, then the oldest until `max_bytes` of answers are left.

        Returns how many went. Raises StorageError. Blocks.
        """
        gone = 0
        if older_than_s is not None:
            gone += self._delete("store_time < ?", (time.time() - older_than_s,))
        if max_bytes is not None:
            gone += self._delete(
                "rowid IN (SELECT rowid FROM (SELECT rowid, SUM(LENGTH(value)) OVER"
                " (ORDER BY store_time DESC, rowid DESC) AS total FROM Cache) WHERE total > ?)",
                (max_bytes,),
            )
        return gone

    def _delete(self, condition: str, values: tuple[Any, ...]) -> int:
        with self._strict() as store, store.transact(retry=True):
            ((count,),) = _rows(store, f"SELECT COUNT(*) FROM Cache WHERE {condition}", values)  # noqa: S608 - ours
            _rows(store, f"DELETE FROM Cache WHERE {condition}", values)  # noqa: S608 - ours
        with self._strict() as store:
            _rows(store, "PRAGMA wal_checkpoint(TRUNCATE)")  # gives the space back
        return int(count)

    def _begun(self) -> Any:
        """The store; a new one where the database is damaged. Raises whatever SQLite raises."""
        try:
            return _opened(self.folder)
        except Exception as err:
            if not (self._heals and is_damage(err)):
                raise
        self._set_aside("was")
        return _opened(self.folder)

    def _set_aside(self, verb: str) -> None:
        moved = set_aside(self.folder / DATABASE, is_damaged=is_damaged) if self._heals else None
        if moved is not None:
            new = "and a new one begun" if verb == "was" else "and the next run begins a new one"
            what = "damaged" if verb == "was" else "damage"
            self._warn(f"the response cache in {self.folder} {verb} {what}; it was set aside as {moved.name}, {new}")

    def _write_all(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[bool]:
        self._failed_writes += 1
        with self._tolerant("written"):
            with self._store.transact():
                for key, value in entries:
                    self._store.set(key, value)
            self._failed_writes = 0
        return [self._failed_writes == 0] * len(entries)

    def _let_go(self) -> None:
        if self._store is not None:
            with suppress(Exception):
                self._store.close()  # the connection of this thread

    @contextmanager
    def _tolerant(self, verb: str) -> Iterator[None]:
        """Tell of a fault once per verb, and go on: a cache must never be what a run fails of."""
        try:
            yield
        except Exception as err:  # noqa: BLE001 - diskcache and SQLite raise many kinds, a damaged database any
            self._tell(verb, err)

    def _tell(self, verb: str, err: Exception) -> None:
        self._damaged = self._damaged or is_damage(err)
        if verb not in self._told:
            self._told.add(verb)
            self._warn(f"the response cache in {self.folder} cannot be {verb}, going on without: {_words(err)}")

    @contextmanager
    def _strict(self) -> Iterator[Any]:
        if self._store is None:
            raise StorageError(f"the response cache in {self.folder} cannot be opened")
        try:
            yield self._store
        except sqlite3.Error as err:
            raise StorageError(f"the response cache in {self.folder}: {_words(err)}") from err


def _opened(folder: Path) -> Any:
    """diskcache's store, on a database whose settings are ours. Raises whatever a damaged one makes SQLite raise."""
    import diskcache

    check_settings(folder / DATABASE)
    mask = os.umask(0o077)
    store = diskcache.Cache.__new__(diskcache.Cache)
    try:
        store.__init__(str(folder.resolve()), timeout=LOCK_WAIT_S, disk=_bytes_disk(), **SETTINGS)
    finally:
        os.umask(mask)
        store.close()  # of a store that could not begin too, whose connection nobody else knows
    return store


def _bytes_disk() -> type:
    import diskcache

    class BytesDisk(diskcache.Disk):  # type: ignore[misc]
        """Text keys, bytes values, nothing else in or out (facts C)."""

        def put(self, key: Any) -> tuple[str, bool]:
            if type(key) is not str:
                raise TypeError("keys are text")
            return key, True

        def get(self, key: Any, raw: Any) -> str:
            if not raw or type(key) is not str:
                raise sqlite3.DataError("a key of a foreign kind")
            return key

        def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, Any]:
            if type(value) is not bytes or read:
                raise TypeError("values are bytes")
            return len(value), diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

        def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes | None:
            if mode != diskcache.core.MODE_RAW or filename is not None or type(value) is not bytes or read:
                return None
            return value

        def remove(self, file_path: Any) -> None:
            """Nothing: a file name in the database is not ours, and what it names may be anything."""

    return BytesDisk


def _rows(store: Any, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = store._sql(statement, values).fetchall()
    return rows


def _words(err: Exception) -> str:
    return f"{type(err).__name__}: {err}" if str(err) else type(err).__name__


def _warned(text: str) -> None:
    warnings.warn(CacheWarning(text), stacklevel=4)
