"""Makes the copy of a schema that a provider takes, and the way back from what it answers.

What is left out only widens what is asked for, and is listed; the answer is always validated against the full schema.
Three changes are more than leaving out:
    an optional property becomes required and may be null (openai): such a null is taken out of the answer again,
        unless the property's own schema takes null; then it cannot be told apart, and stays;
    an object that is open is asked for closed (openai, anthropic): narrower to ask, the same to validate;
    a root that is no plain object is asked for under the name `value` (openai): the answer is taken out of it.
What cannot be asked for without changing its meaning (maps, tuples, values of any kind, too large) is refused with the
reason, and goes into the prompt instead. Limits: `dialects`, facts A3.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import unquote

from llmpipe.frozen import frozen
from llmpipe.late import late
from llmpipe.structured.bundle import bundle
from llmpipe.structured.dialects import LIMITS, SchemaLimits
from llmpipe.structured.flattening import Refused, flat
from llmpipe.structured.keywords import ANNOTATIONS, dialect_of, parse_pointer
from llmpipe.structured.limits import exceeded
from llmpipe.structured.merging import merged
from llmpipe.structured.recursion import target_of
from llmpipe.structured.restoring import WRAPPED, Restorer
from llmpipe.structured.unlisted import unlisted

_READ_WITH_ANOTHER = frozenset(("then", "else", "minContains", "maxContains", "additionalItems"))
_MAX_SCHEMAS = 20_000  # in one copy, where references that are spelled out multiply
_ODD = late(r"[^A-Za-z0-9_.-]+")  # in the name of a definition, where it would have to be escaped in a $ref
_TELLABLE = frozenset(
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format "
    "minItems maxItems uniqueItems minProperties maxProperties".split()
)
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@frozen
class Reduced:
    """What is sent to a provider for one schema.

    `schema` is the copy to send, None if it is refused; `refused_reason` then says why. `dropped` lists what the copy
    does not hold, each as "$.path: keyword" (`[]` stands for the items of a list).
    """

    schema: Mapping[str, Any] | None
    dropped: tuple[str, ...] = ()
    refused_reason: str | None = None
    digest: str = ""  # of the copy, equal for equal ones
    _restorer: Restorer | None = field(default=None, repr=False, compare=False)

    def restore(self, value: Any) -> Any:
        """The answer as the user's own schema means it: without the nulls and the wrapping that the copy asked for."""
        return self._restorer.restore(value) if self._restorer else value


def reduce_for(document: Mapping[str, Any], dialect: str) -> Reduced:
    """The copy of a schema for the limits of that name (`openai`, `anthropic`, `gemini`, `ollama`).

    Raises KeyError for another name. Equal documents share one result.
    """
    return _reduced(json.dumps(document, default=dict), LIMITS[dialect])


@functools.lru_cache(maxsize=256)
def _reduced(text: str, limits: SchemaLimits) -> Reduced:
    document = bundle(json.loads(text), folder=None, root=None).document
    if limits.keywords is None:
        whole = {key: value for key, value in document.items() if key != "$schema"}
        return Reduced(whole, digest=_digest(whole))
    reducer = _Reducer(document, limits)
    try:
        schema = reducer.whole()
        reason = exceeded(schema, limits)
    except Refused as refusal:
        reason = str(refusal)
    except RecursionError:
        reason = "it is nested too deep"
    if reason:
        return Reduced(None, refused_reason=reason)
    restorer = Restorer(document, wrapped=reducer.wrapped) if limits.all_required or reducer.wrapped else None
    return Reduced(schema, tuple(dict.fromkeys(reducer.dropped)), None, _digest(schema), restorer)


def _digest(schema: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()


class _Reducer:
    """Walks one document from the root, each referred schema once."""

    def __init__(self, document: dict[str, Any], limits: SchemaLimits) -> None:
        self.document, self.limits = document, limits
        self.dialect = dialect_of(document) or "2020-12"
        self.dropped: list[str] = []
        self.names: dict[int, str] = {}  # referred schema -> its name under $defs
        self.waiting: list[tuple[str, Any]] = []
        self.count = 0
        self.wrapped = False

    def whole(self) -> dict[str, Any]:
        """The copy of the whole document. Raises Refused."""
        start = self.document
        while "$ref" in (root := self._flat(start)):
            start = target_of(self.document, root["$ref"])
        implied = "object" if "properties" in root else ""
        self.wrapped = self.limits.object_root and (root.get("type", implied) != "object" or _is_union(root))
        if not self.wrapped:
            self.names[id(start)] = self.names[id(self.document)] = "#"
        copy = self.reduce(start, "$")
        if self.wrapped:
            outer = {"type": "object", "properties": {WRAPPED: copy}, "required": [WRAPPED]}
            copy = {**outer, "additionalProperties": False}
        definitions: dict[str, Any] = {}
        while self.waiting:
            name, schema = self.waiting.pop()
            definitions[name] = self.reduce(schema, f"$defs.{name}")
        return {**copy, "$defs": definitions} if definitions else copy

    def _flat(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        return flat(self.document, schema, self.dialect)

    def reduce(self, schema: Any, path: str) -> dict[str, Any]:
        """The copy of one schema; `path` says where, for what is dropped. Raises Refused."""
        self.count += 1
        if schema is False or self.count > _MAX_SCHEMAS:
            raise Refused(f"{path} takes nothing" if schema is False else "its references multiply beyond reason")
        flat = self._flat({} if schema is True else schema)
        if [] in (flat.get("enum"), flat.get("type")):
            raise Refused(f"{path} takes nothing")
        if "$ref" in flat:
            return {"$ref": self._reference(flat["$ref"])}
        copy = self._kept(flat, path)
        self._type(copy, flat, path)
        if _is_union(flat):
            self._union(copy, flat, path)
        types = copy.get("type", ())
        types = [types] if isinstance(types, str) else types
        if "object" in types:
            self._object(copy, flat, path)
        if "array" in types:
            self._array(copy, flat, path)
        return copy

    def _reference(self, reference: str) -> str:
        target = target_of(self.document, reference)
        if id(target) not in self.names:
            last = parse_pointer(unquote(reference[1:]))[-1:]
            base = _ODD.sub("_", "".join(last)) or "root"
            taken = set(self.names.values())
            name = next(n for n in (base, *(f"{base}_{i}" for i in range(2, 10_000))) if n not in taken)
            self.names[id(target)] = name
            self.waiting.append((name, target))
        name = self.names[id(target)]
        return "#" if name == "#" else f"#/$defs/{name}"

    def _kept(self, flat: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The keywords that are sent as they are; what is not sent is listed, and told in the description."""
        assert self.limits.keywords is not None
        copy: dict[str, Any] = {}
        told: list[str] = []
        for keyword, value in flat.items():
            if keyword in _STRUCTURE or keyword in _READ_WITH_ANOTHER or keyword in _UNSENT:
                continue
            if keyword in self.limits.keywords and self._takes(keyword, value):
                copy[keyword] = value
            elif keyword not in ANNOTATIONS and not keyword.startswith("x-"):
                self.dropped.append(f"{path}: {keyword}")
                told += [f"{keyword}: {json.dumps(value, ensure_ascii=False)}"] if keyword in _TELLABLE else []
        if told:
            copy["description"] = f"{copy.get('description', '')} ({', '.join(told)})".strip()
        return copy

    def _takes(self, keyword: str, value: Any) -> bool:
        if keyword == "format":
            return self.limits.formats is None or value in self.limits.formats
        return keyword != "minItems" or self.limits.least_items is None or value <= self.limits.least_items

    def _type(self, copy: dict[str, Any], flat: Mapping[str, Any], path: str) -> None:
        """Spell out the type where values or keywords imply it; say `const` as `enum` where only that is taken."""
        values = [flat["const"]] if "const" in flat else flat.get("enum")
        if "const" in flat and "const" not in copy:
            copy["enum"] = values
            self.dropped.remove(f"{path}: const")
        if "type" in flat:
            copy["type"] = flat["type"]
        elif values:
            types = list(dict.fromkeys("null" if value is None else _JSON_TYPES[type(value)] for value in values))
            copy["type"] = types[0] if len(types) == 1 else types
        elif not _is_union(flat) and ("properties" in flat or "items" in flat):
            copy["type"] = "object" if "properties" in flat else "array"
            self.dropped.append(f"{path}: other types (sent as {copy['type']})")
        elif not _is_union(flat) and self.limits.types_needed:
            raise Refused(f"{path} takes a value of any type")

    def _union(self, copy: dict[str, Any], flat: Mapping[str, Any], path: str) -> None:
        """anyOf, or oneOf asked for as anyOf; what stands beside it is folded into each alternative."""
        if "anyOf" in flat and "oneOf" in flat:
            raise Refused(f"{path} has both anyOf and oneOf")
        if "oneOf" in flat:
            self.dropped.append(f"{path}: oneOf (sent as anyOf)")
        beside = {key: value for key, value in flat.items() if key not in ("anyOf", "oneOf") and key not in ANNOTATIONS}
        choices = [merged(beside, sub) if beside else sub for sub in flat.get("anyOf", flat.get("oneOf", ()))]
        for keyword in set(copy) - {"title", "description"}:
            del copy[keyword]
        copy["anyOf"] = [self.reduce(sub, path) for sub in choices if sub is not False]
        if not copy["anyOf"]:
            raise Refused(f"{path} takes nothing")

    def _object(self, copy: dict[str, Any], flat: Mapping[str, Any], path: str) -> None:
        if flat.get("patternProperties"):
            raise Refused(f"{path} has patternProperties")
        rest = flat.get("additionalProperties", True)
        properties = {name: sub for name, sub in flat.get("properties", {}).items() if sub is not False}
        required = [name for name in flat.get("required", ()) if name in properties]
        self.dropped += [f"{path}: required {name}" for name in flat.get("required", ()) if name not in properties]
        if self.limits.closed:
            self._close(copy, rest, flat, path)
        elif "additionalProperties" in flat:
            copy["additionalProperties"] = rest if isinstance(rest, bool) else self.reduce(rest, f"{path}.*")
        if not properties and not self.limits.closed:
            return
        copy["properties"] = {name: self.reduce(sub, f"{path}.{name}") for name, sub in properties.items()}
        if self.limits.all_required:
            for name in set(properties) - set(required):
                copy["properties"][name] = _or_null(copy["properties"][name])
            required = list(properties)
        copy["required"] = required

    def _close(self, copy: dict[str, Any], rest: Any, flat: Mapping[str, Any], path: str) -> None:
        properties = flat.get("properties", {})
        if isinstance(rest, Mapping) and rest:
            raise Refused(f"{path} is a map: its additionalProperties have a schema")
        if rest is not False:
            if not properties:
                raise Refused(f"{path} is an object with any properties")
            if names := unlisted(self.document, flat):
                raise Refused(f"{path} asks for properties that it does not list: {', '.join(names[:5])}")
        if flat.get("minProperties", 0) > len(properties):
            raise Refused(f"{path} asks for more properties than it lists")
        if rest is not False:
            self.dropped.append(f"{path}: additionalProperties (sent closed)")
        copy["additionalProperties"] = False

    def _array(self, copy: dict[str, Any], flat: Mapping[str, Any], path: str) -> None:
        items = flat.get("items", True)
        first = items if isinstance(items, list) else flat.get("prefixItems", ())
        rest = flat.get("additionalItems", True) if isinstance(items, list) else items
        assert self.limits.keywords is not None
        if first and "prefixItems" not in self.limits.keywords:
            raise Refused(f"{path} is a tuple: its items have a schema each")
        if first:
            copy["prefixItems"] = [self.reduce(sub, f"{path}[{index}]") for index, sub in enumerate(first)]
        if rest is False and first:
            copy["maxItems"] = min(copy.get("maxItems", len(first)), len(first))
        elif rest is not True or self.limits.types_needed:
            copy["items"] = self.reduce(rest, f"{path}[]")


_STRUCTURE = frozenset(
    "type anyOf oneOf properties required additionalProperties patternProperties items prefixItems $ref".split()
)
_UNSENT = ANNOTATIONS - {"title", "description", "propertyOrdering"}


def _is_union(schema: Mapping[str, Any]) -> bool:
    return "anyOf" in schema or "oneOf" in schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that takes null besides; the same where it does already."""
    if "anyOf" in schema:
        has = any(sub.get("type") == "null" or "null" in sub.get("type", ()) for sub in schema["anyOf"])
        return schema if has else {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "$ref" in schema or "const" in schema:
        told = {key: value for key, value in schema.items() if key in ("title", "description")}
        rest = {key: value for key, value in schema.items() if key not in told}
        return {**told, "anyOf": [rest, {"type": "null"}]}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    copy = {**schema, "type": types if "null" in types else [*types, "null"]}
    if "enum" in schema and None not in schema["enum"]:
        copy["enum"] = [*schema["enum"], None]
    return copy
