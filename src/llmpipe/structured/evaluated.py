"""Which names of an object and which items of a list some keyword has looked at: what `unevaluated...` are about.

The rules are jsonschema's, one by one, for whoever can say whether a schema takes a value and what a reference names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from llmpipe.structured.regexes import search


class Asked(Protocol):
    """Who knows about the schemas of one document."""

    def takes(self, schema: Any, value: Any) -> bool:
        """Whether a schema takes a value."""

    def referred(self, reference: str) -> tuple[Asked, Any]:
        """The schema that a reference names, and who knows about the schemas in it."""


# (who, schema) by identity -> who, kept so that its identity stays its own, and what was found
Known = dict[tuple[int, int], tuple[Asked, Any]]


def evaluated_names(asked: Asked, value: dict[str, Any], schema: Any, known: Known) -> frozenset[str]:
    """The names of `value` that `schema` looks at. `known` is empty at first."""
    if not isinstance(schema, Mapping):
        return frozenset()
    slot = (id(asked), id(schema))
    if slot not in known:
        known[slot] = asked, frozenset(_names(asked, value, schema, known))
    found: frozenset[str] = known[slot][1]
    return found


def _names(asked: Asked, value: dict[str, Any], schema: Mapping[str, Any], known: Known) -> Iterator[str]:
    yield from value.keys() & schema.get("properties", {}).keys()
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema:
            rest = schema[keyword]
            yield from (name for name, item in value.items() if asked.takes(rest, item))
    for pattern in schema.get("patternProperties", ()):
        yield from (name for name in value if search(pattern, name))
    for other, sub in _in_place(asked, value, schema):
        yield from evaluated_names(other, value, sub, known)
    for name, sub in schema.get("dependentSchemas", {}).items():
        if name in value:
            yield from evaluated_names(asked, value, sub, known)


def evaluated_items(asked: Asked, value: list[Any], schema: Any, known: Known) -> frozenset[int]:
    """The indexes in `value` that `schema` looks at. `known` is empty at first."""
    if not isinstance(schema, Mapping):
        return frozenset()
    slot = (id(asked), id(schema))
    if slot not in known:
        known[slot] = asked, frozenset(_indexes(asked, value, schema, known))
    found: frozenset[int] = known[slot][1]
    return found


def _indexes(asked: Asked, value: list[Any], schema: Mapping[str, Any], known: Known) -> Iterator[int]:
    if "items" in schema:
        yield from range(len(value))
        return
    yield from range(len(schema.get("prefixItems", ())))
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            sub = schema[keyword]
            yield from (index for index, item in enumerate(value) if asked.takes(sub, item))
    for other, sub in _in_place(asked, value, schema):
        yield from evaluated_items(other, value, sub, known)


def _in_place(asked: Asked, value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[Asked, Any]]:
    """The schemas that are applied to the same value, and take it."""
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            yield asked.referred(schema[keyword])
    for keyword in ("allOf", "oneOf", "anyOf"):
        yield from ((asked, sub) for sub in schema.get(keyword, ()) if asked.takes(sub, value))
    if "if" not in schema:
        return
    if asked.takes(schema["if"], value):
        yield asked, schema["if"]
        if "then" in schema:
            yield asked, schema["then"]
    elif "else" in schema:
        yield asked, schema["else"]
