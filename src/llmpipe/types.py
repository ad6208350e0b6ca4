"""The nouns that every room speaks: messages, requests, responses, models, HTTP calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from llmpipe.errors import Billed
from llmpipe.frozen import frozen
from llmpipe.policy import Limits

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "refusal", "filtered", "incomplete"]
EMPTY: Mapping[str, Any] = MappingProxyType({})


@frozen
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@frozen
class LLMRequest:
    """What is asked, in no provider's spelling.

    `model` is a name that the client knows, or `"provider/model-id"`, or a bare name, which `echo` answers.
    Give `prompt`, or `messages` (`Message` objects or `{"role": …, "content": …}` mappings), or
    both: the prompt is then the last user turn.
    A parameter that is None is not sent at all. `extra` is merged into the request body untouched.
    `sample` tells otherwise equal requests apart (0 for a single one).
    `schema` is a JSON Schema for the answer, or the short form of one: `{"score": "integer 1..5"}`.
    `force_error`, `latency_s` and `faults` speak to `echo` alone.
    """

    model: str
    prompt: str | None = None
    messages: Sequence[Message] = ()
    system_prompt: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    reasoning_effort: str | None = None
    schema: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    sample: int = 0
    force_error: bool | None = None
    latency_s: float | None = None
    faults: Mapping[str, float] = field(default_factory=lambda: EMPTY)  # share of calls per fault, 0..1

    def __post_init__(self) -> None:
        given: Any = self.messages
        if isinstance(given, str | bytes):
            raise ValueError("messages must be a list of messages; a single text goes into prompt")
        turns = tuple(_turn(m, number) for number, m in enumerate(given, start=1))
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ValueError(f"prompt must be text, not {type(self.prompt).__name__}")
        object.__setattr__(self, "messages", turns)
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        if self.prompt is None and not turns:
            raise ValueError("LLMRequest needs a prompt or messages")

    def turns(self) -> tuple[Message, ...]:
        """The whole conversation: system prompt, messages, prompt."""
        head = (Message("system", self.system_prompt),) if self.system_prompt is not None else ()
        tail = (Message("user", self.prompt),) if self.prompt is not None else ()
        return (*head, *self.messages, *tail)


def _turn(message: Message | Mapping[str, Any], number: int) -> Message:
    """A turn of a request. Raises ValueError for what is none, so that no provider is asked with it."""
    if isinstance(message, Mapping):
        missing = [name for name in ("role", "content") if name not in message]
        if missing:
            raise ValueError(f"message {number} lacks {' and '.join(missing)}")
        message = Message(message["role"], message["content"])
    if not isinstance(message, Message):
        raise ValueError(f"message {number} must be a Message or a mapping with role and content")
    if message.role not in ("system", "user", "assistant"):
        raise ValueError(f"message {number} has the role {message.role!r}; roles are system, user and assistant")
    if not isinstance(message.content, str):
        raise ValueError(f"message {number} must have text for its content, not {type(message.content).__name__}")
    return message


@frozen
class Usage:
    """Tokens of one exchange. None means that the provider did not say, never 0 (facts A5).

    `input_tokens` is the whole input, cached parts included; `output_tokens` the whole output, reasoning included.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_1h_tokens: int | None = None  # of cache_write_tokens: kept for an hour, at a price of their own

    def __add__(self, other: Usage) -> Usage:
        def plus(a: int | None, b: int | None) -> int | None:
            return b if a is None else a if b is None else a + b

        return Usage(*(plus(getattr(self, n), getattr(other, n)) for n in self.__match_args__))


@frozen
class Attempt:
    """One HTTP exchange of a call (or one answer of `echo`), whatever came of it."""

    number: int  # from 1, over the whole call, retries and fallbacks counted through
    model: str  # "provider/model-id" that was asked
    started_at: float  # seconds since the epoch
    latency_s: float
    outcome: str  # "ok", or the class name of the error
    code: str | None = None  # P4xx
    status: int | None = None
    error: str | None = None
    wait_s: float | None = None  # the wait that followed, before the next attempt
    billed: Billed = "no"
    usage: Usage | None = None
    raw: str | None = None  # the body of a reply that was not an answer, bounded and redacted
    provider_request_id: str | None = None
    masked: tuple[str, ...] = ()  # the key variables whose values the reply held; what is written of it has them not


@frozen
class LLMResponse:
    """An answer, in no provider's spelling. `str(response)` is its text.

    `finish` is "stop" in every response that leaves the client; other ends are errors (facts A4).
    `output` is the validated value where a schema was asked for, else None. `cached` answers cost 0.
    """

    text: str
    model: str  # what the provider says answered
    provider: str
    finish: Finish = "stop"
    usage: Usage = Usage()
    reasoning: str | None = None
    provider_request_id: str | None = None
    request_id: str = ""
    latency_s: float = 0.0
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()
    output: Any = None
    reasks: int = 0
    cost_usd: Decimal | None = None  # None: the model has no known price
    answered_by: str = ""  # "provider/model-id" as configured; differs from the first choice after a fallback
    rate_limits: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # the reply's limit headers, as they came
    notes: tuple[str, ...] = ()  # "fences_stripped", "repaired", "dropped:maxLength" …

    def __str__(self) -> str:
        return self.text

    def having(self, **changes: Any) -> LLMResponse:
        """A copy with these fields changed: `dataclasses.replace` at a quarter of its cost, for every call needs it."""
        twin = object.__new__(LLMResponse)
        for name in _RESPONSE_FIELDS:
            object.__setattr__(twin, name, changes.pop(name) if name in changes else getattr(self, name))
        if changes:
            raise TypeError(f"LLMResponse has no {', '.join(changes)}")
        return twin


_RESPONSE_FIELDS = tuple(f.name for f in fields(LLMResponse))


@frozen
class Price:
    """USD per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    as_of: str = ""  # ISO date of the snapshot, or "" for a price from the pipeline file


@frozen
class Model:
    """A named entry under `models`: who is asked, with what parameters and limits."""

    name: str
    provider: str  # a row of the provider table
    model: str  # the provider's own id
    base_url: str | None = None  # None: the row's
    api_key_env: str | None = None  # None: the row's
    params: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # LLMRequest fields by name, `extra` among them
    limits: Limits = field(default_factory=Limits)
    fallback: tuple[str, ...] = ()
    fallback_on: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: EMPTY)  # as in CallPolicy
    price: Price | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # e.g. anthropic-version, anthropic-beta
    schema_mode: Literal["native", "json_object", "prompt"] | None = None  # None: as the provider's row says
    allow_http: bool = False  # plain http to a host that is not loopback
    stream: bool | None = None  # None: streamed where a reply may take minutes (providers.wires.prefers_stream)

    @property
    def label(self) -> str:
        """ "provider/model-id", as it stands in logs and reports."""
        return f"{self.provider}/{self.model}"


@frozen
class HttpCall:
    """A request as bytes on the wire, without its secret: the key is added where it is sent."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    auth_header: str | None = None  # e.g. "authorization"; None: no key is sent
    auth_prefix: str = ""  # e.g. "Bearer "
    method: str = "POST"


@frozen
class HttpReply:
    """A whole reply, bounded while it was read."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes | bytearray
