"""The wire of Anthropic's Messages (facts A1 - A6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.providers.answers import Answer, bad_reply, conclude, http_call, open_reply, refuse_unsupported
from llmpipe.providers.asked import Asked, asked
from llmpipe.providers.body import as_count, as_list, as_map, as_text
from llmpipe.providers.stream import Event, error_of
from llmpipe.providers.table import Target
from llmpipe.providers.usage import grown, larger, reported, usage_of
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Usage

# Facts A4; a reason that is not here (pause_turn, tool_use, compaction, one of next year) is not completion.
FINISH: Mapping[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes of POST `{base}/v1/messages`. `max_tokens` is required there: the row's default stands in for it."""
    refuse_unsupported(request, target)
    ask = asked(request, target)
    allowed = request.max_output_tokens
    body: dict[str, Any] = {
        "model": target.model,
        target.dialect.token_field: target.dialect.default_output_tokens if allowed is None else allowed,
        "messages": [{"role": turn.role, "content": turn.content} for turn in ask.turns if turn.role != "system"],
    }
    optional = {
        "system": "\n\n".join(turn.content for turn in ask.turns if turn.role == "system") or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": list(request.stop) or None,
        "output_config": _output_config(ask, request),
        "stream": stream or None,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    return http_call(target, body, request, stream=stream)


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in a reply, or the error that it amounts to (facts A4, A5); only text parts are the answer."""
    data = open_reply(reply, target)
    if not isinstance(data.get("content"), list):
        raise bad_reply("no 'content' in the reply", reply, target)
    parts = [as_map(part) for part in data["content"]]
    reason = as_text(data.get("stop_reason"))
    details = as_map(data.get("stop_details"))
    refusal = [as_text(details.get(name)) for name in ("category", "explanation") if details.get(name)]
    answer = Answer(
        text="".join(as_text(part.get("text")) for part in parts if part.get("type") == "text"),
        finish=FINISH.get(reason, "incomplete"),
        reason=reason,
        usage=usage_in(data),
        model=as_text(data.get("model")),
        reasoning="\n".join(as_text(part.get("thinking")) for part in parts if part.get("type") == "thinking"),
        refusal=": ".join(refusal),
    )
    return conclude(answer, reply, target, request)


class Streamed:
    """Adds up the events of a message; `message_stop` is the terminal one, `error` comes after a 200 (facts A6)."""

    def __init__(self) -> None:
        self.complete = self.done = False
        self._error: Mapping[str, Any] | None = None
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def add(self, event: Event) -> None:
        """Take in the next event; `ping` and unknown ones say nothing."""
        data = as_map(event.data)
        kind = as_text(data.get("type")) or event.name
        self._error = error_of(event)
        if kind == "message_stop" or self._error is not None:
            self.complete = self.done = True
        elif kind == "message_start":
            self._message = dict(as_map(data.get("message")))
            self._usage = dict(as_map(self._message.get("usage")))
        elif kind == "content_block_start":
            block = dict(as_map(data.get("content_block")))
            self._blocks[as_count(data.get("index")) or 0] = (block, [as_text(block.get(_field(block)))])
        elif kind == "content_block_delta":
            self._add_delta(as_count(data.get("index")) or 0, as_map(data.get("delta")))
        elif kind == "message_delta":
            self._message |= as_map(data.get("delta"))
            self._usage = grown(self._usage, data.get("usage"))

    def body(self) -> Mapping[str, Any]:
        """A `message` of what has come."""
        if self._error is not None:
            return {**self._error, "partial": "".join(text for _, texts in self._blocks.values() for text in texts)}
        blocks = [{**block, _field(block): "".join(texts)} for _, (block, texts) in sorted(self._blocks.items())]
        return {**self._message, "content": blocks, "usage": self._usage}

    def _add_delta(self, index: int, delta: Mapping[str, Any]) -> None:
        texts = self._blocks.setdefault(index, ({"type": "text"}, []))[1]
        texts.append(as_text(delta.get("text")) or as_text(delta.get("thinking")))


def _field(block: Mapping[str, Any]) -> str:
    return "thinking" if block.get("type") == "thinking" else "text"


def _output_config(ask: Asked, request: LLMRequest) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    if ask.native == "json_schema":
        config["format"] = {"type": "json_schema", "schema": ask.schema}
    if request.reasoning_effort is not None:
        config["effort"] = request.reasoning_effort
    return config or None


def usage_in(data: Mapping[str, Any]) -> Usage:
    """The usage in a body: the sum of its iterations where it names them, for the fields beside them leave some out.

    A compaction of the conversation, or an advisor's answer, is billed and counted in `iterations` alone
    (https://platform.claude.com/docs/en/build-with-claude/compaction#understanding-usage).
    """
    usage = as_map(data.get("usage"))
    billed = [_counts(as_map(entry)) for entry in as_list(usage.get("iterations"))]
    return larger(_counts(usage), sum(billed, Usage()))


def _counts(usage: Mapping[str, Any]) -> Usage:
    """The whole input is input + cache_creation + cache_read: `input_tokens` is without the cached part (facts A5)."""
    plain = reported(usage, "input_tokens")
    read = reported(usage, "cache_read_input_tokens")
    for_1h = reported(usage, "cache_creation.ephemeral_1h_input_tokens")
    split = [n for n in (reported(usage, "cache_creation.ephemeral_5m_input_tokens"), for_1h) if n is not None]
    written = reported(usage, "cache_creation_input_tokens")
    if split:
        written = max(written or 0, sum(split))
    return usage_of(
        input=None if plain is None else plain + (written or 0) + (read or 0),
        output=reported(usage, "output_tokens"),
        total=reported(usage, "total_tokens"),
        cached=read,
        written=written,
        written_1h=for_1h,
        reasoning=reported(usage, "output_tokens_details.thinking_tokens"),
    )
