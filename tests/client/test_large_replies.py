"""The room that large replies share: bounded, in order, and never a cause to wait for ever or to run out of time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from llmpipe.client.clock import Clock
from llmpipe.client.large_replies import READING_BYTES, SMALL_BYTES, WORKING_BYTES, Room, Share, unbounded

KB = 1024


def test_small_replies_take_nothing() -> None:
    async def main() -> int:
        room = Room(10)
        share = Share(room)
        await share.hold(SMALL_BYTES)
        return room.held

    assert asyncio.run(main()) == 0


def test_what_is_held_grows_with_the_reply_and_is_given_back_whole() -> None:
    async def main() -> list[int]:
        room, seen = Room(1000 * KB), []
        share = Share(room)
        for size in (100 * KB, 300 * KB, 200 * KB):
            await share.hold(size)
            seen.append(room.held)
        share.release()
        share.release()
        return [*seen, room.held]

    base = SMALL_BYTES
    assert asyncio.run(main()) == [100 * KB - base, 300 * KB - base, 300 * KB - base, 0]


def test_one_that_is_larger_than_the_room_goes_alone() -> None:
    async def main() -> list[str]:
        room, story = Room(100 * KB), []

        async def call(name: str, size: int) -> None:
            share = Share(room)
            try:
                await share.hold(size)
                story.append(f"{name} in")
                await asyncio.sleep(0)
                story.append(f"{name} out")
            finally:
                share.release()

        await asyncio.gather(call("large", 8000 * KB), call("one", 100 * KB), call("two", 100 * KB))
        return story

    assert asyncio.run(main()) == ["large in", "large out", "one in", "two in", "one out", "two out"]


def test_many_that_grow_at_once_all_come_to_an_end_within_the_bound_and_one_reply() -> None:
    rng = random.Random(3)

    async def main() -> int:
        room, most = Room(1000 * KB), 0

        async def call(size: int) -> None:
            nonlocal most
            share = Share(room)
            try:
                for so_far in range(50 * KB, size, 50 * KB):
                    await share.hold(so_far)
                    most = max(most, room.held)
                    await asyncio.sleep(0)
            finally:
                share.release()

        await asyncio.wait_for(asyncio.gather(*(call(rng.randint(100, 2000) * KB) for _ in range(64))), 60)
        assert room.held == 0
        return most

    assert 1000 * KB - SMALL_BYTES < asyncio.run(main()) <= 3000 * KB


def test_cancelling_those_who_wait_leaves_nothing_behind() -> None:
    async def main() -> tuple[int, bool]:
        room = Room(100 * KB)
        first = Share(room)
        await first.hold(150 * KB)

        async def call() -> None:
            share = Share(room)
            try:
                await share.hold(150 * KB)
            finally:
                share.release()

        tasks = [asyncio.create_task(call()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks[:4]:
            task.cancel()
        await asyncio.gather(*tasks[:4], return_exceptions=True)
        first.release()
        await asyncio.wait_for(tasks[4], 10)
        return room.held, room.grant(Share(room), 90 * KB)

    assert asyncio.run(main()) == (0, True)


def test_no_clock_runs_while_a_reply_waits_for_room() -> None:
    async def main() -> str:
        room = Room(100 * KB)
        first, second = Share(room), Share(room)
        await first.hold(150 * KB)
        loop = asyncio.get_running_loop()
        loop.call_later(0.4, first.release)
        with Clock(0.2) as outer, Clock(0.1) as inner:
            await second.hold(150 * KB)
            assert not outer.expired
            assert not inner.expired
        with pytest.raises(TimeoutError), Clock(0.05):  # noqa: PT012 - and afterwards they run as before
            other = Share(room)
            await other.hold(KB)
            await asyncio.sleep(30)
        return "read"

    assert asyncio.run(main()) == "read"


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES - 1])
def test_nobody_waits_behind_a_full_room_with_a_small_reply(size: int) -> None:
    async def main() -> Any:
        room = Room(1)
        full = Share(room)
        await full.hold(10 * SMALL_BYTES)
        return await asyncio.wait_for(Share(room).hold(size), 10)

    assert asyncio.run(main()) is None


def test_the_first_share_may_have_more_than_the_room_and_the_others_what_is_left_in_order() -> None:
    async def main() -> None:
        room = Room(100)
        first, second, third = Share(room), Share(room), Share(room)
        assert (room.size, room.held, first.held) == (100, 0, 0)
        assert [room.grant(first, 60), room.grant(second, 41), room.grant(second, 40)] == [True, False, True]
        assert (room.held, first.held, second.held) == (100, 60, 40)
        assert room.grant(first, 50), "the first is never kept waiting"
        assert (room.held, first.held) == (150, 110)
        later = [asyncio.create_task(room.wait(share, count)) for share, count in ((third, 30), (second, 30))]
        await asyncio.sleep(0)
        assert not room.grant(first, 1), "others wait"
        assert (room.held, [task.done() for task in later]) == (150, [False, False])
        room.leave(first)
        assert (room.held, first.held, second.held, third.held) == (100, 0, 70, 30)
        await asyncio.gather(*later)
        room.leave(first)
        assert room.held == 100
        room.leave(second)
        assert (room.held, second.held) == (30, 0)
        assert room.grant(third, 70)
        room.leave(third)
        assert room.held == 0

    asyncio.run(main())


def test_the_first_share_is_served_before_others_that_asked_earlier() -> None:
    async def main() -> None:
        room = Room(100)
        first, second = Share(room), Share(room)
        room.grant(first, 100)
        other = asyncio.create_task(room.wait(second, 10))
        await asyncio.sleep(0)
        await asyncio.wait_for(room.wait(first, 500), 60)
        assert (room.held, first.held, other.done()) == (600, 600, False)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        assert room.grant(first, 1), "nobody waits any more"
        room.leave(first)
        assert room.held == 0

    asyncio.run(main())


def test_what_is_held_of_a_reply_is_what_it_has_beyond_64_kb() -> None:
    async def main() -> list[int]:
        share, seen = unbounded(), []
        for size in (64 * KB, 64 * KB + 1, 100 * KB, 100 * KB, 65 * KB, 9000 * KB):
            await share.hold(size)
            seen.append(share.held)
        share.release()
        return [*seen, share.held]

    assert asyncio.run(main()) == [0, 1, 36 * KB, 36 * KB, 36 * KB, 8936 * KB, 0]
    assert (READING_BYTES, WORKING_BYTES) == (67_108_864, 4_194_304)
