"""Which keywords a JSON Schema may hold, what shape their values have, and where schemas stand inside a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Dialect = Literal["2020-12", "draft-07"]
Tokens = tuple[str | int, ...]

DIALECT_URIS: Mapping[str, Dialect] = {
    "https://json-schema.org/draft/2020-12/schema": "2020-12",
    "http://json-schema.org/draft-07/schema": "draft-07",
    "https://json-schema.org/draft-07/schema": "draft-07",
}

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

# keyword -> the shape that the meta-schema asks of its value
_SHARED: dict[str, str] = {
    "$id": "string",
    "$schema": "string",
    "$ref": "string",
    "$comment": "string",
    "title": "string",
    "description": "string",
    "default": "any",
    "examples": "list",
    "readOnly": "boolean",
    "writeOnly": "boolean",
    "deprecated": "boolean",
    "type": "types",
    "enum": "list",
    "const": "any",
    "multipleOf": "positive",
    "maximum": "number",
    "exclusiveMaximum": "number",
    "minimum": "number",
    "exclusiveMinimum": "number",
    "maxLength": "count",
    "minLength": "count",
    "pattern": "regex",
    "maxItems": "count",
    "minItems": "count",
    "uniqueItems": "boolean",
    "maxProperties": "count",
    "minProperties": "count",
    "required": "names",
    "format": "string",
    "discriminator": "any",
    "propertyOrdering": "any",
    "contentEncoding": "string",
    "contentMediaType": "string",
    "properties": "schemas",
    "patternProperties": "patterns",
    "additionalProperties": "schema",
    "propertyNames": "schema",
    "contains": "schema",
    "allOf": "schema_list",
    "anyOf": "schema_list",
    "oneOf": "schema_list",
    "not": "schema",
    "if": "schema",
    "then": "schema",
    "else": "schema",
    "definitions": "schemas",
    "dependencies": "dependencies",
}
_ONLY_2020: dict[str, str] = {
    "$anchor": "anchor",
    "$dynamicAnchor": "anchor",
    "$dynamicRef": "string",
    "$vocabulary": "mapping",
    "$defs": "schemas",
    "items": "schema",
    "prefixItems": "schema_list",
    "dependentRequired": "names_map",
    "dependentSchemas": "schemas",
    "minContains": "count",
    "maxContains": "count",
    "unevaluatedItems": "schema",
    "unevaluatedProperties": "schema",
    "contentSchema": "schema",
}
_ONLY_07: dict[str, str] = {"items": "schema_or_list", "additionalItems": "schema", "$defs": "schemas"}

SHAPES: Mapping[Dialect, Mapping[str, str]] = {
    "2020-12": _SHARED | _ONLY_2020,
    "draft-07": _SHARED | _ONLY_07,
}

# annotations: they describe and never decide
ANNOTATIONS = frozenset(
    "$comment $id $schema $anchor $vocabulary title description default examples readOnly writeOnly deprecated "
    "contentEncoding contentMediaType contentSchema discriminator propertyOrdering $defs definitions".split()
)


def dialect_of(document: Any) -> Dialect | None:
    """The dialect that `$schema` names, 2020-12 where there is none, None for what is not supported or no schema."""
    if not isinstance(document, Mapping):
        return None
    uri = document.get("$schema")
    if uri is None:
        return "2020-12"
    return DIALECT_URIS.get(uri.removesuffix("#")) if isinstance(uri, str) else None


def children(schema: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[Tokens, Any]]:
    """Yield the schemas that stand directly inside `schema`, each with its path from there.

    Values of a wrong shape are passed over: telling about them is the linter's work.
    """
    shapes = SHAPES[dialect]
    for keyword, value in schema.items():
        shape = shapes.get(keyword)
        if shape == "schema" or (shape == "schema_or_list" and not isinstance(value, list)):
            yield (keyword,), value
        elif shape in ("schema_list", "schema_or_list") and isinstance(value, list):
            for index, sub in enumerate(value):
                yield (keyword, index), sub
        elif shape in ("schemas", "patterns", "dependencies") and isinstance(value, Mapping):
            for name, sub in value.items():
                if shape != "dependencies" or not isinstance(sub, list):
                    yield (keyword, name), sub


def pointer(tokens: Tokens) -> str:
    """The JSON pointer (RFC 6901) of a path; "" for the whole document."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def parse_pointer(text: str) -> tuple[str, ...]:
    """The tokens of a JSON pointer. Raises ValueError if it neither is empty nor starts with a slash."""
    if text == "":
        return ()
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON pointer")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def lookup(document: Any, tokens: tuple[str, ...]) -> Any:
    """What stands at that path of `document`. Raises KeyError if there is nothing."""
    here = document
    for token in tokens:
        if isinstance(here, Mapping):
            here = here[token]
        elif isinstance(here, list) and token.isdecimal() and int(token) < len(here):
            here = here[int(token)]
        else:
            raise KeyError(token)
    return here
