"""A well-behaved provider's streamed answer of each wire, event by event; the last one is the terminal event."""

from __future__ import annotations

import json
from typing import Any

KINDS = {"ollama": "application/x-ndjson"}  # the others send server-sent events


def asked_for(path: str, body: bytes) -> bool:
    """Whether a request asks for a stream."""
    return "streamGenerateContent" in path or b'"stream":true' in body.replace(b" ", b"")


def kind(wire: str) -> str:
    """The content type of a wire's streams."""
    return KINDS.get(wire, "text/event-stream")


def events(wire: str, text: str = "hello") -> list[bytes]:
    """The events of an answer in two pieces, with usage: 10 tokens in, 5 out."""
    half = (len(text) + 1) // 2
    return _EVENTS[wire](text[:half], text[half:])


def error(wire: str) -> bytes:
    """The event by which a provider says, after a 200, that it cannot go on (facts A6)."""
    if wire == "anthropic":
        return _sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    if wire == "gemini":
        return _sse({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}})
    if wire == "ollama":
        return _line({"error": "the server is overloaded"})
    if wire == "openai_responses":
        fault = {"type": "server_error", "code": "server_overloaded", "message": "Overloaded"}
        return _sse({"type": "error", **fault}, "error")
    return _sse({"error": {"message": "Overloaded", "type": "server_error", "code": "overloaded"}})


def _sse(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"


def _line(data: Any) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _chat(first: str, rest: str) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({"id": "c1", "object": "chat.completion.chunk", "model": "test", "choices": [choice]})

    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    usage = _sse({"id": "c1", "model": "test", "choices": [], "usage": counts})
    pieces = [chunk({"role": "assistant", "content": first}), chunk({"content": rest}), chunk({}, "stop")]
    return [b": PROCESSING\n\n", *pieces, usage, b"data: [DONE]\n\n"]


def _responses(first: str, rest: str) -> list[bytes]:
    part = {"type": "output_text", "text": first + rest, "annotations": []}
    item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    head = {"id": "resp_1", "object": "response", "model": "test"}
    whole = {**head, "status": "completed", "error": None, "output": [item], "usage": usage}

    def event(name: str, **fields: Any) -> bytes:
        return _sse({"type": name, **fields}, name)

    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    return [
        event("response.created", response={**head, "status": "in_progress", "output": []}),
        event("response.output_text.delta", delta=first, **where),
        event("response.output_text.delta", delta=rest, **where),
        event("response.completed", response=whole),
    ]


def _anthropic(first: str, rest: str) -> list[bytes]:
    def event(name: str, **fields: Any) -> bytes:
        return _sse({"type": name, **fields}, name)

    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test", "content": []}
    start = {**head, "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    return [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": first}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": rest}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
        event("message_stop"),
    ]


def _gemini(first: str, rest: str) -> list[bytes]:
    def chunk(text: str, **more: Any) -> bytes:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
        counts = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        return _sse({"candidates": [candidate], "usageMetadata": counts, "modelVersion": "test", "responseId": "r1"})

    return [chunk(first), chunk(rest, finishReason="STOP")]


def _ollama(first: str, rest: str) -> list[bytes]:
    def line(text: str, **more: Any) -> bytes:
        return _line({"model": "test", "message": {"role": "assistant", "content": text}, "done": False, **more})

    return [
        line(first),
        line(rest),
        line("", done=True, done_reason="stop", prompt_eval_count=10, eval_count=5),
    ]


_EVENTS = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "ollama": _ollama,
}
