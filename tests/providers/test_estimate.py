"""Tokens without a tokenizer: never fewer than any tokenizer makes of ordinary text, and not many times more."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.providers.asked import estimate_sent, most_sent
from llmpipe.providers.estimate import estimate_tokens, least_tokens, most_tokens
from llmpipe.types import LLMRequest
from tests.providers.golden_files import target_of

# A text, the most tokens that cl100k, o200k, Claude 2, DeepSeek, Mistral 32k or Tekken make of it, and o200k's.
COUNTS = {
    name: (row["text"], row["most"], row["o200k"])
    for name, row in json.loads((Path(__file__).parent / "token_counts.json").read_text("utf-8")).items()
}
MADE = {
    "json": (
        json.dumps([{"id": n, "name": f"user_{n}", "score": n / 7, "ok": True} for n in range(40)]),
        1639,
        1237,
    ),
    "digits": ("0123456789" * 50, 501, 167),
    "floats": (" ".join(f"{n / 7:.6f}" for n in range(1, 200)), 1921, 994),
    "hex": (hashlib.sha512(b"x").hexdigest() * 4, 472, 252),
    "base64": (base64.b64encode(bytes(range(256)) * 4).decode(), 1088, 926),
    "csv": ("\n".join(",".join(str(n * m) for m in (7919, 104729, 1299709)) for n in range(1, 60)), 1387, 639),
    "uuid": ("\n".join(str(uuid.UUID(int=n * 3**79 % 2**128)) for n in range(1, 60)), 2002, 1400),
    "indented": ("        return value\n" * 50, 200, 200),
    "markup": ('<li class="a"><b>x</b></li>\n' * 50, 750, 600),
    "letters": ("a b c d e f g h i j k l m n o p q r s t u v w x y z " * 9, 235, 235),
    "table": ("| a | b | c |\n|---|---|---|\n" * 30, 420, 420),
    "dna": ("GATTACACCTGAGTCA" * 40, 321, 321),
    "lines": ("\n" * 200, 201, 13),
    "tabs": ("\t\tif x:\n\t\t\ty()\n" * 40, 481, 280),
    "names": ("getHttpResponseCodeFromServer parseXMLToJSONObject " * 20, 221, 201),
    "control": ("\x00\x01\x02\x1b[31m" * 40, 321, 280),
}
ALL = COUNTS | MADE
AROUND = 5  # tokens that a reservation has for what stands around a text


@pytest.mark.parametrize("name", ALL)
def test_no_tokenizer_makes_more_of_it(name: str) -> None:
    text, most, _ = ALL[name]
    assert most_tokens(text) + AROUND >= most
    assert most_tokens(f"{text} " * 20) >= 20 * most - AROUND * 20
    assert least_tokens(text) <= most


@pytest.mark.parametrize("name", ["en", "de", "fr", "es", "pl", "cs", "ru", "uk", "zh", "zh-Hant", "ja", "ko", "vi",
                                  "json", "base64", "uuid", "csv", "markup", "table", "names", "emoji"])  # fmt: skip
def test_it_is_not_many_times_what_a_tokenizer_of_today_makes(name: str) -> None:
    text, _, today = ALL[name]
    assert most_tokens(text) <= 3 * today


@given(st.text(max_size=300), st.text(max_size=300))
def test_it_is_no_more_than_bytes_and_blanks_and_no_less_than_words(text: str, more: str) -> None:
    most = most_tokens(text)
    assert 0 <= most <= len(text.encode()) + text.count(" ") + 1
    assert most >= least_tokens(text) // 2
    assert most_tokens(text + more) <= most + most_tokens(more) + 1


def test_half_a_surrogate_pair_has_tokens_too() -> None:
    assert most_tokens("\ud800") == 3
    assert most_tokens("") == 0


@pytest.mark.parametrize("text", ["a " * 500_000, "x" * 1_000_000, "é1" * 400_000, "aB3" * 300_000])
def test_a_megabyte_takes_no_time(text: str) -> None:
    began = time.process_time()
    assert most_tokens(text) > 100_000
    assert time.process_time() - began < 10


def test_what_is_sent_beside_the_turns_counts() -> None:
    target = target_of({"provider": "openai", "model": "m"})
    plain = LLMRequest(model="m", prompt="Say something.")
    schema = LLMRequest(model="m", prompt="Say something.", schema={"type": "object", "properties": {"a": {}}})
    extra = LLMRequest(model="m", prompt="Say something.", extra={"tools": [{"name": "t" * 400}]})
    assert most_sent(plain, target) < most_sent(schema, target)
    assert most_sent(extra, target) > most_sent(plain, target) + 150
    for request in (plain, schema, extra):
        assert most_sent(request, target) > estimate_sent(request, target)
    long = LLMRequest(model="m", prompt=COUNTS["en"][0] * 400)
    assert most_sent(long, target) < 3 * COUNTS["en"][2] * 400
    assert estimate_tokens(long.prompt or "") < most_sent(long, target)
