"""The formats of published files: rows in, text out that readers of the format give back as the rows were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmpipe.config.pipeline import Published
from llmpipe.engine.items import is_storable, to_json
from llmpipe.errors import ItemError
from llmpipe.late import late

Rows = Iterable[tuple[str, Mapping[str, Any]]]  # the key of each row, and its columns

_DELIMITERS = {"csv": ",", "tsv": "\t"}
# What some reader splits, guesses at or drops unless it is quoted: line ends of every kind, delimiters, quotes, NUL.
_SPECIAL = late(r'[\r\n\v\f\x1c-\x1e\x85\u2028\u2029",;\t|\0]')
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def pieces(published: Published, rows: Rows) -> Iterator[str]:
    """The text of a published file. Raises ItemError (O526) for a text that UTF-8 cannot spell."""
    checked = _checked(published, rows)
    if published.format in _DELIMITERS:
        return _table(published, checked)
    if published.format == "json":
        return _array(checked)
    if published.format == "jsonl":
        return (to_json(row) + "\n" for row in checked)
    return (_text(row["output"]) + "\n" for row in checked)


def _checked(published: Published, rows: Rows) -> Iterator[Mapping[str, Any]]:
    for number, (key, row) in enumerate(rows, 1):
        column = next((name for name, value in row.items() if not is_storable(value)), None)
        if column is not None:
            where = f"row {number} (key {key!r:.100}), column {column!r:.100}"
            message = f"{where} of {published.path.name}: half of a surrogate pair, which is no character"
            raise ItemError(message, code="O526")
        yield row


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _array(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(rows):
        yield f"{',' if number else ''}\n  {to_json(row)}"
    yield "\n]\n"


def _table(published: Published, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    delimiter, escape = _DELIMITERS[published.format], published.escape_formulas

    def line(values: Iterable[Any]) -> str:
        cells = [_cell(value, escape=escape) for value in values]
        return (delimiter.join(cells) or '""') + "\n"  # readers drop an empty line, which one column may come to

    yield line(tuple(published.columns) or ("key", "output"))
    for row in rows:
        yield line(row.values())


def _cell(value: Any, *, escape: bool) -> str:
    if value is None:
        return ""
    text = _text(value)
    if escape and isinstance(value, str) and text.startswith(_FORMULA):
        text = "'" + text
    if _is_quoted(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _is_quoted(text: str) -> bool:
    """Whether a reader could take the text for another one: an empty text is not null, and blanks are trimmed."""
    return not text or text[0].isspace() or text[-1].isspace() or text[0] == "\ufeff" or bool(_SPECIAL.search(text))
