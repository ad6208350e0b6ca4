"""Looks over a value before anything else does: is it JSON, and is it small enough to be checked."""

from __future__ import annotations

from typing import Any

from llmpipe.frozen import frozen

MAX_DEPTH = 128
MAX_NODES = 500_000
MAX_ITEMS = 100_000


@frozen
class Measure:
    """How large a value is: values in it, and the longest text or name."""

    nodes: int
    longest: int


class NotPlain(Exception):
    """The value is not JSON, or larger than the caps. `kind`: not_json or too_large."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message
        super().__init__(message)


def measure(value: Any) -> Measure:
    """The size of a value. Raises NotPlain for NaN, infinities, foreign types and what is over the caps."""
    nodes, longest, depth = 0, 0, 0
    level = [value]
    while level:
        nodes += len(level)
        if depth > MAX_DEPTH:
            raise NotPlain("too_large", f"it is nested deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise NotPlain("too_large", f"it holds more than {MAX_NODES} values")
        below: list[Any] = []
        for item in level:
            kind = item.__class__
            if kind is str:
                longest = max(longest, len(item))
            elif kind is dict:
                below.extend(item.values())
                for name in item:
                    if name.__class__ is not str:
                        raise NotPlain("not_json", f"a name is a {type(name).__name__}, not text")
                    longest = max(longest, len(name))
            elif kind is list:
                if len(item) > MAX_ITEMS:
                    raise NotPlain("too_large", f"a list holds more than {MAX_ITEMS} items")
                below.extend(item)
            else:
                _check_scalar(item, kind)
        level = below
        depth += 1
    return Measure(nodes, longest)


def _check_scalar(item: Any, kind: type) -> None:
    if kind is float:
        if item != item or item in (float("inf"), float("-inf")):
            raise NotPlain("not_json", "it holds NaN or an infinity, which JSON does not have")
    elif kind is not int and kind is not bool and item is not None:
        raise NotPlain("not_json", f"it holds a {kind.__name__}, which JSON does not have")
