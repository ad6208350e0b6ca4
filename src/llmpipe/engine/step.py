"""One item through one step: is it blocked, is it known, does it apply, do it, write it down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmpipe.config.pipeline import Step
from llmpipe.engine.cell_journal import Stopping
from llmpipe.engine.context import Blocked, Sight
from llmpipe.engine.demands import Demands
from llmpipe.engine.endings import stop_for
from llmpipe.engine.evidence import Evidence
from llmpipe.engine.group_rows import base_scope
from llmpipe.engine.items import UNSENT, Cell, Item, clean, to_json, why_unmade
from llmpipe.engine.ledger_schema import PUT_RESULT
from llmpipe.engine.masking import RESULT, puts
from llmpipe.engine.model_step import Answer, ModelStep
from llmpipe.engine.outages import judged
from llmpipe.engine.python_step import PythonStep
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.tally import Tally
from llmpipe.errors import (
    AccountError,
    BudgetExceeded,
    CallFailed,
    ItemError,
    OutOfResources,
    ProviderDown,
    RetryAfterTooLong,
    RetryAllowanceSpent,
)
from llmpipe.local_faults import local_fault
from llmpipe.types import Attempt

_STOPPERS = (AccountError, BudgetExceeded, RetryAfterTooLong, Stopping)  # unsent: the same holds for every further item


_DROP = "DELETE FROM results WHERE step = ? AND item = ?"
_WAITED = (
    "UPDATE attempts SET wait_s = ?"
    " WHERE step = ? AND item = ? AND number = ? AND invocation = ? AND started_at >= ? - 1"
)


class StepRunner:
    """One step of one run. `run_item` may be called for many items at once."""

    def __init__(self, run: RunState, step: Step) -> None:
        self._run, self._step = run, step
        self._number = run.step_numbers[step.id]
        self._sight = Sight(run.pipeline, step, run.wholes, definition=run.definitions[step.id])
        self._python = self._code() if step.kind == "python" else None
        self._demands = Demands(run.pipeline, step)
        self._model = ModelStep(run, step, self._demands)
        self._evidence = Evidence(run, step)
        self._may_be_unmade = base_scope(run.pipeline, step.scope).kind in ("split", "group")

    def _code(self) -> PythonStep | None:
        return PythonStep(self._step, self._run.pipeline)

    @property
    def tally(self) -> Tally:
        """The step's counts so far."""
        return self._run.tallies[self._step.id]

    async def run_item(self, item: Item, known: Cell | None = None) -> Cell:
        """Make (or take over) the step's cell for an item; it is in the ledger when this returns, unless it is unsent.

        `known` is what an earlier process of this run wrote down. A fault of the machine stops the run, and the item
        stays unsent: the others may still write what has arrived.
        """
        try:
            return await self._cell(item, known)
        except (OSError, MemoryError, RuntimeError) as err:
            if local_fault(err) is None:
                raise
            self._run.stop(stop_for(err))
            return UNSENT

    async def _cell(self, item: Item, known: Cell | None) -> Cell:
        try:
            if self._may_be_unmade and (reason := why_unmade(item.data)) is not None:
                raise ItemError(reason, code="D320")
            names = self._sight.scope(item, self._run.expand)
            digest = self._sight.digest(item)
        except Blocked as blocked:
            return await self._blocked(item, known, blocked.cell)
        except ItemError as err:
            return await self._failed(item, known, b"", err)
        if self._step.id in self._run.fixed:
            return known or UNSENT
        if known is not None and known.digest == digest and self._holds(known):
            return known
        return await self._afresh(item, known, digest, names)

    async def _afresh(self, item: Item, known: Cell | None, digest: bytes, names: dict[str, Any]) -> Cell:
        """Make a cell that is not there yet, or was made of other input."""
        if known is not None and known.status == "succeeded":
            await self._drop(item, known)
            known = None
        if self._run.stopping():
            return UNSENT
        return await self._make(item, known, digest, names)

    async def _blocked(self, item: Item, known: Cell | None, cell: Cell) -> Cell:
        if self._step.id in self._run.fixed:
            return known or UNSENT
        if cell.status == "unsent" and known is not None and known.status == "succeeded":
            await self._drop(item, known)
        if cell.status == "unsent" or known == cell:
            return cell
        return await self._write(item, known, cell)

    def _holds(self, cell: Cell) -> bool:
        """A success holds; so does a failure that would only fail again, until it is asked for."""
        if cell.status == "failed":
            return cell.permanent and self._run.options.retry_failed is None
        return cell.status == "succeeded"

    async def _make(self, item: Item, known: Cell | None, digest: bytes, names: dict[str, Any]) -> Cell:
        try:
            if self._step.when is not None and not self._step.when.test(names):
                return await self._write(item, known, Cell("skipped", digest, reason="its `if` is false"))
            output, answer = await self._do(item, names, known)
        except (ItemError, CallFailed) as err:
            return await self._failed(item, known, digest, err)
        except asyncio.CancelledError:
            if not self._run.stopping():
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return UNSENT
        try:
            return await self._write(item, known, Cell("succeeded", digest, output), answer)
        finally:
            if answer is not None:
                answer.work.release()

    async def _do(self, item: Item, names: dict[str, Any], known: Cell | None) -> tuple[Any, Answer | None]:
        """The output, and the answer that it came from if a model was asked. Raises ItemError, CallFailed."""
        if self._step.kind == "model":
            again = self._run.options.retry_failed is not None and known is not None and known.status == "failed"
            answer = await self._model.ask(item, names, afresh=again)
            return answer.output, answer
        if self._step.render is not None:
            output: Any = self._step.render.render(names, max_bytes=self._step.max_prompt)
            self._demands.require_size(output)
        else:
            assert self._python is not None
            output = await self._python(names)
        await self._demands.require(output, names)
        return output, None

    # -- writing down ----------------------------------------------------------------------------------------------

    async def _failed(self, item: Item, known: Cell | None, digest: bytes, err: ItemError | CallFailed) -> Cell:
        if isinstance(err, CallFailed):
            err = await judged(self._run, err, failed_before=known is not None and known.status == "failed")
            if self._is_unsent(err):
                return UNSENT
        code = err.item_code if isinstance(err, ItemError) else err.code
        permanent = isinstance(err, ItemError) or err.permanent
        cell = Cell("failed", digest, code=code, error=clean(self._run.redact(str(err))), permanent=permanent)
        new = int(known is None or known.status != "failed")
        self.tally.failing += new
        try:
            self._consequences(item, cell, err)  # before the evidence is written: meanwhile others would be sent
            path = await self._evidence.write(item, err, code)
            attempts, reasks = (err.attempts, err.reasks) if isinstance(err, CallFailed) else ((), 0)
            await self._write(
                item, known, cell, attempts=attempts, reasks=reasks, error_type=type(err).__name__, failure_file=path
            )
        finally:
            self.tally.failing -= new
        return cell

    def _is_unsent(self, err: CallFailed) -> bool:
        """True if the error says that the run has to stop rather than that this item failed."""
        run = self._run
        if isinstance(err, OutOfResources):
            run.stop(stop_for(err))
            return True
        if isinstance(err, ProviderDown | RetryAllowanceSpent) or (isinstance(err, _STOPPERS) and not err.sent):
            lack = err.lack if isinstance(err, BudgetExceeded) else None
            run.stop(Stop(str(lack) if lack is not None else f"{err.title}: {err}", err.exit_code, lack=lack))
            return True
        return err.account and run.stopping()

    def _consequences(self, item: Item, cell: Cell, err: ItemError | CallFailed) -> None:
        run, step = self._run, self._step
        run.last_failure = f"{item.key or step.id} {step.id}  {cell.code} {cell.error}"
        if self.tally.first_failure is None:
            self.tally.first_failure = (item.key, cell.code, cell.error)
        if isinstance(err, CallFailed) and err.account:
            run.stop(Stop(f"{err.title}: {err}", err.exit_code))
        elif step.on_error == "fail":
            where = f" for item {item.key}" if item.key else ""
            run.stop(Stop(f"step {step.id} failed{where}: {cell.error}", 1, status="failed"))
        else:
            run.check_failures()

    async def _drop(self, item: Item, known: Cell) -> None:
        """Take back a result that was made of other input: until it is redone the item counts as unsent."""
        self.tally.forget(known)
        await self._run.ledger.commit(_DROP, (self._number, item.id))

    def _as_written(self, item: Item, cell: Cell, answer: Answer | None) -> tuple[Cell, str | None]:
        """The cell without the values of keys, which whatever comes after sees, and its output as JSON.

        It was valid as it came; from here on a run that is resumed and one that is not have the same.
        """
        if cell.status != "succeeded":
            return cell, None
        text, names = self._run.without_keys(to_json(cell.output))
        if not names:
            return cell, text
        for put in puts(RESULT, names, item.id, self._number) if answer is None else ():
            self._run.ledger.put(*put)
        return replace(cell, output=json.loads(text)), text

    async def _write(
        self,
        item: Item,
        known: Cell | None,
        cell: Cell,
        answer: Answer | None = None,
        *,
        attempts: Sequence[Attempt] = (),
        reasks: int = 0,
        error_type: str | None = None,
        failure_file: str | None = None,
    ) -> Cell:
        response = answer.response if answer else None
        attempts = response.attempts if response else attempts
        cell, output = self._as_written(item, cell, answer)
        retries = sum(a.wait_s is not None for a in attempts)
        fallbacks = int(bool(response and response.answered_by not in self._model.choices(item, response)))
        cached = bool(response and response.cached)
        reasks = response.reasks if response else reasks
        row = (
            *(self._number, item.id, cell.status, cell.digest, output, cell.reason or None, error_type),
            *(cell.code or None, cell.error or None, cell.permanent, failure_file, cached, False),
            *(reasks, retries, fallbacks, response.latency_s if response else None),
            *(response.answered_by if response else None, " ".join(response.notes) if response else None),
            *(answer.request_key if answer else None, time.time(), self._run.invocation),
        )
        for attempt in attempts:
            if attempt.wait_s is not None:
                which = (self._number, item.id, attempt.number, self._run.invocation, attempt.started_at)
                self._run.ledger.put(_WAITED, (attempt.wait_s, *which))
        written = self._run.ledger.commit(PUT_RESULT, row)
        tally = self.tally  # counts before the wait: the row is written too if this task is cancelled meanwhile
        tally.change(known, cell)
        tally.cached += cached
        tally.retries += retries
        tally.fallbacks += fallbacks
        tally.reasks += reasks
        await written
        if known is not None and known.status == "failed" and cell.status == "succeeded":
            self._evidence.forget(item)
        return cell
