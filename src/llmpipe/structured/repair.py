"""Mends almost-JSON with the json-repair package, and keeps it from making anything up."""

from __future__ import annotations

import json
from typing import Any

from llmpipe.errors import ConfigError, NotJson, Place, Problem
from llmpipe.json_numbers import read_number
from llmpipe.late import late
from llmpipe.structured.measure import MAX_DEPTH, NotPlain, measure
from llmpipe.structured.mended import says_the_same

_BRACKET = late(r"[\[\]{}]")
_CLOSES = {"{": "}", "[": "]"}
_LONGEST = 200_000  # characters, at about 15 us each
_SLOW = late(r"\\{64}")  # what json-repair takes a time for that grows with the square


def repaired(text: str, failure: NotJson) -> Any:
    """The value that json-repair reads in the text.

    Raises `failure` again where mending would mean inventing or losing: if the text breaks off, if the outermost
    bracket is not its own, or if what comes out does not say what stands in the text. Raises ConfigError if
    json-repair is not installed.
    """
    try:
        import json_repair
    except ImportError:
        note = "pip install --no-deps json-repair"
        problem = Problem("C241", "`repair` needs the package json-repair", Place("schema"), hint=note, note=note)
        raise ConfigError([problem]) from None
    whole = _outermost(text)
    if whole is None or len(whole) > _LONGEST or _SLOW.search(whole) or "it breaks off" in failure.message:
        raise failure
    try:
        value: Any = json_repair.loads(whole, skip_json_loads=True)
        measure(value)
        value = json.loads(
            json.dumps(value), parse_float=read_number
        )  # joins surrogate pairs, which come out as two halves
        json.dumps(value, ensure_ascii=False).encode()  # half of one is no text
    except (ValueError, RecursionError, NotPlain):
        raise failure from None
    if not isinstance(value, dict if whole[0] == "{" else list):
        raise failure
    if not says_the_same(value, whole):
        raise failure
    return value


def _outermost(text: str) -> str | None:
    """From the first bracket to its like at the end; None if the text breaks off before."""
    starts = [at for mark in _CLOSES if (at := text.find(mark)) >= 0]
    if not starts:
        return None
    text = text[min(starts) :].rstrip().removesuffix("```").rstrip()
    balanced = all(text.count(mark) == text.count(close) for mark, close in _CLOSES.items())
    return text if balanced and text.endswith(_CLOSES[text[0]]) and _deepest(text) <= MAX_DEPTH else None


def _deepest(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in _CLOSES else -1
        deepest = max(deepest, depth)
    return deepest
