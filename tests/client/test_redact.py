"""The redactor: a secret in any form in which it may be quoted, and nothing else."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.redact import MASK, Redactor

KEY = 'canary/+="ä\\9431-key'
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)


@given(PRINTABLE, st.binary(max_size=5), st.binary(max_size=5))
def test_base64_at_every_offset_and_in_both_alphabets(key: str, before: bytes, after: bytes) -> None:
    redactor = Redactor([key], shapes=False)
    inner = base64.b64encode(key.encode()).decode().rstrip("=")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + key.encode() + after).decode()
        cleaned = redactor.text(text)
        assert MASK in cleaned
        assert inner not in cleaned
        left = cleaned.replace(MASK, "")
        assert len(left) <= len(text) - len(key), "no more than the edges, which hold bits of the neighbours, stay"


@given(PRINTABLE)
def test_every_quoted_form_is_found(key: str) -> None:
    redactor = Redactor([key], shapes=False)
    forms = [
        key,
        quote(key, safe=""),
        quote_plus(key),
        json.dumps(key),
        json.dumps(json.dumps(key)),
        repr(key),
        repr([key]),
        f"https://host/?key={quote(key)}",
        key.encode().hex(),
    ]
    for form in forms:
        cleaned = redactor.text(f"before {form} after")
        assert key not in cleaned
        assert MASK in cleaned, form
        assert cleaned.startswith("before ")
        assert cleaned.endswith(" after")


def test_nested_data_keys_and_bytes() -> None:
    redactor = Redactor([KEY])
    data = {"a": [f"x{KEY}", 1, None, {"b": (KEY,)}], KEY: True, "raw": KEY.encode(), "n": 1.5}
    assert redactor.data(data) == {"a": [f"x{MASK}", 1, None, {"b": [MASK]}], MASK: True, "raw": MASK, "n": 1.5}


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghijklmnop1234",
        "Incorrect API key provided: sk-proj-abcdefghijklmnopqr.",
        "x-api-key: 0123456789abcdef",
        '{"api_key": "0123456789abcdef"}',
        "x-goog-api-key=AIzaSyA-0123456789abcdefghij",
        "the key AIzaSyA-0123456789abcdefghij is bad",
        "http://user:pa55word@proxy:3128/",
        "gsk_0123456789abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
    ],
)
def test_what_looks_like_a_key_is_taken_out_too(text: str) -> None:
    assert MASK in Redactor().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "a bearer of good news arrived yesterday",
        "task-force and risk-management",
        "https://api.openai.com/v1/chat/completions",
        "the ratio is 3:4@home",
        "authorization: none",
        '{"input_tokens": 1200, "model": "gpt-5-mini-2025-08-07"}',
        "req_0123456789abcdefghijkl",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor(["some-secret-value"]).text(text) == text


def test_short_values_are_not_hunted_for() -> None:
    assert Redactor(["", "abc"]).text("abc and more") == "abc and more"


def test_values_may_be_added_later() -> None:
    redactor = Redactor()
    assert redactor.text("hunter22") == "hunter22"
    redactor.add(["hunter22"])
    assert redactor.text("hunter22") == MASK


def test_redacting_twice_changes_nothing() -> None:
    redactor = Redactor([KEY])
    once = redactor.text(f"api_key={KEY} Bearer {KEY} x-api-key: abcdef1234567890")
    assert redactor.text(once) == once
