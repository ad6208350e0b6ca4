"""One run per pipeline and output folder on a host: a kernel lock that dies with its process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from llmpipe.client.private_folder import MOUNTS, network_filesystem
from llmpipe.engine.files import private_folder
from llmpipe.engine.folders import writing
from llmpipe.errors import LockHeld, StorageError

_POLL_S = 0.2


class RunLock:
    """Held from `with` to the end of the process or the block. Raises LockHeld (naming the holder), StorageError."""

    def __init__(self, folder: Path, *, wait_s: float = 0.0, command: str = "") -> None:
        self._path = private_folder(folder) / ".lock"
        self._wait_s, self._command = wait_s, command
        self._file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        with writing(self._path.parent):
            file = open(self._path, "a+", encoding="utf-8", opener=_private)
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = _holder(file)
                    file.close()
                    raise LockHeld(f"another run of this pipeline is at work: {holder}") from None
                time.sleep(_POLL_S)
        file.seek(0)
        file.truncate()
        self._file = file
        who = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": self._command}
        with contextlib.suppress(OSError):  # the lock is the kernel's; who holds it may not fit on a full disk
            os.write(file.fileno(), json.dumps(who).encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def is_held(folder: Path) -> bool:
    """True if a living process holds the lock of this pipeline's output folder."""
    try:
        with (folder / ".lock").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        who = json.loads(file.read())
        return f"process {who['pid']}, since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"


def refuse_network(folder: Path, *, mounts: Path = MOUNTS) -> None:
    """Raise StorageError if the folder lies on a network file system, where SQLite's WAL and locks do not hold."""
    kind = network_filesystem(folder, mounts=mounts)
    if kind is not None:
        raise StorageError(
            f"{folder} lies on a network file system ({kind}), where the ledger and the lock cannot be relied on:"
            " choose a local folder with --output"
        )
