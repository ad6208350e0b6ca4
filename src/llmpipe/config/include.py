"""`include` and `--set`: other files' entries below this file's own, and single values over everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from llmpipe.config.fields import Fields, items
from llmpipe.config.keys import definition
from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
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
    own = {(section, key) for section in _MERGED for key in _entries(root.value.get(section))}
    for node, path in named:
        other = _read(path, node, loading) if path is not None else None
        if other is None or path is None:
            continue
        for section in _MERGED:
            added = other.value.get(section)
            if added is not None and added.kind == "map":
                root = _with_section(root, section, added, own=own, seen=seen, path=path, loading=loading)
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


def _entries(section: Node | None) -> list[str]:
    return list(section.value) if section is not None and section.kind == "map" else []


def _with_section(
    root: Node,
    section: str,
    added: Node,
    *,
    own: Collection[tuple[str, str]],
    seen: dict[tuple[str, str], Path],
    path: Path,
    loading: Loading,
) -> Node:
    """The document with what a section of an included file adds to its own."""
    there: Node | None = root.value.get(section)
    if there is not None and there.kind != "map":
        return root
    values, keys = (dict(there.value), dict(there.keys)) if there is not None else ({}, {})
    for key, value in added.value.items():
        first = seen.get((section, key))
        if first is not None:
            note = f"'{first.name}' declares it too; say here which one is meant"
            if (section, key) not in own:
                message = f"'{key}' under '{section}' comes from two included files"
                loading.problems.add("C223", message, added.keys[key], note=note)
        elif (section, key) not in own:
            values[key], keys[key] = value, added.keys[key]
        elif section == "defaults" and value.kind == values[key].kind == "map":
            values[key] = _under(values[key], value)
        seen[section, key] = path
    return _put(root, section, replace(there if there is not None else added, value=values, keys=keys), added)


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
        value, problems = parse_value(text if text.strip() else "''", file=place.file, place=place)
        loading.problems.extend(problems)
        if value is None:
            continue
        changed = _override(root, path.split("."), value, loading)
        root = changed if changed is not None else root
    return root


def _override(node: Node, path: list[str], value: Node, loading: Loading, *, depth: int = 0) -> Node | None:
    """A copy of the node with `value` at a path below it; None, and a problem, if the path leads nowhere."""
    key, rest = path[0], path[1:]
    if node.kind == "list":
        return _override_step(node, path, value, loading)
    if node.kind != "map" or not key:
        loading.problems.add("C224", f"there is no '{'.'.join(path)}' to set here", value)
        return None
    old = node.value.get(key)
    if not rest:
        return _put(node, key, value, value)
    if old is None and depth == 1:
        hint, note = did_you_mean(key, node.value), f"there are: {listed(node.value)}"
        loading.problems.add("C224", f"there is no '{key}' to set something in", value, hint=hint, note=note)
        return None
    inner = old if old is not None else Node("map", {}, value.source, 0, 1)
    child = _override(inner, rest, value, loading, depth=depth + 1)
    return _put(node, key, child, value) if child is not None else None


def _override_step(node: Node, path: list[str], value: Node, loading: Loading) -> Node | None:
    """A copy of the list of steps with `value` at a path that begins with a step's id."""
    key, rest = path[0], path[1:]
    ids = [str(n.value["id"].value) if n.kind == "map" and "id" in n.value else "" for n in node.value]
    if key in ids and not rest:
        loading.problems.add("C224", f"name the key of step '{key}' that is to be set", value)
        return None
    if key not in ids:
        hint, note = did_you_mean(key, ids), f"steps: {listed(ids)}"
        loading.problems.add("C224", f"there is no step '{key}' to set something in", value, hint=hint, note=note)
        return None
    at = ids.index(key)
    child = _override(node.value[at], rest, value, loading, depth=2)
    return replace(node, value=[*node.value[:at], child, *node.value[at + 1 :]]) if child is not None else None
