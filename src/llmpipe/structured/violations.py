"""Says in a few words what in an answer does not fit: where, what was found, what was wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmpipe.frozen import frozen
from llmpipe.late import late

MAX_SHOWN = 80
MAX_VIOLATIONS = 20
_PLAIN_NAME = late(r"[A-Za-z_][A-Za-z0-9_-]*")


@frozen
class Violation:
    """One thing in a value that does not fit its schema.

    `path` is `$.claims[2].text`, `found` the value there (shortened), `wanted` what the schema asks, `message` the
    sentence without the path. `kind` is the keyword, or what kept the value from being checked: not_json, too_large,
    too_costly, too_deep, search_too_long, validator_failed.
    """

    path: str
    message: str
    found: str
    wanted: str
    kind: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def show(value: Any, limit: int = MAX_SHOWN) -> str:
    """A value in at most about `limit` characters, however large it is."""
    if isinstance(value, dict):
        names = ", ".join(shorten(name, 20) for name in list(value)[:5])
        return f"an object with {names}{', ...' if len(value) > 5 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)} item{'' if len(value) == 1 else 's'}" if value else "an empty list"
    if isinstance(value, str):
        return json.dumps(shorten(value, limit), ensure_ascii=False)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    return shorten(json.dumps(value, ensure_ascii=False), limit)


def show_all(values: Iterable[Any], limit: int = 200) -> str:
    """Values as a list that is cut at about `limit` characters."""
    return shorten(", ".join(json.dumps(value, ensure_ascii=False)[:limit] for value in values), limit)


def shorten(text: str, limit: int) -> str:
    """The text, cut in the middle if it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]} ... {text[-limit // 4 :]}"


def path_of(tokens: Iterable[str | int]) -> str:
    """`$.a[0]["odd name"]`."""
    parts = ["$"]
    for token in tokens:
        if isinstance(token, int):
            parts.append(f"[{token}]")
        elif _PLAIN_NAME.fullmatch(token):
            parts.append(f".{shorten(token, 60)}")
        else:
            parts.append(f"[{show(token, 60)}]")
    return "".join(parts)


def from_errors(errors: Iterable[Any]) -> list[Violation]:
    """Violations from jsonschema's errors: by path, each once, at most MAX_VIOLATIONS. Messages hold no whole value."""
    ordered = sorted(errors, key=lambda error: [(isinstance(t, str), t) for t in error.absolute_path])
    return list(dict.fromkeys(_violation(error) for error in ordered))[:MAX_VIOLATIONS]


def _violation(error: Any) -> Violation:
    found = show(error.instance)
    if error.validator is None:
        name = list(error.absolute_path)[-1:]
        message = f"{show(name[0])} is not allowed here" if name else "nothing is allowed here"
        return Violation(path_of(error.absolute_path), message, found, "nothing", "false")
    message, wanted = _told(error)
    return Violation(path_of(error.absolute_path), message, found, wanted, error.validator)


def _told(error: Any) -> tuple[str, str]:
    """What is wrong, and what is wanted, in the words for the keyword."""
    words, found = _WORDS.get(error.validator), show(error.instance)
    return words(error, found) if words else (f"{found} does not fit {error.validator}", str(error.validator))


def _bound(verb: str, wanted: str) -> Callable[[Any, str], tuple[str, str]]:
    def words(error: Any, found: str) -> tuple[str, str]:
        limit = show(error.validator_value)
        return f"{found} {verb.format(limit)}", wanted.format(limit)

    return words


def _count(unit: str, direction: str) -> Callable[[Any, str], tuple[str, str]]:
    def words(error: Any, found: str) -> tuple[str, str]:
        wanted = f"at {direction} {_units(error.validator_value, unit)}"
        return f"{found} has {_units(len(error.instance), unit)}, {wanted} wanted", wanted

    return words


def _units(number: int, unit: str) -> str:
    several = unit.removesuffix("y") + "ies" if unit.endswith("y") else unit + "s"
    return f"{number} {unit if number == 1 else several}"


def _type(error: Any, found: str) -> tuple[str, str]:
    types = error.validator_value
    wanted = types if isinstance(types, str) else " or ".join(types)
    return f"{found} is not of type {wanted}", wanted


def _enum(error: Any, found: str) -> tuple[str, str]:
    wanted = f"one of {show_all(error.validator_value)}"
    return f"{found} is not {wanted}", wanted


def _const(error: Any, found: str) -> tuple[str, str]:
    wanted = show_all([error.validator_value])
    return f"{found} is not {wanted}", wanted


def _required(error: Any, found: str) -> tuple[str, str]:
    return f"the property {show(error.message)} is missing", f"a property {show(error.message)}"


def _additional(error: Any, found: str) -> tuple[str, str]:
    return f"the property {show(error.message)} is not allowed here", _allowed_names(error.schema)


def _allowed_names(schema: Mapping[str, Any]) -> str:
    return f"only {show_all(schema['properties'])}" if schema.get("properties") else "no further properties"


def _any_of(error: Any, found: str) -> tuple[str, str]:
    alternatives = len(error.validator_value)
    wanted = f"one of {alternatives} alternatives"
    if not error.context:
        return f"{found} fits more than one of the {alternatives} alternatives", f"exactly {wanted}"
    branches: dict[Any, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0] if inner.schema_path else id(inner), []).append(inner)
    closest = min(branches.values(), key=_distance)[0]
    return f"{found} fits none of the {alternatives} alternatives; in the closest one {_violation(closest)}", wanted


def _names(error: Any, found: str) -> tuple[str, str]:
    why, wanted = _told(error.context[0])
    return f"the name {show(error.message)} is not allowed here: {why}", wanted


def _dependent(error: Any, found: str) -> tuple[str, str]:
    missing = show(error.message)
    return f"the property {missing} is missing, which {show(error.cause)} asks for", f"a property {missing}"


def _unevaluated(error: Any, found: str) -> tuple[str, str]:
    return f"the property {show(error.message)} is not allowed here", "no further properties"


def _further_items(error: Any, found: str) -> tuple[str, str]:
    first = len(error.schema.get("prefixItems", ()))
    wanted = f"at most {_units(first, 'item')}"
    return f"{found} has more items than are allowed, {wanted} wanted", wanted


def _item(error: Any, found: str) -> tuple[str, str]:
    return f"the item {found} is not allowed here", "no such item"


def _contained(error: Any, found: str) -> tuple[str, str]:
    return f"{found} lacks an item that is asked for, or holds too many", "other items"


def _distance(errors: list[Any]) -> tuple[bool, bool, int]:
    """How far a branch is from fitting: a wrong type or tag at its root first, then the number of errors."""
    return (
        any(error.validator == "type" and not error.path for error in errors),
        any(error.validator in ("const", "enum") for error in errors),
        len(errors),
    )


_WORDS: dict[str, Callable[[Any, str], tuple[str, str]]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "additionalProperties": _additional,
    "properties": lambda error, found: (f"the property {show(error.message)} is not allowed here", "no such property"),
    "anyOf": _any_of,
    "oneOf": _any_of,
    "minimum": _bound("is less than the minimum {}", "at least {}"),
    "maximum": _bound("is more than the maximum {}", "at most {}"),
    "exclusiveMinimum": _bound("is not more than {}", "more than {}"),
    "exclusiveMaximum": _bound("is not less than {}", "less than {}"),
    "multipleOf": _bound("is not a multiple of {}", "a multiple of {}"),
    "format": _bound("is not a valid {}", "a value of the format {}"),
    "pattern": _bound("does not match the pattern {}", "text that matches {}"),
    "minLength": _count("character", "least"),
    "maxLength": _count("character", "most"),
    "minItems": _count("item", "least"),
    "maxItems": _count("item", "most"),
    "minProperties": _count("property", "least"),
    "maxProperties": _count("property", "most"),
    "propertyNames": _names,
    "dependentRequired": _dependent,
    "unevaluatedProperties": _unevaluated,
    **dict.fromkeys(("unevaluatedItems", "prefixItems"), _item),
    "items": _further_items,
    "uniqueItems": lambda error, found: (f"{found} holds an item twice", "items that all differ"),
    **dict.fromkeys(("contains", "minContains", "maxContains"), _contained),
    "not": lambda error, found: (f"{found} is what the schema rules out", "something else"),
}
