"""The output schema of a step: a file, a JSON Schema or the short form, compiled; its mistakes at their places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmpipe.config.loading import Loading
from llmpipe.config.nodes import Node, SourceText
from llmpipe.config.paths import display
from llmpipe.config.source import parse
from llmpipe.errors import ConfigError, Place, SchemaUnusable
from llmpipe.json_numbers import read_float
from llmpipe.structured.schema import OutputSchema


def read_schema(node: Node, loading: Loading) -> OutputSchema | None:
    """The schema that a step's `schema` means; None, and problems, if it is not usable."""
    if node.kind == "map":
        return _compile(node.plain(), node, None, loading)
    path = loading.named_file(node)
    source = loading.refused(node, lambda: loading.read(path)) if path is not None else None
    if path is None or source is None:
        return None
    document = _json(source, loading) if path.suffix == ".json" else _yaml(source, loading)
    if document is not None and not isinstance(document, dict):
        loading.problems.add("C227", f"'{node.value}' holds no schema but {type(document).__name__}", source.place(0))
    return _compile(document, node, path, loading) if isinstance(document, dict) else None


def _json(source: SourceText, loading: Loading) -> Any:
    try:
        return json.loads(source.text, object_pairs_hook=_once, parse_float=read_float)
    except json.JSONDecodeError as error:
        loading.problems.add("C227", f"not JSON: {error.msg}", source.place(error.pos))
    except (ValueError, RecursionError) as error:
        loading.problems.add("C227", f"not usable as JSON: {error}", source.place(0))
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' stands twice")
        found[key] = value
    return found


def _yaml(source: SourceText, loading: Loading) -> Any:
    root, problems = parse(source)
    loading.problems.extend(problems)
    return root.plain() if root is not None and not problems else None


def _compile(plain: dict[str, Any], at: Node, path: Path | None, loading: Loading) -> OutputSchema | None:
    from llmpipe.structured.schema import compile_schema
    from llmpipe.structured.short_form import expand, is_short_form

    types = False  # whether what is read are the types of the short form
    try:
        if is_short_form(plain):
            types = True
            plain, types = expand(plain), False
        base = path if path is not None else loading.folder(at)
        schema = compile_schema(plain, base=base, root=loading.root)
        loading.inputs.update(schema.files)
        for problem in schema.warnings:
            place = _place(problem, at, path, loading, in_value=False)
            loading.problems.warn("C227", problem.message, place, hint=problem.hint)
        return schema
    except SchemaUnusable as error:
        for problem in error.problems:
            place = _place(problem, at, path, loading, in_value=types)
            loading.problems.add("C227", problem.message, place, hint=problem.hint, where=problem.pointer)
    except (ValueError, RecursionError) as error:
        loading.problems.add("C227", f"the schema cannot be used: {error}", at)
    return None


def _place(problem: Any, at: Node, path: Path | None, loading: Loading, *, in_value: bool) -> Place:
    """The place of a JSON pointer in the pipeline file, or in the file of the schema: of its last key or its value."""
    node: Node = at
    if problem.file is not None and problem.file != path:
        path = problem.file
    if path is not None:
        try:
            root, found = parse(loading.read(path))
        except ConfigError:
            root, found = None, []
        if root is None or found:
            return Place(display(path))
        node = root
    return place_in(node, problem.pointer, in_value=in_value)


def place_in(node: Node, pointer: str, *, in_value: bool = False) -> Place:
    """Where a JSON pointer leads from a node: to the last key on it, or with `in_value` to a scalar behind the key."""
    place = node.place
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if node.kind == "map" and part in node.value:
            place, node = node.key_place(part), node.value[part]
        elif node.kind == "list" and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            place = node.place
        else:
            break
    return node.place if in_value and node.kind not in ("map", "list") else place
