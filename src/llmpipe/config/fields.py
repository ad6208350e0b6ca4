"""The one way to take a key out of a mapping of the file, so that what is never taken can be found by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from llmpipe.config.keys import definition
from llmpipe.config.nodes import Node
from llmpipe.config.problems import Problems

T = TypeVar("T")
D = TypeVar("D")
taken: set[tuple[str, str]] = set()  # (name of the mapping's definition, key), over the life of the process


class Fields:
    """A mapping of the file as the definition `name` describes it; asking for a key that is not in it is a fault."""

    def __init__(self, node: Node | None, name: str, problems: Problems) -> None:
        self.node, self.name, self.problems = node, name, problems
        self._known: Any = definition(name)["properties"]

    def get(self, key: str) -> Node | None:
        """The value of a key, None if it is left out."""
        if key not in self._known:
            raise KeyError(f"the schema knows no key {key!r} in {self.name}")
        taken.add((self.name, key))
        found: Node | None = self.node.value.get(key) if self.node is not None and self.node.kind == "map" else None
        return None if found is None or found.is_spoilt else found

    def read(self, key: str, convert: Callable[[Node], T], default: D) -> T | D:
        """The value of a key, converted; a value that cannot be converted is a problem at its place."""
        node = self.get(key)
        if node is None:
            return default
        try:
            return convert(node)
        except (ValueError, ArithmeticError) as error:
            self.problems.add("C204", f"'{key}': {error}" if str(error) else f"'{key}' cannot be read", node)
            return default

    def text(self, key: str, default: str | None = None) -> str | None:
        """The text of a key."""
        return self.read(key, plain, default)

    def sub(self, key: str, name: str) -> Fields:
        """The mapping under a key, which the definition `name` describes; empty if it is left out."""
        node = self.get(key)
        return Fields(node if node is not None and node.kind == "map" else None, name, self.problems)

    def each(self, key: str) -> Iterator[tuple[str, Node]]:
        """The entries of a mapping of named entries."""
        node = self.get(key)
        if node is not None and node.kind == "map":
            yield from node.value.items()


def plain(node: Node) -> Any:
    """The value as plain data."""
    return node.plain()


def items(node: Node | None) -> list[Node]:
    """A list, or a single value as a list of one."""
    if node is None:
        return []
    return [entry for entry in node.value if not entry.is_spoilt] if node.kind == "list" else [node]


def names(node: Node) -> tuple[str, ...]:
    """A text or a list of texts as a tuple."""
    return tuple(str(entry.value) for entry in items(node))
