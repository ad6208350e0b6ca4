"""The database of the cache beside diskcache: its settings, the connection that reads it, the look for damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from llmpipe.client.damage import is_damage
from llmpipe.errors import StorageError

DATABASE = "cache.db"
# As the store would read it: text keys, bytes in the database itself (mode 1), no file beside it.
LOOK = "SELECT value FROM Cache WHERE key = ? AND raw = 1 AND mode = 1 AND filename IS NULL"
SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",
    "size_limit": 1 << 50,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 1 << 10,  # pages: 4 MiB
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # mapped pages count as memory of the process, and save 2 of 12 µs a look
    "sqlite_synchronous": 1,
    "disk_min_file_size": 1 << 50,  # every value stays in the database
    "disk_pickle_protocol": 4,
}
_SIZES = frozenset({"sqlite_cache_size", "sqlite_mmap_size"})  # set anew at each opening, whatever they were
_COUNTERS = frozenset({"count", "size", "hits", "misses"})
LOCK_WAIT_S = 5.0


def opened_reader(database: Path) -> sqlite3.Connection:
    """A connection for all threads of the process, used by one at a time, which outlives none of them."""
    reader = sqlite3.connect(database, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        reader.execute("PRAGMA query_only = 1")
    except sqlite3.Error:
        reader.close()
        raise
    return reader


def is_damaged(database: Path) -> bool:
    """Whether SQLite finds the database damaged when it looks through it. False where it cannot be looked at."""
    connection = None
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT_S)
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.Error as err:
        return is_damage(err)
    finally:
        if connection is not None:
            connection.close()


def check_settings(database: Path) -> None:
    """Refuse settings that are not ours, of a database that is there. Raises StorageError, sqlite3.Error."""
    if not database.exists():
        return
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT_S)
    try:
        refuse_settings(connection)
    finally:
        connection.close()


def refuse_settings(connection: sqlite3.Connection) -> None:
    """Refuse settings that are not ours: diskcache makes attributes and PRAGMA statements of whatever stands there."""
    try:
        rows = connection.execute("SELECT key, value FROM Settings").fetchall()
    except sqlite3.OperationalError as err:
        if "no such table" in str(err):  # another process is creating it right now
            return
        raise
    for key, value in rows:
        ours = isinstance(value, int) if key in _SIZES else SETTINGS.get(key) == value
        if key not in _COUNTERS and not ours:
            raise StorageError(f"its settings are not those of llmpipe ({str(key)[:40]})")
