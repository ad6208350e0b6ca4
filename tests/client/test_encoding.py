"""Stored responses: they come back as they went in, and a damaged or swapped one does not come back at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.encoding import response_from_json, response_to_json, seal, unseal
from llmpipe.types import Attempt, LLMResponse, Usage

COUNT = st.none() | st.integers(0, 10**9)
TEXT = st.text(st.characters(), max_size=30)  # lone surrogates among them
USAGE = st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT)
ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(1, 9),
    model=TEXT,
    started_at=st.floats(0, 2e9),
    latency_s=st.floats(0, 1e4),
    outcome=TEXT,
    code=st.none() | TEXT,
    status=st.none() | st.integers(100, 599),
    wait_s=st.none() | st.floats(0, 10),
    billed=st.sampled_from(["no", "maybe", "yes"]),
    usage=st.none() | USAGE,
    raw=st.none() | TEXT,
)
RESPONSES = st.builds(
    LLMResponse,
    text=TEXT,
    model=TEXT,
    provider=TEXT,
    usage=USAGE,
    reasoning=st.none() | TEXT,
    latency_s=st.floats(0, 1e4),
    cached=st.booleans(),
    attempts=st.lists(ATTEMPTS, max_size=2).map(tuple),
    output=st.none() | st.dictionaries(TEXT, st.integers() | st.lists(st.booleans(), max_size=2), max_size=2),
    reasks=st.integers(0, 3),
    cost_usd=st.none() | st.decimals(0, 100, places=8),
    rate_limits=st.dictionaries(TEXT, TEXT, max_size=2),
    notes=st.lists(TEXT, max_size=2).map(tuple),
)
MATERIAL = b'{"v":1}'
KEY = hashlib.sha256(MATERIAL).hexdigest()


@given(RESPONSES)
def test_a_response_comes_back_as_it_went_in(response: LLMResponse) -> None:
    back = response_from_json(response_to_json(response))
    assert back == response
    assert isinstance(back.attempts, tuple)
    assert back.cost_usd is None or isinstance(back.cost_usd, Decimal)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'"x"', b"null", b"{}", b'{"text":"a"}', b'{"text":1,"colour":2}', b"\xff"]
)
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several of the json module's own
        response_from_json(data)


def test_nested_beyond_measure_is_a_value_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several of the json module's own
        response_from_json(b'{"output":' + b"[" * 200_000)


@given(RESPONSES)
def test_a_sealed_answer_keeps_what_the_provider_said_and_drops_what_belongs_to_one_call(response: LLMResponse) -> None:
    stored = unseal(seal(response, material=MATERIAL, at=12.5), key=KEY)
    assert stored is not None
    back = stored.response
    assert (back.text, back.usage, back.reasoning, back.notes) == (
        response.text,
        response.usage,
        response.reasoning,
        response.notes,
    )
    assert (back.attempts, back.request_id, back.output, back.cached, back.cost_usd) == ((), "", None, False, None)
    assert (stored.at, stored.material) == (12.5, MATERIAL)


SEALED = seal(LLMResponse(text="yes", model="m", provider="p"), material=MATERIAL, at=1.0)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_flipped_byte_makes_it_a_miss(at: int, mask: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= mask
    assert unseal(bytes(damaged), key=KEY) is None


@given(st.integers(0, len(SEALED) - 1))
def test_a_cut_one_is_a_miss(length: int) -> None:
    assert unseal(SEALED[:length], key=KEY) is None


def test_an_answer_under_the_key_of_another_is_a_miss() -> None:
    assert unseal(SEALED, key=hashlib.sha256(b"other").hexdigest()) is None


@given(st.binary(max_size=200))
def test_foreign_bytes_are_a_miss(data: bytes) -> None:
    assert unseal(data, key=KEY) is None


def test_a_well_sealed_answer_of_a_foreign_shape_is_a_miss() -> None:
    for head in (b"[]", b"{}", b'{"at":1,"response":{"colour":1}}', b'{"at":"x","response":{}}', b"{"):
        body: Any = head + b"\n" + MATERIAL
        sealed = b"llmpipe-response/1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        assert unseal(sealed, key=KEY) is None


@given(RESPONSES, RESPONSES)
def test_having_changes_what_is_named_and_nothing_else(one: LLMResponse, other: LLMResponse) -> None:
    names = ("text", "notes", "cost_usd")
    changes = {name: getattr(other, name) for name in names}
    assert one.having(**changes) == replace(one, **changes)
    with pytest.raises(TypeError, match="colour"):
        one.having(colour=1)
