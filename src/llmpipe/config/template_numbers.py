"""Where a template takes something for a number: what is compared, computed or tested with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from jinja2 import nodes

from llmpipe.config.template_filters import METHOD
from llmpipe.frozen import frozen

_NUMBERS = frozenset("abs count float int length round sum wordcount".split())  # filters that give one
_TEXTS = frozenset("capitalize d default lower replace string title trim upper".split())  # that leave a text a text
_METHODS = frozenset(
    METHOD + name for name in "capitalize casefold lower lstrip removeprefix removesuffix replace rstrip strip".split()
) | {METHOD + name for name in ("title", "upper")}
_COMPARING = frozenset("!= < <= == > >= eq equalto ge greaterthan gt le lessthan lt ne sameas".split())
_ABOUT_NUMBERS = frozenset("divisibleby even odd".split())
_OF_NUMBERS = frozenset({"abs", "round"})
_ALONE = frozenset("float integer number".split())
_ARITHMETIC = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow)


@frozen
class Side:
    """What stands on one side: a path from outside (at `position`); or, without one, a value of a known type."""

    path: tuple[str, ...]
    position: int = 0
    type: Literal["number", "boolean"] = "number"


@frozen
class Meeting:
    """Two values that are compared or computed with each other. `never`: the test that no text passes."""

    left: Side
    right: Side
    is_compared: bool
    never: str = ""


_NUMBER = Side(())
_BOOLEAN = Side((), type="boolean")
Known = Callable[[str], bool]  # whether a name is one of the template's own


def meetings(node: nodes.Node, is_local: Known) -> Iterator[Meeting]:
    """The pairs that meet in one node, as far as anything can be known about both."""
    for left, right in _pairs(node):
        one, other = side(left, is_local), side(right, is_local) if right is not None else _NUMBER
        if one is not None and other is not None and (one.path or other.path):
            never = f"is {node.name}" if isinstance(node, nodes.Test) and node.name in _ALONE else ""
            yield Meeting(one, other, isinstance(node, (nodes.Compare, nodes.Test)), never)


def _pairs(node: nodes.Node) -> Iterator[tuple[nodes.Node, nodes.Node | None]]:
    if isinstance(node, nodes.Compare):
        left: nodes.Node = node.expr
        for operand in node.ops:
            if operand.op in ("in", "notin"):
                yield from ((left, item) for item in _items(operand.expr))
            else:
                yield left, operand.expr
            left = operand.expr
    elif isinstance(node, nodes.Test):
        if node.args and node.name in _COMPARING:
            yield node.node, node.args[0]
        elif node.args and node.name == "in":
            yield from ((node.node, item) for item in _items(node.args[0]))
        elif node.name in _ABOUT_NUMBERS or node.name in _ALONE:
            yield node.node, None
    elif isinstance(node, _ARITHMETIC):
        yield node.left, node.right
    elif isinstance(node, (nodes.Neg, nodes.Pos)) or (isinstance(node, nodes.Filter) and node.name in _OF_NUMBERS):
        yield node.node or nodes.Const(None), None


def _items(node: nodes.Node) -> list[nodes.Expr]:
    return node.items if isinstance(node, (nodes.List, nodes.Tuple)) else []


def side(node: nodes.Node | None, is_local: Known) -> Side | None:
    """What is known about an expression; None if nothing is."""
    if isinstance(node, nodes.Const):
        kind = _BOOLEAN if isinstance(node.value, bool) else _NUMBER
        return kind if isinstance(node.value, int | float) else None
    if isinstance(node, (nodes.Neg, nodes.Pos)) or (isinstance(node, nodes.Filter) and node.name in _NUMBERS):
        return _NUMBER
    if isinstance(node, _ARITHMETIC):
        return _NUMBER if _NUMBER in (side(node.left, is_local), side(node.right, is_local)) else None
    if isinstance(node, nodes.Or):
        return side(node.left, is_local)
    if isinstance(node, nodes.Filter):
        return side(node.node, is_local) if node.name in _TEXTS or node.name in _METHODS else None
    return _path(node, is_local)


def _path(node: nodes.Node | None, is_local: Known) -> Side | None:
    parts: list[str] = []
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            parts.append(node.arg.value)
        else:
            return None
        node = node.node
    if not isinstance(node, nodes.Name) or is_local(node.name):
        return None
    return Side((node.name, *reversed(parts)), node.lineno - 1)
