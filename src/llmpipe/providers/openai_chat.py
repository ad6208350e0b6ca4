"""The wire of OpenAI's Chat Completions, and of everybody who imitates it (facts A1 - A6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.providers.answers import Answer, bad_reply, conclude, http_call, open_reply, refuse_unsupported
from llmpipe.providers.asked import Asked, asked
from llmpipe.providers.body import as_list, as_map, as_text, first_map
from llmpipe.providers.classify import classify
from llmpipe.providers.stream import Event, error_of
from llmpipe.providers.table import Target
from llmpipe.providers.usage import grown, reported, usage_of
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Usage

# Facts A4. "eos" is Together's and "model_length" Mistral's; a reason that is not here is not completion.
FINISH: Mapping[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "content_filter": "filtered",
}


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes of POST `{base}/chat/completions`; parameters that are not set are absent (facts A2)."""
    refuse_unsupported(request, target)
    dialect, ask = target.dialect, asked(request, target)
    roles = {"system": dialect.system_role}
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": roles.get(turn.role, turn.role), "content": turn.content} for turn in ask.turns],
    }
    optional = {
        dialect.token_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        dialect.seed_field: request.seed,
        "stop": list(request.stop) or None,
        "reasoning_effort": request.reasoning_effort,
        "response_format": _response_format(ask),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if stream:
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = {"include_usage": True}
    return http_call(target, body, request, stream=stream)


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in a reply, or the error that it amounts to (facts A4, A5)."""
    data = open_reply(reply, target)
    if not isinstance(data.get("choices"), list):
        raise bad_reply("no 'choices' in the reply", reply, target)
    choice = first_map(data["choices"])
    if choice.get("error"):  # OpenRouter: the upstream failed half-way
        raise classify(reply, target, data={"error": choice["error"]})
    message = as_map(choice.get("message"))
    text, thought = _content(message.get("content"))
    refusal = as_text(message.get("refusal"))
    reason = as_text(choice.get("finish_reason")) if choice else "no choices"
    finish: Finish = "refusal" if refusal else FINISH.get(reason, "incomplete" if choice else "stop")
    answer = Answer(
        text=text,
        finish=finish,
        reason=reason,
        usage=usage_in(data),
        model=as_text(data.get("model")),
        reasoning=as_text(message.get("reasoning_content")) or as_text(message.get("reasoning")) or thought,
        refusal=refusal,
        completion=reported(as_map(data.get("usage")), "completion_tokens", "output_tokens"),
    )
    return conclude(answer, reply, target, request)


class Streamed:
    """Adds up `chat.completion.chunk`s of the first choice; `[DONE]` is the terminal event (facts A6)."""

    def __init__(self) -> None:
        self.complete = self.done = False
        self._error: Mapping[str, Any] | None = None
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
        self._choice: dict[str, Any] = {}

    def add(self, event: Event) -> None:
        """Take in the next chunk."""
        self._error = error_of(event)
        if event.name == "[DONE]" or self._error is not None:
            self.complete = self.done = True
            return
        data = as_map(event.data)
        self._head |= {k: data[k] for k in ("id", "model") if data.get(k)}
        self._add_usage(data.get("usage") or as_map(data.get("x_groq")).get("usage"))
        for choice in as_list(data.get("choices")):
            if as_map(choice).get("index", 0) == 0:
                self._add_choice(as_map(choice))

    def body(self) -> Mapping[str, Any]:
        """A `chat.completion` of what has come."""
        if self._error is not None:
            return {**self._error, "partial": "".join(self._texts["content"])}
        message = {name: "".join(parts) or None for name, parts in self._texts.items()}
        return {**self._head, "choices": [{"index": 0, "message": message, **self._choice}] if self._choice else []}

    def _add_usage(self, usage: Any) -> None:
        if as_map(usage):
            self._head["usage"] = grown(self._head.get("usage"), usage)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        self._add_usage(choice.get("usage"))  # Moonshot's place for it
        delta = as_map(choice.get("delta"))
        text, thought = _content(delta.get("content"))
        self._texts["content"].append(text)
        self._texts["refusal"].append(as_text(delta.get("refusal")))
        reasoning = as_text(delta.get("reasoning_content")) or as_text(delta.get("reasoning")) or thought
        self._texts["reasoning_content"].append(reasoning)
        self._choice.setdefault("finish_reason", None)
        self._choice |= {name: choice[name] for name in ("finish_reason", "error") if choice.get(name)}


def _response_format(ask: Asked) -> dict[str, Any] | None:
    if ask.native == "json_schema":
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": ask.schema, "strict": True}}
    return {"type": "json_object"} if ask.native == "json_object" else None


def _content(content: Any) -> tuple[str, str]:
    """The text of a message, and what it thought: a text, or Mistral's list of parts."""
    if isinstance(content, str):
        return content, ""
    parts = [as_map(part) for part in as_list(content)]
    text = "".join(as_text(part.get("text")) for part in parts if part.get("type") in ("text", "output_text"))
    thoughts = [as_map(t) for part in parts if part.get("type") == "thinking" for t in as_list(part.get("thinking"))]
    return text, "".join(as_text(thought.get("text")) for thought in thoughts)


def usage_in(data: Mapping[str, Any]) -> Usage:
    """The usage in a body. Cached is part of the prompt, reasoning of the completion (facts A5) unless it cannot be.

    Beside OpenAI's names stand DeepSeek's (`prompt_cache_…`), and those of servers and gateways that count as Responses
    or Anthropic do.
    """
    usage = as_map(data.get("usage"))
    prompt = reported(usage, "prompt_tokens", "input_tokens")
    hit, miss = reported(usage, "prompt_cache_hit_tokens"), reported(usage, "prompt_cache_miss_tokens")
    if prompt is None and hit is not None and miss is not None:
        prompt = hit + miss
    return usage_of(
        input=prompt,
        output=reported(usage, "completion_tokens", "output_tokens"),
        total=reported(usage, "total_tokens"),
        cached=reported(usage, *_CACHED),
        written=reported(usage, *_WRITTEN),
        reasoning=reported(usage, *_REASONING),
    )


_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
)
_WRITTEN = (
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "cache_creation_input_tokens",
)
_REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "reasoning_tokens",
)
