"""What a template reads from its surroundings, and what it may not do: one walk over its tree."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from llmpipe.config.template_engine import FUNCTIONS, SANDBOX
from llmpipe.config.template_filters import LOOP, METHOD, METHODS
from llmpipe.config.template_numbers import Meeting, meetings
from llmpipe.frozen import frozen
from llmpipe.json_numbers import one_form

_FORBIDDEN: dict[type, str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


@frozen
class Chain:
    """A dotted or subscripted path with constant parts: `steps.label["priority"]`.

    `local`: it starts at a name of the template's own. `guarded`: tested by `is defined` or given a `default`.
    """

    path: tuple[str, ...]
    position: int
    local: bool
    guarded: bool
    exact: bool = True  # False: it goes on with a part that only the rendering knows (`item.tags[loop.index0]`)


@frozen
class Fault:
    """Something that a template may not do."""

    code: str
    message: str
    position: int
    width: int
    hint: str = ""


@dataclass(slots=True)
class Findings:
    """All that one walk finds."""

    chains: list[Chain] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)


def examine(tree: nodes.Template) -> Findings:
    """Walk over the tree, list what it reads, and compile loops and method calls to their metered forms (in place)."""
    _Metered().visit(tree)
    walk = _Walk()
    walk.block(tree.body, set())
    return walk.findings


def _weight(loop: nodes.For) -> int:
    """What one round of a loop costs besides what meters itself: its fixed text and its nodes."""
    text = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
    return 1 + (text >> 4) + sum(1 for _ in loop.find_all(nodes.Expr)) // 8


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


class _Metered(NodeTransformer):
    """Puts the meter before every loop, and makes method calls filters, so that no method can be had as a value."""

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        node.value = one_form(node.value)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's name
        weight = nodes.Const(_weight(node), lineno=node.lineno)
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, LOOP, [weight], [], None, None, lineno=node.iter.lineno)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        callee = node.node
        if not isinstance(callee, nodes.Getattr):
            return node
        rest = (node.args, node.kwargs, node.dyn_args, node.dyn_kwargs)
        return nodes.Filter(callee.node, METHOD + callee.attr, *rest, lineno=callee.lineno)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node.call)
        node.body = [self.visit(child) for child in node.body]
        return node


class _Walk:
    """The walk; `local` is the set of names that the template itself has bound so far, at this depth."""

    def __init__(self) -> None:
        self.findings = Findings()

    def fault(self, code: str, message: str, node: nodes.Node, *, width: int = 1, hint: str = "") -> None:
        self.findings.faults.append(Fault(code, message, node.lineno - 1, width, hint))

    def block(self, body: list[nodes.Node], local: set[str]) -> None:
        for node in body:
            self.node(node, local)

    def node(self, node: Any, local: set[str]) -> None:
        """One node, by the method of its class, else all its children."""
        if node is None:
            return
        self.findings.meetings += meetings(node, local.__contains__)
        special = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if special is not None:
            special(node, local)
        elif type(node) in _FORBIDDEN:
            word = _FORBIDDEN[type(node)]
            self.fault("C241", f"{{% {word} %}} is not available in templates", node, width=len(word))
        else:
            for child in node.iter_child_nodes():
                self.node(child, local)
        if isinstance(node, nodes.Expr):
            _begin_where_it_begins(node)

    # Paths

    def on_name(self, node: nodes.Name, local: set[str], guarded: bool = False) -> None:
        self.chain(node, local, guarded)

    def on_getattr(self, node: nodes.Getattr, local: set[str]) -> None:
        self.chain(node, local, False)

    def on_getitem(self, node: nodes.Getitem, local: set[str]) -> None:
        self.chain(node, local, False)

    def chain(self, node: nodes.Node, local: set[str], guarded: bool) -> None:
        """Note the path that ends at `node`; what is not constant in it is walked over by itself."""
        parts: list[tuple[str | None, nodes.Node]] = []
        last = node
        while isinstance(node, (nodes.Getattr, nodes.Getitem)):
            if isinstance(node, nodes.Getattr):
                parts.append((node.attr, node))
            else:
                constant = isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
                parts.append((node.arg.value if constant else None, node))  # type: ignore[attr-defined]
                if not constant:
                    self.node(node.arg, local)
            node = node.node
        if not isinstance(node, nodes.Name):
            self.node(node, local)
        last.lineno = node.lineno
        if not isinstance(node, nodes.Name):
            return
        path = [node.name]
        for part, _ in reversed(parts):
            if part is None:
                break
            path.append(part)
        own = node.name in local
        if own or node.name not in FUNCTIONS:
            exact = len(path) == len(parts) + 1
            self.findings.chains.append(Chain(tuple(path), node.lineno - 1, own, guarded and exact, exact))

    # Filters, tests, calls

    def on_filter(self, node: nodes.Filter, local: set[str]) -> None:
        name = node.name
        if name.startswith(METHOD):
            method = name.removeprefix(METHOD)
            if method not in METHODS:
                hint = _suggest(method, sorted(METHODS))
                self.fault("C243", f"there is no method {method}()", node, width=len(method) + 1, hint=hint)
        elif name not in SANDBOX.filters:
            known = sorted(name for name in SANDBOX.filters if " " not in name)
            self.fault("C242", f"there is no filter {name!r}", node, width=len(name), hint=_suggest(name, known))
        self.guardable(node.node, local, node.name in ("default", "d"))
        self.arguments(node, local)

    def on_test(self, node: nodes.Test, local: set[str]) -> None:
        if node.name not in SANDBOX.tests:
            hint = _suggest(node.name, list(SANDBOX.tests))
            self.fault("C242", f"there is no test {node.name!r}", node, hint=hint)
        self.guardable(node.node, local, node.name in ("defined", "undefined"))
        self.arguments(node, local)

    def guardable(self, node: nodes.Node | None, local: set[str], guarded: bool) -> None:
        if isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            self.chain(node, local, guarded)
        else:
            self.node(node, local)

    def arguments(self, node: nodes.Filter | nodes.Test | nodes.Call, local: set[str]) -> None:
        for child in (*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs):
            self.node(child, local)

    def on_call(self, node: nodes.Call, local: set[str]) -> None:
        """Calls of functions and macros by name stay; method calls were rewritten before."""
        callee = node.node
        if not isinstance(callee, nodes.Name):
            self.node(callee, local)
            self.fault("C243", "only functions, macros and methods can be called", callee)
        elif callee.name not in local and callee.name not in FUNCTIONS:
            hint = _suggest(callee.name, [*FUNCTIONS, *local])
            self.fault("C243", f"there is no function {callee.name!r}", callee, width=len(callee.name), hint=hint)
        self.arguments(node, local)

    # What binds names

    def on_for(self, node: nodes.For, local: set[str]) -> None:
        self.node(node.iter, local)
        inner = local | _bound(node.target) | {"loop"}
        self.node(node.test, inner)
        self.block(node.body, inner)
        self.block(node.else_, set(local))

    def on_assign(self, node: nodes.Assign, local: set[str]) -> None:
        self.node(node.node, local)
        local |= _bound(node.target)

    def on_assignblock(self, node: nodes.AssignBlock, local: set[str]) -> None:
        self.node(node.filter, local)
        self.block(node.body, set(local))
        local |= _bound(node.target)

    def on_filterblock(self, node: nodes.FilterBlock, local: set[str]) -> None:
        self.node(node.filter, local)
        self.block(node.body, set(local))

    def on_with(self, node: nodes.With, local: set[str]) -> None:
        for value in node.values:
            self.node(value, local)
        self.block(node.body, local.union(*map(_bound, node.targets)))

    def on_macro(self, node: nodes.Macro, local: set[str]) -> None:
        local.add(node.name)
        self.macro_body(node, local)

    def on_callblock(self, node: nodes.CallBlock, local: set[str]) -> None:
        self.node(node.call, local)
        self.macro_body(node, local)

    def macro_body(self, node: nodes.Macro | nodes.CallBlock, local: set[str]) -> None:
        for default in node.defaults:
            self.node(default, local)
        self.block(node.body, local | {arg.name for arg in node.args} | {"caller", "varargs", "kwargs"})


def _begin_where_it_begins(node: nodes.Expr) -> None:
    """Jinja places an expression at its operator; errors look for it at its first character."""
    node.lineno = min([node.lineno, *(child.lineno for child in node.iter_child_nodes() if child.lineno)])


def _bound(target: nodes.Node) -> set[str]:
    """The names that an assignment to `target` binds."""
    if isinstance(target, nodes.Name):
        return {target.name}
    return {name.name for name in target.find_all(nodes.Name) if name.ctx in ("store", "param")}
