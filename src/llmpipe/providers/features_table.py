"""Writes the tables of docs/structured-output.md: who is asked how, and what is sent of each feature of JSON Schema.

python -m llmpipe.providers.features_table

Nothing in them is written by hand: they are the rows of the provider table, and what `reduce_for` makes of a schema
with each feature.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.frozen import frozen
from llmpipe.providers.rows import PROVIDERS
from llmpipe.structured.dialects import LIMITS
from llmpipe.structured.keywords import ANNOTATIONS
from llmpipe.structured.reduce import Reduced, reduce_for

_HOW = {
    "json_schema": "natively",
    "json_object": "in the prompt, with JSON mode",
    "prompt": "in the prompt",
    "none": "not at all",
}
_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "integer"}


@frozen
class Feature:
    """A feature, a schema that has it, and a reply to the copy that a strict provider asks for, if that differs."""

    label: str
    schema: Mapping[str, Any]
    reply: Any = None
    keywords: tuple[str, ...] = ()  # what to look for in the copy


def tables() -> str:
    """Both tables in Markdown."""
    return f"{_providers()}\n{_features()}"


def _providers() -> str:
    lines = ["| provider | asked | by the rules of |", "|---|---|---|"]
    for row in PROVIDERS.values():
        mode, limits = row.dialect.schema_mode, row.dialect.schema_limits
        also = ", and in the prompt" if mode == "json_schema" and row.dialect.schema_in_prompt else ""
        lines.append(f"| {row.name} | {_HOW[mode]}{also} | {limits if mode == 'json_schema' else ''} |")
    return "\n".join(lines) + "\n"


def _features() -> str:
    names = tuple(LIMITS)
    lines = ["| feature | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {f.label} | {' | '.join(cell(f, name) for name in names)} |" for f in FEATURES]
    return "\n".join(lines) + "\n"


def cell(feature: Feature, dialect: str) -> str:
    """What becomes of a feature for the providers of one dialect."""
    reduced = reduce_for(feature.schema, dialect)
    if reduced.refused_reason:
        return "by the prompt"
    back = feature.reply is not None and reduced.restore(feature.reply) != feature.reply
    if back:
        return "mapped back"
    if reduced.dropped:
        return _left_out(feature, reduced)
    replaced = [k for k in feature.keywords if k not in _keywords(reduced.schema)]
    if not replaced:
        return "sent"
    if set(replaced) <= ANNOTATIONS:
        return "left out"
    instead = sorted(_keywords(reduced.schema) - _keywords(feature.schema) - {"required", "additionalProperties"})
    return f"sent as `{instead[0]}`" if instead else "sent, folded in"


def _left_out(feature: Feature, reduced: Reduced) -> str:
    changed = [line.partition("(")[2].rstrip(")") for line in reduced.dropped if "(" in line]
    if changed:
        return changed[0].replace("anyOf", "`anyOf`")
    said = any(f"{line.rpartition(' ')[2]}: " in json.dumps(reduced.schema) for line in reduced.dropped)
    sent = [k for k in feature.keywords if not any(line.endswith(f": {k}") for line in reduced.dropped)]
    what = f"`{sent[0]}` sent, the rest" if sent else ""
    return " ".join(part for part in (what, "in the description" if said else "left out") if part)


def _keywords(schema: Any) -> set[str]:
    found: set[str] = set()
    stack = [schema]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            found |= set(item)
            stack += item.values()
        elif isinstance(item, list | tuple):
            stack += item
    return found


def _record(properties: Mapping[str, Any], *, required: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    names = list(properties) if required is None else list(required)
    head = {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    return {**head, **more}


def _value(*keywords: str, **schema: Any) -> Iterator[Any]:
    yield _record({"a": schema})
    yield None
    yield keywords or tuple(name for name in schema if name not in ("type", "items"))


def _one(label: str, *keywords: str, **schema: Any) -> Feature:
    return Feature(label, *_value(*keywords, **schema))


_OPTIONAL = {f"a{n}": _TEXT for n in range(25)}
_UNIONS = {f"a{n}": {"type": ["string", "null"]} for n in range(17)}
_TREE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": [], "additionalProperties": False}

FEATURES: tuple[Feature, ...] = (
    _one("types, nested objects, lists", type="array", items=_record({"b": _TEXT})),
    _one("`enum`", enum=["x", "y"]),
    _one("`const`", const="x"),
    _one("`title`, `description`", **_TEXT, title="T", description="D"),
    Feature("an optional property", _record({"a": _TEXT, "b": _TEXT}, required=("a",)), {"a": "x", "b": None}),
    Feature("a property that may be null", _record({"a": {"type": ["string", "null"]}}), {"a": None}),
    Feature("more than 24 optional properties", _record(_OPTIONAL, required=()), dict.fromkeys(_OPTIONAL)),
    Feature("more than 16 unions", _record(_UNIONS)),
    Feature("an object open to other properties", {"type": "object", "properties": {"a": _TEXT}, "required": ["a"]}),
    _one("a map: `additionalProperties` with a schema", type="object", additionalProperties=_NUMBER),
    _one("`patternProperties`", type="object", patternProperties={"^x": _NUMBER}),
    Feature("a value of any type", _record({"a": {}})),
    Feature("a list or another value at the root", {"type": "array", "items": _TEXT}, {"value": ["x"]}),
    _one("`minimum`, `maximum`", **_NUMBER, minimum=1, maximum=5),
    _one("`exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`", **_NUMBER, exclusiveMinimum=1, multipleOf=2),
    _one("`minLength`, `maxLength`", **_TEXT, minLength=1, maxLength=9),
    _one("`pattern`", **_TEXT, pattern="^x"),
    _one("`format`: date-time, date, time, duration, email, hostname, ipv4, ipv6, uuid", **_TEXT, format="date"),
    _one("`format: uri`", **_TEXT, format="uri"),
    _one("`minItems` 0 or 1", type="array", items=_TEXT, minItems=1),
    _one("`minItems` above, `maxItems`", type="array", items=_TEXT, minItems=2, maxItems=3),
    _one("`uniqueItems`", type="array", items=_TEXT, uniqueItems=True),
    _one("`contains`", type="array", items=_TEXT, contains={"const": "x"}),
    _one("`prefixItems` (a tuple)", type="array", prefixItems=[_TEXT, _NUMBER], items=False),
    _one("`anyOf`", anyOf=[_TEXT, _NUMBER]),
    _one("`oneOf`", oneOf=[_TEXT, _NUMBER]),
    _one("`allOf`", allOf=[{**_TEXT, "title": "T"}, {"title": "T"}]),
    _one("`not`", **{**_TEXT, "not": {"const": "x"}}),
    Feature("`if`, `then`, `else`", _record({"a": _TEXT}) | {"if": {"required": ["a"]}, "then": {"minProperties": 1}}),
    Feature("`dependentRequired`, `dependentSchemas`", _record({"a": _TEXT}, dependentRequired={"a": ["a"]})),
    Feature(
        "`$ref`", {**_record({"a": {"$ref": "#/$defs/t"}}), "$defs": {"t": _record({"b": _TEXT})}}, keywords=("$ref",)
    ),
    Feature("`$ref` with keywords beside it",
            {**_record({"a": {"$ref": "#/$defs/t", "minimum": 1}}), "$defs": {"t": _NUMBER}}),
    Feature("a recursive `$ref`", _TREE, keywords=("$ref",)),
    _one("`default`, `examples`", "default", "examples", **_TEXT, default="x", examples=["y"]),
)  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(tables())
