"""Equality and multiples of JSON values as jsonschema sees them, and uniqueness in about linear time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def canonical(value: Any) -> str:
    """A text that two JSON values share exactly if they are equal: 1 is 1.0, and true is not 1.

    Text rather than nested tuples, because the hash of text is seeded: nobody can craft colliding numbers.
    """
    if isinstance(value, str):
        return repr(value)
    if value is None or isinstance(value, bool):
        return f"{value}"
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, float):
        return hex(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{key!r}:{canonical(item)}" for key, item in value.items())) + "}"
    return "[" + ",".join([canonical(item) for item in value]) + "]"


def are_unique(items: Sequence[Any]) -> bool:
    """Whether no two items are equal.

    jsonschema compares each pair of what it cannot sort, which takes over 20 s for 3,000 objects (facts C).
    """
    if all(type(item) is str for item in items):
        return len(set(items)) == len(items)
    return len({canonical(item) for item in items}) == len(items)


def is_multiple(value: Any, step: Any) -> bool:
    """Whether a number is a multiple: 0.3 is none of 0.1, since neither is what it says.

    Exact where a float cannot hold the quotient, on which jsonschema raises OverflowError.
    """
    if not isinstance(step, float):
        return not value % step
    try:
        quotient = value / step
        return bool(int(quotient) == quotient)
    except OverflowError:
        return (Fraction(value) / Fraction(step)).denominator == 1
