"""The short form expands to JSON Schema, is told apart from it, and its mistakes are named with their keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.errors import SchemaUnusable
from llmpipe.structured.lint import lint
from llmpipe.structured.short_form import expand, is_short_form


@pytest.mark.parametrize(
    ("short", "schema"),
    [
        ("string", {"type": "string"}),
        ("text", {"type": "string"}),
        ("string ..200", {"type": "string", "maxLength": 200}),
        ("string <= 200", {"type": "string", "maxLength": 200}),
        ("string 1..80 /^[A-Z]/", {"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[A-Z]"}),
        ("string /a\\/b/", {"type": "string", "pattern": "a/b"}),
        ("integer 1..5", {"type": "integer", "minimum": 1, "maximum": 5}),
        ("integer -5..", {"type": "integer", "minimum": -5}),
        ("number 0..0.5", {"type": "number", "minimum": 0, "maximum": 0.5}),
        ("number > 0 <= 1", {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        ("boolean", {"type": "boolean"}),
        ("date", {"type": "string", "format": "date"}),
        ("date-time", {"type": "string", "format": "date-time"}),
        ("any", {}),
        ("enum[bug, feature request]", {"type": "string", "enum": ["bug", "feature request"]}),
        ("enum[\"a, b\", 'it''s', c]", {"type": "string", "enum": ["a, b", "it's", "c"]}),
        ('enum[1, 2.5, "3", true, null, yes]', {"enum": [1, 2.5, "3", True, None, "yes"]}),
        ("list[string]", {"type": "array", "items": {"type": "string"}}),
        (
            "list[list[integer 0..9] 1..] ..3",
            {
                "type": "array",
                "maxItems": 3,
                "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 9}},
            },
        ),
        ("map[number]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("string | null", {"type": ["string", "null"]}),
        ("integer 1..5 | null", {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 5}, {"type": "null"}]}),
        ("enum[a - b] - the kind - of it", {"type": "string", "enum": ["a - b"], "description": "the kind - of it"}),
        (["string"], {"type": "array", "items": {"type": "string"}}),
        (
            {"x?": "string"},
            {"type": "object", "properties": {"x": {"type": "string"}}, "required": [], "additionalProperties": False},
        ),
    ],
)
def test_each_form(short: Any, schema: dict[str, Any]) -> None:
    expanded = expand({"f": short})
    assert expanded["properties"]["f"] == schema
    assert lint(expanded) == []


def test_a_record_is_closed_and_its_fields_required_unless_marked() -> None:
    assert expand({"a": "string", "b?": "integer"}) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("short", "pointer", "said"),
    [
        ({"a": "strng"}, "/a", "did you mean 'string'?"),
        ({"a": {"b": [{"c": "integr"}]}}, "/a/b/0/c", "did you mean 'integer'?"),
        ({"a": "enum[]"}, "/a", "write `enum[a, b]`"),
        ({"a": "enum[x, x]"}, "/a", "listed twice"),
        ({"a": "integer 5..1"}, "/a", "the range 5..1 is empty"),
        ({"a": "integer 1.5.."}, "/a", "not a whole number"),
        ({"a": "list"}, "/a", "write `list[string]`"),
        ({"a": "list[string"}, "/a", "not closed"),
        ({"a": "string extra"}, "/a", "'extra' is not understood"),
        ({"a": "string |"}, "/a", "a type is missing at the end"),
        ({"a": "object"}, "/a", "write the fields as a mapping"),
        ({"a": ""}, "/a", "the type is missing"),
        ({"a": 3}, "/a", "is not a type"),
        ({"a": ["x", "y"]}, "/a", "spelled `enum[a, b]`"),
        ({"a": "string", "a?": "string"}, "/a?", "given twice"),
        ({"a": {}}, "/a", "needs at least one field"),
        ({"a": "string < 3"}, "/a", "write <="),
        ({"a": "list[" * 100 + "string" + "]" * 100}, "/a", "nested deeper"),
    ],
)
def test_mistakes_have_the_pointer_of_their_key(short: Any, pointer: str, said: str) -> None:
    with pytest.raises(SchemaUnusable) as caught:
        expand(short)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert said in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(SchemaUnusable) as caught:
        expand({"a": "x", "b": {"c": "y"}, "d": "string"})
    assert [problem.pointer for problem in caught.value.problems] == ["/a", "/b/c"]


@pytest.mark.parametrize(
    ("inline", "short"),
    [
        ({"supported": "boolean", "why": "string"}, True),
        ({"type": "enum[a, b]", "text": "string"}, True),
        ({"type": "text", "name": "string"}, True),
        ({"items": [{"text": "string"}]}, True),
        ({"properties": {"a": "string"}}, True),
        ({"title": "string", "description": "string"}, True),
        ({"enum": ["string"]}, True),
        ({"type": "object"}, False),
        ({"type": ["string", "null"]}, False),
        ({"type": "integer", "minimum": 1}, False),
        ({"properties": {"a": {"type": "string"}}}, False),
        ({"anyOf": [{"type": "string"}]}, False),
        ({"enum": ["a", "b"]}, False),
        ({"$ref": "#/$defs/x", "$defs": {}}, False),
        ({"$schema": "x", "type": "string"}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
    ],
)
def test_the_short_form_is_told_from_json_schema(inline: dict[str, Any], short: bool) -> None:
    assert is_short_form(inline) is short


def test_what_could_be_both_is_refused_with_both_ways_out() -> None:
    with pytest.raises(SchemaUnusable, match=r"add `\$schema`; for a field write `type: text`"):
        is_short_form({"type": "string"})


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expanded = expand({"f": text})
    except SchemaUnusable:
        return
    assert [p for p in lint(expanded) if p.severity == "error" and "does not compile" not in p.message] == []
