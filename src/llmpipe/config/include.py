"""`include` and `--set`: other files' entries below this file's own, and single values over everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llmpipe.config.fields import Fields, items
from llmpipe.config.keys import definition
from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node, SourceText
from llmpipe.config.source import parse, parse_value
from llmpipe.config.structure import check_shape
from llmpipe.errors import ConfigError, Place

_MERGED = ("vars", "models", "defaults", "datasets")


def merge_includes(root: Node, loading: Loading) -> Node:
    """The document with the entries of the files under `include` added where it has none of that name itself."""
    fields = Fields(root, "pipeline", loading.problems)
    include = fields.get("include")
    named = [(node, loading.named_file(node)) for node in items(include) if node.kind == "str"]
    seen: dict[tuple[str, str], Path] = {}
    for node, path in named:
        other = _read(path, node, loading) if path is not None else None
        if other is None or path is None:
            continue
        for section in _MERGED:
            added = other.value.get(section)
            if added is not None and added.kind == "map":
                root = _with_section(root, section, added, seen, path, loading)
    return root


def _read(path: Path, node: Node, loading: Loading) -> Node | None:
    if path in loading.files:
        loading.problems.add("C223", f"'{node.value}' is included twice, or is this file", node)
        return None
    try:
        other, problems = parse(loading.read(path))
    except ConfigError as error:
        other, problems = None, list(error.problems)
    loading.problems.extend(problems)
    if other is None:
        return None
    if other.kind == "map" and "steps" in other.value:
        note = f"an included file may hold: {', '.join(definition('included')['properties'])}"
        loading.problems.add("C223", f"'{node.value}' is a pipeline; its steps cannot be included", node, note=note)
        return None
    before = len(loading.problems.errors)
    check_shape(other, loading.problems, name="included")
    return other if other.kind == "map" and len(loading.problems.errors) == before else None


def _with_section(
    root: Node, section: str, added: Node, seen: dict[tuple[str, str], Path], path: Path, loading: Loading
) -> Node:
    own: Node | None = root.value.get(section)
    merged = (
        replace(own, value=dict(own.value), keys=dict(own.keys))
        if own is not None
        else replace(added, value={}, keys={})
    )
    for key, value in added.value.items():
        first = seen.get((section, key))
        if own is not None and key in own.value:
            if section != "defaults" or value.kind != "map" or merged.value[key].kind != "map":
                continue
            merged.value[key] = _under(merged.value[key], value)
        elif first is not None:
            note = f"'{first.name}' declares it too; say here which one is meant"
            loading.problems.add(
                "C223", f"'{key}' under '{section}' comes from two included files", added.keys[key], note=note
            )
        else:
            merged.value[key] = value
            merged.keys[key] = added.keys[key]
        seen[section, key] = path
    return _put(root, section, merged, added)


def _under(own: Node, other: Node) -> Node:
    """A mapping with what the other has beside it."""
    return replace(own, value={**other.value, **own.value}, keys={**other.keys, **own.keys})


def _put(node: Node, key: str, value: Node, at: Node) -> Node:
    keys = dict(node.keys)
    keys.setdefault(key, Node("str", key, at.source, at.start, at.end, raw=key))
    return replace(node, value={**node.value, key: value}, keys=keys)


def apply_overrides(root: Node, overrides: Mapping[str, str], loading: Loading) -> Node:
    """The document with the values of `--set path.to.key=value` put in; steps go by their id."""
    for path, text in overrides.items():
        place = Place(f"--set {path}")
        value, problems = parse_value(text, file=place.file, place=place)
        loading.problems.extend(problems)
        if value is None:
            value = Node("str", text, SourceText(text, file=place.file, fixed=place), 0, len(text), raw=text)
        changed = _override(root, path.split("."), value, place, loading)
        root = changed if changed is not None else root
    return root


def _override(node: Node, path: list[str], value: Node, place: Place, loading: Loading, depth: int = 0) -> Node | None:
    key, rest = path[0], path[1:]
    if node.kind == "list":
        return _override_step(node, key, rest, value, place, loading)
    if node.kind != "map" or not key:
        loading.problems.add("C224", f"there is no '{'.'.join(path)}' to set here", place)
        return None
    old = node.value.get(key)
    if not rest:
        return _put(node, key, value, value)
    if old is None and depth == 1:
        hint = did_you_mean(key, node.value)
        loading.problems.add(
            "C224",
            f"there is no '{key}' to set something in",
            place,
            hint=hint,
            note=f"there are: {listed(node.value)}",
        )
        return None
    child = _override(
        old if old is not None else Node("map", {}, value.source, 0, 1), rest, value, place, loading, depth + 1
    )
    return _put(node, key, child, value) if child is not None else None


def _override_step(node: Node, key: str, rest: list[str], value: Node, place: Place, loading: Loading) -> Node | None:
    ids = [str(n.value["id"].value) if n.kind == "map" and "id" in n.value else "" for n in node.value]
    if key not in ids or not rest:
        hint = did_you_mean(key, ids)
        loading.problems.add(
            "C224", f"there is no step '{key}' to set something in", place, hint=hint, note=f"steps: {listed(ids)}"
        )
        return None
    at = ids.index(key)
    child = _override(node.value[at], rest, value, place, loading, 2)
    return replace(node, value=[*node.value[:at], child, *node.value[at + 1 :]]) if child is not None else None
