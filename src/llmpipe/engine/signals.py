"""Ctrl-C, SIGTERM and a closed terminal: the first one stops admitting and waits a little, the second stops now."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llmpipe.engine.results import Progress
from llmpipe.engine.state import RunState, Stop

PATIENCE_S = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(run: RunState, progress: Progress) -> Iterator[None]:
    """Within the block the signals stop the run. Does nothing outside the main thread, where signals never arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup keeps SIGHUP away on purpose
            loop.add_signal_handler(number, _on_signal, run, progress, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _on_signal(run: RunState, progress: Progress, number: signal.Signals) -> None:
    if run.stopped is not None and run.stopped.status == "interrupted":
        run.abandon()
        return
    code = 130 if number == signal.SIGINT else 128 + int(number)
    in_flight = sum(journal.in_flight for journal in run.at_work.values())
    if in_flight:
        progress.note(f"stopping: waiting up to {PATIENCE_S:.0f} s for {in_flight} calls in flight; again to stop now")
    run.stopped = None  # an interrupt wins over a stop that is under way: its patience is shorter
    run.stop(Stop(f"interrupted by {number.name}", code, status="interrupted", patience_s=PATIENCE_S))
