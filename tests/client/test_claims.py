"""Claims on answers by processes that share a cache, some of which are stopped; their time is turned by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmpipe.client.claims import LAPSE_S, STALE_S, Claims
from tests.client.things import HandClock

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def three(tmp_path: Path, clock: HandClock) -> Iterator[list[Claims]]:
    """Three that share a file; each has an open file of its own, as processes have."""
    all_ = [Claims(tmp_path / "claims.lock", clock=clock, every_s=None) for _ in range(3)]
    yield all_
    for claims in all_:
        claims.close()


def waited(claims: Claims, clock: HandClock, seconds: float, *beating: Claims, key: str = KEY) -> bool:
    """Whether a look a second brings the claim within so many seconds, while others are at work."""
    for _ in range(int(seconds)):
        if claims.claim(key, 600):
            return True
        clock.now += 1
        for other in beating:
            other.beat()
    return False


def test_a_claim_of_one_that_is_at_work_is_not_taken_over(three: list[Claims], clock: HandClock) -> None:
    first, second, _ = three
    assert first.claim(KEY, 10_000)
    assert not waited(second, clock, 40 * STALE_S, first)
    first.release(KEY)
    assert second.claim(KEY, 600)


def test_a_claim_of_one_that_is_stopped_is_taken_over_by_one_after_a_while(
    three: list[Claims], clock: HandClock
) -> None:
    first, second, third = three
    assert first.claim(KEY, 10_000)
    assert not waited(second, clock, STALE_S)
    assert waited(second, clock, 3)
    assert not waited(third, clock, 3 * STALE_S, second)
    assert not second.claim(KEY, 600)
    second.release(KEY)
    assert third.claim(KEY, 600) or waited(third, clock, STALE_S + 3)


def test_of_several_that_wait_for_one_that_is_stopped_one_takes_over(three: list[Claims], clock: HandClock) -> None:
    first, second, third = three
    assert first.claim(KEY, 10_000)
    taken: list[Claims] = []
    for _ in range(int(4 * STALE_S)):
        clock.now += 1
        taken += [one for one in (second, third) if one not in taken and one.claim(KEY, 600)]
        for one in taken:
            one.beat()
    assert taken == [second]


def test_one_that_was_stopped_knows_that_its_claims_may_be_gone(three: list[Claims], clock: HandClock) -> None:
    first = three[0]
    assert first.claim(KEY, 10_000)
    clock.now += LAPSE_S - 1
    assert first.holds(KEY)
    first.beat()
    clock.now += LAPSE_S
    assert not first.holds(KEY)  # before its own beat
    first.beat()
    assert not first.holds(KEY)  # and after it
    assert first.claim(OTHER, 600)
    assert first.holds(OTHER)
    first.release(KEY)
    assert first.claim(KEY, 600)
    assert first.holds(KEY)


def test_one_that_comes_back_waits_for_the_one_that_took_over(three: list[Claims], clock: HandClock) -> None:
    first, second, third = three
    assert first.claim(KEY, 10_000)
    assert waited(second, clock, STALE_S + 3)
    first.release(KEY)
    assert not waited(first, clock, 3 * STALE_S, second)
    assert not waited(third, clock, 3 * STALE_S, second)
    second.release(KEY)
    assert first.claim(KEY, 600)


def test_one_that_looks_after_it_was_stopped_itself_does_not_take_the_others_for_dead(
    three: list[Claims], clock: HandClock
) -> None:
    first, second, _ = three
    assert first.claim(KEY, 10_000)
    assert not second.claim(KEY, 600)
    clock.now += 100 * STALE_S  # the host slept; nobody had a beat
    assert not second.claim(KEY, 600)
    first.beat()
    assert not waited(second, clock, STALE_S - 2)


def test_a_process_claims_a_key_once_until_it_gives_it_back_or_its_time_is_over(
    three: list[Claims], clock: HandClock
) -> None:
    first, second, _ = three
    assert first.claim(KEY, 5.0)
    assert not first.claim(KEY, 5.0)
    assert first.claim(OTHER, 5.0)
    first.release(OTHER)
    first.release(OTHER)
    assert second.claim(OTHER, 5.0)
    clock.now += 4.9
    assert not first.claim(KEY, 5.0)
    clock.now += 0.1
    assert first.claim(KEY, 5.0)
    assert not second.claim(KEY, 5.0)
    first.close()
    assert second.claim(KEY, 5.0)


@pytest.mark.parametrize(("pause", "holds"), [(0.0, True), (7.4, True), (7.5, False)])
def test_a_claim_is_trusted_for_seven_and_a_half_seconds_without_a_beat(
    three: list[Claims], clock: HandClock, pause: float, holds: bool
) -> None:
    first = three[0]
    assert first.holds(KEY), "what was never claimed is nobody's to lose"
    assert first.claim(KEY, 600)
    clock.now += pause
    assert first.holds(KEY) is holds
    first.beat()
    assert first.holds(KEY) is holds
    clock.now += 7.4
    first.beat()
    assert first.holds(KEY) is holds


def test_a_stopped_holder_is_waited_for_15_seconds_of_looks_of_which_none_counts_more_than_2(
    three: list[Claims], clock: HandClock
) -> None:
    first, second, third = three
    assert first.claim(KEY, 600)
    for looker, step, looks in ((second, 0.5, 30), (third, 100.0, 8)):
        made = 0
        while not looker.claim(KEY, 600):
            clock.now += step
            made += 1
        assert made == looks
