"""Streams are bounded, and errors, comments and odd framing are told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmpipe.errors import BadReply, CallFailed, EmptyAnswer, ReplyTooLarge, ServerFault, StreamCut, Truncated
from llmpipe.providers import stream, wires
from llmpipe.providers.stream import Event, Framer, assemble, error_of
from llmpipe.providers.wires import WIRES, decode, reader_for
from tests.providers.golden_files import target_of

SSE = {"content-type": "text/event-stream"}
CHAT = target_of({"provider": "openai", "model": "m"})


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    data = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def read(*chunks: bytes, headers: dict[str, str] = SSE, status: int = 200) -> str:
    reader = reader_for(CHAT, status, headers)
    for part in chunks:
        reader.feed(part)
    return decode(reader.reply(), CHAT).text


def feed(part: bytes, *, headers: dict[str, str] = SSE) -> None:
    """The same bytes a thousand times."""
    reader = reader_for(CHAT, 200, headers)
    for _ in range(1_000):
        reader.feed(part)


def test_events_of_every_framing() -> None:
    framer = Framer("sse")
    assert framer.feed(b": hello\nid: 7\nretry: 3\nevent: a\ndata: {\ndata: }\r\n\r\ndata:[1]") == [Event("a", {})]
    assert framer.close() == [Event("", [1])]
    lines = Framer("ndjson")
    assert lines.feed(b'{"a":1}\r\n\n  {"b":2}  \n{"c"') == [Event("", {"a": 1}), Event("", {"b": 2})]
    assert lines.feed(b":3}") == []
    assert lines.close() == [Event("", {"c": 3})]
    assert framer.close() == lines.close() == []


def test_a_server_that_does_not_stream_is_read_as_it_answers() -> None:
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
    assert read(json.dumps(body).encode(), headers={"content-type": "application/json"}) == "whole"


def test_an_error_instead_of_a_stream_is_that_error() -> None:
    with pytest.raises(ServerFault):
        read(b'{"error":{"type":"server_error"}}', headers={"content-type": "text/event-stream"}, status=500)


def test_done_without_an_answer_is_empty_and_a_limit_is_a_cut() -> None:
    with pytest.raises(EmptyAnswer):
        read(b"data: [DONE]\n\n")
    with pytest.raises(Truncated):
        read(chunk("Half"), chunk(finish="length"), b"data: [DONE]\n\n")


def test_finish_without_done_is_a_cut() -> None:
    with pytest.raises(StreamCut) as caught:
        read(chunk("All of it"), chunk(finish="stop"))
    assert "All of it" in (caught.value.raw or "")
    assert caught.value.billed == "maybe"


def test_what_follows_the_terminal_event_is_not_read() -> None:
    assert read(chunk("x"), chunk(finish="stop"), b"data: [DONE]\n\n" + chunk("more"), chunk("still more")) == "x"


def test_other_choices_are_not_the_answer() -> None:
    other = b'data: {"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"length"}]}\n\n'
    assert read(chunk("yes"), other, chunk(finish="stop"), b"data: [DONE]\n\n") == "yes"


@pytest.mark.parametrize("event", [b"data: {nonsense\n\n", b'data: {"a":NaN}\n\n', b"data: <html>\n\n"])
def test_an_event_that_is_not_json_is_a_bad_reply(event: bytes) -> None:
    with pytest.raises(BadReply):
        read(event)


def test_a_line_without_end_is_bounded() -> None:
    with pytest.raises(ReplyTooLarge):
        feed(b"data: " + b"x" * 65_536)


def test_an_event_of_many_lines_is_bounded() -> None:
    with pytest.raises(ReplyTooLarge):
        feed((b"data: " + b"x" * 1_000 + b"\n") * 60)


@pytest.mark.parametrize("headers", [SSE, {"content-type": "application/json"}, {}])
def test_a_stream_without_end_is_bounded(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAM_BYTES", 1_000_000)
    with pytest.raises(ReplyTooLarge):
        feed(b": keep-alive\n" * 100, headers=headers)


MIB = 2**20


def test_a_line_and_an_event_may_have_8_mib() -> None:
    lines = Framer("ndjson")
    assert lines.feed(b" " * 8 * MIB) == []
    with pytest.raises(ReplyTooLarge, match="a line of the stream is longer than 8388608 bytes"):
        lines.feed(b" ")
    events = Framer("sse")
    half = b"data: " + b" " * (4 * MIB) + b"\n"
    assert events.feed(half + half) == []
    with pytest.raises(ReplyTooLarge, match="an event of the stream is longer than 8388608 bytes"):
        events.feed(b"data:1\n")
    whole = Framer("sse")
    assert whole.feed((half + b"data:7\n\n") * 3) == [Event("", 7)] * 3  # each event counts for itself


def test_a_stream_may_have_64_mib() -> None:
    reader = reader_for(CHAT, 200, SSE)
    for _ in range(64):
        reader.feed(b":" + b"x" * (MIB - 2) + b"\n")
    assert reader.kept == 64 * MIB
    with pytest.raises(ReplyTooLarge, match="the reply is longer than 67108864 bytes"):
        reader.feed(b"\n")


def test_an_answer_may_have_4_mib() -> None:
    plain = reader_for(CHAT, 200, {})
    plain.feed(b"x" * 4 * MIB)
    with pytest.raises(ReplyTooLarge, match="the answer is longer than 4194304 bytes"):
        plain.feed(b"x")
    around = reader_for(CHAT, 200, SSE)
    around.feed(chunk("x"))
    room = 4 * MIB - len(around.partial()) + 1
    reader = reader_for(CHAT, 200, SSE)
    reader.feed(chunk("x" * room, pad="y" * 1_000))
    assert reader.done is False
    with pytest.raises(ReplyTooLarge, match="the answer is longer than"):
        reader_for(CHAT, 200, SSE).feed(chunk("x" * (room + 1), pad="y" * 1_000))


def test_how_much_of_a_stream_is_kept() -> None:
    reader = reader_for(CHAT, 200, SSE)
    assert reader.kept == 0
    reader.feed(chunk("x"))
    assert reader.kept == 0
    reader.feed(chunk("x" * 1_000))
    assert reader.kept == len(chunk("x")) + len(chunk("x" * 1_000)) - 2 * 256
    with pytest.raises(StreamCut, match="broke off after 2 events"):
        reader.reply()
    plain = reader_for(CHAT, 200, {})
    plain.feed(b"xyz")
    assert plain.kept == 3


def test_the_end_of_what_arrived_is_kept_for_people() -> None:
    plain = reader_for(CHAT, 200, {})
    plain.feed(b"xy" + b"z" * 65_535)
    assert plain.partial() == "y" + "z" * 65_535
    reader = reader_for(CHAT, 200, SSE)
    reader.feed(chunk("x" * 70_000 + "end"))
    assert len(reader.partial()) == 65_536
    assert "xend" in reader.partial()
    with pytest.raises(BadReply) as caught:
        reader.feed(b"data: {" + b"x" * 70_000 + b"\n\n")
    assert caught.value.raw == "{" + "x" * 65_535


@pytest.mark.parametrize(
    ("kind", "framing"),
    [
        ("text/event-stream", "sse"),
        ("Text/Event-Stream; charset=utf-8", "sse"),
        ("application/x-ndjson", "ndjson"),
        ("application/jsonl ;x=y", "ndjson"),
        ("application/json-seq", "ndjson"),
        ("application/json", ""),
        ("text/plain", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize(
    ("status", "streams"), [(199, False), (200, True), (206, True), (299, True), (300, False), (500, False)]
)
def test_a_reply_streams_if_it_is_good_and_its_type_says_so(
    kind: str, framing: str, status: int, *, streams: bool
) -> None:
    headers = {"content-type": kind}
    sent = chunk("x", "stop") + b"data: [DONE]\n\n"
    if framing == "ndjson":
        sent = sent.replace(b"data: ", b"")
    reader = reader_for(CHAT, status, headers)
    reader.feed(sent)
    assert reader.done is bool(streams and framing)
    reply = reader.reply()
    assert (reply.status, reply.headers) == (status, headers)
    if streams and framing:
        assert decode(reply, CHAT).text == "x"
    else:
        assert reply.body == sent
        assert reader.partial() == sent.decode()


def test_the_name_of_an_event_and_its_first_blank() -> None:
    framer = Framer("sse")
    got = framer.feed(
        b"\xef\xbb\xbfevent: " + b"e" * 101 + b"\ndata:  1\n\nevent:b\n\ndata\ndata:2\n\ndata: [DONE] \n\n"
    )
    assert got == [Event("e" * 100, 1), Event("", 2), Event("[DONE]", None)]
    assert framer.close() == []


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("", {"error": "no"}, {"error": "no"}),
        ("", [{"error": "no", "x": 1}], {"error": "no", "x": 1}),
        ("", [{"error": "no"}, {"error": "no"}], None),
        ("", {"error": "no", "choices": []}, None),
        ("", {"error": "no", "choices": None}, {"error": "no", "choices": None}),
        ("", {"error": None, "choices": []}, None),
        ("", {"error": {}}, None),
        ("error", {"message": "no"}, {"error": {"message": "no"}}),
        ("error", {"error": "no", "choices": []}, {"error": "no", "choices": []}),
        ("other", {"message": "no"}, None),
        ("", {"type": "error", "message": "no"}, {"error": {"type": "error", "message": "no"}}),
        ("", {"type": "errors"}, None),
        ("error", "no", None),
        ("error", [], None),
    ],
)
def test_an_event_is_an_error(name: str, data: Any, error: Any) -> None:
    assert error_of(Event(name, data)) == error


DELTA = "response.output_text.delta"
ASSEMBLED: list[tuple[str, list[Event], Any]] = [
    ("openai_chat", [], {"choices": []}),
    (
        "openai_chat",
        [
            Event(
                "", {"id": "i", "model": "m", "created": 7, "choices": [{"delta": {"content": "a", "refusal": "r"}}]}
            ),
            Event("", {"id": "", "choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}),
            Event(
                "", {"choices": [{"index": 0, "delta": {"content": "b", "reasoning": "t"}, "finish_reason": "stop"}]}
            ),
            Event("", {"choices": [{"index": 0, "delta": {"reasoning_content": "u"}, "error": {"code": 502}}]}),
            Event("", {"choices": [], "usage": {"prompt_tokens": 9}}),
            Event("[DONE]", None),
        ],
        {
            "id": "i",
            "model": "m",
            "usage": {"prompt_tokens": 9},
            "choices": [
                {
                    "index": 0,
                    "message": {"content": "ab", "refusal": "r", "reasoning_content": "tu"},
                    "finish_reason": "stop",
                    "error": {"code": 502},
                }
            ],
        },
    ),
    (
        "openai_chat",
        [Event("", {"choices": [{"index": 0, "delta": {"content": "a"}}]}), Event("", {"error": "no"})],
        {"error": "no", "partial": "a"},
    ),
    (
        "openai_chat",
        [Event("", {"choices": [{"index": 0, "delta": {}}]})],
        {
            "choices": [
                {
                    "index": 0,
                    "message": {"content": None, "refusal": None, "reasoning_content": None},
                    "finish_reason": None,
                }
            ]
        },
    ),
    (
        "openai_responses",
        [
            Event("", {"type": DELTA, "delta": "a"}),
            Event(DELTA, {"delta": "b"}),
            Event("response.other", {"delta": "c"}),
        ],
        {
            "status": "in_progress",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]}],
        },
    ),
    (
        "openai_responses",
        [Event("", {"type": DELTA, "delta": "a"}), Event("", {"type": "response.completed", "response": {"id": "i"}})],
        {"id": "i"},
    ),
    (
        "openai_responses",
        [Event("", {"type": DELTA, "delta": "a"}), Event("", {"type": "error", "code": "no"})],
        {"error": {"type": "error", "code": "no"}, "partial": "a"},
    ),
    ("anthropic", [], {"content": [], "usage": {}}),
    (
        "anthropic",
        [
            Event("", {"type": "message_start", "message": {"id": "i", "content": [], "usage": {"input_tokens": 9}}}),
            Event("ping", {}),
            Event("", {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}}),
            Event(
                "", {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "t"}}
            ),
            Event("content_block_delta", {"index": 0, "delta": {"thinking": "u"}}),
            Event("", {"type": "content_block_delta", "index": 1, "delta": {"text": "b"}}),
            Event("", {"type": "content_block_delta", "index": 2, "delta": {"text": "c"}}),
            Event("", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
            Event("", {"type": "message_stop"}),
        ],
        {
            "id": "i",
            "stop_reason": "end_turn",
            "content": [
                {"type": "thinking", "thinking": "tu"},
                {"type": "text", "text": "ab"},
                {"type": "text", "text": "c"},
            ],
            "usage": {"input_tokens": 9, "output_tokens": 4},
        },
    ),
    (
        "anthropic",
        [Event("", {"type": "content_block_delta", "delta": {"text": "a"}}), Event("error", {"type": "error"})],
        {"error": {"type": "error"}, "partial": "a"},
    ),
    ("gemini", [], {}),
    (
        "gemini",
        [Event("", {"promptFeedback": {"blockReason": "SAFETY"}})],
        {"promptFeedback": {"blockReason": "SAFETY"}},
    ),
    (
        "gemini",
        [
            Event("", {"candidates": [{"index": 0, "content": {"parts": [{"text": "t", "thought": True}]}}]}),
            Event("", {"candidates": [{"content": {"parts": [{"text": "u", "thought": True}, {"text": "a"}]}}]}),
            Event("", {"modelVersion": "v", "responseId": "i", "other": 1, "usageMetadata": {"promptTokenCount": 9}}),
            Event("", {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]}),
        ],
        {
            "modelVersion": "v",
            "responseId": "i",
            "usageMetadata": {"promptTokenCount": 9},
            "candidates": [
                {
                    "index": 0,
                    "finishReason": "STOP",
                    "content": {"role": "model", "parts": [{"text": "tu", "thought": True}, {"text": "ab"}]},
                }
            ],
        },
    ),
    (
        "gemini",
        [Event("", {"candidates": [{"content": {"parts": [{"text": "a"}]}}]}), Event("", [{"error": {"code": 500}}])],
        {"error": {"code": 500}, "partial": "a"},
    ),
    (
        "ollama",
        [
            Event("", {"model": "m", "message": {"role": "assistant", "content": "a", "thinking": "t"}, "done": False}),
            Event("", {"message": {"content": "b"}, "done": True, "eval_count": 4}),
        ],
        {
            "model": "m",
            "done": True,
            "eval_count": 4,
            "message": {"role": "assistant", "content": "ab", "thinking": "t"},
        },
    ),
    ("ollama", [Event("", {"message": {"content": "a"}}), Event("", {"error": "no"})], {"error": "no", "partial": "a"}),
]


@pytest.mark.parametrize(("wire", "events", "body"), ASSEMBLED)
def test_events_add_up_to_the_body_of_an_unstreamed_reply(wire: str, events: list[Event], body: Any) -> None:
    assembler = wires.wire(wire).assembler()
    assert assemble(assembler, events) == body
    ends = bool(events) and ("error" in body or wire != "openai_chat" or events[-1].name == "[DONE]")
    assert assembler.complete is (ends and body.get("status") != "in_progress")
    assert assembler.done is (assembler.complete and (wire != "gemini" or "error" in body))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "data",
    [
        "null",
        "[]",
        "7",
        '"x"',
        "{}",
        '{"choices":7,"message":7,"content":[7],"candidates":{}}',
        '{"type":7,"delta":[],"usage":3,"index":"x"}',
    ],
)
def test_odd_events_are_a_cut_and_nothing_else(wire: str, data: str) -> None:
    target = target_of({"provider": wire.removesuffix("_chat"), "model": "m"})
    kind = "application/x-ndjson" if wire == "ollama" else "text/event-stream"
    reader = reader_for(target, 200, {"content-type": kind})
    prefix = "" if wire == "ollama" else "data: "
    reader.feed(f"{prefix}{data}\n\n".encode() * 3)
    with pytest.raises(CallFailed) as caught:
        decode(reader.reply(), target)
    assert isinstance(caught.value, StreamCut)


@pytest.mark.parametrize("headers", [SSE, {"content-type": "application/json"}])
def test_an_answer_larger_than_any_models_is_refused_however_it_is_wrapped(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_ANSWER_BYTES", 100_000)
    with pytest.raises(ReplyTooLarge):
        feed(chunk("x" * 1_000), headers=headers)


def test_wrapping_may_be_larger_than_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_ANSWER_BYTES", 10_000)
    feed(chunk("x", pad="y" * 200))
