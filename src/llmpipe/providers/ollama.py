"""The wire of Ollama's chat (facts A1 - A6), which drops the oldest messages silently unless it is kept from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.errors import ContextTooLong, StreamCut
from llmpipe.providers.answers import Answer, bad_reply, conclude, http_call, open_reply, refuse_unsupported
from llmpipe.providers.asked import Asked, asked
from llmpipe.providers.body import as_map, as_text
from llmpipe.providers.classify import raw_text
from llmpipe.providers.estimate import estimate_tokens, least_tokens
from llmpipe.providers.stream import Event, error_of
from llmpipe.providers.table import Target
from llmpipe.providers.usage import reported, usage_of
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Message, Usage

FINISH: Mapping[str, Finish] = {"stop": "stop", "length": "length"}
_LEAST_CONTEXT = 8_192
_MOST_CONTEXT = 1_048_576
_ROOM_FOR_ANSWER = 2_048  # where no limit is set
_WORTH_CHECKING = 256  # tokens; below, templates and rounding weigh more than what could be lost


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes of POST `{base}/api/chat`; `stream` and `truncate` are always there, and so is `options.num_ctx`.

    `num_ctx` is taken from `extra` (`num_ctx` or `options.num_ctx`); else it is what `context_size` finds.
    """
    refuse_unsupported(request, target)
    ask = asked(request, target)
    extra = dict(request.extra)
    context = extra.pop("num_ctx", None)
    options = {
        "num_ctx": context_size(ask.turns, request.max_output_tokens) if context is None else context,
        target.dialect.token_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        target.dialect.seed_field: request.seed,
        "stop": list(request.stop) or None,
    }
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in ask.turns],
        "stream": stream,
        "truncate": False,
        "options": {name: value for name, value in options.items() if value is not None},
    }
    if ask.native is not None:
        body["format"] = _format(ask)
    if request.reasoning_effort is not None:
        body["think"] = False if request.reasoning_effort == "none" else request.reasoning_effort
    return http_call(target, body, request, stream=stream, extra=extra)


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in a reply, or the error that it amounts to; ContextTooLong if the server read only a part."""
    data = open_reply(reply, target)
    if not isinstance(data.get("message"), Mapping):
        raise bad_reply("no 'message' in the reply", reply, target)
    if data.get("done") is not True:
        raise StreamCut(
            f"{target.label}: the reply is not marked as done", status=reply.status, raw=raw_text(reply), billed="maybe"
        )
    usage = usage_in(data)
    _check_read_whole(usage, reply, target, request)
    reason = as_text(data.get("done_reason"))
    answer = Answer(
        text=as_text(as_map(data["message"]).get("content")),
        finish=FINISH.get(reason, "incomplete"),
        reason=reason,
        usage=usage,
        model=as_text(data.get("model")),
        reasoning=as_text(as_map(data["message"]).get("thinking")),
    )
    return conclude(answer, reply, target, request)


def context_size(turns: tuple[Message, ...], max_output_tokens: int | None) -> int:
    """`num_ctx` for a conversation: the power of two above one and a half times its estimate plus the answer.

    At least 8,192. Powers of two, because the server loads the model anew whenever the number changes.
    """
    prompt = sum(estimate_tokens(turn.content) + 8 for turn in turns)
    needed = prompt * 3 // 2 + (_ROOM_FOR_ANSWER if max_output_tokens is None else max_output_tokens)
    size = _LEAST_CONTEXT
    while size < needed and size < _MOST_CONTEXT:
        size *= 2
    return size


class Streamed:
    """Adds up the lines of a reply; the one with `done: true` is the terminal one (facts A6)."""

    def __init__(self) -> None:
        self.complete = self.done = False
        self._error: Mapping[str, Any] | None = None
        self._last: dict[str, Any] = {}
        self._content: list[str] = []
        self._thinking: list[str] = []

    def add(self, event: Event) -> None:
        """Take in the next line."""
        self._error = error_of(event)
        data = as_map(event.data)
        message = as_map(data.get("message"))
        self._content.append(as_text(message.get("content")))
        self._thinking.append(as_text(message.get("thinking")))
        self._last |= {name: value for name, value in data.items() if name != "message"}
        if self._error is not None or data.get("done") is True:
            self.complete = self.done = True

    def body(self) -> Mapping[str, Any]:
        """One reply of what has come."""
        if self._error is not None:
            return {**self._error, "partial": "".join(self._content)}
        message = {"role": "assistant", "content": "".join(self._content), "thinking": "".join(self._thinking)}
        return {**self._last, "message": message}


def usage_in(data: Mapping[str, Any]) -> Usage:
    """The usage in a body."""
    return usage_of(input=reported(data, "prompt_eval_count"), output=reported(data, "eval_count"))


def _format(ask: Asked) -> Any:
    return ask.schema if ask.native == "json_schema" else "json"


def _check_read_whole(usage: Usage, reply: HttpReply, target: Target, request: LLMRequest | None) -> None:
    """Fewer tokens read than the prompt has words: something was dropped, whatever the server says (facts A2).

    A count that is absent says nothing: the prompt was cached (facts A5).
    """
    if request is None or usage.input_tokens is None:
        return
    least = sum(least_tokens(turn.content) for turn in request.turns())
    if least < _WORTH_CHECKING or usage.input_tokens >= least * 9 // 10:
        return
    raise ContextTooLong(
        f"{target.label}: the server read {usage.input_tokens} tokens of a prompt of at least {least}, so it dropped "
        "the rest; raise num_ctx (params.extra), or shorten the prompt",
        status=reply.status,
        raw=raw_text(reply),
        usage=usage,
        billed="yes",
    )
