"""An event loop on which memory ran out: the first thing that another thread hands to it is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    short = True

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self.short:
            self.short = False
            raise MemoryError
        return super().call_soon_threadsafe(callback, *args, context=context)


def run_short_of_memory(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work` on such a loop."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
