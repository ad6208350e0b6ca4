"""A thread of its own for blocking work, which takes all that has piled up at once."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST = 512


class Batches(Generic[T, R]):
    """Hands what several callers ask for to `work` in one go, off their event loops.

    `work` gets a list of jobs and returns as many results; it must not raise. One wake-up of the event loop serves a
    whole batch: with many calls in flight the hop between threads costs next to nothing a call. `last` runs in the
    thread at its end.
    """

    def __init__(self, name: str, work: Callable[[Sequence[T]], Sequence[R]], last: Callable[[], None]) -> None:
        self._work = work
        self._last = last
        self._jobs: queue.SimpleQueue[tuple[T, asyncio.Future[R]] | None] = queue.SimpleQueue()
        self._name = name
        self._thread: threading.Thread | None = None
        self._closed = False
        self._guard = threading.Lock()

    async def ask(self, job: T) -> R:
        """The result of `job`. Raises RuntimeError after `close`."""
        if self._thread is None:
            self._start()
        if self._closed:
            raise RuntimeError("closed")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, future))
        return await future

    def close(self) -> None:
        """Finish what was asked for and end the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _start(self) -> None:
        with self._guard:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            going = True
            while going:
                batch, going = self._taken()
                if batch:
                    results = self._work([job for job, _ in batch])
                    _deliver([future for _, future in batch], results)
        finally:
            self._last()

    def _taken(self) -> tuple[list[tuple[T, asyncio.Future[R]]], bool]:
        """All that waits now, at least one; and whether there will be more."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        entry = self._jobs.get()
        while True:
            if entry is None:
                return batch, False
            batch.append(entry)
            if len(batch) == _MOST:
                return batch, True
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                return batch, True


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
        if not future.done():
            future.set_result(result)
