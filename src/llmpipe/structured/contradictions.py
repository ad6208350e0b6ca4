"""Finds what a schema says and cannot mean: bounds that leave nothing, values of another type, words without effect.

An error is what no value could fit, so that every answer would be paid for in vain; the rest are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.structured.equality import canonical
from llmpipe.structured.keywords import Dialect, Tokens
from llmpipe.structured.regexes import SearchTooLong, search

Found = tuple[Tokens, str, str, str]  # path, message, hint, severity

_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "additionalItems"),
    "object": (
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas"),
    ),
}
_TYPE_OF = {word: name for name, words in _BY_TYPE.items() for word in words}
_COUNTS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_NEEDS = {
    **dict.fromkeys(("then", "else"), ("if",)),
    "if": ("then", "else"),
    **dict.fromkeys(("minContains", "maxContains"), ("contains",)),
}
_CLASSES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def contradictions(tokens: Tokens, schema: Mapping[str, Any], dialect: Dialect) -> Iterator[Found]:
    """What is senseless in one schema, whose keywords all have the right shape."""
    if dialect == "draft-07" and "$ref" in schema:
        return
    types = _types(schema)
    for keyword, others in _NEEDS.items():
        if keyword in schema and not any(other in schema for other in others):
            yield (*tokens, keyword), f"{keyword} decides nothing without {' or '.join(others)}", "", "warning"
    if "dependencies" in schema and dialect == "2020-12":
        hint = "write `dependentRequired` or `dependentSchemas`"
        yield (*tokens, "dependencies"), "'dependencies' belongs to draft-07 and decides nothing here", hint, "warning"
    yield from _idle(tokens, schema, types)
    yield from _bounds(tokens, schema, types)
    yield from _values(tokens, schema, types)
    yield from _closed(tokens, schema, types)


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The types that are named, integer as number; none where any is taken."""
    names = schema.get("type", ())
    names = (names,) if isinstance(names, str) else names
    return tuple(dict.fromkeys("number" if name == "integer" else name for name in names))


def _named(schema: Mapping[str, Any]) -> str:
    return schema["type"] if isinstance(schema["type"], str) else " or ".join(schema["type"])


def _idle(tokens: Tokens, schema: Mapping[str, Any], types: tuple[str, ...]) -> Iterator[Found]:
    for keyword in schema if types else ():
        wanted = _TYPE_OF.get(keyword)
        if wanted is not None and wanted not in types:
            message = f"{keyword} decides nothing about a value of type {_named(schema)}"
            yield (*tokens, keyword), message, f"it is for {wanted}s", "warning"


def _bounds(tokens: Tokens, schema: Mapping[str, Any], types: tuple[str, ...]) -> Iterator[Found]:
    """Lower bounds above upper ones. Without a type, or with several, values of another type would still fit."""
    pairs = [(low, high, False) for low, high in _COUNTS]
    pairs += [("minContains", "maxContains", False)] if "contains" in schema else []
    pairs += [("minimum", "maximum", False), ("exclusiveMinimum", "exclusiveMaximum", True)]
    pairs += [("minimum", "exclusiveMaximum", True), ("exclusiveMinimum", "maximum", True)]
    for low, high, strict in pairs:
        if low not in schema or high not in schema:
            continue
        one, two = schema[low], schema[high]
        if one > two or (strict and one == two):
            alone = types == (_TYPE_OF.get(low, "array"),)
            message = f"no value fits: {low} {one} leaves nothing below {high} {two}"
            yield (*tokens, low), message, "", "error" if alone else "warning"


def _values(tokens: Tokens, schema: Mapping[str, Any], types: tuple[str, ...]) -> Iterator[Found]:
    values = schema.get("enum", ())
    twice = len(values) - len({canonical(value) for value in values})
    if twice:
        yield (*tokens, "enum"), "enum lists a value twice", "", "warning"
    if not types:
        return
    wanted = _named(schema)
    foreign = [index for index, value in enumerate(values) if not _is_of(value, schema["type"])]
    if foreign and len(foreign) == len(values):
        yield (*tokens, "enum"), f"no value fits: nothing in enum is of type {wanted}", "", "error"
    else:
        for index in foreign:
            hint = 'add "null" to `type`' if values[index] is None else ""
            yield (*tokens, "enum", index), f"a value in enum is not of type {wanted} and never fits", hint, "warning"
    if "const" in schema and not _is_of(schema["const"], schema["type"]):
        yield (*tokens, "const"), f"no value fits: const is not of type {wanted}", "", "error"


def _is_of(value: Any, types: Any) -> bool:
    names = [types] if isinstance(types, str) else types
    if type(value) is float and value.is_integer() and "integer" in names:
        return True
    return any(type(value) in _CLASSES[name] for name in names)


def _closed(tokens: Tokens, schema: Mapping[str, Any], types: tuple[str, ...]) -> Iterator[Found]:
    """A closed object that asks for names which nothing in it allows, or for more names than there are."""
    if schema.get("additionalProperties") is not False:
        return
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    severity = "error" if types == ("object",) else "warning"
    for index, name in enumerate(schema.get("required", ())):
        if ("properties" not in schema or patterns) and name not in properties and not _matched(name, patterns):
            message = f"required names {name!r}, which neither properties nor patternProperties allow"
            yield (*tokens, "required", index), message, "", severity
    if not patterns and schema.get("minProperties", 0) > len(properties):
        message = f"no value fits: minProperties is {schema['minProperties']}, and {len(properties)} are allowed"
        yield (*tokens, "minProperties"), message, "", severity


def _matched(name: str, patterns: Mapping[str, Any]) -> bool:
    try:
        return any(search(pattern, name) for pattern in patterns)
    except SearchTooLong:
        return True
