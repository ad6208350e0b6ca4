"""What a template may see and show: plain data, its text form, and the meter that bounds one rendering."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any

from llmpipe.json_numbers import whole_if_whole

MAX_TEXT = 16 * 1024 * 1024  # characters of any one text inside a rendering
BASE_WORK = 4_000_000  # about 100 - 300 ns each: loop rounds, calls, 16 characters of text made


class Entries(Sequence[Mapping[str, Any]]):
    """Base of the read-only lists of a step's results: entries are mappings with `item`, `key` and `output`.

    Lists are in input order and may be read from disk while they are iterated. `failed` and `skipped` count the items
    of the step that are not in the list.
    """

    @property
    @abstractmethod
    def failed(self) -> int:
        """Items that failed."""

    @property
    @abstractmethod
    def skipped(self) -> int:
        """Items that were skipped."""


class NullValueError(Exception):
    """A null was about to be written into a text."""


class TooLargeError(Exception):
    """A text would grow beyond its limit."""


class TooMuchWorkError(Exception):
    """A rendering would take too many steps."""


class NotDataError(Exception):
    """Something that is no data (a function, a macro, a loop) was used as a value."""


class Meter:
    """What is left of the work allowed to one rendering; counted, not timed, so that a busy machine changes nothing."""

    __slots__ = ("left",)

    def __init__(self, allowance: int = BASE_WORK) -> None:
        self.left = allowance

    def charge(self, work: int) -> None:
        """Take `work` off. Raises TooMuchWorkError when nothing is left."""
        self.left -= work
        if self.left < 0:
            raise TooMuchWorkError("the template does too much work (loops, calls or text)")

    def charge_for(self, value: object) -> None:
        """Take off what walking over or copying `value` costs."""
        if isinstance(value, str):
            self.charge(1 + (len(value) >> 4))
        elif isinstance(value, (list, tuple, dict, Entries)):
            self.charge(1 + len(value))
        else:
            self.charge(1)


def bounded(characters: int) -> None:
    """Raises TooLargeError if a text of so many characters is too long to be made."""
    if characters > MAX_TEXT:
        raise TooLargeError(f"a value would be {characters:,} long; the limit is {MAX_TEXT:,}")


def as_text(value: Any) -> str:
    """The text of a value in a prompt: texts as they are, everything else as JSON.

    Booleans are `true` and `false`, numbers as in JSON (6 / 2 is 3, as it is in a row), lists and mappings compact JSON
    with readable non-ASCII.
    A null has no text: "None" or "null" in the middle of a prompt is nearly always a mistake that costs money, so it
    raises NullValueError; `item.x or ""` and `item.x | default("", true)` say that it may be left out.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if value is None:
        raise NullValueError
    if kind is bool:
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else as_json(value)


def as_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON in its own order, non-ASCII readable, nothing escaped. Raises NotDataError, ValueError."""
    if isinstance(value, Entries):
        return _entries_json(value)
    value = whole_if_whole(value) if type(value) is float else value
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain_for_json)


def _entries_json(entries: Entries) -> str:
    """A list of results as JSON, given up as soon as it is too long."""
    parts: list[str] = []
    size = 0
    for entry in entries:
        part = json.dumps(entry, ensure_ascii=False, allow_nan=False, default=_plain_for_json)
        size += len(part) + 2
        bounded(size)
        parts.append(part)
    return f"[{', '.join(parts)}]"


def _plain_for_json(value: Any) -> Any:
    """What json does not know but is data; everything else is refused."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Entries, tuple, range, Iterator, GeneratorType)) or _is_view(value):
        return list(value)
    fail = getattr(type(value), "_fail_with_undefined_error", None)
    if fail is not None:
        fail(value)
    raise NotDataError(f"a {type(value).__name__} is not data that can be written into a text")


def equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON: 3 is 3.0, but true is not 1, at any depth."""
    return bool(one == other) and _same(one, other)


def _same(one: Any, other: Any) -> bool:
    """Whether equal values are of the same kind."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool)


def within(value: Any, container: Any) -> bool:
    """`value in container`, by `equal`."""
    found: bool = value in container
    if found and isinstance(container, (list, tuple)):
        return any(equal(value, one) for one in container)
    return found


def _is_view(value: object) -> bool:
    return isinstance(value, (type({}.keys()), type({}.values()), type({}.items())))


def as_data(value: Any) -> Any:
    """The value of an expression as plain data: lazy sequences become lists. Raises NotDataError."""
    if type(value) is str or value is None or isinstance(value, (bool, int, float, dict, list)):
        return value
    return str(value) if isinstance(value, str) else _plain_for_json(value)
