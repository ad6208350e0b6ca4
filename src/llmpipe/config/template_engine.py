"""The sandbox in which templates run: Jinja with plain data only, exact positions and a meter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType
from typing import Any

from jinja2 import StrictUndefined, TemplateRuntimeError, TemplateSyntaxError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.lexer import TokenStream
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace, missing

from llmpipe.config.template_filters import build_filters, kind_of, percent_format
from llmpipe.config.template_values import (
    Entries,
    Meter,
    NotDataError,
    TooLargeError,
    as_text,
    bounded,
    equal,
    within,
)
from llmpipe.config.text_cells import TextCell

CALL_WORK = 20  # a call of a macro is dearer than a round of a loop
MAX_DIGITS = 1000  # of a whole number that a template computes
RESULT = "_value_of_the_expression"
FUNCTIONS: Mapping[str, Any] = {
    "range": safe_range,
    **{name: DEFAULT_NAMESPACE[name] for name in ("dict", "cycler", "joiner", "namespace")},
}


_EQUALITY: Mapping[str, str] = {
    "eq": "(environment.equal(",
    "ne": "(not environment.equal(",
    "in": "(environment.within(",
    "notin": "(not environment.within(",
}


class MissingError(TemplateRuntimeError):
    """A name that is not there was used: `name` of `owner` (`missing` for a name of the scope itself)."""

    def __init__(self, message: str, *, owner: Any, name: Any) -> None:
        super().__init__(message)
        self.owner, self.name = owner, name


class Absent(StrictUndefined):
    """An undefined value that remembers what was looked for and where."""

    __slots__ = ()

    def __init__(self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = None) -> None:
        make: Any = exc or partial(MissingError, owner=obj, name=None if hint else name)
        super().__init__(hint, obj, name, make)


class MeteredContext(Context):
    """The names of one rendering, with its meter."""

    def __init__(self, environment: Sandbox, parent: dict[str, Any], meter: Meter) -> None:
        self.parent = parent
        self.vars = {}
        self.environment = environment
        self.eval_ctx = environment.eval_context
        self.exported_vars = set()
        self.name = None
        self.globals_keys = set()
        self.blocks = {}
        self.meter = meter


class Generator(CodeGenerator):
    """Compiles `~` to a concatenation that knows our text forms and its limit, `==` and `in` to JSON's equality."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        call = _EQUALITY.get(node.ops[0].op) if len(node.ops) == 1 else None
        if call is None:
            super().visit_Compare(node, frame)
            return
        self.write(call)
        self.visit(node.expr, frame)
        self.write(", ")
        self.visit(node.ops[0].expr, frame)
        self.write("))")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - the visitor's name
        self.write("environment.concatenate(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


@pass_context
def _finalize(context: Any, value: Any) -> str:
    text = value if type(value) is str else as_text(value)
    context.meter.charge(1 + (len(text) >> 4))
    return text


class Sandbox(ImmutableSandboxedEnvironment):
    """Plain data in, text out. Columns win over everything; what is no data cannot be reached."""

    code_generator_class = Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    equal = staticmethod(equal)
    within = staticmethod(within)

    def __init__(self) -> None:
        super().__init__(undefined=Absent, finalize=_finalize, autoescape=False, optimized=False, cache_size=0)
        self.filters = build_filters()
        self.tests = {name: test for name, test in self.tests.items() if name not in ("callable", "escaped")}
        self.tests |= dict.fromkeys(("eq", "==", "equalto"), equal) | {"in": within}
        self.tests |= dict.fromkeys(("ne", "!="), lambda one, other: not equal(one, other))
        self.globals = dict(FUNCTIONS)
        self.eval_context = EvalContext(self)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: a mapping's entry, a count of a list of results, or a part of Jinja's own loop objects."""
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except KeyError:
                return Absent(obj=obj, name=attribute)
        if _has_attribute(obj, attribute):
            try:
                return getattr(obj, attribute)
            except AttributeError:
                return Absent(f"{attribute} is not defined; a {type(obj).__name__.lower()} does not have it")
        return self._no_entry(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`: an entry of a mapping, a list or a text."""
        if isinstance(obj, (Mapping, list, tuple, str, Entries, range)):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                if not isinstance(argument, str):
                    return Absent(obj=obj, name=argument)
        return self.getattr(obj, argument) if isinstance(argument, str) else self._no_entry(obj, argument)

    def _no_entry(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        return Absent(obj=obj, name=argument)

    def concatenate(self, context: MeteredContext, parts: tuple[Any, ...]) -> str:
        """`a ~ b`."""
        texts = [as_text(part) for part in parts]
        bounded(sum(map(len, texts)))
        text = "".join(texts)
        context.meter.charge_for(text)
        return text

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja calls it
        """Calls of macros and of the few functions; everything else is refused."""
        if isinstance(__obj, Undefined):
            __obj._fail_with_undefined_error()
        if not (isinstance(__obj, (Macro, LoopContext, Joiner)) or any(__obj is f for f in FUNCTIONS.values())):
            raise NotDataError(f"{kind_of(__obj)} cannot be called")
        kwargs.pop("_loop_vars", None)  # how compiled code hands a loop's names to functions that ask for the context
        kwargs.pop("_block_vars", None)
        __context.meter.charge(CALL_WORK)
        for value in args:
            __context.meter.charge_for(value)
        result = __obj(*args, **kwargs)
        __context.meter.charge_for(result)
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` and `%`, which can make things of any size out of nothing."""
        result = _BINOPS[operator](left, right)
        context.meter.charge_for(result)
        return result

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        """As Jinja does it, but what it calls a line number is the position in the text plus one."""
        return TokenStream(self.lexer.wrap(self._positions(source, state)), name, filename)

    def _positions(self, source: str, state: str | None) -> Iterator[tuple[int, str, str]]:
        position = 0
        try:
            for _, token, text in self.lexer.tokeniter(source, None, None, state):
                position = source.find(text, position)
                yield position + 1, token, text
                position += len(text)
        except TemplateSyntaxError as error:
            blank = len(source) - position - len(source[position:].lstrip())
            message = (error.message or "syntax error").rpartition(" at ")[0] or error.message
            raise TemplateSyntaxError(message or "", position + blank + 1) from error


def _has_attribute(obj: Any, attribute: str) -> bool:
    if attribute.startswith("_"):
        return False
    if isinstance(obj, Entries):
        return attribute in ("failed", "skipped")
    if isinstance(obj, tuple):
        return attribute in getattr(obj, "_fields", ())
    return isinstance(obj, (LoopContext, Cycler, Namespace))


def _add(left: Any, right: Any) -> Any:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        bounded(len(left) + len(right))
    return operator.add(left, right)


def _multiply(left: Any, right: Any) -> Any:
    for sized, times in ((left, right), (right, left)):
        if hasattr(sized, "__len__") and isinstance(times, int):
            bounded(len(sized) * times)
    if isinstance(left, int) and isinstance(right, int):
        _check_digits(left.bit_length() + right.bit_length())
    return operator.mul(left, right)


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_digits(max(left.bit_length(), 1) * abs(right))
    return operator.pow(left, right)


def _check_digits(bits: int) -> None:
    if bits > MAX_DIGITS * 3.33:
        raise TooLargeError(f"a number would have more than {MAX_DIGITS} digits")


def _remainder(left: Any, right: Any) -> Any:
    is_format = isinstance(left, str) and not (isinstance(left, TextCell) and isinstance(right, int | float))
    return percent_format(left, right) if is_format else operator.mod(left, right)


_BINOPS: Mapping[str, Callable[[Any, Any], Any]] = {"+": _add, "*": _multiply, "**": _power, "%": _remainder}


class Program:
    """A compiled template: run it with `start(context)`; tells where in the template its Python lines come from."""

    def __init__(self, environment: Sandbox, code: CodeType) -> None:
        self.names: dict[str, Any] = {"environment": environment, "__file__": "<template>"}
        exec(code, self.names)  # noqa: S102 - Jinja's own output; this is how it runs templates
        self.environment = environment
        self.start: Callable[[MeteredContext], Iterator[str]] = self.names["root"]

    def context(self, scope: Mapping[str, Any], meter: Meter) -> MeteredContext:
        """What `start` needs."""
        return MeteredContext(self.environment, {**FUNCTIONS, **scope}, meter)

    def position(self, error: BaseException) -> int:
        """The position in the template of the part in which `error` was raised; 0 if it is not known."""
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals is self.names:
                line = trace.tb_lineno
            trace = trace.tb_next
        if line is None:
            return 0
        found = 0
        for pair in filter(None, self.names["debug_info"].split("&")):
            position, _, python_line = pair.partition("=")
            if int(python_line) > line:
                break
            found = int(position) - 1
        return found


SANDBOX = Sandbox()


def parse_template(text: str) -> nodes.Template:
    """The tree of a template. Raises TemplateSyntaxError with the position plus one as its line."""
    return SANDBOX._parse(text, None, None)


def parse_expression(text: str) -> nodes.Template:
    """The tree of a template that leaves the expression's value in the variable RESULT."""
    parser = Parser(SANDBOX, text, state="variable")
    expression = parser.parse_expression()
    if not parser.stream.eos:
        raise TemplateSyntaxError("the expression should end here", parser.stream.current.lineno)
    return nodes.Template([nodes.Assign(nodes.Name(RESULT, "store"), expression, lineno=1)], lineno=1)


def compile_tree(tree: nodes.Template) -> Program:
    """A tree made runnable. Raises TemplateSyntaxError, SyntaxError or RecursionError for what Python cannot nest."""
    tree.set_environment(SANDBOX)
    source = SANDBOX.compile(tree, raw=True)
    return Program(SANDBOX, compile(source, "<template>", "exec"))
