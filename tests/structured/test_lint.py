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


CLOSED = {"type": "object", "additionalProperties": False}
SENSELESS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"type": "integer", "minimum": 5, "maximum": 1}, "error", "#/minimum", "leaves nothing below maximum 1"),
    ({"type": "number", "exclusiveMinimum": 5, "maximum": 5}, "error", "#/exclusiveMinimum", "no value fits"),
    ({"type": "string", "minLength": 2, "maxLength": 1}, "error", "#/minLength", "no value fits"),
    ({"type": "array", "minItems": 2, "maxItems": 1}, "error", "#/minItems", "no value fits"),
    ({"type": ["array", "null"], "minItems": 2, "maxItems": 1}, "warning", "#/minItems", "no value fits"),
    ({"minimum": 2, "maximum": 1}, "warning", "#/minimum", "no value fits"),
    ({"type": "string", "enum": [1, 2]}, "error", "#/enum", "nothing in enum is of type string"),
    ({"type": "string", "enum": ["a", None]}, "warning", "#/enum/1", 'add "null" to `type`'),
    ({"type": "integer", "const": "1"}, "error", "#/const", "const is not of type integer"),
    ({"enum": ["a", "a"]}, "warning", "#/enum", "twice"),
    ({"type": "string", "minimum": 1}, "warning", "#/minimum", "decides nothing about a value of type string"),
    ({"type": "integer", "maxLength": 1}, "warning", "#/maxLength", "it is for strings"),
    ({"then": {"required": ["a"]}}, "warning", "#/then", "without if"),
    ({"if": {"required": ["a"]}}, "warning", "#/if", "without then or else"),
    ({"minContains": 1}, "warning", "#/minContains", "without contains"),
    ({"dependencies": {"a": ["b"]}}, "warning", "#/dependencies", "dependentRequired"),
    (CLOSED | {"required": ["a"]}, "error", "#/required/0", "'a'"),
    (CLOSED | {"required": ["b"], "patternProperties": {"^a": {}}}, "error", "#/required/0", "'b'"),
    (CLOSED | {"properties": {"a": {}}, "minProperties": 2}, "error", "#/minProperties", "1 are allowed"),
    ({"maximum": float("inf")}, "error", "#", "inf is not a JSON value"),
    ({"enum": [float("nan")]}, "error", "#", "nan is not a JSON value"),
]


@pytest.mark.parametrize(("schema", "severity", "place", "said"), SENSELESS)
def test_what_cannot_be_meant_is_told(schema: dict[str, Any], severity: str, place: str, said: str) -> None:
    (problem,) = lint(schema)
    assert (problem.severity, str(problem).startswith(f"{place}: ")) == (severity, True)
    assert said in str(problem)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2, "enum": [1.5]},
        {"type": "integer", "enum": [1, 2.0], "const": 2.0},
        {"type": ["string", "null"], "enum": ["a", None], "minLength": 1},
        {"enum": [1, True, "1", None, 0, False]},
        CLOSED | {"required": ["ab"], "patternProperties": {"^a": {}}, "minProperties": 3},
        {"type": "object", "required": ["a"]},
        {"properties": {"a": {}}, "minItems": 1},
    ],
)
def test_what_makes_sense_is_not_told(schema: dict[str, Any]) -> None:
    assert lint(schema) == []


@pytest.mark.parametrize(
    "node",
    [
        {"type": "object", "required": ["x"], "additionalProperties": {"$ref": "#/$defs/n"}},
        {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/n"}},
        {"type": "array", "contains": {"$ref": "#/$defs/n"}},
    ],
)
def test_recursion_without_end_is_found_through_whatever_has_to_be_there(node: dict[str, Any]) -> None:
    (problem,) = [p for p in lint({"$ref": "#/$defs/n", "$defs": {"n": node}}) if p.severity == "error"]
    assert "for ever" in problem.message
    fine = {**node, "type": ["null", node["type"]]}
    assert [p for p in lint({"$ref": "#/$defs/n", "$defs": {"n": fine}}) if p.severity == "error"] == []
