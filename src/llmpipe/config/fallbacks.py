"""The `fallback` of a model or a step: names of models, each perhaps with the errors that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from llmpipe.config.fields import Fields, items, names
from llmpipe.config.nodes import Node
from llmpipe.config.problems import Problems
from llmpipe.frozen import frozen
from llmpipe.types import EMPTY


@frozen
class Fallbacks:
    """The models in their order, and the words of those that are for some errors alone (as in CallPolicy)."""

    names: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: EMPTY)


def read_fallbacks(node: Node, problems: Problems) -> Fallbacks:
    """What a `fallback` says."""
    found: list[str] = []
    words: dict[str, tuple[str, ...]] = {}
    for entry in items(node):
        fields = Fields(entry, "fallback", problems)
        name = str(entry.value) if entry.kind != "map" else fields.text("model")
        meant = fields.read("on", names, ())
        if name is not None:
            found.append(name)
            if meant:
                words[name] = meant
    return Fallbacks(tuple(found), words)


def name_node(entry: Node) -> Node | None:
    """Where the name of an entry's model stands: the entry itself, or its `model`."""
    if entry.kind != "map":
        return entry
    found: Node | None = entry.value.get("model")
    return None if found is None or found.is_spoilt else found
