"""The small layers: total clock, recall, fallback, journal, trace, and their order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from llmpipe import errors
from llmpipe.client.allowance import RetryAllowance
from llmpipe.client.call import Deadline
from llmpipe.client.layers.fallback import fallback
from llmpipe.client.layers.journalled import journalled
from llmpipe.client.layers.recalled import recalled
from llmpipe.client.layers.retried import retried
from llmpipe.client.layers.total import total_timeout
from llmpipe.client.layers.traced import traced
from llmpipe.client.redact import Redactor
from llmpipe.client.stack import LAYERS, build_stack
from llmpipe.error_words import ERROR_WORDS, is_meant
from llmpipe.errors import CallFailed, every_class
from llmpipe.policy import CallPolicy, Retry, Timeout
from llmpipe.types import Model
from tests.client.things import Diary, HandClock, Lines, a_call, an_answer, deps, script


def run(handler: Any, call: Any) -> Any:
    return asyncio.run(handler(call))


# -- order -------------------------------------------------------------------------------------------------------------


def test_the_layers_stand_in_the_order_of_the_design() -> None:
    assert [layer.__name__ for layer in LAYERS] == [
        "traced",
        "fallback",
        "told",
        "single_flight",
        "recalled",
        "cached",
        "total_timeout",
        "retried",
        "limited",
        "rechecked",
        "tried",
        "budgeted",
        "journalled",
        "attempt_timeout",
    ]


def test_the_first_layer_of_the_list_is_the_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def marking(name: str) -> Any:
        def layer(inner: Any, deps: Any) -> Any:
            async def handle(call: Any) -> Any:
                seen.append(name)
                return await inner(call)

            return handle

        return layer

    monkeypatch.setattr("llmpipe.client.stack.LAYERS", tuple(marking(n) for n in "abc"))
    run(build_stack(script(an_answer()), deps()), a_call())
    assert seen == ["a", "b", "c"]


# -- total -------------------------------------------------------------------------------------------------------------


def with_total(seconds: float | None) -> CallPolicy:
    return CallPolicy(timeout=Timeout(total=seconds))


def admitted_then_sleeping(seconds: float) -> Any:
    async def step(call: Any) -> Any:
        call.deadline.start(time.monotonic())
        await asyncio.sleep(seconds)
        return an_answer()

    return step


def test_the_total_ends_a_call_that_was_admitted() -> None:
    inner = script(admitted_then_sleeping(300))
    started = time.monotonic()
    with pytest.raises(errors.TotalTimeout, match=r"no answer within 0\.05 s"):
        run(total_timeout(inner, deps()), a_call(policy=with_total(0.05)))
    assert time.monotonic() - started < 50


def test_queueing_before_the_first_admission_does_not_count() -> None:
    async def queue(call: Any) -> Any:
        await asyncio.sleep(1.1)
        return await admitted_then_sleeping(0)(call)

    assert str(run(total_timeout(script(queue), deps()), a_call(policy=with_total(1.0)))) == "yes"


def test_later_waits_count() -> None:
    async def queue_again(call: Any) -> Any:
        call.deadline.start(time.monotonic())
        await asyncio.sleep(0.03)
        call.deadline.start(time.monotonic())
        await asyncio.sleep(30)

    with pytest.raises(errors.TotalTimeout):
        run(total_timeout(script(queue_again), deps()), a_call(policy=with_total(0.06)))


def test_without_a_total_there_is_no_clock() -> None:
    call = a_call(policy=with_total(None))
    assert str(run(total_timeout(script(admitted_then_sleeping(0.01)), deps()), call)) == "yes"
    assert call.deadline.left(time.monotonic()) is None


def test_a_timeout_of_someone_elses_is_not_the_total() -> None:
    with pytest.raises(TimeoutError):
        run(total_timeout(script(TimeoutError("mine")), deps()), a_call(policy=with_total(10)))


def test_a_deadline_tells_what_is_left() -> None:
    deadline = Deadline(10)
    assert deadline.left(5) == 10
    deadline.start(100)
    deadline.start(105)
    assert (deadline.left(104), deadline.left(120)) == (6, 0)
    assert Deadline(None).left(5) is None


def test_a_call_that_ran_out_in_flight_may_have_been_billed() -> None:
    parts = deps(clock=time.monotonic)
    diary = Diary()
    call = a_call(policy=with_total(0.05), journal=diary)
    with pytest.raises(errors.TotalTimeout) as caught:
        run(total_timeout(journalled(script(admitted_then_sleeping(300)), parts), parts), call)
    assert caught.value.billed == "maybe"
    assert [(a.outcome, a.code, a.billed) for a in call.attempts] == [("TotalTimeout", "P432", "maybe")]
    assert [line[0] for line in diary.lines] == ["intend", "settle"]


# -- recalled ----------------------------------------------------------------------------------------------------------


def test_what_the_run_wrote_down_is_not_asked_again() -> None:
    key = a_call().key
    diary = Diary({key: an_answer("known", cost_usd=Decimal(3), notes=("repaired",), answered_by="echo/demo")})
    inner = script(an_answer())
    answer = run(recalled(inner, deps()), a_call(journal=diary))
    assert (answer.text, answer.cost_usd, answer.notes, answer.cached) == ("known", 0, ("repaired", "recalled"), False)
    assert inner.calls == []
    assert str(run(recalled(inner, deps()), a_call("other", journal=diary))) == "yes"
    assert str(run(recalled(inner, deps()), a_call())) == "yes"


# -- fallback ----------------------------------------------------------------------------------------------------------

MODELS = {
    "fast": Model("fast", "echo", "small", params={"max_output_tokens": 10}, fallback=("strong", "last")),
    "strong": Model("strong", "echo", "large", params={"max_output_tokens": 99}, fallback=("fast",)),
    "last": Model("last", "echo", "other"),
}


def asked(inner: Any) -> list[str]:
    return [c.model.name for c in inner.calls]


def test_another_model_is_asked_with_its_own_parameters_and_key() -> None:
    inner = script(errors.ServerFault("down"), an_answer())
    call = a_call(name="fast", models=MODELS)
    answer = run(fallback(inner, deps(models=MODELS)), call)
    assert asked(inner) == ["fast", "strong"]
    assert [c.request.max_output_tokens for c in inner.calls] == [10, 99]
    assert len({c.key for c in inner.calls}) == 2
    assert answer.notes == ("fallback:strong",)
    assert call.answerer is inner.calls[1]
    assert {c.request_id for c in inner.calls} == {"r-1"}


@pytest.mark.parametrize("kind", list(every_class(CallFailed)), ids=lambda c: c.__name__)
def test_a_fallback_is_chosen_by_the_class_of_the_error(kind: type[CallFailed]) -> None:
    inner = script(kind("x"), an_answer())
    handler = fallback(inner, deps(models=MODELS))
    if kind.fallback:
        assert str(run(handler, a_call(name="fast", models=MODELS))) == "yes"
    else:
        with pytest.raises(kind):
            run(handler, a_call(name="fast", models=MODELS))
        assert asked(inner) == ["fast"]


def test_an_invalid_output_never_falls_back() -> None:
    assert not any(c.fallback for c in every_class(errors.InvalidOutput))
    assert errors.ProviderDown.fallback
    assert errors.AccountError.fallback


def test_when_all_fail_the_last_error_leaves_with_the_first_behind_it() -> None:
    inner = script(errors.KeyRefused("a"), errors.ServerFault("b"), errors.Overloaded("c"))
    with pytest.raises(errors.Overloaded) as caught:
        run(fallback(inner, deps(models=MODELS)), a_call(name="fast", models=MODELS))
    assert asked(inner) == ["fast", "strong", "last"]
    assert isinstance(caught.value.__cause__, errors.ServerFault)
    assert isinstance(caught.value.__cause__.__cause__, errors.KeyRefused)


def test_the_policys_list_wins_and_an_empty_one_means_none() -> None:
    inner = script(errors.ServerFault("down"), an_answer())
    call = a_call(name="fast", models=MODELS, policy=CallPolicy(fallback=("last",)))
    run(fallback(inner, deps(models=MODELS)), call)
    assert asked(inner) == ["fast", "last"]
    alone = script(errors.ServerFault("down"))
    with pytest.raises(errors.ServerFault):
        run(fallback(alone, deps(models=MODELS)), a_call(name="fast", models=MODELS, policy=CallPolicy(fallback=())))
    assert asked(alone) == ["fast"]


def narrowed(**words: tuple[str, ...]) -> dict[str, Model]:
    """The models with what the fallbacks of the first one are for."""
    return MODELS | {"fast": replace(MODELS["fast"], fallback_on=words)}


@pytest.mark.parametrize(
    ("words", "error", "expected"),
    [
        (("rate_limit",), errors.RateLimited("x"), ["fast", "strong"]),
        (("rate_limit",), errors.ServerFault("x"), ["fast", "last"]),
        (("rate_limit", "server_error"), errors.ServerFault("x"), ["fast", "strong"]),
        (("refused",), errors.Refused("x"), ["fast", "strong"]),
        (("timeout",), errors.CallTimeout("x"), ["fast", "strong"]),
        (("network",), errors.ProviderDown("x"), ["fast", "strong"]),
        (("account",), errors.QuotaExhausted("x"), ["fast", "strong"]),
        (("quota",), errors.KeyRefused("x"), ["fast", "last"]),
        (("truncated",), errors.ContextTooLong("x"), ["fast", "last"]),
    ],
)
def test_a_fallback_may_be_for_some_errors_alone(
    words: tuple[str, ...], error: CallFailed, expected: list[str]
) -> None:
    models, inner = narrowed(strong=words), script(error, an_answer())
    run(fallback(inner, deps(models=models)), a_call(name="fast", models=models))
    assert asked(inner) == expected


def test_each_error_decides_anew_who_is_asked_next() -> None:
    models = narrowed(strong=("rate_limit",), last=("refused",))
    inner = script(errors.RateLimited("1"), errors.Refused("2"), an_answer())
    run(fallback(inner, deps(models=models)), a_call(name="fast", models=models))
    assert asked(inner) == ["fast", "strong", "last"]
    for second in (errors.RateLimited("2"), errors.ServerFault("2")):
        inner = script(errors.RateLimited("1"), second)
        with pytest.raises(type(second)):
            run(fallback(inner, deps(models=models)), a_call(name="fast", models=models))
        assert asked(inner) == ["fast", "strong"]


def test_the_verdict_on_an_error_counts_as_that_error() -> None:
    models = narrowed(strong=("overloaded",), last=("quota",))
    parts = deps(models=models, allowance=RetryAllowance(0))
    inner = script(errors.Overloaded("1"), an_answer())
    run(fallback(retried(inner, parts), parts), a_call(name="fast", models=models))
    assert asked(inner) == ["fast", "strong"]


def test_every_class_that_may_fall_back_has_a_word() -> None:
    for kind in every_class(CallFailed):
        if kind.fallback and kind not in (errors.TemporaryFault, errors.RetryAllowanceSpent):
            assert any(is_meant(kind("x"), (word,)) for word in ERROR_WORDS), kind


def test_attempts_are_counted_through_fallbacks_and_say_who_was_asked() -> None:
    parts = deps(models=MODELS)
    inner = script(errors.ServerFault("1"), errors.ServerFault("2"), an_answer())
    call = a_call(name="fast", models=MODELS, policy=CallPolicy(retry=Retry(max_retries=1)))
    handler = traced(fallback(retried(journalled(inner, parts), parts), parts), parts)
    answer = run(handler, call)
    assert [(a.number, a.model, a.outcome) for a in answer.attempts] == [
        (1, "echo/small", "ServerFault"),
        (2, "echo/small", "ServerFault"),
        (3, "echo/large", "ok"),
    ]
    assert answer.answered_by == "echo/large"


# -- journalled --------------------------------------------------------------------------------------------------------


def test_intent_is_written_before_it_is_sent_and_the_outcome_before_it_is_used() -> None:
    diary = Diary()

    async def answer(call: Any) -> Any:
        assert diary.lines == [("intend", call.key, 1, "echo/demo", "r-1")]
        return an_answer(provider_request_id="p-1")

    call = a_call(journal=diary)
    response = run(journalled(script(answer), deps()), call)
    kind, key, attempt, settled = diary.lines[1]
    assert (kind, key, settled) == ("settle", call.key, response)
    assert (attempt.number, attempt.outcome, attempt.billed, attempt.usage) == (1, "ok", "yes", response.usage)
    assert (response.request_id, response.answered_by) == ("r-1", "echo/demo")
    assert call.attempts == [attempt]


def test_a_failure_is_settled_with_its_evidence() -> None:
    diary = Diary()
    err = errors.RateLimited("slow down", status=429, raw="{}", billed="no", provider_request_id="p-2")
    with pytest.raises(errors.RateLimited):
        run(journalled(script(err), deps()), a_call(journal=diary))
    attempt, response = diary.lines[1][2:]
    assert response is None
    assert (attempt.outcome, attempt.code, attempt.status, attempt.error, attempt.raw, attempt.provider_request_id) == (
        ("RateLimited", "P420", 429, "slow down", "{}", "p-2")
    )


def test_a_cancelled_attempt_is_settled_as_maybe_billed() -> None:
    diary = Diary()

    async def scene() -> None:
        async def hang(call: Any) -> Any:
            await asyncio.sleep(30)

        task = asyncio.create_task(journalled(script(hang), deps())(a_call(journal=diary)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert [line[0] for line in diary.lines] == ["intend", "settle"]
    assert (diary.lines[1][2].outcome, diary.lines[1][2].billed) == ("Cancelled", "maybe")


def test_cancelled_while_the_intent_is_written_nothing_was_sent() -> None:
    class Slow(Diary):
        async def intend(self, **fields: Any) -> None:
            await super().intend(**fields)
            await asyncio.sleep(30)

    diary, inner = Slow(), script(an_answer())

    async def scene() -> None:
        task = asyncio.create_task(journalled(inner, deps())(a_call(journal=diary)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert inner.calls == []
    assert diary.lines[1][2].billed == "no"


def test_a_journal_that_refuses_the_intent_makes_no_attempt() -> None:
    class Closed(Diary):
        async def intend(self, **fields: Any) -> None:
            err = CallFailed("the run stops")
            err.sent = False
            raise err

    diary, inner, call = Closed(), script(an_answer()), a_call()
    call.journal = diary
    with pytest.raises(CallFailed, match="stops"):
        run(journalled(inner, deps()), call)
    assert (inner.calls, call.attempts, diary.lines) == ([], [], [])


def test_a_mistake_in_the_code_below_is_settled_too() -> None:
    diary = Diary()
    with pytest.raises(ZeroDivisionError):
        run(journalled(script(ZeroDivisionError("oops")), deps()), a_call(journal=diary))
    assert diary.lines[1][2].outcome == "ZeroDivisionError"


def test_secrets_are_taken_out_of_the_evidence_before_it_goes_anywhere() -> None:
    diary, lines = Diary(), Lines()
    parts = deps(redactor=Redactor(["canary-123456"]), logger=lines)
    err = errors.KeyRefused("bad key canary-123456", raw="got canary-123456", details={"k": ["canary-123456"]})
    with pytest.raises(errors.KeyRefused) as caught:
        run(journalled(script(err), parts), a_call(journal=diary))
    told = [str(caught.value), caught.value.message, caught.value.raw, caught.value.details, diary.lines, lines.kept]
    assert "canary" not in repr(told)
    assert "bad key" in str(caught.value)


# -- traced ------------------------------------------------------------------------------------------------------------


def test_each_attempt_has_one_line() -> None:
    lines = Lines()
    parts = deps(logger=lines)
    run(traced(retried(journalled(script(errors.ServerFault("a"), an_answer()), parts), parts), parts), a_call())
    assert [(k["event"], k["attempt"], k.get("error_type")) for k in lines.kept] == [
        ("llm_call_failed", 1, "ServerFault"),
        ("llm_call_ok", 2, None),
    ]
    assert all({"request_id", "model", "latency_s", "attempt"} <= k.keys() for k in lines.kept)
    assert {k["request_id"] for k in lines.kept} == {"r-1"}


def test_a_cache_hit_has_a_line_of_its_own() -> None:
    lines = Lines()
    run(traced(script(an_answer(cached=True, answered_by="echo/demo")), deps(logger=lines)), a_call())
    assert [(k["event"], k["model"], k["attempt"]) for k in lines.kept] == [("llm_cache_hit", "echo/demo", 0)]


def test_an_end_that_is_no_attempt_has_a_line_too() -> None:
    lines, clock = Lines(), HandClock()
    parts = deps(clock, logger=lines)
    inner = script(errors.RateLimited("slow", retry_after=999.0))
    with pytest.raises(errors.RetryAfterTooLong) as caught:
        run(traced(retried(journalled(inner, parts), parts), parts), a_call())
    assert [k["error_type"] for k in lines.kept] == ["RateLimited", "RetryAfterTooLong"]
    assert caught.value.request_id == "r-1"
    assert [a.outcome for a in caught.value.attempts] == ["RateLimited"]


def test_data_never_becomes_the_message_of_a_line() -> None:
    lines = Lines()
    parts = deps(logger=lines)
    with pytest.raises(errors.ServerFault):
        run(traced(journalled(script(errors.ServerFault("{braces} <red>%s")), parts), parts), a_call("{x}"))
    assert {k["event"] for k in lines.kept} == {"llm_call_failed"}
