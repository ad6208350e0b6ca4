"""The conversation about one answer: who is asked again, with what words, how often, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import llmpipe
from llmpipe.client.client import LLMClient
from llmpipe.client.output import LONG_TEXT, OutputSpec
from llmpipe.policy import CallPolicy, Retry
from llmpipe.structured.schema import compile_schema
from llmpipe.types import LLMRequest, LLMResponse, Model, Price, Usage
from tests.client.things import Lines

STARS = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "why": {"type": "string"}},
    "required": ["stars"],
    "additionalProperties": False,
}
PRICE = Price(input=Decimal(1), output=Decimal(1))
MODELS = {
    "weak": Model("weak", "lmstudio", "weak", price=PRICE, fallback=("spare", "last")),
    "spare": Model("spare", "lmstudio", "spare", price=PRICE),
    "last": Model("last", "lmstudio", "last", price=PRICE),
    "strong": Model("strong", "lmstudio", "strong", price=PRICE),
}
Answer = Callable[[LLMRequest, str, int], Any]


class Told(LLMClient):
    """Answers by a function of the request, the model's id and the number of the call; keeps who was asked what."""

    def __init__(self, answer: Answer, **options: Any) -> None:
        super().__init__(MODELS, logger=Lines(), retry=Retry(max_retries=0), **options)
        self.answer = answer
        self.asked: list[tuple[str, LLMRequest]] = []

    async def _provider_call(self, request: LLMRequest, **_: Any) -> LLMResponse:
        from llmpipe.client.override import CURRENT

        model = CURRENT.get().model.model
        self.asked.append((model, request))
        found = self.answer(request, model, len(self.asked))
        if isinstance(found, Exception):
            raise found
        usage = Usage(input_tokens=500_000, output_tokens=500_000)
        return found if isinstance(found, LLMResponse) else LLMResponse(found, model, "echo", usage=usage)

    def get(self, spec: OutputSpec, *, policy: CallPolicy | None = None, **changes: Any) -> LLMResponse:
        request = LLMRequest(**{"model": "weak", "prompt": "rate", "schema": STARS, **changes})
        return asyncio.run(self.acall(request, output=spec, policy=policy or CallPolicy(retry=Retry(max_retries=0))))

    def models(self) -> list[str]:
        return [model for model, _ in self.asked]


def scripted(*answers: Any) -> Answer:
    return lambda request, model, number: answers[min(number, len(answers)) - 1]


def spec(**changes: Any) -> OutputSpec:
    return OutputSpec(compile_schema(STARS), **{"max_reasks": 3, **changes})


# -- who is asked again --------------------------------------------------------------------------------------------


def test_the_same_model_is_asked_again() -> None:
    with Told(scripted('{"stars": 9}', '{"stars": 4}')) as client:
        assert client.get(spec()).output == {"stars": 4}
    assert client.models() == ["weak", "weak"]


def test_a_stronger_model_may_be_asked_again() -> None:
    with Told(scripted('{"stars": 9}', '{"stars": 8}', '{"stars": 4}')) as client:
        response = client.get(spec(reask_model="strong"))
    assert client.models() == ["weak", "strong", "strong"]
    assert (response.answered_by, response.reasks) == ("lmstudio/strong", 2)
    turns = client.asked[2][1].turns()
    assert [turn.content for turn in turns[1::2]] == ['{"stars": 9}', '{"stars": 8}']


def test_after_a_fallback_the_model_that_answered_is_asked_again() -> None:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        return llmpipe.ServerFault("down") if model == "weak" else ('{"stars": 9}' if number == 2 else '{"stars": 4}')

    with Told(answer) as client:
        response = client.get(spec())
    assert client.models() == ["weak", "spare", "spare"]
    assert (response.output, response.answered_by, response.reasks) == ({"stars": 4}, "lmstudio/spare", 1)


def test_a_reask_that_fails_goes_to_the_fallbacks_behind() -> None:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        if model == "weak" or number == 3:
            return llmpipe.ServerFault("down")
        return '{"stars": 9}' if number == 2 else '{"stars": 4}'

    with Told(answer) as client:
        assert client.get(spec()).output == {"stars": 4}
    assert client.models() == ["weak", "spare", "spare", "last"]


def test_the_reask_model_has_the_fallbacks_of_the_policy() -> None:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        return '{"stars": 9}' if number == 1 else llmpipe.ServerFault("x") if model == "strong" else '{"stars": 2}'

    policy = CallPolicy(retry=Retry(max_retries=0), fallback=("strong", "last"))
    with Told(answer) as client:
        assert client.get(spec(reask_model="strong"), policy=policy).output == {"stars": 2}
    assert client.models() == ["weak", "strong", "last"]


def test_the_key_of_the_reask_model_is_looked_for_before_anything_is_sent() -> None:
    request = LLMRequest(model="weak", prompt="x", schema=STARS)
    client = LLMClient(MODELS, logger=Lines(), secrets=lambda name: None)
    with client, pytest.raises(llmpipe.KeyMissing, match="OPENAI_API_KEY"):
        asyncio.run(client.acall(request, output=spec(reask_model="openai/gpt-5-mini")))


# -- what is said, and what is kept --------------------------------------------------------------------------------


def test_the_words_name_path_what_was_found_and_what_was_wanted() -> None:
    with Told(scripted('{"stars": 9, "why": 3}', '{"stars": 4}')) as client:
        client.get(spec())
    said = client.asked[1][1].turns()[-1].content
    for part in ("$.stars", "9", "maximum 5", "$.why", "3", "string"):
        assert part in said


def test_a_check_of_a_text_asks_for_a_text_again() -> None:
    text_spec = OutputSpec(None, lambda text: None if "please" in text else "say please", max_reasks=1)
    with Told(scripted("no", "please")) as client:
        client.get(text_spec, schema=None)
    said = client.asked[1][1].turns()[-1].content
    assert "say please" in said
    assert "JSON" not in said


def test_every_try_is_kept_with_its_cost() -> None:
    thinking = LLMResponse('{"stars": 8}', "m", "echo", usage=Usage(500_000, 500_000), reasoning="hm")
    with Told(scripted('{"stars": 9}', thinking, "none")) as client, pytest.raises(llmpipe.NotJson) as caught:
        client.get(spec(max_reasks=2))
    err = caught.value
    tries = err.details["tries"]
    assert [t["error_type"] for t in tries] == ["SchemaMismatch", "SchemaMismatch", "NotJson"]
    assert [t["cost_usd"] for t in tries] == [1.0, 1.0, 1.0]
    assert tries[1]["reasoning"] == "hm"
    assert tries[0]["violations"] == ["$.stars: 9 is more than the maximum 5"]
    assert (err.reasks, err.usage.output_tokens, len(err.attempts)) == (2, 1_500_000, 3)


def test_it_stops_when_the_reply_does_not_change() -> None:
    with Told(scripted('{"stars": 9}', ' {"stars": 9}\n')) as client, pytest.raises(llmpipe.SchemaMismatch):
        client.get(spec(max_reasks=20))
    assert len(client.asked) == 2


def test_an_answer_is_cached_only_if_all_that_led_to_it_was() -> None:
    texts = ['{"stars": 9}', '{"stars": 4}']
    with Told(scripted(*texts)) as client:
        assert client.get(spec()).cached is False
        again = client.get(spec())
        assert (again.cached, again.cost_usd, again.reasks, len(client.asked)) == (True, Decimal(0), 1, 2)
    with Told(scripted(texts[0], "x", texts[1])) as client:
        with pytest.raises(llmpipe.NotJson):
            client.get(spec(max_reasks=1))
        found = client.get(spec(max_reasks=2))
        assert (found.cached, found.cost_usd, len(client.asked)) == (False, Decimal(1), 3)


# -- answers that were cut -----------------------------------------------------------------------------------------


def cut(limit: int) -> Answer:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        if (request.max_output_tokens or 0) < limit:
            return llmpipe.Truncated("cut", usage=Usage(500_000, 500_000), billed="yes")
        return '{"stars": 4}'

    return answer


def test_a_cut_answer_is_not_asked_for_again_by_itself() -> None:
    with Told(cut(200)) as client, pytest.raises(llmpipe.Truncated):
        client.get(spec(), max_output_tokens=100)
    assert len(client.asked) == 1


def test_extended_once_with_twice_the_room() -> None:
    with Told(cut(200)) as client:
        response = client.get(spec(extend=True), max_output_tokens=100)
    assert [request.max_output_tokens for _, request in client.asked] == [100, 200]
    assert (response.output, response.reasks, response.notes) == ({"stars": 4}, 0, ("extended",))
    assert (response.cost_usd, response.usage.output_tokens) == (Decimal(2), 1_000_000)
    assert client.asked[0][1].turns() == client.asked[1][1].turns()


def test_extended_only_once() -> None:
    with Told(cut(800)) as client, pytest.raises(llmpipe.Truncated) as caught:
        client.get(spec(extend=True), max_output_tokens=100)
    assert len(client.asked) == 2
    assert [a.outcome for a in caught.value.attempts] == ["Truncated", "Truncated"]


def test_a_reask_after_an_extension_keeps_the_room() -> None:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        if number == 1:
            return llmpipe.Truncated("cut", usage=Usage(1, 1))
        return '{"stars": 9}' if number == 2 else '{"stars": 4}'

    with Told(answer) as client:
        assert client.get(spec(extend=True), max_output_tokens=100).reasks == 1
    assert [request.max_output_tokens for _, request in client.asked] == [100, 200, 200]


def test_a_limit_that_the_model_refuses_leaves_the_answer_cut() -> None:
    def answer(request: LLMRequest, model: str, number: int) -> Any:
        return llmpipe.Truncated("cut") if number == 1 else llmpipe.BadRequest("max_tokens is too large", status=400)

    with Told(answer) as client, pytest.raises(llmpipe.Truncated) as caught:
        client.get(spec(extend=True), max_output_tokens=100)
    assert [a.outcome for a in caught.value.attempts] == ["Truncated", "BadRequest"]


def test_without_a_limit_there_is_nothing_to_extend() -> None:
    with Told(cut(200)) as client, pytest.raises(llmpipe.Truncated):
        client.get(spec(extend=True))
    assert len(client.asked) == 1


# -- repair and coerce ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{'stars': 4}", '{"stars": 4,}', "{stars: 4}"])
def test_repair_only_where_it_is_asked_for_and_marked(text: str) -> None:
    with Told(scripted(text)) as client:
        assert client.get(spec(repair=True)).notes == ("repaired",)
    with Told(scripted(text)) as client, pytest.raises(llmpipe.NotJson):
        client.get(spec(max_reasks=0))


def test_what_is_repaired_has_to_be_valid() -> None:
    with Told(scripted("{'stars': 9}")) as client, pytest.raises(llmpipe.SchemaMismatch):
        client.get(spec(repair=True, max_reasks=0))


def test_coerced_only_where_it_is_asked_for_and_marked() -> None:
    with Told(scripted('{"stars": "4"}')) as client:
        response = client.get(spec(coerce=True))
    assert (response.output, response.notes) == ({"stars": 4}, ("coerced:$.stars",))
    assert response.text == '{"stars": "4"}'
    with Told(scripted('{"stars": "4"}')) as client, pytest.raises(llmpipe.SchemaMismatch):
        client.get(spec(max_reasks=0))


def test_what_fits_is_never_coerced_and_what_does_not_fit_then_is_no_answer() -> None:
    schema = compile_schema({"type": "object", "properties": {"id": {"type": ["string", "integer"]}}})
    with Told(scripted('{"id": "007"}')) as client:
        response = client.get(OutputSpec(schema, coerce=True), schema=schema.document)
    assert (response.output, response.notes) == ({"id": "007"}, ())
    with Told(scripted('{"stars": "9"}')) as client, pytest.raises(llmpipe.SchemaMismatch) as caught:
        client.get(spec(coerce=True, max_reasks=0))
    assert '"9" is not of type integer' in str(caught.value)


def test_few_marks_stand_for_many() -> None:
    schema = compile_schema({"type": "array", "items": {"type": "integer"}})
    with Told(scripted(str([str(n) for n in range(500)]).replace("'", '"'))) as client:
        response = client.get(OutputSpec(schema, coerce=True), schema=schema.document)
    assert response.output == list(range(500))
    assert (len(response.notes), response.notes[-1]) == (11, "coerced:490_more")


# -- the event loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "array", "uniqueItems": True}, "[" + ",".join(f'{{"a": [{n}]}}' for n in range(3_000)) + "]"),
        ({"type": "string", "pattern": "(a+)+$"}, '"' + "a" * 4_000 + '!"'),
        ({"type": "array", "items": {"type": "string"}}, '["' + '","'.join(["word"] * 60_000) + '"]'),
    ],
)
def test_slow_validation_does_not_hold_up_the_event_loop(schema: dict[str, Any], text: str) -> None:
    async def scene() -> int:
        client = Told(scripted(text))
        turns, ended = 0, False

        async def tick() -> None:
            nonlocal turns
            while not ended:
                await asyncio.sleep(0)
                turns += 1

        ticking = asyncio.create_task(tick())
        try:
            request = LLMRequest(model="weak", prompt="x")
            await client.acall(request, output=OutputSpec(compile_schema(schema), max_reasks=0))
        except llmpipe.SchemaMismatch:
            pass
        ended = True
        await ticking
        await client.aclose()
        return turns

    turns = asyncio.run(scene())
    assert turns > 0  # there is none while a short answer is validated
    assert LONG_TEXT < 60_000 * 6
