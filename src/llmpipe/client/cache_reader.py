"""The disk cache for somebody who only looks: nothing is kept, claimed, made or touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmpipe.client.cache_database import DATABASE, LOCK_WAIT_S, LOOK, refuse_settings
from llmpipe.client.private_folder import refuse_foreign
from llmpipe.client.read_only import read_only


class CacheReader:
    """What a DiskCache in `folder` would answer now; a Cache (client/cache.py) whose writing half does nothing.

    A folder that is not there is an empty cache. Raises StorageError if it is not ours alone, as a DiskCache does. Any
    other fault is told to `warn` once, and the cache is then as good as empty, as it is for a run.
    """

    def __init__(self, folder: Path, *, warn: Callable[[str], None]) -> None:
        self.folder, self._warn = folder, warn
        self._db: sqlite3.Connection | None = None
        if folder.is_dir():
            refuse_foreign(folder)
            self._open(folder / DATABASE)

    def _open(self, database: Path) -> None:
        if not database.is_file():
            return
        try:
            self._db = sqlite3.connect(
                read_only(database), uri=True, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
            refuse_settings(self._db)
        except Exception as err:  # noqa: BLE001 - a damaged database makes SQLite raise many kinds
            self._give_up("opened", err)

    async def get(self, key: str) -> bytes | None:
        """What was put under `key`, or None."""
        if self._db is None:
            return None
        try:
            row = self._db.execute(LOOK, (key,)).fetchone()
        except sqlite3.Error as err:
            self._give_up("read", err)
            return None
        return row[0] if row is not None and type(row[0]) is bytes else None

    async def put(self, key: str, value: bytes) -> None:
        """Nothing is kept."""

    def claim(self, key: str, ttl_s: float) -> bool:
        """The caller need not wait for anybody: it buys nothing."""
        return True

    def holds(self, key: str) -> bool:
        """Nobody else's buying matters."""
        return True

    def release(self, key: str) -> None:
        """There is nothing to give back."""

    def close(self) -> None:
        """Let go of the database."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _give_up(self, verb: str, err: Exception) -> None:
        self.close()
        self._warn(f"the response cache in {self.folder} cannot be {verb}, going on without: {err}")
