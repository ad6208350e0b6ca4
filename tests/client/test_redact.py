"""The redactor: a secret in any form in which it may be quoted, and nothing else."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpipe.client.key_values import can_be_key
from llmpipe.client.redact import MASK, Redactor
from llmpipe.client.spellings import fragments

KEY = 'canary/+="ä\\9431-key'
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60).filter(can_be_key)


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


MIXED = {
    "each character as JSON": lambda key: "".join(f"\\u{ord(ch):04x}" for ch in key),
    "each character as JSON, in capitals": lambda key: "".join(f"\\u{ord(ch):04X}" for ch in key),
    "what .NET escapes": lambda key: "".join(f"\\u{ord(ch):04X}" if ch in "+&<>\"'`\\" else ch for ch in key),
    "what Go escapes": lambda key: json.dumps(key)[1:-1].translate({ord(c): f"\\u{ord(c):04x}" for c in "&<>"}),
    "what PHP escapes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/").replace("<", "\\u003C"),
    "each byte in an address": lambda key: "".join(f"%{ord(ch):02X}" for ch in key),
    "an address in an address": lambda key: quote(quote(key, safe=""), safe=""),
    "HTML": html.escape,
    "HTML by numbers": lambda key: "".join(ch if ch.isalnum() else f"&#{ord(ch)};" for ch in key),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "broken over lines": lambda key: f"{key[:9]}\n    {key[9:]}",
    "broken over lines in JSON": lambda key: json.dumps(f"{key[:9]}\r\n{key[9:]}"),
}


@pytest.mark.parametrize("how", MIXED)
@given(key=PRINTABLE)
@settings(max_examples=25)
def test_mixed_spellings_are_found_too(how: str, key: str) -> None:
    cleaned = Redactor([key], shapes=False).text(f"before {MIXED[how](key)} after")
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert MASK in cleaned
    left = cleaned.removeprefix("before ").removesuffix(" after").replace(MASK, "")
    assert len(left) <= 16, "quotes and backslashes around it, or what is left of one character"


@pytest.mark.parametrize("piece", ["\\", " ", "\\n", "%25", "&#0", "c", "canary", "\\u0063", "canary\n "])
def test_a_text_that_was_made_to_be_slow_is_not(piece: str) -> None:
    redactor = Redactor(["canary-9431-key-that-is-long", '\\\\\\\\//""canary'])
    text = "canary" + piece * (256 * 1024 // len(piece)) + "canary"
    began = time.process_time()
    redactor.text(text)
    assert time.process_time() - began < 2


def test_a_line_of_json_stays_one() -> None:
    for key in (KEY, 'ends in a "quote"', '"begins and has \\ more', "plain-key-1234567"):
        for times in (1, 2, 3):
            text = key
            for _ in range(times):
                text = json.dumps({"error": f"bad {text} key"})
            cleaned = Redactor([key]).text(text)
            assert key not in cleaned
            json.loads(cleaned)


@pytest.mark.parametrize("key", ["canary-9431-abcdefghijkl", 'canary/+="\\9431-key'])
def test_what_a_cut_leaves_of_a_key_is_taken_out(key: str) -> None:
    redactor = Redactor([key], shapes=False)
    for size in range(8, len(key)):
        assert redactor.text(f"Incorrect key: {key[:size]}").rstrip('"') == f"Incorrect key: {MASK}"
        assert redactor.text(f"Incorrect key: {key[:size]}...").rstrip('."') == f"Incorrect key: {MASK}"
        assert redactor.text(f"{key[-size:]} is wrong") == f"{MASK} is wrong"
    assert redactor.text(f"within {key[:-1]} a text") == f"within {key[:-1]} a text", "another word is none of ours"


@pytest.mark.parametrize(
    "value",
    [
        "", "abc", "ab12", "hunter22", "k3y-of-11-c", "testing", "default", "unittesting", "internationalisation",
        "PLACEHOLDERKEY", "Notificationservice", "schl\u00fcsselanh\u00e4nger", "ollama", "lm-studio", "not-needed",
        "no-key-required", "sk-no-key-required", "local-testing", "your_api_key_here", "<your-openai-api-key>",
        "DUMMY-KEY-UNUSED", "sk-xxxxxxxxxxxxxxxx", "xxxxxxxxxxxxxxxx", "changeme-please", "openai_compatible",
    ],
)  # fmt: skip
def test_a_word_and_a_short_value_are_no_keys(value: str) -> None:
    assert not can_be_key(value)
    redactor = Redactor({"LOCAL_API_KEY": value})
    text = f"I use {value} and {value.lower()} at home: key={value}"
    assert redactor.known(text) == text
    assert redactor.text(f"about {value}!") == f"about {value}!" or value.startswith("sk-")
    assert redactor.names(text) == ()


@pytest.mark.parametrize(
    "value",
    [
        "0f8fad5b-d9cd-469f-a165-70867728950e", "9e107d9d372bb6826bd81d3542a419d6", "482910573846",
        "a.person@example.com", "sk-proj-Zq8x7Wv6", "correct-horse-battery-staple", "LLM_GATEWAY_K1",
        "xK9 spaces in it", "a(b)[c]{d}.*+?^$|",
        "new\nline\tand-tab1", "\u0434\u043b\u0438\u043d\u043d\u044b\u0439-\u043a\u043b\u044e\u0447-7",
    ],
)  # fmt: skip
def test_what_can_be_a_key_is_masked_as_a_whole_token(value: str) -> None:
    redactor = Redactor({"LOCAL_API_KEY": value})
    for before, after in (
        ("", ""),
        ("a ", " b"),
        ('"', '"'),
        ("key=", "&x=1"),
        ("x-", "-y"),
        ("(", ")."),
        ("\n", "\n"),
    ):
        assert redactor.known(before + value + after) == before + MASK + after
    assert redactor.names("x", f"x {value}") == ("LOCAL_API_KEY",)
    assert redactor.known_data([{"a": value, value: [1, None, True]}]) == [{"a": MASK, MASK: [1, None, True]}]


@pytest.mark.parametrize("text", ["abcdefghijkl12", "xabcdefghijkl1", "0abcdefghijkl1", "/abcdefghijkl12/"])
def test_a_key_within_a_longer_token_is_another_word(text: str) -> None:
    redactor = Redactor(["abcdefghijkl1"])
    assert redactor.known(text) is text
    assert redactor.text(f"{text} and abcdefghijkl1") == f"{text} and {MASK}"


@pytest.mark.parametrize(
    "before", ["\\n", "\\\\n", "\\t", "\\u2028", "\\x0a", "%0A", "%250a", "\x1b[31m", "\\u001b[1;31m", "[0m", "\u6d4b"]
)
def test_an_escape_before_a_key_is_no_part_of_it(before: str) -> None:
    cleaned = Redactor(["abcdefghijkl1"]).known(f"one{before}abcdefghijkl1")
    assert cleaned == f"one{before}{MASK}"


UNSEEN = ["\u200b", "\ufeff", "\u00ad", "\u2060", "\u202e", "\x00", "\x1b", "\x7f", "\U000e0041", "\u200b\u200d"]


@pytest.mark.parametrize("unseen", UNSEEN)
@pytest.mark.parametrize("spelt", [str, quote, lambda key: base64.b64encode(key.encode()).decode()])
def test_characters_that_nobody_sees_hide_no_key(spelt: object, unseen: str) -> None:
    key = "sk-canary-Zq8x7/Wv6"
    form = spelt(key)  # type: ignore[operator]
    redactor = Redactor([key], shapes=False)
    for text in (form[:9] + unseen + form[9:], unseen.join(form), unseen + form + unseen):
        for written in (text, json.dumps({"a": text}, ensure_ascii=False), json.dumps({"a": text})):
            shown = re.sub(r"\\u[0-9a-f]{4}", "", written)
            cleaned = re.sub(r"\\u[0-9a-f]{4}", "", redactor.known(written))
            assert MASK in cleaned or spelt is not str, (written, cleaned)
            if written is text:
                assert MASK in cleaned
            assert key not in "".join(ch for ch in cleaned if ch.isprintable())
            assert shown != cleaned or spelt is not str
    assert redactor.known(f"na{unseen}ive") == f"na{unseen}ive"


def test_numbers_and_names_that_become_equal_lose_nothing() -> None:
    redactor = Redactor(["482910573846"])
    data = {
        "n": 482910573846,
        "m": 4829105738460,
        "x": 1.5,
        "ok": True,
        "482910573846": 1,
        MASK: 2,
        "NDgyOTEwNTczODQ2": 3,
    }
    masked = redactor.known_data(data)
    assert masked["n"] == MASK
    assert {name: masked[name] for name in ("m", "x", "ok", MASK)} == {
        "m": 4829105738460,
        "x": 1.5,
        "ok": True,
        MASK: 2,
    }
    assert len(masked) == len(data)


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


def test_values_may_be_added_later() -> None:
    redactor = Redactor()
    assert redactor.text("hunter22-hunter33") == "hunter22-hunter33"
    redactor.add({"A_KEY": "hunter22-hunter33"})
    assert redactor.text("hunter22-hunter33") == MASK


def test_redacting_twice_changes_nothing() -> None:
    redactor = Redactor([KEY])
    once = redactor.text(f"api_key={KEY} Bearer {KEY} x-api-key: abcdef1234567890")
    assert redactor.text(once) == once


@pytest.mark.parametrize(
    ("value", "pieces", "first"),
    [
        (
            "abcdeABCDE01234vwxyz-xy9",
            {"abcde", "ABCDE", "01234", "vwxyz"},
            {"u0061", "\\x61", "%61", "%2561", "&#97;", "&#x61;"},
        ),
        (
            "/aaaaabbbbbcccccdddddeeeeefffffggggghhhhh~1",
            {"aaaaa", "ccccc", "eeeee", "ggggg"},
            {"u002f", "u002F", "\\x2f", "%2f", "%2F", "%252F", "&#47;", "&#x2f;"},
        ),
        (
            "/aaaaabbbb+cccccddddd+eeeeefffff",
            {"aaaaa", "ccccc", "ddddd", "eeeee", "fffff"},
            {"u002f", "u002F", "\\x2f", "%2f", "%2F", "%252F", "&#47;", "&#x2f;"},
        ),
        (
            "abcde-fghijkl-mn+opq",
            {"abcde", "fghij", "-fghi", "jkl-m", "n+opq", "opq"},
            {"u0061", "\\x61", "%61", "%2561", "&#97;", "&#x61;"},
        ),
    ],
)
def test_a_mixed_spelling_is_looked_for_where_a_piece_of_the_value_or_its_first_character_stands(
    value: str, pieces: set[str], first: set[str]
) -> None:
    assert fragments(value) == pieces | first
