"""The table of rules: nothing in it is out of reach, and no error body breaks the reading of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.errors import AccountError, CallFailed, RequestRefused, TemporaryFault
from llmpipe.providers.classify import Evidence, classify, find_rule
from llmpipe.providers.rules import BY_STATUS, RULES, by_status
from llmpipe.types import HttpReply
from tests.providers.golden_files import WIRES, target_of

CODED = [(index, code) for index, rule in enumerate(RULES) for code in sorted(rule.codes)]


def evidence(status: int, *codes: str, message: str = "") -> Evidence:
    return Evidence(status, codes, message, message.lower(), None)


@pytest.mark.parametrize(("index", "code"), CODED)
def test_every_code_reaches_its_own_rule(index: int, code: str) -> None:
    rule = RULES[index]
    status = next(iter(sorted(rule.statuses or {400})))
    assert find_rule(evidence(status, code)) is rule


@pytest.mark.parametrize("status", range(100, 700))
def test_every_status_has_a_class(status: int) -> None:
    kind = by_status(status)
    assert issubclass(kind, CallFailed)
    never = {400, 401, 402, 403, 404, 405, 413, 422}  # facts B2.2
    bounded = {408, 409, 425, 429, 529, *range(500, 600)}
    if status in never:
        assert not kind.retryable
    if status in bounded:
        assert kind.retryable


def test_firm_rules_are_about_what_no_wait_mends() -> None:
    assert all(issubclass(rule.error, AccountError | RequestRefused) for rule in RULES if rule.firm)
    assert all(issubclass(rule.error, TemporaryFault) or not rule.firm for rule in RULES if not rule.firm)
    assert set(BY_STATUS) <= set(range(400, 600))


@pytest.mark.parametrize(
    "message",
    [
        "The prompt mentions that the model was not found in the archive",
        "context length exceeded",
        "invalid schema",
        "incorrect api key",
    ],
)
def test_words_in_a_server_fault_say_nothing_about_the_request(message: str) -> None:
    rule = find_rule(evidence(502, message=message))
    assert rule is None or rule.error.code == "P411"


_text = st.text(max_size=20)
_value = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names := st.sampled_from(
        ["error", "message", "code", "type", "status", "details", "reason", "violations", "quotaId", "metadata", "raw",
         "detail", "msg", "param", "innererror", "retryDelay", "error_code", "quotaValue"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(_value, st.sampled_from([200, 400, 404, 429, 500, 529]), st.sampled_from(WIRES), _text)
def test_any_error_body_is_classified(body: object, status: int, wire: str, header: str) -> None:
    target = target_of({"provider": wire.removesuffix("_chat"), "model": "m"})
    raw = json.dumps({"error": body}).encode()
    error = classify(HttpReply(status, {"retry-after": header, "x-should-retry": header}, raw), target)
    assert error.status == status
    assert str(error).isprintable()


def test_a_long_message_is_searched_in_bounded_time() -> None:
    import time

    words = "model context exceeds input length prompt is structured output flagged by " * 20_000
    start = time.process_time()
    classify(
        HttpReply(400, {}, json.dumps({"error": {"message": words}}).encode()),
        target_of({"provider": "openai", "model": "m"}),
    )
    assert time.process_time() - start < 1.0
