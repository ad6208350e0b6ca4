"""Patterns of modules: nothing is compiled before it is used, and then they are patterns."""

from __future__ import annotations

import re

import pytest

from llmpipe.late import late


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    broken = late("(")
    with pytest.raises(re.error):
        broken.search("x")


def test_it_does_what_a_pattern_does() -> None:
    word = late(r"(?P<first>[a-z])\w*", re.IGNORECASE)
    found = word.fullmatch("Word")
    assert found is not None
    assert found["first"] == "W"
    assert [m.group() for m in word.finditer("one Two")] == ["one", "Two"]
    assert word.sub("x", "a b") == "x x"
    assert word.pattern == r"(?P<first>[a-z])\w*"
    assert late(rb"a+").findall(b"aab") == [b"aa"]
    with pytest.raises(AttributeError):
        word.nothing  # noqa: B018
