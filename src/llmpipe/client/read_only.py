"""How a SQLite file is opened by somebody who only looks: so that not even a file beside it is made or touched."""

from __future__ import annotations

from pathlib import Path


def read_only(path: Path) -> str:
    """The URI by which to open the database at `path` for reading alone.

    A reader of a database in WAL mode makes `-wal` and `-shm` beside it where they are missing, unless the file is said
    to be immutable (https://www.sqlite.org/wal.html#read_only_databases). That holds while nothing stands in its log,
    which is so unless a process has it open to write, or died while it had.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        written = log.stat().st_size > 0
    except OSError:
        written = False
    return f"{path.resolve().as_uri()}?mode=ro{'' if written else '&immutable=1'}"
