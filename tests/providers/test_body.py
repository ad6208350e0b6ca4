"""Bodies that are hostile or broken are told apart from those that are not, in bounded time."""

from __future__ import annotations

import contextlib
import json
import time
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.errors import BadReply, CallFailed
from llmpipe.providers.body import (
    MAX_DEPTH,
    NotJsonBody,
    as_count,
    as_list,
    as_map,
    as_text,
    clean,
    dump_json,
    first_map,
    merged,
    read_json,
)
from llmpipe.providers.wires import decode
from llmpipe.types import HttpReply
from tests.providers.golden_files import WIRES, target_of

HOSTILE = [
    b"[" * 200_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": 1, "a": 2}',
    b'{"a": "\\ud83d"}',
    b'{"\\udc00": 1}',
    b'{"a": "\xff"}',
    b'{"a": ' + b"9" * 10_000 + b"}",
    b"\xff\xfe{\x00}\x00",
    b'{"a": 1} trailing',
    b'{"a": 1',
    b"",
    b"null and void",
    b'"' + b"\\" * 99_999,
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_body_is_refused_at_once(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(NotJsonBody):
        read_json(body)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_body_is_a_bad_reply_on_every_wire(wire: str, body: bytes) -> None:
    target = target_of({"provider": wire.removesuffix("_chat"), "model": "m"})
    with pytest.raises(BadReply) as caught:
        decode(HttpReply(200, {}, body), target)
    assert len(caught.value.raw or "") <= 256 * 1024


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    with contextlib.suppress(NotJsonBody):
        assert read_json(dump_json(read_json(data))) == read_json(data)


_text = st.text(st.characters(codec="utf-8"), max_size=20)
_leaf = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _text
)
_json = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=15
)


@given(_json)
def test_what_is_written_is_read_back(value: object) -> None:
    assert read_json(dump_json(value)) == value
    assert read_json(b"\xef\xbb\xbf" + dump_json(value)) == value


@given(_json, _json)
def test_any_object_in_place_of_an_answer_is_a_classified_error_or_an_answer(left: object, right: object) -> None:
    body = json.dumps({"choices": left, "message": right, "content": left, "error": right, "candidates": left,
                       "status": "completed", "output": left, "usage": right, "done": True})  # fmt: skip
    for wire in WIRES:
        target = target_of({"provider": wire.removesuffix("_chat"), "model": "m"})
        for status in (200, 400, 429, 500):
            with contextlib.suppress(CallFailed):
                assert decode(HttpReply(status, {}, body.encode()), target).text.strip()


def test_depth_and_number_of_values_end_at_their_bounds() -> None:
    def nested(depth: int) -> bytes:  # with a neighbour, so that there are more brackets than levels
        return b"[[]," + b"[" * (depth - 1) + b"]" * depth

    assert read_json(nested(128))
    assert read_json(b"[" * 128 + b"]" * 128)
    assert len(read_json(b"[" + b"[]," * 1_000 + b"{}]")) == 1_001
    for deep in (nested(129), b"[" * 129 + b"]" * 129, b'{"a":' * 129 + b"1" + b"}" * 129):
        with pytest.raises(NotJsonBody, match="nested more than 128 levels deep"):
            read_json(deep)
    assert len(read_json(b"[" + b"1," * 249_999 + b"1]")) == 250_000
    assert len(read_json(b"[" + b'"[",' * 249_999 + b'"]"]')) == 250_000
    for many in (b"[" + b"1," * 250_000 + b"1]", b"[" + b'"[",' * 250_000 + b'"]"]'):
        with pytest.raises(NotJsonBody, match="more than 250,000 values"):
            read_json(many)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a":"\xff"}', r"not UTF-8 \(byte 6\)"),
        (b'{"a":1', r"not JSON: .* \(character 6\)"),
        (b'{"a":NaN}', "not JSON: NaN is no number"),
        (b'{"a":1e999}', "a number in it is too large"),
        (b'{"a":' + b"9" * 5_000 + b"}", "a number in it is too long"),
        (b'{"a":1,"a":1}', "a name stands twice in one object"),
        (b'[{"b":["\\ud800"]}]', "half a surrogate pair in a text"),
        (b'[{"\\ud800":1}]', "half a surrogate pair in a text"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(body: bytes, said: str) -> None:
    with pytest.raises(NotJsonBody, match=said):
        read_json(body)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "Out of range float values are not JSON compliant"),
        (object(), "cannot be written as JSON: object is no JSON value"),
        (b"x", "bytes is no JSON value"),
        (bytearray(b"x"), "bytearray is no JSON value"),
        ("\ud800", "half a surrogate pair, which UTF-8 cannot spell"),
    ],
)
def test_what_json_cannot_hold_is_not_sent(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dump_json({"a": [value]})


def test_mappings_and_other_lists_are_written_in_their_order() -> None:
    value = {"b": MappingProxyType({"z": 1, "a": (1, 2)}), "a": "é"}
    assert dump_json(value) == '{"b":{"z":1,"a":[1,2]},"a":"é"}'.encode()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([{"a": 1}, {"b": 2}], {"a": 1}),
        ([], {}),
        ([1], {}),
        ({"a": 1}, {}),
        (None, {}),
    ],
)
def test_the_first_object_of_a_list(value: object, found: object) -> None:
    assert first_map(value) == found


def test_odd_values_are_empty_ones() -> None:
    assert (as_map({"a": 1}), as_map([1]), as_map(None)) == ({"a": 1}, {}, {})
    assert (as_list([1]), as_list({"a": 1}), as_list("x")) == ([1], [], [])
    assert (as_text("x"), as_text(1), as_text(None)) == ("x", "", "")


def test_brackets_in_texts_are_no_depth() -> None:
    assert read_json(json.dumps({"a": "[" * 10_000 + '"' + "{" * 500}).encode())["a"]


def test_extra_is_laid_over_objects_and_replaces_the_rest() -> None:
    assert merged({"o": {"a": 1, "b": 2}, "l": [1]}, {"o": {"b": 3}, "l": [2], "n": None}) == {
        "o": {"a": 1, "b": 3},
        "l": [2],
        "n": None,
    }


@pytest.mark.parametrize(
    ("value", "count"),
    [(3, 3), (3.0, 3), (0, 0), (True, None), (-1, None), ("3", None), (None, None), (1.5, None), (float("inf"), None),
     (2**53, 2**53), (2**53 + 1, None), (float(2**53), 2**53), (0.5, None), (0.0, 0), (-0.5, None)],
)  # fmt: skip
def test_counts(value: object, count: int | None) -> None:
    assert as_count(value) == count


def test_words_of_a_provider_lose_what_a_terminal_would_obey() -> None:
    assert clean("a\x1b[31mred\x07\r\nb\u202ec\x9b") == "a [31mred b c"
    assert clean("x" * 10_000) == "x" * 397 + "..."
    assert clean("x" * 400) == "x" * 400
    assert clean("x" * 401, 400) == clean("x" * 401) == "x" * 397 + "..."
    assert clean("abcdef", 5) == "ab..."
    assert [clean("x" + " " * blanks + "y") for blanks in (1_598, 1_599)] == [
        "x y",
        "x",
    ]  # what is looked at is bounded
    assert clean(" a  b\t") == "a b"


def test_the_number_of_values_is_bounded_before_they_are_built_and_texts_do_not_count() -> None:
    start = time.process_time()
    with pytest.raises(NotJsonBody, match="values"):
        read_json(b"[" + b"[]," * 2_000_000 + b"[]]")
    assert time.process_time() - start < 2.0
    assert read_json(b'{"a": "' + b"[,{" * 200_000 + b'"}') == {"a": "[,{" * 200_000}
