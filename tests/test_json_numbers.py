"""Numbers of data: one value has one form, and what would lose a digit is refused."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.json_numbers import UnkeptNumber, one_form, read_float, read_number


@pytest.mark.parametrize("text", ["3.0", "3e0", "30e-1", "0.03e2", "3.000", "3E+0"])
def test_a_whole_number_is_an_int_however_it_was_written(text: str) -> None:
    assert (read_number(text), type(read_number(text))) == (3, int)


@pytest.mark.parametrize("text", ["-0.0", "0.0", "0e5", "-0e-7", "0e99999999999999999999"])
def test_every_zero_is_0(text: str) -> None:
    assert repr(read_number(text)) == "0"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1E2", 100),
        ("1e22", 10**22),
        ("1e23", 10**23),  # which no float is
        ("1e308", 10**308),
        ("12345678901234567.0", 12345678901234567),
        ("9007199254740993.0", 2**53 + 1),
        ("0.10", 0.1),
        ("1e-7", 1e-07),
        ("0.30000000000000004", 0.30000000000000004),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 17976931348623157 * 10**292),
    ],
)
def test_no_digit_changes(text: str, value: float) -> None:
    assert repr(read_number(text)) == repr(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.1234567890123456789", "more digits than a number keeps (it would become 0.12345678901234568)"),
        ("12345678901234567.89", "more digits"),
        ("3.3333333333333333", "more digits"),
        ("100000000000000000000000.5", "more digits"),
        ("1e400", "too large"),
        ("-1e400", "too large"),
        ("1e-400", "too small to be told from 0"),
        ("1e-99999999999999999999", "too small"),
        ("0." + "1" * 5000, "more than 4,300 digits"),
    ],
)
def test_what_would_become_another_number_is_refused(text: str, words: str) -> None:
    for read in (read_number, read_float):
        with pytest.raises(UnkeptNumber) as caught:
            read(text)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 200


def test_the_number_is_shown_as_it_was_written_or_its_beginning() -> None:
    for digits, shown in ((38, "0." + "1" * 38), (39, "0." + "1" * 35 + "...")):
        with pytest.raises(UnkeptNumber) as caught:
            read_number("0." + "1" * digits)
        why = "has more digits than a number keeps (it would become 0.1111111111111111)"
        assert caught.value.fault == f"the number {shown} {why}"
        assert str(caught.value) == f"{caught.value.fault}; write it as a text, in quotes"
        assert caught.value.text == "0." + "1" * digits
    with pytest.raises(UnkeptNumber) as large:
        read_number("1e400")
    assert (str(large.value), large.value.advice) == ("the number 1e400 is too large", "")
    assert read_number("1." + "0" * 4_298) == 1
    for read in (read_number, read_float):
        with pytest.raises(UnkeptNumber, match="has more than 4,300 digits"):
            read("1." + "0" * 4_299)


def test_a_computed_value_has_the_one_form_in_every_part() -> None:
    found = one_form({"a": [3.0, 0.5, True, "3.0", None, {"b": -0.0}], "c": 1e23, "d": (3.0,)})
    assert repr(found) == repr({"a": [3, 0.5, True, "3.0", None, {"b": 0}], "c": 10**23, "d": (3.0,)})
    assert repr(one_form(2.0)) == "2"


def test_a_document_keeps_its_own_form() -> None:
    assert repr(read_float("3.0")) == "3.0"
    assert repr(read_float("1e22")) == "1e+22"
    with pytest.raises(UnkeptNumber):
        read_float("12345678901234567.0")


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_what_is_read_is_what_was_written(text: str) -> None:
    try:
        value = read_number(text)
    except UnkeptNumber:
        return
    try:
        assert Decimal(repr(value)) == Decimal(text)
    except InvalidOperation:
        assert value == 0
    assert isinstance(value, int) == (Decimal(repr(value)) % 1 == 0 if abs(value) < 10**27 else True)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_that_was_written_by_a_program_is_always_kept(value: float) -> None:
    assert float(read_number(repr(value))) == value


def test_computed_values_take_the_same_form() -> None:
    computed = {"a": 3.0, "b": [1e23, True, "3.0", None, {"c": -0.0}], "d": 2.5}
    assert repr(one_form(computed)) == repr({"a": 3, "b": [10**23, True, "3.0", None, {"c": 0}], "d": 2.5})
