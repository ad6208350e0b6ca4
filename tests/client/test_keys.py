"""Cache keys: everything that decides an answer enters, nothing else does."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.aim import filled
from llmpipe.client.keys import KEY_VERSION, digest, key_material, make_cache_key
from llmpipe.client.naming import named
from llmpipe.errors import BadRequest
from llmpipe.policy import Limits
from llmpipe.providers.table import resolve
from llmpipe.types import LLMRequest, Message, Model

BASE = LLMRequest(model="openai/gpt-5-mini", prompt="hello")
TEXT = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda c: st.lists(c) | st.dictionaries(TEXT, c), max_leaves=4
)
REQUESTS = st.builds(
    LLMRequest,
    model=st.just("demo"),
    prompt=TEXT,
    system_prompt=st.none() | TEXT,
    messages=st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT})),
    temperature=st.none() | st.floats(0, 2),
    max_output_tokens=st.none() | st.integers(1, 10),
    seed=st.none() | st.integers(),
    stop=st.lists(TEXT, max_size=2),
    schema=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    extra=st.dictionaries(TEXT, JSON, max_size=2),
    sample=st.integers(0, 3),
)


def keyed(**changes: Any) -> str:
    return make_cache_key(replace(BASE, **changes))


SCHEMAS = st.dictionaries(
    st.sampled_from("abc"), st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])})
).map(lambda found: {"type": "object", "properties": dict(sorted(found.items())), "required": sorted(found)})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["openai/gpt-5", "openai/gpt-5-mini", "groq/gpt-5", "anthropic/gpt-5", "gpt-5"]),
    "prompt": TEXT,
    "messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT})),
    "system_prompt": st.none() | TEXT,
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0, 1),
    "max_output_tokens": st.none() | st.integers(1, 200_000),
    "seed": st.none() | st.integers(),
    "stop": st.lists(TEXT, max_size=3).map(tuple),
    "reasoning_effort": st.none() | st.sampled_from(["low", "medium", "high"]),
    "schema": st.none() | SCHEMAS,
    "extra": st.dictionaries(TEXT, JSON, max_size=2),
    "sample": st.integers(0, 100),
    "force_error": st.booleans(),
    "latency_s": st.none() | st.floats(0.001, 10),
    "faults": st.dictionaries(st.sampled_from(["timeout", "refusal"]), st.floats(0.01, 1)),
}


def test_every_field_of_a_request_is_known_here() -> None:
    assert {field.name for field in fields(LLMRequest)} == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_two_values_of_a_field_are_two_keys_and_equal_values_one(name: str, data: st.DataObject) -> None:
    one, two = data.draw(FIELDS[name]), data.draw(FIELDS[name])
    assert (keyed(**{name: one}) == keyed(**{name: two})) is (written(one) == written(two))


def written(value: Any) -> str:
    """JSON tells 1 and True apart, which == does not."""
    return json.dumps(value, sort_keys=True)


# A changed key is an answer paid again: these change only together with KEY_VERSION, and with a word in the CHANGELOG.
GOLDEN = {
    "echo/demo": "470cdc3315b0558c7c128d83524bf8b06c4ed02e72fc3ee6994a562dfd3ce607",
    "openai/gpt-5-mini": "8c1ea0c8f525c553eaf464901a5a613f933e83b1305a9f4ea08910a76f3f0d94",
    "openai_responses/gpt-5-mini": "3571ea255f52e2bdfad5b158b68261c123c37a80bb29b8a2feccc715e2ec454c",
    "anthropic/claude-sonnet-4-5": "fab7e804540fe956ff3a0dc11c7ab9984fb4d95a12e559efd811c7398c907feb",
    "gemini/gemini-2.5-flash": "dc187d314cf0cb3768b99b5b4f37453a4856be647975252f17a715a97ce17edf",
    "ollama/llama3.2": "338b713d97f8e3669aaec4fbf870cd3a67902504d0246fb0a05a840d7f40f71b",
}


@pytest.mark.parametrize("model", GOLDEN)
def test_the_key_of_a_whole_request_stays_what_it_was(model: str) -> None:
    request = LLMRequest(
        model=model,
        prompt="Was ist 1 \u20ac?",
        messages=[Message("user", "hello"), Message("assistant", "yes")],
        system_prompt="Answer briefly.",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=300,
        seed=7,
        stop=["END"],
        reasoning_effort="low",
        schema=LABEL,
        extra={"user": "a", "nested": {"b": [1, 2.5, None]}},
        sample=2,
        latency_s=0.25,
        faults={"timeout": 0.5},
    )
    assert KEY_VERSION == 1
    assert make_cache_key(request) == GOLDEN[model]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "openai/gpt-5"},
        {"model": "gpt-5-mini"},
        {"model": "groq/gpt-5-mini"},
        {"prompt": "hello "},
        {"system_prompt": ""},
        {"messages": [{"role": "user", "content": "a"}]},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"max_output_tokens": 10},
        {"seed": 0},
        {"stop": ["x"]},
        {"reasoning_effort": "low"},
        {"schema": {"type": "object"}},
        {"extra": {"a": 1}},
        {"sample": 1},
        {"force_error": True},
        {"faults": {"timeout": 0.5}},
    ],
    ids=str,
)
def test_what_decides_the_answer_changes_the_key(changes: dict[str, Any]) -> None:
    assert keyed(**changes) != keyed()


def test_a_role_is_no_part_of_a_text() -> None:
    one = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert keyed(messages=one) != keyed(messages=two)


def test_the_prompt_is_the_last_user_turn() -> None:
    assert keyed(prompt=None, messages=[{"role": "user", "content": "hello"}]) == keyed()


def test_sample_0_has_the_key_of_a_call_without_samples() -> None:
    assert keyed(sample=0) == keyed()


def test_equal_numbers_are_one_temperature() -> None:
    assert keyed(temperature=1) == keyed(temperature=1.0)


def entry(**changes: Any) -> Model:
    return Model(**{"name": "fast", "provider": "openai", "model": "gpt-5-mini", **changes})


def key_of(model: Model) -> str:
    return make_cache_key(filled(BASE, model), resolve(model))


def test_names_limits_prices_and_key_variables_do_not_enter() -> None:
    plain = key_of(entry())
    assert key_of(entry(name="other")) == plain
    assert key_of(entry(limits=Limits(concurrency=1, rpm=2, tpm=3), fallback=("a",))) == plain
    local = {"provider": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}
    assert key_of(entry(**local, api_key_env="A_KEY")) == key_of(entry(**local, api_key_env="B_KEY"))


def test_address_headers_and_schema_mode_enter() -> None:
    local = {"provider": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "A_KEY"}
    assert key_of(entry(**local)) != key_of(entry(**{**local, "base_url": "http://127.0.0.1:8/v1"}))
    assert key_of(entry(**local)) != key_of(entry(**{**local, "base_url": "http://127.0.0.1:9/v2"}))
    claude = {"provider": "anthropic", "model": "claude"}
    dated = {"headers": {"anthropic-version": "2026-10-21"}}
    assert key_of(entry(**claude)) != key_of(entry(**claude, **dated))
    assert key_of(entry(headers={"x-note": "a"})) == key_of(entry())


LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "because": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}
UNSENT = {"dependentRequired": {"label": ["because"]}}  # a keyword that no provider is sent, and that cannot be told


@pytest.mark.parametrize(
    ("entry_of", "enters"),
    [
        ({"provider": "openai"}, False),
        ({"provider": "anthropic", "model": "claude"}, False),
        ({"provider": "gemini", "model": "gemini"}, False),
        ({"provider": "ollama", "model": "llama"}, True),  # the whole schema stands in the prompt as well
        ({"provider": "openai", "schema_mode": "prompt"}, True),
        ({"provider": "deepseek", "model": "chat"}, True),
    ],
)
def test_what_is_not_sent_of_a_schema_does_not_enter(entry_of: dict[str, Any], enters: bool) -> None:
    target = resolve(entry(**entry_of))
    plain, more = replace(BASE, schema=LABEL), replace(BASE, schema=LABEL | UNSENT)
    other = replace(BASE, schema=LABEL | {"required": ["label", "because"]})
    assert (make_cache_key(plain, target) != make_cache_key(more, target)) is enters
    assert make_cache_key(plain, target) != make_cache_key(other, target)


def test_a_schema_that_is_not_sent_does_not_enter() -> None:
    request = replace(BASE, schema=LABEL)
    target = named(BASE.model, {})[1]
    silent = replace(target, dialect=replace(target.dialect, schema_mode="none"))
    told = replace(target, dialect=replace(target.dialect, schema_mode="prompt"))
    assert make_cache_key(request, silent) == make_cache_key(BASE, silent)
    assert len({make_cache_key(request, t) for t in (silent, told, target)}) == 3


def test_a_schema_enters_where_echo_makes_the_answer() -> None:
    request = replace(BASE, model="demo")
    assert make_cache_key(replace(request, schema={"type": "object"})) != make_cache_key(request)


def test_the_parameters_of_a_models_entry_enter_like_the_requests_own() -> None:
    model = entry(params={"temperature": 0.5, "extra": {"a": 1}})
    own = replace(BASE, temperature=0.5, extra={"a": 1})
    assert key_of(model) == make_cache_key(own)


@given(REQUESTS)
def test_a_key_is_the_digest_of_canonical_json(request: LLMRequest) -> None:
    target = named("demo", {})[1]
    material = key_material(request, target)
    assert make_cache_key(request) == digest(material)
    content = json.loads(material)
    again = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )
    assert again == material


@given(REQUESTS, REQUESTS)
def test_different_conversations_have_different_keys(one: LLMRequest, two: LLMRequest) -> None:
    same = one.turns() == two.turns() and replace(one, prompt="", messages=(), system_prompt=None) == replace(
        two, prompt="", messages=(), system_prompt=None
    )
    if not same and one.turns() != two.turns():
        assert make_cache_key(one) != make_cache_key(two)
    if same:
        assert make_cache_key(one) == make_cache_key(two)


@given(st.dictionaries(TEXT, JSON, min_size=2), st.randoms())
def test_the_order_of_keys_does_not_matter(extra: dict[str, Any], rng: Any) -> None:
    items = list(extra.items())
    rng.shuffle(items)
    assert keyed(extra=extra) == keyed(extra=MappingProxyType(dict(items)))


@pytest.mark.parametrize("extra", [{"a": object()}, {"a": float("nan")}, {"a": {1, 2}}])
def test_what_json_cannot_hold_is_refused_before_anything_is_sent(extra: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        keyed(extra=extra)
    assert not caught.value.sent
