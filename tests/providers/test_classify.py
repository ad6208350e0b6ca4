"""The table of rules: nothing in it is out of reach, and no error body breaks the reading of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.errors import (
    AccountError,
    CallFailed,
    QuotaExhausted,
    RedirectRefused,
    RequestRefused,
    ServerFault,
    TemporaryFault,
)
from llmpipe.providers.classify import (
    Evidence,
    classify,
    find_rule,
    has_error,
    raw_text,
    read_error,
    request_id_of,
)
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


OPENAI = target_of({"provider": "openai", "model": "m"})
BASE = "[check base_url, now https://api.openai.com/v1, and the model id]"


def error_of(status: int, body: object = b"", **headers: str) -> CallFailed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw), OPENAI)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"error": {"message": "no"}}, "openai/m answered with an error (HTTP 200): no"),
        (299, {"error": "no"}, "openai/m answered with an error (HTTP 299): no"),
        (300, {"error": "no"}, "HTTP 300 from openai/m: https://api.openai.com redirects to nowhere"),
        (399, {"error": "no"}, "HTTP 399 from openai/m: https://api.openai.com redirects to nowhere"),
        (400, {"error": "no"}, "HTTP 400 from openai/m: no"),
        (403, b"", "HTTP 403 from openai/m"),
        (404, b"", f"HTTP 404 from openai/m: nothing more {BASE}"),
        (405, b"nope", f"HTTP 405 from openai/m: nope {BASE}"),
        (404, {"error": {"code": "x", "message": "no"}}, "HTTP 404 from openai/m: no"),
        (406, b"nope", "HTTP 406 from openai/m: nope"),
        (500, {"error": {"code": "a", "type": "B"}}, "HTTP 500 from openai/m: a, b"),
        (500, b"<html><title>Bad</title>", "HTTP 500 from openai/m: a web page titled 'Bad' instead of an answer"),
        (500, b" <!DOCTYPE html>x", "HTTP 500 from openai/m: a web page instead of an answer"),
        (500, b"[1", "HTTP 500 from openai/m"),
        (500, {"message": "m"}, "HTTP 500 from openai/m: m"),
        (500, [{"error": {"message": "first"}}, {"error": {"message": "second"}}], "HTTP 500 from openai/m: first"),
        (500, {"error": {"Message": "capital"}}, "HTTP 500 from openai/m: capital"),
        (500, {"error": {"error": "inner"}}, "HTTP 500 from openai/m: inner"),
        (500, {"error": {"detail": "d"}}, "HTTP 500 from openai/m: d"),
        (500, {"detail": {"message": "dm"}}, "HTTP 500 from openai/m: dm"),
        (500, {"detail": [{"msg": str(n)} for n in range(7)]}, "HTTP 500 from openai/m: 0; 1; 2; 3; 4"),
        (500, {"error": {"message": "m", "metadata": {"raw": "up"}}}, "HTTP 500 from openai/m: m (up)"),
        (500, {"error": {"message": "m", "metadata": {"raw": ""}}}, "HTTP 500 from openai/m: m"),
        (500, {"error": {"message": "m", "metadata": {"raw": 7}}}, "HTTP 500 from openai/m: m"),
    ],
)
def test_what_is_said_of_an_error(status: int, body: object, said: str) -> None:
    error = error_of(status, body)
    assert str(error).removesuffix("; redirects are not followed") == said
    assert isinstance(error, RedirectRefused) is (300 <= status < 400)
    assert error.status == status


@pytest.mark.parametrize(
    ("location", "goal"),
    [
        ("https://user:pw@a.b:8/c?key=secret", "https://a.b"),
        ("//a.b/c", "a.b"),
        ("/c", "/c"),
        ("http://[", "http://["),
        ("https:///c", "https:///c"),
        ("", "nowhere"),
        ("/" + "x" * 300, "/" + "x" * 196 + "..."),
    ],
)
def test_where_a_redirect_leads_is_said_without_what_may_be_secret(location: str, goal: str) -> None:
    error = error_of(307, b"body", location=location, x_request_id="id")
    assert f" redirects to {goal}; redirects are not followed" in str(error)
    assert (error.raw, error.provider_request_id) == ("body", "id")


def test_who_may_have_billed_for_an_error() -> None:
    gave_up = {408, 499, 502, 504, 520, 522, 524, 598, 599}
    found = {status for status in (*range(200, 300), *range(400, 600)) if error_of(status).billed == "maybe"}
    assert found == {*range(200, 300), *gave_up}


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ({"error": {"code": 429}}, "429", 429),
        ({"error": {"code": "429"}}, "429", 429),
        ({"error": {"code": 429, "status": "X"}}, "x", 429),
        ({"error": {"code": True}}, None, None),
        ({"error": {"code": 399}}, "399", None),
        ({"error": {"code": 400}}, "400", 400),
        ({"error": {"code": 599}}, "599", 599),
        ({"error": {"code": 600}}, "600", None),
        ({"error": {"code": "40012"}}, "40012", None),
        ({"error": {"code": "٤٠٠"}}, "٤٠٠", None),
        ({"error": {"code": 500, "type": "503"}}, "500", 500),
        ({"error": {"details": {"error_code": "A"}, "code": "b"}}, "a", None),
        ({"error": {"details": [{"reason": "R"}], "code": "b"}}, "r", None),
        ({"error": {"innererror": {"code": "I"}, "status": "s"}}, "i", None),
        ({"error": {"inner_error": {"code": "I"}, "type": "t"}}, "i", None),
        ({"error": {"type": "t"}, "error_type": "e"}, "t", None),
        ({"error": "no", "error_type": "e"}, "e", None),
    ],
)
def test_the_code_and_the_status_that_a_body_names(body: object, code: str | None, status: int | None) -> None:
    raw = json.dumps(body).encode()
    for sent in (200, 299):
        found = read_error(body, HttpReply(sent, {}, raw))
        assert (found.codes[0] if found.codes else None, found.status) == (code, status or sent)
    assert read_error(body, HttpReply(418, {}, raw)).status == 418  # HTTP's own counts
    assert error_of(200, body).provider_code == code


def test_what_a_body_is_searched_for() -> None:
    body = {"error": {"message": "Msg", "param": "P",
                      "details": [{"violations": [{"quotaId": "PerDay"}, {"quotaId": 7}]}]}}  # fmt: skip
    found = read_error(body, HttpReply(400, {}, b""))
    assert (found.words, found.message, found.details) == ("Msg", "msg perday  p", body["error"]["details"])
    long = read_error({"error": "x" * 30_000}, HttpReply(400, {}, b""))
    assert len(long.message) == 20_000


def test_a_phrase_counts_in_every_good_status_and_in_those_of_the_client() -> None:
    found = {status for status in range(100, 600) if find_rule(evidence(status, message="credit balance is too low"))}
    assert found == {*range(200, 300), *range(400, 500)}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-should-retry": " True "}, True),
        ({"x-should-retry": "false"}, False),
        ({"x-should-retry": "1"}, None),
        ({}, None),
    ],
)
def test_whether_the_server_says_to_retry(headers: dict[str, str], expected: bool | None) -> None:
    plain = classify(HttpReply(500, headers, b""), OPENAI)
    assert plain.should_retry is expected
    refused = classify(HttpReply(422, headers, b""), OPENAI)
    assert refused.should_retry is expected
    assert isinstance(refused, ServerFault) is (expected is True)
    firm = classify(HttpReply(429, headers, b'{"error": {"code": "insufficient_quota"}}'), OPENAI)
    assert (firm.should_retry, type(firm)) == (None, QuotaExhausted)


def test_the_wait_that_a_server_asks_for() -> None:
    assert error_of(429, retry_after="7").retry_after == 7
    assert error_of(400, retry_after="7").retry_after is None
    assert error_of(429, {"error": {"code": "insufficient_quota"}}, retry_after="7").retry_after is None
    in_body = {"error": {"code": 429, "details": [{"retryDelay": "9s"}]}}
    assert error_of(200, in_body, retry_after="7").retry_after == 9  # the head of a 200 is not about the error
    assert error_of(429, in_body, retry_after="7").retry_after == 7


def test_the_id_of_an_exchange_and_its_body_for_people() -> None:
    for name in ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id"):
        assert request_id_of(HttpReply(200, {name: "h"}, b""), {"request_id": "b"}) == "h"
    reply = HttpReply(200, {"x-request-id": "", "request-id": "h" * 300}, b"")
    assert request_id_of(reply) == "h" * 197 + "..."
    bare = HttpReply(200, {}, b"\xff" + b"x" * 300_000)
    assert request_id_of(bare, {"request_id": "b", "responseId": "r"}) == "b"
    assert request_id_of(bare, {"responseId": "r" * 300}) == "r" * 197 + "..."
    assert request_id_of(bare, {}) is request_id_of(bare) is None
    assert raw_text(bare) == "\ufffd" + "x" * (256 * 1024 - 1)


@pytest.mark.parametrize(
    ("data", "is_error"),
    [
        ({"error": "no"}, True), ({"error": {}}, False), ({"error": None}, False), ({"type": "error"}, True),
        ({"object": "error"}, True), ({"type": "message", "object": "list"}, False), ([{"error": "no"}], True),
        ([{"error": "no"}] * 2, False), ([], False), ("error", False), (None, False),
    ],
)  # fmt: skip
def test_a_body_is_an_error(data: object, is_error: bool) -> None:
    assert has_error(data) is is_error


SPEND_CAP = {"error": {"type": "rate_limit_error"}}


@pytest.mark.parametrize(
    ("status", "headers", "body", "provider", "is_quota"),
    [
        (429, {"request-id": "r"}, SPEND_CAP, "anthropic", True),
        (429, {"request-id": "r"}, SPEND_CAP, "openai", False),
        (429, {"request-id": "r", "retry-after": "1"}, SPEND_CAP, "anthropic", False),
        (429, {}, SPEND_CAP, "anthropic", False),
        (529, {"request-id": "r"}, SPEND_CAP, "anthropic", False),
        (429, {"request-id": "r"}, {"error": {"type": "other"}}, "anthropic", False),
        (429, {"request-id": "r"}, {"error": {"type": "rate_limit_error", "code": "ramp_limit_exceeded"}}, "anthropic",
         False),
    ],
)  # fmt: skip
def test_a_bare_429_of_anthropic_is_its_spend_cap(
    status: int, headers: dict[str, str], body: object, provider: str, is_quota: bool
) -> None:
    target = target_of({"provider": provider, "model": "m"})
    error = classify(HttpReply(status, headers, json.dumps(body).encode()), target)
    assert isinstance(error, QuotaExhausted) is is_quota


@pytest.mark.parametrize(("value", "is_quota"), [("0", True), (0, True), ("1", False), (1, False), (None, False)])
def test_a_quota_of_nothing_is_not_waited_for(value: object, is_quota: bool) -> None:
    body = {"error": {"code": 429, "details": [{}, {"violations": [{"quotaValue": 5}, {"quotaValue": value}]}]}}
    assert isinstance(error_of(429, body), QuotaExhausted) is is_quota


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
