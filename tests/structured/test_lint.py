"""The linter says what is wrong with a schema, where, and what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from llmpipe.structured.lint import lint


@pytest.mark.parametrize(
    ("document", "pointer", "hint"),
    [
        ({"requierd": ["a"]}, "/requierd", "did you mean 'required'?"),
        (
            {"properties": {"a": {"type": "string", "nullable": True}}},
            "/properties/a/nullable",
            'write `type: [..., "null"]`',
        ),
        ({"type": "str"}, "/type", "did you mean 'string'?"),
        ({"type": "objekt"}, "/type", "did you mean 'object'?"),
        ({"items": [{}]}, "/items", "a list of schemas is spelled `prefixItems`"),
        (
            {"properties": {"a": {"required": True}}},
            "/properties/a/required",
            "`required` is a list of names in the object around the property",
        ),
        ({"exclusiveMinimum": True}, "/exclusiveMinimum", "write the bound itself: `exclusiveMinimum: 0`"),
        ({"properties": {"name": {}}, "required": ["nmae"]}, "/required/0", "did you mean 'name'?"),
        ({"format": "datetime"}, "/format", "did you mean 'date-time'?"),
        ({"enum": []}, "/enum", ""),
        ({"pattern": "("}, "/pattern", ""),
        ({"patternProperties": {"[": {}}}, "/patternProperties/[", ""),
        ({"properties": {"a/b~c": {"minimum": "1"}}}, "/properties/a~1b~0c/minimum", ""),
        ({"minLength": -1}, "/minLength", ""),
        ({"anyOf": []}, "/anyOf", ""),
        ({"dependentRequired": {"a": "b"}}, "/dependentRequired/a", ""),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema", "JSON Schema 2020-12 or draft-07"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{}]},
            "/prefixItems",
            "say so by $schema",
        ),
        ([], "", "write `type: object` and `properties`"),
    ],
)
def test_each_problem_has_its_place_and_a_hint(document: Any, pointer: str, hint: str) -> None:
    problems = lint(document)
    assert [(p.pointer, p.hint, p.severity) for p in problems] == [(pointer, hint, "error")]


@pytest.mark.parametrize(
    "document",
    [
        {"x-internal": 1},
        {"properties": {"nullable": {"type": "string"}, "requierd": True}},
        {"enum": [{"requierd": 1}], "default": {"$ref": "http://x"}, "examples": [{"typ": 1}]},
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}},
        {"type": ["string", "null"], "format": "date", "title": "t", "$comment": "c", "deprecated": True},
        {"patternProperties": {"^x": {}}, "properties": {"a": {}}, "required": ["xa"]},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {}},
            "items": [{"$ref": "#/definitions/a"}],
        },
        {},
    ],
)
def test_what_is_right_passes(document: Any) -> None:
    assert lint(document) == []


def test_unknown_words_that_resemble_nothing_are_warnings() -> None:
    assert [(p.pointer, p.severity) for p in lint({"qqqq": 1, "format": "isbn"})] == [
        ("/qqqq", "warning"),
        ("/format", "warning"),
    ]


def test_all_problems_come_at_once_errors_first() -> None:
    problems = lint({"qqqq": 1, "type": "x", "properties": {"a": {"minimum": "x"}, "b": {"$ref": "#/nope"}}})
    assert [p.severity for p in problems] == ["error"] * 3 + ["warning"]


def test_a_schema_that_is_nested_too_deep_is_a_problem_and_not_a_crash() -> None:
    document: dict[str, Any] = {}
    for _ in range(5000):
        document = {"not": document}
    assert "nested deeper" in lint(document)[0].message
