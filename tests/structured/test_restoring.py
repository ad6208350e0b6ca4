"""The way back from an answer to a reduced copy of a schema, where it is not plain."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llmpipe.structured.reduce import reduce_for
from llmpipe.structured.schema import compile_schema


def closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


EVIL = {"type": "string", "pattern": "^(a+)+$"}
BY_TAG = closed({"a": {"anyOf": [closed({"t": EVIL, "n": {"type": "string"}}, required=["t"]), {"type": "null"}]}})


def test_an_alternative_whose_pattern_takes_too_long_leaves_the_answer_for_the_validation() -> None:
    answer = {"a": {"t": "a" * 40 + "!", "n": None}}
    assert reduce_for(BY_TAG, "openai").restore(answer) == answer
    assert [v.kind for v in compile_schema(BY_TAG).violations(answer)] == ["search_too_long"]


def test_references_are_followed_where_jsonschema_has_to_decide() -> None:
    node = closed({"next": {"$ref": "#/$defs/node"}, "note": {"type": "string"}}, unevaluatedProperties=False)
    root = closed({"node": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "other": {"$ref": "#/$defs/node"}})
    reduced = reduce_for({**root, "required": ["node"], "$defs": {"node": node}}, "openai")
    answer = {"node": {"next": {"next": None, "note": None}, "note": "x"}, "other": {"next": None, "note": None}}
    assert reduced.restore(answer) == {"node": {"next": {}, "note": "x"}, "other": {}}


@pytest.mark.parametrize(
    ("rule", "answer", "meant"),
    [
        ({"maxProperties": 1}, {"a": "x", "b": None}, {"a": "x"}),
        ({"dependentRequired": {"b": ["c"]}}, {"a": "x", "b": None, "c": None}, {"a": "x"}),
        ({"not": {"required": ["b"]}}, {"a": "x", "b": None}, {"a": "x"}),
        ({}, {"a": "x", "b": None}, {"a": "x", "b": None}),
        ({"maxProperties": 1}, {"a": "x", "b": "y"}, {"a": "x", "b": "y"}),
    ],
)
def test_a_null_that_could_mean_either_means_what_fits(rule: Any, answer: Any, meant: Any) -> None:
    optional = {"type": ["string", "null"]}
    properties = {"a": optional, "b": optional, **({"c": {"type": "string"}} if "c" in answer else {})}
    reduced = reduce_for(closed(properties, required=["a"], **rule), "openai")
    assert reduced.restore(answer) == meant


def test_several_threads_lead_back_at_once() -> None:
    ways = [closed({"k": {"const": str(n)}, "x": {"type": "string"}}, required=["k"]) for n in range(60)]
    root = closed({"v": {"type": "object", "properties": {"y": {"type": "string"}}, "anyOf": ways}}, required=["v"])
    found: list[Any] = []
    for _ in range(20):
        reduced = reduce_for({**root, "title": str(len(found))}, "openai")
        start = threading.Barrier(4)

        def work(reduced: Any = reduced, start: Any = start) -> None:
            start.wait()
            found.append(reduced.restore({"v": {"k": "59", "x": None}}))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [{"v": {"k": "59"}}] * 80
