"""A compiled schema checks values without hanging, raising, or fetching, and says what is wrong in a few words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmpipe.errors import SchemaUnusable
from llmpipe.structured.fast import compile_fast
from llmpipe.structured.regex_cost import steps_of
from llmpipe.structured.regexes import RegexChild, SearchTooLong, may_be_long, search
from llmpipe.structured.schema import compile_schema

FIFTEEN = {
    "type": "object",
    "properties": {f"p{i}": {"type": ["string", "integer"][i % 2]} for i in range(15)},
    "required": [f"p{i}" for i in range(15)],
    "additionalProperties": False,
}


def kinds(document: dict[str, Any], value: Any) -> list[str]:
    return [violation.kind for violation in compile_schema(document).violations(value)]


@pytest.mark.parametrize(
    ("document", "value", "said"),
    [
        ({"type": "integer", "maximum": 5}, 7, "$: 7 is more than the maximum 5"),
        ({"type": "integer"}, "x" * 500, "is not of type integer"),
        ({"enum": ["a", "b"]}, "c", '"c" is not one of "a", "b"'),
        ({"type": "object", "required": ["a b"]}, {}, '$: the property "a b" is missing'),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"z": 1}, '$: the property "z" is not allowed here'),
        ({"items": {"type": "string"}}, ["a", 1], "$[1]: 1 is not of type string"),
        ({"properties": {"a b": {"type": "string"}}}, {"a b": 1}, '$["a b"]: 1 is not of type string'),
        ({"type": "string", "format": "date"}, "2026-02-30", "is not a valid"),
        ({"minItems": 2}, [1], "a list of 1 item has 1 item, at least 2 items wanted"),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "has 2 properties, at most 1 property wanted"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 3, "fits more than one of the 2 alternatives"),
        ({"anyOf": [{"type": "string"}, {"required": ["a"]}]}, {}, 'in the closest one $: the property "a" is missing'),
        ({"properties": {"a": False}}, {"a": 1}, '"a" is not allowed here'),
        ({"anyOf": [False, {"type": "string"}]}, 3, "$: 3 fits none of the 2 alternatives"),
        ({"prefixItems": [True, False]}, [3, 4], "$[1]: the item 4 is not allowed here"),
        ({"prefixItems": [True], "items": False}, [3, 4], "$: a list of 2 items has more items than are allowed"),
        ({"prefixItems": [True], "unevaluatedItems": False}, [3, 4], "$[1]: the item 4 is not allowed here"),
        ({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, {"z": 1}, 'property "z" is not'),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, '$: the name "ab" is not allowed here: "ab" has 2 characters'),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, '$: the property "b" is missing, which "a" asks for'),
        ({"contains": {"type": "null"}, "minContains": 2}, [None], "lacks an item that is asked for"),
        ({"type": "integer", "multipleOf": 0.5, "maximum": 1}, 10**400, "is more than the maximum 1"),
    ],
)
def test_messages(document: dict[str, Any], value: Any, said: str) -> None:
    assert said in str(compile_schema(document).violations(value)[0])


def test_messages_never_hold_a_whole_value() -> None:
    document = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "null"}, {"maxItems": 1}]}},
    }
    value = {"a": "x" * 100_000, "b": ["y" * 1000] * 1000}
    for violation in compile_schema(document).violations(value):
        assert len(str(violation)) < 600
        assert len(violation.found) < 200


def test_violations_are_sorted_by_path_and_capped() -> None:
    found = compile_schema({"items": {"type": "string"}}).violations(list(range(500)))
    assert [violation.path for violation in found] == [f"$[{i}]" for i in range(20)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (float("nan"), "not_json"),
        ([float("inf")], "not_json"),
        ({"a": {1: 2}}, "not_json"),
        ((1, 2), "not_json"),
        ({"a": b"x"}, "not_json"),
        ([0] * 100_001, "too_large"),
        (json.loads("[" * 200 + "]" * 200), "too_large"),
    ],
)
def test_what_is_not_json_or_too_large_is_a_violation_of_its_own(value: Any, kind: str) -> None:
    assert kinds({}, value) == [kind]


def test_unique_items_of_3000_objects_is_quick() -> None:
    schema = compile_schema({"type": "array", "uniqueItems": True})
    started = time.process_time()
    assert schema.violations([{"n": i, "t": [i]} for i in range(3000)]) == []
    assert [v.kind for v in schema.violations([{"n": i % 2999} for i in range(3000)])] == ["uniqueItems"]
    assert time.process_time() - started < 10


def test_a_reply_of_3000_objects_under_unique_items_with_an_exponential_pattern_is_bounded() -> None:
    document = {
        "type": "array",
        "uniqueItems": True,
        "items": {"properties": {"s": {"type": "string", "pattern": "(a+)+$"}}},
    }
    value: list[Any] = [{"n": i, "s": "aa"} for i in range(3000)] + [{"s": "a" * 40 + "!"}]
    started = time.monotonic()
    assert kinds(document, value) == ["search_too_long"]
    assert time.monotonic() - started < 100


def test_doubling_alternatives_are_bounded_and_decided() -> None:
    definitions: dict[str, Any] = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(24)}
    document = {"$ref": "#/$defs/d0", "$defs": {**definitions, "d24": {"type": "string"}}}
    started = time.process_time()
    assert kinds(document, "a") == []
    assert kinds(document, 1) == ["too_costly"]
    assert time.process_time() - started < 20


def test_recursive_data_as_deep_as_is_allowed() -> None:
    document = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    value: dict[str, Any] = {}
    for _ in range(120):
        value = {"next": value}
    assert kinds(document, value) == []


def test_a_validator_that_trips_is_a_violation() -> None:
    document = {"$schema": "http://json-schema.org/draft-07/schema#", "items": True, "additionalItems": False}
    assert kinds(document, [1]) in ([], ["validator_failed"])


def test_the_async_form_agrees_and_leaves_the_loop_free() -> None:
    schema = compile_schema({"type": "string", "pattern": "^(a+)+$"})

    async def both() -> tuple[list[Any], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        beside = asyncio.create_task(tick())
        found = await schema.violations_async("a" * 40 + "!")
        beside.cancel()
        return found, ticks

    found, ticks = asyncio.run(both())
    assert [v.kind for v in found] == ["search_too_long"]
    assert ticks > 1
    assert asyncio.run(schema.violations_async("aaa")) == []


def test_jsonschema_is_not_imported_for_valid_answers() -> None:
    code = (
        "import sys; from llmpipe.structured.schema import compile_schema;"
        "from llmpipe.structured.reading import read_json;"
        "s = compile_schema({'type': 'object', 'properties': {'a': {'type': 'string', 'format': 'date'}}});"
        'assert s.violations(read_json(\'{"a": "2026-11-22"}\')[0]) == [];'
        "assert not {'jsonschema', 'asyncio', 'subprocess'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2] / "src")


def test_a_valid_value_of_15_properties_takes_microseconds() -> None:
    schema = compile_schema(FIFTEEN)
    value = {f"p{i}": "abc" if i % 2 == 0 else i for i in range(15)}
    best = min(_seconds(schema, value) for _ in range(5))
    assert best < 200e-6  # of CPU; 10 to 20 on a quiet machine; jsonschema takes 350 to 520


def _seconds(schema: Any, value: Any) -> float:
    started = time.process_time()
    for _ in range(200):
        schema.violations(value)
    return (time.process_time() - started) / 200


def test_equal_documents_are_equal_schemas_whatever_the_order() -> None:
    one, two = compile_schema({"type": "string", "minLength": 1}), compile_schema({"minLength": 1, "type": "string"})
    assert one == two
    assert one.digest == two.digest != compile_schema({"type": "string"}).digest


@pytest.mark.parametrize("document", [[], "x", None, True])
def test_what_is_no_mapping_is_no_schema(document: Any) -> None:
    with pytest.raises(SchemaUnusable, match="a schema is a mapping"):
        compile_schema(document)


def test_unusable_schemas_raise_every_problem() -> None:
    with pytest.raises(SchemaUnusable) as caught:
        compile_schema({"type": "strng", "requird": [], "properties": {"a": {"pattern": "("}}})
    assert [problem.pointer for problem in caught.value.problems] == ["/type", "/requird", "/properties/a/pattern"]


@pytest.mark.parametrize(
    ("pattern", "exponential"),
    [
        (r"^(a+)+$", True),
        (r"(a|a)*$", True),
        (r"^([a-z]+-)*x$", True),
        (r"(?:a?){30}b", True),
        (r"(.*,)*x", True),
        (r"^[a-z]+$", False),
        (r"^\d{4}-\d{2}$", False),
        (r"^(foo|bar)$", False),
        (r"^(?:\d{3})*$", False),
    ],
)
def test_exponential_patterns_are_known_beforehand(pattern: str, exponential: bool) -> None:
    assert (steps_of(pattern)(30) == float("inf")) == exponential
    assert may_be_long(pattern, 1000) == exponential


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(a|b)*c", r"(?=a)a", r"(x)\1", "é+", r"a$", r"^(\w+\s?)*$"])
def test_the_child_finds_what_re_finds(pattern: str) -> None:
    import re

    child = RegexChild()
    try:
        for text in ("", "aaa", "aab\n", "abc", "xx", "éé", "a\n", "\ud800a", "a b c"):
            assert child.search(pattern, text) == (re.search(pattern, text) is not None), text
            assert search(pattern, text) == (re.search(pattern, text) is not None)
    finally:
        child.close()


def test_the_child_is_started_again_after_a_limit() -> None:
    child = RegexChild(limit_s=0.1)
    try:
        for _ in range(2):
            with pytest.raises(SearchTooLong):
                child.search(r"^(a+)+$", "a" * 50 + "!")
            assert child.search(r"^(a+)+$", "aaa")
    finally:
        child.close()


def test_many_threads_share_the_child() -> None:
    from concurrent.futures import ThreadPoolExecutor

    child = RegexChild()
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda i: child.search(r"^(a+)+$", "a" * (i % 7) + ("" if i % 2 else "!")), range(200))
            )
        assert found == [bool(i % 2) and i % 7 > 0 for i in range(200)]
    finally:
        child.close()


def test_the_fast_path_takes_the_usual_schemas() -> None:
    assert compile_fast(FIFTEEN, "2020-12") is not None
    assert compile_fast({"unevaluatedProperties": False}, "2020-12") is not None
    assert compile_fast({"$dynamicRef": "#x"}, "2020-12") is None


def test_equality_is_json_schemas() -> None:
    assert kinds({"enum": [1]}, 1.0) == []
    assert kinds({"enum": [1]}, True) == ["enum"]
    assert kinds({"const": {"a": [1, {"b": None}]}}, {"a": [1.0, {"b": None}]}) == []
    assert kinds({"uniqueItems": True}, [1, True, "1", [1], [True], 1.5]) == []
    assert kinds({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]) == ["uniqueItems"]


UNEVALUATED: list[tuple[dict[str, Any], Any, bool]] = [
    ({"contains": {"type": "integer"}, "unevaluatedItems": False}, list(range(30_000)), True),
    ({"contains": {"type": "integer"}, "unevaluatedItems": False}, [*range(30_000), "a"], False),
    (
        {"additionalProperties": {"type": "integer"}, "unevaluatedProperties": False},
        {str(n): n for n in range(30_000)},
        True,
    ),
    (
        {"patternProperties": {"^x": {}}, "unevaluatedProperties": False},
        {f"x{n}": n for n in range(30_000)} | {"y": 1},
        False,
    ),
    (
        {
            "items": {
                "allOf": [{"properties": {"n": {"type": "integer"}}, "required": ["n"]}],
                "properties": {"t": {"type": "string"}},
                "unevaluatedProperties": False,
            }
        },
        [{"n": n, "t": "x"} for n in range(30_000)],
        True,
    ),
]


@pytest.mark.parametrize(("document", "value", "valid"), UNEVALUATED)
def test_what_was_not_looked_at_is_found_in_time_by_the_size(document: Any, value: Any, valid: bool) -> None:
    schema = compile_schema(document)
    started = time.process_time()
    assert (schema.violations(value) == []) is valid
    assert time.process_time() - started < 4


def test_names_that_were_not_looked_at_are_searched_for_within_the_limit() -> None:
    document = {"unevaluatedProperties": False, "patternProperties": {"^(a+)+$": {"type": "string"}}}
    assert kinds(document, {"a" * 40 + "!": 1}) == ["search_too_long"]
