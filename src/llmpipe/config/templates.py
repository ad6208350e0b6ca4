"""Templates and expressions of a pipeline file: compiled once, positions kept, rendered in a sandbox.

    text ──parse──▶ tree ──examine──▶ reads, faults ──compile──▶ Template.render(scope) / Expression.evaluate(scope)
      └──plain_template──▶ texts and paths in turn ───────────────▶ the same, without Jinja; all that fails goes above

Jinja is imported with the first template that needs it, so that commands without one stay fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmpipe.config.template_plain import Plain, plain_expression, plain_template
from llmpipe.config.template_values import BASE_WORK, MAX_TEXT, Entries, Meter, as_data
from llmpipe.errors import ConfigError, ItemError, Place, Problem
from llmpipe.frozen import frozen

if TYPE_CHECKING:
    from llmpipe.config.template_engine import Program
    from llmpipe.config.template_numbers import Meeting
    from llmpipe.config.template_reads import Chain

__all__ = ["DEFAULT_MAX_BYTES", "Entries", "Expression", "Read", "Template", "compile_expression", "compile_template"]

DEFAULT_MAX_BYTES = 1024 * 1024
Locate = Callable[[int, int], Place]  # line and column in the template, from 1, to their place in the file


@frozen
class Read:
    """A value from outside that a template uses: `steps.label.priority` is ("steps", "label", "priority").

    The path ends where the template takes the value, or at a part that only the rendering knows (`item.tags[0]` reads
    ("item", "tags")). `guarded`: only tested (`is defined`) or given a `default`, so that it may be missing.
    """

    path: tuple[str, ...]
    place: Place
    guarded: bool = False


class _Compiled:
    """What templates and expressions share: source, reads, and where its positions lie in the file.

    `jinja`: the program and what it reads; of a plain template it is made when something has gone wrong.
    """

    __slots__ = ("_jinja", "_make", "meetings", "plain", "reads", "source", "where")

    def __init__(
        self,
        source: str,
        reads: tuple[Read, ...],
        where: Callable[[int], Place],
        *,
        jinja: tuple[Program, tuple[Chain, ...]] | None = None,
        plain: Plain | None = None,
        make: Callable[[], tuple[Program, tuple[Chain, ...]]] | None = None,
        meetings: tuple[Meeting, ...] = (),
    ) -> None:
        self.source, self.reads, self.where, self.plain = source, reads, where, plain
        self._jinja, self._make, self.meetings = jinja, make, meetings

    @property
    def jinja(self) -> tuple[Program, tuple[Chain, ...]]:
        """The program, and the chains of its source in the order of their positions."""
        if self._jinja is None:
            assert self._make is not None
            self._jinja = self._make()
        return self._jinja

    @property
    def program(self) -> Program:
        """The program that Jinja runs."""
        return self.jinja[0]

    def uses_whole(self, root: str) -> bool:
        """True if the value of that name is read as a whole (`{{ item }}`, `item | tojson`), not only parts of it."""
        return any(read.path == (root,) for read in self.reads)


class _Source:
    """The shared face of Template and Expression."""

    __slots__ = ("_compiled",)

    def __init__(self, compiled: _Compiled) -> None:
        self._compiled = compiled

    @property
    def source(self) -> str:
        """The text as it was compiled, with line ends as LF."""
        return self._compiled.source

    @property
    def reads(self) -> tuple[Read, ...]:
        """Every path that is read from outside, in the order of the text."""
        return self._compiled.reads

    @property
    def meetings(self) -> tuple[Meeting, ...]:
        """What is compared or computed with what, where one of them is a number or may be."""
        return self._compiled.meetings

    def place_of(self, position: int, width: int) -> Place:
        """The place in the file of a part of the source."""
        return replace(self._compiled.where(position), width=width)

    def uses_whole(self, root: str) -> bool:
        """True if the value of that name is read as a whole, not only parts of it."""
        return self._compiled.uses_whole(root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other.source == self.source

    def __hash__(self) -> int:
        return hash((type(self), self.source))

    def _explain(self, error: Exception, scope: Mapping[str, Any]) -> ItemError:
        from llmpipe.config.template_errors import explain

        return explain(error, *self._compiled.jinja, scope, self._compiled.where)


class Template(_Source):
    """A text with places to fill, compiled."""

    __slots__ = ()

    def render(self, scope: Mapping[str, Any], *, max_bytes: int | None = DEFAULT_MAX_BYTES) -> str:
        """The text with the values of `scope` filled in; values are data and are never rendered themselves.

        Texts stand as they are; booleans as `true` / `false`; lists and mappings as JSON. `max_bytes` bounds the
        UTF-8 of the result (None: 16 Mi characters).
        Raises ItemError: D310 a name is not there, D311 too large, D312 a null would be written (say what should stand
        there instead: `item.x or ""`), D313 any other fault, D315 too much work.
        """
        if self._compiled.plain is not None:
            text = self._compiled.plain.render(scope)
            with suppress(UnicodeEncodeError):  # Jinja's way tells of it
                if text is not None and _fits(text, max_bytes):
                    return text
        program = self._compiled.program
        try:
            meter = Meter(BASE_WORK + (max_bytes or 0))
            return _collect(program.start(program.context(scope, meter)), max_bytes)
        except Exception as error:  # noqa: BLE001 - a template may raise anything; all of it is this item's failure
            raise self._explain(error, scope) from None


def _collect(parts: Any, max_bytes: int | None) -> str:
    from llmpipe.config.template_values import TooLargeError

    limit = MAX_TEXT if max_bytes is None else max_bytes
    texts: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise TooLargeError(f"the rendered text is longer than {limit:,} bytes")
        texts.append(part)
    text = "".join(texts)
    if not _fits(text, max_bytes):
        raise TooLargeError(f"the rendered text is longer than {limit:,} bytes")
    return text


def _fits(text: str, max_bytes: int | None) -> bool:
    """Whether the text is short enough. Raises UnicodeEncodeError for half a surrogate pair."""
    size = len(text) if text.isascii() else len(text.encode())
    return len(text) <= MAX_TEXT if max_bytes is None else size <= max_bytes


class Expression(_Source):
    """A value to compute (`if`, `check`, `by`, columns of `outputs`), compiled."""

    __slots__ = ()

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value, as plain data (lazy sequences as lists). Raises ItemError as `Template.render` does."""
        if self._compiled.plain is not None:
            found = self._compiled.plain.evaluate(scope)
            if found is not None:
                return found[0]
        from llmpipe.config.template_engine import RESULT

        program = self._compiled.program
        try:
            context = program.context(scope, Meter())
            for _ in program.start(context):
                pass
            return as_data(context.vars[RESULT])
        except Exception as error:  # noqa: BLE001 - an expression may raise anything; all of it is this item's failure
            raise self._explain(error, scope) from None

    @property
    def path(self) -> tuple[str, ...] | None:
        """The path, where the expression is nothing more than one."""
        return self._compiled.plain.paths[0] if self._compiled.plain is not None else None

    def test(self, scope: Mapping[str, Any]) -> bool:
        """The value, which must be true or false. Raises ItemError as `evaluate`, and D314 for any other value."""
        value = self.evaluate(scope)
        if isinstance(value, bool):
            return value
        from llmpipe.config.template_errors import not_a_boolean

        raise not_a_boolean(self.source, value, self._compiled.where(0))


def compile_template(text: str, *, place: Place, locate: Locate | None = None) -> Template:
    """Compile a template whose first character stands at `place`.

    `locate(line, column)` (from 1, inside `text`) gives the place of a character where the text does not stand in the
    file as it is, as in an indented block of YAML. One line end at the end of the text is dropped, as Jinja does.
    Raises ConfigError with every problem: C240 syntax, C241 a statement, C242 a filter or test, C243 a call that
    templates do not have.
    """
    return Template(_compile(text, place, locate, expression=False))


def compile_expression(text: str, *, place: Place, locate: Locate | None = None) -> Expression:
    """Compile an expression whose first character stands at `place`; as `compile_template`."""
    return Expression(_compile(text, place, locate, expression=True))


def _compile(text: str, place: Place, locate: Locate | None, *, expression: bool) -> _Compiled:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    where = _places(text, place, locate)
    plain = plain_expression(text) if expression else plain_template(text)
    if plain is not None:
        reads = tuple(_read(*pair, text, where) for pair in zip(plain.paths, plain.places, strict=True))
        make = lambda: _for_jinja(text, where, expression=expression)[:2]  # noqa: E731
        return _Compiled(text, reads, where, plain=plain, make=make)
    program, chains, meetings = _for_jinja(text, where, expression=expression)
    reads = tuple(_read(c.path, c.position, text, where, guarded=c.guarded) for c in chains if not c.local)
    return _Compiled(text, reads, where, jinja=(program, chains), meetings=meetings)


def _for_jinja(
    text: str, where: Callable[[int], Place], *, expression: bool
) -> tuple[Program, tuple[Chain, ...], tuple[Meeting, ...]]:
    from jinja2 import TemplateSyntaxError

    from llmpipe.config import template_engine as engine
    from llmpipe.config.template_reads import examine

    try:
        tree = engine.parse_expression(text) if expression else engine.parse_template(text)
        findings = examine(tree)
        if findings.faults:
            raise ConfigError(
                [Problem(f.code, f.message, replace(where(f.position), width=f.width), f.hint) for f in findings.faults]
            )
        program = engine.compile_tree(tree)
    except TemplateSyntaxError as error:
        raise ConfigError([_syntax_problem(error, text, where, expression=expression)]) from None
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        message = f"this is nested too deeply or otherwise beyond what can be compiled ({type(error).__name__})"
        raise ConfigError([Problem("C240", message, where(0))]) from None
    chains = tuple(sorted(findings.chains, key=lambda chain: chain.position))
    return program, chains, tuple(findings.meetings)


def _read(
    path: tuple[str, ...], position: int, text: str, where: Callable[[int], Place], *, guarded: bool = False
) -> Read:
    dotted = ".".join(path)
    width = len(dotted) if text.startswith(dotted, position) else len(path[0])
    return Read(path, replace(where(position), width=width), guarded)


def _places(text: str, place: Place, locate: Locate | None) -> Callable[[int], Place]:
    """The place in the file of a position in `text`."""

    def where(position: int) -> Place:
        position = min(max(position, 0), len(text))
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        if locate is not None:
            return locate(line, column)
        first = place.column - 1 if line == 1 else 0
        return Place(place.file, place.line + line - 1, first + column)

    return where


def _syntax_problem(error: Exception, text: str, where: Callable[[int], Place], *, expression: bool) -> Problem:
    message = str(getattr(error, "message", None) or "syntax error").rstrip(".")
    hint = ""
    for what, braces in (("end of print statement", "}}"), ("end of statement block", "%}")):
        if message.endswith(f"expected '{what}'"):
            hint = f"the closing {braces} is missing"
    if expression and text.lstrip().startswith(("{{", "{%")):
        hint = "an expression stands here: write it without the braces"
    position = len(text.rstrip()) if "end of template" in message else getattr(error, "lineno", 1) - 1
    return Problem("C240", f"template syntax: {message[:1].lower()}{message[1:]}", where(position), hint)
