"""The loader's own reading of the schema file agrees with jsonschema on what is allowed."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config import keys
from llmpipe.config.nodes import SourceText
from llmpipe.config.problems import Problems
from llmpipe.config.source import parse
from llmpipe.config.structure import check_shape

VALIDATOR = jsonschema.Draft202012Validator(keys.schema())
WHOLE: dict[str, Any] = {
    name: definition["examples"][0] for name, definition in keys.definition("pipeline")["properties"].items()
} | {
    "vars": {"a": 1, "b": {"type": "list", "default": [1]}, "c": ["x"], "d": None},
    "datasets": {"rows": {"path": ["a", "b"], "key": "id", "format": "csv", "encoding": "utf-8"}},
    "models": {
        "m": {key: d["examples"][0] for key, d in keys.definition("model")["properties"].items()}
        | {"params": {key: d["examples"][0] for key, d in keys.definition("params")["properties"].items()}}
    },
    "defaults": {key: d["examples"][0] for key, d in keys.definition("defaults")["properties"].items()},
    "budget": {key: d["examples"][0] for key, d in keys.definition("budget")["properties"].items()},
    "steps": [
        {"id": "a", "prompt": "x", "foreach": {"group": "steps.b", "by": "output", "size": 3}, "cache": "off"},
        {
            "id": "b",
            "messages": [{"role": "user", "content": "x"}],
            "foreach": {"split": "datasets.rows", "size": "2k"},
        },
        {"id": "c", "render": "x", "retry": {"base": "1s"}, "timeout": {"idle": "none", "total": 0}, "min_success": 3},
    ],
}
ODD: list[Any] = [None, True, False, 0, 1, -1, 1.0, 0.5, -0.5, 1e300, "", "x", "none", "off", "0", "-5s", "5s", "98%"]
ODD += ["101%", "0.5k", "3_000", "steps.a", "steps.a.b", "datasets.x", "vars.x", "a-b", "a:b", [], ["x"], [1], {}]
ODD += [
    {"x": 1},
    {"type": "string"},
    {"group": "steps.a"},
    {"split": "steps.a", "size": 1},
    [[]],
    "auto",
    "1MiB",
    "a\n",
]


def ours(document: Any) -> bool:
    node, problems = parse(SourceText(json.dumps(document), file="f"))
    assert node is not None
    assert not problems
    found = Problems()
    check_shape(node, found)
    return not found.errors


def theirs(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, child in below for spot in spots(child, (*path, key)))]


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        document = document[part]
    return document


SPOTS = spots(WHOLE)
NAMES = sorted(keys.homes())


def test_the_schema_is_a_schema_and_the_whole_document_is_allowed() -> None:
    jsonschema.Draft202012Validator.check_schema(keys.schema())
    assert list(VALIDATOR.iter_errors(WHOLE)) == []
    assert ours(WHOLE)


@given(st.data())
def test_both_agree_on_documents_with_a_change(data: st.DataObject) -> None:
    document = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(spots(document)))
        _change(document, path, data)
    assert ours(document) == theirs(document)


def _change(document: Any, path: tuple[Any, ...], data: st.DataObject) -> None:
    target = at(document, path)
    if path and data.draw(st.booleans()):
        at(document, path[:-1])[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    elif isinstance(target, dict) and target and data.draw(st.booleans()):
        del target[data.draw(st.sampled_from(sorted(target)))]
    elif isinstance(target, dict):
        target[data.draw(st.sampled_from([*NAMES, "odd-name", "x"]))] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    elif isinstance(target, list):
        target.append(copy.deepcopy(data.draw(st.sampled_from(ODD))))


@pytest.mark.parametrize("path", [s for s in SPOTS if s], ids=lambda p: ".".join(map(str, p)))
def test_both_agree_on_every_odd_value_at_every_spot(path: tuple[Any, ...]) -> None:
    small = {"version": 1, "steps": [{"id": "a", "prompt": "x"}], path[0]: WHOLE[path[0]]}
    if path[0] == "steps" and len(path) > 1:
        small["steps"] = [WHOLE["steps"][path[1]]]
        path = ("steps", 0, *path[2:])
    for odd in ODD:
        document = copy.deepcopy(small)
        at(document, path[:-1])[path[-1]] = odd
        assert ours(document) == theirs(document), odd


def test_every_word_of_the_schema_is_interpreted() -> None:
    """A keyword that jsonschema knows and the loader does not would be accepted and ignored."""
    known = {"$ref", "type", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum", "minLength", "items"}
    known |= {"minItems", "minProperties", "properties", "required", "additionalProperties", "propertyNames", "anyOf"}
    known |= {"oneOf", "title", "description", "default", "examples", "x-wants", "$schema", "$defs"}

    def words(schema: Any) -> set[str]:
        found = set(schema)
        for word in ("properties", "$defs"):
            found |= {w for s in schema.get(word, {}).values() for w in words(s)}
        for word in ("items", "additionalProperties", "propertyNames"):
            found |= words(schema[word]) if isinstance(schema.get(word), dict) else set()
        for word in ("anyOf", "oneOf"):
            found |= {w for s in schema.get(word, []) for w in words(s)}
        return found

    assert words(keys.schema()) <= known


def test_jsonschema_is_not_needed_to_load() -> None:
    import subprocess
    import sys

    code = "import sys, llmpipe.config.load\n"
    code += "print(sorted({'jsonschema', 'httpx', 'aiohttp', 'loguru'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
