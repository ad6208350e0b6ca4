"""Folds two schemas that apply to one value into one schema: what `allOf` means, spelled without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.structured.equality import canonical
from llmpipe.structured.keywords import ANNOTATIONS


def merged(one: Any, two: Any) -> Any:
    """A schema that takes what both take. Where keywords cannot be folded into one, `allOf` keeps the second."""
    if one is False or two is False:
        return False
    if one is True or two is True:
        return two if one is True else one
    result = dict(one)
    left: dict[str, Any] = {}
    for keyword, value in two.items():
        if keyword not in result or result[keyword] == value:
            result[keyword] = value
        elif keyword in _FOLDS:
            result[keyword] = _FOLDS[keyword](result[keyword], value)
        elif keyword not in ANNOTATIONS:
            left[keyword] = value
    _close(result, one, two)
    if left:
        result["allOf"] = [*result.get("allOf", ()), left]
    return result


def _close(result: dict[str, Any], one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    """A name that one side knows and the other's `additionalProperties` rules out, stays ruled out."""
    for here, there in ((one, two), (two, one)):
        rest = here.get("additionalProperties", True)
        if rest is True or here.get("patternProperties"):
            continue
        foreign = {n: merged(sub, rest) for n, sub in there.get("properties", {}).items() if n not in _names(here)}
        if foreign:
            result["properties"] = {**result["properties"], **foreign}


def _names(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    names: Mapping[str, Any] = schema.get("properties", {})
    return names


def _both(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    shared = {name: merged(one[name], two[name]) for name in one if name in two}
    return {**one, **two, **shared}


def _types(one: Any, two: Any) -> Any:
    first, second = ([kind] if isinstance(kind, str) else kind for kind in (one, two))
    found = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
    found += [kind for kind in second if kind == "integer" and "number" in first and kind not in found]
    return found[0] if len(found) == 1 else found


def _common(one: list[Any], two: list[Any]) -> list[Any]:
    keys = {canonical(value) for value in two}
    return [value for value in one if canonical(value) in keys]


_FOLDS: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "enum": _common,
    "properties": _both,
    "patternProperties": _both,
    "$defs": _both,
    "definitions": _both,
    "required": lambda one, two: list(dict.fromkeys([*one, *two])),
    "allOf": lambda one, two: [*one, *two],
    "items": lambda one, two: merged(one, two) if not isinstance(one, list) and not isinstance(two, list) else one,
    "additionalProperties": merged,
    "propertyNames": merged,
    "not": lambda one, two: {"anyOf": [one, two]},
    "uniqueItems": lambda one, two: one or two,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"), min),
}
