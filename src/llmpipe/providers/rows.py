"""The providers as rows of data: who they are, where they live and what dialect of their wire they speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal

from llmpipe.frozen import frozen
from llmpipe.types import EMPTY

WireName = Literal["openai_chat", "openai_responses", "anthropic", "gemini", "ollama", "echo", "own"]
SchemaMode = Literal["json_schema", "json_object", "prompt", "none"]
LimitFamily = Literal["none", "openai", "groq", "anthropic", "mistral"]


@frozen
class Dialect:
    """What a provider does differently from others that share its wire (facts A1 - A3, A6).

    `schema_mode` is how a schema is asked for: `json_schema` natively, `json_object` for JSON of any shape with the
    schema in the prompt, `prompt` in the prompt alone, `none` not at all. `schema_limits` names the set of rules that
    the native copy of a schema is reduced by. `schema_in_prompt` repeats a native schema in the prompt, for servers
    that do not show it to the model or may ignore it. `cut_when_full`: a reply that calls itself complete with as many
    tokens as were allowed counts as cut (facts A4). `default_output_tokens` is sent where the wire demands a limit and
    the request has none. `stream_over`: replies allowed to be longer than so many tokens should be streamed (facts B1).
    `bare_429_is_spend_cap`: a 429 of the provider's own without `retry-after` is no rate limit (facts 0.5).
    `unsupported` are parameters of LLMRequest that the provider has no field for.
    """

    token_field: str = "max_tokens"  # noqa: S105 - the name of a field
    seed_field: str = "seed"
    schema_mode: SchemaMode = "json_schema"
    schema_limits: Literal["openai", "anthropic", "gemini", "ollama"] = "openai"
    schema_in_prompt: bool = False
    system_role: Literal["system", "developer"] = "system"
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "
    limit_headers: LimitFamily = "openai"
    stream_usage: bool = True
    cut_when_full: bool = False
    default_output_tokens: int | None = None
    stream_over: int = 16_000
    bare_429_is_spend_cap: bool = False
    unsupported: frozenset[str] = frozenset()


@frozen
class Provider:
    """One row: name, wire, address, key and dialect.

    `base_url` None: the pipeline has to give one. `key_vars` are tried in order and sent to `key_hosts` only (a leading
    dot means any host below that domain) and to loopback. `needs_key` False: a key is sent to `key_hosts` alone, and
    nothing is missing elsewhere. `bills` False: nobody is asked, so nothing can cost anything.
    """

    name: str
    wire: WireName
    base_url: str | None
    dialect: Dialect
    path: str = "/chat/completions"
    key_vars: tuple[str, ...] = ()
    key_hosts: tuple[str, ...] = ()
    needs_key: bool = True
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    example_url: str = "https://host.example/v1"
    bills: bool = True


_COMPATIBLE = Dialect(schema_in_prompt=True, cut_when_full=True, limit_headers="openai")
_NO_MEANS = frozenset({"seed", "stop"})

_ROWS = (
    Provider(
        name="openai",
        wire="openai_chat",
        base_url="https://api.openai.com/v1",
        dialect=Dialect(token_field="max_completion_tokens"),  # noqa: S106 - the name of a field
        key_vars=("OPENAI_API_KEY",),
        key_hosts=("api.openai.com", ".api.openai.com"),
    ),
    Provider(
        name="openai_responses",
        wire="openai_responses",
        base_url="https://api.openai.com/v1",
        path="/responses",
        dialect=Dialect(token_field="max_output_tokens", unsupported=_NO_MEANS),  # noqa: S106 - the name of a field
        key_vars=("OPENAI_API_KEY",),
        key_hosts=("api.openai.com", ".api.openai.com"),
    ),
    Provider(
        name="anthropic",
        wire="anthropic",
        base_url="https://api.anthropic.com",
        path="/v1/messages",
        dialect=Dialect(
            schema_limits="anthropic",
            limit_headers="anthropic",
            default_output_tokens=8_192,
            stream_over=21_333,
            bare_429_is_spend_cap=True,
            unsupported=frozenset({"seed"}),
        ),
        key_vars=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        key_hosts=("api.anthropic.com",),
        headers=MappingProxyType({"anthropic-version": "2023-06-01"}),
    ),
    Provider(
        name="gemini",
        wire="gemini",
        base_url="https://generativelanguage.googleapis.com",
        path="/v1beta/models",
        dialect=Dialect(schema_limits="gemini", auth_header="x-goog-api-key", auth_prefix="", limit_headers="none"),
        key_vars=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_hosts=("generativelanguage.googleapis.com",),
    ),
    Provider(
        name="ollama",
        wire="ollama",
        base_url="http://127.0.0.1:11434",
        path="/api/chat",
        dialect=Dialect(
            token_field="num_predict",  # noqa: S106 - the name of a field
            schema_limits="ollama",
            schema_in_prompt=True,
            limit_headers="none",
        ),
        key_vars=("OLLAMA_API_KEY",),
        key_hosts=("ollama.com",),
        needs_key=False,
    ),
    Provider(
        name="azure",
        wire="openai_chat",
        base_url=None,
        dialect=Dialect(
            token_field="max_completion_tokens",  # noqa: S106 - the name of a field
            auth_header="api-key",
            auth_prefix="",
        ),
        key_vars=("AZURE_OPENAI_API_KEY",),
        key_hosts=(".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        example_url="https://RESOURCE.openai.azure.com/openai/v1",
    ),
    Provider(
        name="openrouter",
        wire="openai_chat",
        base_url="https://openrouter.ai/api/v1",
        dialect=Dialect(schema_in_prompt=True),
        key_vars=("OPENROUTER_API_KEY",),
        key_hosts=("openrouter.ai",),
    ),
    Provider(
        name="groq",
        wire="openai_chat",
        base_url="https://api.groq.com/openai/v1",
        dialect=Dialect(
            token_field="max_completion_tokens",  # noqa: S106 - the name of a field
            schema_mode="json_object",
            limit_headers="groq",
        ),
        key_vars=("GROQ_API_KEY",),
        key_hosts=("api.groq.com",),
    ),
    Provider(
        name="mistral",
        wire="openai_chat",
        base_url="https://api.mistral.ai/v1",
        dialect=Dialect(seed_field="random_seed", limit_headers="mistral", stream_usage=False),
        key_vars=("MISTRAL_API_KEY",),
        key_hosts=("api.mistral.ai",),
    ),
    Provider(
        name="deepseek",
        wire="openai_chat",
        base_url="https://api.deepseek.com/v1",
        dialect=Dialect(schema_mode="json_object", limit_headers="none", unsupported=frozenset({"seed"})),
        key_vars=("DEEPSEEK_API_KEY",),
        key_hosts=("api.deepseek.com",),
    ),
    Provider(
        name="together",
        wire="openai_chat",
        base_url="https://api.together.xyz/v1",
        dialect=Dialect(schema_in_prompt=True, cut_when_full=True),
        key_vars=("TOGETHER_API_KEY",),
        key_hosts=("api.together.xyz", "api.together.ai"),
    ),
    Provider(
        name="vllm",
        wire="openai_chat",
        base_url="http://127.0.0.1:8000/v1",
        dialect=_COMPATIBLE,
        needs_key=False,
    ),
    Provider(
        name="llamacpp",
        wire="openai_chat",
        base_url="http://127.0.0.1:8080/v1",
        dialect=_COMPATIBLE,
        needs_key=False,
    ),
    Provider(
        name="lmstudio",
        wire="openai_chat",
        base_url="http://127.0.0.1:1234/v1",
        dialect=_COMPATIBLE,
        needs_key=False,
    ),
    Provider(
        name="openai_compatible",
        wire="openai_chat",
        base_url=None,
        dialect=_COMPATIBLE,
        needs_key=False,
    ),
    Provider(
        name="echo",
        wire="echo",
        base_url=None,
        dialect=Dialect(schema_mode="none", limit_headers="none"),
        path="",
        needs_key=False,
        bills=False,
    ),
)


def own_row(name: str) -> Provider:
    """The row of a provider that is the user's own code, named "module:object"; it is sent what it asks for."""
    return Provider(
        name=name,
        wire="own",
        base_url=None,
        dialect=Dialect(schema_mode="none", limit_headers="none"),
        path="",
        needs_key=False,
    )


PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})

# How each wire can ask for a schema, natively first; `schema_mode: native` on a model means the first.
WIRE_MODES: Mapping[str, tuple[SchemaMode, ...]] = MappingProxyType(
    {
        "openai_chat": ("json_schema", "json_object", "prompt"),
        "openai_responses": ("json_schema", "json_object", "prompt"),
        "anthropic": ("json_schema", "prompt"),
        "gemini": ("json_schema", "json_object", "prompt"),
        "ollama": ("json_schema", "json_object", "prompt"),
        "echo": ("none", "json_object", "prompt"),
        "own": ("none",),
    }
)

# Fields of a body that are llmpipe's own: `extra` may not change who answers, how it is read, or how much is bought.
OWN_FIELDS = frozenset({"model", "messages", "input", "contents", "stream", "n", "candidateCount"})
