"""Tells whether a value that was made of almost-JSON says what the text says: nothing more, nothing less.

Both are brought to what they say without the marks of JSON, name by name and value by value in their order:
    {'a': 1.50, "b": "x y",}      a 1.5 b xy
A text that is mended wrongly (a value lost, one of two names, a unit cut off) differs there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from llmpipe.late import late

_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00b4"
_MARKS = late(rf"[\s\x00-\x1f,:;=\[\]{{}}\\{_QUOTES}]+")
_ESCAPE = late(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_NUMBER = late(r"(?<![\w.+-])[+-]?(?:0|[1-9][0-9]{0,60})(?:\.[0-9]{0,60})?(?:[eE][+-]?[0-9]{1,5})?(?![\w.])")
_WORD = late(r"\b(?:True|False|None)\b")
_WORDS = {"True": "true", "False": "false", "None": "null"}
_NO_WORDS = frozenset(("undefined", "NaN", "Infinity", "-Infinity"))
_COMMENTS = (late(r"/\*.*?\*/", re.DOTALL), late(r"//[^\n]*"), late(r"#[^\n]*"))


def says_the_same(value: Any, text: str) -> bool:
    """Whether `value` holds all that stands in `text`, comments aside, in its order, and every text whole."""
    wanted = "".join(_plain(_spelled(leaf)) for leaf in _in_order(value))
    if all(_plain(_unescaped(variant)) != wanted for variant in _without_comments(text)):
        return False
    texts = [leaf for leaf in _in_order(value) if isinstance(leaf, str)]
    if texts.count("") > text.count('""') + text.count("''"):
        return False
    return all(_is_whole(leaf, text) for leaf in dict.fromkeys(texts) if leaf)


def _in_order(value: Any) -> Iterator[Any]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [part for pair in reversed(item.items()) for part in reversed(pair)]
        elif isinstance(item, list):
            stack += reversed(item)
        else:
            yield item


def _spelled(leaf: Any) -> str:
    return leaf if isinstance(leaf, str) else json.dumps(leaf)


def _plain(text: str) -> str:
    text = _WORD.sub(lambda found: _WORDS[found[0]], _NUMBER.sub(_number, text))
    return _MARKS.sub("", text)


def _number(found: re.Match[str]) -> str:
    try:
        return str(Decimal(found[0]).normalize())
    except InvalidOperation:
        return found[0]


def _unescaped(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return " " if found[2] in "nrtbf" else str(found[2])

    joined = _ESCAPE.sub(character, text)
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs of escapes are one character


def _without_comments(text: str) -> Iterator[str]:
    """The text, then without comments of one kind after the other: what looks like one may stand inside a text."""
    yield text
    for comment in _COMMENTS:
        yield comment.sub(" ", text)
    for comment in _COMMENTS:
        text = comment.sub(" ", text)
        yield text


def _is_whole(leaf: str, text: str) -> bool:
    """Whether a text or name stands in the text between quotes, or between none and is a word then."""
    bare = leaf not in _NO_WORDS and any(letter.isalnum() for letter in leaf)
    for spelled in dict.fromkeys((leaf, json.dumps(leaf)[1:-1], json.dumps(leaf, ensure_ascii=False)[1:-1])):
        at = text.find(spelled)
        while at >= 0:
            before, after = text[at - 1 : at], text[at + len(spelled) : at + len(spelled) + 1]
            quoted = bool(before) and before in _QUOTES
            if quoted == (bool(after) and after in _QUOTES) and (quoted or bare):
                return True
            at = text.find(spelled, at + 1)
    return False
