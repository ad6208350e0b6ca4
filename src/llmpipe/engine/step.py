"""One item through one step: is it blocked, is it known, does it apply, do it, write it down."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

from llmpipe.client.reask import OutputSpec
from llmpipe.config.pipeline import Step
from llmpipe.engine.cell_journal import CellJournal, Stopping
from llmpipe.engine.context import Blocked, Sight
from llmpipe.engine.evidence import Evidence
from llmpipe.engine.items import UNSENT, Cell, Item, clean, to_json
from llmpipe.engine.ledger_schema import PUT_RESULT
from llmpipe.engine.python_step import PythonStep
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.tally import Tally
from llmpipe.errors import (
    AccountError,
    BudgetExceeded,
    CallFailed,
    CheckFailed,
    ItemError,
    ProviderDown,
    RetryAfterTooLong,
    RetryAllowanceSpent,
)
from llmpipe.policy import CachePolicy, CallPolicy
from llmpipe.types import LLMRequest, LLMResponse, Message

_STOPPERS = (AccountError, BudgetExceeded, RetryAfterTooLong, Stopping)  # unsent: the same holds for every further item


@dataclass(slots=True)
class _Done:
    """An output and the response that it came from, if a model was asked."""

    output: Any
    response: LLMResponse | None = None
    request_key: str | None = None


class StepRunner:
    """One step of one run. `run_item` may be called for many items at once."""

    def __init__(self, run: RunState, step: Step) -> None:
        self._run, self._step = run, step
        self._number = run.step_numbers[step.id]
        self._sight = Sight(run.pipeline, step, run.wholes, definition=run.definitions[step.id])
        self._python = PythonStep(step, run.pipeline) if step.kind == "python" else None
        self._evidence = Evidence(run, step)
        self._policy = _call_policy(run, step)
        self._is_split = run.pipeline.scopes[step.scope].kind == "split"
        self._lists = _lists_to_fan_out(run, step)

    @property
    def tally(self) -> Tally:
        """The step's counts so far."""
        return self._run.tallies[self._step.id]

    async def run_item(self, item: Item, known: Cell | None = None) -> Cell:
        """Make (or take over) the step's cell for an item; it is in the ledger when this returns, unless it is unsent.

        `known` is what an earlier process of this run wrote down.
        """
        if self._is_split and isinstance(item.data, dict) and "" in item.data:
            return await self._failed(item, known, b"", ItemError(item.data[""], code="D320"))
        try:
            names = self._sight.scope(item, self._run.expand)
            digest = self._sight.digest(item)
        except Blocked as blocked:
            return await self._blocked(item, known, blocked.cell)
        except ItemError as err:
            return await self._failed(item, known, b"", err)
        taken = await self._take_over(item, known, digest)
        if taken is not None:
            return taken
        if self._run.stopping() or self._step.id in self._run.fixed:
            return UNSENT
        return await self._make(item, known, digest, names)

    async def _blocked(self, item: Item, known: Cell | None, cell: Cell) -> Cell:
        if cell.status == "unsent" or known == cell:
            return cell
        return await self._write(item, known, cell)

    async def _take_over(self, item: Item, known: Cell | None, digest: bytes) -> Cell | None:
        """What this run, or the run it builds on, already has for the very same input."""
        if known is not None and known.digest == digest and self._holds(known):
            self.tally.carried += 1
            return known
        base = self._run.base
        found = base.find(self._step.id, item) if base else None
        if base is None or found is None:
            return None
        fixed = self._step.id in self._run.fixed
        if not fixed and (found.cell.digest != digest or not self._holds(found.cell)):
            return None
        self.tally.carried += 1
        self.tally.change(known, found.cell)
        await self._run.ledger.commit(PUT_RESULT, base.row(found, self._number, item, self._run.folder))
        return found.cell

    def _holds(self, cell: Cell) -> bool:
        """A success holds; so does a failure that would only fail again, until it is asked for."""
        if cell.status == "failed":
            return cell.permanent and self._run.options.retry_failed is None
        return cell.status == "succeeded"

    async def _make(self, item: Item, known: Cell | None, digest: bytes, names: dict[str, Any]) -> Cell:
        try:
            if self._step.when is not None and not self._step.when.test(names):
                return await self._write(item, known, Cell("skipped", digest, reason="its `if` is false"))
            done = await self._do(item, names, known)
        except (ItemError, CallFailed) as err:
            return await self._failed(item, known, digest, err)
        except asyncio.CancelledError:
            if not self._run.stopping():
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return UNSENT
        return await self._write(item, known, Cell("succeeded", digest, done.output), done)

    async def _do(self, item: Item, names: dict[str, Any], known: Cell | None) -> _Done:
        if self._step.kind == "model":
            return await self._ask(item, names, known)
        if self._step.render is not None:
            output: Any = self._step.render.render(names, max_bytes=self._step.max_prompt)
            self._check_size(output)
        else:
            assert self._python is not None
            output = await self._python(names)
        self._check_output(output, names)
        return _Done(output)

    # -- a model step ----------------------------------------------------------------------------------------------

    async def _ask(self, item: Item, names: dict[str, Any], known: Cell | None) -> _Done:
        request = self._request(item, names)
        run = self._run
        journal = CellJournal(
            run.ledger,
            step=self._number,
            item=item.id,
            invocation=run.invocation,
            stopping=run.stopping,
            cost=run.cost,
            redact=run.redact,
            redact_data=run.redact_data,
            tally=self.tally,
            recall=run.recall and not self._again(known),
            request=None if self._policy.cache.write else lambda: run.redact_data(_turns(request)),
        )
        policy = self._policy if not self._again(known) else _unread(self._policy)
        spec = OutputSpec(
            schema=self._step.schema,
            check=lambda output: self._unmet(output, names),
            max_reasks=self._step.max_reasks,
        )
        task = asyncio.current_task()
        assert task is not None
        run.at_work[task] = journal
        try:
            response = await run.client.acall(request, policy=policy, output=spec, journal=journal, order=item.order)
        except CallFailed as err:
            err.asked = request
            raise
        finally:
            run.at_work.pop(task, None)
        output = response.text if self._step.schema is None else response.output
        return _Done(output, response, journal.key)

    def _again(self, known: Cell | None) -> bool:
        """A failure that is retried on request is not answered from what made it fail."""
        return self._run.options.retry_failed is not None and known is not None and known.status == "failed"

    def _request(self, item: Item, names: dict[str, Any]) -> LLMRequest:
        turns = [Message(m.role, m.content.render(names, max_bytes=self._step.max_prompt)) for m in self._step.messages]
        self._check_size("".join(turn.content for turn in turns))
        schema = self._step.schema
        return LLMRequest(
            model=self._model_for(item),
            messages=turns,
            schema=schema.document if schema else None,
            sample=self._variant(item, "samples"),
            **self._step.params,
        )

    def _model_for(self, item: Item) -> str:
        models = self._step.models
        return models[self._variant(item, "models")] if len(models) > 1 else models[0]

    def _variant(self, item: Item, kind: str) -> int:
        """Which of the inner items that this step itself opened (its samples, its models) the item is."""
        scopes = self._run.pipeline.scopes
        for around in item.enclosing():
            scope = scopes[around.scope]
            if scope.kind == kind and scope.step == self._step.id:
                return int(around.ord.rsplit(".", 1)[-1], 16)
        return 0

    def _check_size(self, text: str) -> None:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self._step.max_prompt:
            message = f"the rendered text has {size:,} bytes, more than max_prompt ({self._step.max_prompt:,})"
            raise ItemError(message, code="D311")

    # -- what an output must hold ----------------------------------------------------------------------------------

    def _unmet(self, output: Any, names: dict[str, Any]) -> str | None:
        """The first check that an output does not pass, in words for people and models; None if it passes all."""
        for path in self._lists:
            if not isinstance(_at(output, path), list):
                return f"output.{'.'.join(path)} must be a list, because another step runs over its elements"
        for check in self._step.checks:
            try:
                passed = check.test({**names, "output": output})
            except ItemError as err:
                return f"the check `{check.source}` could not be evaluated: {err}"
            if not passed:
                return f"the check `{check.source}` does not hold"
        return None

    def _check_output(self, output: Any, names: dict[str, Any]) -> None:
        if self._step.schema is not None:
            found = self._step.schema.violations(output)
            if found:
                raise ItemError("; ".join(f"{v.path} {v.message}" for v in found[:3]), code="O503")
        unmet = self._unmet(output, names)
        if unmet:
            raise ItemError(unmet, code="D320" if unmet.startswith("output.") else CheckFailed.code)

    # -- writing down ----------------------------------------------------------------------------------------------

    async def _failed(self, item: Item, known: Cell | None, digest: bytes, err: ItemError | CallFailed) -> Cell:
        if isinstance(err, CallFailed) and self._is_unsent(err):
            return UNSENT
        code = err.item_code if isinstance(err, ItemError) else err.code
        permanent = isinstance(err, ItemError) or err.permanent
        cell = Cell("failed", digest, code=code, error=clean(self._run.redact(str(err))), permanent=permanent)
        path = await self._evidence.write(item, err, code)
        await self._write(item, known, cell, error_type=type(err).__name__, failure_file=path)
        self._consequences(item, cell, err)
        return cell

    def _is_unsent(self, err: CallFailed) -> bool:
        """True if the error says that the run has to stop rather than that this item failed."""
        run = self._run
        if isinstance(err, ProviderDown | RetryAllowanceSpent) or (isinstance(err, _STOPPERS) and not err.sent):
            run.stop(Stop(f"{err.title}: {err}", err.exit_code))
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

    async def _write(
        self,
        item: Item,
        known: Cell | None,
        cell: Cell,
        done: _Done | None = None,
        *,
        error_type: str | None = None,
        failure_file: str | None = None,
    ) -> Cell:
        response = done.response if done else None
        output = self._run.redact_data(to_json(cell.output)) if cell.status == "succeeded" else None
        retries = sum(a.outcome != "ok" for a in response.attempts) if response else 0
        fallbacks = int(bool(response and response.answered_by and response.answered_by != self._first_choice(item)))
        cached = bool(response and response.cached)
        row = (
            *(self._number, item.id, cell.status, cell.digest, output, cell.reason or None, error_type),
            *(cell.code or None, cell.error or None, cell.permanent, failure_file, cached, False),
            *(response.reasks if response else 0, retries, fallbacks, response.latency_s if response else None),
            *(response.answered_by if response else None, " ".join(response.notes) if response else None),
            *(done.request_key if done else None, time.time()),
        )
        await self._run.ledger.commit(PUT_RESULT, row)
        tally = self.tally
        tally.change(known, cell)
        tally.cached += cached
        tally.retries += retries
        tally.fallbacks += fallbacks
        tally.reasks += response.reasks if response else 0
        if known is not None and known.status == "failed" and cell.status == "succeeded":
            self._evidence.forget(item)
        return cell

    def _first_choice(self, item: Item) -> str:
        return self._run.pipeline.models[self._model_for(item)].label


def _call_policy(run: RunState, step: Step) -> CallPolicy:
    mode = run.options.cache
    cache = CachePolicy(
        read=step.cache.read and mode == "use", write=step.cache.write and mode != "off", ttl_s=step.cache.ttl_s
    )
    return CallPolicy(
        timeout=step.timeout, retry=step.retry, cache=cache, fallback=step.fallback, offline=run.options.offline
    )


def _unread(policy: CallPolicy) -> CallPolicy:
    cache = CachePolicy(read=False, write=policy.cache.write, ttl_s=policy.cache.ttl_s)
    return CallPolicy(
        timeout=policy.timeout, retry=policy.retry, cache=cache, fallback=policy.fallback, offline=policy.offline
    )


def _lists_to_fan_out(run: RunState, step: Step) -> tuple[tuple[str, ...], ...]:
    """The paths in this step's output that other steps run over."""
    wanted = {s.scope for s in run.pipeline.steps}
    scopes = run.pipeline.scopes
    for id in list(wanted):
        at = scopes[id].parent
        while at is not None:
            wanted.add(at)
            at = scopes[at].parent
    return tuple(s.path for s in scopes.values() if s.kind == "fanout" and s.step == step.id and s.id in wanted)


def _turns(request: LLMRequest) -> str:
    return to_json([asdict(turn) for turn in request.turns()])


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
