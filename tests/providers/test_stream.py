"""Streams are bounded, and errors, comments and odd framing are told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmpipe.errors import BadReply, CallFailed, EmptyAnswer, ReplyTooLarge, ServerFault, StreamCut, Truncated
from llmpipe.providers import stream
from llmpipe.providers.stream import Event, Framer
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
