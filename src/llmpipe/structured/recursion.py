"""Finds schemas that refer to themselves in a way that no finite value, or no finite checking, can satisfy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from llmpipe.structured.bundle import walk
from llmpipe.structured.keywords import Dialect, Tokens, lookup, parse_pointer

_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")


def target_of(document: Any, reference: str) -> Any:
    """The schema that a bundled reference (`#/...`) names. Raises KeyError if nothing stands there."""
    return lookup(document, parse_pointer(unquote(reference[1:])))


def in_place(document: Any, schema: Any, dialect: Dialect) -> Iterator[Any]:
    """The schemas that are applied to the very value that `schema` is applied to."""
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        yield target_of(document, schema["$ref"])
        if dialect == "draft-07":
            return
    for keyword in _IN_PLACE_LISTS:
        yield from schema.get(keyword, ())
    for keyword in _IN_PLACE:
        if keyword in schema:
            yield schema[keyword]
    dependents = schema.get("dependentSchemas" if dialect == "2020-12" else "dependencies", {})
    yield from (sub for sub in dependents.values() if not isinstance(sub, list))


def endless_loops(document: Any, dialect: Dialect) -> Iterator[tuple[Tokens, str]]:
    """Schemas whose checking comes back to them without having gone deeper into the value: `{"$ref": "#"}`."""
    state: dict[int, bool] = {}  # True: on the way, False: done
    reported = False

    def loops(schema: Any) -> bool:
        known = state.get(id(schema))
        if known is not None:
            return known
        state[id(schema)] = True
        found = any(loops(sub) for sub in in_place(document, schema, dialect))
        state[id(schema)] = False
        return found

    for tokens, schema in walk(document, dialect):
        if not reported and loops(schema):
            reported = True
            yield tokens, "the schema refers to itself without going deeper into the value, so checking would never end"


def dead_ends(document: Any, dialect: Dialect) -> Iterator[tuple[Tokens, str]]:
    """Schemas that no finite value fits, because a value would have to contain another of its kind for ever."""
    schemas = list(walk(document, dialect))
    possible: dict[int, bool] = {}
    changed = True
    while changed:
        changed = False
        for _, schema in schemas:
            if not possible.get(id(schema)) and _possible(document, schema, possible, dialect):
                possible[id(schema)] = changed = True
    for tokens, schema in schemas:
        if not possible.get(id(schema)) and _recurses(document, schema, dialect):
            yield tokens, "no finite value fits: it would have to contain another of its kind for ever"
            return


def _possible(document: Any, schema: Mapping[str, Any], possible: Mapping[int, bool], dialect: Dialect) -> bool:
    """Whether a finite value may fit, as far as references and required parts decide it (never a false alarm)."""

    def can(sub: Any) -> bool:
        return sub is True or (isinstance(sub, Mapping) and possible.get(id(sub), False))

    referred = "$ref" not in schema or can(target_of(document, schema["$ref"]))
    if not referred or (dialect == "draft-07" and "$ref" in schema):
        return referred
    if not all(can(sub) for sub in schema.get("allOf", ())):
        return False
    if any(word in schema and not any(can(sub) for sub in schema[word]) for word in ("anyOf", "oneOf")):
        return False
    return all(can(part) for part in _needed(schema))


def _needed(schema: Mapping[str, Any]) -> list[Any]:
    """The schemas of the parts without which no value of a schema can be: required properties, a first item."""
    types = schema.get("type")
    needed: list[Any] = []
    if types in ("object", ["object"]):
        properties = schema.get("properties", {})
        rest = True if schema.get("patternProperties") else schema.get("additionalProperties", True)
        needed = [properties.get(name, rest) for name in schema.get("required", ())]
        needed += [rest] if schema.get("minProperties", 0) > len(properties) else []
    if types in ("array", ["array"]):
        first = schema.get("prefixItems", [schema.get("items", True)])[0]
        needed += [first] if schema.get("minItems", 0) > 0 else []
        needed += [schema.get("contains", True)] if schema.get("minContains", 1) > 0 else []
    return [part for part in needed if isinstance(part, Mapping)]


def _recurses(document: Any, start: Mapping[str, Any], dialect: Dialect) -> bool:
    """Whether the schema can be reached from itself."""
    seen: set[int] = set()
    stack = _below(document, start, dialect)
    while stack:
        schema = stack.pop()
        if schema is start:
            return True
        if id(schema) not in seen:
            seen.add(id(schema))
            stack += _below(document, schema, dialect)
    return False


def _below(document: Any, schema: Any, dialect: Dialect) -> list[Any]:
    if not isinstance(schema, Mapping):
        return []
    found = list(in_place(document, schema, dialect))
    for keyword in ("properties", "patternProperties"):
        found += schema.get(keyword, {}).values()
    items = schema.get("items", True)
    found += items if isinstance(items, list) else [items]
    further = (schema.get(keyword, True) for keyword in ("additionalProperties", "contains"))
    return [*found, *schema.get("prefixItems", ()), *further]
