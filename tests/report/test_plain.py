"""Text from rows, replies and file names can be printed without steering the terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.report.plain import plain, plain_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07rest", "]0;titlerest"),
        ("\x9b31mC1", "31mC1"),
        ("a\x00b\x7fc", "abc"),
        ("one\ntwo\r\nthree\tfour", "one two three four"),
        ("over\rwritten", "over written"),
        ("abc\u202edcba", "abcdcba"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("line\u2028separator", "line separator"),
        ("lone\ud800surrogate", "lonesurrogate"),
        ("no\udcff\udc80UTF-8", "no\\xff\\x80UTF-8"),
        ("family 👩\u200d👩\u200d👧 stays", "family 👩\u200d👩\u200d👧 stays"),
        ("Zoë, 日本", "Zoë, 日本"),
    ],
)
def test_control_characters_are_lost_and_text_stays(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_line_breaks_and_indentation_stay_where_they_are_wanted() -> None:
    assert plain("a\r\n\tb\x1b[2J\rc", multiline=True) == "a\n    b[2J\nc"


@given(st.text(alphabet=st.characters()))
def test_nothing_that_steers_is_left(text: str) -> None:
    for multiline in (False, True):
        shown = plain(text, multiline=multiline)
        left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
        assert left <= ({"\n"} if multiline else set())
        assert not any(
            unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            for c in shown
        )
        shown.encode("utf-8")


@given(st.recursive(st.text(alphabet=st.characters()) | st.integers() | st.booleans() | st.none(), st.lists))
def test_a_printed_json_document_is_harmless_and_the_same_value(value: object) -> None:
    shown = plain_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    assert plain(shown) == shown
