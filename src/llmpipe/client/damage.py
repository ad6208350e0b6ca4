"""A damaged cache database: what counts as damage, and how it is set aside so that the cache can begin anew.

Nothing is deleted. A database is set aside only if SQLite itself says, twice and over a second connection, that its
contents are no database: one that is locked, full, out of reach or not permitted is as good as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SET_ASIDE = "cache-damaged-*"
_CORRUPT, _NOT_A_DATABASE = 11, 26  # SQLite's primary result codes
_BESIDE = ("", "-wal", "-shm")
_WAIT_S = 5.0


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite says that the file's contents are broken."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (_CORRUPT, _NOT_A_DATABASE)


def set_aside(database: Path, *, is_damaged: Callable[[Path], bool]) -> Path | None:
    """Rename `database`, and what SQLite keeps beside it, if it `is_damaged` still; its new path, else None.

    Processes that find the same damage take turns: the later ones find the new database, and leave it alone. Raises
    OSError if it cannot be renamed.
    """
    with _turn(database.parent / "repair.lock") as mine:
        if not mine or not database.exists() or not is_damaged(database):
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        stem = next(s for n in range(1000) if not _taken(database, s := f"cache-damaged-{stamp}{f'-{n}' if n else ''}"))
        for suffix in reversed(_BESIDE):  # the database last: until then whoever looks finds it damaged
            with contextlib.suppress(FileNotFoundError):
                database.with_name(database.name + suffix).rename(database.with_name(f"{stem}.db{suffix}"))
        return database.with_name(f"{stem}.db")


def _taken(database: Path, stem: str) -> bool:
    return any(database.with_name(f"{stem}.db{suffix}").exists() for suffix in _BESIDE)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Whether the lock of that file could be had in time; it ends with the block, or with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True
