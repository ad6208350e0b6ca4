"""An event loop in a thread of its own, so that the sync door works anywhere, also inside a running loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from llmpipe.client.forks import leave_to_parent, tell_of_forks

T = TypeVar("T")

_PATIENCE_S = 5.0


class LoopThread:
    """Runs coroutines for callers that do not await. Starts with the first one; `close` ends it; may start anew."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._at_end: list[Callable[[], Awaitable[None]]] = []
        self._guard = threading.Lock()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in the child of a fork, which has the loop but not the thread that turned it."""
        leave_to_parent(self._loop)
        self._loop = self._thread = None
        self._at_end = []
        self._guard = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. An interrupt (Ctrl-C) cancels it.

        Raises RuntimeError when called from the loop's own thread, where it would wait for itself.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("call() cannot be used from within its own calls; await acall() instead")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def at_end(self, loop: asyncio.AbstractEventLoop, tidy: Callable[[], Awaitable[None]]) -> None:
        """Have `tidy` awaited before the loop ends; nothing happens if `loop` is another one."""
        if loop is self._loop:
            self._at_end.append(tidy)

    def close(self) -> None:
        """Cancel what still runs, tidy up, stop the loop and wait for its thread (5 s at most)."""
        with self._guard:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_PATIENCE_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._at_end = []
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop, self._at_end), name="llmpipe-client", daemon=True
                )
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop, at_end: list[Callable[[], Awaitable[None]]]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_tidied(at_end))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()  # does not wait for threads of the default executor, which may hang in a name lookup


async def _tidied(at_end: list[Callable[[], Awaitable[None]]]) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for tidy in at_end:
        await tidy()
