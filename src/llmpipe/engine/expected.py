"""How many items each scope will have, where lists that make them are not there yet (pure)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction

from llmpipe.config.pipeline import Pipeline, Scope
from llmpipe.engine.history import History
from llmpipe.engine.planned import Figure, about, exact, unknown

_FEW = 5  # lists that are there, below which an earlier run tells more


class ExpectedItems:
    """Items by scope: exact where all are there, else by how many the lists have that are there, else by a run."""

    def __init__(
        self,
        pipeline: Pipeline,
        there: Mapping[str, int],
        *,
        unexpanded: Mapping[str, int],
        unknown: Collection[str],
        history: History,
    ) -> None:
        """`there`: items by scope; `unexpanded`: of how many items the list is missing; `unknown`: top scopes."""
        self._pipeline, self._there, self._history = pipeline, there, history
        self._unexpanded, self._unknown = unexpanded, unknown
        self._known: dict[str, tuple[Figure, str]] = {}

    def of(self, scope: str) -> tuple[Figure, str]:
        """How many items, and what an estimate rests on ("" for none)."""
        if scope not in self._known:
            self._known[scope] = self._of(self._pipeline.scopes[scope])
        return self._known[scope]

    def _of(self, scope: Scope) -> tuple[Figure, str]:
        there = self._there.get(scope.id, 0)
        if scope.id in self._unknown:
            return self._of_unknown(scope)
        if scope.parent is None:
            return exact(there), ""
        parents, by = self.of(scope.parent)
        missing = self._unexpanded.get(scope.id, 0)
        if parents.is_exact and not missing:
            return exact(there), ""
        if parents.value is None:
            return unknown(there), ""
        expanded = self._there.get(scope.parent, 0) - missing
        ratio, by = self._ratio(scope, expanded, by)
        if ratio is None:
            return unknown(there), ""
        more = math.ceil(ratio * (Fraction(parents.value) - expanded))
        return about(there + max(0, more), there), by

    def _ratio(self, scope: Scope, expanded: int, by: str) -> tuple[Fraction | None, str]:
        """Items below an item, and what that rests on."""
        if scope.kind in ("samples", "models"):
            return Fraction(scope.count if scope.kind == "samples" else len(scope.models)), by
        own = Fraction(self._there.get(scope.id, 0), expanded) if expanded else None
        if own is not None and expanded >= _FEW:
            return own, "as the lists that are there"
        mine, above = self._course(scope.id), self._course(scope.parent or "")
        if mine is not None and above is not None and above[0]:
            return Fraction(mine[0], above[0]), f"as in run {mine[1]}"
        return own, "as the lists that are there"

    def _of_unknown(self, scope: Scope) -> tuple[Figure, str]:
        found = self._course(scope.id)
        if found is not None:
            return about(found[0]), f"as in run {found[1]}"
        if scope.kind == "group" and scope.by is None and scope.size and scope.step:
            members, by = self.of(self._pipeline.step(scope.step).scope)
            if members.value is not None:
                return about(math.ceil(members.value / scope.size)), by or "by the size of the groups"
        return unknown(), ""

    def _course(self, scope: str) -> tuple[int, str] | None:
        """How many items an earlier run had in a scope, and which run that was."""
        for step in self._pipeline.steps:
            course = self._history.courses.get(step.id)
            if step.scope == scope and course is not None:
                return course.items, course.run
        return None
