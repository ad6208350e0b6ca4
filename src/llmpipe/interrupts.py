"""Ctrl-C, SIGTERM and a closed terminal: one handler for whatever the process is at, and a run may take them itself.

Python's own handler knows Ctrl-C alone and raises at each one, also while the first is being wound up: that leaves half
of a file or a traceback. Here the first signal raises Interrupted, and those that follow within ten seconds do nothing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 10.0  # what one signal ends is wound up by then


class Interrupted(KeyboardInterrupt):
    """The process is to end; `exit_code` is the shell's for the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


class _Handler:
    def __init__(self) -> None:
        self.take: Callable[[int], object] | None = None
        self._last: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.take is not None:
            self._last = now
            self.take(number)
        elif self._last is None or now - self._last >= AGAIN_S:
            self._last = now
            raise Interrupted(number)


class LateSignals:
    """Signals that come while files are written: kept, and raised where `check` is called, so that none is left half.

    `expected`: the run was interrupted already, so that only what comes after ten more seconds means: stop this too.
    """

    def __init__(self, *, expected: bool) -> None:
        self._number: int | None = None
        self._from = time.monotonic() + (AGAIN_S if expected else 0.0)

    def append(self, number: int) -> None:
        """Keep a signal."""
        if time.monotonic() >= self._from:
            self._number = number

    def check(self) -> None:
        """Raise Interrupted if one was kept."""
        if self._number is not None:
            raise Interrupted(self._number)


@contextmanager
def interruptible(*, until_exit: bool = False) -> Iterator[None]:
    """Within the block the signals are handled here; within another such block, and outside the main thread, nothing
    changes. Signals that are ignored (nohup, a job in the background) stay so. `until_exit`: the process ends after the
    block, and what a signal could still disturb is the interpreter's own end.
    """
    if threading.current_thread() is not threading.main_thread() or _handler() is not None:
        yield
        return
    handler = _Handler()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, old in before.items() if old is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_IGN if until_exit else before[number])


@contextmanager
def taking(take: Callable[[int], object]) -> Iterator[None]:
    """Within the block every signal calls `take`, in the main thread between two steps of the interpreter."""
    handler = _handler()
    if handler is None:
        yield
        return
    outer, handler.take = handler.take, take
    try:
        yield
    finally:
        handler.take = outer


def _handler() -> _Handler | None:
    """The handler that is installed, for the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return next((h for number in SIGNALS if isinstance(h := signal.getsignal(number), _Handler)), None)
