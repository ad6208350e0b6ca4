"""Streamed exchanges over real sockets: who asks for them, which clock ends them, and what is kept of a broken one."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llmpipe import persist_raw_failure
from llmpipe.client.client import LLMClient
from llmpipe.errors import BadReply, CallFailed, CallTimeout, Overloaded, ReplyTooLarge, StreamCut, TotalTimeout
from llmpipe.policy import Retry, Timeout
from llmpipe.types import LLMRequest, LLMResponse, Model
from tests.faults import replies
from tests.faults.server import CLOSES, FaultServer, wait_until

ROWS = {wire: wire for wire in replies.WIRES} | {"openai_chat": "openai"}
PATIENT = Timeout(first_token=60.0, idle=60.0, attempt=120.0, total=None)


def ask(
    server: FaultServer,
    wire: str = "openai_chat",
    *,
    stream: bool | None = True,
    timeout: Timeout = PATIENT,
    retries: int = 0,
    **params: int,
) -> LLMResponse:
    model = Model("m", ROWS[wire], "test", base_url=server.base(wire), params=params, stream=stream)

    async def main() -> LLMResponse:
        client = LLMClient(
            {"m": model},
            secrets=lambda name: "a-key-of-nobody",
            timeout=timeout,
            retry=Retry(max_retries=retries, base=0.01, cap=0.02),
        )
        async with client:
            return await client.acall(LLMRequest(model="m", prompt="hi"))

    return asyncio.run(main())


def failure(name: str, wire: str = "openai_chat", *, timeout: Timeout = PATIENT) -> tuple[CallFailed, FaultServer]:
    with FaultServer([name], text="partial answer") as server:
        with pytest.raises(CallFailed) as caught:
            ask(server, wire, timeout=timeout)
        if name in (CLOSES - {"stream_cut", "stream_close_delimited"}) | {"silence"}:
            assert wait_until(lambda: server.requests[0].closed_after is not None)
        return caught.value, server


@pytest.mark.parametrize("wire", replies.WIRES)
def test_every_wire_streams_when_its_model_says_so(wire: str) -> None:
    with FaultServer(["ok"]) as server:
        response = ask(server, wire)
    (seen,) = server.requests
    assert "streamGenerateContent" in seen.path if wire == "gemini" else json.loads(seen.body)["stream"] is True
    assert (str(response), response.finish) == ("hello", "stop")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    ("stream", "limit", "streamed"),
    [(None, 100, False), (None, 30_000, True), (True, 100, True), (False, 30_000, False)],
)
def test_long_answers_are_streamed_unless_the_model_says_otherwise(
    stream: bool | None, limit: int, streamed: bool
) -> None:
    with FaultServer(["ok"]) as server:
        ask(server, stream=stream, max_output_tokens=limit)
    assert json.loads(server.requests[0].body).get("stream", False) is streamed


def test_a_long_answer_outlives_the_clocks_between_its_pieces() -> None:
    with FaultServer(["stream_slow"]) as server:
        started = time.monotonic()
        assert str(ask(server, timeout=replace(PATIENT, idle=0.9))) == "hello"
        assert time.monotonic() - started > 0.9


def test_a_server_that_does_not_stream_is_taken_as_it_answers() -> None:
    with FaultServer(["ok_chunked"]) as server:
        assert str(ask(server)) == "hello"


@pytest.mark.parametrize("wire", replies.WIRES)
@pytest.mark.parametrize("name", ["stream_cut", "stream_unfinished", "stream_close_delimited"])
def test_without_its_terminal_event_no_stream_is_an_answer(wire: str, name: str, tmp_path: Path) -> None:
    error, _ = failure(name, wire)
    assert type(error) is StreamCut
    assert error.attempts[0].billed == "maybe"
    path = persist_raw_failure({}, error, filename=tmp_path / "f.json")
    assert "partial" in path.read_text()


@pytest.mark.parametrize("wire", replies.WIRES)
def test_an_error_within_a_stream_is_that_error_with_what_came_before_it(wire: str) -> None:
    error, _ = failure("stream_error", wire)
    assert type(error) is Overloaded
    assert "partial" in (error.raw or "")


@pytest.mark.parametrize(
    ("name", "clock", "left"),
    [
        ("silence", "first_token", False),
        ("stream_stall_at_head", "first_token", False),
        ("stream_stall", "idle", True),
    ],
)
def test_the_clock_that_ran_out_is_named_and_the_socket_closed(name: str, clock: str, left: bool) -> None:
    error, _ = failure(name, timeout=replace(PATIENT, **{clock: 0.5}))
    assert isinstance(error, CallTimeout)
    assert error.clock == clock
    assert ("partial" in (error.raw or "")) is left


@pytest.mark.parametrize("wire", replies.WIRES)
def test_signs_of_life_without_end_are_ended_by_the_attempt_clock_and_what_came_is_kept(wire: str) -> None:
    error, _ = failure("stream_comments", wire, timeout=replace(PATIENT, attempt=0.5))
    assert isinstance(error, CallTimeout)
    assert error.clock == "attempt"
    assert error.status == 200
    assert "partial" in (error.raw or "")
    assert "partial" in (error.attempts[0].raw or "")


def test_what_came_before_the_total_ran_out_is_kept_too() -> None:
    error, _ = failure("stream_comments", timeout=replace(PATIENT, total=0.5))
    assert isinstance(error, TotalTimeout)
    assert "partial" in (error.raw or "")


def test_what_came_of_an_unstreamed_reply_before_its_clock_is_kept_too() -> None:
    with FaultServer(["silence_in_body"]) as server, pytest.raises(CallTimeout) as caught:
        ask(server, stream=False, timeout=replace(PATIENT, attempt=0.3))
    assert caught.value.clock == "attempt"
    assert '{"partial' in (caught.value.raw or "")


@pytest.mark.parametrize(("name", "kind"), [("stream_long_line", ReplyTooLarge), ("stream_not_json", BadReply)])
@pytest.mark.parametrize("wire", replies.WIRES)
def test_a_stream_that_is_none_is_refused(name: str, kind: type[CallFailed], wire: str) -> None:
    error, _ = failure(name, wire)
    assert type(error) is kind


@pytest.mark.parametrize("wire", replies.WIRES)
def test_a_stream_without_end_is_refused_by_its_size(wire: str) -> None:
    error, server = failure("stream_endless", wire)
    assert type(error) is ReplyTooLarge
    assert server.requests[0].closed_after is not None


def test_a_broken_stream_is_asked_for_again() -> None:
    with FaultServer(["stream_cut", "stream_error", "ok"]) as server:
        response = ask(server, retries=3)
    assert [a.outcome for a in response.attempts] == ["StreamCut", "Overloaded", "ok"]
