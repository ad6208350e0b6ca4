"""Leads an answer to a reduced schema back to what the user's own schema means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.structured.fast import FastCompiler, Unsupported
from llmpipe.structured.judge import Judge
from llmpipe.structured.keywords import dialect_of
from llmpipe.structured.merging import merged
from llmpipe.structured.recursion import target_of

WRAPPED = "value"

# (schema, value) by identity -> the value, kept so that its identity stays its own, and what it was led back to.
# Without it, alternatives that refer to further alternatives would take exponential time.
Known = dict[tuple[int, int], tuple[Any, Any]]


class Restorer:
    """Knows the user's schema, and takes out of an answer what only the reduced copy asked for."""

    def __init__(self, document: Mapping[str, Any], *, wrapped: bool) -> None:
        self.document, self.wrapped = document, wrapped
        self.dialect = dialect_of(document) or "2020-12"
        self._fast = FastCompiler(document, self.dialect)
        self._folded: dict[tuple[int, int], Any] = {}  # kept, because the compiler knows schemas by identity

    def restore(self, value: Any) -> Any:
        """The answer without the object around the root, and without the nulls of properties that were left out."""
        if self.wrapped and isinstance(value, dict) and set(value) == {WRAPPED}:
            inner = self._walk(value[WRAPPED], self.document, {})
            if self._accepts(self.document, inner) or not self._accepts(self.document, value):
                return inner
        return self._walk(value, self.document, {})

    def _walk(self, value: Any, schema: Any, known: Known) -> Any:
        if not isinstance(schema, Mapping) or not isinstance(value, dict | list):
            return value
        slot = (id(schema), id(value))
        if slot not in known:
            known[slot] = value, self._led_back(value, schema, known)
        return known[slot][1]

    def _led_back(self, value: Any, schema: Mapping[str, Any], known: Known) -> Any:
        if "$ref" in schema:
            value = self._walk(value, target_of(self.document, schema["$ref"]), known)
            if self.dialect == "draft-07":
                return value
        for part in schema.get("allOf", ()):
            value = self._walk(value, part, known)
        value = self._alternative(value, schema, known)
        return self._object(value, schema, known) if isinstance(value, dict) else self._list(value, schema, known)

    def _alternative(self, value: Any, schema: Mapping[str, Any], known: Known) -> Any:
        """The value led back by the first alternative that takes it then."""
        ways = schema.get("anyOf", schema.get("oneOf", ()))
        beside = {key: item for key, item in schema.items() if key not in ("anyOf", "oneOf", "$defs", "definitions")}
        for index, way in enumerate(ways):
            slot = (id(schema), index)
            if slot not in self._folded:
                self._folded[slot] = merged(beside, way) if "properties" in beside else way
            found = self._walk(value, self._folded[slot], known)
            if self._accepts(self._folded[slot], found):
                return found
        return value

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any], known: Known) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        rest = schema.get("additionalProperties", True)
        restored: dict[str, Any] = {}
        for name, item in value.items():
            sub = properties.get(name, rest)
            if item is None and name in properties and name not in required and not self._accepts(sub, None):
                continue
            restored[name] = self._walk(item, sub, known)
        same = len(restored) == len(value) and all(restored[name] is item for name, item in value.items())
        return value if same else restored

    def _list(self, value: list[Any], schema: Mapping[str, Any], known: Known) -> list[Any]:
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", ())
        rest = True if isinstance(items, list) else items
        parts = [first[index] if index < len(first) else rest for index in range(len(value))]
        restored = [self._walk(item, part, known) for item, part in zip(value, parts, strict=True)]
        same = all(new is old for new, old in zip(restored, value, strict=True))
        return value if same else restored

    def _accepts(self, schema: Any, value: Any) -> bool:
        """Whether one schema of the document takes a value."""
        try:
            check = self._fast.build(schema)
        except Unsupported:
            return Judge(self.document, self.dialect).takes(schema, value)
        self._fast.seen.verdicts = {}
        return check(value)
