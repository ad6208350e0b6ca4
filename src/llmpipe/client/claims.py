"""Claims by which processes that share a cache take turns: kernel locks, which end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
import time
from pathlib import Path

from llmpipe.client.forks import tell_of_forks

_OFFSETS = 1 << 62
# Locks of the open file, not of the process: closing another cache on the same folder must not drop ours. Linux
# has them in the form that is packed here; elsewhere the process holds the lock.
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None


class Claims:
    """One byte of a file per key, locked while its holder buys the answer.

    A lock of the kernel costs two microseconds, leaves nothing behind, and ends with its process however that dies; a
    row in the cache would cost a write and have to be cleaned up. Within a process a table keeps claims apart. A claim
    that is older than its `ttl_s` no longer counts; other processes bound their wait by the same time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _opened(path)
        self._mine: dict[str, float] = {}
        self._guard = threading.Lock()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in the child of a fork: locks of an open file are its parent's too, and would be given back."""
        if self._fd >= 0:
            os.close(self._fd)  # the parent has its own number for the open file, and keeps its locks
            self._fd = _opened(self._path)
        self._mine = {}
        self._guard = threading.Lock()

    def claim(self, key: str, ttl_s: float) -> bool:
        """Whether the claim is the caller's now."""
        now = time.monotonic()
        with self._guard:
            if self._mine.get(key, now) > now:
                return False
            try:
                _lock(self._fd, _offset(key), fcntl.F_WRLCK)
            except BlockingIOError:
                return False
            except OSError:
                return True  # a file system without locks: buying twice is better than not at all
            self._mine[key] = now + ttl_s
            return True

    def release(self, key: str) -> None:
        """Give a claim back; nothing happens if there is none."""
        with self._guard:
            if self._mine.pop(key, None) is not None:
                with contextlib.suppress(OSError):
                    _lock(self._fd, _offset(key), fcntl.F_UNLCK)

    def close(self) -> None:
        """Give everything back."""
        with self._guard:
            self._mine.clear()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _offset(key: str) -> int:
    return int(key[:16], 16) % _OFFSETS


def _lock(fd: int, offset: int, kind: int) -> None:
    """Take or give back the lock of one byte, without waiting. Raises BlockingIOError if another holder has it."""
    if _OFD_SETLK is not None:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, offset, 1, 0))
        return
    command = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.lockf(fd, command, 1, offset, os.SEEK_SET)
    except PermissionError as err:
        raise BlockingIOError(err.errno, err.strerror) from err
