"""Leads an answer to a reduced schema back to what the user's own schema means."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from llmpipe.structured.fast import FastCompiler, Unsupported
from llmpipe.structured.judge import Judge, TooManySteps
from llmpipe.structured.keywords import dialect_of
from llmpipe.structured.merging import merged
from llmpipe.structured.recursion import target_of
from llmpipe.structured.regexes import SearchTooLong

WRAPPED = "value"
_NOT_BESIDE = ("anyOf", "oneOf", "$defs", "definitions")


class Restorer:
    """Knows the user's schema, and takes out of an answer what only the reduced copy asked for."""

    def __init__(self, document: Mapping[str, Any], *, wrapped: bool) -> None:
        self.document, self.wrapped = document, wrapped
        self.dialect = dialect_of(document) or "2020-12"
        self._fast = FastCompiler(document, self.dialect)
        self._building = Lock()
        self._judge: Judge | None = None
        self._folded: dict[tuple[int, int], Any] = {}  # kept, because the compiler knows schemas by identity
        try:
            self._fast.whole()
        except Unsupported:  # then all of it is left to jsonschema: what was half built is not asked
            self._judge = Judge(document, self.dialect)

    def restore(self, value: Any) -> Any:
        """The answer without the object around the root, and without the nulls of properties that were left out.

        A null that the property's own schema takes stays, unless the answer fits only without it. Where telling takes
        too long, the answer stays as it is, for the validation to refuse.
        """
        try:
            return self._unwrapped(value)
        except (SearchTooLong, TooManySteps, RecursionError):
            return value

    def takes(self, schema: Any, value: Any) -> bool:
        """Whether one schema of the document takes a value. Raises SearchTooLong, TooManySteps or RecursionError."""
        if self._judge is not None:
            return self._judge.takes(schema, value)
        with self._building:
            check = self._fast.build(schema)
        self._fast.seen.verdicts = {}
        return check(value)

    def folded(self, schema: Mapping[str, Any], index: int, way: Any) -> Any:
        """An alternative of a schema with what stands beside it, made once."""
        slot = (id(schema), index)
        if slot not in self._folded:
            beside = {key: item for key, item in schema.items() if key not in _NOT_BESIDE}
            self._folded.setdefault(slot, merged(beside, way) if "properties" in beside else way)
        return self._folded[slot]

    def _unwrapped(self, value: Any) -> Any:
        if self.wrapped and isinstance(value, dict) and set(value) == {WRAPPED}:
            inner = self._led_back(value[WRAPPED])
            if self.takes(self.document, inner) or not self.takes(self.document, value):
                return inner
        return self._led_back(value)

    def _led_back(self, value: Any) -> Any:
        way = _WayBack(self, keep=True)
        found = way.walk(value, self.document)
        if not way.kept or self.takes(self.document, found):
            return found
        bare = _WayBack(self, keep=False).walk(value, self.document)
        return bare if self.takes(self.document, bare) else found


class _WayBack:
    """One walk over one answer. `keep`: nulls stay where the schema of an optional property takes null itself."""

    def __init__(self, restorer: Restorer, *, keep: bool) -> None:
        self._restorer, self._keep = restorer, keep
        self.kept = False  # whether a null stayed that could have been meant as absence
        # (schema, value) by identity -> the value, kept so that its identity stays its own, and what it was led back
        # to. Without it, alternatives that refer to further alternatives would take exponential time.
        self._known: dict[tuple[int, int], tuple[Any, Any]] = {}

    def walk(self, value: Any, schema: Any) -> Any:
        """The value, led back by one schema."""
        if not isinstance(schema, Mapping) or not isinstance(value, dict | list):
            return value
        slot = (id(schema), id(value))
        if slot not in self._known:
            self._known[slot] = value, self._led_back(value, schema)
        return self._known[slot][1]

    def _led_back(self, value: Any, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            value = self.walk(value, target_of(self._restorer.document, schema["$ref"]))
            if self._restorer.dialect == "draft-07":
                return value
        for part in schema.get("allOf", ()):
            value = self.walk(value, part)
        value = self._alternative(value, schema)
        return self._object(value, schema) if isinstance(value, dict) else self._list(value, schema)

    def _alternative(self, value: Any, schema: Mapping[str, Any]) -> Any:
        """The value led back by the first alternative that takes it then."""
        for index, way in enumerate(schema.get("anyOf", schema.get("oneOf", ()))):
            folded = self._restorer.folded(schema, index, way)
            found = self.walk(value, folded)
            if self._restorer.takes(folded, found):
                return found
        return value

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        rest = schema.get("additionalProperties", True)
        restored: dict[str, Any] = {}
        for name, item in value.items():
            sub = properties.get(name, rest)
            if item is None and name in properties and name not in required:
                if not self._keep or not self._restorer.takes(sub, None):
                    continue
                self.kept = True
            restored[name] = self.walk(item, sub)
        same = len(restored) == len(value) and all(restored[name] is item for name, item in value.items())
        return value if same else restored

    def _list(self, value: list[Any], schema: Mapping[str, Any]) -> list[Any]:
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", ())
        rest = True if isinstance(items, list) else items
        parts = [first[index] if index < len(first) else rest for index in range(len(value))]
        restored = [self.walk(item, part) for item, part in zip(value, parts, strict=True)]
        same = all(new is old for new, old in zip(restored, value, strict=True))
        return value if same else restored
