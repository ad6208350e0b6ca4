"""The cache layer: what is answered from it, what is kept, and how two buyers take turns."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe import errors
from llmpipe.client.cache import SimpleMemoryCache
from llmpipe.client.disk_cache import DiskCache
from llmpipe.client.layers.cached import cached
from llmpipe.client.layers.total import total_timeout
from llmpipe.errors import CallFailed
from llmpipe.policy import CachePolicy, CallPolicy, Timeout
from tests.client.things import HandClock, a_call, an_answer, deps, script

SOURCE = Path(__file__).resolve().parents[2] / "src"


def run(handler: Any, call: Any) -> Any:
    return asyncio.run(handler(call))


def policy(**cache: Any) -> CallPolicy:
    return CallPolicy(cache=CachePolicy(**cache))


def test_the_second_time_nobody_is_asked_and_it_costs_nothing() -> None:
    inner = script(an_answer(cost_usd=Decimal(1), answered_by="echo/demo"))
    handler = cached(inner, deps(cache=SimpleMemoryCache()))
    first, second = run(handler, a_call()), run(handler, a_call())
    assert len(inner.calls) == 1
    assert (first.cached, first.cost_usd) == (False, Decimal(1))
    assert (second.cached, second.cost_usd, second.text) == (True, Decimal(0), "yes")
    assert (second.usage, second.answered_by) == (first.usage, "echo/demo")


def test_another_question_is_asked() -> None:
    inner = script(an_answer())
    handler = cached(inner, deps(cache=SimpleMemoryCache()))
    for prompt in ("a", "b", "a"):
        run(handler, a_call(prompt))
    assert len(inner.calls) == 2


@pytest.mark.parametrize(
    ("read", "write", "asked"), [(True, True, 1), (True, False, 2), (False, True, 2), (False, False, 2)]
)
def test_reading_and_writing_are_as_the_policy_says(read: bool, write: bool, asked: int) -> None:
    cache, inner = SimpleMemoryCache(), script(an_answer())
    handler = cached(inner, deps(cache=cache))
    for _ in range(2):
        run(handler, a_call(policy=policy(read=read, write=write)))
    assert (len(inner.calls), len(cache)) == (asked, int(write))


def test_refresh_writes_what_later_calls_read() -> None:
    inner = script(an_answer("old"), an_answer("new"))
    handler = cached(inner, deps(cache=SimpleMemoryCache()))
    run(handler, a_call())
    run(handler, a_call(policy=policy(read=False)))
    assert str(run(handler, a_call())) == "new"


def test_an_answer_older_than_the_ttl_is_asked_for_again() -> None:
    clock, inner = HandClock(), script(an_answer("old"), an_answer("new"))
    handler = cached(inner, deps(clock, cache=SimpleMemoryCache()))
    run(handler, a_call())
    clock.now += 100
    assert str(run(handler, a_call(policy=policy(ttl_s=101)))) == "old"
    assert str(run(handler, a_call(policy=policy(ttl_s=99)))) == "new"
    assert str(run(handler, a_call(policy=policy(ttl_s=99)))) == "new"


@pytest.mark.parametrize("kind", [errors.Refused, errors.Truncated, errors.EmptyAnswer, errors.ServerFault])
def test_errors_are_never_kept(kind: type[CallFailed]) -> None:
    cache = SimpleMemoryCache()
    handler = cached(script(kind("no"), an_answer()), deps(cache=cache))
    with pytest.raises(kind):
        run(handler, a_call())
    assert len(cache) == 0
    assert str(run(handler, a_call())) == "yes"


@pytest.mark.parametrize("answer", [an_answer(""), an_answer(" \n"), an_answer("part", finish="length")], ids=repr)
def test_no_answer_is_never_kept(answer: Any) -> None:
    cache = SimpleMemoryCache()
    run(cached(script(answer), deps(cache=cache)), a_call())
    assert len(cache) == 0


def test_a_damaged_entry_is_a_miss_and_replaced() -> None:
    cache, inner = SimpleMemoryCache(), script(an_answer())
    asyncio.run(cache.put(a_call().key, b"llmpipe-response/1 damaged"))
    handler = cached(inner, deps(cache=cache))
    assert [run(handler, a_call()).cached for _ in range(2)] == [False, True]


def test_without_a_cache_it_only_hands_on() -> None:
    inner = script(an_answer())
    assert str(run(cached(inner, deps()), a_call())) == "yes"


def test_offline_a_hit_is_answered_and_a_miss_is_not_sent() -> None:
    inner, parts = script(an_answer()), deps(cache=SimpleMemoryCache())
    run(cached(inner, parts), a_call("known"))
    offline = CallPolicy(offline=True)
    assert run(cached(inner, parts), a_call("known", policy=offline)).cached
    for cache in (parts.cache, None):
        with pytest.raises(errors.NotRecorded) as caught:
            run(cached(inner, deps(cache=cache)), a_call("unknown", policy=offline))
        assert not caught.value.sent
    assert len(inner.calls) == 1


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_two_buyers_of_the_same_answer_take_turns(kind: str, tmp_path: Path) -> None:
    """Two stacks on one cache, as two processes have: without single-flight between them, only one asks."""
    caches: list[Any] = [SimpleMemoryCache()] * 2
    if kind == "disk":
        caches = [DiskCache(tmp_path / "cache"), DiskCache(tmp_path / "cache")]

    async def slow(call: Any) -> Any:
        await asyncio.sleep(0.1)
        return an_answer()

    inner = script(slow)

    async def scene() -> list[Any]:
        handlers = [cached(inner, deps(cache=c, sleep=asyncio.sleep)) for c in caches]
        return await asyncio.gather(*(h(a_call()) for h in handlers))

    answers = asyncio.run(scene())
    assert sorted(a.cached for a in answers) == [False, True]
    assert len(inner.calls) == 1
    for cache in caches:
        cache.close()


def test_who_fails_to_buy_gives_the_claim_back() -> None:
    cache = SimpleMemoryCache()
    inner = script(errors.ServerFault("no"), an_answer())

    async def scene() -> list[Any]:
        handler = cached(inner, deps(cache=cache, sleep=asyncio.sleep))
        return await asyncio.gather(handler(a_call()), handler(a_call()), return_exceptions=True)

    first, second = asyncio.run(scene())
    assert isinstance(first, errors.ServerFault)
    assert str(second) == "yes"
    assert cache.claim(a_call().key, 1)


def test_the_wait_for_another_buyer_is_bounded_by_the_total() -> None:
    cache, clock, inner = SimpleMemoryCache(), HandClock(), script(an_answer())
    call = a_call(policy=CallPolicy(timeout=Timeout(total=30.0)))
    assert cache.claim(call.key, 10_000)
    assert str(run(cached(inner, deps(clock, cache=cache)), call)) == "yes"
    assert 30 <= sum(clock.slept) <= 32
    assert max(clock.slept) == 1.0
    assert not cache.claim(call.key, 1)  # the other one's claim is still its own


def test_waiting_for_another_buyer_starts_no_clock() -> None:
    """The total runs from the first admission: it stands inside the cache."""
    cache, clock = SimpleMemoryCache(), HandClock()
    parts = deps(clock, cache=cache)
    call = a_call(policy=CallPolicy(timeout=Timeout(total=30.0)))
    cache.claim(call.key, 10_000)
    run(cached(total_timeout(script(an_answer()), parts), parts), call)
    assert call.deadline.at is None


def test_two_processes_at_once_do_not_buy_the_same_answers(tmp_path: Path) -> None:
    """Both ask the same twenty questions at the same time, as two overlapping cron jobs do."""
    code = (
        "import asyncio, sys; from pathlib import Path; from llmpipe import *\n"
        "class Silent:\n"
        "    def bind(self, **f): return self\n"
        "    def info(self, m): pass\n"
        f"cache = DiskCache(Path({str(tmp_path / 'cache')!r}))\n"
        "client = LLMClient(cache=cache, logger=Silent())\n"
        "async def main():\n"
        "    asks = [LLMRequest(model='demo', prompt=str(n), latency_s=0.3) for n in range(20)]\n"
        "    sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "    answers = await asyncio.gather(*(client.acall(a) for a in asks))\n"
        "    print(sum(not a.cached for a in answers), len({str(a) for a in answers}))\n"
        "    await client.aclose()\n"
        "asyncio.run(main()); cache.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [[int(word) for word in process.communicate(timeout=60)[0].split()] for process in processes]
    assert sum(bought for bought, _ in told) == 20
    assert [answers for _, answers in told] == [20, 20]


@pytest.mark.parametrize(
    ("age", "ttl", "asked"),
    [(10.0, None, 1), (10.0, 10.0, 1), (10.0, 9.9, 2), (-10.0, 10.0, 1), (-10.0, 9.9, 2), (0.0, 0.0, 1)],
)
def test_an_answer_is_read_up_to_its_age_by_a_clock_that_may_have_been_ahead(
    age: float, ttl: float | None, asked: int
) -> None:
    clock, inner = HandClock(), script(an_answer())
    handler = cached(inner, deps(clock, cache=SimpleMemoryCache()))
    run(handler, a_call())
    clock.now += age
    run(handler, a_call(policy=policy(ttl_s=ttl)))
    assert len(inner.calls) == asked


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ({}, 1),
        ({"finish": "length"}, 0),
        ({"finish": "stop", "text": " \n"}, 0),
        ({"finish": "stop", "text": ""}, 0),
        ({"text": " a "}, 1),
    ],
)
def test_only_whole_answers_are_kept(answer: dict[str, Any], kept: int) -> None:
    cache = SimpleMemoryCache()
    run(cached(script(an_answer(**answer)), deps(cache=cache)), a_call())
    assert len(cache) == kept


@pytest.mark.parametrize(
    ("timeout", "patience"),
    [
        (Timeout(total=3.0, attempt=1.0), 3.0),
        (Timeout(total=None, attempt=2.0), 2.0),
        (Timeout(total=0.0, attempt=1.0), 0.0),
        (Timeout(total=None, attempt=None), 600.0),
    ],
)
def test_the_wait_for_another_buyer_doubles_up_to_a_second_and_ends_with_the_calls_clock(
    timeout: Timeout, patience: float
) -> None:
    clock, cache, inner = HandClock(), SimpleMemoryCache(), script(an_answer())
    call = a_call(policy=CallPolicy(timeout=timeout))
    assert cache.claim(call.key, 10_000.0)
    run(cached(inner, deps(clock, cache=cache)), call)
    pauses = [0.05, 0.1, 0.2, 0.4, 0.8] + [1.0] * 600
    expected, waited = [], 0.0
    for pause in pauses:
        if waited >= patience - 1e-6:
            break
        expected.append(pause)
        waited += pause
    assert clock.slept == expected
    assert (len(inner.calls), len(cache), call.claimed) == (1, 1, False)
    assert not cache.claim(call.key, 1.0), "the other one's claim is not given back"


def test_a_claim_is_given_back_when_the_answer_is_there_and_when_the_call_fails() -> None:
    for step in (an_answer(), errors.ServerFault("down")):
        cache, seen = SimpleMemoryCache(), list[bool]()

        async def look(call: Any) -> Any:
            seen.extend((call.claimed, cache.claim(call.key, 1.0)))  # noqa: B023
            if isinstance(step, CallFailed):  # noqa: B023
                raise step  # noqa: B023
            return step  # noqa: B023

        call = a_call()
        try:
            run(cached(script(look), deps(cache=cache)), call)
        except errors.ServerFault:
            assert len(cache) == 0
        assert seen == [True, False]
        assert cache.claim(call.key, 1.0)
