"""A run gone through without sending anything: the run's own flow, steps and state, which count where they would ask.

row ──► render ──► key ──► journal, cache ──┬─ answered ─► schema, checks ─► the next step, as in a run
                                            └─ NotSent ──► counted; what builds on it stays open
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmpipe.client.rehearsal import Asking, NotSent
from llmpipe.config.pipeline import Scope, Step
from llmpipe.engine.evidence import Evidence
from llmpipe.engine.flow import Flow
from llmpipe.engine.guess import PromptGuess
from llmpipe.engine.items import UNSENT, Cell, Item
from llmpipe.engine.ledger_scratch import ASK
from llmpipe.engine.model_step import Answer
from llmpipe.engine.plan import ItemPlan, Node, Pass
from llmpipe.engine.python_step import PythonStep
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.step import StepRunner
from llmpipe.engine.sums import Failing, StepSum
from llmpipe.engine.windows import InTurn
from llmpipe.errors import CallFailed, DataError, ItemError

_WHY = 300  # characters of a reason
_TICK = 500  # rows of a top scope between two words to whoever watches


@dataclass(slots=True)
class Rehearsed(RunState):
    """The state of a run that is only gone through: what would stop it is noted, and it goes on."""

    sums: dict[str, StepSum] = field(default_factory=dict)
    unexpanded: Counter[str] = field(default_factory=Counter)  # scope -> items whose list is not there yet
    unknown: set[str] = field(default_factory=set)  # top scopes of which nothing is known yet
    would_stop: Stop | None = None
    guesses: Mapping[str, PromptGuess] = field(default_factory=dict)
    tries: list[Asking] = field(default_factory=list)  # of the client: made for an item without being its answer
    tick: Callable[[int], None] = lambda rows: None
    rows: int = 0

    def stop(self, stop: Stop) -> None:
        """Note the first reason for which a run would stop."""
        self.would_stop = self.would_stop or stop

    def is_open(self, step: Step) -> bool:
        """True if answers of the step, or items for it, are not there yet."""
        made = self.sums[step.id]
        if made.calls or made.shared or made.code or made.open:
            return True
        at: str | None = step.scope
        while at is not None:
            if at in self.unknown or self.unexpanded[at]:
                return True
            at = self.pipeline.scopes[at].parent
        return False


class RehearsedStep(StepRunner):
    """One step of a run that is only gone through."""

    def __init__(self, run: Rehearsed, step: Step) -> None:
        super().__init__(run, step)
        self._rehearsed, self._sum = run, run.sums[step.id]
        self._evidence = _Unkept(run, step)
        self._guess = run.guesses.get(step.id)

    def _code(self) -> PythonStep | None:
        return None  # it may do anything, so it is neither imported nor called

    async def run_item(self, item: Item, known: Cell | None = None) -> Cell:
        """The step's cell for an item, as far as it can be had."""
        made = self._sum
        before = made.calls + made.shared + made.code
        cell = await super().run_item(item, known)
        while self._rehearsed.tries:
            made.ask(self._rehearsed.tries.pop())
            before += 1
        if cell.status != "unsent" or self._step.id in self._run.fixed:
            return cell
        if known is not None and known.status != "succeeded":
            await self._drop(item, known)
        if made.calls + made.shared + made.code == before:
            self._leave_open(item)
        return cell

    def _leave_open(self, item: Item) -> None:
        made = self._sum
        made.open += 1
        if self._guess is None:
            return
        if self._guess.is_ruled_out(item, self._run.expand):
            made.ruled_out += 1
            return
        tokens, pending = self._guess.measure(item)
        made.open_tokens += tokens
        made.pending.update(pending)

    async def _do(self, item: Item, names: dict[str, Any], known: Cell | None) -> tuple[Any, Answer | None]:
        if self._step.kind == "python":
            raise _NotCalled("a plan calls no Python code")
        return await super()._do(item, names, known)

    async def _failed(self, item: Item, known: Cell | None, digest: bytes, err: ItemError | CallFailed) -> Cell:
        if isinstance(err, _NotCalled):
            self._sum.code += 1
            return UNSENT
        if isinstance(err, NotSent):
            self._sum.ask(err.asking)
            self._note(item, *_reason(err, item, self._step.id, is_shared=err.asking.shared))
            return UNSENT
        cell = await super()._failed(item, known, digest, err)
        self._fail(item, cell)
        return cell

    def _note(self, item: Item, kind: str, why: str) -> None:
        self._run.ledger.put(ASK, (self._step.id, item.key, kind, self._run.redact(why)[:_WHY]))

    def _fail(self, item: Item, cell: Cell) -> None:
        found = self._sum.failing.get(cell.code)
        if found is None:
            self._sum.failing[cell.code] = Failing(1, item.key, cell.error[:_WHY])
        else:
            found.count += 1

    async def _write(
        self, item: Item, known: Cell | None, cell: Cell, answer: Answer | None = None, **more: Any
    ) -> Cell:
        if answer is not None:
            self._sum.see(answer.response)
        return await super()._write(item, known, cell, answer, **more)


class RehearsedFlow(Flow):
    """The passes of a run that is only gone through: one item after the other, and what is not there stays open."""

    side_by_side = False
    _run: Rehearsed

    def _runner(self, step: Step) -> StepRunner:
        return RehearsedStep(self._run, step)

    def _window(self, size: int) -> InTurn:
        return InTurn()

    async def _read_ahead(self) -> None:
        """Every row is read anyway, and nothing is sent that a torn one could come too late for."""

    def _torn(self, err: DataError) -> None:
        raise err

    def _finish(self, id: str) -> None:
        if self._run.is_open(self._run.pipeline.step(id)):
            self._done[id].set()  # its list is not there: whoever reads it is blocked
        else:
            super()._finish(id)

    async def _stream(self, p: Pass) -> None:
        scope = self._run.pipeline.scopes[p.scope]
        if self._is_unknown(scope):
            self._run.unknown.add(p.scope)
            self.sources.forget_all(scope)
            return
        await super()._stream(p)

    def _is_unknown(self, scope: Scope) -> bool:
        """True if the items of a top scope are made of answers that are not there."""
        if scope.step is None:
            return False
        if scope.kind == "group":
            return self._run.is_open(self._run.pipeline.step(scope.step))
        if scope.kind in ("fanout", "split"):
            return self._run.root.cells.get(scope.step, UNSENT).status == "unsent"
        return False

    async def _top(self, plan: ItemPlan, item: Item, *, first: bool) -> None:
        await super()._top(plan, item, first=first)
        self._run.rows += 1
        if self._run.rows % _TICK == 0:
            self._run.tick(self._run.rows)
            await asyncio.sleep(0)  # an interrupt gets its turn

    async def _node(self, node: Node, item: Item, *, first: bool) -> None:
        if node.scope is None or not self._lacks_list(self._run.pipeline.scopes[node.scope], item):
            await super()._node(node, item, first=first)
            return
        self._run.unexpanded[node.scope] += 1
        if self._continued:  # what an earlier list was made into is as unknown as the list
            self.sources.forget(item, self._run.pipeline.scopes[node.scope])

    def _lacks_list(self, scope: Scope, item: Item) -> bool:
        if scope.kind not in ("fanout", "split") or scope.step is None:
            return False
        return item.cells.get(scope.step, UNSENT).status == "unsent"


class _NotCalled(ItemError):
    """Python code would be called here."""


class _Unkept(Evidence):
    """The evidence of failures that nobody has had."""

    async def write(self, item: Item, err: ItemError | CallFailed, code: str) -> str:
        return ""

    def forget(self, item: Item) -> None:
        """There is nothing to remove."""


def _reason(err: NotSent, item: Item, step: str, *, is_shared: bool) -> tuple[str, str]:
    """Why a model would be asked for an item, as a word and in words."""
    if err.reasks:
        last = err.details["tries"][-1]
        return "misfit", f"the answer that is there does not fit: {last['error']}"
    if is_shared:
        return "shared", "the same request as for another item: one answer does for both"
    known = item.known.get(step) if item.known else None
    if known is None:
        return "new", ""
    if known.status == "succeeded":
        return "changed", "what it was made of has changed"
    if known.status == "failed":
        return "failed", f"it failed before: {known.code} {known.error}".rstrip()
    return "skipped", "it was skipped before"
