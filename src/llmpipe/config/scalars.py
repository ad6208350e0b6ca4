"""What a plain YAML scalar means: the core schema of YAML 1.2, narrowed to what nobody misreads.

`no`, `on`, `1:30`, `010`, `1_000` and dates stay text; `1e-3` is a number; there are no infinities and no NaN.
"""

from __future__ import annotations

from typing import Any

from llmpipe.config.nodes import Kind
from llmpipe.json_numbers import UnkeptNumber, read_float
from llmpipe.late import late

_WORDS: dict[str, tuple[Kind, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    **dict.fromkeys(("true", "True", "TRUE"), ("bool", True)),
    **dict.fromkeys(("false", "False", "FALSE"), ("bool", False)),
}
_INT = late(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_BASED = late(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = late(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_FIRST = frozenset("~nNtTfF-+.0123456789")
MAX_DIGITS = 400


class BadNumber(ValueError):
    """A number that would be another one after reading, or has too many digits."""


def resolve(text: str) -> tuple[Kind, Any]:
    """The kind and value of a plain scalar. Raises BadNumber."""
    if text and text[0] not in _FIRST:
        return "str", text
    word = _WORDS.get(text)
    if word is not None:
        return word
    if _INT.match(text) or _BASED.match(text):
        if len(text) > MAX_DIGITS:
            raise BadNumber("a number of more than 400 digits")
        return "int", int(text, 0) if _BASED.match(text) else int(text)
    if _FLOAT.match(text):
        try:
            return "float", read_float(text)
        except UnkeptNumber as error:
            raise BadNumber(str(error)) from None
    return "str", text
