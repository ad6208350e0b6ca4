"""What each keyword asks of a value, as closures that mean exactly what jsonschema's functions mean.

A maker takes (compiler, value of the keyword, the schema around it) and gives a check, or None if it asks nothing.
Makers stand in a table per kind of value, so that a check is called only with values of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llmpipe.structured import formats
from llmpipe.structured.equality import are_unique, canonical, is_multiple
from llmpipe.structured.evaluated import evaluated_items, evaluated_names
from llmpipe.structured.keywords import Dialect
from llmpipe.structured.regexes import search

Check = Callable[[Any], bool]


class Compiler(Protocol):
    """What makers need of the compiler."""

    dialect: Dialect

    def build(self, schema: Any) -> Check: ...
    def reference(self, reference: str) -> Check: ...
    def takes(self, schema: Any, value: Any) -> bool: ...
    def referred(self, reference: str) -> tuple[Any, Any]: ...


Maker = Callable[[Compiler, Any, Mapping[str, Any]], Check | None]


def _enum(c: Compiler, values: list[Any], schema: Mapping[str, Any]) -> Check:
    if all(isinstance(value, str) for value in values):
        texts = frozenset(values)
        return lambda v: v.__class__ is str and v in texts
    keys = frozenset(canonical(value) for value in values)
    return lambda v: canonical(v) in keys


def _const(c: Compiler, value: Any, schema: Mapping[str, Any]) -> Check:
    return _enum(c, [value], schema)


def _ref(c: Compiler, reference: str, schema: Mapping[str, Any]) -> Check:
    return c.reference(reference)


def _all_of(c: Compiler, schemas: list[Any], schema: Mapping[str, Any]) -> Check:
    return _every([c.build(sub) for sub in schemas])


def _every(checks: list[Check]) -> Check:
    def every(v: Any) -> bool:
        for check in checks:  # noqa: SIM110 - a generator costs more than the checks
            if not check(v):
                return False
        return True

    return checks[0] if len(checks) == 1 else every


def _any_of(c: Compiler, schemas: list[Any], schema: Mapping[str, Any]) -> Check:
    checks = [c.build(sub) for sub in schemas]

    def some(v: Any) -> bool:
        for check in checks:  # noqa: SIM110
            if check(v):
                return True
        return False

    return some


def _one_of(c: Compiler, schemas: list[Any], schema: Mapping[str, Any]) -> Check:
    checks = [c.build(sub) for sub in schemas]
    return lambda v: sum([check(v) for check in checks]) == 1


def _not(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check:
    check = c.build(sub)
    return lambda v: not check(v)


def _if(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check:
    when, then, other = (c.build(s) for s in (sub, schema.get("then", True), schema.get("else", True)))
    return lambda v: then(v) if when(v) else other(v)


def _multiple_of(c: Compiler, step: Any, schema: Mapping[str, Any]) -> Check:
    return lambda v: is_multiple(v, step)


def _pattern(c: Compiler, pattern: str, schema: Mapping[str, Any]) -> Check:
    return lambda v: search(pattern, v)


def _format(c: Compiler, format: str, schema: Mapping[str, Any]) -> Check | None:
    return formats.CHECKS.get(format)


def _items(c: Compiler, items: Any, schema: Mapping[str, Any]) -> Check | None:
    if isinstance(items, list):
        return _tuple(c, items, schema.get("additionalItems", True))
    if c.dialect == "2020-12" and "prefixItems" in schema:
        return _tuple(c, schema["prefixItems"], items)
    return None if items is True else _each_item(c.build(items))


def _prefix_items(c: Compiler, items: list[Any], schema: Mapping[str, Any]) -> Check | None:
    return None if "items" in schema else _tuple(c, items, True)


def _each_item(check: Check) -> Check:
    def each(v: Any) -> bool:
        for item in v:  # noqa: SIM110
            if not check(item):
                return False
        return True

    return each


def _tuple(c: Compiler, items: list[Any], rest: Any) -> Check:
    checks, rest_check, count = [c.build(sub) for sub in items], c.build(rest), len(items)

    def tuples(v: Any) -> bool:
        for check, item in zip(checks, v, strict=False):
            if not check(item):
                return False
        return rest is True or all(rest_check(item) for item in v[count:])

    return tuples


def _contains(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check:
    check = c.build(sub)
    if c.dialect == "draft-07":
        return lambda v: any(check(item) for item in v)
    low, high = schema.get("minContains", 1), schema.get("maxContains")
    return lambda v: low <= (n := sum(check(item) for item in v)) and (high is None or n <= high)


def _unique(c: Compiler, wanted: bool, schema: Mapping[str, Any]) -> Check | None:
    return are_unique if wanted else None


def _required(c: Compiler, names: list[str], schema: Mapping[str, Any]) -> Check:
    wanted = frozenset(names)
    return lambda v: wanted <= v.keys()


def _properties(c: Compiler, value: Any, schema: Mapping[str, Any]) -> Check:
    named = {name: c.build(sub) for name, sub in schema.get("properties", {}).items()}
    patterns = [(pattern, c.build(sub)) for pattern, sub in schema.get("patternProperties", {}).items()]
    if patterns:
        return _patterned(named, patterns, c.build(schema.get("additionalProperties", True)))
    rest = schema.get("additionalProperties", True)
    other = None if rest is True else c.build(rest)
    get = named.get

    def fields(v: Any) -> bool:
        for name, item in v.items():
            check = get(name, other)
            if check is not None and not check(item):
                return False
        return True

    return fields


def _patterned(named: Mapping[str, Check], patterns: list[tuple[str, Check]], rest: Check) -> Check:
    def fields(v: Any) -> bool:
        for name, item in v.items():
            checks = [check for pattern, check in patterns if search(pattern, name)]
            if name in named:
                checks.append(named[name])
            if not all(check(item) for check in checks or [rest]):
                return False
        return True

    return fields


def _lone_properties(keyword: str) -> Maker:
    """`properties`, `patternProperties` and `additionalProperties` are one check: the first that is there makes it."""
    earlier = {"properties": (), "patternProperties": ("properties",)}.get(keyword, ("properties", "patternProperties"))

    def make(c: Compiler, value: Any, schema: Mapping[str, Any]) -> Check | None:
        return None if any(word in schema for word in earlier) else _properties(c, value, schema)

    return make


def _property_names(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check:
    return _each_item(c.build(sub))


def _dependent_required(c: Compiler, names: Mapping[str, list[str]], schema: Mapping[str, Any]) -> Check:
    pairs = [(name, frozenset(wanted)) for name, wanted in names.items()]
    return lambda v: all(wanted <= v.keys() for name, wanted in pairs if name in v)


def _dependent_schemas(c: Compiler, schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> Check:
    pairs = [(name, c.build(sub)) for name, sub in schemas.items()]
    return lambda v: all(check(v) for name, check in pairs if name in v)


def _unevaluated_properties(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check | None:
    check, other = c.build(sub), {key: value for key, value in schema.items() if key != "unevaluatedProperties"}

    def rest(v: Any) -> bool:
        seen = evaluated_names(c, v, other, {})
        return all(name in seen or check(item) for name, item in v.items())

    return None if sub is True else rest


def _unevaluated_items(c: Compiler, sub: Any, schema: Mapping[str, Any]) -> Check | None:
    check, other = c.build(sub), {key: value for key, value in schema.items() if key != "unevaluatedItems"}

    def rest(v: Any) -> bool:
        seen = evaluated_items(c, v, other, {})
        return all(index in seen or check(item) for index, item in enumerate(v))

    return None if sub is True else rest


def _dependencies(c: Compiler, value: Mapping[str, Any], schema: Mapping[str, Any]) -> Check | None:
    if c.dialect == "2020-12":  # known to the meta-schema, and to nobody else
        return None
    names = _dependent_required(c, {k: v for k, v in value.items() if isinstance(v, list)}, schema)
    schemas = _dependent_schemas(c, {k: v for k, v in value.items() if not isinstance(v, list)}, schema)
    return lambda v: names(v) and schemas(v)


GENERAL: Mapping[str, Maker] = {
    "enum": _enum,
    "const": _const,
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}
NUMBERS: Mapping[str, Maker] = {
    "minimum": lambda c, bound, s: lambda v: v >= bound,
    "maximum": lambda c, bound, s: lambda v: v <= bound,
    "exclusiveMinimum": lambda c, bound, s: lambda v: v > bound,
    "exclusiveMaximum": lambda c, bound, s: lambda v: v < bound,
    "multipleOf": _multiple_of,
}
TEXTS: Mapping[str, Maker] = {
    "minLength": lambda c, count, s: lambda v: len(v) >= count,
    "maxLength": lambda c, count, s: lambda v: len(v) <= count,
    "format": _format,
    "pattern": _pattern,
}
LISTS: Mapping[str, Maker] = {
    "minItems": lambda c, count, s: lambda v: len(v) >= count,
    "maxItems": lambda c, count, s: lambda v: len(v) <= count,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "uniqueItems": _unique,
    "unevaluatedItems": _unevaluated_items,
}
OBJECTS: Mapping[str, Maker] = {
    "minProperties": lambda c, count, s: lambda v: len(v) >= count,
    "maxProperties": lambda c, count, s: lambda v: len(v) <= count,
    "required": _required,
    "properties": _lone_properties("properties"),
    "patternProperties": _lone_properties("patternProperties"),
    "additionalProperties": _lone_properties("additionalProperties"),
    "propertyNames": _property_names,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "dependencies": _dependencies,
    "unevaluatedProperties": _unevaluated_properties,
}
# read together with another keyword, or nothing by themselves
IGNORED = frozenset(("then", "else", "minContains", "maxContains", "additionalItems"))
