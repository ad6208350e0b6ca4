"""Says, before a regular expression is used, how many steps a search can take at most.

A backtracking engine tries every way in which the text can be divided among the repeats of a pattern. Where each
repeat's body matches in one way only, n characters and k repeats give about n**k ways, a number that can be looked at
beforehand; where a repeat's body can itself match in several ways, `(a+)+`, it is exponential, and infinite here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Ways = Callable[[int], float]  # length of the text -> in how many ways at most

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_GROUPS: dict[Any, Callable[[Any], Any]] = {  # what holds a sequence -> where in its argument
    ops.SUBPATTERN: lambda argument: argument[-1],
    ops.ASSERT: lambda argument: argument[1],
    ops.ASSERT_NOT: lambda argument: argument[1],
    ops.ATOMIC_GROUP: lambda argument: argument,
}


@functools.lru_cache(maxsize=512)
def steps_of(pattern: str) -> Callable[[int], float]:
    """A function that bounds the steps of `re.search(pattern, text)` by the length of the text.

    Infinite for a pattern that may be exponential, or that the parser has no words for.
    """
    try:
        parsed = parser.parse(pattern)
        ways = _sequence(parsed)
        start = parsed[0] if len(parsed) else None
    except Exception:  # noqa: BLE001 - the parser is private to Python: whatever it raises means "not known"
        return lambda length: math.inf
    anchored = start is not None and start[0] is ops.AT and start[1] in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING)
    each = 1 + max(len(pattern), parsed.getwidth()[0]) / 8
    refers = "(?P=" in pattern or any(f"\\{n}" in pattern for n in range(1, 10))  # comparing a group costs its length

    def steps(length: int) -> float:
        factor: float = each
        return ways(length) * factor * (1 if anchored else length + 1) * (length + 1 if refers else 1)

    return steps


def _product(parts: Sequence[Ways]) -> Ways:
    if len(parts) == 1:
        return parts[0]

    def product(length: int) -> float:
        total = 1.0
        for part in parts:
            total *= part(length)
        return total

    return product


def _one(length: int) -> float:
    return 1.0


def _sequence(items: Any) -> Ways:
    parts = [ways for item in items if (ways := _item(*item)) is not _one]
    return _product(parts) if parts else _one


def _item(op: Any, argument: Any) -> Ways:
    if op in _REPEATS:
        return _repeat(*argument)
    if op is ops.BRANCH:
        branches = [_sequence(branch) for branch in argument[1]]
        return lambda length: sum(branch(length) for branch in branches)
    if op in _GROUPS:
        return _sequence(_GROUPS[op](argument))
    if op is ops.GROUPREF_EXISTS:
        _, yes, no = argument
        return _product([_sequence(yes), _sequence(no or ())])
    return _one


def _repeat(low: int, high: Any, body: Any) -> Ways:
    inner = _sequence(body)
    if high == low and inner is _one:
        return _one
    width = body.getwidth()
    if inner is not _one or width[0] != width[1]:
        return _several(inner, high)
    span = math.inf if high is ops.MAXREPEAT else high - low + 1
    return lambda length: min(length + 1, span)


def _several(inner: Ways, high: Any) -> Ways:
    """A repeat whose body matches in several ways: they multiply with every round."""
    if high is ops.MAXREPEAT or high > 8:
        return lambda length: math.inf

    def rounds(length: int) -> float:
        ways = inner(length) + 1
        return math.inf if ways > 1e9 else float(ways**high)

    return rounds
