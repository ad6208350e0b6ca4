"""Claims by which processes that share a cache take turns: kernel locks, which end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmpipe.client.forks import tell_of_forks

BEAT_S = 1.0
STALE_S = 15.0  # without a beat; then the claim of a process that was stopped is taken over
LAPSE_S = STALE_S / 2  # after so long without a beat of its own a process does not trust its claims
_LOOK_MOST_S = 2 * BEAT_S  # of the time between two looks at a claim: the looking process may have been stopped itself
_WATCHED_MOST = 10_000
_BYTES = 4  # locks of one key: one for the first holder, and one for each that takes over from one that was stopped
_KEYS = 1 << 59
_SLOTS = 1 << 16  # of eight bytes, one for the beats of a key; two keys that share one only wait longer
# Locks of the open file, not of the process: closing another cache on the same folder must not drop ours. Linux
# has them in the form that is packed here; elsewhere the process holds the lock.
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None


class ClaimLost(Exception):
    """The process was stopped, and another one may have bought meanwhile what it had claimed."""


@dataclass(slots=True)
class _Mine:
    """A claim of this process: until when it counts, under which lapse it was made, and which byte is locked."""

    until: float
    lapse: int
    byte: int


@dataclass(slots=True)
class _Watched:
    """A claim of another process: what was seen of it, when, and for how many seconds it has not changed."""

    seen: tuple[bytes, tuple[bool, ...]]
    at: float
    still_s: float = 0.0


class Claims:
    """A few bytes of a file per key, locked while its holder buys the answer.

    A lock of the kernel costs two microseconds, leaves nothing behind, and ends with its process however that dies; a
    row in the cache would cost a write and have to be cleaned up. A process that is stopped keeps its locks. So each
    one writes a beat for its claims every second, and a claim whose beat stands still for STALE_S is taken over with a
    lock on the next byte. What the stopped process had sent by then is bought twice; for what it had not, `holds` says
    that it has to look again. Within a process a table keeps claims apart, and one older than its `ttl_s` no longer
    counts. `clock` is monotonic seconds; with `every_s` None whoever has the object calls `beat`.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, every_s: float | None = BEAT_S
    ) -> None:
        self._path, self._clock, self._every_s = path, clock, every_s
        self._fd = _opened(path)
        tell_of_forks(self)
        self._begin()

    def _begin(self) -> None:
        self._mine: dict[str, _Mine] = {}
        self._watched: dict[str, _Watched] = {}
        self._guard = threading.Lock()
        self._beaten = self._clock()
        self._lapses = 0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def forked(self) -> None:
        """Begin anew in the child of a fork: locks of an open file are its parent's too, and would be given back."""
        if self._fd >= 0:
            os.close(self._fd)  # the parent has its own number for the open file, and keeps its locks
            self._fd = _opened(self._path)
        self._begin()

    def claim(self, key: str, ttl_s: float) -> bool:
        """Whether the claim is the caller's now."""
        now = self._clock()
        with self._guard:
            mine = self._mine.get(key)
            if mine is not None and mine.until > now:
                return False
            try:
                byte = self._locked(key, now)
            except BlockingIOError:
                return False
            except OSError:
                return True  # a file system without locks: buying twice is better than not at all
            self._watched.pop(key, None)
            if self._thread is None and self._every_s is not None:
                self._start(now, self._every_s)
            self._mine[key] = _Mine(now + ttl_s, self._lapses, byte)
            return True

    def holds(self, key: str) -> bool:
        """False if the process was stopped since it claimed `key`, for so long that another one may have taken over."""
        with self._guard:
            mine = self._mine.get(key)
            return mine is None or (mine.lapse == self._lapses and self._clock() - self._beaten < LAPSE_S)

    def release(self, key: str) -> None:
        """Give a claim back; nothing happens if there is none."""
        with self._guard:
            mine = self._mine.pop(key, None)
            if mine is not None:
                with contextlib.suppress(OSError):
                    _lock(self._fd, mine.byte, 1, fcntl.F_UNLCK)

    def beat(self) -> None:
        """Show those who wait for this process's claims that it is at work."""
        with self._guard:
            now = self._clock()
            self._lapses += now - self._beaten >= LAPSE_S
            self._beaten = now
            sign = time.monotonic_ns().to_bytes(8, "big")
            with contextlib.suppress(OSError):
                for key in self._mine:
                    os.pwrite(self._fd, sign, _slot(key))

    def close(self) -> None:
        """Give everything back."""
        self._closed.set()
        with self._guard:
            self._mine.clear()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _locked(self, key: str, now: float) -> int:
        """The byte that is locked now. Raises BlockingIOError while another process buys."""
        first = _first(key)
        try:
            _lock(self._fd, first, _BYTES, fcntl.F_WRLCK)  # nobody has any of them
        except BlockingIOError:
            return self._taken_over(key, first, now)
        _lock(self._fd, first + 1, _BYTES - 1, fcntl.F_UNLCK)
        return first

    def _taken_over(self, key: str, first: int, now: float) -> int:
        """The byte that is locked beside those of holders that do not move. Raises BlockingIOError if they may."""
        free = []
        try:
            free = list(self._free(first))
            seen = os.pread(self._fd, 8, _slot(key)), tuple(byte in free for byte in range(first, first + _BYTES))
            if not free or not self._stands_still(key, seen, now):
                raise BlockingIOError
            return free.pop(0)
        finally:
            for byte in free:
                _lock(self._fd, byte, 1, fcntl.F_UNLCK)

    def _free(self, first: int) -> Iterator[int]:
        """The bytes of a key that nobody had locked, locked."""
        for byte in range(first, first + _BYTES):
            with contextlib.suppress(BlockingIOError):
                _lock(self._fd, byte, 1, fcntl.F_WRLCK)
                yield byte

    def _stands_still(self, key: str, seen: tuple[bytes, tuple[bool, ...]], now: float) -> bool:
        watched = self._watched.get(key)
        if watched is None or watched.seen != seen:
            if len(self._watched) >= _WATCHED_MOST:
                self._watched.clear()
            self._watched[key] = _Watched(seen, now)
            return False
        watched.still_s += min(now - watched.at, _LOOK_MOST_S)
        watched.at = now
        return watched.still_s >= STALE_S

    def _start(self, now: float, every_s: float) -> None:
        self._beaten = now
        work = (weakref.ref(self), self._closed, every_s)
        self._thread = threading.Thread(target=_beats, args=work, name="llmpipe-claims", daemon=True)
        self._thread.start()


def _beats(claims: weakref.ref[Claims], closed: threading.Event, every_s: float) -> None:
    while not closed.wait(every_s):
        own = claims()
        if own is None:  # nobody has closed it
            return
        own.beat()
        del own


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _first(key: str) -> int:
    return int(key[:16], 16) % _KEYS * _BYTES


def _slot(key: str) -> int:
    return int(key[16:32], 16) % _SLOTS * 8


def _lock(fd: int, first: int, length: int, kind: int) -> None:
    """Take or give back the lock of some bytes, without waiting. Raises BlockingIOError if another holder has one."""
    if _OFD_SETLK is not None:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, first, length, 0))
        return
    command = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.lockf(fd, command, length, first, os.SEEK_SET)
    except PermissionError as err:
        raise BlockingIOError(err.errno, err.strerror) from err
