"""Mends almost-JSON with the json-repair package, and keeps it from making anything up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llmpipe.errors import ConfigError, NotJson, Place, Problem
from llmpipe.structured.measure import NotPlain, measure

_CLOSES = {"{": "}", "[": "]"}
_SPELLED: dict[Any, tuple[str, ...]] = {True: ("true", "True"), False: ("false", "False"), None: ("null", "None")}


def repaired(text: str, failure: NotJson) -> Any:
    """The value that json-repair reads in the text.

    Raises `failure` again where mending would mean inventing: if the text breaks off, if the outermost bracket is not
    its own, or if a name, text or number comes out that does not stand in it. Raises ConfigError if json-repair is
    not installed.
    """
    try:
        import json_repair
    except ImportError:
        note = "pip install 'llmpipe[repair]'"
        problem = Problem("C241", "`repair` needs the package json-repair", Place("schema"), hint=note, note=note)
        raise ConfigError([problem]) from None
    whole = _outermost(text)
    if whole is None:
        raise failure
    try:
        value: Any = json_repair.loads(whole, skip_json_loads=True)
        measure(value)
    except (ValueError, RecursionError, NotPlain):
        raise failure from None
    if not isinstance(value, dict if whole[0] == "{" else list):
        raise failure
    if not all(_stands_in(leaf, whole) for leaf in _leaves(value)):
        raise failure
    return value


def _outermost(text: str) -> str | None:
    """From the first bracket to its like at the end; None if the text breaks off before."""
    starts = [at for mark in _CLOSES if (at := text.find(mark)) >= 0]
    if not starts:
        return None
    text = text[min(starts) :].rstrip().removesuffix("```").rstrip()
    balanced = all(text.count(mark) == text.count(close) for mark, close in _CLOSES.items())
    return text if balanced and text.endswith(_CLOSES[text[0]]) else None


def _leaves(value: Any) -> Iterator[Any]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [*item, *item.values()]
        elif isinstance(item, list):
            stack += item
        else:
            yield item


def _stands_in(leaf: Any, text: str) -> bool:
    """Whether a name, text, number, true, false or null was written in the text, and not made up."""
    if isinstance(leaf, bool) or leaf is None:
        return any(word in text for word in _SPELLED[leaf])
    if isinstance(leaf, str):
        if not leaf:
            return '""' in text or "''" in text
        spellings = (leaf, json.dumps(leaf)[1:-1], json.dumps(leaf, ensure_ascii=False)[1:-1])
        return any(spelled in text for spelled in spellings)
    return str(leaf) in text or str(leaf).removesuffix(".0") in text
