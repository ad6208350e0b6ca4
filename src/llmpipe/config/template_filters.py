"""The filters and methods that templates may use, each bounded in what it makes and strict about what it takes."""

from __future__ import annotations

import re
import string
from _string import formatter_field_name_split  # type: ignore[import-not-found]  # what string.Formatter itself uses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import filters as stock
from jinja2 import pass_context
from jinja2.runtime import LoopContext
from jinja2.utils import Cycler, _PassArg

from llmpipe.config.template_values import (
    Entries,
    NotDataError,
    NullValueError,
    TooLargeError,
    as_json,
    as_text,
    bounded,
)
from llmpipe.late import late

MAX_PADDING = 100_000  # widths, indents, precisions, sizes of batches
_LONG_NUMBER = late(r"\d{6,}|\*")
LOOP = "loop over"  # the iterable of a `for` is compiled to go through this one
METHOD = "method "  # a method call `x.upper()` is compiled to the filter "method upper"; no filter's name has a space

_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit islower"
        " isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind"
        " rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill".split()
    ),
    Mapping: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    LoopContext: frozenset({"changed", "cycle"}),
    Cycler: frozenset({"next", "reset"}),
}
METHODS: frozenset[str] = frozenset().union(*_METHODS.values())

# Left out of Jinja's own: what makes HTML (safe, urlize, xmlattr), Python's spelling (pprint), chance (random: the same
# row must give the same prompt), and what reaches around the sandbox (attr).
_STOCK = (
    "abs batch capitalize center count d default dictsort filesizeformat first float format groupby indent int items"
    " join last length list lower map max min reject rejectattr reverse round select selectattr slice sort"
    " striptags sum title trim truncate unique upper urlencode wordcount wordwrap"
).split()
_ON_TEXT = frozenset(
    "capitalize center format indent lower replace striptags title trim truncate upper wordcount wordwrap".split()
)


def check_padding(*numbers: object) -> None:
    """Raises TooLargeError for a width, indent or size that no prompt needs."""
    for number in numbers:
        if isinstance(number, int) and abs(number) > MAX_PADDING:
            raise TooLargeError(f"{number:,} is too large here; the limit is {MAX_PADDING:,}")


def check_replace(text: str, old: Any = "", new: Any = "", *_rest: Any, **_named: Any) -> None:
    """Raises TooLargeError if replacing `old` by `new` in `text` makes too long a text."""
    bounded(len(text) + text.count(str(old)) * len(str(new)))


def _check_indent(text: str, width: Any = 4, *_rest: Any, **_named: Any) -> None:
    check_padding(width)
    step = len(width) if isinstance(width, str) else int(width)
    bounded(len(text) + step * (text.count("\n") + 1))


def _check_wordwrap(text: str, width: Any = 79, *rest: Any, wrapstring: Any = None, **_named: Any) -> None:
    between = wrapstring or (rest[1] if len(rest) > 1 else None) or ""
    bounded(len(text) + (len(text) // max(int(width), 1) + text.count("\n") + 1) * len(between))


def _check_sizes(_value: Any, *args: Any, **named: Any) -> None:
    check_padding(*args, *named.values())


_CHECKS: Mapping[str, Callable[..., None]] = {
    "center": _check_sizes,
    "batch": _check_sizes,
    "slice": _check_sizes,
    "round": _check_sizes,
    "replace": check_replace,
    "indent": _check_indent,
    "wordwrap": _check_wordwrap,
}


def percent_format(template: str, args: Any) -> str:
    """`template % args` with values in their text form and without paddings that fill the memory."""
    if _LONG_NUMBER.search(template) and re.search(r"%[^a-zA-Z%]*(\d{6,}|\*)", template):
        raise TooLargeError("a width in this format is too large")
    if isinstance(args, Mapping):
        return template % _Formattables(args)
    return template % tuple(_formattable(value) for value in (args if isinstance(args, tuple) else (args,)))


def _formattable(value: Any) -> Any:
    return value if type(value) in (int, float, str) else as_text(value)


class _Formattables(dict[str, Any]):
    """Named values for a format; only those that it uses must have a text."""

    def __getitem__(self, name: str) -> Any:
        return _formattable(super().__getitem__(name))


def _format(template: str, *args: Any, **named: Any) -> str:
    if args and named:
        raise TypeError("format takes positional or named values, not both")
    return percent_format(template, named or args)


def join(context: Any, values: Iterable[Any], separator: Any = "", attribute: Any = None) -> str:
    """The texts of `values` with `separator` between them; a null among them is an error."""
    if isinstance(values, str):
        raise NotDataError("join needs a list, not a text")
    if attribute is not None:
        values = map(stock.make_attrgetter(context.environment, attribute), values)
    parts: list[str] = []
    size, gap = 0, as_text(separator)
    for value in values:
        parts.append(as_text(value))
        size += len(parts[-1]) + len(gap)
        bounded(size)
    return gap.join(parts)


_NONE_GIVEN = object()


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    """`int` and `float` that do not turn what is no number into 0, unless a default is given."""

    def convert(value: Any, default: Any = _NONE_GIVEN, *args: Any) -> Any:
        if value is None and default is _NONE_GIVEN:
            raise NullValueError
        marker = object()
        number = kind(value, marker, *args)
        if number is marker and default is _NONE_GIVEN:
            raise ValueError(f"{value!r:.60} is not a number; give a default: {kind.__name__[3:]}(0)")
        return default if number is marker else number

    return convert


def _replace(text: str, old: Any, new: Any, count: int | None = None) -> str:
    return text.replace(str(old), str(new), -1 if count is None else count)


def _to_json(value: Any, indent: int | None = None) -> str:
    check_padding(indent)
    return as_json(value, indent)


def _escape(value: Any) -> str:
    from html import escape

    return escape(as_text(value))


def _unplain(value: Any) -> Any:
    """Refuses an undefined value before a function takes it for an empty one."""
    fail = getattr(type(value), "_fail_with_undefined_error", None)
    if fail is not None:
        fail(value)
    return value


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a filter that pays for what it reads and makes."""
    passes = {
        _PassArg.context: lambda context: (context,),
        _PassArg.eval_context: lambda context: (context.eval_ctx,),
        _PassArg.environment: lambda context: (context.environment,),
    }.get(_PassArg.from_obj(function))  # type: ignore[arg-type]
    check = _CHECKS.get(name)
    on_text = name in _ON_TEXT
    lenient = name in ("default", "d")

    @pass_context
    def run(context: Any, value: Any, *args: Any, **named: Any) -> Any:
        if not lenient:
            as_is = isinstance(_unplain(value), str) or not on_text
            value = value if as_is else as_text(value)
        context.meter.charge_for(value)
        if check is not None:
            check(value, *args, **named)
        result = function(*(passes(context) if passes else ()), value, *args, **named)
        context.meter.charge_for(result)
        return result

    return run


def _method(name: str) -> Callable[..., Any]:
    """A method call as a filter: only on the kinds of value that have it here."""
    kinds = tuple(kind for kind, names in _METHODS.items() if name in names)

    @pass_context
    def run(context: Any, value: Any, *args: Any, **named: Any) -> Any:
        if not isinstance(_unplain(value), kinds):
            raise NotDataError(f"{kind_of(value)} has no method {name}()")
        context.meter.charge_for(value)
        if isinstance(value, str):
            result = _text_method(context, name, value, *args, **named)
        else:
            result = getattr(value, name)(*args, **named)
        context.meter.charge_for(result)
        return result

    return run


def _text_method(context: Any, name: str, text: str, *args: Any, **named: Any) -> Any:
    if name in ("center", "ljust", "rjust", "zfill"):
        check_padding(*args)
    elif name == "replace":
        check_replace(text, *args)
    elif name == "join":
        (values,) = args
        return join(context, values, text)
    elif name == "format":
        return _BracesFormat(context.environment).vformat(text, args, named)
    return getattr(text, name)(*args, **named)


class _BracesFormat(string.Formatter):
    """`"{:.2f}".format(x)` over plain data: fields are looked up as templates look them up, paddings are bounded."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        first, rest = formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            value = self._environment.getattr(value, name) if is_attribute else self._environment.getitem(value, name)
        return value, first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion in ("r", "a"):
            return as_json(value)
        return value if conversion is None else as_text(value)

    def format_field(self, value: Any, format_spec: str) -> Any:
        if _LONG_NUMBER.search(format_spec):
            raise TooLargeError("a width in this format is too large")
        return format(_formattable(_unplain(value)), format_spec)


def kind_of(value: Any) -> str:
    """What a message calls a value: "a text", "a list" …"""
    if value is None:
        return "null"
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return f"a {type(value).__name__.lower()}"


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a text"),
    (Mapping, "a mapping"),
    ((list, tuple, Entries, Iterator), "a list"),
)


def looped(context: Any, value: Any, weight: int) -> Any:
    """What a `for` walks over, paid in advance: `weight` for each round."""
    _unplain(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        raise NotDataError(f"`for` needs a list, not {kind_of(value)}")
    if not hasattr(value, "__len__"):
        value = list(value)
    context.meter.charge(1 + weight * len(value))
    return value


def build_filters() -> dict[str, Callable[..., Any]]:
    """Every filter by name, the compiled-in ones for loops and methods among them."""
    own: dict[str, Callable[..., Any]] = {
        "count": len,
        "e": _escape,
        "escape": _escape,
        "float": _number(stock.do_float),
        "format": _format,
        "forceescape": _escape,
        "int": _number(stock.do_int),
        "join": pass_context(join),
        "replace": _replace,
        "string": as_text,
        "tojson": _to_json,
    }
    table = {name: _metered(name, function) for name, function in ({n: stock.FILTERS[n] for n in _STOCK} | own).items()}
    table |= {METHOD + name: _method(name) for name in METHODS}
    table[LOOP] = pass_context(looped)
    return table
