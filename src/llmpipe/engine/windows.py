"""How many items are at work at once: a window for each stream of items, widened while the gates let more through.

    items ──► window ──► steps ──► gate ──► in flight

Each item at work holds memory, and items below items multiply; so windows begin narrow. As long as nearly all calls at
work are in flight, next to none waits at a gate, and the windows are what holds the run up. Calls to which another call
brings the answer are not at work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from llmpipe.engine.state import RunState

ROWS = 128  # items of a top scope at work at once, to begin with
BELOW = 16  # items of a child scope at work at once below one item, to begin with
_EVERY_S = 0.1
_IN_FLIGHT = 0.75  # of the calls at work: with more the windows are too narrow
_RESTING_MOST = 2048  # calls that wait for the answers of others; with more the windows stay as they are


class Windows:
    """The open windows of one run."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._open: set[Window] = set()

    def open(self, size: int) -> Window:
        """A window, open until it is drained."""
        window = Window(size, self._open)
        self._open.add(window)
        return window

    async def widen(self) -> None:
        """Look again and again; never returns."""
        while True:
            await asyncio.sleep(_EVERY_S)
            if self._are_narrow():
                for window in self._open:
                    window.widen()

    def _are_narrow(self) -> bool:
        journals = self._run.at_work.values()
        working = [journal for journal in journals if journal.rests_on is None]
        if not journals or len(journals) - len(working) > _RESTING_MOST:
            return False
        return sum(journal.is_sent for journal in working) >= _IN_FLIGHT * len(working)


class Window:
    """Runs coroutines side by side, at most `size` at once; the first fault is raised and ends the others."""

    def __init__(self, size: int, open_: set[Window]) -> None:
        self._free, self._size = asyncio.Semaphore(size), size
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fault: BaseException | None = None
        self._open = open_

    def widen(self) -> None:
        """Let half as many more in, if anything waits for it."""
        if self._free.locked():
            more = self._size // 2
            self._size += more
            for _ in range(more):
                self._free.release()

    async def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start one as soon as there is room. Raises the fault of an earlier one."""
        await self._free.acquire()
        if self._fault is not None:
            raise self._fault
        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._free.release()
        if not task.cancelled() and task.exception() is not None and self._fault is None:
            self._fault = task.exception()

    async def drain(self) -> None:
        """Wait until all have ended. Raises the first fault; cancels the rest when cancelled itself."""
        self._open.discard(self)
        try:
            while self._tasks and self._fault is None:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._tasks:
                left = list(self._tasks)
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)
        if self._fault is not None:
            raise self._fault


class InTurn:
    """Runs coroutines one after the other, for what is only gone through."""

    async def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one to its end. Raises its fault."""
        await work()

    async def drain(self) -> None:
        """There is nothing to wait for."""
