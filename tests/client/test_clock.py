"""Clocks: up when the time is up, never before, and no other cancellation is taken for theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llmpipe.client.awake import Awake, Look
from llmpipe.client.clock import Clock, awake_time, paused


async def wait(seconds: float | None, sleep: float = 60.0) -> float:
    """How long it took until the clock ended a sleep."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), Clock(seconds):
        await asyncio.sleep(sleep)
    return asyncio.get_running_loop().time() - started


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, -1.0])
def test_time_is_up_neither_early_nor_much_later(seconds: float) -> None:
    took = asyncio.run(wait(seconds))
    assert max(0.0, seconds) <= took < max(0.0, seconds) + 10


def test_many_clocks_ring_for_themselves() -> None:
    async def main() -> list[float]:
        return await asyncio.gather(*(wait(0.02 * n) for n in range(20)))

    for n, took in enumerate(asyncio.run(main())):
        assert 0.02 * n <= took < 0.02 * n + 10


def test_a_clock_that_is_set_again_counts_from_then_on() -> None:
    async def main() -> tuple[float, bool]:
        started = time.monotonic()
        with Clock(0.05) as never:
            never.set(None)
            await asyncio.sleep(0.12)
        with pytest.raises(TimeoutError), Clock(30.0) as clock:  # noqa: PT012 - the clock is what raises
            clock.set(0.1)
            await asyncio.sleep(60)
        return time.monotonic() - started, clock.expired and not never.expired

    took, right = asyncio.run(main())
    assert right
    assert 0.2 < took < 20


def test_what_ends_in_time_leaves_nothing_behind() -> None:
    async def main() -> bool:
        with Clock(0.03) as short, Clock(None), Clock(600.0) as long:
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        task = asyncio.current_task()
        assert task is not None
        return not short.expired and not long.expired and task.cancelling() == 0

    assert asyncio.run(main())


def test_another_error_passes_as_it_is() -> None:
    async def main() -> None:
        with Clock(1.0):
            raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_a_cancellation_from_outside_is_not_the_clocks() -> None:
    async def main() -> bool:
        async def work() -> None:
            with Clock(10.0) as clock:
                clocks.append(clock)
                await asyncio.sleep(60)

        clocks: list[Clock] = []
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clocks[0].expired

    assert asyncio.run(main()) is False


def test_a_cancellation_at_the_very_time_wins() -> None:
    """Both at once: the task was asked to end, and that must not be lost as a mere timeout."""

    async def main() -> None:
        async def work() -> None:
            with Clock(0.02) as clock:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    assert clock.expired
                    inner = asyncio.current_task()
                    assert inner is not None
                    inner.cancel()
                    raise

        task = asyncio.create_task(work())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("first", ["inner", "outer"])
def test_of_two_clocks_the_one_that_is_up_is_named(first: str) -> None:
    async def main() -> str:
        outer, inner = Clock(0.05 if first == "outer" else 60.0), Clock(0.05 if first == "inner" else 60.0)
        try:
            with outer:
                try:
                    with inner:
                        await asyncio.sleep(60)
                except TimeoutError:
                    return "inner" if inner.expired else "wrong"
        except TimeoutError:
            return "outer" if outer.expired and not inner.expired else "wrong"
        return "none"

    assert asyncio.run(main()) == first


def test_it_does_what_the_standard_library_does() -> None:
    async def outcome(bound: Callable[[], Any], body: Callable[[], Awaitable[None]]) -> str:
        try:
            clock = bound()
            if isinstance(clock, Clock):
                with clock:
                    await body()
            else:
                async with clock:
                    await body()
        except BaseException as error:  # noqa: BLE001 - whatever comes is compared
            return type(error).__name__
        return "none"

    async def swallows() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    async def changes() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise OSError from error

    async def main() -> None:
        for body in (swallows, changes, lambda: asyncio.sleep(60), lambda: asyncio.sleep(0)):
            ours = await asyncio.create_task(outcome(lambda: Clock(0.02), body))
            theirs = await asyncio.create_task(outcome(lambda: asyncio.timeout(0.02), body))
            assert ours == theirs

    asyncio.run(main())


# -- a process that is stopped -----------------------------------------------------------------------------------------


def test_only_time_that_is_neither_waited_nor_worked_is_lost() -> None:
    awake = Awake()
    for at, cpu in [(0.0, 0.0), (0.5, 0.01), (1.0, 0.02), (61.0, 60.0), (61.5, 60.1)]:  # a loop that was busy
        awake.look(Look(at, cpu))
    assert awake.lost == 0.0
    awake.look(Look(72.0, 60.1))
    assert awake.lost == pytest.approx(10.0)
    awake.look(Look(73.4, 60.1))  # a busy machine
    assert awake.lost == pytest.approx(10.0)
    awake.pause()
    awake.look(Look(500.0, 61.0))  # nobody looked meanwhile
    assert awake.lost == pytest.approx(10.0)


class JumpyLoop(asyncio.SelectorEventLoop):
    """A loop whose time can jump, as it does over a SIGSTOP."""

    jumped = 0.0

    def time(self) -> float:
        return super().time() + self.jumped


def run_jumpy(main: Callable[[JumpyLoop], Awaitable[Any]]) -> Any:
    async def started() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpyLoop)
        return await main(loop)

    with asyncio.Runner(loop_factory=JumpyLoop) as runner:
        return runner.run(started())


@pytest.mark.parametrize("seconds", [3.0, 5.0, 120.0])
def test_what_came_while_the_process_was_stopped_is_read_before_the_time_is_up(seconds: float) -> None:
    """It takes some turns of the loop until it is with the task."""

    async def main(loop: JumpyLoop) -> tuple[str, float]:
        arrived = loop.create_future()
        now = awake_time()
        started = now()
        with Clock(seconds):
            await asyncio.sleep(0.01)
            loop.jumped += 1000.0
            loop.call_later(0.2, arrived.set_result, "answer")
            return await arrived, now() - started

    answer, took = run_jumpy(main)
    assert answer == "answer"
    assert took < 10.0


def test_after_a_stop_the_rest_of_the_time_is_left_and_no_more() -> None:
    async def main(loop: JumpyLoop) -> float:
        with pytest.raises(TimeoutError), Clock(2.0):  # noqa: PT012 - the clock is what raises
            await asyncio.sleep(0.5)
            loop.jumped += 1000.0
            resumed = loop.time()
            await asyncio.sleep(3000)
        return loop.time() - resumed

    assert 0.9 < run_jumpy(main) < 30.0


def test_a_clock_that_is_set_after_a_stop_gains_nothing_from_it() -> None:
    async def main(loop: JumpyLoop) -> float:
        with Clock(900.0):
            await asyncio.sleep(0.01)
            loop.jumped += 1000.0
            started = loop.time()
            with pytest.raises(TimeoutError), Clock(0.1):
                await asyncio.sleep(3000)
            return loop.time() - started

    assert 0.1 <= run_jumpy(main) < 5.0


def test_a_loop_that_was_busy_gives_a_moment_and_no_more() -> None:
    async def main(loop: JumpyLoop) -> float:
        with pytest.raises(TimeoutError), Clock(0.1):  # noqa: PT012 - the clock is what raises
            await asyncio.sleep(0.01)
            started = time.process_time()
            while time.process_time() - started < 1.4:
                pass
            ended = loop.time()
            await asyncio.sleep(3000)
        return loop.time() - ended

    assert run_jumpy(main) < 10.0


def test_after_a_pause_a_clock_goes_on_with_what_was_left_and_one_that_stood_stays_so() -> None:
    async def main() -> tuple[bool, bool]:
        with pytest.raises(TimeoutError), Clock(None) as standing, Clock(0.05) as clock:  # noqa: PT012 - the clock is what raises
            for _ in range(3):
                with paused():
                    assert (clock.stop(), standing.stop()) == (None, None)
                    await asyncio.sleep(0)
            await asyncio.sleep(60)
        return clock.expired, standing.expired

    assert asyncio.run(main()) == (True, False)


def test_a_clock_that_was_left_does_not_ring() -> None:
    async def main() -> list[Any]:
        loop, troubles = asyncio.get_running_loop(), list[Any]()
        loop.set_exception_handler(lambda _, trouble: troubles.append(trouble))
        for seconds in (0.0, 0.01, 0.02):
            with Clock(seconds):
                pass
        await asyncio.sleep(0.08)
        return troubles

    assert asyncio.run(main()) == []
