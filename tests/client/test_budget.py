"""The budget: never more than was reserved, whatever the order in which calls end."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.budget import ZERO, Amount, BudgetKeeper, Margin, Shortfall
from llmpipe.errors import BudgetExceeded
from llmpipe.policy import Budget


def usd(cents: int, tokens: int = 0) -> Amount:
    return Amount(Decimal(cents) / 100, tokens, 1)


CALLS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 100), st.integers(0, 3), st.booleans()), min_size=1, max_size=40
)


@given(CALLS, st.integers(0, 200), st.integers(0, 150), st.integers(1, 20))
def test_never_a_cent_a_token_or_a_call_above_the_budget(
    calls: list[tuple[int, int, int, bool]], limit: int, token_limit: int, call_limit: int
) -> None:
    """Each call reserves, works for a few turns of the loop, settles with at most what it reserved, or is cancelled."""
    budget = Budget(usd=Decimal(limit) / 100, tokens=token_limit, calls=call_limit)

    async def call(keeper: BudgetKeeper, cents: int, share: int, turns: int, stop: bool) -> None:
        bound = usd(cents, cents)
        reservation = await keeper.reserve(lambda: bound)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            keeper.settle(reservation, usd(cents * share // 100, cents * share // 100))
            assert keeper.spent_usd + keeper._reserved_usd <= limit
            assert keeper.spent_tokens + keeper._reserved_tokens <= token_limit
            assert keeper.spent_calls + keeper._reserved_calls <= call_limit

    async def main() -> None:
        keeper = BudgetKeeper(budget)
        tasks = [asyncio.create_task(call(keeper, *parts)) for parts in calls]
        await asyncio.sleep(0)
        for task, parts in zip(tasks, calls, strict=True):
            if parts[3]:
                task.cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert all(end is None or isinstance(end, BudgetExceeded | asyncio.CancelledError) for end in ends), ends
        assert keeper._open == 0
        assert (keeper._reserved_usd, keeper._reserved_tokens, keeper._reserved_calls) == (0, 0, 0)
        assert keeper.spent_usd * 100 <= limit
        assert keeper.spent_tokens <= token_limit
        assert keeper.spent_calls <= call_limit

    asyncio.run(main())


def test_what_does_not_fit_waits_for_open_reservations_and_goes_on_with_what_they_left() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(usd=Decimal("1.00")))
        first = await keeper.reserve(lambda: usd(80))
        second = asyncio.create_task(keeper.reserve(lambda: usd(50)))
        await asyncio.sleep(0.01)
        assert not second.done()
        keeper.settle(first, usd(10))
        assert (await second).amount == usd(50)
        assert keeper.spent_usd == Decimal("0.10")

    asyncio.run(main())


def test_when_nothing_is_open_what_does_not_fit_is_exceeded_and_says_by_what() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(usd=Decimal("2.00")), spent_usd=Decimal("1.75"))
        with pytest.raises(
            BudgetExceeded, match=r"\$1\.75 spent, it may cost up to \$0\.26, the limit is \$2\.00"
        ) as caught:
            await keeper.reserve(lambda: usd(26))
        assert caught.value.sent is False
        assert (await keeper.reserve(lambda: usd(25))).open

    asyncio.run(main())


def test_those_who_wait_fail_when_the_last_reservation_left_too_little() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(usd=Decimal("1.00")))
        first = await keeper.reserve(lambda: usd(90))
        large, small = (
            asyncio.create_task(keeper.reserve(lambda: usd(50))),
            asyncio.create_task(keeper.reserve(lambda: usd(5))),
        )
        await asyncio.sleep(0)
        keeper.settle(first, usd(90))
        with pytest.raises(BudgetExceeded):
            await large
        assert (await small).amount == usd(5)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("budget", "spent", "words"),
    [
        (Budget(calls=3), {"spent_calls": 3}, "3 calls are made, the limit is 3"),
        (Budget(tokens=1_000), {"spent_tokens": 1_000}, "1,000 tokens used, it may take up to 1, the limit is 1,000"),
    ],
)
def test_calls_and_tokens_of_earlier_processes_count(budget: Budget, spent: dict[str, Any], words: str) -> None:
    with pytest.raises(BudgetExceeded, match=words):
        asyncio.run(BudgetKeeper(budget, **spent).reserve(lambda: usd(0, 1)))


def test_money_is_not_spent_on_a_model_of_unknown_price() -> None:
    with pytest.raises(BudgetExceeded, match="no known price"):
        asyncio.run(BudgetKeeper(Budget(usd=Decimal(1))).reserve(lambda: Amount(None, 1, 1)))


def test_without_a_limit_in_money_an_unknown_price_is_counted_apart() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(calls=5))
        keeper.settle(await keeper.reserve(lambda: Amount(None, 1, 1)), Amount(None, 1, 1))
        assert (keeper.unpriced_calls, keeper.spent_usd, keeper.spent_calls) == (1, 0, 1)

    asyncio.run(main())


def test_the_wall_limit_stops_new_calls_and_those_who_wait() -> None:
    now = [100.0]

    async def main() -> None:
        keeper = BudgetKeeper(Budget(wall_s=60, calls=1), clock=lambda: now[0])
        assert keeper.left_s() == 60
        await keeper.reserve(lambda: usd(0))
        now[0] = 159.95
        with pytest.raises(BudgetExceeded, match="wall limit of 60 s"):
            await keeper.reserve(lambda: usd(0))
        now[0] = 161
        with pytest.raises(BudgetExceeded, match="wall limit"):
            await keeper.reserve(lambda: usd(0))
        assert keeper.left_s() == 0

    asyncio.run(main())


def test_settling_twice_counts_once() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(calls=5))
        reservation = await keeper.reserve(lambda: usd(1))
        keeper.settle(reservation, usd(1))
        keeper.settle(reservation, usd(1))
        assert keeper.spent_calls == 1

    asyncio.run(main())


def test_a_margin_holds_for_those_who_wait_already() -> None:
    """The first reply takes five times what was reserved: the one that waits is asked anew and no longer fits."""

    async def main() -> None:
        keeper = BudgetKeeper(Budget(usd=Decimal("1.00")))
        margins = [1]
        first = await keeper.reserve(lambda: usd(60))
        second = asyncio.create_task(keeper.reserve(lambda: usd(50 * margins[0])))
        await asyncio.sleep(0)
        margins[0] = 5
        keeper.settle(first, usd(40))
        with pytest.raises(BudgetExceeded, match=r"\$0\.40 spent, it may cost up to \$2\.50"):
            await second

    asyncio.run(main())


def test_nothing_is_the_amount_and_the_margin_to_begin_with() -> None:
    assert (Amount(), Margin()) == (Amount(Decimal(0), 0, 0), Margin(1.0, 0))
    assert figures_of(BudgetKeeper()) == (0, 0, 0, 0, 0, 0)


def figures_of(keeper: BudgetKeeper) -> tuple[Decimal | int, ...]:
    spent = keeper.spent_usd, keeper.spent_tokens, keeper.spent_calls
    return *spent, keeper.held_usd, keeper.held_tokens, keeper.unpriced_calls


def test_a_margin_only_grows() -> None:
    keeper = BudgetKeeper(margins={"a/b": Margin(1.5, 10)})
    keeper.raise_margin("a/b", Margin(1.2, 90))
    assert keeper.margin("a/b") == Margin(1.5, 90)
    assert keeper.margin("a/c") == Margin()


HELD = "more reserved for calls whose usage is not known"


@pytest.mark.parametrize(
    ("spent", "held", "more", "limit", "words"),
    [
        ("0.1701", "0", "0.1339", "0.30", "$0.17 spent, it may cost up to $0.14, the limit is $0.30"),
        ("0.4859", "0.17", "0.0245", "0.50", f"$0.32 spent, $0.17 {HELD}, it may cost up to $0.03, the limit is $0.50"),
        ("0.0051", "0", "0.0052", "0.01", "$0.0051 spent, it may cost up to $0.0052, the limit is $0.0100"),
        ("0.9900001", "0", "0.01", "1", "$0.990000 spent, it may cost up to $0.010000, the limit is $1.000000"),
    ],
)  # fmt: skip
def test_a_shortfall_is_said_in_figures_that_do_not_fit(
    spent: str, held: str, more: str, limit: str, words: str
) -> None:
    lack = Shortfall("usd", *(Decimal(value) for value in (spent, held, more, limit)))
    assert str(lack) == f"stopped before the next call: {words}"


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        (
            Shortfall("calls", Decimal(3000), ZERO, Decimal(1), Decimal(3000)),
            "the next call: 3,000 calls are made, the limit is 3,000",
        ),
        (
            Shortfall("tokens", Decimal(5000), Decimal(2000), Decimal(1500), Decimal(6000)),
            f"the next call: 3,000 tokens used, 2,000 {HELD}, it may take up to 1,500, the limit is 6,000",
        ),
        (
            Shortfall("tokens", ZERO, ZERO, Decimal(7000), Decimal(6000)),
            "the first call: it may take up to 7,000, the limit is 6,000; nothing was sent",
        ),
        (
            Shortfall("usd", ZERO, ZERO, Decimal("0.5"), Decimal("0.1")),
            "the first call: it may cost up to $0.50, the limit is $0.10; nothing was sent",
        ),
        (
            Shortfall("usd", ZERO, ZERO, Decimal("0.5"), Decimal("0.09")),
            "the first call: it may cost up to $0.5000, the limit is $0.0900; nothing was sent",
        ),
        (
            Shortfall("usd", Decimal("0.1"), ZERO, Decimal("0.1"), Decimal("0.1234")),
            "the next call: $0.1000 spent, it may cost up to $0.1000, the limit is $0.1234",
        ),
    ],
)
def test_a_shortfall_says_what_there_is_and_what_is_asked_for(lack: Shortfall, words: str) -> None:
    assert str(lack) == f"stopped before {words}"


@pytest.mark.parametrize(
    ("budget", "fits", "kind"),
    [
        (Budget(usd=Decimal("0.70")), True, ""),
        (Budget(usd=Decimal("0.69")), False, "usd"),
        (Budget(tokens=70), True, ""),
        (Budget(tokens=69), False, "tokens"),
        (Budget(calls=7), True, ""),
        (Budget(calls=6), False, "calls"),
        (Budget(), True, ""),
    ],
)
def test_spent_reserved_and_asked_for_together_are_held_against_each_limit(
    budget: Budget, fits: bool, kind: str
) -> None:
    """0.10 $, 10 tokens and 1 call are spent, twice as much is reserved, four times as much is asked for."""

    def times(number: int) -> Amount:
        return Amount(Decimal(number) / 10, 10 * number, number)

    async def main() -> None:
        keeper = BudgetKeeper(budget, spent_usd=Decimal("0.10"), spent_tokens=10, spent_calls=1)
        first = await keeper.reserve(lambda: times(2))
        second = asyncio.create_task(keeper.reserve(lambda: times(4)))
        await asyncio.sleep(0)
        assert second.done() is fits
        keeper.settle(first, times(2))
        if fits:
            return
        with pytest.raises(BudgetExceeded) as caught:
            await second
        assert caught.value.lack is not None
        assert (caught.value.lack.kind, caught.value.sent) == (kind, False)

    asyncio.run(main())


def test_what_was_used_takes_the_place_of_what_was_reserved_and_what_is_not_known_is_held() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(
            spent_usd=Decimal(1), spent_tokens=2, spent_calls=3, held_usd=Decimal("0.5"), held_tokens=1
        )
        for known in (True, False):
            reservation = await keeper.reserve(lambda: Amount(Decimal(8), 80, 5))
            assert (keeper._reserved_usd, keeper._reserved_tokens, keeper._reserved_calls) == (8, 80, 5)
            keeper.settle(reservation, Amount(Decimal(2), 30, 2), is_known=known)
        assert (keeper.spent_usd, keeper.spent_tokens, keeper.spent_calls) == (5, 62, 7)
        assert (keeper.held_usd, keeper.held_tokens, keeper.unpriced_calls) == (Decimal("2.5"), 31, 0)
        unpriced = await keeper.reserve(lambda: Amount(None, 1, 1))
        keeper.settle(unpriced, Amount(None, 1, 2), is_known=False)
        assert (keeper.spent_usd, keeper.held_usd, keeper.unpriced_calls) == (5, Decimal("2.5"), 2)
        assert (keeper._open, keeper._reserved_usd, keeper._reserved_tokens, keeper._reserved_calls) == (0, 0, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("budget", "counts"),
    [
        (Budget(), False),
        (Budget(calls=1, wall_s=1.0), False),
        (Budget(usd=Decimal(1)), True),
        (Budget(tokens=1), True),
    ],
)
def test_only_limits_in_money_and_tokens_need_the_size_of_a_request(budget: Budget, counts: bool) -> None:
    assert BudgetKeeper(budget).counts_input is counts


def test_the_wall_limit_is_over_at_its_very_second() -> None:
    now = [100.0]

    async def main() -> None:
        keeper = BudgetKeeper(Budget(wall_s=60), clock=lambda: now[0])
        now[0] = 159.5
        assert keeper.left_s() == 0.5
        await keeper.reserve(lambda: usd(1))
        now[0] = 160.0
        with pytest.raises(BudgetExceeded, match=r"^the wall limit of 60 s is reached$") as caught:
            await keeper.reserve(lambda: usd(1))
        assert (caught.value.sent, caught.value.lack) == (False, None)
        assert BudgetKeeper().left_s() is None

    asyncio.run(main())


def test_one_that_is_cancelled_gives_its_place_to_the_next() -> None:
    async def main() -> None:
        keeper = BudgetKeeper(Budget(calls=2))
        first = await keeper.reserve(lambda: Amount(calls=1))
        large, small = (
            asyncio.create_task(keeper.reserve(lambda: Amount(calls=2))),
            asyncio.create_task(keeper.reserve(lambda: Amount(calls=1))),
        )
        await asyncio.sleep(0)
        assert not small.done()
        large.cancel()
        assert (await small).amount.calls == 1
        third = asyncio.create_task(keeper.reserve(lambda: Amount(calls=1)))
        await asyncio.sleep(0)
        keeper.settle(first, Amount())
        third.cancel()  # what it waited for was granted in this very turn
        await asyncio.gather(third, return_exceptions=True)
        assert (keeper._open, keeper._reserved_calls) == (1, 1)
        assert (await keeper.reserve(lambda: Amount(calls=1))).open

    asyncio.run(main())
