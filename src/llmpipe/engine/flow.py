"""The passes at work: each streams the items of its top scope through the steps, many items at once, memory bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llmpipe.config.pipeline import ROOT_SCOPE, Step
from llmpipe.engine.entries import StepEntries
from llmpipe.engine.items import Item
from llmpipe.engine.known import Known
from llmpipe.engine.ledger_schema import ITEM_COMPARED
from llmpipe.engine.plan import ItemPlan, Node, Pass
from llmpipe.engine.sources import Sources
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.step import StepRunner
from llmpipe.engine.windows import BELOW, ROWS, InTurn, Window, Windows
from llmpipe.errors import DataError


class Flow:
    """Runs the passes of a plan over one run's state.

    `side_by_side`: many items are at work at once.
    """

    side_by_side = True

    def __init__(self, run: RunState, passes: tuple[Pass, ...], *, continued: bool) -> None:
        """`continued`: the ledger has results of an earlier process of this run."""
        self._run, self._passes, self._continued = run, passes, continued
        self._windows = Windows(run)
        self.trusted = False  # every result in the ledger is of the steps as they are now, and needs no second look
        self.sources = Sources(run, matched=continued)
        self._known = Known(run.ledger, run.step_numbers)
        ids = [id for p in passes for id in p.steps]
        self._runners = {id: self._runner(run.pipeline.step(id)) for id in ids}
        self._done = {id: asyncio.Event() for id in ids}

    def _runner(self, step: Step) -> StepRunner:
        return StepRunner(self._run, step)

    @property
    def steps(self) -> frozenset[str]:
        """Every step that this flow runs."""
        return frozenset(self._runners)

    def waiting(self) -> dict[str, str]:
        """step id → a step whose end it waits for, for those that wait."""
        found = {}
        for p in self._passes:
            for other in sorted(p.waits_for):
                if not self._done[other].is_set():
                    found.update(dict.fromkeys(p.steps, other))
                    break
        return found

    def all_read(self) -> bool:
        """True once the items of every top scope are known."""
        return all(
            p.scope == ROOT_SCOPE or p.scope in self.sources.complete | self.sources.counted for p in self._passes
        )

    async def run(self) -> None:
        """All passes, each as soon as what it waits for is done. Passes over one scope take turns, in plan order."""
        try:
            await self._read_ahead()
        except DataError as err:
            self._run.stop(Stop(str(err), err.exit_code, status="failed", problem=err.problem()))
            return
        tasks: list[asyncio.Task[None]] = []
        widening = asyncio.create_task(self._windows.widen())
        last: dict[str, asyncio.Task[None]] = {}
        for p in self._passes:
            task = asyncio.create_task(self._pass(p, last.get(p.scope) if p.scope != ROOT_SCOPE else None))
            last[p.scope] = task
            tasks.append(task)
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, widening):
                task.cancel()
            await asyncio.gather(*tasks, widening, return_exceptions=True)

    async def _read_ahead(self) -> None:
        await self.sources.read_ahead(dict.fromkeys(p.scope for p in self._passes))

    async def _pass(self, p: Pass, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._wait_for(p.waits_for)
        if p.scope == ROOT_SCOPE:
            if not self._run.stopping():
                await self._plan(p.plan, self._run.root, first=False)
        else:
            await self._stream(p)
        if not self._run.stopping():
            await self._run.ledger.commit()  # items that were taken out are gone before a list is read
            for id in p.steps:
                self._finish(id)

    async def _wait_for(self, steps: Iterable[str]) -> None:
        stopped = asyncio.ensure_future(self._run.stop_event.wait())
        try:
            for id in steps:
                ended = asyncio.ensure_future(self._done[id].wait())
                await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
        finally:
            stopped.cancel()

    def _finish(self, id: str) -> None:
        run, step = self._run, self._run.pipeline.step(id)
        tally = run.tallies[id]
        tally.done = True
        broken = ""
        if not step.min_success.met(tally.status["succeeded"], tally.status["failed"]):
            broken = f"{id} did not meet its min_success ({tally.status['failed']} failed)"
        entries = StepEntries(
            run.ledger,
            scope=run.scope_numbers[step.scope],
            step=run.step_numbers[id],
            expand=run.expander(step.scope),
        )
        run.wholes.add(id, entries, broken)
        self._done[id].set()

    # -- a stream of items -----------------------------------------------------------------------------------------

    async def _stream(self, p: Pass) -> None:
        scope = self._run.pipeline.scopes[p.scope]
        first = scope.id not in self.sources.complete
        if not first and self._run.stopping() and (self.trusted or p.waits_for):
            return
        if self._run.stopping() and scope.kind != "dataset":
            return
        window = self._window(ROWS)
        try:
            async for block in self.sources.top_items(scope, self._open_steps(p)):
                for item in block:
                    if self._run.stopping() and (p.waits_for or not self._may_be_stale(item)):
                        continue  # the rest is only entered, so that it is counted
                    await window.start(lambda item=item: self._top(p.plan, item, first=first))  # type: ignore[misc]
        except DataError as err:
            self._torn(err)
        finally:
            await window.drain()

    def _torn(self, err: DataError) -> None:
        """A row that cannot be read was found late."""
        nothing_sent = not any(t.calls or t.status for t in self._run.tallies.values())
        self._run.stop(Stop(str(err), 2 if nothing_sent else 1, status="failed"))

    def _window(self, size: int) -> Window | InTurn:
        return self._windows.open(size)

    def _open_steps(self, p: Pass) -> tuple[str, ...]:
        """The steps whose lasting result makes an item one that need not be visited; none where more decides it."""
        simple = not p.waits_for and all(node.step for node in p.plan.nodes)
        if not (simple and self._continued and self.trusted):
            return ()
        return tuple(node.step for node in p.plan.nodes if node.step)

    def _may_be_stale(self, item: Item) -> bool:
        """True if the ledger may have results of the item that were made of other input, or by another definition."""
        return self._continued and (item.changed or not self.trusted)

    async def _top(self, plan: ItemPlan, item: Item, *, first: bool) -> None:
        """Take an item of a top scope through its plan; then no result in the ledger is one of an older row."""
        await self._plan(plan, item, first=first)
        item.release()
        if item.changed and not self._run.stopping() and not self._run.fixed:
            self._run.ledger.put(ITEM_COMPARED, (item.id,))

    async def _plan(self, plan: ItemPlan, item: Item, *, first: bool) -> None:
        """Take one item through the nodes of a plan."""
        if self._continued or not first:
            known = self._known.cells(item)
            item.cells.update((id, cell) for id, cell in known.items() if id not in plan.steps)
        if plan.is_chain or not self.side_by_side:
            for node in plan.nodes:
                await self._node(node, item, first=first)
            return
        ended: list[asyncio.Task[None]] = []

        async def turn(node: Node) -> None:
            for n in node.after:
                await ended[n]
            await self._node(node, item, first=first)

        ended.extend(asyncio.create_task(turn(node)) for node in plan.nodes)
        try:
            await asyncio.gather(*ended)
        finally:
            for task in ended:
                task.cancel()

    async def _node(self, node: Node, item: Item, *, first: bool) -> None:
        if node.step is not None:
            known = item.known.get(node.step) if item.known is not None else None
            item.cells[node.step] = await self._runners[node.step].run_item(item, known)
            return
        assert node.scope is not None
        assert node.inner is not None
        scope = self._run.pipeline.scopes[node.scope]
        if node.scope not in item.children:
            source = item.cells.get(scope.step or "") if scope.kind in ("fanout", "split") and scope.step else None
            if source is not None and source.status != "succeeded":
                if source.status != "unsent" and (self._continued or not first):
                    self.sources.forget(item, scope)
                return
            item.children[node.scope] = self.sources.expand(item, scope, matched=self._continued or not first)
        inner = node.inner
        window = self._window(BELOW)
        try:
            for child in item.children[node.scope]:
                await window.start(lambda child=child: self._plan(inner, child, first=first))  # type: ignore[misc]
        finally:
            await window.drain()
