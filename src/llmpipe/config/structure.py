"""Whether a document has the shape that the schema file asks for, told for people and with places.

Interprets the part of JSON Schema that pipeline.schema.json uses, on nodes; jsonschema itself would cost more time than
everything else that `validate` does, and knows no places. That both accept and refuse the same is tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.config.keys import Definition, definition, deref, homes
from llmpipe.config.near import did_you_mean, listed, nearest
from llmpipe.config.nodes import KIND_NAMES, Node
from llmpipe.config.problems import Problems
from llmpipe.config.shape_advice import Path, advice, other_form, source_meant
from llmpipe.late import late

_KINDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"map"}),
    "array": frozenset({"list"}),
    "string": frozenset({"str"}),
    "integer": frozenset({"int"}),
    "number": frozenset({"int", "float"}),
    "boolean": frozenset({"bool"}),
    "null": frozenset({"null"}),
}
_WORDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number"}
_NEGATIVE = late(r"-\s*[0-9.]+\s*[A-Za-z%]*\Z")
_CREDENTIAL_KEYS = frozenset({"api_key", "apikey", "key_value", "token", "secret", "password", "authorization"})


def check_shape(root: Node, problems: Problems, *, name: str = "pipeline") -> None:
    """Note everything in the document that the definition `name` does not allow, and spoil the values concerned."""
    checker = _Checker(problems, root)
    checker.check(root, definition(name), ())
    for node in checker.spoilt:
        node.spoil()


class _Checker:
    def __init__(self, problems: Problems, root: Node) -> None:
        self.problems, self.root = problems, root
        self.spoilt: list[Node] = []

    def check(self, node: Node, body: Definition, path: Path) -> None:
        if node.is_spoilt:
            return
        words = body
        body = {**deref(body), **body} if "$ref" in body else body
        if "anyOf" in body:
            self._alternatives(node, body, path)
            return
        wants = words.get("x-wants") or body.get("x-wants")
        if not self._scalar(node, body, path, wants):
            return
        if node.kind == "map":
            self._mapping(node, body, path)
        elif node.kind == "list":
            self._list(node, body, path)

    def _scalar(self, node: Node, body: Definition, path: Path, wants: str | None) -> bool:
        types = body.get("type", ())
        types = (types,) if isinstance(types, str) else types
        if types and not any(_is_type(node, t) for t in types):
            said = wants or listed(_WORDS.get(t, KIND_NAMES["bool"]) for t in types)
            self._wrong(node, path, said, code="C202")
            return False
        if "enum" in body and not any(_equal(node, value) for value in body["enum"]):
            self._wrong(node, path, "one of " + ", ".join(map(str, body["enum"])), options=body["enum"])
            return False
        if "const" in body and not _equal(node, body["const"]):
            self._wrong(node, path, wants or str(body["const"]))
            return False
        return self._bounds(node, body, path, wants)

    def _bounds(self, node: Node, body: Definition, path: Path, wants: str | None) -> bool:
        if node.kind in ("int", "float"):
            low, high = body.get("minimum"), body.get("maximum")
            above = body.get("exclusiveMinimum")
            low_enough = high is None or node.value <= high
            if not low_enough or (low is not None and node.value < low) or (above is not None and node.value <= above):
                self._wrong(node, path, wants or _range(low, high))
                return False
        if node.kind == "str":
            if len(node.value) < body.get("minLength", 0):
                self._wrong(node, path, "text that is not empty")
                return False
            if "pattern" in body and not re.search(body["pattern"], node.value):
                self._wrong(node, path, wants or "another form")
                return False
        return True

    def _alternatives(self, node: Node, body: Definition, path: Path) -> None:
        branches = [deref(b) for b in body["anyOf"]]
        if any(self._accepts(node, branch) for branch in branches):
            return
        shaped = [b for b in branches if node.kind in ("map", "list") and _is_type(node, str(b.get("type")))]
        if node.kind == "map" and len(shaped) > 1:
            shaped = [b for b in shaped if set(b.get("required", ())) & set(node.value)][:1]
        if len(shaped) == 1 and (node.kind == "map" or node.value):
            self.check(node, shaped[0], path)
            return
        self._wrong(node, path, body.get("x-wants", "another form"))

    def _accepts(self, node: Node, body: Definition) -> bool:
        trial = Problems()
        _Checker(trial, self.root).check(node, body, ())
        return not trial.errors

    def _list(self, node: Node, body: Definition, path: Path) -> None:
        if len(node.value) < body.get("minItems", 0):
            self.problems.add("C204", f"{self._what(path)} must not be empty", node)
        if "items" in body:
            for i, child in enumerate(node.value):
                self.check(child, body["items"], (*path, i))

    def _mapping(self, node: Node, body: Definition, path: Path) -> None:
        if len(node.value) < body.get("minProperties", 0):
            self.problems.add("C204", f"{self._what(path)} must not be empty", node)
        known, further = body.get("properties", {}), body.get("additionalProperties", True)
        for key, child in node.value.items():
            self._check_name(node, key, body, path)
            if key in known:
                self.check(child, known[key], (*path, key))
            elif further is False:
                self._unknown(node, key, body, path)
            elif isinstance(further, Mapping):
                self.check(child, further, (*path, key))
        for key in body.get("required", ()):
            if key not in node.value and not self._meant(node, key, body):
                self.problems.add("C201", f"{self._owner(path)} lacks '{key}'", _head(node), note=_note(known[key]))
        if "oneOf" in body:
            self._exactly_one(node, body, path)

    def _exactly_one(self, node: Node, body: Definition, path: Path) -> None:
        choices = [branch["required"][0] for branch in body["oneOf"]]
        there = [key for key in choices if key in node.value]
        if len(there) == 1:
            return
        if not there and any(self._meant(node, key, body) for key in choices):
            return
        owner = self._owner(path)
        wants = f"{', '.join(choices[:-1])} or {choices[-1]}"
        if there:
            both = " and ".join(f"'{key}'" for key in there)
            self.problems.add("C205", f"{owner} has {both}; it takes exactly one", node.key_place(there[1]))
        else:
            self.problems.add("C205", f"{owner} needs exactly one of {wants}", _head(node))

    @staticmethod
    def _meant(node: Node, key: str, body: Definition) -> bool:
        """Whether a misspelt key of the mapping, which is told already, stands for `key`."""
        return any(_nearest_here(other, node, body) == key for other in node.value if other not in body["properties"])

    def _check_name(self, node: Node, key: str, body: Definition, path: Path) -> None:
        rule = body.get("propertyNames")
        if rule is not None and not re.search(rule["pattern"], key):
            better = re.sub(r"[^A-Za-z0-9_]+", "_", key).strip("_")
            hint = f"write '{better}'" if better and re.search(rule["pattern"], better) else ""
            message = f"'{key}' is not a name for an entry of '{path[-1] if path else ''}'"
            self.problems.add("C204", message, node.key_place(key), hint=hint, note=f"wants {rule['x-wants']}")

    def _unknown(self, node: Node, key: str, body: Definition, path: Path) -> None:
        place, owner = node.key_place(key), self._owner(path)
        if key.lower().replace("-", "_") in _CREDENTIAL_KEYS:
            note = "put the key into an environment variable or .env, and its name under `api_key_env`"
            self.problems.add("P455", f"'{key}' in {owner}: secrets have no place in a pipeline file", place, note=note)
            return
        if key == "<<":
            return
        known = body.get("properties", {})
        here, elsewhere = _nearest_here(key, node, body), nearest(key, homes())
        hint = ""
        if elsewhere is not None and (here is None or (elsewhere == key and here != key)):
            titles = [t for t in homes()[elsewhere] if t != body.get("title")]
            under = f"under '{titles[0]}'" if titles and titles[0] in known else f"in {_article(titles)}"
            hint = f"'{key}' may stand {under}" if elsewhere == key else f"did you mean '{elsewhere}' {under}?"
        elif here is not None:
            hint = f"did you mean '{here}'?"
        note = f"allowed here: {listed(sorted(known), limit=40)}"
        self.problems.add("C203", f"unknown key '{key}' in {owner}", place, hint=hint, note=note)

    def _wrong(
        self, node: Node, path: Path, wants: str, *, code: str = "C204", options: list[Any] | None = None
    ) -> None:
        what, hint = self._what(path), ""
        if path[-1:] != ("id",) or node.kind != "str":  # a step with an odd name is still a step that others may name
            self.spoilt.append(node)
        if _is_negative(node) and code == "C204":
            self.problems.add("C204", f"{what} must not be negative", node, note=f"wants {wants}")
            return
        if options and node.kind == "str":
            hint = did_you_mean(node.value, map(str, options))
        elif path[-1:] == ("foreach",) and node.kind == "str":
            hint = source_meant(node.value, self.root)
        hint = hint or advice(node, wants) or other_form(node, path)
        self.problems.add(code, f"{what} wants {wants}, not {shown(node)}", node, hint=hint)

    def _what(self, path: Path) -> str:
        if not path:
            return "the file"
        names = [str(p) for p in path if isinstance(p, str)]
        if isinstance(path[-1], int):
            owner = f" of '{names[-1]}'" if names else ""
            return f"entry {path[-1] + 1}{owner}" + self._inside(path[:-1])
        return f"'{path[-1]}'" + self._inside(path)

    def _inside(self, path: Path) -> str:
        owner = self._owner(path[:-1])
        return f" in {owner}" if len(path) > 1 else ""

    def _owner(self, path: Path) -> str:
        """The mapping at `path`, in words: "step 'rate'", "'limits' of model 'fast'"."""
        if not path:
            return "the pipeline"
        head, *rest = path
        if head == "steps" and rest and isinstance(rest[0], int):
            return _nested(f"step {_step_name(self.root, rest[0])}", rest[1:])
        if head in ("models", "datasets", "vars") and rest:
            return _nested(f"{str(head)[:-1]} '{rest[0]}'", rest[1:])
        if head == "outputs" and rest and isinstance(rest[0], int):
            return _nested(f"output {rest[0] + 1}", rest[1:])
        return _nested(f"'{head}'", rest)


def _nearest_here(key: str, node: Node, body: Definition) -> str | None:
    """What a misspelt key of a mapping most likely stands for: first of all one that has to be there and is not."""
    missing = [name for name in body.get("required", ()) if name not in node.value]
    return nearest(key, missing) or nearest(key, body.get("properties", {}))


def shown(node: Node) -> str:
    """A node's value in few words, for messages."""
    if node.kind in ("map", "list", "null"):
        return KIND_NAMES[node.kind]
    text = node.raw if node.kind != "str" else f"'{node.value}'"
    text = " ".join(text.split())
    return text if len(text) <= 50 else f"{text[:47]}..."


def _is_negative(node: Node) -> bool:
    if node.kind == "str":
        return bool(_NEGATIVE.match(node.value))
    return node.kind in ("int", "float") and bool(node.value < 0)


def _nested(owner: str, rest: list[str | int]) -> str:
    for part in rest:
        owner = f"entry {part + 1} of {owner}" if isinstance(part, int) else f"'{part}' of {owner}"
    return owner


def _step_name(root: Node, index: int) -> str:
    steps = root.value.get("steps") if root.kind == "map" else None
    step = steps.value[index] if steps is not None and steps.kind == "list" and index < len(steps.value) else None
    id = step.value.get("id") if step is not None and step.kind == "map" else None
    return f"'{id.value}'" if id is not None and id.kind == "str" else str(index + 1)


def _head(node: Node) -> Any:
    """The first key of a mapping stands for the whole of it: a mapping has no better place of its own."""
    first = next(iter(node.keys.values()), None)
    return first if first is not None else node


def _note(body: Definition) -> str:
    merged = {**deref(body), **body}
    example = merged.get("examples", [None])[0]
    said = merged.get("description", "").rstrip(".")
    return f"{said}; for example {example}" if isinstance(example, str | int) and said else said


def _article(titles: list[str]) -> str:
    return " or ".join(f"a {t}" if not t.endswith("s") else f"'{t}'" for t in titles[:3]) or "another mapping"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"a number from {low} to {high}"
    return f"a number from {low}" if low is not None else f"a number up to {high}"


def _is_type(node: Node, name: str) -> bool:
    if name == "integer" and node.kind == "float":
        return bool(node.value.is_integer())
    return node.kind in _KINDS.get(name, frozenset())


def _equal(node: Node, value: Any) -> bool:
    if node.kind in ("map", "list"):
        return False
    same_sort: Callable[[Any], bool] = lambda v: isinstance(v, bool)  # noqa: E731
    return bool(node.value == value) and same_sort(node.value) == same_sort(value)
