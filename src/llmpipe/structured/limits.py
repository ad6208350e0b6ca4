"""Counts what providers count in a schema, and says which limit a reduced copy exceeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.structured.bundle import walk
from llmpipe.structured.dialects import LONG_ENUM, LONG_ENUM_CHARACTERS, SchemaLimits
from llmpipe.structured.recursion import target_of


def exceeded(schema: Mapping[str, Any], limits: SchemaLimits) -> str | None:
    """Which limit the copy is over, in words; None if none."""
    nodes = [node for _, node in walk(schema, "2020-12")]
    if limits.recursion != "any" and _loops(schema, nodes, through_optional=limits.recursion == "none"):
        where = "" if limits.recursion == "none" else " through properties that are required"
        return f"it is recursive{where}, which {limits.name} does not take"
    for what, count, most in _counts(schema, nodes, limits):
        if most is not None and count > most:
            return f"it has {count} {what}, and {limits.name} takes {most}"
    if limits.enum_values is not None:
        for node in nodes:
            size = sum(len(value) for value in node.get("enum", ()) if isinstance(value, str))
            if len(node.get("enum", ())) > LONG_ENUM and size > LONG_ENUM_CHARACTERS:
                return f"an enum of over {LONG_ENUM} values has more than {LONG_ENUM_CHARACTERS} characters"
    return None


def _counts(
    schema: Mapping[str, Any], nodes: list[dict[str, Any]], limits: SchemaLimits
) -> Iterator[tuple[str, int, int | None]]:
    names = [name for node in nodes for name in node.get("properties", {})]
    values = [value for node in nodes for value in node.get("enum", ())]
    constants = [node["const"] for node in nodes if "const" in node]
    characters = sum(len(name) for name in [*names, *schema.get("$defs", ())])
    characters += sum(len(v if isinstance(v, str) else json.dumps(v)) for v in [*values, *constants])
    optional = sum(len(set(node.get("properties", {})) - set(node.get("required", ()))) for node in nodes)
    unions = sum("anyOf" in node or isinstance(node.get("type"), list) for node in nodes)
    yield "properties", len(names), limits.properties
    yield "enum values", len(values), limits.enum_values
    yield "characters in names and values", characters, limits.characters
    yield "optional properties", optional, limits.optional
    yield "properties with alternative types", unions, limits.unions
    if limits.levels is not None:
        yield "levels of objects", _levels(schema, schema, {}), limits.levels


def _levels(document: Mapping[str, Any], schema: Any, known: dict[int, int]) -> int:
    """How many objects stand in one another; a recursive reference is followed once."""
    if not isinstance(schema, Mapping):
        return 0
    if id(schema) not in known:
        known[id(schema)] = 0  # what a recursive reference finds on its way back
        inner = max((_levels(document, sub, known) for sub in _below(document, schema)), default=0)
        known[id(schema)] = inner + ("properties" in schema)
    return known[id(schema)]


def _below(document: Mapping[str, Any], schema: Mapping[str, Any], *, through_optional: bool = True) -> list[Any]:
    """The schemas one step down from a schema of a reduced copy, references followed."""
    if "$ref" in schema:
        return [target_of(document, schema["$ref"])]
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    found = [sub for name, sub in properties.items() if through_optional or name in required]
    return [*found, *schema.get("anyOf", ()), *schema.get("prefixItems", ()), schema.get("items", True),
            schema.get("additionalProperties", True)]  # fmt: skip


def _loops(document: Mapping[str, Any], nodes: list[dict[str, Any]], *, through_optional: bool) -> bool:
    """Whether some schema leads back to itself."""
    for start in nodes:
        seen: set[int] = set()
        stack = _below(document, start, through_optional=through_optional)
        while stack:
            node = stack.pop()
            if node is start:
                return True
            if isinstance(node, Mapping) and id(node) not in seen:
                seen.add(id(node))
                stack += _below(document, node, through_optional=through_optional)
    return False


def is_recursive(document: Mapping[str, Any], schema: Any) -> bool:
    """Whether a schema of a full document refers, at whatever depth, to itself."""
    seen: set[int] = set()
    stack: list[Any] = [schema]
    while stack:
        for _, node in walk(stack.pop(), "2020-12"):
            if "$ref" not in node:
                continue
            target = target_of(document, node["$ref"])
            if target is schema:
                return True
            if id(target) not in seen:
                seen.add(id(target))
                stack.append(target)
    return False
