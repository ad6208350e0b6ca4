"""From `foreach`, `model` and `samples` to scopes, and from two scopes to what one step sees of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmpipe.config.fields import Fields, plain
from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
from llmpipe.config.pipeline import ROOT_SCOPE, RefMode, Scope, Split
from llmpipe.config.quantities import whole

_UNKNOWN = "unknown:"


@dataclass(slots=True)
class Draft:
    """A step on its way from the file to a Step."""

    id: str
    node: Node
    fields: Fields
    models: tuple[str, ...] = ()
    samples: int = 1
    source: str | None = None  # the step whose own scope it runs over, or whose output it fans out, splits or groups


@dataclass(slots=True)
class Scopes:
    """The scopes of a pipeline, made as the steps ask for them."""

    drafts: Mapping[str, Draft]
    datasets: Mapping[str, Any]  # every declared name, usable or not
    loading: Loading
    made: dict[str, Scope] = field(default_factory=lambda: {ROOT_SCOPE: Scope(ROOT_SCOPE, "root", None)})
    circular: bool = False  # items that come from themselves were found, and told
    homes: dict[str, str | None] = field(default_factory=dict)  # step → its scope; None while it is looked for

    def home(self, id: str) -> str:
        """The scope of a step's items; one of unknown items for a step whose `foreach` is broken."""
        if id not in self.homes:
            self.homes[id] = None
            draft = self.drafts[id]
            self.homes[id] = self._inner(draft, self._base(draft) or self._unknown(id))
        found = self.homes[id]
        if found is None:
            node = self.drafts[id].fields.get("foreach")
            message = f"the items of step '{id}' come from its own results"
            self.loading.problems.add("C216", message, node or self.drafts[id].node)
            self.circular = True
            found = self.homes[id] = self._unknown(id)
        return found

    def chain(self, scope: str) -> tuple[str, ...]:
        """The scope and those around it, innermost first; the root is the last."""
        found, at = [], self.made.get(scope)
        while at is not None:
            found.append(at.id)
            at = self.made.get(at.parent) if at.parent is not None else None
        return tuple(found)

    def mode(self, scope: str, step: str) -> RefMode:
        """What a reference to `step` means in `scope`: its own output, the list below this item, or the whole list."""
        home = self.home(step)
        if home in self.chain(scope):
            return "own"
        return "below" if scope != ROOT_SCOPE and scope in self.chain(home) else "whole"

    def sources(self, scope: str) -> tuple[str, ...]:
        """The steps whose results the items of a scope are made of."""
        found = (self.made[s] for s in self.chain(scope))
        return tuple(s.step for s in found if s.step is not None and s.kind in ("fanout", "split", "group"))

    def is_unknown(self, scope: str) -> bool:
        """Whether nobody knows what the items are, because the file is wrong about it."""
        return any(s.startswith(_UNKNOWN) for s in self.chain(scope))

    def _unknown(self, id: str) -> str:
        """A scope for a pipeline that will be refused anyway: it keeps what follows from being reported as well."""
        return self._put(Scope(f"{_UNKNOWN}{id}", "values", ROOT_SCOPE))

    def _put(self, scope: Scope) -> str:
        return self.made.setdefault(scope.id, scope).id

    def _inner(self, draft: Draft, scope: str) -> str:
        """The scopes that the step itself opens: one item per model, one per sample."""
        if len(draft.models) > 1:
            scope = self._put(Scope(f"models:{draft.id}", "models", scope, step=draft.id, models=draft.models))
        if draft.samples > 1:
            scope = self._put(Scope(f"samples:{draft.id}", "samples", scope, step=draft.id, count=draft.samples))
        return scope

    def _base(self, draft: Draft) -> str | None:
        node = draft.fields.get("foreach")
        if node is None:
            return None if draft.node.kind == "map" and "foreach" in draft.node.value else ROOT_SCOPE
        if node.kind == "map":
            return self._split(draft, node) if "split" in node.value else self._group(draft, node)
        kind, name, *path = str(node.value).split(".")
        if kind == "datasets":
            return self._dataset(name, node)
        if kind == "vars":
            return self._values(name, tuple(path), node)
        return self._of_step(draft, name, tuple(path), node) if kind == "steps" else None

    def _dataset(self, name: str, node: Node) -> str | None:
        if name not in self.datasets:
            hint, note = did_you_mean(name, self.datasets, prefix="datasets."), f"datasets: {listed(self.datasets)}"
            self.loading.problems.add("C213", f"there is no dataset '{name}'", node, hint=hint, note=note)
            return None
        return self._put(Scope(f"dataset:{name}", "dataset", ROOT_SCOPE, dataset=name))

    def _values(self, name: str, path: tuple[str, ...], node: Node) -> str | None:
        values: Any = self.loading.vars.get(name)
        if name not in self.loading.vars:
            hint, note = did_you_mean(name, self.loading.vars, prefix="vars."), f"vars: {listed(self.loading.vars)}"
            self.loading.problems.add("C214", f"there is no var '{name}'", node, hint=hint, note=note)
            return None
        for part in path:
            values = values.get(part) if isinstance(values, dict) else None
        if not isinstance(values, list):
            self.loading.problems.add("C219", f"'{node.value}' is not a list, so there is nothing to run over", node)
            return None
        where = (name, *path)
        return self._put(Scope(f"values:{'.'.join(where)}", "values", ROOT_SCOPE, path=where))

    def _of_step(self, draft: Draft, name: str, path: tuple[str, ...], node: Node) -> str | None:
        if not self.known(name, node):
            return None
        if name == draft.id:
            self.loading.problems.add("C216", f"step '{name}' runs over its own results", node)
            return None
        draft.source = name
        home = self.home(name)
        if not path:
            return home
        id = f"fanout:{name}.{'.'.join(path)}"
        return self._put(Scope(id, "fanout", home, step=name, path=path))

    def known(self, name: str, node: Node) -> bool:
        """Whether a step exists; a problem if not."""
        if name in self.drafts:
            return True
        hint, note = did_you_mean(name, self.drafts, prefix="steps."), f"steps: {listed(self.drafts)}"
        self.loading.problems.add("C212", f"there is no step '{name}'", node, hint=hint, note=note)
        return False

    def _group(self, draft: Draft, node: Node) -> str | None:
        fields = Fields(node, "group", self.loading.problems)
        source, by = fields.get("group"), fields.get("by")
        size = fields.read("size", whole, None)
        expression = self.loading.expression(by) if by is not None and by.kind == "str" else None
        name = str(source.value).removeprefix("steps.") if source is not None else ""
        if source is None or not self.known(name, source) or (by is not None and expression is None):
            return None
        if name == draft.id:
            self.loading.problems.add("C216", f"step '{name}' groups its own results", source)
            return None
        draft.source = name
        mark = _mark(expression.source if expression is not None else "", size)
        return self._put(Scope(f"group:{name}:{mark}", "group", ROOT_SCOPE, step=name, by=expression, size=size))

    def _split(self, draft: Draft, node: Node) -> str | None:
        fields = Fields(node, "split", self.loading.problems)
        source, size = fields.get("split"), fields.read("size", whole, 0)
        by: Any = fields.read("by", plain, "characters")
        overlap = fields.read("overlap", whole, 0)
        kind, _, name = str(source.value).partition(".") if source is not None else ("", "", "")
        text = fields.get("text")
        expression = self.loading.expression(text if text is not None else _default_text(node, kind))
        if overlap >= size > 0:
            message = f"'overlap' ({overlap}) must be less than 'size' ({size})"
            self.loading.problems.add("C204", message, node.key_place("overlap"))
        if source is None or expression is None or size < 1 or overlap >= size:
            return None
        parent = self._dataset(name, source) if kind == "datasets" else self._of_step(draft, name, (), source)
        if parent is None:
            return None
        split = Split(text=expression, by=by, size=size, overlap=overlap)
        id = f"split:{name}:{_mark(expression.source, by, size, overlap)}"
        return self._put(Scope(id, "split", parent, step=name if kind == "steps" else None, split=split))


def _default_text(node: Node, kind: str) -> Node:
    source = node.value["split"]
    return Node(
        "str", "output" if kind == "steps" else "item.text", source.source, source.start, source.end, style="fixed"
    )


def _mark(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
