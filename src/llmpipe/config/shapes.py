"""What is known, before a run, about the data that a template will see: names that are there, names that cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from llmpipe.frozen import frozen

Sort = Literal["any", "object", "list", "scalar"]


@frozen
class Shape:
    """`any`: nothing is known. `object`: has `fields`; `sure` if it can have no others. `list`: of `element`s."""

    sort: Sort = "any"
    fields: Mapping[str, Shape] | None = None
    sure: bool = False
    element: Shape | None = None
    type: Literal["", "number", "boolean", "text", "cell"] = ""  # of a scalar, where it is known; cell: text of a table
    what: str = ""  # how messages call it, "columns" for the rows of a dataset
    seen: str = ""  # what was looked at to know the fields, "the first 50 rows"; "" if that may tell too little

    def names(self) -> tuple[str, ...]:
        """The names that are known."""
        return tuple(self.fields or ())


ANY = Shape()
SCALAR = Shape("scalar")
TEXT = Shape("scalar", type="text")
NUMBER = Shape("scalar", type="number")
BOOLEAN = Shape("scalar", type="boolean")
CELL = Shape("scalar", type="cell")
_DEPTH = 12


def record(names: Iterable[str], *, sure: bool, what: str = "", seen: str = "") -> Shape:
    """An object with fields of unknown content."""
    return Shape("object", dict.fromkeys(names, ANY), sure=sure, what=what, seen=seen)


def of_value(value: Any) -> Shape:
    """The shape of a value that is there already."""
    if isinstance(value, Mapping):
        return Shape("object", {k: of_value(v) for k, v in value.items()}, sure=bool(value))
    if isinstance(value, list):
        return Shape("list", element=common([of_value(v) for v in value]))
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int | float):
        return NUMBER
    return TEXT if isinstance(value, str) else SCALAR


def common(shapes: list[Shape]) -> Shape:
    """What holds for an element of a list with elements of these shapes."""
    if shapes and all(s.sort == "object" for s in shapes):
        return record(dict.fromkeys(n for s in shapes for n in s.names()), sure=True)
    if not shapes or any(s.sort != "scalar" for s in shapes):
        return ANY
    return shapes[0] if all(s == shapes[0] for s in shapes) else SCALAR


def of_schema(schema: Any, root: Any = None, *, depth: int = 0) -> Shape:
    """The shape of the values that a JSON Schema allows; references inside of the document are followed."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return ANY
    if isinstance(schema.get("$ref"), str):
        return of_schema(_target(root, schema["$ref"]), root, depth=depth + 1)
    for word in ("anyOf", "oneOf"):
        branches = schema.get(word)
        if isinstance(branches, list):
            real = [b for b in branches if not (isinstance(b, Mapping) and b.get("type") == "null")]
            return of_schema(real[0], root, depth=depth + 1) if len(real) == 1 else ANY
    if "allOf" in schema or "if" in schema:
        return ANY
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Any, depth: int) -> Shape:
    declared = schema.get("type")
    types = [t for t in declared if t != "null"] if isinstance(declared, list) else [declared]
    if len(types) != 1:
        return ANY
    if types[0] == "array":
        return Shape("list", element=of_schema(schema.get("items"), root, depth=depth + 1))
    if types[0] == "object":
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        fields = {str(k): of_schema(v, root, depth=depth + 1) for k, v in known.items()}
        sure = schema.get("additionalProperties") is False and not schema.get("patternProperties")
        return Shape("object", fields, sure=sure)
    return {"string": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": BOOLEAN}.get(str(types[0]), ANY)


def _target(root: Any, reference: str) -> Any:
    if not reference.startswith("#"):
        return None
    target = root
    for part in reference.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        target = target.get(part) if isinstance(target, Mapping) else None
    return target
