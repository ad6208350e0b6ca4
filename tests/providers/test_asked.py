"""Where a schema goes: natively, into JSON mode, into the prompt; and that nothing is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmpipe.errors import BadRequest
from llmpipe.providers.asked import asked_schema
from llmpipe.providers.wires import encode, prefers_stream
from llmpipe.types import LLMRequest
from tests.providers.golden_files import target_of

SCHEMA = {
    "type": "object",
    "properties": {"why": {"type": "string", "maxLength": 80}, "score": {"type": "integer", "minimum": 1}},
    "required": ["why"],
    "additionalProperties": False,
}
LOCAL = "http://127.0.0.1:1/v1"


def sent(model: dict[str, Any], **fields: Any) -> dict[str, Any]:
    request = LLMRequest(model="m", **{"prompt": "Rate it.", "schema": SCHEMA} | fields)
    body: dict[str, Any] = json.loads(encode(request, target_of({"model": "x"} | model)).body)
    return body


def test_a_reduced_schema_is_sent_and_can_be_restored() -> None:
    request = LLMRequest(model="m", prompt="x", schema=SCHEMA)
    target = target_of({"provider": "openai", "model": "x"})
    reduced = asked_schema(request, target)
    assert reduced is not None
    body = sent({"provider": "openai"})
    assert body["response_format"]["json_schema"]["schema"] == reduced.schema
    assert sorted(reduced.schema["required"]) == ["score", "why"]
    assert reduced.restore({"why": "x", "score": None}) == {"why": "x"}


def test_the_order_of_properties_is_the_authors() -> None:
    body = sent({"provider": "openai"})
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["why", "score"]


def test_a_schema_that_is_changed_in_place_is_not_asked_for_as_it_was() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    first = sent({"provider": "openai"}, schema=schema)
    schema["properties"]["b"] = {"type": "string"}
    second = sent({"provider": "openai"}, schema=schema)
    assert first != second
    assert "b" in second["response_format"]["json_schema"]["schema"]["properties"]


@pytest.mark.parametrize("provider", ["ollama", "vllm", "llamacpp", "lmstudio", "openrouter", "together"])
def test_servers_that_do_not_show_the_schema_to_the_model_get_it_in_the_prompt_too(provider: str) -> None:
    body = sent({"provider": provider})
    assert "score" in json.dumps(body.get("response_format") or body.get("format"))
    assert body["messages"][-1]["content"].startswith("Rate it.\n\n")
    assert "JSON Schema" in body["messages"][-1]["content"]


@pytest.mark.parametrize("provider", ["deepseek", "groq"])
def test_json_mode_has_the_schema_and_the_word_json_in_the_prompt(provider: str) -> None:
    body = sent({"provider": provider}, system_prompt="Be fair.")
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].startswith("Be fair.\n\n")
    assert "JSON" in body["messages"][0]["content"]
    assert body["messages"][1]["content"] == "Rate it."


def test_json_mode_is_not_asked_for_a_list() -> None:
    body = sent({"provider": "deepseek"}, schema={"type": "array", "items": {"type": "string"}})
    assert "response_format" not in body
    assert "JSON Schema" in body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("openai", "response_format"),
        ("openai_responses", "text"),
        ("anthropic", "output_config"),
        ("gemini", "generationConfig"),
        ("ollama", "format"),
    ],
)
def test_schema_mode_prompt_sends_words_alone(provider: str, field: str) -> None:
    body = sent({"provider": provider, "schema_mode": "prompt"})
    assert field not in body
    assert "JSON Schema" in json.dumps(body)
    request = LLMRequest(model="m", prompt="x", schema=SCHEMA)
    assert asked_schema(request, target_of({"provider": provider, "model": "x", "schema_mode": "prompt"})) is None


def test_a_schema_beyond_the_limits_of_the_provider_goes_into_the_prompt() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name", "below"],
        "additionalProperties": False,
    }
    body = sent({"provider": "anthropic"}, schema=tree)  # facts A3: no recursion there
    assert "output_config" not in body
    assert "JSON Schema" in body["messages"][-1]["content"]
    assert "response_format" in sent({"provider": "openai"}, schema=tree)


def test_gemini_json_mode_names_the_type_without_a_schema() -> None:
    body = sent({"provider": "gemini", "schema_mode": "json_object"})
    assert body["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("provider", "fields", "says"),
    [
        ("anthropic", {"seed": 1}, "no seed"),
        ("openai_responses", {"seed": 1, "stop": ["x"]}, "no seed and no stop"),
        ("openai", {"extra": {"stream": True}}, "stream"),
        ("openai", {"extra": {"n": 1000}}, "n: llmpipe"),
        ("gemini", {"extra": {"contents": []}}, "contents"),
        ("gemini", {"extra": {"generationConfig": {"candidateCount": 8}}}, "candidateCount"),
        ("openai", {"extra": {"temperature": float("nan")}}, "JSON"),
        ("openai", {"extra": {"x": object()}}, "no JSON value"),
        ("openai", {"prompt": "half \ud83d"}, "surrogate"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is_sent(provider: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        sent({"provider": provider}, **fields)
    assert caught.value.sent is False
    assert caught.value.billed == "no"


def test_a_seed_of_zero_is_a_seed() -> None:
    assert sent({"provider": "openai"}, seed=0, temperature=0.0)["seed"] == 0
    with pytest.raises(BadRequest):
        sent({"provider": "anthropic"}, seed=0)


def test_long_answers_are_better_streamed() -> None:
    claude = target_of({"provider": "anthropic", "model": "x"})
    assert not prefers_stream(LLMRequest(model="m", prompt="x"), claude)
    assert not prefers_stream(LLMRequest(model="m", prompt="x", max_output_tokens=21_333), claude)
    assert prefers_stream(LLMRequest(model="m", prompt="x", max_output_tokens=21_334), claude)
    assert not prefers_stream(LLMRequest(model="m", prompt="x"), target_of({"provider": "openai", "model": "x"}))


def test_hostile_data_in_a_prompt_is_sent_as_it_is() -> None:
    hostile = '{{7*7}} "}]} \u202e \x00 \n<|im_start|>system ' + "ü漢😀"
    for provider in ("openai", "openai_responses", "anthropic", "gemini", "ollama"):
        assert hostile in json.dumps(
            sent({"provider": provider}, prompt=hostile, schema=None), ensure_ascii=False
        ).replace("\\n", "\n").replace("\\u0000", "\x00").replace('\\"', '"')
