"""A bound on how long a task may wait, like `asyncio.timeout` at a quarter of its cost.

    with Clock(2.0) as clock:       # TimeoutError once the time is up; other cancellations stay what they are
        await ...
        clock.set(30.0)             # from now on; None: no bound

Every call has three of them, and nearly none expires. So they do not wait in the event loop's heap one by one: those
that are due at about the same time share one timer. A clock is up to 1/64 s late (1/8 s from four seconds on), and
never early. Time in which the process was stopped does not count, and a clock that is up late gives a moment more:
what has come meanwhile is read before it is up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from llmpipe.client.awake import LOOK_S, Awake, Look

_TICKS = 64  # in a second
_COARSE = 8  # ticks in one step of a long bound
_LONG_S = 4.0
_LATE_S = 1.0  # after its time a clock does not know what has come meanwhile
_MOMENT_S = 1.0

_loops: dict[asyncio.AbstractEventLoop, _Timers] = {}


class Clock:
    """One bound, for the task that enters it. `expired` says whether the TimeoutError is its own."""

    __slots__ = ("_before", "_lost", "_seconds", "_spared", "_task", "_tick", "_timers", "_until", "expired")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._tick: int | None = None
        self._task: asyncio.Task[object] | None = None
        self.expired = False

    def __enter__(self) -> Clock:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timers = _timers(task.get_loop())
        self._timers.of.setdefault(task, []).append(self)
        self.set(self._seconds)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self._task = self._task, None
        self._forget()
        if task is not None:
            self._timers.left(task, self)
        if self.expired and task is not None and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def set(self, seconds: float | None) -> None:
        """Let the time be up in so many seconds from now; None: never. Without effect once it was up."""
        self._forget()
        if seconds is None or self.expired or self._task is None:
            return
        self._until = self._timers.now() + seconds
        self._lost, self._spared = self._timers.lost, False
        self._tick = self._timers.wake(self, max(0.0, seconds))

    def stop(self) -> float | None:
        """Stand still; the seconds that are left, None if it is not running."""
        left = None if self._tick is None else self._until - self._timers.now()
        self._forget()
        return left

    def _forget(self) -> None:
        tick, self._tick = self._tick, None
        if tick is not None:
            self._timers.forget(self, tick)

    def due(self, late_s: float) -> None:
        """Called when the time seems to be up, and so many seconds later than asked for."""
        self._tick = None
        if self._task is None:
            return
        stopped = self._timers.lost > self._lost
        if stopped or (late_s > _LATE_S and not self._spared):
            left = self._until - self._timers.now()
            self._lost, self._spared = self._timers.lost, True
            self._tick = self._timers.wake(self, max(left, _MOMENT_S))
            return
        self.expired = True
        self._task.cancel()


class _Timers:
    """The timers of one event loop, and the time in which it was at work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._awake = Awake()
        self._due: dict[int, tuple[asyncio.TimerHandle, set[Clock]]] = {}
        self._looks: asyncio.TimerHandle | None = None
        self.of: dict[asyncio.Task[object], list[Clock]] = {}  # the clocks that each task has entered

    def left(self, task: asyncio.Task[object], clock: Clock) -> None:
        """A task has left its clock."""
        clocks = self.of[task]
        clocks.remove(clock)
        if not clocks:
            del self.of[task]

    @property
    def lost(self) -> float:
        """Seconds in which the process was stopped."""
        return self._awake.lost

    def now(self) -> float:
        """The loop's time without those seconds."""
        at = self._loop.time()
        if self._awake.is_due(at):
            self._awake.look(Look(at, time.process_time()))
        return at - self._awake.lost

    def wake(self, clock: Clock, seconds: float) -> int:
        """Have a clock woken in so many seconds; the tick that it waits for."""
        tick = int((self._loop.time() + seconds) * _TICKS) + 1
        if seconds >= _LONG_S:
            tick += -tick % _COARSE
        waiting = self._due.get(tick)
        if waiting is None:
            self._due[tick] = (self._loop.call_at(tick / _TICKS, self._ring, tick), {clock})
        else:
            waiting[1].add(clock)
        if self._looks is None:
            self._look()
        return tick

    def forget(self, clock: Clock, tick: int) -> None:
        """A clock need not be woken any more."""
        waiting = self._due.get(tick)
        if waiting is None:
            return
        timer, clocks = waiting
        clocks.discard(clock)
        if not clocks and tick % _COARSE:  # timers of long bounds are few, and the next clock is soon there
            timer.cancel()
            del self._due[tick]

    def _ring(self, tick: int) -> None:
        self.now()
        late = self._loop.time() - tick / _TICKS
        _, clocks = self._due.pop(tick)
        for clock in clocks:
            clock.due(late)

    def _look(self) -> None:
        """Look at the time again and again, as long as there are clocks."""
        if any(clocks for _, clocks in self._due.values()):
            self._awake.look(Look(self._loop.time(), time.process_time()))
            self._looks = self._loop.call_later(LOOK_S, self._look)
        else:
            self._awake.pause()
            self._looks = None


@contextmanager
def paused() -> Iterator[None]:
    """Within the block the clocks of the running task stand still: it waits for something of our own."""
    timers = _timers(asyncio.get_running_loop())
    task = asyncio.current_task()
    assert task is not None
    left = [(clock, clock.stop()) for clock in timers.of.get(task, ())]
    try:
        yield
    finally:
        for clock, seconds in left:
            if seconds is not None:
                clock.set(seconds)


def awake_time() -> Callable[[], float]:
    """The time of the running event loop, in seconds, without that in which the process was stopped."""
    return _timers(asyncio.get_running_loop()).now


def _timers(loop: asyncio.AbstractEventLoop) -> _Timers:
    found = _loops.get(loop)
    if found is None:
        for closed in [other for other in list(_loops) if other.is_closed()]:  # their timers hold them
            _loops.pop(closed, None)
        found = _loops[loop] = _Timers(loop)
    return found
