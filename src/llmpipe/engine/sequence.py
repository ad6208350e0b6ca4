"""The order in which the runs of a project are made: each takes the next number, so that no clock decides it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from llmpipe.engine.files import read_json

_COUNTER = ".sequence"
_RUN_FILE = "run.json"


def next_number(output: Path) -> int:
    """The number of a run that is made now below `output`, from 1, greater than that of every other. Raises OSError."""
    descriptor = os.open(output / _COUNTER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read(32).strip()
        number = 1 + (int(text) if text.isdigit() else _highest(output))
        file.seek(0)
        file.write(b"%d\n" % number)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return number


def is_newest(folder: Path, number: int) -> bool:
    """Whether no run that was made later is the one that `latest`, beside the run's folder, leads to."""
    return number >= number_in(read_json(folder.parent / "latest" / _RUN_FILE) or {})


def _highest(output: Path) -> int:
    """The highest number that a run has: where the counter is missing or damaged."""
    found = (number_in(read_json(path) or {}) for path in output.glob(f"*/*/{_RUN_FILE}"))
    return max(found, default=0)


def number_in(document: dict[str, object]) -> int:
    """The number in a `run.json`; 0 in one of 0.1.0, which had none."""
    number = document.get("number")
    return number if type(number) is int else 0
