"""Streams as providers send them (facts A6), cut at every byte, in pieces of every size, in every legal spelling."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpipe.errors import CallFailed, ContentFiltered, Overloaded, RateLimited, Refused, StreamCut, Truncated
from llmpipe.providers.wires import decode, reader_for
from llmpipe.types import HttpReply, LLMResponse
from tests.providers.golden_files import target_of

TEXT = 'né "数" 😀\n{"a": 1}'
PROVIDERS = {
    "openai_chat": "openai",
    "openai_responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "ollama": "ollama",
}


def sse(*events: Any, name: Callable[[Any], str] = lambda data: "") -> bytes:
    parts = []
    for event in events:
        text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        head = f"event: {name(event)}\n" if name(event) else ""
        parts.append(f"{head}data: {text}\n\n")
    return "".join(parts).encode()


def by_type(data: Any) -> str:
    return str(data.get("type", "")) if isinstance(data, dict) else ""


def chat(*deltas: Any, finish: str | None = "stop", done: bool = True) -> bytes:
    def chunk(delta: Any, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], "usage": None}

    usage = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 2}}
    pieces = [chunk({"role": "assistant", "content": "", "refusal": None}), *map(chunk, deltas)]
    pieces += [chunk({}, finish)] if finish else []
    end: list[Any] = [{"id": "c", "model": "m-1", "choices": [], "usage": usage}, *(["[DONE]"] if done else [])]
    return b": OPENROUTER PROCESSING\n\n" + sse(*pieces, *end)


def responses(text: str, *, end: str = "response.completed", **more: Any) -> bytes:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "msg", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    thought = {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    usage = {"input_tokens": 9, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}}
    whole = {"id": "r", "object": "response", "model": "m-1", "status": end.rpartition(".")[2], "error": None,
             "incomplete_details": None, "output": [thought, message], "usage": usage, **more}  # fmt: skip
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[Any] = [{"type": "response.created", "sequence_number": 0, "response": started}]
    events += [{"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}}]
    events += [{"type": "response.output_text.delta", "item_id": "msg", "delta": ch} for ch in (text[:3], text[3:])]
    events += [{"type": "response.output_text.done", "item_id": "msg", "text": text}, {"type": end, "response": whole}]
    return sse(*events, name=by_type)


def anthropic(*deltas: str, stop: str = "end_turn", end: bool = True) -> bytes:
    start = {"id": "msg", "type": "message", "role": "assistant", "model": "m-1", "content": [], "stop_reason": None,
             "usage": {"input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 1}}  # fmt: skip
    events: list[Any] = [
        {"type": "message_start", "message": start},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": d}} for d in deltas),
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 4}},
        *([{"type": "message_stop"}] if end else []),
    ]
    padded = sse(*events, name=by_type)
    return padded.replace(b"}\n\n", b"}       \n\n")  # its lines of JSON are padded with spaces


def gemini(*texts: str, finish: str = "STOP") -> bytes:
    def chunk(parts: list[Any], **more: Any) -> dict[str, Any]:
        usage = {"promptTokenCount": 9, "totalTokenCount": 13}
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        return {"candidates": [candidate], "modelVersion": "m-1", "responseId": "r", "usageMetadata": usage}

    last = chunk([{"text": texts[-1]}], finishReason=finish)
    last["usageMetadata"] |= {"candidatesTokenCount": 2, "thoughtsTokenCount": 2}
    pieces = [chunk([{"text": "hm", "thought": True}]), *(chunk([{"text": t}]) for t in texts[:-1]), last]
    return sse(*pieces).replace(b"\n", b"\r\n")


def ollama(*texts: str, reason: str = "stop", done: bool = True) -> bytes:
    def line(message: Any, **more: Any) -> bytes:
        whole = {"model": "m-1", "created_at": "2026-11-22T12:00:00Z", "message": message, "done": False, **more}
        return json.dumps(whole, ensure_ascii=False).encode() + b"\n"

    lines = [line({"role": "assistant", "content": "", "thinking": "hm"})]
    lines += [line({"role": "assistant", "content": text}) for text in texts]
    counts = {"total_duration": 5, "prompt_eval_count": 9, "eval_count": 4}
    lines += [line({"role": "assistant", "content": ""}, done=True, done_reason=reason, **counts)] if done else []
    return b"".join(lines)


STREAMS: dict[str, bytes] = {
    "openai_chat": chat({"reasoning_content": "hm"}, {"content": TEXT[:4]}, {"content": TEXT[4:]}),
    "openai_responses": responses(TEXT),
    "anthropic": anthropic(TEXT[:4], TEXT[4:]),
    "gemini": gemini(TEXT[:4], TEXT[4:]),
    "ollama": ollama(TEXT[:4], TEXT[4:]),
}
# How many bytes at the end of each may be missing, and the answer is whole all the same.
SPARE = {wire: len(b"\n\n") for wire in STREAMS} | {"gemini": 4, "ollama": 1, "anthropic": 2}


def read(wire: str, *pieces: bytes) -> LLMResponse:
    """The response to a stream that comes in these pieces, or the error that it is."""
    target = target_of({"provider": PROVIDERS[wire], "model": "m"})
    kind = "application/x-ndjson" if wire == "ollama" else "text/event-stream; charset=utf-8"
    reader = reader_for(target, 200, {"content-type": kind})
    for piece in pieces:
        if reader.done:
            break
        reader.feed(piece)
    reply: HttpReply = reader.reply()
    return decode(reply, target)


def read_or_error(wire: str, data: bytes) -> LLMResponse | CallFailed:
    try:
        return read(wire, data)
    except CallFailed as err:
        return err


def is_whole(response: LLMResponse) -> bool:
    usage = response.usage
    return (response.text, response.reasoning, response.model) == (TEXT, "hm", "m-1") and (
        usage.input_tokens,
        usage.output_tokens,
    ) == (9, 4)


@pytest.mark.parametrize("wire", STREAMS)
def test_it_may_come_whole_or_byte_by_byte(wire: str) -> None:
    data = STREAMS[wire]
    assert is_whole(read(wire, data))
    assert is_whole(read(wire, *(bytes([byte]) for byte in data)))


@pytest.mark.parametrize("wire", STREAMS)
def test_it_may_be_cut_in_two_anywhere(wire: str) -> None:
    data = STREAMS[wire]
    for at in range(len(data)):
        assert is_whole(read(wire, data[:at], data[at:])), at


@pytest.mark.parametrize("wire", STREAMS)
def test_one_that_ends_too_early_is_never_an_answer(wire: str) -> None:
    """Gemini has no terminal event: its last chunk is one as soon as its line is complete."""
    data = STREAMS[wire]
    for at in range(len(data) - SPARE[wire]):
        response = read_or_error(wire, data[:at])
        if isinstance(response, CallFailed):
            assert response.retryable, at
            continue
        assert is_whole(response), (at, data[at - 30 : at])
        assert wire in ("openai_chat", "anthropic"), "only what says nothing more may be missing"
        assert at >= len(data) - len(b'"}        \n\n')


@pytest.mark.parametrize("wire", STREAMS)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30))
@settings(max_examples=60)
def test_it_may_come_in_pieces_of_any_size(wire: str, sizes: list[int]) -> None:
    data, pieces, at, n = STREAMS[wire], [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[n % len(sizes)]])
        at, n = at + sizes[n % len(sizes)], n + 1
    assert is_whole(read(wire, *pieces))


RESPELT: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "LF": lambda data: data.replace(b"\r\n", b"\n"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "no space after the colon": lambda data: data.replace(b"data: ", b"data:").replace(b"event: ", b"event:"),
    "comments and unknown fields": lambda data: b":\n\n: hello\nid: 7\nretry: 10\nrubbish\n\n" + data.replace(
        b"data: ", b": a comment\nid\ndata: "
    ),
    "many empty lines": lambda data: b"\n\n\n" + data.replace(b"\n\n", b"\n\n\n\n\n"),
    "data over several lines": lambda data: data.replace(b', "', b',\ndata:  "'),
    "escaped": lambda data: b"\n".join(_escaped(line) for line in data.replace(b"\r\n", b"\n").split(b"\n")),
    "the name behind the data": lambda data: b"\n\n".join(
        b"\n".join(reversed(event.split(b"\n"))) for event in data.replace(b"\r\n", b"\n").split(b"\n\n")
    ),
}  # fmt: skip


def _escaped(line: bytes) -> bytes:
    head, _, rest = line.partition(b"{")
    return head + json.dumps(json.loads(b"{" + rest)).encode() if rest else line


@pytest.mark.parametrize("how", RESPELT)
@pytest.mark.parametrize("wire", [wire for wire in STREAMS if wire != "ollama"])
def test_it_may_be_spelt_in_every_legal_way(wire: str, how: str) -> None:
    data = RESPELT[how](STREAMS[wire])
    assert is_whole(read(wire, data))
    assert is_whole(read(wire, *(bytes([byte]) for byte in data)))


@pytest.mark.parametrize("how", ["CRLF", "a byte order mark", "many empty lines", "escaped"])
def test_lines_of_json_may_be_spelt_in_every_legal_way(how: str) -> None:
    data = RESPELT[how](STREAMS["ollama"])
    assert is_whole(read("ollama", data))
    assert is_whole(read("ollama", *(bytes([byte]) for byte in data)))


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
ENDS: dict[str, tuple[str, bytes, type[CallFailed]]] = {
    "chat cut off": ("openai_chat", chat({"content": "so"}, finish="length"), Truncated),
    "chat filtered": ("openai_chat", chat({"content": "so"}, finish="content_filter"), ContentFiltered),
    "chat refused": ("openai_chat", chat({"refusal": "I can"}, {"refusal": "not"}), Refused),
    "chat without its end": ("openai_chat", chat({"content": "so"}, done=False), StreamCut),
    "chat without a reason": ("openai_chat", chat({"content": "so"}, finish=None), CallFailed),
    "chat error within": (
        "openai_chat",
        chat({"content": "so"}, finish=None, done=False)
        + sse({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}),
        RateLimited,
    ),
    "chat error beside its choice": (
        "openai_chat",
        sse({"id": "c", "error": {"code": 502, "message": "Overloaded upstream", "metadata": {}},
             "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}, "[DONE]"),
        CallFailed,
    ),
    "responses incomplete": (
        "openai_responses",
        responses("so", end="response.incomplete", incomplete_details={"reason": "max_output_tokens"}),
        Truncated,
    ),
    "responses filtered": (
        "openai_responses",
        responses("so", end="response.incomplete", incomplete_details={"reason": "content_filter"}),
        ContentFiltered,
    ),
    "responses failed": (
        "openai_responses",
        responses("so", end="response.failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
        RateLimited,
    ),
    "responses error": (
        "openai_responses",
        sse({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None}, name=by_type),
        RateLimited,
    ),
    "anthropic cut off": ("anthropic", anthropic("so", stop="max_tokens"), Truncated),
    "anthropic refused": ("anthropic", anthropic("so", stop="refusal"), Refused),
    "anthropic without its end": ("anthropic", anthropic("so", end=False), StreamCut),
    "anthropic overloaded": ("anthropic", anthropic("so", end=False) + sse(OVERLOADED, name=by_type), Overloaded),
    "gemini cut off": ("gemini", gemini("so", "far", finish="MAX_TOKENS"), Truncated),
    "gemini blocked": ("gemini", gemini("so", "far", finish="SAFETY"), ContentFiltered),
    "gemini prompt blocked": ("gemini", sse({"promptFeedback": {"blockReason": "SAFETY"}}), ContentFiltered),
    "gemini error in a list": (
        "gemini",
        gemini("so", "far").rsplit(b"data:", 1)[0] + sse([{"error": {"code": 503, "status": "UNAVAILABLE"}}]),
        Overloaded,
    ),
    "ollama cut off": ("ollama", ollama("so", reason="length"), Truncated),
    "ollama without its end": ("ollama", ollama("so", done=False), StreamCut),
    "ollama error": ("ollama", ollama("so", done=False) + b'{"error": "server busy"}\n', Overloaded),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_it_ends_is_told_whole_or_byte_by_byte(case: str) -> None:
    wire, data, kind = ENDS[case]
    for pieces in ([data], [bytes([byte]) for byte in data]):
        with pytest.raises(kind):
            read(wire, *pieces)
