"""What to write instead of a value that has not the form which the schema asks for."""

from __future__ import annotations

import re

from llmpipe.config.near import nearest
from llmpipe.config.nodes import KIND_NAMES, Node
from llmpipe.late import late

Path = tuple[str | int, ...]

_NUMBER = late(r"-?[0-9]+(?:\.[0-9]+)?\Z")
_UNQUOTED = ("a number", "a whole number")
_TRUTH = dict.fromkeys(("true", "yes", "on", "y"), "true") | dict.fromkeys(("false", "no", "off", "n"), "false")


def advice(node: Node, wants: str) -> str:
    """How to write a value so that it becomes what is wanted."""
    if node.kind in ("int", "float") and "duration" in wants:
        return f"say the unit: {node.raw}s"
    if node.kind in ("int", "float", "bool") and wants.startswith("text"):
        return f'quote this: "{node.raw}"'
    if node.kind == "str" and (wants.startswith(_UNQUOTED) or wants.isdecimal()) and _NUMBER.match(node.value):
        return f"write {node.value}, without quotes"
    if node.kind == "str" and wants == KIND_NAMES["bool"] and node.value.lower() in _TRUTH:
        return f"write {_TRUTH[node.value.lower()]}"
    if node.kind == "float" and "percentage" in wants and 0 < node.value <= 1:
        return f"write {node.value * 100:g}%"
    return ""


def other_form(node: Node, path: Path) -> str:
    """What to write where names stand for a list, or a list for names."""
    key = path[0] if len(path) == 1 else ""
    if key == "steps" and node.kind == "map":
        return f"write each step with a dash: '- id: {next(iter(node.value), 'name')}'"
    if key == "outputs" and node.kind == "map":
        return "write each output with a dash: '- from: steps.name'"
    if key in ("datasets", "models", "vars") and node.kind == "list":
        return "write each under its name, without a dash: 'name: ...'"
    return ""


def source_meant(said: str, root: Node) -> str:
    """What a `foreach` without its first word, or with another one, most likely names."""
    known = [f"{kind}.{name}" for kind in ("datasets", "steps", "vars") for name in _named(kind, root)]
    last = re.split(r"[./]", said)[-1]
    same = [name for name in known if name.partition(".")[2] == last]
    name = same[0] if same else nearest(said, known)
    by_name = {name.partition(".")[2]: name for name in reversed(known)}
    name = name or by_name.get(nearest(last, by_name) or "")
    return f"did you mean '{name}'?" if name else ""


def _named(kind: str, root: Node) -> list[str]:
    """The names under `datasets` or `vars`, the ids of `steps`."""
    node = root.value.get(kind) if root.kind == "map" else None
    if node is None or node.kind not in ("map", "list"):
        return []
    if node.kind == "map":
        return list(node.value)
    ids = (step.value.get("id") for step in node.value if step.kind == "map")
    return [str(id.value) for id in ids if id is not None and id.kind == "str"]
