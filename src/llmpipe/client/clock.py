"""A bound on how long a task may wait, like `asyncio.timeout` at a quarter of its cost.

    with Clock(2.0) as clock:       # TimeoutError once the time is up; other cancellations stay what they are
        await ...
        clock.set(30.0)             # from now on; None: no bound

Every call has three of them, and nearly none expires. So they do not wait in the event loop's heap one by one: those
that are due at about the same time share one timer. A clock is up to 1/64 s late (1/8 s from four seconds on), and
never early.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

_TICKS = 64  # in a second
_COARSE = 8  # ticks in one step of a long bound
_LONG_S = 4.0

_Due = dict[int, "tuple[asyncio.TimerHandle, set[Clock]]"]
_loops: dict[asyncio.AbstractEventLoop, _Due] = {}


class Clock:
    """One bound, for the task that enters it. `expired` says whether the TimeoutError is its own."""

    __slots__ = ("_before", "_due", "_loop", "_seconds", "_task", "_tick", "expired")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._tick: int | None = None
        self._task: asyncio.Task[object] | None = None
        self.expired = False

    def __enter__(self) -> Clock:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._loop = task.get_loop()
        due = _loops.get(self._loop)
        self._due = _new(self._loop) if due is None else due
        self.set(self._seconds)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self._task = self._task, None
        self._forget()
        if self.expired and task is not None and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def set(self, seconds: float | None) -> None:
        """Let the time be up in so many seconds from now; None: never. Without effect once it was up."""
        self._forget()
        if seconds is None or self.expired or self._task is None:
            return
        tick = int((self._loop.time() + max(0.0, seconds)) * _TICKS) + 1
        if seconds >= _LONG_S:
            tick += -tick % _COARSE
        self._tick = tick
        waiting = self._due.get(tick)
        if waiting is None:
            timer = self._loop.call_at(tick / _TICKS, _ring, self._due, tick)
            self._due[tick] = (timer, {self})
        else:
            waiting[1].add(self)

    def _forget(self) -> None:
        tick, self._tick = self._tick, None
        waiting = None if tick is None else self._due.get(tick)
        if waiting is None or tick is None:
            return
        timer, clocks = waiting
        clocks.discard(self)
        if not clocks and tick % _COARSE:  # timers of long bounds are few, and the next clock is soon there
            timer.cancel()
            del self._due[tick]

    def ring(self) -> None:
        """Called when the time is up."""
        self._tick = None
        if self._task is not None:
            self.expired = True
            self._task.cancel()


def _new(loop: asyncio.AbstractEventLoop) -> _Due:
    for closed in [other for other in list(_loops) if other.is_closed()]:  # their timers hold them
        _loops.pop(closed, None)
    due = _loops[loop] = {}
    return due


def _ring(due: _Due, tick: int) -> None:
    _, clocks = due.pop(tick)
    for clock in clocks:
        clock.ring()
