"""A YAML document as nodes that know where they stand, down to the line and column of each character of a value."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmpipe.errors import Place
from llmpipe.late import late

Kind = Literal["map", "list", "str", "int", "float", "bool", "null"]

_BREAK = late(r"\r\n|\n|\r")
_ESCAPE = late(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\r\n|.)", re.DOTALL)
_ESCAPED_BLANK = frozenset("tnvfre NLP_\n\r\t0ab")  # escapes that stand for white space or a control character
_PROPERTIES = late(r"(?:[&!][^\s,\[\]{}]*(?:[ \t\r\n]+(?:#[^\r\n]*)?)+)+")  # anchor and tag

SPOILT = "spoilt"
KIND_NAMES: dict[str, str] = {
    "map": "a mapping",
    "list": "a list",
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}


class SourceText:
    """The text of one file, and the place of each of its characters.

    `file` is the name that people are shown; `path` the absolute path, or None for text that is in no file.
    """

    def __init__(self, text: str, *, file: str, path: Path | None = None, fixed: Place | None = None) -> None:
        self.text, self.file, self.path, self._fixed = text, file, path, fixed
        self._starts: list[int] | None = None

    def place(self, start: int, end: int | None = None) -> Place:
        """The place of the characters from `start` to `end`; the width stays on the first line."""
        if self._fixed is not None:
            return self._fixed
        starts = self._line_starts()
        row = bisect_right(starts, start) - 1
        stop = starts[row + 1] if row + 1 < len(starts) else len(self.text)
        stop = start + len(self.text[start:stop].rstrip())
        width = max(1, min(end if end is not None else start + 1, stop) - start)
        return Place(self.file, row + 1, start - starts[row] + 1, width)

    def index(self, place: Place) -> int:
        """The index of the first character of a place in this text."""
        return 0 if self._fixed is not None else self._line_starts()[place.line - 1] + place.column - 1

    def behind_properties(self, start: int, end: int) -> int:
        """Where the value that stands from `start` to `end` begins behind its anchor and its tag."""
        found = _PROPERTIES.match(self.text, start)
        return found.end() if found is not None and found.end() < end else start

    def _line_starts(self) -> list[int]:
        if self._starts is None:
            self._starts = [0, *(m.end() for m in _BREAK.finditer(self.text))]
        return self._starts


@dataclass(slots=True, eq=False)
class Node:
    """A value of the document: `value` is a dict of nodes, a list of nodes, or a scalar.

    `keys` are the key nodes of a mapping; `raw` a number as it was written; `start` and `end` are character indexes.
    """

    kind: Kind
    value: Any
    source: SourceText
    start: int
    end: int
    raw: str = ""
    style: str | None = None
    keys: dict[str, Node] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where the value stands."""
        return self.source.place(self.start, self.end)

    def key_place(self, key: str) -> Place:
        """Where the key of a mapping stands; the mapping's own place if it has no such key."""
        node = self.keys.get(key)
        return node.place if node is not None else self.place

    def plain(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if self.kind == "map":
            return {key: node.plain() for key, node in self.value.items()}
        if self.kind == "list":
            return [node.plain() for node in self.value]
        return self.value

    def spoil(self) -> None:
        """Mark a value as unusable: whoever reads it later takes it for left out, so that one mistake is told once."""
        self.kind, self.value, self.style = "null", None, SPOILT

    @property
    def is_spoilt(self) -> bool:
        """Whether the value was found unusable."""
        return self.style == SPOILT

    def walk(self) -> Iterator[Node]:
        """This node, its keys and everything below, in the order of the file."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            if node.kind == "map":
                for key, child in reversed(node.value.items()):
                    stack += (child, node.keys[key])
            elif node.kind == "list":
                stack += reversed(node.value)

    def locate(self, line: int, column: int, width: int = 1) -> Place:
        """The place in the file of a spot of this scalar's text, by its 1-based line and column in the text."""
        lines = self.value.split("\n")
        offset = sum(len(row) + 1 for row in lines[: line - 1]) + column - 1
        return self.locate_offset(offset, width)

    def locate_offset(self, offset: int, width: int = 1) -> Place:
        """The place in the file of the character at `offset` in this scalar's text."""
        start = _source_index(self, offset)
        last = _source_index(self, offset + width - 1) if width > 1 else start
        return self.source.place(start, max(start, last) + 1)


def key_word(node: Node) -> str:
    """What a scalar is that cannot be a key."""
    return {"null": "an empty value", "bool": "a truth value"}.get(node.kind, "a number")


def style_at(text: str, index: int, *, plain: bool) -> str | None:
    """The style of a scalar that begins at `index`: the C parser's events carry none, but its first sign tells."""
    if plain:
        return None
    first = text[index : index + 1]
    return first if first in ("'", '"', "|", ">") else None


def empty_map(source: SourceText) -> Node:
    """A mapping without entries, for a file that has none."""
    return Node("map", {}, source, 0, 0)


def _source_index(node: Node, offset: int) -> int:
    """Index in the file of the character at `offset` of a scalar.

    White space differs between a YAML scalar and its value (indentation, folding, line ends), the rest does not:
    so both texts are walked along their visible characters.
    """
    value: str = node.value
    if value.isspace() or not value or node.source.text == value:
        return node.start if value.isspace() or not value else offset
    visible = _visible_indexes(node)
    blanks = offset
    while blanks < len(value) and value[blanks].isspace():
        blanks += 1
    count = sum(not ch.isspace() for ch in value[: min(blanks, len(value))])
    if count >= len(visible):
        return max(node.start, node.end - 1)
    found = visible[count]
    same_line = "\n" not in value[offset:blanks]
    return found - (blanks - offset) if same_line and offset < blanks <= found else found


def _visible_indexes(node: Node) -> list[int]:
    text, start, end = node.source.text, node.start, node.end
    if node.style == '"':
        return list(_visible_in_double_quotes(text, start + 1, end - 1))
    if node.style == "'":
        return list(_visible_in_single_quotes(text, start + 1, end - 1))
    if node.style in ("|", ">"):
        header = _BREAK.search(text, start)
        start = header.end() if header else end
    return [i for i in range(start, end) if not text[i].isspace()]


def _visible_in_single_quotes(text: str, start: int, end: int) -> Iterator[int]:
    i = start
    while i < end:
        if not text[i].isspace():
            yield i
        i += 2 if text[i] == "'" else 1


def _visible_in_double_quotes(text: str, start: int, end: int) -> Iterator[int]:
    i = start
    while i < end:
        escape = _ESCAPE.match(text, i, end) if text[i] == "\\" else None
        if escape is None:
            if not text[i].isspace():
                yield i
            i += 1
            continue
        if escape.group()[1] in "xuU" or escape.group()[1] not in _ESCAPED_BLANK:
            yield i
        i = escape.end()
