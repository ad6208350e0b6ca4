"""Pieces cover the whole text, overlap as asked, and know where they stand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.engine.pieces import estimate_tokens, split_text

Unit = Literal["characters", "lines", "tokens"]


def texts(text: str, by: Unit, size: int, overlap: int) -> list[str]:
    return [piece.text for piece in split_text(text, by=by, size=size, overlap=overlap)]


def length(text: str, by: str) -> int:
    if by == "lines":
        return text.count("\n") + (not text.endswith("\n") and text != "")
    return len(text) if by == "characters" else estimate_tokens(text)


@given(
    st.text(st.sampled_from("ab \n\r\u0301é漢👍\u200d")) | st.text(),
    st.sampled_from(["characters", "lines", "tokens"]),
    st.integers(1, 12),
    st.data(),
)
def test_pieces_cover_the_text_in_order(text: str, by: Unit, size: int, data: Any) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    pieces = list(split_text(text, by=by, size=size, overlap=overlap))
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    reached = 0
    for before, piece in zip([None, *pieces], pieces, strict=False):
        assert piece.text == text[piece.start : piece.end]
        assert piece.start <= reached < piece.end
        assert before is None or before.start < piece.start
        assert length(piece.text, by) <= size or len(piece.text) == 1
        assert length(text[piece.start : reached], by) <= overlap or piece.start == reached
        reached = piece.end
    assert reached == len(text)


def test_characters_are_counted_exactly() -> None:
    assert texts("abcdefghij", "characters", 4, 1) == ["abcd", "defg", "ghij"]
    assert texts("abcdefghij", "characters", 4, 0) == ["abcd", "efgh", "ij"]
    assert texts("abc", "characters", 10, 3) == ["abc"]


def test_lines_are_kept_whole() -> None:
    assert texts("1\n2\r\n\n4\n5", "lines", 3, 1) == ["1\n2\r\n\n", "\n4\n5"]
    assert texts("1\n2\n3\n4\n", "lines", 2, 0) == ["1\n2\n", "3\n4\n"]
    assert texts("1\n2\n3", "lines", 2, 1) == ["1\n2\n", "2\n3"]


def test_tokens_are_cut_at_blanks_where_they_can_be() -> None:
    found = list(split_text("The quick brown fox jumps over the lazy dog. " * 20, by="tokens", size=20, overlap=5))
    assert len(found) > 10
    assert all(piece.text[-1] == " " or piece is found[-1] for piece in found)
    assert all(piece.start == 0 or piece.text[0] != " " for piece in found)
    assert all(after.start < before.end for before, after in pairwise(found))


def test_a_text_without_blanks_is_cut_all_the_same() -> None:
    assert texts("x" * 100, "tokens", 10, 0) == ["x" * 40, "x" * 40, "x" * 20]
    assert texts("漢" * 25, "tokens", 10, 2) == ["漢" * 10, "漢" * 10, "漢" * 9]


def test_a_letter_and_its_marks_stay_together() -> None:
    assert texts("abe\u0301cd", "characters", 3, 0) == ["ab", "e\u0301c", "d"]
    assert texts("ab\r\ncd", "characters", 3, 0) == ["ab", "\r\nc", "d"]


def test_an_empty_text_has_no_pieces() -> None:
    assert [texts("", by, 3, 1) for by in ("characters", "lines", "tokens")] == [[], [], []]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (3, 3), (3, 4), (3, -1), (-1, 0)])
def test_sizes_that_make_no_progress_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size > 0"):
        split_text("abc", by="characters", size=size, overlap=overlap)


def test_tokens_are_estimated_by_script() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "äöüß", "漢字")] == [0, 1, 1, 2, 2, 2]


def test_a_long_text_is_cut_in_time_that_grows_with_its_length() -> None:
    text = "word " * 400_000
    assert sum(1 for _ in split_text(text, by="tokens", size=500, overlap=50)) > 1000
