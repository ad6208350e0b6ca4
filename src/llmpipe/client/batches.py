"""A thread of its own for blocking work, which takes all that has piled up at once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from llmpipe.client.forks import tell_of_forks

T = TypeVar("T")
R = TypeVar("R")

_Asked: TypeAlias = list[tuple[T, asyncio.Future[R | None]]]

_ENOUGH = 512
_BREATH_S = 0.05  # in which others may give memory back
_GATHER_S = 0.0005
_GATHERS_MOST = 4


class Batches(Generic[T, R]):
    """Hands what several callers ask for to `work` in one go, off their event loops.

    `work` gets a list of jobs and returns as many results; what it raises, each of its callers gets. One wake-up of the
    event loop serves a whole batch: with many calls in flight the hop between threads costs next to nothing a call.
    `last` runs in the thread at its end.
    """

    def __init__(self, name: str, work: Callable[[Sequence[T]], Sequence[R]], last: Callable[[], None]) -> None:
        self._work = work
        self._last = last
        self._jobs: queue.SimpleQueue[_Asked[T, R] | None] = queue.SimpleQueue()
        self._asked: dict[asyncio.AbstractEventLoop, _Asked[T, R]] = {}
        self._name = name
        self._taken: _Asked[T, R] = []
        self._out_of_memory = False
        self._thread: threading.Thread | None = None
        self._closed = False
        self._guard = threading.Lock()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in the child of a fork: what was asked for is the parent's to do."""
        self._jobs, self._asked, self._taken = queue.SimpleQueue(), {}, []
        self._thread = None
        self._guard = threading.Lock()

    async def ask(self, job: T) -> R | None:
        """The result of `job`; None after `close`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R | None] = loop.create_future()
        asked = self._asked.get(loop)
        if asked is None:
            asked = self._asked[loop] = []
            loop.call_soon(self._send, loop)
        asked.append((job, future))
        return await future

    def close(self) -> None:
        """Finish what was asked for and end the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what was asked for in this turn of the loop: one wake-up of the thread for all of it."""
        asked = self._asked.pop(loop)
        nothing: Any = None
        with self._guard:
            try:
                if not self._closed:
                    self._start()
                    self._jobs.put(asked)
                    return
            except RuntimeError as err:  # the system gives no more threads
                nothing = _Raised(err)
        _settle([(future, nothing) for _, future in asked])

    def _start(self) -> None:
        """Raises RuntimeError."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        more = True
        while more or self._taken:
            try:
                if not self._taken:
                    more = self._take()
                if self._taken:
                    self._do(self._taken)
                self._taken = []  # large jobs are not kept until there is more to do
            except MemoryError:  # who waits hears of it in the next round: a dead thread would leave them waiting
                self._out_of_memory = True
                time.sleep(_BREATH_S)
        self._last()

    def _do(self, batch: _Asked[T, R]) -> None:
        if self._out_of_memory:
            self._out_of_memory = False
            _deliver([future for _, future in batch], [_Raised(MemoryError("there is not enough memory"))] * len(batch))
            return
        try:
            results: Sequence[Any] = self._work([job for job, _ in batch])
        except Exception as err:  # noqa: BLE001 - whoever waits has to hear of it
            results = [_Raised(err)] * len(batch)
        _deliver([future for _, future in batch], results)

    def _take(self) -> bool:
        """Take all that waits now; whether there will be more."""
        entry = self._jobs.get()
        gather(self._jobs)
        while True:
            if entry is None:
                return False
            self._taken += entry
            if len(self._taken) >= _ENOUGH:
                return True
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                return True


class _Raised:
    """What came instead of results."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def gather(waiting: queue.SimpleQueue[Any]) -> None:
    """Give a queue half a millisecond to fill, and up to two while it does: one batch instead of many.

    A busy event loop pays for each batch with a wake-up, and for each hand-over of the interpreter between threads; one
    that waits for its servers does not notice the half millisecond.
    """
    before = -1
    for _ in range(_GATHERS_MOST):
        if waiting.qsize() <= before:
            return
        before = waiting.qsize()
        time.sleep(_GATHER_S)


def _deliver(futures: Sequence[asyncio.Future[Any]], results: Sequence[Any]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for future, result in zip(futures, results, strict=True):
        by_loop.setdefault(future.get_loop(), []).append((future, result))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, pairs)
        except RuntimeError:  # the loop has been closed meanwhile: nobody waits there any more
            continue


def _settle(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if not future.done() and isinstance(result, _Raised):
            future.set_exception(result.error)
        elif not future.done():
            future.set_result(result)
