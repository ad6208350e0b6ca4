"""Makes texts that fit formats, patterns and lengths."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from llmpipe.structured.formats import CHECKS, fits
from llmpipe.structured.instance_numbers import NotMade

WORDS = (
    "amber basil cedar delta ember fjord grove harbor island juniper kestrel lagoon meadow nectar orchid pebble "
    "quartz river saffron timber umber valley willow yarrow zephyr"
).split()
_TRIES = 40
_ROOM = 12  # characters beyond the shortest that a text made to length may have


def made_word(rng: random.Random) -> str:
    """A short word."""
    return rng.choice(WORDS)


def made_text(schema: Mapping[str, Any], rng: random.Random) -> str:
    """A text of the format, pattern and length that are asked for. Raises NotMade."""
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength", math.inf)
    if schema.get("format") not in CHECKS and "pattern" not in schema:
        return _words(rng, low, high)
    if low > high:
        raise NotMade
    for made in (_usual, _fitted):
        for text in made(schema, rng, low, high):
            if low <= len(text) <= high:
                return text
    raise NotMade


def _words(rng: random.Random, low: int, high: float) -> str:
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 6)))
    while len(text) < low:
        text += " " + rng.choice(WORDS)
    if len(text) > high:
        text = text[: int(high)].strip().ljust(low, "a")
    return text


def _usual(schema: Mapping[str, Any], rng: random.Random, _low: int, _high: float) -> Iterator[str]:
    """Texts as they come, of any length."""
    for _ in range(_TRIES):
        if schema.get("format") in CHECKS:
            yield _FORMATS[schema["format"]](rng)
        else:
            yield text_for_pattern(schema["pattern"], rng)


def _fitted(schema: Mapping[str, Any], rng: random.Random, low: int, high: float) -> Iterator[str]:
    """Texts that are made longer or shorter on purpose."""
    for _ in range(_TRIES):
        length = rng.randint(low, int(min(high, low + _ROOM)))
        if schema.get("format") in CHECKS:
            yield from _stretched(schema["format"], rng, length)
        else:
            yield from _drawn_out(schema["pattern"], rng, length)


def _stretched(format: str, rng: random.Random, length: int) -> Iterator[str]:
    """The shortest texts of a format, and one with letters put in until it is long enough."""
    usual = _FORMATS[format](rng)
    for text in (*_SHORT.get(format, ()), usual):
        at = max(text.find("@") + 1, text.find("//") + 2 if "//" in text else 0)
        more = max(0, length - len(text))
        labels = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") + "." * (n % 20 == 19) for n in range(more))
        for longer in (text, text + "a" * more, text[:at] + labels + text[at:]):
            if fits(format, longer):
                yield longer


def _drawn_out(pattern: str, rng: random.Random, length: int) -> Iterator[str]:
    """Texts in which the pattern is found, its repetitions as long as they have to be; or with words around it."""
    compiled, parsed = re.compile(pattern), parser.parse(pattern)
    shortest = len(_sequence(parsed, rng, {}, [0]))
    text = _sequence(parsed, rng, {}, [length - shortest])
    around = _words(rng, length, length)[: max(0, length - len(text))]
    for longer in (text, text + around, around + text):
        if compiled.search(longer):
            yield longer


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


_SHORT: Mapping[str, tuple[str, ...]] = {
    "email": ("a@b.co",),
    "idn-email": ("a@ü.de",),
    "hostname": ("a.co", "a"),
    "idn-hostname": ("ü.de",),
    "uri": ("ab:c", "https://a.co/"),
    "iri": ("ab:c", "https://a.co/"),
    "uri-reference": ("/",),
    "iri-reference": ("/",),
    "uri-template": ("/{a}",),
    "json-pointer": ("/a", ""),
    "relative-json-pointer": ("0",),
    "regex": ("a",),
    "duration": ("P1D",),
    "ipv4": ("1.1.1.1", "192.168.100.100"),
    "ipv6": ("::1", "2001:0db8:0000:0000:0000:0000:0000:0001"),
    "time": ("10:00:00Z", "10:00:00.123456+01:00"),
    "date-time": ("2026-01-02T10:00:00.123456+01:00",),
}


def text_for_pattern(pattern: str, rng: random.Random) -> str:
    """A text in which the regular expression is found. Raises NotMade where 40 tries find none, as for rare means."""
    compiled = re.compile(pattern)
    for _ in range(_TRIES):
        groups: dict[int, str] = {}
        text = _sequence(parser.parse(pattern), rng, groups, None)
        if compiled.search(text):
            return text
    raise NotMade


def _sequence(items: Any, rng: random.Random, groups: dict[int, str], spare: list[int] | None) -> str:
    """`spare` holds how many characters repetitions should add to the shortest text; None: a few, by chance."""
    return "".join(_piece(op, argument, rng, groups, spare) for op, argument in items)


def _piece(op: Any, argument: Any, rng: random.Random, groups: dict[int, str], spare: list[int] | None) -> str:
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        return _repeated(*argument, rng, groups, spare)
    if op is ops.SUBPATTERN:
        text = _sequence(argument[-1], rng, groups, spare)
        if argument[0] is not None:
            groups[argument[0]] = text
        return text
    if op is ops.BRANCH:
        return _sequence(rng.choice(argument[1]), rng, groups, spare)
    if op is ops.GROUPREF:
        return groups.get(argument, "")
    if op in (ops.AT, ops.ASSERT, ops.ASSERT_NOT):  # whether it holds is seen in the end
        return ""
    return _character(op, argument, rng)


def _repeated(low: Any, high: Any, body: Any, *rest: Any) -> str:
    rng, groups, spare = rest
    if spare is None:
        times = rng.randint(low, min(high, low + 4)) if high is not ops.MAXREPEAT else low + rng.randint(0, 4)
        return "".join(_sequence(body, rng, groups, None) for _ in range(times))
    pieces = [_sequence(body, rng, groups, spare) for _ in range(low)]
    goes_on = rng.choice((0.5, 0.9, 1.0))  # so that the first of several repetitions does not always take it all
    while spare[0] > 0 and (high is ops.MAXREPEAT or len(pieces) < high) and rng.random() < goes_on:
        pieces.append(_sequence(body, rng, groups, [0]))
        spare[0] -= max(1, len(pieces[-1]))
    return "".join(pieces)


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
