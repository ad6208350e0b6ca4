"""The wire of OpenAI's Responses (facts A1 - A6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.providers.answers import Answer, bad_reply, conclude, http_call, open_reply, refuse_unsupported
from llmpipe.providers.asked import Asked, asked
from llmpipe.providers.body import as_list, as_map, as_text
from llmpipe.providers.classify import classify
from llmpipe.providers.stream import Event, error_of
from llmpipe.providers.table import Target
from llmpipe.providers.usage import reported, usage_of
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Message, Usage

_INCOMPLETE: Mapping[str, Finish] = {"max_output_tokens": "length", "content_filter": "filtered"}
FINISH: Mapping[str, Finish] = {"completed": "stop", **_INCOMPLETE}
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes of POST `{base}/responses`. `store` is false unless `extra` says otherwise: the default keeps data."""
    refuse_unsupported(request, target)
    ask = asked(request, target)
    instructions, turns = _split(ask.turns)
    body: dict[str, Any] = {
        "model": target.model,
        "input": [{"role": turn.role, "content": turn.content} for turn in turns],
        "store": False,
    }
    optional = {
        "instructions": instructions,
        target.dialect.token_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "reasoning": {"effort": request.reasoning_effort} if request.reasoning_effort is not None else None,
        "text": _text(ask),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if stream:
        body["stream"] = True
    return http_call(target, body, request, stream=stream)


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in a reply, or the error that it amounts to: `failed` comes with HTTP 200 (facts A4)."""
    data = open_reply(reply, target)
    status = as_text(data.get("status"))
    if status == "failed":
        raise classify(reply, target, data=data)
    if not status or not isinstance(data.get("output"), list):
        raise bad_reply("no 'status' and 'output' in the reply", reply, target)
    messages = [as_map(item) for item in data["output"] if as_map(item).get("type") == "message"]
    parts = [as_map(part) for item in messages for part in as_list(item.get("content"))]
    refusal = "".join(as_text(part.get("refusal")) for part in parts if part.get("type") == "refusal")
    refused = any(part.get("type") == "refusal" for part in parts)
    finish, reason = _finish(status, as_text(as_map(data.get("incomplete_details")).get("reason")))
    answer = Answer(
        text="".join(as_text(part.get("text")) for part in parts if part.get("type") == "output_text"),
        finish="refusal" if refused else finish,
        reason=reason,
        usage=usage_in(data),
        model=as_text(data.get("model")),
        reasoning=_reasoning(data["output"]),
        refusal=refusal,
    )
    return conclude(answer, reply, target, request)


class Streamed:
    """Waits for the terminal event, which holds the whole response; keeps the deltas in case it never comes."""

    def __init__(self) -> None:
        self.complete = self.done = False
        self._body: Mapping[str, Any] | None = None
        self._deltas: list[str] = []

    def add(self, event: Event) -> None:
        """Take in the next event."""
        data = as_map(event.data)
        kind = as_text(data.get("type")) or event.name
        error = error_of(event) if kind not in _TERMINAL else None
        if kind == "response.output_text.delta":
            self._deltas.append(as_text(data.get("delta")))
        if kind in _TERMINAL or error is not None:
            self._body = (
                {**error, "partial": "".join(self._deltas)} if error is not None else as_map(data.get("response"))
            )
            self.complete = self.done = True

    def body(self) -> Mapping[str, Any]:
        """The response, or what has come of its text."""
        if self._body is not None:
            return self._body
        part = {"type": "output_text", "text": "".join(self._deltas)}
        return {"status": "in_progress", "output": [{"type": "message", "role": "assistant", "content": [part]}]}


def _split(turns: tuple[Message, ...]) -> tuple[str | None, tuple[Message, ...]]:
    """The first turn as `instructions` if it is a system turn, and the rest."""
    if turns and turns[0].role == "system":
        return turns[0].content, turns[1:]
    return None, turns


def _text(ask: Asked) -> dict[str, Any] | None:
    if ask.native == "json_schema":
        return {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": True}}
    return {"format": {"type": "json_object"}} if ask.native == "json_object" else None


def _finish(status: str, reason: str) -> tuple[Finish, str]:
    if status == "completed":
        return "stop", status
    if status == "incomplete":
        return _INCOMPLETE.get(reason, "incomplete"), reason or status
    return "incomplete", status


def _reasoning(output: list[Any]) -> str:
    items = [as_map(item) for item in output if as_map(item).get("type") == "reasoning"]
    parts = [as_map(part) for item in items for part in [*as_list(item.get("summary")), *as_list(item.get("content"))]]
    return "\n".join(as_text(part.get("text")) for part in parts)


def usage_in(data: Mapping[str, Any]) -> Usage:
    """The usage in a body. Cached is part of the input, reasoning part of the output (facts A5) unless it cannot be."""
    usage = as_map(data.get("usage"))
    return usage_of(
        input=reported(usage, "input_tokens", "prompt_tokens"),
        output=reported(usage, "output_tokens", "completion_tokens"),
        total=reported(usage, "total_tokens"),
        cached=reported(usage, "input_tokens_details.cached_tokens", "prompt_tokens_details.cached_tokens"),
        written=reported(usage, "input_tokens_details.cache_write_tokens", "prompt_tokens_details.cache_write_tokens"),
        reasoning=reported(
            usage, "output_tokens_details.reasoning_tokens", "completion_tokens_details.reasoning_tokens"
        ),
    )
