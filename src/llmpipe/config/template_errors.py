"""Says in words what went wrong in a rendering: which name is missing where, which value is null."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2.utils import missing

from llmpipe.config.template_engine import MissingError, Program
from llmpipe.config.template_filters import METHODS, kind_of
from llmpipe.config.template_reads import Chain
from llmpipe.config.template_values import NullValueError, TooLargeError, TooMuchWorkError
from llmpipe.errors import ItemError, Place

_SHOWN_NAMES = 20
_SHOWN_LENGTH = 60


def explain(
    error: Exception,
    program: Program,
    chains: Sequence[Chain],
    scope: Mapping[str, Any],
    where: Callable[[int], Place],
) -> ItemError:
    """The ItemError for whatever a rendering raised; the message ends with the place in the file."""
    if isinstance(error, ItemError):
        return error
    position = program.position(error)
    later = [chain for chain in chains if chain.position >= position] or list(chains)
    if isinstance(error, MissingError) and error.name is not None:
        found = _chain_of_missing(error, later, scope)
        code, message = "D310", _missing(error, found, scope)
        position = found[0].position if found else position
    elif isinstance(error, NullValueError):
        chain = _chain_of_null(later, scope)
        code, message = "D312", _null(chain)
        position = chain.position if chain else position
    elif isinstance(error, TooLargeError):
        code, message = "D311", str(error)
    elif isinstance(error, TooMuchWorkError):
        code, message = "D315", str(error)
    elif isinstance(error, (RecursionError, MemoryError)):
        code, message = "D315", f"the template asks for too much ({type(error).__name__})"
    else:
        code, message = "D313", f"{shown(str(error), 300) or type(error).__name__}"
    place = where(position)
    return ItemError(f"{message} ({place.file}:{place.line}:{place.column})", code=code)


def not_a_boolean(source: str, value: Any, place: Place) -> ItemError:
    """The ItemError for a condition that is neither true nor false."""
    what = kind_of(value)
    if isinstance(value, (str, int, float)):
        what += f" ({shown(repr(value))})"
    text = f"'{shown(source.strip())}' must be true or false, but is {what}; compare it with something"
    return ItemError(f"{text} ({place.file}:{place.line}:{place.column})", code="D314")


def shown(text: str, length: int = _SHOWN_LENGTH) -> str:
    """A text from data, short and without control characters, for a message."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: length + 1])
    return clean if len(clean) <= length else f"{clean[: length - 1]}…"


def _missing(error: MissingError, found: _Found | None, scope: Mapping[str, Any]) -> str:
    name = str(error.name)
    if error.owner is missing:
        return f"{shown(name)} is not defined; {_there_are(name, list(scope))}"
    owner = ".".join(found[0].path[: found[1]]) if found else ""
    if isinstance(error.owner, Mapping):
        whole = f"{owner}.{shown(name)}" if owner else shown(name)
        return f"{whole} is not defined; {_there_are(name, [str(key) for key in error.owner])}"
    if not owner:
        return f"{shown(name)} is not defined; the value is {kind_of(error.owner)}{_length(error.owner)}"
    if isinstance(error.name, int):
        return f"{owner}[{name}] is not defined; {owner} is {kind_of(error.owner)}{_length(error.owner)}"
    if name in METHODS:
        return f"{owner}.{name} is not defined; to call the method write {owner}.{name}()"
    return f"{owner}.{shown(name)} is not defined; {owner} is {kind_of(error.owner)}, not a mapping"


def _length(value: Any) -> str:
    return f" of {len(value)}" if hasattr(value, "__len__") else ""


def _there_are(name: str, names: list[str]) -> str:
    if not names:
        return "there are no names at all"
    listed = ", ".join(shown(n) for n in names[:_SHOWN_NAMES])
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN_NAMES else ""
    close = difflib.get_close_matches(name, names[:1000], n=1)
    return f"there are: {listed}{more}" + (f"; did you mean {shown(close[0])!r}?" if close else "")


_Found = tuple[Chain, int]  # a path of the template, and at which of its parts something was missing


def _chain_of_missing(error: MissingError, chains: Sequence[Chain], scope: Mapping[str, Any]) -> _Found | None:
    """The path in which `error` happened, as far as that can be told: values have no names."""
    fitting = [(chain, i) for chain in chains for i, part in enumerate(chain.path) if part == str(error.name)]
    if error.owner is missing:
        return next(((chain, i) for chain, i in fitting if i == 0), None)
    fitting = [(chain, i) for chain, i in fitting if i > 0]
    fitting += [(chain, len(chain.path)) for chain in chains if not chain.exact]
    same = (
        found for found in fitting if not found[0].local and _value(found[0].path[: found[1]], scope) is error.owner
    )
    return next(same, None) or next((found for found in fitting if found[0].local), None)


def _chain_of_null(chains: Sequence[Chain], scope: Mapping[str, Any]) -> Chain | None:
    outside = next((chain for chain in chains if not chain.local and _value(chain.path, scope) is None), None)
    return outside or next((chain for chain in chains if chain.local), None)


def _null(chain: Chain | None) -> str:
    path = ".".join(chain.path) if chain else "a value"
    write = path if chain else "x"
    return f'{path} is null and would be written into a text; if it may be left out, write {write} or ""'


_NOWHERE = object()


def _value(path: tuple[str, ...], scope: Mapping[str, Any]) -> Any:
    value: Any = scope
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return _NOWHERE
        value = value[part]
    return value
