"""Cuts a long text into overlapping pieces by characters, lines or estimated tokens, with their offsets."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Literal

from llmpipe.frozen import frozen
from llmpipe.late import late

_QUARTERS = 4  # a token is counted in quarters, so that sums are whole numbers
_WIDE_FROM = "\u2e80"  # from here on: Chinese, Japanese, Korean, emoji
_LINE = late(r"[^\n]*\n|[^\n]+")
_LONGEST_CLUSTER = 16  # characters that a cut moves at most to keep a letter and its marks together


@frozen
class Piece:
    """A part of a text: `text == whole[start:end]`; offsets in characters, `number` from 1."""

    text: str
    start: int
    end: int
    number: int


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, rounded up: 4 characters of ASCII, 2 of other alphabets, 1 of CJK or emoji.

    No tokenizer agrees with another; this is on the high side for prose, so that what fits by it fits.
    """
    if text.isascii():
        return -(-len(text) // _QUARTERS)
    return -(-sum(map(_quarters, text)) // _QUARTERS)


def _quarters(character: str) -> int:
    return 1 if character < "\x80" else 2 if character < _WIDE_FROM else 4


def split_text(text: str, *, by: Literal["characters", "lines", "tokens"], size: int, overlap: int) -> Iterator[Piece]:
    """The pieces of `text` in order, each at most `size` long and beginning `overlap` before the end of the last.

    Together they cover every character; an empty text has none. `characters` and `tokens` keep a letter together with
    its marks and CR LF together where the size allows it; `tokens` (estimated by `estimate_tokens`) also prefers to
    cut and to begin at a blank. Raises ValueError unless size > 0 and 0 <= overlap < size.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"pieces need size > 0 and 0 <= overlap < size, not {size} and {overlap}")
    cut = {"characters": _by_characters, "lines": _by_lines, "tokens": _by_tokens}[by]
    return cut(text, size, overlap)


def _by_characters(text: str, size: int, overlap: int) -> Iterator[Piece]:
    return _walk(
        text,
        end_of=lambda start: _between_clusters(text, min(start + size, len(text)), start + overlap + 1),
        start_after=lambda end: end - overlap,
    )


def _by_lines(text: str, size: int, overlap: int) -> Iterator[Piece]:
    starts = [match.start() for match in _LINE.finditer(text)] + [len(text)]
    for number, first in enumerate(range(0, max(len(starts) - 1 - overlap, min(len(text), 1)), size - overlap), 1):
        start, end = starts[first], starts[min(first + size, len(starts) - 1)]
        yield Piece(text[start:end], start, end, number)


def _by_tokens(text: str, size: int, overlap: int) -> Iterator[Piece]:
    room, shared = size * _QUARTERS, overlap * _QUARTERS

    def end_of(start: int) -> int:
        window = text[start : start + room]
        end = start + _fitting(window, room)
        if end >= len(text):
            return len(text)
        least = start + 1 + _fitting(window, room - max((room - shared) // 4, 1))
        return _at_blank(text, end, least) or _between_clusters(text, end, least)

    def start_after(end: int) -> int:
        before = text[max(0, end - shared) : end] if shared else ""
        start = end - _fitting(before[::-1], shared)
        return next((i for i in range(start, end) if i == 0 or text[i - 1].isspace()), start)

    return _walk(text, end_of=end_of, start_after=start_after)


def _fitting(text: str, quarters: int) -> int:
    """How many characters from the beginning fit into so many quarters of a token."""
    if text.isascii():
        return min(len(text), quarters)
    return bisect_right(list(accumulate(map(_quarters, text))), quarters)


def _walk(text: str, *, end_of: Callable[[int], int], start_after: Callable[[int], int]) -> Iterator[Piece]:
    """Pieces from `end_of(start)` and `start_after(end)`; each begins and ends behind the one before."""
    start = number = 0
    while start < len(text):
        number += 1
        end = max(end_of(start), start + 1)
        yield Piece(text[start:end], start, end, number)
        if end >= len(text):
            return
        start = max(start_after(end), start + 1)


def _at_blank(text: str, end: int, least: int) -> int:
    """The last position from `least` to `end` that follows a blank; 0 if there is none."""
    return next((i for i in range(end, least - 1, -1) if text[i - 1].isspace()), 0)


def _between_clusters(text: str, end: int, least: int) -> int:
    """`end`, or a position shortly before it (not before `least`) that does not part a letter from its marks."""
    for i in range(end, max(least, end - _LONGEST_CLUSTER) - 1, -1):
        if i >= len(text) or not _belongs(text[i - 1], text[i]):
            return i
    return end


def _belongs(before: str, character: str) -> bool:
    """True if nothing should be cut between these two."""
    if character < "\x80":
        return before == "\r" and character == "\n"
    joiner, selectors, skin = "\u200d", ("\ufe00", "\ufe0f"), ("\U0001f3fb", "\U0001f3ff")
    return (
        unicodedata.combining(character) != 0
        or joiner in (before, character)
        or selectors[0] <= character <= selectors[1]
        or skin[0] <= character <= skin[1]
    )
