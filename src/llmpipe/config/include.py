"""`include` and `--set`: other files' entries below this file's own, and single values over everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llmpipe.config.fields import Fields, items
from llmpipe.config.keys import definition
from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
from llmpipe.config.paths import display
from llmpipe.config.source import parse, parse_value
from llmpipe.config.structure import check_shape
from llmpipe.errors import ConfigError, Place

_MERGED = ("vars", "models", "defaults", "datasets")
_DEEPEST = 20  # files that include one another


def merge_includes(root: Node, loading: Loading) -> Node:
    """The document with the entries of the files under `include` added where it has none of that name itself.

    Included files may include others, below their own entries in the same way.
    """
    return _Includes(loading).merged(root, "pipeline", ())


class _Includes:
    """The included files of one load, each read and merged once."""

    def __init__(self, loading: Loading) -> None:
        self.loading = loading
        self.done: dict[Path, Node | None] = {}

    def merged(self, document: Node, name: str, above: tuple[Path, ...]) -> Node:
        """A document with what it includes; `above` are the files that lead to it, `name` is its definition."""
        include = Fields(document, name, self.loading.problems).get("include")
        chain = (*above, document.source.path) if document.source.path is not None else above
        merge = _Merge(document, self.loading)
        for node in items(include):
            path = self._path(node, chain, merge) if node.kind == "str" else None
            other = self._read(path, node, chain) if path is not None else None
            if other is None:
                self.loading.miss_names()
            else:
                merge.add(other)
        return merge.document

    def _path(self, node: Node, chain: tuple[Path, ...], merge: _Merge) -> Path | None:
        if "{{" in node.value:
            note = "vars may stand in the included files themselves, and are known only when these are read"
            self.loading.problems.add("C223", "the name of an included file takes no vars", node, note=note)
            return None
        path = self.loading.named_file(node)
        if path is None:
            return None
        if path in chain:
            names = [display(p) for p in (*chain[chain.index(path) :], path)]
            said = f"'{node.value}' includes itself" if len(names) > 2 else f"'{node.value}' is this file"
            note = " -> ".join(names) if len(names) > 2 else ""
            self.loading.problems.add("C223", said, node, note=note)
            return None
        if path in merge.named:
            self.loading.problems.add("C223", f"'{node.value}' is included twice", node, hint="remove one")
            return None
        merge.named.append(path)
        return path

    def _read(self, path: Path, node: Node, chain: tuple[Path, ...]) -> Node | None:
        if path not in self.done:
            if len(chain) > _DEEPEST:
                message = f"files include one another more than {_DEEPEST} levels deep"
                self.loading.problems.add("C223", message, node)
                return None
            other = self._parsed(path, node)
            self.done[path] = self.merged(other, "included", chain) if other is not None else None
        return self.done[path]

    def _parsed(self, path: Path, node: Node) -> Node | None:
        loading = self.loading
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


class _Merge:
    """A document on its way to one with all that it includes; an entry of its own wins over an included one."""

    def __init__(self, document: Node, loading: Loading) -> None:
        self.document, self.loading = document, loading
        self.named: list[Path] = []
        self.own = {(section, key) for section in _MERGED for key in _entries(document.value.get(section))}
        self.seen: dict[tuple[str, str], Node] = {}  # where an entry was first declared

    def add(self, other: Node) -> None:
        """Take over what an included document has and this one has not."""
        for section in _MERGED:
            added = other.value.get(section)
            if added is not None and added.kind == "map":
                self._add_section(section, added)

    def _add_section(self, section: str, added: Node) -> None:
        there: Node | None = self.document.value.get(section)
        if there is not None and there.kind != "map":
            return
        values, keys = (dict(there.value), dict(there.keys)) if there is not None else ({}, {})
        for key, value in added.value.items():
            declared = added.keys[key]
            first = self.seen.setdefault((section, key), declared)
            if (section, key) not in self.own:
                if first.source is not declared.source:
                    self._clash(section, key, declared, first)
                values.setdefault(key, value)
                keys.setdefault(key, declared)
            elif section == "defaults" and value.kind == values[key].kind == "map":
                values[key] = _under(values[key], value)
        merged = replace(there if there is not None else added, value=values, keys=keys)
        self.document = _put(self.document, section, merged, added)

    def _clash(self, section: str, key: str, declared: Node, first: Node) -> None:
        message = f"'{key}' under '{section}' comes from two included files"
        note = f"'{first.source.file}' declares it too; say here which one is meant"
        self.loading.problems.add("C223", message, declared, note=note)


def _entries(section: Node | None) -> list[str]:
    return list(section.value) if section is not None and section.kind == "map" else []


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
        return _override_entry(node, path, value, loading)
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


def _override_entry(node: Node, path: list[str], value: Node, loading: Loading) -> Node | None:
    """A copy of a list with `value` at a path that begins with a step's id, or with the number of another entry."""
    key, rest = path[0], path[1:]
    names = [str(n.value["id"].value) if n.kind == "map" and "id" in n.value else "" for n in node.value]
    what = "step"
    if not any(names):
        names, what = [str(number) for number in range(len(names))], "entry"
    if key not in names:
        hint, note = did_you_mean(key, names), f"{what}s: {listed(names)}" if what == "step" else ""
        note = note or f"there are {len(names)} entries, the first is 0"
        loading.problems.add("C224", f"there is no {what} '{key}' to set something in", value, hint=hint, note=note)
        return None
    at = names.index(key)
    if what == "step" and not rest:
        loading.problems.add("C224", f"name the key of step '{key}' that is to be set", value)
        return None
    child = _override(node.value[at], rest, value, loading, depth=2) if rest else value
    return replace(node, value=[*node.value[:at], child, *node.value[at + 1 :]]) if child is not None else None
