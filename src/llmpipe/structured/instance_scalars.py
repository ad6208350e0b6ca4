"""Makes numbers and texts that fit bounds, formats and patterns."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import uuid
from collections.abc import Callable, Mapping
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from llmpipe.structured.formats import CHECKS

WORDS = (
    "amber basil cedar delta ember fjord grove harbor island juniper kestrel lagoon meadow nectar orchid pebble "
    "quartz river saffron timber umber valley willow yarrow zephyr"
).split()
_TRIES = 40


class NotMade(Exception):
    """This way no value comes out; another may be tried."""


def made_word(rng: random.Random) -> str:
    """A short word."""
    return rng.choice(WORDS)


def made_number(schema: Mapping[str, Any], rng: random.Random, *, whole: bool) -> int | float:
    """A number within the bounds and a multiple of what is asked. Raises NotMade."""
    step = schema.get("multipleOf", 1 if whole else None)
    low, high = _bounds(schema, step or 1)
    if low > high:
        raise NotMade
    if step is None:
        for digits in (1, 2, 4, 8):
            value = round(rng.uniform(low, high), digits)
            if _within(value, schema):
                return value
        return low + (high - low) / 2
    first, last = math.ceil(low / step), math.floor(high / step)
    for _ in range(_TRIES if first <= last else 0):
        times = rng.randint(first, last)
        value = times * step
        if whole and isinstance(value, float):
            value = int(value) if value.is_integer() else value
        if _within(value, schema) and (not whole or isinstance(value, int)):
            return value
    raise NotMade


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    lows = [schema[word] for word in ("minimum", "exclusiveMinimum") if word in schema]
    highs = [schema[word] for word in ("maximum", "exclusiveMaximum") if word in schema]
    reach = 100 * max(1, math.ceil(step))
    low = max(lows) if lows else (min(highs) - reach if highs and min(highs) < reach else 0)
    high = min(highs) if highs else low + reach
    return low, high


def _within(value: float, schema: Mapping[str, Any]) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)


def made_text(schema: Mapping[str, Any], rng: random.Random) -> str:
    """A text of the format, pattern and length that are asked for. Raises NotMade."""
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength", math.inf)
    for _ in range(_TRIES):
        text = _text(schema, rng, low, high)
        if low <= len(text) <= high:
            return text
    raise NotMade


def _text(schema: Mapping[str, Any], rng: random.Random, low: int, high: float) -> str:
    if schema.get("format") in CHECKS:
        return _FORMATS[schema["format"]](rng)
    if "pattern" in schema:
        return text_for_pattern(schema["pattern"], rng)
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 6)))
    while len(text) < low:
        text += " " + rng.choice(WORDS)
    if len(text) > high:
        text = text[: int(high)].strip().ljust(low, "a")
    return text


def _date(rng: random.Random) -> str:
    return (dt.date(2024, 1, 1) + dt.timedelta(days=rng.randrange(900))).isoformat()


def _time(rng: random.Random) -> str:
    return f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z"


_FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "date": _date,
    "time": _time,
    "duration": lambda rng: rng.choice(["P1D", "PT2H", "P3W", "P1Y2M", "PT1H30M"]),
    "email": lambda rng: f"{made_word(rng)}.{made_word(rng)}@example.org",
    "hostname": lambda rng: f"{made_word(rng)}.example.org",
    "uri": lambda rng: f"https://example.org/{made_word(rng)}/{rng.randrange(1000)}",
    "ipv4": lambda rng: f"192.0.2.{rng.randrange(256)}",
    "ipv6": lambda rng: f"2001:db8::{rng.randrange(1, 65536):x}",
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "idn-email": lambda rng: f"{made_word(rng)}@bücher.example",
    "idn-hostname": lambda rng: f"{made_word(rng)}.bücher.example",
    "uri-reference": lambda rng: f"/{made_word(rng)}?n={rng.randrange(1000)}",
    "iri": lambda rng: f"https://bücher.example/{made_word(rng)}",
    "iri-reference": lambda rng: f"/bücher/{made_word(rng)}",
    "uri-template": lambda rng: f"/{made_word(rng)}/{{id}}",
    "json-pointer": lambda rng: f"/{made_word(rng)}/{rng.randrange(10)}",
    "relative-json-pointer": lambda rng: f"{rng.randrange(4)}/{made_word(rng)}",
    "regex": lambda rng: f"^{made_word(rng)}+$",
}


def text_for_pattern(pattern: str, rng: random.Random) -> str:
    """A text in which the regular expression is found. Raises NotMade for look-around and other rare means."""
    compiled = re.compile(pattern)
    for _ in range(_TRIES):
        groups: dict[int, str] = {}
        text = _sequence(parser.parse(pattern), rng, groups)
        if compiled.search(text):
            return text
    raise NotMade


def _sequence(items: Any, rng: random.Random, groups: dict[int, str]) -> str:
    return "".join(_piece(op, argument, rng, groups) for op, argument in items)


def _piece(op: Any, argument: Any, rng: random.Random, groups: dict[int, str]) -> str:
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        low, high, body = argument
        times = rng.randint(low, min(high, low + 4)) if high is not ops.MAXREPEAT else low + rng.randint(0, 4)
        return "".join(_sequence(body, rng, groups) for _ in range(times))
    if op is ops.SUBPATTERN:
        text = _sequence(argument[-1], rng, groups)
        if argument[0] is not None:
            groups[argument[0]] = text
        return text
    if op is ops.BRANCH:
        return _sequence(rng.choice(argument[1]), rng, groups)
    if op is ops.GROUPREF:
        return groups.get(argument, "")
    if op in (ops.AT, ops.ASSERT, ops.ASSERT_NOT):  # whether it holds is seen in the end
        return ""
    return _character(op, argument, rng)


def _character(op: Any, argument: Any, rng: random.Random) -> str:
    if op is ops.LITERAL:
        return chr(argument)
    if op is ops.ANY:
        return rng.choice("abcxyz 0189")
    if op is ops.NOT_LITERAL:
        return rng.choice([c for c in "abcxyz0189" if ord(c) != argument])
    if op is ops.IN:
        return _from_set(argument, rng)
    raise NotMade


_CATEGORIES: Mapping[Any, str] = {
    ops.CATEGORY_DIGIT: "0123456789",
    ops.CATEGORY_WORD: "abcdefghijklmnopqrstuvwxyz0123456789_",
    ops.CATEGORY_SPACE: " ",
    ops.CATEGORY_NOT_DIGIT: "abcxyz-",
    ops.CATEGORY_NOT_WORD: " -.",
    ops.CATEGORY_NOT_SPACE: "abcxyz0189",
}
_USUAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.,"


def _from_set(members: Any, rng: random.Random) -> str:
    """One character of a set `[...]`."""
    if members[0][0] is ops.NEGATE:
        ruled_out = re.compile("".join(_set_text(member) for member in members[1:]).join(("[", "]")))
        left = [c for c in _USUAL if not ruled_out.match(c)]
        if not left:
            raise NotMade
        return rng.choice(left)
    kind, argument = rng.choice(members)
    if kind is ops.RANGE:
        return chr(rng.randint(*argument))
    return rng.choice(_CATEGORIES[argument]) if kind is ops.CATEGORY else chr(argument)


_SPELLED: Mapping[Any, str] = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_NOT_WORD: r"\W",
    ops.CATEGORY_NOT_SPACE: r"\S",
}


def _set_text(member: tuple[Any, Any]) -> str:
    kind, argument = member
    if kind is ops.CATEGORY:
        return _SPELLED[argument]
    ends = argument if kind is ops.RANGE else (argument, argument)
    return "-".join(re.escape(chr(end)) for end in ends)
