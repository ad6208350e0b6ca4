"""References resolve inside the project, into one document; nothing else is ever read or fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing

from llmpipe.errors import SchemaUnusable
from llmpipe.structured.lint import lint
from llmpipe.structured.schema import compile_schema


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(
        tmp_path / "p/parts/person.json",
        {
            "type": "object",
            "properties": {"name": {"$ref": "#/$defs/name"}, "boss": {"$ref": "#"}, "tag": {"$ref": "../tag.json"}},
            "required": ["name"],
            "$defs": {"name": {"$anchor": "named", "type": "string", "minLength": 1}},
        },
    )
    write(tmp_path / "p/tag.json", {"type": "string", "enum": ["x", "y"], "components": {"odd": {"$ref": "#"}}})
    write(tmp_path / "outside.json", {"type": "string"})
    return tmp_path / "p"


def refused(document: Any, project: Path) -> str:
    with pytest.raises(SchemaUnusable) as caught:
        compile_schema(document, base=project, root=project)
    found = [str(p) for p in lint(document, base=project, root=project) if p.severity == "error"]
    assert found == [str(p) for p in caught.value.problems]
    return str(caught.value)


def test_files_are_bundled_with_their_own_references(project: Path) -> None:
    schema = compile_schema({"properties": {"p": {"$ref": "parts/person.json"}}}, base=project, root=project)
    assert schema.accepts({"p": {"name": "a", "boss": {"name": "b", "tag": "x"}}})
    assert [v.path for v in schema.violations({"p": {"name": "", "boss": {"name": "b", "tag": "z"}}})] == [
        "$.p.boss.tag",
        "$.p.name",
    ]
    assert sorted(path.name for path in schema.files) == ["person.json", "tag.json"]
    assert all(ref.startswith("#") for ref in _refs(schema.document))


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [v for k, v in value.items() if k == "$ref"] + [r for v in value.values() for r in _refs(v)]
    return [r for v in value for r in _refs(v)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "reference",
    ["parts/person.json#/$defs/name", "parts/person.json#named", "parts/../parts/person.json#/properties/name"],
)
def test_a_part_of_a_file(project: Path, reference: str) -> None:
    schema = compile_schema({"$ref": reference}, base=project, root=project)
    assert schema.accepts("a")
    assert not schema.accepts("")


def test_a_part_that_no_keyword_leads_to(project: Path) -> None:
    assert not compile_schema({"$ref": "tag.json#/components/odd"}, base=project, root=project).accepts("z")


def test_the_base_may_be_a_file(project: Path) -> None:
    schema = compile_schema({"$ref": "../tag.json"}, base=project / "parts/person.json", root=project)
    assert schema.accepts("x")


def test_ids_and_anchors_are_resolved() -> None:
    document = {
        "$id": "https://example.org/root.json",
        "properties": {
            "a": {"$ref": "https://example.org/root.json#/$defs/x"},
            "b": {"$ref": "inner.json#/$defs/y"},
            "c": {"$ref": "#z"},
        },
        "$defs": {
            "x": {"type": "string"},
            "i": {"$id": "inner.json", "$defs": {"y": {"type": "integer"}}},
            "z": {"$anchor": "z", "type": "null"},
        },
    }
    schema = compile_schema(document)
    assert schema.accepts({"a": "", "b": 1, "c": None})
    assert [v.path for v in schema.violations({"a": 1, "b": "", "c": 1})] == ["$.a", "$.b", "$.c"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("http://example.org/x.json", "is not fetched"),
        ("https://json-schema.org/draft/2020-12/schema", "is not fetched"),
        ("file:///etc/passwd", "is not fetched"),
        ("//example.org/x", "is not fetched"),
        ("../outside.json", "outside the project"),
        ("/etc/hostname", "outside the project"),
        ("missing.json", "cannot be read"),
        ("#/$defs/persn", "did you mean 'person'?"),
        ("#nowhere", "no $anchor"),
        ("parts/person.json#/$defs/nam", "did you mean 'name'?"),
        ("x.yaml", "has to be JSON"),
    ],
)
def test_what_is_refused(project: Path, reference: str, said: str) -> None:
    text = refused({"properties": {"a": {"$ref": reference}}, "$defs": {"person": {}}}, project)
    assert said in text
    assert "#/properties/a/$ref" in text


def test_a_symlink_out_of_the_project_is_refused(project: Path) -> None:
    (project / "link.json").symlink_to(project.parent / "outside.json")
    assert "outside the project" in refused({"$ref": "link.json"}, project)


def test_files_are_refused_where_no_folder_is_known() -> None:
    with pytest.raises(SchemaUnusable, match="no folder is known"):
        compile_schema({"$ref": "x.json"})


def test_a_problem_in_a_referred_file_names_that_file(project: Path) -> None:
    write(project / "bad.json", {"type": "object", "properties": {"a": {"type": "strin"}}})
    problem = lint({"$ref": "bad.json"}, base=project, root=project)[0]
    assert (problem.file, problem.pointer, problem.hint) == (
        project / "bad.json",
        "/properties/a/type",
        "did you mean 'string'?",
    )


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    ],
)
def test_checking_that_would_never_end_is_refused(document: Any) -> None:
    with pytest.raises(SchemaUnusable, match="would never end"):
        compile_schema(document)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {
            "type": "object",
            "properties": {"a": {"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]}},
            "required": ["a"],
        },
    ],
)
def test_what_no_finite_value_fits_is_refused(document: Any) -> None:
    with pytest.raises(SchemaUnusable, match="no finite value fits"):
        compile_schema(document)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#"}}}, "required": ["a"]},
    ],
)
def test_recursion_that_ends_is_taken(document: Any) -> None:
    assert lint(document) == []


@pytest.mark.parametrize("length", [300, 900, 5_000])
def test_a_chain_of_references_that_is_too_long_is_refused_at_once(length: int) -> None:
    links: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
    links[f"d{length}"] = {"type": "string"}
    with pytest.raises(SchemaUnusable, match="nested too deep"):
        compile_schema({"$ref": "#/$defs/d0", "$defs": links})


# what jsonschema does with references that depend on the way: the cases of the test suite of JSON Schema, in short
DYNAMIC: list[tuple[dict[str, Any], Any, bool]] = [
    ({"items": {"$dynamicRef": "#x"}, "$defs": {"d": {"$anchor": "x", "type": "string"}}}, ["a"], True),
    ({"items": {"$dynamicRef": "#x"}, "$defs": {"d": {"$anchor": "x", "type": "string"}}}, [1], False),
    ({"items": {"$dynamicRef": "#/$defs/d"}, "$defs": {"d": {"$dynamicAnchor": "x", "type": "string"}}}, [1], False),
    ({"$dynamicAnchor": "n", "type": "object", "additionalProperties": {"$dynamicRef": "#n"}}, {"a": {"b": {}}}, True),
    ({"$dynamicAnchor": "n", "type": "object", "additionalProperties": {"$dynamicRef": "#n"}}, {"a": {"b": 1}}, False),
]
TREE = {
    "$id": "http://example.org/strict",
    "$dynamicAnchor": "node",
    "$ref": "tree",
    "unevaluatedProperties": False,
    "$defs": {
        "tree": {
            "$id": "tree",
            "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"data": True, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}},
        }
    },
}
DYNAMIC += [
    (TREE, {"children": [{"data": 1}]}, True),
    (TREE, {"children": [{"daat": 1}]}, False),
]


@pytest.mark.parametrize(("document", "value", "valid"), DYNAMIC)
def test_dynamic_references_mean_what_they_mean_to_jsonschema(document: Any, value: Any, valid: bool) -> None:
    assert jsonschema.Draft202012Validator(document, registry=referencing.Registry()).is_valid(value) is valid
    schema = compile_schema(document)
    assert schema.accepts(value) is valid
    assert (schema.violations(value) == []) is valid


def test_a_dynamic_reference_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(SchemaUnusable, match="no \\$anchor 'y'"):
        compile_schema({"$defs": {"x": {"$dynamicAnchor": "z"}}, "items": {"$dynamicRef": "#y"}})
    with pytest.raises(SchemaUnusable, match="never end"):
        compile_schema({"$dynamicAnchor": "x", "$dynamicRef": "#x"})


def test_an_id_beside_a_reference_counts_for_nothing_in_draft_07() -> None:
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "http://example.org/one/",
        "definitions": {
            "foo": {"$id": "http://example.org/two/foo", "type": "string"},
            "base_foo": {"$id": "foo", "type": "number"},
        },
        "allOf": [{"$id": "http://example.org/two/", "$ref": "foo"}],
    }
    schema = compile_schema(document)
    assert (schema.accepts(1), schema.accepts("a")) == (True, False)
