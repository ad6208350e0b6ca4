"""What runs when: the steps of a pipeline as passes over top scopes, each pass a tree of nodes per item (pure).

    tickets ──► label ──► answer            pass 1 over datasets.tickets: each row goes label → answer and
                  └─► [claims] ──► verify     label → claims → verify on its own; no row waits for another
    group(label) ──► digest                 pass 2 over the groups: waits for the whole of `label`

A *top scope* is a child of the root (or the root itself). A step that uses a *whole* list, or anything of another top
scope, has to wait for that step's end: it stands in a pass of its own, named by what it waits for. Within a pass an
item flows through its nodes as soon as each node's own needs are there; a child scope is a node with its own plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Step
from llmpipe.frozen import frozen


@frozen
class Node:
    """Something to do for one item: a step, or the items of a child scope below it."""

    step: str | None
    scope: str | None
    inner: ItemPlan | None
    after: tuple[int, ...]  # positions of the nodes of the same plan that come before

    @property
    def name(self) -> str:
        """The step's or the scope's id."""
        return self.step or self.scope or ""


@frozen
class ItemPlan:
    """What happens to each item of a scope: nodes in a topological order.

    `steps` are all steps, inner ones too. `is_chain`: each node waits for the one before it, nothing runs side by side.
    """

    scope: str
    nodes: tuple[Node, ...]
    steps: frozenset[str]
    is_chain: bool


@frozen
class Pass:
    """One stream over the items of a top scope. It starts when the steps in `waits_for` are done."""

    scope: str
    plan: ItemPlan
    waits_for: frozenset[str]

    @property
    def steps(self) -> frozenset[str]:
        """Every step that this pass runs."""
        return self.plan.steps


def plan_passes(pipeline: Pipeline, wanted: frozenset[str] | None = None) -> tuple[Pass, ...]:
    """The passes of a pipeline in an order that can be run one after the other; `wanted` leaves the other steps out."""
    graph = _Graph(pipeline, wanted)
    groups: dict[tuple[str, frozenset[str]], set[str]] = {}
    for id in graph.order:
        groups.setdefault((graph.top(graph.steps[id].scope), graph.waits(id)), set()).add(id)
    passes = [
        Pass(top, _item_plan(graph, top, frozenset(steps)), frozenset(waits)) for (top, waits), steps in groups.items()
    ]
    return tuple(sorted(passes, key=lambda p: min(graph.order.index(s) for s in p.steps)))


class _Graph:
    """Who needs whom, and which of these needs is the end of a whole step."""

    def __init__(self, pipeline: Pipeline, wanted: frozenset[str] | None) -> None:
        self.scopes = pipeline.scopes
        self.steps: Mapping[str, Step] = {s.id: s for s in pipeline.steps if wanted is None or s.id in wanted}
        self.order = tuple(id for id in pipeline.order if id in self.steps)
        self._waits: dict[str, frozenset[str]] = {}

    def chain(self, scope: str | None) -> tuple[str, ...]:
        """The scope and those that enclose it, innermost first."""
        found = []
        while scope is not None:
            found.append(scope)
            scope = self.scopes[scope].parent
        return tuple(found)

    def top(self, scope: str) -> str:
        chain = self.chain(scope)
        return chain[-2] if len(chain) > 1 else ROOT_SCOPE

    def needs(self, id: str) -> dict[str, bool]:
        """The steps that `id` uses directly → whether it has to wait for the whole of them."""
        step = self.steps[id]
        uses = {ref.step: ref.mode == "whole" for ref in step.refs}
        uses |= {need: uses.get(need, not self._related(step.scope, need)) for need in step.needs}
        for scope in self.chain(step.scope):
            source = self.scopes[scope].step
            if source and source != id and self.scopes[scope].kind in ("fanout", "split", "group"):
                uses[source] = uses.get(source, False) or self.scopes[scope].kind == "group"
        top = self.top(step.scope)
        return {
            used: whole or top == ROOT_SCOPE or self.top(self.steps[used].scope) != top
            for used, whole in uses.items()
            if used in self.steps
        }

    def _related(self, scope: str, other: str) -> bool:
        """True if one of the two scopes encloses the other, so that the need is one of this item alone."""
        if other not in self.steps:
            return True
        theirs = self.steps[other].scope
        return theirs in self.chain(scope) or scope in self.chain(theirs)

    def waits(self, id: str) -> frozenset[str]:
        """Every step whose end has to come before `id` can start, through however many others."""
        if id not in self._waits:
            found: set[str] = set()
            for used, whole in self.needs(id).items():
                found |= self.waits(used)
                if whole:
                    found.add(used)
            self._waits[id] = frozenset(found)
        return self._waits[id]


def _item_plan(graph: _Graph, scope: str, steps: frozenset[str]) -> ItemPlan:
    """The nodes for an item of `scope`: its own steps, and a node for each bundle of steps in a child scope.

    Steps of one child scope are bundled by the steps of this scope that they build on: a step of this scope may read
    the list of one bundle and feed the next (`below`, then `own`).
    """
    own = [id for id in graph.order if id in steps and graph.steps[id].scope == scope]
    bundles: dict[tuple[str, frozenset[str]], set[str]] = {}
    for id in graph.order:
        if id in steps and graph.steps[id].scope != scope:
            chain = graph.chain(graph.steps[id].scope)
            child = chain[chain.index(scope) - 1]
            bundles.setdefault((child, _built_on(graph, id, frozenset(own), steps)), set()).add(id)
    members: dict[tuple[str, str, int], frozenset[str]] = {("step", id, 0): frozenset([id]) for id in own}
    for n, ((child, _), inside) in enumerate(bundles.items()):
        members[("scope", child, n)] = frozenset(inside)
    owner = {id: name for name, ids in members.items() for id in ids}
    before = {
        name: {owner[used] for id in ids for used in graph.needs(id) if used in owner and owner[used] != name}
        for name, ids in members.items()
    }
    ordered = _topological(before)
    at = {name: i for i, name in enumerate(ordered)}
    nodes = tuple(
        Node(
            step=name[1] if name[0] == "step" else None,
            scope=name[1] if name[0] == "scope" else None,
            inner=_item_plan(graph, name[1], members[name]) if name[0] == "scope" else None,
            after=tuple(sorted(at[b] for b in before[name])),
        )
        for name in ordered
    )
    is_chain = all(i == 0 or i - 1 in node.after for i, node in enumerate(nodes))
    return ItemPlan(scope, nodes, steps, is_chain)


def _built_on(graph: _Graph, id: str, own: frozenset[str], steps: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for used in graph.needs(id):
        if used in own:
            found.add(used)
        if used in steps:
            found |= _built_on(graph, used, own, steps)
    return frozenset(found)


def _topological(before: dict[tuple[str, str, int], set[tuple[str, str, int]]]) -> list[tuple[str, str, int]]:
    done: list[tuple[str, str, int]] = []
    left = dict(before)
    while left:
        ready = [name for name, needs in left.items() if needs <= set(done)]
        if not ready:
            raise ValueError("the steps form a cycle; the loader should have refused it")
        done.extend(ready)
        for name in ready:
            del left[name]
    return done
