"""Tells an item that cannot be answered from a provider that answers nobody: only the first one has failed."""

from __future__ import annotations

import asyncio

from llmpipe.engine.cell_journal import Stopping
from llmpipe.engine.state import RunState
from llmpipe.errors import (
    BadReply,
    CallFailed,
    CallTimeout,
    NetworkFault,
    Overloaded,
    ProviderDown,
    RateLimited,
    TemporaryFault,
    TotalTimeout,
)

_LOOK_S = 0.05
_ALONE = 10  # looks in a row at which no other call was at work: nobody is about to ask


async def judged(run: RunState, err: CallFailed, *, failed_before: bool) -> CallFailed:
    """What `err`, which is left after the last retry, amounts to: itself, ProviderDown, or Stopping.

    Until the provider has answered another call since, or counts as down, nobody can know; the item waits for that
    without a place at the gate. Where no other call is left to show it, a provider that has not answered once counts as
    down, and so does one whose fault cannot come of a request. `failed_before`: an earlier process of the run has seen
    the item fail while others were answered.
    """
    silence = err.silence
    if not silence or not isinstance(err, TemporaryFault | TotalTimeout) or isinstance(err, BadReply):
        return err
    alone = 0
    while not (silence.is_over or silence.is_outage):
        if run.stopping():
            return _ended(Stopping("the run stops"), err)
        if alone >= _ALONE:
            if _may_be_the_requests(err) and (failed_before or not silence.is_unbroken):
                return err
            break
        await asyncio.sleep(_LOOK_S)
        alone = 0 if run.at_work else alone + 1
    return err if silence.is_over else _ended(ProviderDown(str(silence)), err)


def _may_be_the_requests(err: CallFailed) -> bool:
    """False for faults that no request can cause."""
    last = err.__cause__ if isinstance(err, TotalTimeout) else err
    if isinstance(last, NetworkFault | CallTimeout):
        return last.billed != "no"  # it was sent
    return not isinstance(last, Overloaded | RateLimited)


def _ended(verdict: CallFailed, err: CallFailed) -> CallFailed:
    verdict.sent = False
    verdict.__cause__ = err
    return verdict
