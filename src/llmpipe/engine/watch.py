"""What looks on while a run works: the display's snapshots, the deadline of the whole run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from llmpipe.engine.endings import moved, stop_for
from llmpipe.engine.flow import Flow
from llmpipe.engine.ledger_schema import LASTED
from llmpipe.engine.results import Progress, Snapshot
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.verdict import live_counts
from llmpipe.errors import BudgetExceeded
from llmpipe.local_faults import local_fault
from llmpipe.policy import Budget

_EVERY_S = 0.5
_NOTED_EVERY_S = 5.0
_PATIENCE_S = 10.0


@contextlib.asynccontextmanager
async def watch(run: RunState, flow: Flow, progress: Progress, budget: Budget) -> AsyncIterator[None]:
    """Within the block snapshots go to `progress`; the budget's deadline, or the loss of its folder, stops the run."""
    looks = [_show(run, flow, progress, budget), _note_time(run)]
    if budget.wall_s is not None:
        looks.append(_deadline(run, budget.wall_s))
    tasks = [asyncio.create_task(_guarded(run, look)) for look in looks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _guarded(run: RunState, look: Coroutine[Any, Any, None]) -> None:
    """Stop the run at a fault of the machine: nobody would look on any more."""
    try:
        await look
    except (OSError, MemoryError, RuntimeError) as err:
        if local_fault(err) is None:
            raise
        run.stop(stop_for(err))


async def _show(run: RunState, flow: Flow, progress: Progress, budget: Budget) -> None:
    while True:
        progress.update(snapshot(run, flow, budget))
        if not run.ledger.is_in_place:  # what is paid for from now on would be lost
            run.stop(moved(run.folder))
        await asyncio.sleep(_EVERY_S)


async def _note_time(run: RunState) -> None:
    """Let the ledger say how long this process has worked, in case that it is killed."""
    while True:
        await asyncio.sleep(_NOTED_EVERY_S)
        run.ledger.put(LASTED, (time.monotonic() - run.started, run.invocation))


async def _deadline(run: RunState, seconds: float) -> None:
    await asyncio.sleep(max(0.0, run.started + seconds - time.monotonic()))
    reason = f"the deadline of {seconds:g} s (budget.wall) has come"
    run.stop(Stop(reason, BudgetExceeded.exit_code, patience_s=_PATIENCE_S))


def snapshot(run: RunState, flow: Flow, budget: Budget) -> Snapshot:
    """The state of the run, now."""
    waiting = flow.waiting()
    steps = tuple(
        live_counts(run.pipeline, id, run.tallies[id], waiting_for=waiting.get(id, ""))
        for id in run.pipeline.order
        if id in flow.steps
    )
    return Snapshot(
        pipeline=run.pipeline.path.name,
        run_id=run.folder.name,
        elapsed_s=time.monotonic() - run.started,
        steps=steps,
        in_flight=sum(journal.in_flight for journal in run.at_work.values()),
        retried=sum(step.retries for step in steps),
        budget_usd=budget.usd,
        last_failure=run.last_failure,
        waiting_elsewhere=sum(journal.rests_on == "another run" for journal in run.at_work.values()),
        total_known=flow.all_read(),
    )
