"""Bodies as JSON: strict reading of what a server sent, deterministic writing of what we send."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmpipe.json_text import writer
from llmpipe.late import late

MAX_DEPTH = 128
MAX_VALUES = 250_000  # an empty list of two bytes takes sixty once it is read
_MOST = 2**53
_STRINGS = late(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = late(rb"[\[\]{}]")
_MARK = b"\xef\xbb\xbf"
_SURROGATE = late(r"[\ud800-\udfff]")


class NotJsonBody(ValueError):
    """The bytes are not one JSON document of the strict kind; the text says why."""


def read_json(body: bytes | bytearray) -> Any:
    """The document in `body`.

    Refused (NotJsonBody): anything but UTF-8, NaN and Infinity, a name twice in one object, more than MAX_DEPTH levels
    or MAX_VALUES values, numbers too long to read, halves of surrogate pairs (facts C, httpx: each passes Python's own
    loader or kills it).
    """
    raw = body.removeprefix(_MARK) if body.startswith(_MARK) else body  # a bytearray would be copied
    _check_shape(raw)
    try:
        text = raw.decode("utf-8")
        value = _STRICT.decode(text)
    except UnicodeDecodeError as err:
        raise NotJsonBody(f"not UTF-8 (byte {err.start})") from None
    except json.JSONDecodeError as err:
        raise NotJsonBody(f"not JSON: {err.msg} (character {err.pos})") from None
    except RecursionError:
        raise NotJsonBody("nested too deeply") from None
    except NotJsonBody:
        raise
    except ValueError:
        raise NotJsonBody("a number in it is too long") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def dump_json(value: Any) -> bytes:
    """`value` as compact UTF-8 JSON, in the order that it was built in: equal requests give equal bytes.

    The order is kept, not sorted, because models write the properties of an answer in the order of the schema.
    Raises ValueError for what JSON cannot hold (NaN, halves of surrogate pairs, other objects).
    """
    try:
        return _written(value).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair, which UTF-8 cannot spell") from None
    except (TypeError, RecursionError) as err:
        raise ValueError(f"a value cannot be written as JSON: {err}") from None


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with `extra` laid over it; objects that both have are merged in the same way."""
    result = dict(body)
    for name, value in extra.items():
        mine = result.get(name)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            result[name] = merged(mine, value)
        else:
            result[name] = value
    return result


def as_map(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """`value` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int | None:
    """`value` if it is a whole number of things below 2 ** 53, else None: unknown is not 0 (facts A5)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        return None
    return int(value) if value == int(value) else None


def first_map(value: Any) -> Mapping[str, Any]:
    """The first element of a list if it is an object, else an empty object."""
    items = as_list(value)
    return as_map(items[0]) if items else {}


def clean(text: str, limit: int = 400) -> str:
    """A provider's words fit for one line of a log or a terminal: no control characters, at most `limit` characters."""
    head = text[: limit * 4]
    line = " ".join((head if head.isprintable() else "".join(c if c.isprintable() else " " for c in head)).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _no_constant(name: str) -> Any:
    raise NotJsonBody(f"not JSON: {name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJsonBody("a number in it is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotJsonBody("a name stands twice in one object")
    return result


def _check_shape(raw: bytes | bytearray) -> None:
    """Depth and number of values, before anything is built of them; what stands in texts counts only if it has to."""
    brackets = raw.count(b"[") + raw.count(b"{")
    values = brackets + raw.count(b",")
    if brackets <= MAX_DEPTH and values <= MAX_VALUES:
        return
    bare = _STRINGS.sub(b"", raw)
    if values > MAX_VALUES and sum(map(bare.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise NotJsonBody(f"more than {MAX_VALUES:,} values")
    depth = 0
    for found in _BRACKETS.finditer(bare):
        depth += 1 if found.group() in b"[{" else -1
        if depth > MAX_DEPTH:
            raise NotJsonBody(f"nested more than {MAX_DEPTH} levels deep")


def _check_surrogates(value: Any) -> None:
    queue: list[Any] = [value]
    while queue:
        item = queue.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                raise NotJsonBody("half a surrogate pair in a text")
        elif isinstance(item, dict):
            queue.extend(item)
            queue.extend(item.values())
        elif isinstance(item, list):
            queue.extend(item)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


_written = writer(allow_nan=False, default=_plain)
_STRICT = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
