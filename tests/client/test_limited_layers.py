"""Gate, budget, clock and exchange as a client uses them, against a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from llmpipe.client.budget import BudgetKeeper
from llmpipe.client.client import LLMClient
from llmpipe.errors import (
    BadReply,
    BudgetExceeded,
    CallFailed,
    CallTimeout,
    KeyRefused,
    NetworkFault,
    ProviderDown,
    RateLimited,
    RedirectRefused,
    RetryAfterTooLong,
    ServerFault,
    StreamCut,
)
from llmpipe.policy import Budget, Limits, Retry, Timeout
from llmpipe.types import LLMRequest, LLMResponse, Model, Price
from tests.faults import replies
from tests.faults.server import FaultServer, wait_until

KEY = "sk-canary-9431-abcdef"
ROWS = {
    "openai_chat": "openai",
    "openai_responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "ollama": "ollama",
}


def model(server: FaultServer, wire: str = "openai_chat", **more: Any) -> Model:
    params = {"max_output_tokens": 100}
    return Model("m", ROWS[wire], "test", base_url=server.base(wire), params=params, **more)


def client(*models: Model, **options: Any) -> LLMClient:
    options.setdefault("retry", Retry(max_retries=0, base=0.01, cap=0.05))
    return LLMClient({m.name: m for m in models}, secrets=lambda name: KEY, rng=random.Random(7), **options)


def asks(count: int) -> list[LLMRequest]:
    return [LLMRequest(model="m", prompt=f"question {n}") for n in range(count)]


def run(c: LLMClient, requests: list[LLMRequest]) -> list[LLMResponse | BaseException]:
    async def main() -> list[LLMResponse | BaseException]:
        async with c:
            return await asyncio.wait_for(asyncio.gather(*map(c.acall, requests), return_exceptions=True), 300)

    return asyncio.run(main())


def one(c: LLMClient, **request: Any) -> LLMResponse:
    (result,) = run(c, [LLMRequest(**{"model": "m", "prompt": "hello", **request})])
    if isinstance(result, BaseException):
        raise result
    return result


@pytest.mark.parametrize("wire", replies.WIRES)
def test_every_wire_gets_its_answer_over_the_network(wire: str) -> None:
    with FaultServer(text="hi there") as server:
        response = one(client(model(server, wire)))
    assert response.text == "hi there"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)
    sent = server.requests[0]
    assert (KEY in str(sent.headers)) is (wire != "ollama")
    assert KEY.encode() not in sent.body
    assert KEY not in sent.path


@pytest.mark.parametrize("wire", replies.WIRES)
def test_a_refused_key_costs_one_request_however_many_wait(wire: str) -> None:
    with FaultServer(["key_refused"]) as server:
        results = run(client(model(server, wire, api_key_env="A_KEY")), asks(40))
    assert len(server.requests) == 1
    assert {type(r) for r in results} == {KeyRefused}
    assert [r.sent for r in results if isinstance(r, CallFailed)].count(True) == 1
    assert all(KEY not in repr(vars(r)) + str(r) for r in results)


def test_a_key_that_no_header_can_hold_closes_the_gate_and_sends_nothing() -> None:
    with FaultServer() as server:
        c = LLMClient({"m": model(server, api_key_env="A_KEY")}, secrets=lambda name: "sk-1\nx: y")
        results = run(c, asks(5))
    assert {type(r) for r in results} == {KeyRefused}
    assert not any(r.sent for r in results if isinstance(r, CallFailed))
    assert not server.requests


def test_calls_in_flight_that_get_the_same_verdict_count_as_unsent() -> None:
    def plan(number: int, body: bytes) -> str:
        return "slow" if number == 0 else "key_refused"

    with FaultServer(plan) as server:
        results = run(client(model(server, limits=Limits(concurrency=10))), asks(30))
    errors = [r for r in results if isinstance(r, KeyRefused)]
    assert len(errors) == 29
    assert sum(e.sent for e in errors) == 1
    assert len(server.requests) <= 1 + 10


def test_a_429_holds_everybody_until_the_hint_has_passed() -> None:
    def plan(number: int, body: bytes) -> str:
        return "rate_limit_1s" if number == 5 else "ok"

    with FaultServer(plan) as server:
        results = run(client(model(server, limits=Limits(concurrency=2)), retry=Retry(max_retries=1)), asks(30))
    assert all(isinstance(r, LLMResponse) for r in results)
    rejected = server.requests[5].at
    assert not [s for s in server.requests[7:] if s.at < rejected + 0.95]


def test_a_hint_of_an_hour_fails_the_item_and_leaves_the_others_unsent() -> None:
    with FaultServer(["ok", "rate_limit_hour"]) as server:
        results = run(client(model(server, limits=Limits(concurrency=1)), retry=Retry(max_retries=2)), asks(20))
    errors = [r for r in results if isinstance(r, CallFailed)]
    assert {type(e) for e in errors} == {RetryAfterTooLong}
    assert len(server.requests) == 2
    assert sum(e.sent for e in errors) == 1


@pytest.mark.parametrize("fault", ["rate_limit_hour", "rate_limit_bad_hint", "rate_limit_date"])
def test_a_hint_of_an_hour_holds_nobody_where_the_policy_backs_off(fault: str) -> None:
    retry = Retry(max_retries=6, base=0.01, cap=0.02, retry_after_over="backoff")
    with FaultServer([fault, fault, fault, "ok"]) as server:
        results = run(client(model(server, limits=Limits(concurrency=4)), retry=retry), asks(8))
    assert all(isinstance(r, LLMResponse) for r in results)
    assert len(server.requests) == 8 + 3


def test_the_limit_on_concurrency_is_kept() -> None:
    with FaultServer(["slow"]) as server:
        results = run(client(model(server, limits=Limits(concurrency=7))), asks(60))
    assert all(isinstance(r, LLMResponse) for r in results)
    assert server.peak == 7


def test_nobody_listening_ends_as_provider_down_after_the_probes() -> None:
    with FaultServer() as server:
        dead = model(server)
    started = time.monotonic()

    async def main() -> list[Any]:
        async with client(dead, retry=Retry(max_retries=50, base=0.01, cap=0.02)) as c:
            breaker = c._room().deps.gates
            breaker._breaker = replace(breaker._breaker, first_wait_s=0.02, probes=3)
            return await asyncio.gather(*map(c.acall, asks(50)), return_exceptions=True)

    results = asyncio.run(main())
    assert time.monotonic() - started < 100
    assert {type(r) for r in results} <= {ProviderDown, NetworkFault}
    assert sum(type(r) is ProviderDown and not r.sent for r in results) >= 45


class TestClocks:
    @pytest.mark.parametrize("fault", ["silence", "silence_in_body", "drip_head", "drip_body"])
    def test_the_attempt_clock_ends_it_and_closes_the_socket(self, fault: str) -> None:
        with FaultServer([fault]) as server:
            with pytest.raises(CallTimeout) as caught:
                one(client(model(server), timeout=Timeout(attempt=0.3)))
            assert (caught.value.clock, caught.value.billed) == ("attempt", "maybe")
            assert wait_until(lambda: server.requests[0].closed_after is not None)

    def test_waiting_for_the_gate_does_not_count(self) -> None:
        with FaultServer(["slow"]) as server:
            c = client(model(server, limits=Limits(concurrency=1)), timeout=Timeout(attempt=1.4, total=1.5))
            results = run(c, asks(40))  # 50 ms each
        assert all(isinstance(r, LLMResponse) for r in results)


class TestBudget:
    PRICE = Price(Decimal(100), Decimal(1000))  # 0.006 for an answer of 10 tokens in, 5 out

    def spend(
        self, plan: Any, budget: Budget, count: int = 30, **options: Any
    ) -> tuple[BudgetKeeper, list[Any], FaultServer]:
        keeper = BudgetKeeper(budget)
        with FaultServer(plan) as server:
            priced = model(server, price=self.PRICE, limits=Limits(concurrency=8))
            return keeper, run(client(priced, budget=keeper, **options), asks(count)), server

    def test_calls_stop_before_the_budget_is_broken(self) -> None:
        keeper, results, server = self.spend(["ok"], Budget(usd=Decimal("0.15")))
        assert keeper.spent_usd <= Decimal("0.15")
        answers = [r for r in results if isinstance(r, LLMResponse)]
        assert len(answers) == len(server.requests)
        assert keeper.spent_usd == len(answers) * Decimal("0.006")
        errors = [r for r in results if isinstance(r, BudgetExceeded)]
        assert errors
        assert not any(e.sent for e in errors)

    def test_failed_attempts_count_as_calls_and_retries_are_counted_too(self) -> None:
        keeper, results, server = self.spend(
            ["ok", "server_error"], Budget(calls=6), retry=Retry(max_retries=9, base=0.001, cap=0.001)
        )
        assert keeper.spent_calls == len(server.requests) == 6
        assert keeper.spent_usd == Decimal("0.006")
        assert any(isinstance(r, BudgetExceeded) for r in results)

    def test_what_may_have_been_billed_counts_with_its_whole_reservation(self) -> None:
        keeper, _, _ = self.spend(["hang_up"], Budget(usd=Decimal(100)), count=1)
        assert keeper.spent_usd > Decimal("0.1")
        assert keeper.spent_calls == 1

    def test_a_cached_answer_costs_nothing(self) -> None:
        keeper = BudgetKeeper(Budget(calls=1))
        with FaultServer() as server:
            c = client(model(server, price=self.PRICE), budget=keeper)
            first, second = run(c, [LLMRequest(model="m", prompt="same")] * 2)
        assert isinstance(first, LLMResponse)
        assert isinstance(second, LLMResponse)
        assert first.cost_usd == Decimal("0.006")
        assert keeper.spent_calls == 1

    def test_without_an_output_limit_a_budget_in_money_sends_nothing(self) -> None:
        keeper = BudgetKeeper(Budget(usd=Decimal(1)))
        with FaultServer() as server:
            endless = replace(model(server, price=self.PRICE), params={})
            with pytest.raises(BudgetExceeded, match="max_output_tokens"):
                one(client(endless, budget=keeper))
        assert not server.requests

    def test_the_reservation_bounds_the_prompt_by_what_its_script_may_take(self) -> None:
        for prompt, tokens in (("ä" * 10_000, 15_000), ("ግ" * 5_000, 15_000), ("word " * 4_000, 8_000)):
            with FaultServer() as server, pytest.raises(BudgetExceeded):
                one(client(model(server), budget=BudgetKeeper(Budget(tokens=tokens))), prompt=prompt)
            assert not server.requests


class TestReplies:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("html_200", BadReply),
            ("not_json", BadReply),
            ("null_json", BadReply),
            ("empty_body", BadReply),
            ("deep_json", BadReply),
            ("nan_json", BadReply),
            ("redirect", RedirectRefused),
            ("cut_close_delimited", BadReply),
            ("server_error", ServerFault),
            ("rate_limit", RateLimited),
            ("html_502", ServerFault),
        ],
    )
    def test_what_is_no_answer_is_classified_and_its_evidence_kept(self, fault: str, error: type[CallFailed]) -> None:
        with FaultServer([fault]) as server, pytest.raises(error) as caught:
            one(client(model(server)))
        assert type(caught.value) is error
        assert len(caught.value.attempts) == 1
        assert len(server.requests) == 1

    def test_the_provider_echoing_the_key_does_not_leak_it(self) -> None:
        with FaultServer(["key_refused"]) as server, pytest.raises(KeyRefused) as caught:
            one(client(model(server)))
        assert "Incorrect API key" in str(caught.value)
        assert KEY not in str(caught.value) + repr(caught.value.attempts) + str(caught.value.raw)


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + (e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n\n" for e in events)


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "test",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }


class TestStreams:
    """A reply that may be long is streamed, so that the clocks can tell stuck from slow."""

    def ask(self, body: bytes, *, gap: float = 0.0, timeout: Timeout = Timeout()) -> LLMResponse:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            asked.append(json.loads(await reader.readexactly(length)))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            try:
                for piece in body.split(b"\n\n"):
                    writer.write(piece + b"\n\n")
                    await writer.drain()
                    await asyncio.wait_for(reader.read(), gap) if gap > 1 else await asyncio.sleep(gap)
            finally:
                writer.transport.abort() if gap > 1 else writer.close()

        async def main() -> LLMResponse:
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            long = Model("m", "openai", "test", base_url=url, params={"max_output_tokens": 100_000})
            try:
                async with client(long, timeout=timeout) as c:
                    return await c.acall(LLMRequest(model="m", prompt="hello"))
            finally:
                server.close()

        asked: list[dict[str, Any]] = []
        try:
            return asyncio.run(main())
        finally:
            assert asked[0]["stream"] is True

    def test_a_whole_stream_is_an_answer(self) -> None:
        usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}
        response = self.ask(sse(chunk("hel"), chunk("lo"), chunk("", "stop"), usage, b"[DONE]"))
        assert response.text == "hello"
        assert response.usage.output_tokens == 2

    def test_a_stream_without_its_end_is_cut_and_what_came_is_kept(self) -> None:
        with pytest.raises(StreamCut) as caught:
            self.ask(sse(chunk("partial ans")))
        assert "partial ans" in str(caught.value.raw)
        assert caught.value.billed == "maybe"

    def test_a_slow_stream_is_not_a_stuck_one(self) -> None:
        pieces = [chunk(str(n)) for n in range(10)]
        body = sse(*pieces, chunk("", "stop"), b"[DONE]")
        response = self.ask(body, gap=0.2, timeout=Timeout(first_token=2, idle=2, attempt=300))
        assert response.text == "0123456789"

    def test_a_stuck_stream_runs_against_idle_with_what_had_come(self) -> None:
        with pytest.raises(CallTimeout) as caught:
            self.ask(sse(chunk("some"), chunk("more")), gap=60, timeout=Timeout(idle=0.2, attempt=300))
        assert caught.value.clock == "idle"
        assert "some" in str(caught.value.raw)


def test_echo_obeys_the_clocks_and_the_gate() -> None:
    with pytest.raises(CallTimeout):
        LLMClient().call(LLMRequest(model="demo", prompt="x", latency_s=5), timeout_s=0.05, max_retries=0)


def test_an_injected_sleep_is_what_echo_waits_with() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    waiting: Callable[[float], Awaitable[Any]] = sleep
    LLMClient(sleep=waiting).call(LLMRequest(model="demo", prompt="x", latency_s=5), max_retries=0)
    assert slept == [5]
