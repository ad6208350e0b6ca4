"""Signals to a run at work: the first one stops admitting and waits a little, the second stops now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llmpipe.engine.endings import interrupted
from llmpipe.engine.results import Progress
from llmpipe.engine.state import RunState
from llmpipe.interrupts import taking

PATIENCE_S = 10.0


@contextmanager
def stopping_at_signals(run: RunState, progress: Progress) -> Iterator[None]:
    """Within the block the signals stop the run. To be used on its event loop."""
    loop = asyncio.get_running_loop()
    with taking(lambda number: loop.call_soon_threadsafe(_on_signal, run, progress, number)):
        yield


def _on_signal(run: RunState, progress: Progress, number: int) -> None:
    if run.stopped is not None and run.stopped.status == "interrupted":
        run.abandon()
        return
    in_flight = sum(journal.in_flight for journal in run.at_work.values())
    if in_flight:
        progress.note(f"stopping: waiting up to {PATIENCE_S:.0f} s for {in_flight} calls in flight; again to stop now")
    run.stopped = None  # an interrupt wins over a stop that is under way: its patience is shorter
    run.stop(interrupted(number, patience_s=PATIENCE_S))
