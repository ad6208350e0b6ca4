"""What an exception that ends a run makes of it: status, exit code, reason and the next step."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmpipe.config.paths import display
from llmpipe.engine.runs import LEDGER
from llmpipe.engine.state import RunState, Stop
from llmpipe.errors import InternalError, LlmpipeError, StorageError
from llmpipe.interrupts import Interrupted
from llmpipe.local_faults import local_fault

PATIENCE_S = 10.0


def stop_for(err: BaseException) -> Stop:
    """`err` as a stop. One of status "crashed" is a fault of llmpipe itself."""
    if isinstance(err, KeyboardInterrupt):
        return interrupted(err.number if isinstance(err, Interrupted) else signal.SIGINT)
    known = local_fault(err) or (err if isinstance(err, LlmpipeError) and not isinstance(err, InternalError) else None)
    if known is not None:
        reason = ". ".join(part.rstrip(".") for part in (str(known) or known.title, known.advice) if part)
        return Stop(reason, known.exit_code, status="failed", unfinished=True)
    return Stop(f"{type(err).__name__}: {err}", InternalError.exit_code, status="crashed", unfinished=True)


def _shut(folder: Path) -> str:
    """Why a folder may not be entered that is there; "" if that is not it."""
    try:
        (folder / LEDGER).lstat()
    except PermissionError as err:
        return str(err.strerror).lower()
    except OSError:
        pass
    return ""


def stop_at_faults(run: RunState) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An event loop's handler of what its callbacks raise. Where memory ran out in one, somebody may wait for what it
    was to bring, and the calls in flight are not waited for without end."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        err = context.get("exception")
        if err is None or local_fault(err) is None:
            loop.default_exception_handler(context)
        elif loop.is_running():  # else nothing is left to stop
            run.stop(replace(stop_for(err), patience_s=PATIENCE_S))

    return handle


def interrupted(number: int, *, patience_s: float | None = None) -> Stop:
    """The stop that a signal asks for."""
    name = signal.Signals(number).name
    return Stop(f"interrupted by {name}", 128 + number, "interrupted", patience_s=patience_s, unfinished=True)


def moved(folder: Path) -> Stop:
    """The stop of a run whose folder is gone, or may not be entered any more."""
    if why := _shut(folder):
        reason = f"{display(folder)} can no longer be used: {why}. Get the right to it, then continue with --resume"
        return Stop(reason, StorageError.exit_code, "failed", patience_s=PATIENCE_S, unfinished=True)
    reason = (
        f"{display(folder)} was removed or moved while the run worked in it. If it was moved, move it back and continue"
        " with --resume; else start a new run"
    )
    return Stop(reason, StorageError.exit_code, "failed", patience_s=PATIENCE_S, unfinished=True)
