"""Strict JSON for rows: one value of a text, or the elements of a long array without reading it whole."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from llmpipe.errors import DataError
from llmpipe.json_numbers import UnkeptNumber, read_number
from llmpipe.late import late

MAX_ROW = 32 * 1024 * 1024  # bytes of one row, line or text file
_CHUNK = 64 * 1024
_BLANKS = late(r"[ \t\r\n]*")


class UnusualJsonError(ValueError):
    """JSON that parsers read differently: a repeated name, NaN, half a surrogate pair."""


class _Written(str):
    """A number with a point or an exponent, as it was written."""

    __slots__ = ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UnusualJsonError(f"the name {twice!r:.80} stands twice in one object")
    return made


def _no_constant(name: str) -> Any:
    raise UnusualJsonError(f"{name} is not JSON; write null or a text")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=read_number, parse_constant=_no_constant)
_AS_WRITTEN = json.JSONDecoder(parse_float=_Written, parse_constant=str)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def canonical(value: Any) -> bytes:
    """The one spelling of a value: sorted names, no blanks, UTF-8. Raises UnicodeEncodeError for lone surrogates."""
    return _CANONICAL.encode(value).encode()


def parse_row(text: str, *, file: str, line: int) -> Any:
    """One JSON value. Raises DataError: D302 not JSON, D308 unusual JSON, D309 too deep."""
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _check_surrogates(value)
    except (ValueError, RecursionError) as error:
        raise _trouble(error, text, file=file, line=line) from None
    return value


def _check_surrogates(value: Any) -> None:
    try:
        canonical(value)
    except UnicodeEncodeError:
        raise UnusualJsonError(
            "a text holds half of a surrogate pair (\\ud800 - \\udfff), which is no character"
        ) from None


def _trouble(error: Exception, text: str, *, file: str, line: int, start: int = 0, before: int = 0) -> DataError:
    """The DataError for a value that begins at `start` of `text`, on `line`; `before`: so much of the first line is
    not in `text` any more.
    """
    if isinstance(error, RecursionError):
        return DataError("the value is nested too deeply", file=file, line=line, code="D309")
    if isinstance(error, json.JSONDecodeError):
        end = len(text.rstrip())
        comma = _comma_too_many(text, error.pos)
        spot = min(error.pos if comma is None else comma[0], end)
        at = line + text.count("\n", start, spot)
        line_end = text.rfind("\n", 0, spot)
        column = spot - line_end + (before if line_end < 0 else 0)
        torn = spot == end or error.msg.startswith("Unterminated string")
        words = error.msg.removesuffix(" at").removesuffix(" starting")
        said = f"{words[:1].lower()}{words[1:]}" if comma is None else comma[1]
        message = f"not JSON at column {column}: {said}{'; the row breaks off here' if torn else ''}"
        return DataError(message, file=file, line=at, column=column, code="D302")
    if isinstance(error, UnkeptNumber):
        holder = _column_of(error.text, text, start)
        said = f"column {holder!r:.80}: {error}" if holder else str(error)
        return DataError(said, file=file, line=line, code="D308")
    digits = sys.get_int_max_str_digits()
    said = f"a number has more than {digits:,} digits" if "integer string conversion" in str(error) else str(error)
    return DataError(said, file=file, line=line, code="D308")


def _column_of(number: str, text: str, start: int) -> str:
    """The column of the row at `start` that holds the number, "" where the row is not whole yet."""
    try:
        row, _ = _AS_WRITTEN.raw_decode(text, _BLANKS.match(text, start).end())  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return ""
    return next((name for name, value in row.items() if _holds(value, number)), "") if isinstance(row, dict) else ""


def _holds(value: Any, number: str) -> bool:
    if isinstance(value, _Written):
        return value == number
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds(part, number) for part in below)


def _comma_too_many(text: str, at: int) -> tuple[int, str] | None:
    """Where a comma stands behind the last member of an object or list, and what to say; None if none is in the way.

    Pythons differ in what they call it, and in whether they point at the comma or behind it.
    """
    closing = _BLANKS.match(text, at + (text[at : at + 1] == ",")).end()  # type: ignore[union-attr]  # may be empty
    mark, before = text[closing : closing + 1], text[:closing].rstrip(" \t\r\n")
    if not mark or mark not in "]}" or not before.endswith(","):
        return None
    return len(before) - 1, f"a ',' before the closing '{mark}'; remove it"


def stream_array(stream: BinaryIO, *, file: str) -> Iterator[tuple[int, Any]]:
    """The objects of a JSON array with the lines on which they begin; holds one of them at a time.

    Raises DataError as `parse_row` does, D303 for what is not UTF-8, D304 for an element that is no object.
    """
    window = _Window(stream, file)
    first = window.next_char()
    if not first:
        raise window.error("the file is empty; a dataset without rows is written as []")
    if first != "[":
        hint = "; for one object per line write `format: jsonl`" if first == "{" else ""
        raise window.error(f"a JSON array was expected, which begins with '['{hint}")
    window.skip()
    if window.next_char() != "]":
        yield window.element()
        while (separator := window.next_char()) != "]":
            if separator != ",":
                raise window.error("a ',' or ']' was expected after the element" if separator else _TORN)
            window.skip()
            yield window.element()
    window.skip()
    if window.next_char():
        raise window.error("there is more text after the end of the array")


_TORN = "the array breaks off here"


class _Window:
    """The part of a JSON text that is being looked at; grows while an element needs more and forgets what is done."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._read = stream.read
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False
        self._file, self._line = file, 1
        self._before = 0  # characters of the text's first line that are forgotten

    def error(self, message: str, code: str = "D302") -> DataError:
        return DataError(message, file=self._file, line=self._line, code=code)

    def skip(self) -> None:
        """Take one character, which is no line end."""
        self._at += 1

    def next_char(self) -> str:
        """The next character that is not blank, not yet taken; "" at the end of the text."""
        while True:
            end = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]  # matches the empty text too
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text) or not self._more():
                return self._text[end : end + 1] if end < len(self._text) else ""

    def element(self) -> tuple[int, dict[str, Any]]:
        """The object that begins at the next character, with its line."""
        first = self.next_char()
        if first == "]":
            raise self.error("a ',' before the closing ']'; remove it")
        if first != "{":
            raise self.error("every element must be an object {…}" if first else _TORN, "D304" if first else "D302")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if "\\u" in self._text[self._at : end]:
                    _check_surrogates(value)
                break
            except json.JSONDecodeError as error:
                if self._is_wrong(error) or not self._more():
                    raise self._trouble(error) from None
            except (ValueError, RecursionError) as error:
                if not (self._breaks_off(error) and self._more()):
                    raise self._trouble(error) from None
        line, self._line = self._line, self._line + self._text.count("\n", self._at, end)
        self._at = end
        return line, value

    def _trouble(self, error: Exception) -> DataError:
        return _trouble(error, self._text, file=self._file, line=self._line, start=self._at, before=self._before)

    def _is_wrong(self, error: json.JSONDecodeError) -> bool:
        """True if more text cannot mend this: the fault lies well before the end of what is there."""
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - 16

    def _breaks_off(self, error: Exception) -> bool:
        """True if the number that was refused may go on behind the end, as `1.2e` before `+1` does."""
        return isinstance(error, UnkeptNumber) and error.text in self._text[-len(error.text) - 2 :]

    def _more(self) -> bool:
        """Forget what was taken and read on, at least as much as is kept, so that nothing is scanned too often."""
        if self._ended:
            return False
        kept = self._text[self._at :]
        if len(kept) > MAX_ROW:
            raise self.error(f"an element is larger than {MAX_ROW // 1024 // 1024} MiB", "D309")
        end = self._text.rfind("\n", 0, self._at)
        self._before = self._before + self._at if end < 0 else self._at - 1 - end
        data = self._read(max(_CHUNK, len(kept)))
        self._ended = not data
        try:
            self._text, self._at = kept + self._decoder.decode(data, final=self._ended), 0
        except UnicodeDecodeError as error:
            self._line += kept.count("\n") + error.object.count(b"\n", 0, error.start)
            raise self.error("this is not UTF-8", "D303") from None
        return True
