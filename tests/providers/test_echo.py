"""The embedded provider: the same everywhere, in every shape a schema allows, and failing as it is told."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from llmpipe.errors import BadRequest, CallFailed, ServerFault
from llmpipe.providers.echo import answer, plan
from llmpipe.providers.estimate import estimate_input, estimate_tokens, least_tokens
from llmpipe.providers.faults import ANSWER_FAULTS, FAULTS, TRANSPORT_FAULTS
from llmpipe.structured.schema import compile_schema
from llmpipe.types import LLMRequest, LLMResponse, Message, Usage

CLAIM = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"enum": ["bug", "billing", "praise", "other"]},
        "urgent": {"type": "boolean"},
        "claims": {"type": "array", "items": CLAIM, "maxItems": 3},
        "note": {"type": "string"},
    },
    "required": ["category", "urgent", "claims"],
    "additionalProperties": False,
}


def ask(prompt: str = "hello", **fields: Any) -> LLMRequest:
    return LLMRequest(model="demo", prompt=prompt, **fields)


def outcomes(fault: str, share: float, count: int, *, attempt: int = 1, **fields: Any) -> list[str]:
    plans = [plan(ask(f"row {n}", faults={fault: share}, **fields), attempt=attempt) for n in range(count)]
    return [p.outcome.kind if isinstance(p.outcome, CallFailed) else "ok" for p in plans]


def test_it_echoes_the_last_user_prompt() -> None:
    assert str(answer(ask())) == "echo: hello"
    talk = LLMRequest(model="demo", messages=[Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    response = answer(talk, model="demo")
    assert response.text == "echo: c"
    assert (response.model, response.provider, response.answered_by) == ("demo", "echo", "echo/demo")


def test_equal_requests_are_answered_alike_and_samples_apart() -> None:
    one, two = answer(ask("x", schema=SCHEMA)), answer(ask("x", schema=SCHEMA), attempt=3)
    assert one == two
    assert len({answer(ask("x", schema=SCHEMA, sample=n)).text for n in range(8)}) > 1


def test_the_faults_of_a_row_are_the_same_on_every_machine() -> None:
    """A demo shows the same thing everywhere: these may change only with a line in the changelog."""
    faults = {"server_error": 0.3, "refusal": 0.3}
    drawn = [
        o.kind if isinstance(o := plan(ask(f"row {n}", faults=faults), attempt=attempt).outcome, CallFailed) else "ok"
        for n in range(10, 16)
        for attempt in (1, 2)
    ]
    assert drawn == [
        "ServerFault",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "Refused",
        "ServerFault",
        "ServerFault",
        "Refused",
    ]


def test_a_few_dozen_rows_show_every_value_length_and_branch() -> None:
    values = [json.loads(answer(ask(f"ticket {n}", schema=SCHEMA)).text) for n in range(40)]
    schema = compile_schema(SCHEMA)
    assert all(schema.accepts(value) for value in values)
    assert {v["category"] for v in values} == {"bug", "billing", "praise", "other"}
    assert {v["urgent"] for v in values} == {True, False}
    assert {len(v["claims"]) for v in values} == {0, 1, 2, 3}
    assert {"note" in v for v in values} == {True, False}


def test_a_schema_without_an_example_is_refused_unsent() -> None:
    with pytest.raises(BadRequest) as caught:
        answer(ask(schema={"type": "string", "minLength": 5, "maxLength": 2}))
    assert caught.value.sent is False


def test_a_forced_error_comes_at_every_attempt() -> None:
    for attempt in (1, 2, 9):
        with pytest.raises(ServerFault, match="forced error"):
            answer(ask(force_error=True), attempt=attempt)


def test_latency_is_said_and_not_slept() -> None:
    assert plan(ask(latency_s=3.5)).delay_s == 3.5
    assert plan(ask()).delay_s == 0.0
    assert plan(ask(latency_s=-1)).delay_s == 0.0


def test_usage_is_the_estimate() -> None:
    assert answer(ask("x" * 400)).usage == Usage(input_tokens=104, output_tokens=102)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("rate_limit", "RateLimited"),
        ("server_error", "ServerFault"),
        ("timeout", "CallTimeout"),
        ("truncated", "Truncated"),
        ("refusal", "Refused"),
    ],
)
def test_a_fault_is_an_error_of_its_class_at_its_share(fault: str, kind: str) -> None:
    found = Counter(outcomes(fault, 0.25, 400))
    assert set(found) == {"ok", kind}
    assert 70 <= found[kind] <= 130
    assert set(outcomes(fault, 1.0, 20)) == {kind}
    assert set(outcomes(fault, 0.0, 20)) == {"ok"}


@pytest.mark.parametrize("fault", TRANSPORT_FAULTS)
def test_a_retry_can_get_past_a_fault_of_the_transport(fault: str) -> None:
    first, second = outcomes(fault, 0.5, 100, attempt=1), outcomes(fault, 0.5, 100, attempt=2)
    assert any(a != "ok" and b == "ok" for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_retry_meets_the_same_answer_and_a_reask_another(fault: str) -> None:
    def spoilt(attempt: int, *more: Message) -> list[bool]:
        result = []
        for n in range(60):
            request = LLMRequest(
                model="d", messages=(Message("user", f"row {n}"), *more), schema=SCHEMA, faults={fault: 0.5}
            )
            outcome = plan(request, attempt=attempt).outcome
            result.append(isinstance(outcome, CallFailed) or not _valid(outcome.text))
        return result

    assert spoilt(1) == spoilt(2)
    again = spoilt(1, Message("assistant", "{"), Message("user", "That was no JSON."))
    assert any(was and not now for was, now in zip(spoilt(1), again, strict=True))


def _valid(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return compile_schema(SCHEMA).accepts(value)


def test_invalid_json_is_none_and_a_violation_is_json() -> None:
    for n in range(30):
        broken = answer(ask(f"row {n}", schema=SCHEMA, faults={"invalid_json": 1.0})).text
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken)
        wrong = json.loads(answer(ask(f"row {n}", schema=SCHEMA, faults={"schema_violation": 1.0})).text)
        assert not compile_schema(SCHEMA).accepts(wrong)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "integer"}},
        {"enum": ["a", "b"]},
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}},
        {"type": ["string", "null"]},
        {"type": "integer", "minimum": 1, "maximum": 5},
    ],
)
def test_any_schema_that_refuses_something_can_be_violated(schema: dict[str, Any]) -> None:
    text = answer(ask("x", schema=schema, faults={"schema_violation": 1.0})).text
    assert not compile_schema(schema).accepts(json.loads(text))


def test_shares_add_up_and_exclude_each_other() -> None:
    faults = {"rate_limit": 0.2, "server_error": 0.2, "timeout": 0.2}
    found = Counter(
        o.kind if isinstance(o := plan(ask(f"row {n}", faults=faults)).outcome, CallFailed) else "ok"
        for n in range(600)
    )
    assert set(found) == {"RateLimited", "ServerFault", "CallTimeout", "ok"}
    assert 180 <= found["ok"] <= 300


@pytest.mark.parametrize(
    ("faults", "says"), [({"rate_limt": 0.1}, "no fault 'rate_limt'"), ({"timeout": 1.5}, "between 0 and 1")]
)
def test_faults_that_are_none_are_refused(faults: dict[str, float], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        answer(ask(faults=faults))
    assert len(FAULTS) == 7


def test_a_response_of_echo_has_no_key_and_no_request_id() -> None:
    response = answer(ask())
    assert isinstance(response, LLMResponse)
    assert response.provider_request_id is None


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("漢字", 2), ("ü", 1), ("\ud800", 1)]
)
def test_the_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_the_estimate_of_a_request_counts_every_turn() -> None:
    request = LLMRequest(model="d", prompt="x" * 40, system_prompt="y" * 40, messages=[Message("assistant", "")])
    assert estimate_input(request) == 10 + 10 + 0 + 3 * 4


@pytest.mark.parametrize(("text", "least"), [("", 0), ("one two  three\n", 3), ("漢字漢字漢字漢字", 2), ("a" * 100, 1)])
def test_the_least_number_of_tokens(text: str, least: int) -> None:
    assert least_tokens(text) == least
