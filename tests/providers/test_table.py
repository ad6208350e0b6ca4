"""What a model of the pipeline file resolves to, and which keys may go where."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.providers.address import is_loopback, parse_address
from llmpipe.providers.rows import WIRE_MODES
from llmpipe.providers.table import PROVIDERS, refused_fields, resolve, unsupported_parameters
from llmpipe.types import Model


def target(provider: str = "openai", **fields: object):
    return resolve(Model(name="m", provider=provider, model="x", **fields))  # type: ignore[arg-type]


def test_the_table_holds_the_providers_that_are_promised() -> None:
    assert set(PROVIDERS) >= set(
        "openai anthropic ollama gemini azure openrouter groq mistral deepseek together vllm llamacpp lmstudio "
        "openai_compatible echo openai_responses".split()
    )


@pytest.mark.parametrize("name", [n for n, row in PROVIDERS.items() if row.base_url])
def test_a_row_with_an_address_resolves_without_more(name: str) -> None:
    found = target(name)
    assert found.provider == name
    assert found.origin.startswith(("https://", "http://127.0.0.1:"))
    assert found.url.startswith(found.origin)
    assert found.label == f"{name}/x"
    assert found.needs_key is (found.row.needs_key)


@pytest.mark.parametrize("name", ["azure", "openai_compatible"])
def test_a_row_without_an_address_asks_for_one(name: str) -> None:
    with pytest.raises(ValueError, match="needs a base_url, for example https://"):
        target(name)


def test_an_unknown_provider_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="no provider 'opnai'; did you mean 'openai'"):
        target("opnai")


@pytest.mark.parametrize(
    ("provider", "base", "url"),
    [
        ("openai", "http://127.0.0.1:9/v1/", "http://127.0.0.1:9/v1/chat/completions"),
        ("openai_compatible", "HTTPS://Host.Example:443/v1", "https://host.example/v1/chat/completions"),
        ("openai_compatible", "http://localhost:80", "http://localhost/chat/completions"),
        ("openai_compatible", "http://[::1]:8080/v1/chat/completions", "http://[::1]:8080/v1/chat/completions"),
        (
            "openai_compatible",
            "http://localhost/v1?api-version=3",
            "http://localhost/v1/chat/completions?api-version=3",
        ),
        ("anthropic", "http://localhost:1/v1", "http://localhost:1/v1/messages"),
        ("anthropic", "http://localhost:1/v1/messages", "http://localhost:1/v1/messages"),
        ("gemini", "http://localhost:1", "http://localhost:1/v1beta/models"),
        ("gemini", "http://localhost:1/v1", "http://localhost:1/v1/models"),
        ("ollama", "http://localhost:1/api", "http://localhost:1/api/chat"),
    ],
)
def test_an_address_has_one_spelling_and_takes_its_path_once(provider: str, base: str, url: str) -> None:
    assert target(provider, base_url=base).url == url


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("", "empty"),
        ("localhost:8000", "must start with https"),
        ("ftp://host.example", "must start with https"),
        ("file:///etc/passwd", "must start with https"),
        ("https://", "names no host"),
        ("https://ho st/v1", "blanks"),
        ("https://host.example\\@evil.example", "blanks|address"),
        ("https://host.example:99999/v1", "not an address"),
        ("http://host.example/v1", "plain http to another machine"),
        ("https://user:pw@host.example/v1", "user name or password"),
        ("https://host.example/v1?key=abc", "must not hold a secret"),
        ("https://host.example/v1#x", "after '#'"),
    ],
)
def test_an_address_that_is_none_is_refused_with_the_reason(base: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        target("openai_compatible", base_url=base)


def test_plain_http_to_another_machine_can_be_allowed() -> None:
    assert (
        target("openai_compatible", base_url="http://gpu.lan:8000/v1", allow_http=True).origin == "http://gpu.lan:8000"
    )


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        found = parse_address(text)
    except ValueError:
        return
    assert found.origin.startswith("https://") or is_loopback(found.host)
    assert parse_address(found.base).base == found.base


def test_a_key_stays_with_the_hosts_of_its_provider() -> None:
    with pytest.raises(ValueError, match=re.escape("OPENAI_API_KEY is not sent there")):
        target(base_url="https://evil.example/v1")
    with pytest.raises(ValueError, match=re.escape("OPENAI_API_KEY belongs to api.openai.com")):
        target("openai_compatible", base_url="https://evil.example/v1", api_key_env="OPENAI_API_KEY")
    with pytest.raises(ValueError, match="ANTHROPIC_API_KEY belongs"):
        target(api_key_env="ANTHROPIC_API_KEY")
    with pytest.raises(ValueError, match="is not sent"):
        target(base_url="https://api.openai.com.evil.example/v1")
    with pytest.raises(ValueError, match="is not sent"):
        target(base_url="http://api.openai.com/v1", allow_http=True)


def test_a_server_of_ones_own_has_a_key_of_its_own() -> None:
    found = target(base_url="https://gateway.example/v1", api_key_env="GATEWAY_API_KEY")
    assert found.api_key_envs == ("GATEWAY_API_KEY",)


def test_loopback_may_be_given_any_key() -> None:
    assert target(base_url="http://127.0.0.1:1/v1").api_key_env == "OPENAI_API_KEY"
    found = target("openai_compatible", base_url="http://localhost:1/v1", api_key_env="OPENAI_API_KEY")
    assert found.api_key_env == "OPENAI_API_KEY"


def test_ollama_needs_a_key_in_the_cloud_alone() -> None:
    assert target("ollama").api_key_env is None
    assert target("ollama", base_url="https://ollama.com").api_key_env == "OLLAMA_API_KEY"


def test_a_key_instead_of_its_variable_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="not the key itself") as caught:
        target(api_key_env="sk-not-a-name")
    assert "sk-not" not in str(caught.value)


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "HOST", "Content-Length", "accept-encoding", "Cookie"])
def test_headers_that_carry_keys_or_belong_to_the_transport_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="may not be set"):
        target(headers={name: "x"})


@pytest.mark.parametrize("header", [("a b", "x"), ("x", "a\r\nb: c"), ("", "x"), ("x", "ü")])
def test_headers_cannot_break_the_head(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        target(headers=dict([header]))


def test_the_version_header_can_be_changed() -> None:
    assert target("anthropic").headers["anthropic-version"] == "2023-06-01"
    assert target("anthropic", headers={"Anthropic-Version": "2026-10-21"}).headers == {
        "anthropic-version": "2026-10-21"
    }


def test_a_schema_mode_is_checked_against_the_wire() -> None:
    assert target("deepseek").dialect.schema_mode == "json_object"
    assert target("deepseek", schema_mode="native").dialect.schema_mode == "json_schema"
    assert target("anthropic", schema_mode="prompt").dialect.schema_mode == "prompt"
    with pytest.raises(ValueError, match="no schema_mode 'json_object'; it has: native, prompt"):
        target("anthropic", schema_mode="json_object")


def test_every_row_asks_for_schemas_in_a_way_that_its_wire_has() -> None:
    assert [row.name for row in PROVIDERS.values() if row.dialect.schema_mode not in WIRE_MODES[row.wire]] == []


def test_parameters_without_a_field_are_named() -> None:
    model = Model(name="m", provider="openai_responses", model="x", params={"seed": 1, "temperature": 0, "stop": []})
    assert unsupported_parameters(model) == ("seed",)


def test_fields_that_are_llmpipes_own_are_named() -> None:
    extra = {"verbosity": "low", "n": 3, "stream": True, "generationConfig": {"candidateCount": 2, "topK": 4}}
    assert refused_fields(extra) == ("candidateCount", "n", "stream")
    assert refused_fields({"generationConfig": 7}) == ()
