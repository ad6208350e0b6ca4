"""The list that every problem of a file goes on, so that all are told at once."""

from __future__ import annotations

from collections.abc import Iterable

from llmpipe.config.nodes import Node
from llmpipe.errors import ConfigError, Place, Problem


class Problems:
    """Problems in the order in which they were found; the same sentence at the same place stands once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, int, int], Problem] = {}
        self._muted: frozenset[str] = frozenset()

    def mute(self, *codes: str) -> None:
        """From now on leave out what has one of these codes: it only follows from something that is told already."""
        self._muted |= frozenset(codes)

    def add(
        self, code: str, message: str, at: Node | Place, *, hint: str = "", note: str = "", where: str = ""
    ) -> None:
        """Note an error at a node or a place."""
        place = at.place if isinstance(at, Node) else at
        self.extend([Problem(code, message, place, hint=hint, note=note, where=where)])

    def warn(self, code: str, message: str, at: Node | Place, *, hint: str = "", note: str = "") -> None:
        """Note something that does not stop a run."""
        place = at.place if isinstance(at, Node) else at
        self.extend([Problem(code, message, place, hint=hint, note=note, severity="warning")])

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note problems that somebody else has found."""
        for p in (p for p in problems if p.code not in self._muted):
            self._found.setdefault((p.code, p.message, p.place.file, p.place.line, p.place.column), p)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The errors, by file, line and column."""
        return self._sorted("error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings, by file, line and column."""
        return self._sorted("warning")

    def _sorted(self, severity: str) -> tuple[Problem, ...]:
        found = [p for p in self._found.values() if p.severity == severity]
        files = {name: i for i, name in enumerate(dict.fromkeys(p.place.file for p in found))}
        return tuple(sorted(found, key=lambda p: (files[p.place.file], p.place.line, p.place.column)))

    def check(self) -> None:
        """Raises ConfigError with everything found so far, if there are errors."""
        if errors := self.errors:
            raise ConfigError([*errors, *self.warnings])
