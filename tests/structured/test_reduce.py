"""What each family of providers is sent for a schema, and the way back from its answers."""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from llmpipe.errors import SchemaUnusable
from llmpipe.structured.bundle import walk
from llmpipe.structured.dialects import LIMITS
from llmpipe.structured.instance import NoExample, example_instance
from llmpipe.structured.reduce import reduce_for
from llmpipe.structured.schema import compile_schema
from llmpipe.structured.short_form import expand
from tests.structured.generated import SETTINGS, documents

NATIVE = ("openai", "anthropic", "gemini", "ollama")
LABEL = expand(
    {"category": "enum[bug, idea]", "score": "integer 1..5", "tags": "list[string] ..3", "note?": "string ..20"}
)


def one(part: Any, *, required: bool = True) -> dict[str, Any]:
    """A closed object with the one property x."""
    return {
        "type": "object",
        "properties": {"x": part},
        "required": ["x"] if required else [],
        "additionalProperties": False,
    }


def everywhere(sent: Any) -> dict[str, Any]:
    return {provider: sent for provider in NATIVE}  # noqa: C420 - the values are mutable


# schema of x -> per provider: what is sent for x; None: refused
TABLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("string", {"type": "string"}, everywhere({"type": "string"})),
    (
        "enum without type",
        {"enum": ["a", 1]},
        {
            "openai": {"type": ["string", "integer"], "enum": ["a", 1]},
            "anthropic": {"type": ["string", "integer"], "enum": ["a", 1]},
            "gemini": {"type": ["string", "integer"], "enum": ["a", 1]},
            "ollama": {"enum": ["a", 1]},
        },
    ),
    (
        "const",
        {"const": "a"},
        {
            "openai": {"type": "string", "const": "a"},
            "anthropic": {"type": "string", "const": "a"},
            "gemini": {"type": "string", "enum": ["a"]},
            "ollama": {"const": "a"},
        },
    ),
    (
        "number bounds",
        {"type": "integer", "minimum": 1, "maximum": 5},
        {
            "openai": {"type": "integer", "minimum": 1, "maximum": 5},
            "anthropic": {"type": "integer", "description": "(minimum: 1, maximum: 5)"},
            "gemini": {"type": "integer", "minimum": 1, "maximum": 5},
            "ollama": {"type": "integer", "minimum": 1, "maximum": 5},
        },
    ),
    (
        "exclusive bound",
        {"type": "number", "exclusiveMinimum": 0, "description": "price"},
        {
            "openai": {"type": "number", "exclusiveMinimum": 0, "description": "price"},
            "anthropic": {"type": "number", "description": "price (exclusiveMinimum: 0)"},
            "gemini": {"type": "number", "description": "price (exclusiveMinimum: 0)"},
            "ollama": {"type": "number", "exclusiveMinimum": 0, "description": "price"},
        },
    ),
    (
        "length",
        {"type": "string", "maxLength": 9},
        {
            "openai": {"type": "string", "description": "(maxLength: 9)"},
            "anthropic": {"type": "string", "description": "(maxLength: 9)"},
            "gemini": {"type": "string", "description": "(maxLength: 9)"},
            "ollama": {"type": "string", "maxLength": 9},
        },
    ),
    (
        "format uri",
        {"type": "string", "format": "uri"},
        {
            "openai": {"type": "string", "description": '(format: "uri")'},
            "anthropic": {"type": "string", "format": "uri"},
            "gemini": {"type": "string", "format": "uri"},
            "ollama": {"type": "string", "format": "uri"},
        },
    ),
    (
        "minItems 2",
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {
            "openai": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "anthropic": {"type": "array", "items": {"type": "string"}, "description": "(minItems: 2)"},
            "gemini": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "ollama": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        },
    ),
    (
        "minItems 1",
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        everywhere({"type": "array", "items": {"type": "string"}, "minItems": 1}),
    ),
    (
        "oneOf",
        {"oneOf": [{"type": "string"}, {"type": "null"}]},
        {
            **everywhere({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            "ollama": {"oneOf": [{"type": "string"}, {"type": "null"}]},
        },
    ),
    (
        "allOf",
        {"allOf": [{"type": "integer"}, {"minimum": 1}]},
        {
            "openai": {"type": "integer", "minimum": 1},
            "anthropic": {"type": "integer", "description": "(minimum: 1)"},
            "gemini": {"type": "integer", "minimum": 1},
            "ollama": {"allOf": [{"type": "integer"}, {"minimum": 1}]},
        },
    ),
    (
        "map",
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {
            "openai": None,
            "anthropic": None,
            "gemini": {"type": "object", "additionalProperties": {"type": "integer"}},
            "ollama": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    ),
    (
        "any object",
        {"type": "object"},
        {"openai": None, "anthropic": None, "gemini": {"type": "object"}, "ollama": {"type": "object"}},
    ),
    ("any value", {}, {"openai": None, "anthropic": None, "gemini": {}, "ollama": {}}),
    (
        "tuple",
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {
            "openai": None,
            "anthropic": None,
            "gemini": {"type": "array", "prefixItems": [{"type": "string"}]},
            "ollama": {"type": "array", "prefixItems": [{"type": "string"}]},
        },
    ),
    (
        "pattern names",
        {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
        {
            **everywhere(None),
            "ollama": {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
        },
    ),
    (
        "not, if",
        {"type": "string", "not": {"const": "a"}, "if": {"const": "b"}, "then": False},
        {
            **everywhere({"type": "string"}),
            "ollama": {"type": "string", "not": {"const": "a"}, "if": {"const": "b"}, "then": False},
        },
    ),
]


@pytest.mark.parametrize(("part", "sent"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
@pytest.mark.parametrize("provider", NATIVE)
def test_what_is_sent(provider: str, part: dict[str, Any], sent: dict[str, Any]) -> None:
    reduced = reduce_for(one(part), provider)
    if sent[provider] is None:
        assert reduced.schema is None
        assert "$.x" in (reduced.refused_reason or "")
    else:
        assert reduced.schema is not None
        assert reduced.schema["properties"]["x"] == sent[provider]
        assert reduced.refused_reason is None


def test_openai_makes_optional_properties_nullable_and_takes_the_nulls_out_again() -> None:
    reduced = reduce_for(LABEL, "openai")
    assert reduced.schema is not None
    assert reduced.schema["required"] == ["category", "score", "tags", "note"]
    assert reduced.schema["properties"]["note"]["type"] == ["string", "null"]
    assert reduced.restore({"category": "bug", "score": 1, "tags": [], "note": None}) == {
        "category": "bug",
        "score": 1,
        "tags": [],
    }


def test_a_null_that_the_schema_itself_takes_stays() -> None:
    schema = one({"type": ["string", "null"]}, required=False)
    assert reduce_for(schema, "openai").restore({"x": None}) == {"x": None}


def test_a_null_in_a_required_property_stays_for_the_validator_to_refuse() -> None:
    assert reduce_for(LABEL, "openai").restore({"category": None}) == {"category": None}


@pytest.mark.parametrize("kind", ["anyOf", "oneOf"])
def test_nulls_are_taken_out_of_the_alternative_that_was_answered(kind: str) -> None:
    shape = {"type": "object", "required": ["k"], "additionalProperties": False}
    first = {**shape, "properties": {"k": {"const": "a"}, "x": {"type": "integer"}}}
    second = {**shape, "properties": {"k": {"const": "b"}, "x": {"type": ["string", "null"]}}}
    reduced = reduce_for({"type": "object", "properties": {"c": {kind: [first, second]}}}, "openai")
    assert reduced.restore({"c": {"k": "a", "x": None}}) == {"c": {"k": "a"}}
    assert reduced.restore({"c": {"k": "b", "x": None}}) == {"c": {"k": "b", "x": None}}


def test_a_recursive_schema_goes_to_openai_and_comes_back_without_nulls() -> None:
    node = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["v"]}
    reduced = reduce_for(node, "openai")
    assert reduced.schema is not None
    assert reduced.schema["properties"]["next"] == {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    assert reduced.restore({"v": 1, "next": {"v": 2, "next": None}}) == {"v": 1, "next": {"v": 2}}
    assert "recursive" in (reduce_for(node, "anthropic").refused_reason or "")
    assert reduce_for(node, "gemini").refused_reason is None
    assert "recursive" in (
        reduce_for(
            {**node, "required": ["next"], "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
            "gemini",
        ).refused_reason
        or ""
    )


def test_a_root_that_is_no_object_is_wrapped_for_openai_alone() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    reduced = reduce_for(schema, "openai")
    assert reduced.schema == one(schema) | {"properties": {"value": schema}, "required": ["value"]}
    assert reduced.restore({"value": ["a"]}) == ["a"]
    assert reduced.restore(["a"]) == ["a"]
    assert reduce_for(schema, "anthropic").schema == schema


def test_a_reference_at_the_root_is_spelled_out() -> None:
    schema = {"$ref": "#/$defs/n", "$defs": {"n": one({"type": "string"})}}
    for provider in ("openai", "anthropic", "gemini"):
        copy = reduce_for(schema, provider).schema
        assert copy is not None
        assert copy["type"] == "object"


LIMIT_CASES = [
    ("openai", {f"p{i}": {"type": "string"} for i in range(5_001)}, "5001 properties"),
    ("openai", {"x": {"enum": [f"v{i}" for i in range(1_001)]}}, "1001 enum values"),
    ("openai", {"x": {"enum": [f"{i}" * 30 for i in range(100, 400)]}}, "15000"),
    ("openai", {"a" * 120_001: {"type": "string"}}, "characters"),
    ("anthropic", {f"p{i}": {"type": ["string", "null"]} for i in range(17)}, "17 properties with alternative types"),
]


@pytest.mark.parametrize(("provider", "properties", "reason"), LIMIT_CASES)
def test_what_is_over_a_limit_is_refused_with_the_number(
    provider: str, properties: dict[str, Any], reason: str
) -> None:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    reduced = reduce_for(schema, provider)
    assert reduced.schema is None
    assert reason in (reduced.refused_reason or "")


def test_optional_properties_are_counted_for_anthropic() -> None:
    properties = {f"p{i}": {"type": "string"} for i in range(25)}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    assert "25 optional" in (reduce_for(schema, "anthropic").refused_reason or "")
    assert reduce_for(schema | {"required": ["p0"]}, "anthropic").refused_reason is None


def test_levels_are_counted_for_openai() -> None:
    schema: dict[str, Any] = one({"type": "string"})
    for _ in range(9):
        schema = one(schema)
    assert reduce_for(schema, "openai").refused_reason is None
    assert "11 levels" in (reduce_for(one(schema), "openai").refused_reason or "")


def test_what_was_dropped_is_listed_by_path() -> None:
    schema = {
        "type": "object",
        "properties": {"l": {"type": "array", "items": {"type": "string", "maxLength": 3}, "uniqueItems": True}},
    }
    assert reduce_for(schema, "openai").dropped == (
        "$: additionalProperties (sent closed)",
        "$.l: uniqueItems",
        "$.l[]: maxLength",
    )


@pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
def test_references_that_double_at_every_level_are_reduced_and_led_back_in_time(word: str) -> None:
    definitions: dict[str, Any] = {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(24)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**definitions, "d24": one({"type": "string"}, required=False)}}
    started = time.process_time()
    reduced = reduce_for(schema, "openai")
    assert reduced.restore({"x": 3}) == {"x": 3}
    if word == "anyOf":
        assert reduced.restore({"value": {"x": None}}) == {}
    with contextlib.suppress(NoExample):
        example_instance(schema, 1)
    assert time.process_time() - started < 10


def test_the_users_document_is_not_changed() -> None:
    import copy

    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "allOf": [{"properties": {"b": {"type": "string"}}}],
    }
    before = copy.deepcopy(schema)
    for provider in NATIVE:
        reduce_for(schema, provider)
    assert schema == before


@SETTINGS
@given(documents(), st.sampled_from(["openai", "anthropic", "gemini"]), st.integers(0, 5))
def test_a_copy_asks_for_nothing_that_the_schema_refuses_for_what_was_left_out(
    document: dict[str, Any], provider: str, seed: int
) -> None:
    """The copy is a schema, holds only what the provider takes, and an answer that is valid comes back as it was."""
    try:
        full = compile_schema(document)
    except SchemaUnusable:
        return
    reduced = reduce_for(full.document, provider)
    event("refused" if reduced.schema is None else "sent")
    if reduced.schema is None:
        assert reduced.refused_reason
        return
    limits = LIMITS[provider]
    assert limits.keywords is not None
    for _, node in walk(reduced.schema, "2020-12"):
        assert set(node) <= limits.keywords | {"$defs"}
        if limits.all_required and "properties" in node:
            assert sorted(node["required"]) == sorted(node["properties"])
    compile_schema(reduced.schema)
    try:
        value = example_instance(full.document, seed)
    except NoExample:
        return
    assert full.accepts(reduced.restore(value))


def filled_with_nulls(value: Any, copy: dict[str, Any]) -> Any:
    """What a strict provider makes of a value: null for every property of the copy that the value lacks."""
    if isinstance(value, dict) and "properties" in copy:
        known = {name: filled_with_nulls(item, copy["properties"][name]) for name, item in value.items()}
        return known | {name: None for name in copy["required"] if name not in value}
    if isinstance(value, list):
        return [filled_with_nulls(item, copy["items"]) for item in value]
    return value


plain_schemas = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 0}, {"enum": ["a", "b"]}, {"type": "boolean"}]),
    lambda inner: st.one_of(
        inner.map(lambda s: {"type": "array", "items": s, "maxItems": 3}),
        st.tuples(st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=4), st.integers(0, 4)).map(
            lambda pair: {
                "type": "object",
                "properties": pair[0],
                "required": sorted(pair[0])[: pair[1]],
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=8,
)


@SETTINGS
@given(plain_schemas, st.integers(0, 9))
def test_what_strictness_adds_is_taken_out_again(schema: dict[str, Any], seed: int) -> None:
    """Any value of the user's schema, filled in as a strict provider has to, comes back as it was."""
    reduced = reduce_for(schema, "openai")
    assert reduced.schema is not None
    value = example_instance(schema, seed)
    wrapped = "value" in reduced.schema["properties"] and schema.get("type") != "object"
    asked = {"value": value} if wrapped else value
    strict = filled_with_nulls(asked, dict(reduced.schema))
    assert compile_schema(reduced.schema).accepts(strict)
    event(f"changed: {strict != value}")
    assert reduced.restore(strict) == value


@pytest.mark.parametrize("name", ["größe", "x y", "a/b", "a~b", "100%", "value", 'q"q', "#", "a%20b"])
@pytest.mark.parametrize("provider", NATIVE)
def test_definitions_with_odd_names_are_found_again(provider: str, name: str) -> None:
    reference = "#/$defs/" + quote(name.replace("~", "~0").replace("/", "~1"), safe="~")
    document = {
        "type": "object",
        "properties": {"a": {"$ref": reference}, "b": {"type": "array", "items": {"$ref": reference}}},
        "required": ["a", "b"],
        "additionalProperties": False,
        "$defs": {name: one({"type": "string"})},
    }
    copy = reduce_for(compile_schema(document).document, provider).schema
    assert copy is not None
    judge = jsonschema.Draft202012Validator(copy)
    assert judge.is_valid({"a": {"x": "1"}, "b": [{"x": "2"}]})
    assert not judge.is_valid({"a": {"x": "1"}, "b": [{"x": 2}]})


@pytest.mark.parametrize("root", [{"enum": ["a", "b"]}, {"const": 3}, {"items": {"type": "string"}}, {"enum": [None]}])
def test_a_root_whose_type_is_only_implied_is_wrapped_for_openai(root: dict[str, Any]) -> None:
    copy = reduce_for(root, "openai").schema
    assert copy is not None
    assert (copy["type"], list(copy["properties"])) == ("object", ["value"])


OPEN = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
WHEN_BUG = {"if": {"properties": {"kind": {"const": "bug"}}}}
MORE_NAMES: list[tuple[dict[str, Any], str]] = [
    ({**WHEN_BUG, "then": {"required": ["severity"]}}, "severity"),
    ({**WHEN_BUG, "else": {"properties": {"note": {"type": "string"}}}}, "note"),
    ({**WHEN_BUG, "then": {"$ref": "#/$defs/more"}, "$defs": {"more": {"required": ["severity"]}}}, "severity"),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "a"),
    ({"dependentRequired": {"kind": ["why"]}}, "why"),
    ({"dependentSchemas": {"kind": {"allOf": [{"properties": {"why": {"type": "string"}}}]}}}, "why"),
    ({**WHEN_BUG, "then": {"required": ["severity"]}, "unevaluatedProperties": False}, "severity"),
]


@pytest.mark.parametrize(("more", "name"), MORE_NAMES)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_what_a_closed_copy_could_not_hold_goes_into_the_prompt(provider: str, more: Any, name: str) -> None:
    reduced = reduce_for(OPEN | more, provider)
    assert reduced.schema is None
    assert f"asks for properties that it does not list: {name}" in (reduced.refused_reason or "")


def test_an_open_object_that_has_to_have_more_properties_than_it_lists_goes_into_the_prompt() -> None:
    refused = reduce_for(OPEN | {"minProperties": 2}, "openai").refused_reason
    assert refused == "$ asks for more properties than it lists"
    assert reduce_for(OPEN | {"minProperties": 1}, "openai").schema is not None
    assert reduce_for(OPEN | {"minProperties": 2}, "gemini").schema is not None


def test_conditions_over_listed_properties_are_left_out_of_the_copy() -> None:
    listed = {"kind": {"type": "string"}, "severity": {"type": "integer"}}
    document = {**OPEN, "properties": listed, **WHEN_BUG, "then": {"required": ["severity"]}}
    reduced = reduce_for(document, "openai")
    assert reduced.schema is not None
    assert {"$: if", "$: additionalProperties (sent closed)"} <= set(reduced.dropped)


def test_references_that_multiply_when_they_are_spelled_out_go_into_the_prompt_in_time() -> None:
    levels = {
        f"d{n}": {"type": "object", "properties": {x: {"$ref": f"#/$defs/d{n + 1}", "minProperties": 1} for x in "ab"}}
        for n in range(40)
    }
    levels["d40"] = {"type": "object", "properties": {"x": {"type": "string"}}}
    started = time.process_time()
    reduced = reduce_for({"$ref": "#/$defs/d0", "$defs": levels}, "openai")
    assert reduced.refused_reason == "its references multiply beyond reason"
    assert time.process_time() - started < 5


def test_a_type_that_is_only_implied_is_named() -> None:
    reduced = reduce_for({"properties": {"x": {"type": "string"}}, "required": ["x"]}, "openai")
    assert "$: other types (sent as object)" in reduced.dropped
