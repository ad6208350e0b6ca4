"""What a batch's work raises reaches each of its callers, and the next batch is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from llmpipe.client.batches import Batches
from tests.short_of_memory import run_short_of_memory


def test_a_fault_of_the_work_reaches_all_who_wait_and_ends_nothing_else() -> None:
    def work(jobs: Sequence[str]) -> list[int]:
        return [len(job.encode()) for job in jobs]

    async def main() -> tuple[list[object], int | None]:
        batches = Batches("test", work, lambda: None)
        failed = await asyncio.wait_for(
            asyncio.gather(batches.ask("\ud800"), batches.ask("b"), return_exceptions=True), 60
        )
        after = await asyncio.wait_for(batches.ask("é"), 60)
        batches.close()
        return failed, after

    failed, after = asyncio.run(main())
    assert [type(f) for f in failed] == [UnicodeEncodeError, UnicodeEncodeError]
    assert after == 2


def test_a_closed_batch_answers_none() -> None:
    async def main() -> object:
        batches: Batches[str, str] = Batches("test", list, lambda: None)
        batches.close()
        return await batches.ask("x")

    assert asyncio.run(main()) is None


def test_a_thread_without_memory_leaves_nobody_waiting() -> None:
    async def main() -> str | None:
        batches: Batches[str, str] = Batches("test", list, lambda: None)
        with pytest.raises(MemoryError):
            await asyncio.wait_for(batches.ask("x"), 60)
        after = await asyncio.wait_for(batches.ask("y"), 60)
        batches.close()
        return after

    assert run_short_of_memory(main()) == "y"
