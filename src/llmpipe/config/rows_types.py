"""Cells of a table as numbers and booleans, where `types` of the dataset asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.config.near import did_you_mean, listed
from llmpipe.errors import DataError
from llmpipe.json_numbers import MAX_DIGITS, UnkeptNumber, read_number
from llmpipe.late import late

TEXT_FORMATS = ("csv", "tsv", "lines")  # whose cells are all text
_NUMBER = late(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
_WORDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def typed(row: dict[str, Any], types: Mapping[str, str], *, file: str, line: int) -> dict[str, Any]:
    """The row with the columns in `types` converted; an empty cell becomes null, and stays "" as a string.

    Numbers are written as in JSON, blanks around them do not count. Raises DataError: D307 the row has no such column,
    D316 a cell that is not of its type.
    """
    for column, type in types.items():
        if column not in row:
            hint = did_you_mean(column, row)
            message = f"there is no column {column!r:.80}, which `types` names{f'; {hint}' if hint else ''}"
            raise DataError(f"{message}; columns: {listed(row)}", file=file, line=line, code="D307")
        value = row[column]
        if type != "string" and isinstance(value, str):
            row[column] = _converted(value, type, column, file=file, line=line)
    return row


def _converted(text: str, type: str, column: str, *, file: str, line: int) -> Any:
    bare = text.strip()
    if not bare:
        return None
    try:
        return _READ[type](bare)
    except UnkeptNumber as error:
        message = f"column {column!r:.80}: {error.fault}; without a type it stays text, as it is written"
    except ValueError as error:
        message = f"column {column!r:.80}: expected {_WORDS[type]}, found {text!r:.60}{error}"
    raise DataError(message, file=file, line=line, code="D316") from None


def _number(text: str) -> int | float:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(_advice(text))
    if len(text) > MAX_DIGITS:
        raise ValueError(f"; numbers have at most {MAX_DIGITS:,} digits")
    return read_number(text) if found[1] or found[2] else int(text)


def _integer(text: str) -> int:
    number = _number(text)
    if isinstance(number, float):
        raise ValueError("")
    return number


def _boolean(text: str) -> bool:
    found = _BOOLEANS.get(text.lower())
    if found is None:
        raise ValueError("; write true or false")
    return found


_READ: Mapping[str, Callable[[str], Any]] = {"integer": _integer, "number": _number, "boolean": _boolean}


def _advice(text: str) -> str:
    """What to do about a text that is nearly a number."""
    digits = text.lstrip("+-")
    if digits.isdecimal() and digits.startswith("0"):
        return "; an id that begins with 0 is a text: leave it out of `types`"
    if text.startswith("+") and _NUMBER.fullmatch(digits):
        return "; write it without '+'"
    if "," not in text.partition(".")[2] and _NUMBER.fullmatch(text.replace(",", "")):
        return "; write a decimal with a point, and thousands with nothing between"
    return ""
