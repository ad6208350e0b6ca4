"""Makes values that fit a schema, the same for the same seed, and all sorts of them over many seeds.

`echo` answers with them. Everything is chosen by the seed: enum values, whether an optional property is there, the
length of lists (0 to 3 where the schema leaves it open), alternatives, numbers, words. A value is given out only after
it was validated, so that what cannot be built (contradictions, odd patterns) is an error and never a wrong value.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.structured.equality import canonical
from llmpipe.structured.instance_numbers import NotMade, made_number
from llmpipe.structured.instance_texts import made_text, made_word, text_for_pattern
from llmpipe.structured.keywords import TYPES
from llmpipe.structured.merging import merged
from llmpipe.structured.recursion import target_of
from llmpipe.structured.regexes import search
from llmpipe.structured.schema import OutputSchema, compile_schema

_TRIES = 60
_DEEP = 6  # from here on only what has to be there is made
_TOO_DEEP = 100
_MAX_STEPS = 50_000
_MAX_PARTS = 200  # of an allOf whose references multiply
_COMPOSED = ("allOf", "anyOf", "oneOf", "$ref", "if")


class NoExample(ValueError):
    """No value that fits the schema was found; either none does, or the schema asks for more than is built here."""


def example_instance(schema: Mapping[str, Any], seed: int | str) -> Any:
    """A value that is valid by `schema`; equal seeds give equal values, in every process and on every machine.

    Raises SchemaUnusable for a schema that is not usable, NoExample if no valid value was found.
    """
    ready = _ready(json.dumps(schema, default=dict))
    for attempt in range(_TRIES):
        rng = random.Random(f"{seed}\x1f{attempt}" if attempt else str(seed))  # noqa: S311 - has to be the same again
        try:
            value = _Maker(ready.document, rng, loose=attempt > _TRIES // 2).make(ready.document, 0)
        except (NotMade, RecursionError, OverflowError):  # the last: bounds that no float reaches
            continue
        except _TooInvolved:
            break
        if ready.accepts(value):
            return value
    raise NoExample("no example that fits the schema could be made: it rules everything out, or is too involved")


class _TooInvolved(Exception):
    """Alternatives multiply beyond reason; another seed would not do better."""


@functools.lru_cache(maxsize=64)
def _ready(text: str) -> OutputSchema:
    return compile_schema(json.loads(text))


class _Maker:
    """Makes one value, from the outside in."""

    def __init__(self, document: Mapping[str, Any], rng: random.Random, *, loose: bool) -> None:
        self.document, self.rng = document, rng
        self.steps = 0
        self.loose = loose  # values of any type where none is named, for schemas that rule out the obvious ones

    def make(self, schema: Any, depth: int) -> Any:
        """A value for one schema. Raises NotMade."""
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise _TooInvolved
        if schema is False or depth > _TOO_DEEP:
            raise NotMade
        if isinstance(schema, Mapping) and [] in (schema.get("enum"), schema.get("type")):
            raise NotMade  # two schemas that were folded into one had nothing in common
        if schema is True or not schema:
            schema = {}
        if any(word in schema for word in _COMPOSED):
            return self._composed(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        return self._typed(schema, self._type(schema), depth)

    def _composed(self, schema: Mapping[str, Any], depth: int) -> Any:
        """Fold one composing keyword into the schema, and go on with what that gives."""
        rest = dict(schema)
        if "$ref" in rest:
            target = target_of(self.document, rest.pop("$ref"))
            return self.make(merged(target, rest) if rest.keys() - {"$defs", "definitions"} else target, depth + 1)
        if "allOf" in rest:
            if len(rest["allOf"]) > _MAX_PARTS:
                raise NotMade
            for sub in rest.pop("allOf"):
                rest = merged(rest, sub)
            return self.make(rest, depth + 1)
        if "if" in rest:
            when, then, other = rest.pop("if"), rest.pop("then", True), rest.pop("else", True)
            ways = [merged(when, then), merged({"not": when}, other)]
        else:
            ways = rest.pop("anyOf" if "anyOf" in rest else "oneOf")
        for way in self._order(ways, depth):
            try:
                return self.make(merged(rest, way), depth + 1)
            except NotMade:
                continue
        raise NotMade

    def _order(self, ways: list[Any], depth: int) -> list[Any]:
        """The alternatives in the order to try them: any, but far down first those that do not lead deeper."""
        ways = self.rng.sample(ways, len(ways))
        if depth <= _DEEP * 2:
            return ways
        return sorted(ways, key=lambda way: ("$ref" in json.dumps(way), len(json.dumps(way))))

    def _type(self, schema: Mapping[str, Any]) -> str:
        types = schema.get("type", TYPES if self.loose else None)
        if isinstance(types, list | tuple):
            return str(self.rng.choice(types))
        if isinstance(types, str):
            return types
        for name, keywords in _TELLING.items():
            if any(word in schema for word in keywords):
                return name
        return "string"

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        rng = self.rng
        makers: dict[str, Callable[[], Any]] = {
            "null": lambda: None,
            "boolean": lambda: rng.random() < 0.5,
            "integer": lambda: made_number(schema, rng, whole=True),
            "number": lambda: made_number(schema, rng, whole=False),
            "string": lambda: made_text(schema, rng),
            "array": lambda: self._array(schema, depth),
            "object": lambda: self._object(schema, depth),
        }
        return makers[name]()

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        rest = schema.get("items", True)
        first = rest if isinstance(rest, list) else schema.get("prefixItems", [])
        rest = schema.get("additionalItems", True) if isinstance(rest, list) else rest
        low = int(max(schema.get("minItems", 0), schema.get("minContains", 1) if "contains" in schema else 0))
        most = len(first) if rest is False else schema.get("maxItems", max(low, 3))
        high = int(min(most, schema.get("maxItems", most), low if depth > _DEEP else max(low, 3)))
        if high < low:
            raise NotMade
        wanted = self.rng.randint(low, high)
        must = int(schema.get("minContains", 1)) if "contains" in schema else 0
        made: list[Any] = []
        seen: set[str] = set()
        for _ in range(wanted * 8):
            if len(made) == wanted:
                break
            sub = first[len(made)] if len(made) < len(first) else rest
            item = self.make(merged(sub, schema["contains"]) if len(made) < must else sub, depth + 1)
            if not schema.get("uniqueItems") or canonical(item) not in seen:
                made.append(item)
                seen.add(canonical(item))
        if len(made) < low:
            raise NotMade
        return made

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        wanted = set(schema.get("required", ()))
        low, high = int(schema.get("minProperties", 0)), schema.get("maxProperties", 1_000)
        for name, sub in properties.items():
            if sub is not False and len(wanted) < high and depth <= _DEEP and self.rng.random() < 0.5:
                wanted.add(name)
        wanted |= {other for name in list(wanted) for other in schema.get("dependentRequired", {}).get(name, ())}
        spare = [name for name, sub in properties.items() if name not in wanted and sub is not False]
        wanted |= set(spare[: max(0, low - len(wanted))])
        names = [name for name in properties if name in wanted] + sorted(wanted - set(properties))
        names += self._further(schema, names, low, high, depth)
        made = {name: self.make(self._schema_of(schema, name), depth + 1) for name in names}
        for name, sub in schema.get("dependentSchemas", {}).items():
            if name in made:
                wanted_too = {**schema, "type": "object", "dependentSchemas": {}, "required": list(made)}
                more = self.make(merged(wanted_too, sub), depth + 1)
                if not isinstance(more, dict):
                    raise NotMade
                made |= more
        return made

    def _further(self, schema: Mapping[str, Any], names: list[str], low: int, high: float, depth: int) -> list[str]:
        """Names that the schema does not list, where it is a map or needs more of them."""
        patterns, rest = schema.get("patternProperties", {}), schema.get("additionalProperties", True)
        is_map = (isinstance(rest, Mapping) or bool(patterns)) and not schema.get("properties") and depth <= _DEEP
        count = max(low - len(names), self.rng.randint(0, 3) if is_map else 0)
        count = int(min(count, high - len(names)))
        found: list[str] = []
        for _ in range(count * 8):
            if len(found) >= count:
                break
            if "propertyNames" in schema:
                name = self.make(merged({"type": "string"}, schema["propertyNames"]), depth + 1)
            elif patterns and (rest is False or self.rng.random() < 0.5):
                name = text_for_pattern(self.rng.choice(list(patterns)), self.rng)
            else:
                name = made_word(self.rng)
            if isinstance(name, str) and name not in names and name not in found:
                found.append(name)
        return found

    def _schema_of(self, schema: Mapping[str, Any], name: str) -> Any:
        """What the value of a property has to fit."""
        fitting = [sub for pattern, sub in schema.get("patternProperties", {}).items() if search(pattern, name)]
        if name in schema.get("properties", {}):
            fitting.append(schema["properties"][name])
        return functools.reduce(merged, fitting) if fitting else schema.get("additionalProperties", True)


_TELLING: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
