"""What a step's templates see for one item, why the item may be blocked, and the digest of what was read for it.

The digest covers the step's own definition and every value at a path that one of its templates names, so that a column
nobody reads may change without anything being asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Scope, Step, StepRef
from llmpipe.engine.entries import ListEntries, StepEntries, item_entries
from llmpipe.engine.items import UNSENT, Cell, Item, canonical, digest_of

Expand = Callable[[Item], Any]


class Blocked(Exception):
    """The step cannot run for this item; `cell` says whether it is skipped (with the reason) or not sent."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.reason)
        self.cell = cell


class Wholes:
    """The finished lists of whole steps, and whether each met its contract."""

    def __init__(self) -> None:
        self._lists: dict[str, StepEntries] = {}
        self._digests: dict[str, bytes] = {}
        self._broken: dict[str, str] = {}

    def add(self, step: str, entries: StepEntries, broken: str = "") -> None:
        """`step` is done; `broken` says why its list may not be read."""
        self._lists[step] = entries
        self._broken[step] = broken
        self._digests.pop(step, None)

    def get(self, step: str) -> StepEntries:
        """The list of a finished step. Raises Blocked if it did not meet its contract."""
        if step not in self._lists:
            raise Blocked(UNSENT)
        if self._broken[step]:
            raise Blocked(Cell("skipped", reason=self._broken[step]))
        return self._lists[step]

    def digest(self, step: str) -> bytes:
        """A digest of the list, made once."""
        if step not in self._digests:
            self._digests[step] = self._lists[step].digest()
        return self._digests[step]


class Sight:
    """What one step sees: prepared once per run, asked once per item."""

    def __init__(self, pipeline: Pipeline, step: Step, wholes: Wholes, *, definition: bytes) -> None:
        self._pipeline, self._step, self._wholes, self._definition = pipeline, step, wholes, definition
        self._scopes = pipeline.scopes
        self._vars = dict(pipeline.vars)
        self._home = {s.id: s.scope for s in pipeline.steps}
        self._modes = {ref.step: ref.mode for ref in step.refs}
        self._paths = sorted(_paths(step))
        self._down = {ref.step: _way_down(self._scopes, self._home[ref.step]) for ref in step.refs}
        kinds = {self._scopes[s].kind for s in _way_down(self._scopes, step.scope)}
        self._is_group, self._varies = "group" in kinds, not kinds.isdisjoint(_VARIANTS)

    def scope(self, item: Item, expand: Expand) -> dict[str, Any]:
        """The names that a template may use. Raises Blocked if another step's result is missing."""
        names: dict[str, Any] = {"item": expand(item), "key": item.key, "vars": self._vars}
        if item.parent is not None and item.parent.scope != ROOT_SCOPE:
            names["parent"] = expand(item.parent)
        names["steps"] = {ref.step: self._value(ref, item, expand) for ref in self._step.refs}
        for need in self._step.needs:
            self._check_need(need, item)
        return names

    def _value(self, ref: StepRef, item: Item, expand: Expand) -> Any:
        if ref.mode == "whole":
            return self._wholes.get(ref.step)
        if ref.mode == "below":
            return self._below(ref.step, item, expand)
        return self._own(ref.step, item)

    def _own(self, step: str, item: Item) -> Any:
        home = item.within(self._home[step])
        cell = home.cells.get(step, UNSENT) if home else UNSENT
        if cell.status == "succeeded":
            return cell.output
        if cell.status == "unsent":
            raise Blocked(UNSENT)
        if self._step.allow_skipped:
            return None
        raise Blocked(Cell("skipped", reason=_because(step, cell)))

    def _below(self, step: str, item: Item, expand: Expand) -> ListEntries:
        found = list(item.below(self._home[step], self._down[step]))
        cells = [child.cells.get(step, UNSENT) for child in found]
        if any(cell.status == "unsent" for cell in cells):
            raise Blocked(UNSENT)
        source = self._source_fault(step, item)
        if source is not None and not self._step.allow_skipped:
            raise Blocked(source)
        entries = item_entries(step, found, expand)
        contract = self._pipeline.step(step).min_success
        if contract.count is None and not contract.met(len(entries), entries.failed) and not self._step.allow_skipped:
            reason = f"{entries.failed} of {len(entries) + entries.failed} items of {step} failed"
            raise Blocked(Cell("skipped", reason=reason))
        return entries

    def _source_fault(self, step: str, item: Item) -> Cell | None:
        """Why there are no items below: the step whose list was to be fanned out has no result for this item."""
        for scope in self._down[step]:
            source = self._scopes[scope].step
            home = item.within(self._home[source]) if source in self._home else None
            cell = home.cells.get(source or "") if home else None
            if cell is not None and cell.status != "succeeded":
                return UNSENT if cell.status == "unsent" else Cell("skipped", reason=_because(source or "", cell))
        return None

    def _check_need(self, need: str, item: Item) -> None:
        """`needs` orders steps; it also keeps an item back whose own result of the other step is missing."""
        home = item.within(self._home[need])
        if home is not None and need in home.cells:
            self._own(need, item)

    def digest(self, item: Item) -> bytes:
        """16 bytes that name what this step read for the item; call `scope` first."""
        if self._is_group:
            parts: list[Any] = [item.digest.hex()]
        else:
            parts = []
        values = [self._read(path, item) for path in self._paths]
        variants = self._variants(item) if self._varies else []
        return digest_of(self._definition, canonical([*parts, *values, variants]))

    def _variants(self, item: Item) -> list[str]:
        return [i.key.rsplit("/", 1)[-1] for i in item.enclosing() if self._scopes[i.scope].kind in _VARIANTS]

    def _read(self, path: tuple[str, ...], item: Item) -> Any:
        root = path[0]
        if root == "item":
            return item.digest.hex() if self._is_group else walk(item.data, path[1:])
        if root == "parent":
            return walk(item.parent.data, path[1:]) if item.parent else None
        if root == "key":
            return item.key
        step = path[1] if len(path) > 1 else ""
        mode = self._modes.get(step)
        if mode == "whole":
            return self._wholes.digest(step).hex()
        if mode == "below":
            found = item.below(self._home[step], self._down[step])
            return [[i.key, i.data, i.cells[step].status, i.cells[step].output] for i in found]
        home = item.within(self._home[step]) if step in self._home else None
        cell = home.cells.get(step, UNSENT) if home else UNSENT
        return [cell.status, walk(cell.output, path[2:])]


_VARIANTS = ("samples", "models")


def _because(step: str, cell: Cell) -> str:
    if cell.status == "failed":
        return f"{step} failed{f' ({cell.code})' if cell.code else ''}"
    return f"{step} was skipped{f': {cell.reason}' if cell.reason else ''}"


def _way_down(scopes: Mapping[str, Scope], scope: str) -> tuple[str, ...]:
    """The scopes from a child of the root down to `scope`."""
    way: list[str] = []
    at: str | None = scope
    while at is not None:
        way.append(at)
        at = scopes[at].parent
    return tuple(reversed(way))


def templates_of(step: Step) -> Iterable[Any]:
    """Every template and expression of a step."""
    yield from (m.content for m in step.messages)
    yield from (t for t in (step.render, step.when) if t is not None)
    yield from step.checks


def _paths(step: Step) -> set[tuple[str, ...]]:
    found = {read.path for template in templates_of(step) for read in template.reads}
    if step.kind == "python":
        found |= {("item",), ("parent",)} | {("steps", ref.step) for ref in step.refs}
    return {path for path in found if path[0] in ("item", "parent", "key", "steps")}


def walk(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a path, or a mark that there is none."""
    for name in path:
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, (list, tuple)) and name.lstrip("-").isdigit() and -len(value) <= int(name) < len(value):
            value = value[int(name)]
        else:
            return {"": "missing"}
    return value
