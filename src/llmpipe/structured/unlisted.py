"""Finds the properties that a schema asks for beside those that it lists: a copy that is closed could not hold them.

properties: {kind}, then: {properties: {severity}, required: [severity]}        →  severity
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.structured.recursion import target_of

_CONDITIONAL = ("then", "else")
_LISTS = ("allOf", "anyOf", "oneOf")


def unlisted(document: Any, schema: Mapping[str, Any]) -> list[str]:
    """Names that `schema` (of `document`) requires, or that its conditional parts know, without listing them."""
    listed = {name for name, sub in schema.get("properties", {}).items() if sub is not False}
    found = list(schema.get("required", ()))
    for name, names in schema.get("dependentRequired", {}).items():
        found += names if name in listed else ()
    for part in _parts(schema, listed):
        found += _named(document, part, set())
    return [name for name in dict.fromkeys(found) if name not in listed]


def _parts(schema: Mapping[str, Any], listed: set[str]) -> Iterator[Any]:
    """The schemas that are applied to the same object under a condition that may hold."""
    if "if" in schema:
        yield from (schema[word] for word in _CONDITIONAL if word in schema)
    for keyword in ("dependentSchemas", "dependencies"):
        yield from (sub for name, sub in schema.get(keyword, {}).items() if name in listed)


def _named(document: Any, part: Any, seen: set[int]) -> Iterator[str]:
    """The names that a conditional part requires or describes."""
    if isinstance(part, list):  # draft-07: `dependencies` with names
        yield from part
    if not isinstance(part, Mapping) or id(part) in seen:
        return
    seen.add(id(part))
    yield from part.get("required", ())
    yield from (name for name, sub in part.get("properties", {}).items() if sub is not False)
    inner = [target_of(document, part["$ref"])] if "$ref" in part else []
    inner += [sub for keyword in _LISTS for sub in part.get(keyword, ())]
    inner += [part[word] for word in _CONDITIONAL if word in part]
    for sub in inner:
        yield from _named(document, sub, seen)
