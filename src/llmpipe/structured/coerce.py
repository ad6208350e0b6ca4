"""Turns texts into the numbers, booleans and nulls that a schema asks for; only where the user opted in by `coerce`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.json_numbers import UnkeptNumber, read_number
from llmpipe.late import late
from llmpipe.structured.formats import is_date
from llmpipe.structured.recursion import target_of
from llmpipe.structured.violations import path_of

_NUMBER = late(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False, "yes": True, "no": False}
_SLASHED = late(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})")
_ISO_TIME = late(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]00:00(?::00(?:\.0+)?)?(?:Z|\+00:00)?")


def coerce(value: Any, document: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """A copy of `value` whose texts are turned into what the schema asks for at their place, with a note for each.

    "7" becomes 7 where an integer or number is wanted, "true" / "false" / "yes" / "no" a boolean, "null" a null where
    no text is allowed, 2026/11/22 or a midnight a date where `format: date` is wanted. Nothing else, and nothing
    where the value fits already; what is ambiguous (anyOf with several ways) stays as it is.
    Notes are `coerced:$.path`.
    """
    notes: list[str] = []
    return _coerced(value, document, document, (), notes), tuple(notes)


def _coerced(value: Any, schema: Any, root: Mapping[str, Any], path: tuple[str | int, ...], notes: list[str]) -> Any:
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, dict):
        named, rest = schema.get("properties", {}), schema.get("additionalProperties")
        return {k: _coerced(v, named.get(k, rest), root, (*path, k), notes) for k, v in value.items()}
    if isinstance(value, list):
        return [_coerced(v, _item_schema(schema, i), root, (*path, i), notes) for i, v in enumerate(value)]
    if isinstance(value, str):
        changed = _from_text(value, schema)
        if changed is not value:
            notes.append(f"coerced:{path_of(path)}")
        return changed
    return value


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema behind a reference, and behind `anyOf: [X, {type: null}]`."""
    for _ in range(50):
        if isinstance(schema, Mapping) and "$ref" in schema:
            schema = target_of(root, schema["$ref"])
        elif isinstance(schema, Mapping) and len(choices := _choices(schema)) == 1:
            schema = choices[0]
        else:
            break
    return schema


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    return [sub for sub in (schema.get("anyOf") or schema.get("oneOf") or ()) if sub != {"type": "null"}]


def _item_schema(schema: Mapping[str, Any], index: int) -> Any:
    first = schema.get("prefixItems", ())
    return first[index] if index < len(first) else schema.get("items")


def _from_text(text: str, schema: Mapping[str, Any]) -> Any:
    types = schema.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if "string" in types or not types:
        return _date(text) if schema.get("format") == "date" and not is_date(text) else text
    stripped = text.strip()
    for wanted, turn in _TURNS.items():
        if wanted in types and (found := turn(stripped)) is not _NOT_ONE:
            return found
    return text


_NOT_ONE = object()


def _integer(text: str) -> Any:
    found = _number(text)
    return found if isinstance(found, int) else _NOT_ONE


def _number(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        return _NOT_ONE
    try:
        found = json.loads(text, parse_float=read_number)
    except UnkeptNumber:
        return _NOT_ONE
    return found if abs(found) < 1e300 else _NOT_ONE


_TURNS: Mapping[str, Callable[[str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": lambda text: _WORDS.get(text.lower(), _NOT_ONE),
    "null": lambda text: None if text.lower() in ("null", "none", "") else _NOT_ONE,
}


def _date(text: str) -> str:
    stripped = text.strip()
    if found := _SLASHED.fullmatch(stripped):
        year, month, day = found.groups()
        stripped = f"{year}-{int(month):02d}-{int(day):02d}"
    elif found := _ISO_TIME.fullmatch(stripped):
        stripped = found[1]
    return stripped if is_date(stripped) else text
