"""Compiles a schema to closures that accept a valid value in microseconds, where jsonschema takes hundreds.

Each schema becomes a table: class of the value -> the checks that such a value has to pass; a class that is not in
the table is of a wrong type. What this module has no words for (a `$dynamicRef` that depends on the way) makes the
whole schema Unsupported, and jsonschema decides; a value that is not accepted here always goes to jsonschema, for its
words.
That the two agree is kept by a property test over generated schemas and values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.structured.fast_checks import GENERAL, IGNORED, LISTS, NUMBERS, OBJECTS, TEXTS
from llmpipe.structured.keywords import ANNOTATIONS, SHAPES, Dialect
from llmpipe.structured.recursion import target_of

Check = Callable[[Any], bool]

_CLASSES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int, float),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_EVERY = (type(None), bool, int, float, str, list, dict)
_KINDS: tuple[tuple[Mapping[str, Any], tuple[type, ...]], ...] = (
    (GENERAL, _EVERY),
    (NUMBERS, (int, float)),
    (TEXTS, (str,)),
    (LISTS, (list,)),
    (OBJECTS, (dict,)),
)


class Unsupported(Exception):
    """The schema holds a keyword that is left to jsonschema."""


def compile_fast(document: Mapping[str, Any], dialect: Dialect) -> Check | None:
    """A function that tells exactly whether a measured value is valid; None if the schema is left to jsonschema.

    The function may raise SearchTooLong or RecursionError.
    """
    compiler = FastCompiler(document, dialect)
    try:
        return compiler.whole()
    except Unsupported:
        return None


class FastCompiler:
    """Builds the closures of one document, each schema once."""

    def __init__(self, document: Mapping[str, Any], dialect: Dialect) -> None:
        self.document = document
        self.dialect = dialect
        self.built: dict[int, Check] = {}
        self.building: set[int] = set()
        self.seen = threading.local()  # .verdicts: what a reference said of a value, while one value is checked

    def whole(self) -> Check:
        """The check of the whole document."""
        check = self.build(self.document)
        seen = self.seen

        def checked(value: Any) -> bool:
            seen.verdicts = {}
            try:
                return check(value)
            finally:
                seen.verdicts = {}

        return checked

    def build(self, schema: Any) -> Check:
        """The check of one schema. Raises Unsupported."""
        if isinstance(schema, bool):
            return _always if schema else _never
        known = self.built.get(id(schema))
        if known is None:
            self.building.add(id(schema))
            known = self.built[id(schema)] = self._table_check(schema)
            self.building.discard(id(schema))
        return known

    def takes(self, schema: Any, value: Any) -> bool:
        """Whether a schema of the document takes a value."""
        return self.build(schema)(value)

    def referred(self, reference: str) -> tuple[FastCompiler, Any]:
        """The schema that a reference names, and this compiler, which knows it."""
        return self, target_of(self.document, reference)

    def reference(self, reference: str) -> Check:
        """The check of a referred schema, which remembers its verdict on each value while one whole is checked.

        Without the memory, references that double at every level would take exponential time.
        """
        target = target_of(self.document, reference)
        seen, key = self.seen, id(target)
        if key not in self.building:
            self.build(target)
        built = self.built

        def referred(value: Any) -> bool:
            at = (key, id(value))
            verdicts: dict[tuple[int, int], bool] = seen.verdicts
            verdict = verdicts.get(at)
            if verdict is None:
                verdict = verdicts[at] = built[key](value)
            return verdict

        return _always if isinstance(target, bool) and target else _never if target is False else referred

    def _table_check(self, schema: Mapping[str, Any]) -> Check:
        if self.dialect == "draft-07" and "$ref" in schema:
            return self.reference(schema["$ref"])
        table = self._types(schema.get("type"))
        for keyword in schema:
            self._refuse_unknown(keyword)
        for makers, classes in _KINDS:
            for keyword, maker in makers.items():
                if keyword in schema and (check := maker(self, schema[keyword], schema)) is not None:
                    for kind in classes:
                        if kind in table:
                            table[kind].append(check)
        return _tabled({kind: tuple(checks) for kind, checks in table.items()})

    def _types(self, types: Any) -> dict[type, list[Check]]:
        names = [types] if isinstance(types, str) else types
        if names is None:
            return {kind: [] for kind in _EVERY}
        table: dict[type, list[Check]] = {kind: [] for name in names for kind in _CLASSES[name]}
        if "integer" in names and "number" not in names:
            table[float].append(float.is_integer)
        return table

    def _refuse_unknown(self, keyword: str) -> None:
        decides = keyword in SHAPES[self.dialect] and keyword not in ANNOTATIONS and keyword != "type"
        if decides and keyword not in IGNORED and not any(keyword in makers for makers, _ in _KINDS):
            raise Unsupported(keyword)


def _tabled(table: dict[type, tuple[Check, ...]]) -> Check:
    if not any(table.values()):
        kinds = frozenset(table)
        return lambda value: value.__class__ in kinds

    def node(value: Any) -> bool:
        checks = table.get(value.__class__)
        if checks is None:
            return False
        for check in checks:  # noqa: SIM110 - any() over a generator takes three times as long
            if not check(value):
                return False
        return True

    return node


def _always(value: Any) -> bool:
    return True


def _never(value: Any) -> bool:
    return False
