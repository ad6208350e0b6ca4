"""A provider that refuses to be asked for a schema natively: the prompt is tried, and the refusal is learned once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from llmpipe.client.cache import Cache, SimpleMemoryCache
from llmpipe.client.client import LLMClient
from llmpipe.client.keys import make_cache_key
from llmpipe.errors import CallFailed, NotRecorded, SchemaRejected, Truncated
from llmpipe.policy import CallPolicy, Retry
from llmpipe.providers.table import resolve
from llmpipe.types import LLMRequest, LLMResponse, Model
from tests.client.things import Lines
from tests.engine.speaking import PROVIDERS, Asked, Speaking

STARS = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "why": {"type": "string"}},
    "required": ["stars"],
    "additionalProperties": False,
}
OTHER = {**STARS, "required": ["stars", "why"]}
REFUSALS: dict[str, dict[str, Any]] = {  # facts A3, A6: each in the provider's own shape
    "openai": {"error": {"message": "Invalid schema for response_format 'answer'", "type": "invalid_request_error",
                         "param": "response_format", "code": "invalid_json_schema"}},
    "openai_responses": {"error": {"message": "Invalid schema for response_format 'answer'",
                                   "type": "invalid_request_error", "param": "text.format.schema", "code": None}},
    "anthropic": {"type": "error", "request_id": "req_1",
                  "error": {"type": "invalid_request_error", "message": "Schema is too complex for compilation"}},
    "gemini": {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message":
                         "The specified schema produces a constraint that has too many states for serving."}},
    "ollama": {"error": "invalid JSON schema in format"},
}  # fmt: skip


def refusing(provider: str, text: str = '{"stars": 4}') -> Callable[[Asked], Any]:
    """Refuses what is asked natively; answers what is not."""
    return lambda asked: (400, REFUSALS[provider]) if asked.schema else text


def client(server: Speaking, provider: str = "openai", *, cache: Cache | None = None, **more: Any) -> LLMClient:
    key = None if provider == "ollama" else "A_TEST_KEY"
    base = server.url + PROVIDERS[provider]
    first = Model("m", provider, "m", base_url=base, api_key_env=key, **more)
    models = {"m": first, "spare": Model("spare", "echo", "spare")}
    return LLMClient(
        models, cache=cache, secrets=lambda name: "sk-1234567890", logger=Lines(), retry=Retry(max_retries=1, base=0.01)
    )


def asks(c: LLMClient, *requests: LLMRequest, policy: CallPolicy | None = None) -> list[Any]:
    async def main() -> list[Any]:
        async with c:
            calls = (c.acall(request, policy=policy) for request in requests)
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 300)

    return asyncio.run(main())


def a_request(prompt: str = "rate", **more: Any) -> LLMRequest:
    return LLMRequest(**{"model": "m", "prompt": prompt, "schema": STARS, **more})


def natively(server: Speaking) -> int:
    return sum(bool(asked.schema) for asked in server.asked)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_prompt_is_tried_and_validated_as_always(provider: str) -> None:
    with Speaking(refusing(provider)) as server:
        (response,) = asks(client(server, provider), a_request())
    assert response.output == {"stars": 4}
    assert "schema_in_prompt" in response.notes
    assert [bool(asked.schema) for asked in server.asked] == [True, False]
    told = json.dumps(server.asked[1].body)
    assert "JSON Schema" in told
    assert "maximum" in told
    assert [a.outcome for a in response.attempts] == ["SchemaRejected", "ok"]
    assert response.attempts[0].code == "P406"


def test_an_answer_by_the_prompt_that_does_not_fit_is_asked_for_again_by_the_prompt() -> None:
    answers = iter(['{"stars": 9}', '{"stars": 4, "why": null}', '{"stars": 4}'])
    with Speaking(lambda asked: (400, REFUSALS["openai"]) if asked.schema else next(answers)) as server:
        c = client(server)

        async def main() -> LLMResponse:
            from llmpipe.client.output import OutputSpec
            from llmpipe.structured.schema import compile_schema

            async with c:
                return await c.acall(a_request(), output=OutputSpec(compile_schema(STARS), max_reasks=3))

        response = asyncio.run(main())
    # The null of an optional property is the strict mode's; nobody asked for it in the prompt, so it is a mistake.
    assert (response.output, response.reasks) == ({"stars": 4}, 2)
    assert natively(server) == 1
    assert "schema_in_prompt" in response.notes


def test_many_calls_at_once_pay_for_one_refusal() -> None:
    with Speaking(refusing("openai")) as server:
        answers = asks(client(server), *(a_request(f"rate {n}") for n in range(60)))
    assert [answer.output for answer in answers] == [{"stars": 4}] * 60
    assert natively(server) == 1


def test_many_calls_at_once_pay_for_one_refusal_where_the_gate_is_wide_already() -> None:
    """A later step's first calls come all at once, to a model that has answered before."""
    with Speaking(lambda asked: (400, REFUSALS["openai"]) if asked.schema else "fine") as server:
        c = client(server)

        async def main() -> list[Any]:
            async with c:
                await asyncio.gather(*(c.acall(LLMRequest(model="m", prompt=f"say {n}")) for n in range(30)))
                server.say = refusing("openai")
                return await asyncio.gather(*(c.acall(a_request(f"rate {n}")) for n in range(30)))

        answers = asyncio.run(main())
    assert [answer.output for answer in answers] == [{"stars": 4}] * 30
    assert natively(server) == 1


def test_each_schema_is_refused_by_itself_and_equal_ones_are_one() -> None:
    def say(asked: Asked) -> Any:
        wants_why = asked.schema and asked.schema["properties"]["why"].get("type") == "string"
        return (400, REFUSALS["openai"]) if wants_why else '{"stars": 2, "why": "x"}'

    with Speaking(say) as server:
        c = client(server)
        copies = [a_request(f"a {n}", schema=json.loads(json.dumps(OTHER))) for n in range(3)]
        answers = asks(c, *copies, *(a_request(f"b {n}") for n in range(3)))
    assert ["schema_in_prompt" in answer.notes for answer in answers] == [True] * 3 + [False] * 3
    assert natively(server) == 1 + 3
    assert c.schema_refused("m", OTHER) is not None
    assert c.schema_refused("m", STARS) is None


def test_what_the_user_fixed_stays_so_and_stops() -> None:
    with Speaking(refusing("openai")) as server:
        found = asks(client(server, schema_mode="native"), *(a_request(f"rate {n}") for n in range(9)))
    assert [type(error) for error in found] == [SchemaRejected] * 9
    assert server.total == 1


def test_a_schema_that_is_refused_in_the_prompt_too_stops() -> None:
    with Speaking(lambda asked: (400, REFUSALS["openai"])) as server:
        found = asks(client(server), *(a_request(f"rate {n}") for n in range(9)))
    assert [type(error) for error in found] == [SchemaRejected] * 9
    assert server.total == 2
    assert sum(error.sent for error in found) == 1


def test_a_fallback_is_asked_only_after_the_prompt() -> None:
    with Speaking(refusing("openai")) as server:
        (one,) = asks(client(server, fallback=("spare",)), a_request())
    assert one.answered_by == "openai/m"
    with Speaking(lambda asked: (400, REFUSALS["openai"])) as server:
        (two,) = asks(client(server, fallback=("spare",)), a_request())
    assert two.answered_by == "echo/spare"


def test_a_re_ask_after_the_prompt_keeps_the_fallbacks() -> None:
    def say(asked: Asked) -> Any:
        if asked.schema:
            return 400, REFUSALS["openai"]
        return (500, {"error": {"message": "down"}}) if asked.is_reask else '{"stars": 9}'

    with Speaking(say) as server:
        (response,) = asks(client(server, fallback=("spare",)), a_request())
    assert response.answered_by == "echo/spare"


def test_a_cut_answer_by_the_prompt_is_extended_by_the_prompt() -> None:
    def say(asked: Asked) -> Any:
        if asked.schema:
            return 400, REFUSALS["openai"]
        if asked.body["max_completion_tokens"] == 100:
            choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": '{"st'}}
            return {"id": "1", "model": "m", "choices": [choice]}
        return '{"stars": 3}'

    with Speaking(say) as server:
        c = client(server)

        async def main() -> LLMResponse:
            from llmpipe.client.output import OutputSpec
            from llmpipe.structured.schema import compile_schema

            async with c:
                spec = OutputSpec(compile_schema(STARS), extend=True)
                return await c.acall(a_request(max_output_tokens=100), output=spec)

        response = asyncio.run(main())
    assert response.output == {"stars": 3}
    assert {"extended", "schema_in_prompt"} <= set(response.notes)
    assert natively(server) == 1
    with Speaking(say) as server:
        (cut,) = asks(client(server), a_request(max_output_tokens=100))
    assert isinstance(cut, Truncated)


def test_the_key_is_that_of_what_was_sent() -> None:
    cache = SimpleMemoryCache()
    with Speaking(refusing("openai")) as server:
        asks(client(server, cache=cache), a_request())
        base = server.url + PROVIDERS["openai"]
        model = Model("m", "openai", "m", base_url=base, api_key_env="A_TEST_KEY")
        said = Model("m", "openai", "m", base_url=base, api_key_env="A_TEST_KEY", schema_mode="prompt")
        keys = [make_cache_key(a_request(), resolve(one)) for one in (model, said)]
        assert [asyncio.run(cache.get(key)) is not None for key in keys] == [False, True]
        before = server.total
        (again,) = asks(client(server, cache=cache), a_request())
        assert again.cached
        assert server.total == before + 1  # a new client asks natively once more: the provider may have learned it
        (offline,) = asks(client(server, cache=cache), a_request(), policy=CallPolicy(offline=True))
        assert (offline.cached, offline.output) == (True, {"stars": 4})
        (missing,) = asks(client(server, cache=cache), a_request("else"), policy=CallPolicy(offline=True))
        assert isinstance(missing, NotRecorded)
        assert server.total == before + 1


def test_a_first_call_that_fails_otherwise_holds_nobody_up() -> None:
    ready = threading.Event()

    def say(asked: Asked) -> Any:
        if asked.schema and not ready.is_set():
            ready.set()
            return 500, {"error": {"message": "down"}}
        return (400, REFUSALS["openai"]) if asked.schema else '{"stars": 4}'

    with Speaking(say) as server:
        answers = asks(client(server), *(a_request(f"rate {n}") for n in range(20)))
    assert [answer.output for answer in answers] == [{"stars": 4}] * 20
    assert natively(server) <= 9  # no more than the gate had let through by then


def test_a_cancelled_first_call_hands_over() -> None:
    hang = threading.Event()

    def say(asked: Asked) -> Any:
        if asked.texts[-1] == "first":
            hang.wait(300)
        return refusing("openai")(asked)

    with Speaking(say) as server:
        c = client(server)

        async def main() -> Any:
            async with c:
                await c.acall(LLMRequest(model="m", prompt="hello"))
                first = asyncio.create_task(c.acall(a_request("first")))
                while natively(server) == 0:
                    await asyncio.sleep(0.01)
                second = asyncio.create_task(c.acall(a_request("second")))
                await asyncio.sleep(0.05)
                first.cancel()
                return await asyncio.wait_for(second, 60)

        response = asyncio.run(main())
        hang.set()
    assert response.output == {"stars": 4}


def test_the_log_and_the_note_tell_of_it_once() -> None:
    notes: list[str] = []
    lines = Lines()
    with Speaking(refusing("anthropic")) as server:
        model = Model("m", "anthropic", "claude", base_url=server.url, api_key_env="A_TEST_KEY")
        c = LLMClient({"m": model}, secrets=lambda name: "sk-1234567890", logger=lines, note=notes.append)
        asks(c, *(a_request(f"rate {n}") for n in range(5)))
    (note,) = notes
    assert "anthropic/claude" in note
    assert "too complex" in note
    assert [line["event"] for line in lines.kept].count("llm_schema_refused") == 1


def test_json_mode_that_is_refused_gives_way_to_the_prompt_too() -> None:
    def say(asked: Asked) -> Any:
        if "response_format" in asked.body:
            return 400, {
                "error": {"message": "This response_format type is unavailable now", "type": "invalid_request"}
            }
        return '{"stars": 4}'

    with Speaking(say) as server:
        base = server.url + "/v1"
        models = {"m": Model("m", "deepseek", "chat", base_url=base, api_key_env="A_TEST_KEY")}
        c = LLMClient(models, secrets=lambda name: "sk-1234567890", logger=Lines())
        answers = asks(c, a_request("one"), a_request("two", schema=OTHER))
    assert [isinstance(answer, CallFailed) for answer in answers] == [False, True]
    assert sum("response_format" in asked.body for asked in server.asked) == 1
