"""The keys of the pipeline language, as pipeline.schema.json tells them: the one truth about what may stand where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Definition = Mapping[str, Any]


@cache
def schema_text() -> str:
    """The schema file as it ships."""
    return Path(__file__).with_name("pipeline.schema.json").read_text(encoding="utf-8")


@cache
def schema() -> Definition:
    """The schema of a pipeline file."""
    document: Definition = json.loads(schema_text())
    return document


def deref(definition: Definition) -> Definition:
    """The definition itself, or what its `$ref` points to."""
    while "$ref" in definition:
        target: Any = schema()
        for part in definition["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        definition = target
    return definition


@cache
def definition(name: str) -> Definition:
    """A definition by its name: "pipeline" is the whole file."""
    found: Definition = schema() if name == "pipeline" else schema()["$defs"][name]
    return found


@cache
def mappings() -> Mapping[str, Definition]:
    """Every definition that has keys of its own, by name."""
    named = {"pipeline": schema(), **schema()["$defs"]}
    return {name: d for name, d in named.items() if "properties" in d and name != "included"}


@cache
def homes() -> Mapping[str, tuple[str, ...]]:
    """Each key → the titles of the mappings that it may stand in."""
    found: dict[str, list[str]] = {}
    for body in mappings().values():
        for key in body["properties"]:
            found.setdefault(key, []).append(body["title"])
    return {key: tuple(titles) for key, titles in found.items()}


def rows() -> Iterator[tuple[str, str, Definition]]:
    """Every key: the name of its mapping, the key, and its definition with the words of the place where it stands."""
    for name, body in mappings().items():
        for key, value in body["properties"].items():
            yield name, key, value
