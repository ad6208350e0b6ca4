"""Examples fit their schema, are the same for the same seed, and show every side of it over a few dozen seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from llmpipe.errors import SchemaUnusable
from llmpipe.structured import formats
from llmpipe.structured.instance import NoExample, example_instance
from llmpipe.structured.schema import compile_schema
from llmpipe.structured.short_form import expand
from tests.structured.generated import SETTINGS, documents

RICH = expand(
    {
        "category": "enum[bug, idea, praise, other]",
        "score": "integer 1..5",
        "tags": "list[string]",
        "note?": "string ..20",
        "when": "date | null",
        "claims": [{"text": "string 3..", "sure": "boolean"}],
        "code": "string /^[A-Z]{2}-\\d{3}$/",
    }
)


def test_every_side_turns_up_over_36_seeds() -> None:
    made = [example_instance(RICH, f"seed {i}") for i in range(36)]
    assert {m["category"] for m in made} == {"bug", "idea", "praise", "other"}
    assert {m["score"] for m in made} == {1, 2, 3, 4, 5}
    assert {len(m["tags"]) for m in made} == {0, 1, 2, 3}
    assert {"note" in m for m in made} == {True, False}
    assert {m["when"] is None for m in made} == {True, False}
    assert {c["sure"] for m in made for c in m["claims"]} == {True, False}


def test_the_same_seed_gives_the_same_in_another_process() -> None:
    code = f"from llmpipe.structured.instance import example_instance; print(repr(example_instance({RICH!r}, 'x')))"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2] / "src"
    )
    assert found.stdout.strip() == repr(example_instance(RICH, "x"))


@pytest.mark.parametrize("name", sorted(formats.CHECKS))
def test_every_format_is_made(name: str) -> None:
    assert all(formats.fits(name, example_instance({"type": "string", "format": name}, seed)) for seed in range(20))


TREE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["v", "kids"],
}


@pytest.mark.parametrize(
    "schema",
    [
        RICH,
        TREE,
        {"type": "object", "properties": {"e": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["e"]},
        {"type": "array", "minItems": 5, "uniqueItems": True, "items": {"enum": [1, 2, 3, 4, 5]}},
        {"type": "integer", "allOf": [{"minimum": 3}, {"maximum": 4}]},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "number", "multipleOf": 0.01, "minimum": 5, "maximum": 6},
        {"type": "integer", "maximum": -1000},
        {"type": "number", "minimum": -1e308, "maximum": 1e308},
        *(
            {"type": "string", "pattern": p, "minLength": 30, "maxLength": 40}
            for p in (
                "abc",
                "^abc",
                "abc$",
                "[A-Z]",
                "\\d{3}",
                "^[a-z]+$",
                "^.*$",
                "^\\S+( \\S+){2,5}$",
                "^(ab|cdef)+(-\\d+)*$",
            )
        ),
        {"type": "string", "pattern": "^[a-z]{2,}$", "minLength": 25, "maxLength": 25},
        *(
            {"type": "string", "format": f, "minLength": 60, "maxLength": 200}
            for f in (
                "email",
                "idn-email",
                "hostname",
                "uri",
                "iri",
                "uri-reference",
                "json-pointer",
                "uri-template",
                "regex",
            )
        ),
        *(
            {"type": "string", "format": f, "maxLength": n}
            for f, n in (
                ("email", 8),
                ("hostname", 5),
                ("uri", 12),
                ("ipv6", 4),
                ("json-pointer", 3),
                ("uri-reference", 2),
            )
        ),
        {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
        {
            "type": "object",
            "patternProperties": {"^x-[a-z]+$": {"type": "string"}},
            "additionalProperties": False,
            "minProperties": 1,
        },
        {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 2}]},
        {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {}},
            "if": {"properties": {"a": {"const": 1}}, "required": ["a"]},
            "then": {"required": ["b"]},
        },
        {"type": "array", "contains": {"const": 7}, "minContains": 2, "items": {"type": "integer"}},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
        {"not": {"type": "string"}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "array",
            "items": [{"type": "null"}],
            "additionalItems": {"type": "boolean"},
        },
        {"type": "string", "pattern": r"^[^\s@]+@(?:foo|bar)\.de$", "maxLength": 12},
        {"type": "string", "minLength": 300, "maxLength": 300},
    ],
)
def test_examples_of_all_sorts_of_schemas_are_valid(schema: dict[str, Any]) -> None:
    ready = compile_schema(schema)
    assert all(ready.accepts(example_instance(schema, seed)) for seed in range(20))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 4}]},
        {"allOf": [{"type": "null"}, {"type": "string"}]},
        {"not": {}},
    ],
)
def test_where_nothing_fits_it_says_so(schema: dict[str, Any]) -> None:
    with pytest.raises(NoExample, match="no example that fits"):
        example_instance(schema, 1)


@SETTINGS
@given(documents(), st.integers(0, 3))
def test_an_example_is_valid_or_none_is_given(document: dict[str, Any], seed: int) -> None:
    try:
        ready = compile_schema(document)
        value = example_instance(document, seed)
    except SchemaUnusable:
        return
    except NoExample:
        event("none")
        return
    event("made")
    assert ready.accepts(value)
    assert value == example_instance(document, seed)


def test_names_are_texts_whatever_the_schema_of_names_says() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "propertyNames": {"const": [True]}}
    assert {str(example_instance(schema, seed)) for seed in range(20)} == {"{}"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "multipleOf": 1e308},
        {"type": "integer", "minimum": 10**400, "multipleOf": 0.5},
        {"type": "object", "required": ["a"], "dependentSchemas": {"a": {"const": [1]}}},
        {"type": "object", "required": ["a"], "dependentSchemas": {"a": {"const": "text"}}},
    ],
)
def test_what_cannot_be_made_is_told_as_such(schema: dict[str, object]) -> None:
    with pytest.raises(NoExample):
        example_instance(schema, 1)


def test_a_dependent_part_of_an_object_that_may_be_null_is_made() -> None:
    dependent = {"a": {"properties": {"b": {"type": "integer"}}, "required": ["b"]}}
    schema = {"type": ["object", "null"], "properties": {"a": {"const": 1}}, "required": ["a"]}
    made = [example_instance({**schema, "dependentSchemas": dependent}, seed) for seed in range(20)]
    assert {type(value) for value in made} == {dict, type(None)}
