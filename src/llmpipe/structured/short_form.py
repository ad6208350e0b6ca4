"""Expands the short form of a schema, `{category: enum[bug, idea], score: integer 1..5, note?: string}`.

    record   mapping of fields; a name that ends in `?` may be missing; no other names are allowed
    field    record, or text: TYPE, then optionally ` - ` and a description for the model
    TYPE     ONE | ONE ...                      string | null
    ONE      string RANGE? /regex/?             string ..200      string 1..80 /^[A-Z]/     (a range of characters)
             integer RANGE?   number RANGE?     integer 1..5      number 0..      number >= 0.5
             boolean   null   any
             date  date-time  time  duration  email  hostname  uri  ipv4  ipv6  uuid
             enum[a, b, "c, d", 3]              quoted entries are text; unquoted numbers, true, false, null are not
             list[TYPE] RANGE?                  list[string] 1..5   (a range of items)
             map[TYPE]                          any names, values of one type
    RANGE    LOW..HIGH  LOW..  ..HIGH  <= N  >= N  < N  > N
    list     a YAML list of one field (`tags: [string]`, `claims: [{text: string}]`) is a list of that
`text`, `int`, `float`, `bool` are accepted for string, integer, number, boolean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llmpipe.errors import SchemaUnusable
from llmpipe.json_numbers import UnkeptNumber, read_float
from llmpipe.late import late
from llmpipe.structured.equality import canonical
from llmpipe.structured.formats import CHECKS
from llmpipe.structured.keywords import SHAPES, TYPES, Tokens, pointer
from llmpipe.structured.lint import pattern_fault
from llmpipe.structured.problems import SchemaProblem, did_you_mean

_ALIASES = {"text": "string", "str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_WORDS = ("string", "integer", "number", "boolean", "null", "any", "enum", "list", "map", *CHECKS)
_TOKEN = late(
    r"\s*(?:(?P<range>(?P<low>-?[0-9][0-9_]*(?:\.[0-9]+)?)?\.\.(?P<high>-?[0-9][0-9_]*(?:\.[0-9]+)?)?)"
    r"|(?P<compare><=|>=|<|>)\s*(?P<bound>-?[0-9][0-9_]*(?:\.[0-9]+)?)"
    r"|/(?P<regex>(?:[^/\\]|\\.)+)/"
    r"|(?P<word>[A-Za-z][A-Za-z0-9-]*)"
    r"|(?P<mark>[\[\]|]))"
)
_ENTRY = late(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^,\[\]"']+?))\s*(?=[,\]])""")
_MAX_DEPTH = 30


def is_short_form(schema: Mapping[str, Any]) -> bool:
    """Whether an inline schema is in the short form rather than JSON Schema.

    It is JSON Schema if a name starts with `$`, if `properties`, `items`, `anyOf`, `enum` ... hold what they hold in
    JSON Schema, if `type` is a list of types, `object` or `array`, or if a keyword holds a number or true / false.
    Raises SchemaUnusable for the one form that could be both: nothing but keywords beside `type: string` and the like.
    """
    if any(str(key).startswith("$") for key in schema):
        return False
    if any(_speaks_json_schema(key, value) for key, value in schema.items()):
        return False
    if isinstance(schema.get("type"), str) and schema["type"] in TYPES and _only_keywords(schema):
        message = f"`type: {schema['type']}` may mean JSON Schema or a field that is called type"
        hint = "for JSON Schema add `$schema`; for a field write `type: text`, `int`, `float` or `bool`"
        raise SchemaUnusable([SchemaProblem(message, "/type", hint)])
    return True


def _only_keywords(schema: Mapping[str, Any]) -> bool:
    return all(key in SHAPES["2020-12"] for key in schema)


def _speaks_json_schema(key: str, value: Any) -> bool:
    if key == "type":
        several = isinstance(value, list) and bool(value) and all(name in TYPES for name in value)
        return several or value in ("object", "array")
    shape = SHAPES["2020-12"].get(key)
    if shape in ("positive", "number", "count", "boolean") or key == "const":
        return isinstance(value, int | float)
    if shape == "schemas":
        return isinstance(value, Mapping) and _nested(value)
    if shape == "schema_list" or key in ("enum", "required"):
        return isinstance(value, list) and (key != "enum" or len(value) > 1 or not _is_type(value))
    return key in ("items", "additionalProperties") and (
        isinstance(value, bool) or (isinstance(value, Mapping) and _nested({"": value}))
    )


def _nested(schemas: Mapping[str, Any]) -> bool:
    """Whether the values of `properties` look like JSON Schemas: true, false, or with `type`, `$ref`, `enum` ..."""
    telling = {"type", "$ref", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "items", "description"}
    if not all(isinstance(value, Mapping | bool) for value in schemas.values()):
        return False
    return all(isinstance(value, bool) or telling & set(value) or not value for value in schemas.values())


def _is_type(value: list[Any]) -> bool:
    return len(value) == 1 and isinstance(value[0], str) and value[0].split("[")[0].split(" ")[0] in _WORDS


def expand(short: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a short form: closed objects whose fields are required unless marked by `?`.

    Raises SchemaUnusable with every problem, each with the pointer of its key.
    """
    problems: list[SchemaProblem] = []
    schema = _record(short, (), problems)
    if problems:
        raise SchemaUnusable(problems)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _record(short: Mapping[str, Any], path: Tokens, problems: list[SchemaProblem]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    if not short:
        problems.append(SchemaProblem("a record needs at least one field", pointer(path), "write `name: string`"))
    if len(path) > _MAX_DEPTH:
        problems.append(SchemaProblem(f"records are nested deeper than {_MAX_DEPTH} levels", pointer(path)))
        return {}
    for key, value in short.items():
        name = str(key).removesuffix("?")
        here = (*path, str(key))
        if not name or name in properties:
            message = f"the field {name!r} is given twice" if name else "a field has no name"
            problems.append(SchemaProblem(message, pointer(here)))
            continue
        properties[name] = _field(value, here, problems)
        if not str(key).endswith("?"):
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _field(value: Any, path: Tokens, problems: list[SchemaProblem]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return _record(value, path, problems)
    if isinstance(value, list) and len(value) == 1:
        return {"type": "array", "items": _field(value[0], (*path, 0), problems)}
    if value is None:
        value = "null"
    if not isinstance(value, str):
        hint = "several values are spelled `enum[a, b]`" if isinstance(value, list) else "write a type, as `string`"
        problems.append(SchemaProblem(f"{_shown(value)} is not a type", pointer(path), hint))
        return {}
    try:
        return _Reader(value).whole()
    except _Unreadable as error:
        message, hint = error.args
        problems.append(SchemaProblem(f"{message} in {_shown(value)}", pointer(path), hint))
        return {}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"`{text[:60]}{'...' if len(text) > 60 else ''}`"


class _Unreadable(Exception):
    """A type that cannot be read: (message, hint)."""


class _Reader:
    """Reads one type from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def whole(self) -> dict[str, Any]:
        """The schema of the whole text."""
        if not self.text.strip():
            raise _Unreadable("the type is missing", "write a type, such as `string`")
        schema = self.union()
        rest = self.text[self.at :].strip()
        if rest.startswith("- "):
            return {**schema, "description": rest[2:].strip()}
        if rest:
            raise _Unreadable(f"{rest[:30]!r} is not understood", "a description follows ` - `")
        return schema

    def union(self) -> dict[str, Any]:
        """ONE | ONE ..."""
        choices = [self.one()]
        while self.take("mark", "|"):
            choices.append(self.one())
        if len(choices) == 1:
            return choices[0]
        if all(set(choice) == {"type"} for choice in choices):
            return {"type": list(dict.fromkeys(choice["type"] for choice in choices))}
        return {"anyOf": choices}

    def one(self) -> dict[str, Any]:
        """One type with what limits it."""
        found = self.take("word")
        if not found:
            rest = self.text[self.at :].strip()
            raise _Unreadable(f"a type is wanted at {rest[:30]!r}" if rest else "a type is missing at the end", "")
        word = _ALIASES.get(found["word"], found["word"])
        if word == "enum":
            return self.enum()
        if word in ("list", "map"):
            return self.container(word)
        if word == "any":
            return {}
        if word in CHECKS:
            return {"type": "string", "format": word}
        if word not in TYPES or word in ("object", "array"):
            other = {"object": "write the fields as a mapping, or `map[any]`", "array": "write `list[...]`"}
            hint = other.get(word) or did_you_mean(word, (*_WORDS, *_ALIASES)) or f"types: {', '.join(_WORDS)}"
            raise _Unreadable(f"{word!r} is not a type", hint)
        return self.limited(word)

    def limited(self, word: str) -> dict[str, Any]:
        """A scalar type with its range and pattern."""
        schema: dict[str, Any] = {"type": word}
        if word in ("integer", "number"):
            names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
            schema |= self.bounds(names, whole=word == "integer")
        if word == "string":
            schema |= self.bounds(("minLength", "maxLength"), whole=True)
            if found := self.take("regex"):
                schema["pattern"] = pattern = found["regex"].replace("\\/", "/")
                if fault := pattern_fault(pattern):
                    raise _Unreadable(fault, "")
        return schema

    def container(self, word: str) -> dict[str, Any]:
        """list[TYPE] RANGE? or map[TYPE]."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Unreadable(f"types are nested deeper than {_MAX_DEPTH} levels", "")
        if not self.take("mark", "["):
            raise _Unreadable(f"{word!r} needs to know of what", f"write `{word}[string]`")
        inner = self.union()
        if not self.take("mark", "]"):
            raise _Unreadable(f"the bracket of {word!r} is not closed", "")
        self.depth -= 1
        if word == "map":
            return {"type": "object", "additionalProperties": inner}
        return {"type": "array", "items": inner, **self.bounds(("minItems", "maxItems"), whole=True)}

    def enum(self) -> dict[str, Any]:
        """enum[a, b, "c, d", 3]."""
        if not self.take("mark", "["):
            raise _Unreadable("'enum' needs its values", "write `enum[a, b]`")
        values: list[Any] = []
        while True:
            found = _ENTRY.match(self.text, self.at)
            if not found:
                raise _Unreadable("the values of 'enum' are not readable", 'write `enum[a, b]`, or `enum["a, b", c]`')
            value = _scalar(*found.groups())
            if any(canonical(value) == canonical(other) for other in values):
                raise _Unreadable(f"{value!r} is listed twice", "")
            values.append(value)
            self.at = found.end() + 1
            if self.text[found.end()] == "]":
                break
        return {"type": "string", "enum": values} if all(isinstance(v, str) for v in values) else {"enum": values}

    def bounds(self, names: tuple[str, ...], *, whole: bool) -> dict[str, Any]:
        """The keywords of a RANGE, if one follows; `names`: lowest, highest, and the exclusive ones if any."""
        found: dict[str, Any] = {}
        while token := self.take("range") or self.take("compare"):
            if token["compare"]:
                strict = len(token["compare"]) == 1
                if strict and len(names) == 2:
                    raise _Unreadable(f"{token['compare']!r} does not fit here", f"write {token['compare']}=")
                which = names[(0 if token["compare"][0] == ">" else 1) + (2 if strict else 0)]
                self.bound(found, which, token["bound"], whole=whole)
            for name, text in zip(names, (token["low"], token["high"]), strict=False):
                if text is not None:
                    self.bound(found, name, text, whole=whole)
        low, high = found.get(names[0]), found.get(names[1])
        if low is not None and high is not None and low > high:
            raise _Unreadable(f"the range {low}..{high} is empty", f"write {high}..{low}")
        return found

    def bound(self, found: dict[str, Any], name: str, text: str, *, whole: bool) -> None:
        """Note one bound, as a whole number where it is one."""
        number = _number(text)
        if whole and isinstance(number, float):
            raise _Unreadable(f"{text} is not a whole number", "")
        if name in ("minLength", "maxLength", "minItems", "maxItems") and number < 0:
            raise _Unreadable(f"{text} is below 0", "")
        if name in found:
            raise _Unreadable(f"{name} is given twice", "")
        found[name] = number

    def take(self, kind: str, text: str | None = None) -> re.Match[str] | None:
        """The next token, if it is of that kind (and text)."""
        found = _TOKEN.match(self.text, self.at)
        if not found or found[kind] is None or (text is not None and found[kind] != text):
            return None
        self.at = found.end()
        return found


def _scalar(double: str | None, single: str | None, bare: str | None) -> Any:
    """An entry of enum: quoted text, or an unquoted word, number, true, false, null."""
    if double is not None:
        return json.loads(f'"{double}"') if "\\" in double else double
    if single is not None:
        return single.replace("''", "'")
    text = bare or ""
    if text in ("true", "false", "null"):
        return json.loads(text)
    if re.fullmatch(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", text):
        return _number(text)
    return text


def _number(text: str) -> int | float:
    try:
        return read_float(text) if "." in text else int(text)
    except UnkeptNumber as error:
        raise _Unreadable(error.fault, "") from None
