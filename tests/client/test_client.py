"""LLMClient: the whole stack behind one door, in every place from which it may be called."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import llmpipe
from llmpipe import (
    CachePolicy,
    CallPolicy,
    DiskCache,
    KeyMissing,
    LLMClient,
    LLMRequest,
    LLMResponse,
    Model,
    OutputSpec,
    Retry,
    SimpleMemoryCache,
    Timeout,
    make_cache_key,
)
from llmpipe.errors import (
    BadReply,
    CallFailed,
    CallTimeout,
    EmptyAnswer,
    LlmpipeError,
    ModelUnknown,
    NetworkFault,
    SchemaUnusable,
    ServerFault,
    Truncated,
    every_class,
)
from llmpipe.structured.short_form import expand
from tests.client.things import Diary, Lines

SOURCE = Path(__file__).resolve().parents[2] / "src"
HELLO = LLMRequest(model="demo", prompt="hello")


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def client(lines: Lines) -> Iterator[LLMClient]:
    with LLMClient(retry=Retry(base=0.001, cap=0.002), logger=lines) as opened:
        yield opened


# -- the door ----------------------------------------------------------------------------------------------------------


def test_three_lines_in_a_notebook() -> None:
    client = LLMClient()
    response = client.call(LLMRequest(model="demo", prompt="hello"), timeout_s=1.0, max_retries=0)
    assert str(response) == "echo: hello"
    client.close()


def test_the_response_says_where_it_comes_from(client: LLMClient) -> None:
    response = client.call(HELLO)
    assert isinstance(response, LLMResponse)
    assert (response.provider, response.answered_by, response.finish) == ("echo", "echo/demo", "stop")
    assert (response.cached, response.cost_usd, response.reasks, response.output) == (False, Decimal(0), 0, None)
    assert [a.outcome for a in response.attempts] == ["ok"]
    assert len(response.request_id) == 16
    assert client.call(LLMRequest(model="demo", prompt="other")).request_id != response.request_id


def test_it_works_inside_a_running_event_loop(client: LLMClient) -> None:
    async def cell() -> str:
        return str(client.call(HELLO))

    assert asyncio.run(cell()) == "echo: hello"


def test_several_threads_and_event_loops_may_use_it(client: LLMClient) -> None:
    answers: list[str] = []

    async def some() -> None:
        requests = [LLMRequest(model="demo", prompt=f"{threading.get_ident()} {n}") for n in range(10)]
        answers.extend(str(r) for r in await asyncio.gather(*(client.acall(r) for r in requests)))

    threads = [threading.Thread(target=lambda: asyncio.run(some())) for _ in range(3)]
    threads += [threading.Thread(target=lambda: answers.append(str(client.call(HELLO)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(some())
    asyncio.run(some())
    assert len(answers) == 53


def test_it_may_be_closed_twice_and_used_again(lines: Lines) -> None:
    client = LLMClient(logger=lines)
    client.close()
    assert str(client.call(HELLO)) == "echo: hello"
    client.close()
    client.close()

    async def scene() -> None:
        async with client:
            assert str(await client.acall(HELLO)) == "echo: hello"

    asyncio.run(scene())
    assert not [t for t in threading.enumerate() if t.name == "llmpipe-client"]


def test_a_client_that_nobody_closes_leaves_no_thread_behind(lines: Lines) -> None:
    client = LLMClient(logger=lines)
    client.call(HELLO)
    del client
    deadline = time.monotonic() + 60
    while [t for t in threading.enumerate() if t.name == "llmpipe-client"] and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name == "llmpipe-client"]


def test_a_program_that_never_closes_it_ends_cleanly() -> None:
    code = "from llmpipe import *\nclient = LLMClient()\nprint(client.call(LLMRequest(model='demo', prompt='hi')))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"echo: hi\n")
    assert b"Traceback" not in done.stderr


def test_calling_it_from_within_its_own_calls_is_refused(lines: Lines) -> None:
    class Nested(LLMClient):
        async def _provider_call(self, request: LLMRequest, *, timeout_s: float | None = None) -> LLMResponse:
            return self.call(request)

    with Nested(logger=lines) as client, pytest.raises(CallFailed, match="await acall"):
        client.call(HELLO, max_retries=0)


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"prompt": 3}, "prompt must be text, not int"),
        ({"messages": ["hi"]}, "message 1 must be a Message or a mapping with role and content"),
        ({"messages": "hi"}, "messages must be a list"),
        ({"messages": [{"role": "user"}]}, "message 1 lacks content"),
        ({"messages": [{"role": "usr", "content": "b"}]}, "message 1 has the role 'usr'"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1 must have text for its content"),
        ({}, "needs a prompt or messages"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_request_that_nobody_could_answer_is_refused_when_it_is_made(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LLMRequest(model="demo", **given)


def test_what_is_no_request_is_refused_by_name(client: LLMClient) -> None:
    with pytest.raises(TypeError, match="call takes an LLMRequest, not str"):
        client.call("hello")  # type: ignore[arg-type]


def test_force_error_fails_after_max_retries_plus_one_attempts(client: LLMClient, lines: Lines) -> None:
    with pytest.raises(RuntimeError) as caught:
        client.call(HELLO, max_retries=2, force_error=True)
    assert isinstance(caught.value, ServerFault)
    assert [a.number for a in caught.value.attempts] == [1, 2, 3]
    assert caught.value.request_id
    assert [(k["event"], k["attempt"], k["error_type"]) for k in lines.kept] == [
        ("llm_call_failed", n, "ServerFault") for n in (1, 2, 3)
    ]


def test_timeout_s_bounds_each_attempt(client: LLMClient) -> None:
    slow = LLMRequest(model="demo", prompt="hello", latency_s=300)
    started = time.monotonic()
    with pytest.raises(CallTimeout) as caught:
        client.call(slow, timeout_s=0.05, max_retries=1)
    assert time.monotonic() - started < 30
    assert [a.outcome for a in caught.value.attempts] == ["CallTimeout"] * 2


def test_timeout_s_may_exceed_the_clients_total(lines: Lines) -> None:
    with LLMClient(timeout=Timeout(attempt=0.01, total=0.02), logger=lines) as client:
        slow = LLMRequest(model="demo", prompt="hello", latency_s=0.2)
        assert str(client.call(slow, timeout_s=20, max_retries=0)) == "echo: hello"


@pytest.mark.parametrize(
    "bounds", [{"timeout_s": 0}, {"timeout_s": -1}, {"timeout_s": float("inf")}, {"max_retries": -1}], ids=str
)
def test_senseless_bounds_are_refused(client: LLMClient, bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bounds))):
        client.call(HELLO, **bounds)


def test_a_policy_is_for_one_call(client: LLMClient) -> None:
    policy = CallPolicy(retry=Retry(max_retries=0), cache=CachePolicy(read=False, write=False))

    async def scene() -> None:
        with pytest.raises(ServerFault) as caught:
            await client.acall(HELLO, force_error=True, policy=policy)
        assert len(caught.value.attempts) == 1
        assert not [(await client.acall(HELLO, policy=policy)).cached for _ in range(2)][-1]

    asyncio.run(scene())


# -- cache, log, journal -----------------------------------------------------------------------------------------------


def test_the_same_request_costs_once(client: LLMClient, lines: Lines) -> None:
    first, second = client.call(HELLO), client.call(HELLO)
    assert (first.cached, second.cached, second.cost_usd, second.attempts) == (False, True, 0, ())
    assert first.request_id != second.request_id
    assert [k["event"] for k in lines.kept] == ["llm_call_ok", "llm_cache_hit"]
    assert {"request_id", "model", "latency_s", "attempt"} <= lines.kept[1].keys()


def test_a_failure_is_not_kept(client: LLMClient) -> None:
    for _ in range(2):
        with pytest.raises(ServerFault):
            client.call(HELLO, max_retries=0, force_error=True)
    assert not client.call(HELLO).cached


def test_the_cache_key_is_the_public_one(client: LLMClient) -> None:
    client.call(HELLO)
    assert asyncio.run(client.cache.get(make_cache_key(HELLO))) is not None


def test_a_cache_on_disk_is_shared_between_clients(tmp_path: Path, lines: Lines) -> None:
    for expected in (False, True):
        cache = DiskCache(tmp_path / "cache")
        with LLMClient(cache=cache, logger=lines) as client:
            assert client.call(HELLO).cached is expected
        cache.close()


def test_equal_requests_in_flight_are_asked_once(client: LLMClient, lines: Lines) -> None:
    slow = LLMRequest(model="demo", prompt="hello", latency_s=0.05)

    async def scene() -> list[LLMResponse]:
        return await asyncio.gather(*(client.acall(slow) for _ in range(20)))

    answers = asyncio.run(scene())
    assert len({a.request_id for a in answers}) == 20
    assert [k["event"] for k in lines.kept].count("llm_call_ok") == 1


def test_the_journal_sees_each_attempt(client: LLMClient) -> None:
    diary = Diary()
    asyncio.run(client.acall(HELLO, journal=diary))
    assert [line[0] for line in diary.lines] == ["intend", "settle"]
    assert diary.lines[0][1] == make_cache_key(HELLO)


def test_loguru_gets_the_lines_when_no_other_logger_is_given() -> None:
    from loguru import logger

    kept: list[Any] = []
    handler = logger.add(lambda message: kept.append(message.record), level="DEBUG", format="{message}")
    try:
        with LLMClient() as client, pytest.raises(ServerFault):
            client.call(LLMRequest(model="demo", prompt="{braces}"), max_retries=0, force_error=True)
    finally:
        logger.remove(handler)
    record = next(r for r in kept if r["message"] == "llm_call_failed")
    assert record["extra"]["error_type"] == "ServerFault"
    assert record["extra"]["attempt"] == 1


# -- names and keys ----------------------------------------------------------------------------------------------------


def test_a_missing_key_is_found_before_anything_is_sent(client: LLMClient, lines: Lines) -> None:
    with pytest.raises(KeyMissing, match=r"OPENAI_API_KEY is not set.*provider: echo") as caught:
        client.call(LLMRequest(model="openai/gpt-5-mini", prompt="hello"))
    assert lines.kept == []
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.attempts == ()


def test_a_key_that_is_set_later_is_found(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    with LLMClient(logger=lines) as client:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-set-later")
        assert client._secret("OPENAI_API_KEY") == "sk-set-later"
        monkeypatch.setenv("GROQ_API_KEY", "")
        assert client._secret("GROQ_API_KEY") is None


def test_an_error_is_forced_only_where_that_is_possible(client: LLMClient) -> None:
    request = LLMRequest(model="ollama/llama3", prompt="hello")
    with pytest.raises(llmpipe.BadRequest, match="embedded provider") as caught:
        client.call(request, force_error=True)
    assert not caught.value.sent


def test_the_key_of_a_fallback_is_looked_for_too(lines: Lines) -> None:
    models = {"fast": Model("fast", "echo", "m", fallback=("openai/gpt-5",))}
    with LLMClient(models, logger=lines) as client, pytest.raises(KeyMissing, match="openai/gpt-5"):
        client.call(LLMRequest(model="fast", prompt="hello"))


def test_offline_needs_no_key(client: LLMClient) -> None:
    request = LLMRequest(model="openai/gpt-5-mini", prompt="hello")

    async def scene() -> None:
        with pytest.raises(llmpipe.NotRecorded):
            await client.acall(request, policy=CallPolicy(offline=True))

    asyncio.run(scene())


def test_an_unknown_provider_is_told_with_a_hint(client: LLMClient) -> None:
    with pytest.raises(ModelUnknown, match="did you mean 'openai'"):
        client.call(LLMRequest(model="opanai/gpt-5", prompt="hello"))


def test_an_entry_gives_its_parameters_to_every_call(lines: Lines) -> None:
    seen: list[LLMRequest] = []

    class Watching(LLMClient):
        async def _provider_call(self, request: LLMRequest, *, timeout_s: float | None = None) -> Any:
            seen.append(request)
            return "yes"

    entry = Model("m", "echo", "x", params={"temperature": 0.5, "max_output_tokens": 9, "extra": {"a": 1, "b": 1}})
    with Watching({"m": entry}, logger=lines) as client:
        client.call(LLMRequest(model="m", prompt="hello", max_output_tokens=5, extra={"b": 2}))
    (request,) = seen
    assert (request.temperature, request.max_output_tokens, request.extra) == (0.5, 5, {"a": 1, "b": 2})


def test_a_key_that_was_used_is_known_to_the_redactor(lines: Lines) -> None:
    models = {"m": Model("m", "openai", "x")}

    class Leaking(LLMClient):
        async def _provider_call(self, request: LLMRequest) -> str:
            raise CallFailed("Incorrect API key provided: topsecret-canary-1")

    with LLMClient(models, secrets=lambda name: "topsecret-canary-1", logger=lines) as plain:
        plain._require_keys(*plain.resolve("m"), CallPolicy())
        assert "canary" not in plain._parts.redactor.text("x topsecret-canary-1 y")


# -- structured output -------------------------------------------------------------------------------------------------

STARS = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["stars"],
    "additionalProperties": False,
}


def test_a_schema_is_asked_for_and_validated(client: LLMClient) -> None:
    response = client.call(LLMRequest(model="demo", prompt="rate this", schema=STARS))
    assert 1 <= response.output["stars"] <= 5
    assert json.loads(response.text) == response.output
    assert client.call(LLMRequest(model="demo", prompt="rate this", schema=STARS)).output == response.output


def test_a_schema_may_stand_in_its_short_form(client: LLMClient) -> None:
    short = {"score": "integer 1..5", "part": {"name?": "string"}}
    full = client.call(LLMRequest(model="demo", prompt="rate this", schema=expand(short)))
    response = client.call(LLMRequest(model="demo", prompt="rate this", schema=short))
    assert response.output == full.output
    assert response.output["score"] in range(1, 6)
    assert response.cached  # it is the same request


@pytest.mark.parametrize(("schema", "output"), [({"type": "string"}, str), ({"const": 3}, int), ({"minimum": 2}, None)])
def test_what_may_be_json_schema_is_not_read_as_the_short_form(client: LLMClient, schema: Any, output: Any) -> None:
    found = client.call(LLMRequest(model="demo", prompt="rate this", schema=schema)).output
    assert output is None or isinstance(found, output)


def test_a_short_form_that_is_none_is_refused(client: LLMClient, lines: Lines) -> None:
    with pytest.raises(SchemaUnusable, match="strng"):
        client.call(LLMRequest(model="demo", prompt="x", schema={"a": "strng"}))
    assert lines.kept == []


def test_a_schema_that_is_none_is_told_before_anything_is_sent(client: LLMClient, lines: Lines) -> None:
    with pytest.raises(llmpipe.SchemaUnusable):
        client.call(LLMRequest(model="demo", prompt="x", schema={"type": "objekt"}))
    assert lines.kept == []


class Scripted(LLMClient):
    """Answers from a list, and keeps what it was asked."""

    def __init__(self, *answers: str, **options: Any) -> None:
        super().__init__(logger=Lines(), retry=Retry(base=0.001, cap=0.002), **options)
        self.answers = list(answers)
        self.asked: list[LLMRequest] = []

    async def _provider_call(self, request: LLMRequest, *, timeout_s: float | None = None) -> str:
        self.asked.append(request)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def rated(**changes: Any) -> LLMRequest:
    return LLMRequest(**{"model": "demo", "prompt": "rate this", "schema": STARS, **changes})


def test_an_invalid_answer_is_asked_for_again_as_a_conversation() -> None:
    with Scripted('{"stars": 9}', '{"stars": 4}') as client:
        response = client.call(rated(system_prompt="be brief"))
    assert (response.output, response.reasks) == ({"stars": 4}, 1)
    assert [a.number for a in response.attempts] == [1, 2]
    turns = client.asked[1].turns()
    assert [t.role for t in turns] == ["system", "user", "assistant", "user"]
    assert turns[2].content == '{"stars": 9}'
    assert "$.stars" in turns[3].content


def test_a_step_checks_in_the_same_way() -> None:
    from llmpipe.structured.schema import compile_schema

    spec = OutputSpec(compile_schema(STARS), lambda v: "too few stars" if v["stars"] < 3 else None, max_reasks=3)
    with Scripted('{"stars": 1}', '{"stars": 2}', '```json\n{"stars": 3}\n```') as client:

        async def scene() -> LLMResponse:
            return await client.acall(rated(), output=spec)

        response = asyncio.run(scene())
    assert (response.output, response.reasks, response.notes) == ({"stars": 3}, 2, ("fences_stripped",))
    assert "too few stars" in client.asked[1].turns()[-1].content


def test_without_a_schema_a_check_sees_the_text() -> None:
    spec = OutputSpec(None, lambda text: None if "please" in text else "say please", max_reasks=1)
    with Scripted("no", "yes, please") as client:
        response = asyncio.run(client.acall(LLMRequest(model="demo", prompt="x"), output=spec))
    assert (str(response), response.output, response.reasks) == ("yes, please", None, 1)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["not json", "still not json"], "NotJson"),
        (['{"stars": 9}', '{"stars": 8}'], "SchemaMismatch"),
        (['{"stars": 9}', "not json"], "NotJson"),
    ],
)
def test_an_output_that_stays_invalid_carries_every_raw_reply(answers: list[str], kind: str) -> None:
    with Scripted(*answers) as client, pytest.raises(llmpipe.InvalidOutput) as caught:
        client.call(rated())
    err = caught.value
    assert (err.kind, err.raw, err.billed) == (kind, answers[-1], "yes")
    assert [t["reply"] for t in err.details["tries"]] == answers
    assert [a.outcome for a in err.attempts] == ["ok", "ok"]
    assert err.request_id
    assert len(client.asked) == 2


def test_a_model_that_repeats_itself_is_not_asked_a_third_time() -> None:
    spec_with = {"max_reasks": 5}
    from llmpipe.structured.schema import compile_schema

    with Scripted('{"stars": 9}') as client, pytest.raises(llmpipe.SchemaMismatch):
        asyncio.run(client.acall(rated(), output=OutputSpec(compile_schema(STARS), **spec_with)))
    assert len(client.asked) == 2


def test_max_reasks_0_never_asks_again() -> None:
    from llmpipe.structured.schema import compile_schema

    with Scripted("x") as client, pytest.raises(llmpipe.NotJson):
        asyncio.run(client.acall(rated(), output=OutputSpec(compile_schema(STARS), max_reasks=0)))
    assert len(client.asked) == 1


def test_the_tokens_and_attempts_of_all_tries_count(client: LLMClient) -> None:
    """echo's own faults: an answer that breaks its schema, then another conversation, which may do better."""
    from llmpipe.structured.schema import compile_schema

    spec = OutputSpec(compile_schema(STARS), max_reasks=8)
    reasked = []
    for n in range(12):
        request = rated(prompt=f"rate {n}", faults={"schema_violation": 0.5})
        try:
            reasked.append(asyncio.run(client.acall(request, output=spec)))
        except llmpipe.InvalidOutput:
            continue
    some = next(r for r in reasked if r.reasks)
    total = sum(a.usage.input_tokens for a in some.attempts if a.usage)
    assert some.usage.input_tokens == total
    assert len(some.attempts) == some.reasks + 1


def test_an_error_in_a_reask_tells_of_the_tries_before_it() -> None:
    class Breaking(Scripted):
        async def _provider_call(self, request: LLMRequest, *, timeout_s: float | None = None) -> str:
            if self.asked:
                raise llmpipe.Refused("no")
            return await super()._provider_call(request)

    with Breaking("not json") as client, pytest.raises(llmpipe.Refused) as caught:
        client.call(rated())
    assert [t["reply"] for t in caught.value.details["tries"]] == ["not json"]


def test_cut_and_refused_answers_are_never_parsed_nor_asked_again() -> None:
    class Cut(LLMClient):
        async def _provider_call(self, request: LLMRequest) -> LLMResponse:
            return LLMResponse('{"stars": 3}', "m", "p", finish="length")

    with Cut(logger=Lines()) as client, pytest.raises(Truncated) as caught:
        client.call(rated())
    assert len(caught.value.attempts) == 1


# -- overriding --------------------------------------------------------------------------------------------------------


def overriding(method: Any) -> LLMClient:
    made = type("Own", (LLMClient,), {"_provider_call": method})
    client: LLMClient = made(logger=Lines(), retry=Retry(base=0.001, cap=0.002))
    return client


async def _awaited(self: Any, request: LLMRequest, *, timeout_s: float | None = None) -> Any:
    return f"own: {request.prompt}"


def _plain(self: Any, request: LLMRequest, *, timeout_s: float) -> Any:
    return f"own: {request.prompt}"


def _bare(self: Any, req: LLMRequest) -> Any:
    return LLMResponse(f"own: {req.prompt}", "m", "p")


def _greedy(self: Any, request: LLMRequest, **rest: Any) -> Any:
    assert set(rest) == {"timeout_s", "attempt", "force_error"}
    return f"own: {request.prompt}"


async def _relaying(self: Any, request: LLMRequest, **rest: Any) -> Any:
    answer = await LLMClient._provider_call(self, request, **rest)
    return answer.text.replace("echo", "own")


@pytest.mark.parametrize("method", [_awaited, _plain, _bare, _greedy, _relaying], ids=lambda m: m.__name__)
def test_an_override_of_any_shape_keeps_every_layer(method: Any) -> None:
    with overriding(method) as client:
        first, second = client.call(HELLO), client.call(HELLO)
    assert str(first) == "own: hello"
    assert [a.outcome for a in first.attempts] == ["ok"]
    assert second.cached


def test_an_override_of_a_provider_needs_no_key() -> None:
    with overriding(_awaited) as client:
        assert str(client.call(LLMRequest(model="openai/gpt-5", prompt="x"))) == "own: x"


@pytest.mark.parametrize("blocking", [True, False])
def test_an_override_that_fails_is_tried_again(blocking: bool) -> None:
    seen: list[int] = []

    def plain(self: Any, request: LLMRequest, *, attempt: int) -> str:
        seen.append(attempt)
        if attempt < 3:
            raise RuntimeError("flaky")
        return "at last"

    async def awaited(self: Any, request: LLMRequest, *, attempt: int) -> str:
        return plain(self, request, attempt=attempt)

    with overriding(plain if blocking else awaited) as client:
        response = client.call(HELLO, max_retries=2)
    assert (str(response), seen) == ("at last", [1, 2, 3])
    assert [a.outcome for a in response.attempts] == ["ServerFault", "ServerFault", "ok"]


@pytest.mark.parametrize(
    ("raised", "kind", "attempts"),
    [
        (RuntimeError("x"), ServerFault, 2),
        (ConnectionResetError("x"), NetworkFault, 2),
        (TimeoutError("x"), CallTimeout, 2),
        (ValueError("x"), CallFailed, 1),
        (NotImplementedError("x"), CallFailed, 1),
        (EmptyAnswer("x"), EmptyAnswer, 2),
        (StopIteration("x"), ServerFault, 2),
    ],
    ids=repr,
)
def test_the_exceptions_of_an_override_get_a_class(raised: Exception, kind: type[CallFailed], attempts: int) -> None:
    def fail(self: Any, request: LLMRequest) -> str:
        raise raised

    with overriding(fail) as client, pytest.raises(kind) as caught:
        client.call(HELLO, max_retries=1)
    assert type(caught.value) is kind
    assert len(caught.value.attempts) == attempts


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    "raised",
    [
        asyncio.CancelledError(),
        SystemExit(1),
        GeneratorExit(),
        BaseException("x"),
        BaseExceptionGroup("x", [KeyError()]),
    ],
    ids=repr,
)
def test_what_would_end_more_than_its_call_fails_the_call(raised: BaseException, blocking: bool) -> None:
    def fail(self: Any, request: LLMRequest) -> str:
        raise raised

    async def awaited(self: Any, request: LLMRequest) -> str:
        raise raised

    with overriding(fail if blocking else awaited) as client:
        for _ in range(2):  # the client goes on working
            with pytest.raises(CallFailed) as caught:
                client.call(HELLO, max_retries=1)
            assert len(caught.value.attempts) == 1


@pytest.mark.parametrize(("answer", "kind"), [(None, BadReply), (7, BadReply), ("", EmptyAnswer), (" ", EmptyAnswer)])
def test_what_an_override_returns_is_checked(answer: Any, kind: type[CallFailed]) -> None:
    with overriding(lambda self, request: answer) as client, pytest.raises(kind):
        client.call(HELLO, max_retries=0)


def test_a_blocking_override_that_hangs_is_ended_by_the_clock() -> None:
    release = threading.Event()

    def hang(self: Any, request: LLMRequest) -> str:
        release.wait(300)
        return "late"

    with overriding(hang) as client:
        started = time.monotonic()
        with pytest.raises(CallTimeout):
            client.call(HELLO, timeout_s=0.05, max_retries=0)
        assert time.monotonic() - started < 30
    release.set()


@pytest.mark.parametrize("blocking", [True, False])
def test_an_override_may_call_the_method_that_it_overrides(blocking: bool) -> None:
    from dataclasses import replace

    class Polite(LLMClient):
        async def _provider_call(self, request: LLMRequest, *, timeout_s: float | None = None) -> LLMResponse:
            return await super()._provider_call(replace(request, prompt=f"please: {request.prompt}"), timeout_s=5)

    class PoliteAndPlain(LLMClient):
        def _provider_call(self, request: LLMRequest) -> Any:  # type: ignore[override]
            return super()._provider_call(replace(request, prompt=f"please: {request.prompt}"))

    with (PoliteAndPlain if blocking else Polite)(logger=Lines()) as client:
        assert str(client.call(HELLO)) == "echo: please: hello"


# -- the package -------------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in llmpipe.__all__:
        assert getattr(llmpipe, name) is not None
    assert sorted(llmpipe.__all__) == dir(llmpipe)
    assert SimpleMemoryCache is llmpipe.SimpleMemoryCache


def test_every_error_of_a_call_is_public() -> None:
    missing = {c.__name__ for c in every_class(LlmpipeError) if c.__module__ == "llmpipe.errors"} - set(llmpipe.__all__)
    assert missing == set()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="colour"):
        llmpipe.colour  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, llmpipe\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in %r or m.startswith('llmpipe.')))"
    )
    heavy = ("httpx", "aiohttp", "jsonschema", "loguru", "diskcache", "jinja2", "asyncio", "yaml")
    done = subprocess.run(
        [sys.executable, "-c", code % (heavy,)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['llmpipe._version']"
