"""Finds what is wrong with a schema before anything is sent: shapes, unknown words, bad patterns, dead ends."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmpipe.structured.bundle import Bundle, bundle, walk
from llmpipe.structured.contradictions import contradictions
from llmpipe.structured.formats import CHECKS
from llmpipe.structured.keywords import SHAPES, TYPES, Dialect, Tokens, dialect_of
from llmpipe.structured.problems import SchemaProblem, did_you_mean
from llmpipe.structured.recursion import dead_ends, endless_loops

Found = tuple[Tokens, str, str, str]  # path, message, hint, severity

TOO_DEEP = "its references are nested too deep to be followed"

# words of other schema languages, with what JSON Schema says instead
_FOREIGN = {
    "nullable": 'write `type: [..., "null"]`',
    "example": "write `examples: [...]`",
    "optional": "leave the name out of `required` of the object around it",
    "values": "write `enum: [...]`",
    "min": "write `minimum`, `minLength` or `minItems`",
    "max": "write `maximum`, `maxLength` or `maxItems`",
    "regex": "write `pattern`",
}


def lint(document: Mapping[str, Any], *, base: Path | None = None, root: Path | None = None) -> list[SchemaProblem]:
    """Every problem of a schema and of the files it refers to, errors first. `base`, `root`: see `compile_schema`."""
    given: Any = document
    if not isinstance(given, Mapping):
        return [SchemaProblem("a schema is a mapping", hint="write `type: object` and `properties`")]
    if dialect_of(document) is None:
        message = f"$schema {document.get('$schema')!r} is not supported"
        return [SchemaProblem(message, "/$schema", "JSON Schema 2020-12 or draft-07")]
    try:
        whole = bundle(document, folder=folder_of(base), root=root)
    except ValueError as error:
        return [SchemaProblem(f"the schema is not plain JSON: {error}")]
    return problems_of(whole, dialect_of(document) or "2020-12")


def folder_of(base: Path | None) -> Path | None:
    """The folder in which relative references start: `base` itself, or the folder of the file `base`."""
    return base if base is None or base.is_dir() else base.parent


def problems_of(whole: Bundle, dialect: Dialect) -> list[SchemaProblem]:
    """The problems of a bundle, errors first, in the order of the documents."""
    problems = list(whole.problems)
    for tokens, schema in walk(whole.document, dialect):
        problems += [_placed(whole, found) for found in _in_schema(tokens, schema, dialect)]
    if not any(problem.severity == "error" for problem in problems):
        try:
            recursion = [*endless_loops(whole.document, dialect), *dead_ends(whole.document, dialect)]
        except RecursionError:
            recursion = [((), TOO_DEEP)]
        problems += [_placed(whole, (tokens, message, "", "error")) for tokens, message in recursion]
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda problem: problem.severity != "error")


def _placed(whole: Bundle, found: Found) -> SchemaProblem:
    tokens, message, hint, severity = found
    file, at = whole.origin(tokens)
    return SchemaProblem(message, at, hint, file, "error" if severity == "error" else "warning")


def _in_schema(tokens: Tokens, schema: Mapping[str, Any], dialect: Dialect) -> Iterator[Found]:
    shapes, shaped = SHAPES[dialect], True
    for keyword, value in schema.items():
        here = (*tokens, keyword)
        shape = shapes.get(keyword)
        if shape is None:
            yield from _unknown(here, keyword, dialect)
            continue
        for wrong in _SHAPES[shape](value):
            path, message, hint = wrong
            shaped = False
            yield (*here, *path), f"{keyword}: {message}", _hint(keyword, value, dialect) or hint, "error"
    yield from _senseless(tokens, schema, dialect)
    if shaped:
        yield from contradictions(tokens, schema, dialect)


def _unknown(here: Tokens, keyword: str, dialect: Dialect) -> Iterator[Found]:
    if keyword.startswith("x-"):
        return
    other: Dialect = "draft-07" if dialect == "2020-12" else "2020-12"
    hint = _FOREIGN.get(keyword) or did_you_mean(keyword, SHAPES[dialect])
    if keyword in SHAPES[other]:
        yield here, f"{keyword!r} belongs to {other} and decides nothing in {dialect}", "say so by $schema", "error"
    elif hint:
        yield here, f"{keyword!r} is not a keyword of JSON Schema", hint, "error"
    else:
        yield here, f"{keyword!r} is not a keyword of JSON Schema and decides nothing", "", "warning"


def _hint(keyword: str, value: Any, dialect: Dialect) -> str:
    if keyword == "items" and isinstance(value, list) and dialect == "2020-12":
        return "a list of schemas is spelled `prefixItems`"
    if keyword == "required" and isinstance(value, bool):
        return "`required` is a list of names in the object around the property"
    if keyword == "type" and isinstance(value, str):
        names = {"str": "string", "text": "string", "int": "integer", "float": "number", "bool": "boolean"}
        names |= {"list": "array", "dict": "object", "none": "null", "date": "string with format: date"}
        return f"did you mean {names[value]!r}?" if value in names else did_you_mean(value, TYPES)
    if keyword in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
        return f"write the bound itself: `{keyword}: 0`"
    return ""


def _senseless(tokens: Tokens, schema: Mapping[str, Any], dialect: Dialect) -> Iterator[Found]:
    """What the meta-schema lets pass and nobody means."""
    if schema.get("enum") == []:
        yield (*tokens, "enum"), "enum is empty: nothing would fit", "", "error"
    format = schema.get("format")
    if isinstance(format, str) and format not in CHECKS:
        hint = did_you_mean(format, CHECKS)
        yield (*tokens, "format"), f"format {format!r} is not checked", hint, "error" if hint else "warning"
    if dialect == "draft-07" and "$ref" in schema and set(schema) - {"$ref", "$comment", "title", "description"}:
        siblings = sorted(set(schema) - {"$ref", "$comment", "title", "description", "definitions", "$defs"})
        if siblings and tokens:
            yield (*tokens, "$ref"), f"draft-07 ignores {', '.join(siblings)} beside $ref", "use allOf", "warning"
    if _is_mapping(schema, "properties") and isinstance(schema.get("required"), list):
        yield from _missing(tokens, schema, schema["properties"], schema["required"])


def _missing(tokens: Tokens, schema: Mapping[str, Any], properties: Any, required: list[Any]) -> Iterator[Found]:
    """Names in `required` that `properties` does not have: impossible in a closed object, odd in an open one."""
    for index, name in enumerate(required):
        if not isinstance(name, str) or name in properties or _is_mapping(schema, "patternProperties"):
            continue
        hint = did_you_mean(name, properties)
        composed = any(word in schema for word in ("allOf", "anyOf", "oneOf", "$ref", "if"))
        closed = schema.get("additionalProperties") is False
        severity = "error" if closed or not composed else "warning"
        yield (*tokens, "required", index), f"required names {name!r}, which is not in properties", hint, severity


def _is_mapping(schema: Mapping[str, Any], keyword: str) -> bool:
    return isinstance(schema.get(keyword), Mapping)


def pattern_fault(pattern: str) -> str | None:
    """Why a regular expression does not compile, None if it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"the regular expression {pattern[:80]!r} does not compile: {error}"
    return None


Wrong = tuple[Tokens, str, str]


def _wants(what: str, holds: Callable[[Any], bool]) -> Callable[[Any], Iterator[Wrong]]:
    def check(value: Any) -> Iterator[Wrong]:
        if not holds(value):
            yield (), f"{what} is wanted", ""

    return check


def _each(what: str, check: Callable[[Any], Iterator[Wrong]]) -> Callable[[Any], Iterator[Wrong]]:
    """A mapping whose values (or a list whose items) all pass `check`."""

    def inner(value: Any) -> Iterator[Wrong]:
        if what == "mapping" and not isinstance(value, Mapping):
            yield (), "a mapping is wanted", ""
            return
        if what == "list" and (not isinstance(value, list) or not value):
            yield (), "a list that is not empty is wanted", ""
            return
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            for path, message, hint in check(item):
                yield (key, *path), message, hint

    return inner


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _number(value) and value >= 0 and value == int(value)


def _is_anchor(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][-A-Za-z0-9._]*", value) is not None


def _schema(value: Any) -> Iterator[Wrong]:
    if not isinstance(value, Mapping | bool):
        yield (), "a schema (a mapping, true or false) is wanted", ""


def _types(value: Any) -> Iterator[Wrong]:
    names = value if isinstance(value, list) else [value]
    if not names or any(not isinstance(name, str) for name in names):
        yield (), f"one of {', '.join(TYPES)}, or a list of them, is wanted", ""
        return
    for name in names:
        if name not in TYPES:
            yield (), f"{name!r} is not one of {', '.join(TYPES)}", ""
    if len(set(names)) < len(names):
        yield (), "a type is named twice", ""


def _names(value: Any) -> Iterator[Wrong]:
    if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
        yield (), "a list of names is wanted", ""
    elif len(set(value)) < len(value):
        yield (), "a name is listed twice", ""


def _regex(value: Any) -> Iterator[Wrong]:
    fault = pattern_fault(value) if isinstance(value, str) else "a regular expression is wanted"
    if fault:
        yield (), fault, ""


def _patterns(value: Any) -> Iterator[Wrong]:
    yield from _each("mapping", _schema)(value)
    for name in value if isinstance(value, Mapping) else ():
        for _, message, hint in _regex(name):
            yield (name,), message, hint


def _dependency(value: Any) -> Iterator[Wrong]:
    yield from _names(value) if isinstance(value, list) else _schema(value)


def _schema_or_list(value: Any) -> Iterator[Wrong]:
    yield from _each("list", _schema)(value) if isinstance(value, list) else _schema(value)


_SHAPES: dict[str, Callable[[Any], Iterator[Wrong]]] = {
    "any": _wants("a value", lambda _: True),
    "string": _wants("text", lambda v: isinstance(v, str)),
    "anchor": _wants("a plain name", _is_anchor),
    "boolean": _wants("true or false", lambda v: isinstance(v, bool)),
    "number": _wants("a number", _number),
    "positive": _wants("a number above 0", lambda v: _number(v) and v > 0),
    "count": _wants("a whole number from 0", _count),
    "list": _wants("a list", lambda v: isinstance(v, list)),
    "mapping": _wants("a mapping", lambda v: isinstance(v, Mapping)),
    "types": _types,
    "names": _names,
    "names_map": _each("mapping", _names),
    "regex": _regex,
    "schema": _schema,
    "schema_list": _each("list", _schema),
    "schema_or_list": _schema_or_list,
    "schemas": _each("mapping", _schema),
    "patterns": _patterns,
    "dependencies": _each("mapping", _dependency),
}
