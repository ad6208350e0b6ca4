"""Equal requests in flight are asked once, and nobody is left without an end."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from llmpipe import errors
from llmpipe.client.layers.single_flight import single_flight
from llmpipe.errors import CallFailed
from llmpipe.policy import CachePolicy, CallPolicy
from llmpipe.types import LLMResponse
from tests.client.things import a_call, an_answer, deps, script


async def together(handler: Any, calls: list[Any]) -> list[Any]:
    return await asyncio.gather(*(handler(c) for c in calls), return_exceptions=True)


def slowly(outcome: LLMResponse | CallFailed) -> Any:
    async def step(call: Any) -> LLMResponse:
        await asyncio.sleep(0.01)
        if isinstance(outcome, CallFailed):
            raise outcome
        return outcome

    return step


def test_equal_requests_in_flight_are_asked_once() -> None:
    inner = script(slowly(an_answer(cost_usd=Decimal("0.5"))))
    answers = asyncio.run(together(single_flight(inner, deps()), [a_call() for _ in range(5)]))
    assert len(inner.calls) == 1
    assert [str(a) for a in answers] == ["yes"] * 5
    assert [a.cost_usd for a in answers] == [Decimal("0.5")] + [Decimal(0)] * 4
    assert [a.notes for a in answers] == [()] + [("shared",)] * 4


def test_requests_that_differ_fly_alone() -> None:
    inner = script(slowly(an_answer()))
    calls = [a_call("a"), a_call("b"), a_call("a", sample=1)]
    asyncio.run(together(single_flight(inner, deps()), calls))
    assert len(inner.calls) == 3


def test_one_after_the_other_both_are_asked() -> None:
    inner = script(an_answer())
    handler = single_flight(inner, deps())

    async def scene() -> None:
        await handler(a_call())
        await handler(a_call())

    asyncio.run(scene())
    assert len(inner.calls) == 2


def test_who_must_not_read_the_cache_does_not_follow_who_may() -> None:
    inner = script(slowly(an_answer()))
    refresh = CallPolicy(cache=CachePolicy(read=False))
    asyncio.run(together(single_flight(inner, deps()), [a_call(), a_call(policy=refresh)]))
    assert len(inner.calls) == 2


def test_followers_get_an_error_of_their_own() -> None:
    inner = script(slowly(errors.ContextTooLong("too long", status=400, raw="{}")))
    caught = asyncio.run(together(single_flight(inner, deps()), [a_call() for _ in range(3)]))
    assert len(inner.calls) == 1
    assert {type(e) for e in caught} == {errors.ContextTooLong}
    assert len({id(e) for e in caught}) == 3
    assert [(e.status, e.raw, e.message) for e in caught] == [(400, "{}", "too long")] * 3


@pytest.mark.parametrize(
    "err",
    [errors.CallTimeout("x", clock="idle"), errors.NotJson("x"), errors.BudgetExceeded("x")],
    ids=lambda e: e.kind,
)
def test_every_kind_of_error_can_be_shared(err: CallFailed) -> None:
    caught = asyncio.run(together(single_flight(script(slowly(err)), deps()), [a_call(), a_call()]))
    assert [e.__dict__.keys() for e in caught] == [err.__dict__.keys()] * 2
    assert caught[1].__class__ is err.__class__


def test_a_cancelled_leader_hands_over_to_one_follower() -> None:
    async def scene() -> tuple[Any, list[Any]]:
        inner = script(slowly(an_answer()))
        handler = single_flight(inner, deps())
        leader = asyncio.create_task(handler(a_call()))
        await asyncio.sleep(0)
        followers = [asyncio.create_task(handler(a_call())) for _ in range(3)]
        await asyncio.sleep(0)
        leader.cancel()
        return inner, await asyncio.gather(leader, *followers, return_exceptions=True)

    inner, (leader, *followers) = asyncio.run(scene())
    assert isinstance(leader, asyncio.CancelledError)
    assert [str(f) for f in followers] == ["yes"] * 3
    assert len(inner.calls) == 2


def test_a_cancelled_follower_leaves_the_others_alone() -> None:
    async def scene() -> list[Any]:
        handler = single_flight(script(slowly(an_answer())), deps())
        tasks = [asyncio.create_task(handler(a_call())) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(scene())
    assert (str(first), str(third)) == ("yes", "yes")
    assert isinstance(second, asyncio.CancelledError)


def test_a_leader_out_of_time_hands_over() -> None:
    inner = script(slowly(errors.TotalTimeout("out of time")), slowly(an_answer()))
    first, second, third = asyncio.run(together(single_flight(inner, deps()), [a_call() for _ in range(3)]))
    assert isinstance(first, errors.TotalTimeout)
    assert (str(second), str(third)) == ("yes", "yes")
    assert len(inner.calls) == 2


def test_after_two_leaders_out_of_time_the_rest_give_up() -> None:
    inner = script(slowly(errors.TotalTimeout("out of time")))
    caught = asyncio.run(together(single_flight(inner, deps()), [a_call() for _ in range(20)]))
    assert {type(e) for e in caught} == {errors.TotalTimeout}
    assert len(inner.calls) == 2
