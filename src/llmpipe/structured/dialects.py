"""What each family of providers takes of JSON Schema when it is asked natively: one row each, facts A3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from llmpipe.frozen import frozen

_CORE = frozenset(("type", "enum", "anyOf", "$ref", "properties", "required", "additionalProperties", "items"))
_NUMBER_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_TOLD = frozenset(("title", "description"))
_COMMON_FORMATS = frozenset("date-time date time duration email hostname ipv4 ipv6 uuid".split())


@frozen
class SchemaLimits:
    """What one family takes.

    `keywords`: those that are sent (None: all, the schema goes as it is). `formats`: those that are sent (None: all).
    `closed`: every object needs `additionalProperties: false`. `all_required`: every property has to be required, so
    that an optional one becomes a union with null. `object_root`: the root is an object and no union.
    `types_needed`: a schema without a type, alternatives or values is not taken.
    `recursion`: "any", "none", or "optional" (only through properties that may be missing).
    The rest are the largest numbers that are taken; None is no limit.
    """

    name: str
    keywords: frozenset[str] | None = None
    formats: frozenset[str] | None = None
    closed: bool = False
    all_required: bool = False
    object_root: bool = False
    types_needed: bool = False
    recursion: Literal["any", "none", "optional"] = "any"
    least_items: int | None = None  # the largest minItems
    properties: int | None = None
    levels: int | None = None
    characters: int | None = None  # of names of properties and definitions, enum and const values
    enum_values: int | None = None
    optional: int | None = None
    unions: int | None = None


LIMITS: Mapping[str, SchemaLimits] = {
    limits.name: limits
    for limits in (
        SchemaLimits(
            "openai",
            keywords=_CORE | _TOLD | _NUMBER_BOUNDS | {"const", "pattern", "format", "minItems", "maxItems"},
            formats=_COMMON_FORMATS,
            closed=True,
            all_required=True,
            object_root=True,
            types_needed=True,
            properties=5_000,
            levels=10,
            characters=120_000,
            enum_values=1_000,
        ),
        SchemaLimits(
            "anthropic",
            keywords=_CORE | _TOLD | {"const", "format", "minItems"},
            formats=_COMMON_FORMATS | {"uri"},
            closed=True,
            types_needed=True,
            recursion="none",
            least_items=1,
            optional=24,
            unions=16,
        ),
        SchemaLimits(
            "gemini",
            keywords=_CORE | _TOLD | {"format", "prefixItems", "minItems", "maxItems", "minimum", "maximum"}
            | {"propertyOrdering"},
            recursion="optional",
        ),
        SchemaLimits("ollama"),
    )
}  # fmt: skip

# one enum of more than so many values may have at most so many characters (openai)
LONG_ENUM, LONG_ENUM_CHARACTERS = 250, 15_000
