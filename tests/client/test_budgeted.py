"""What an attempt reserves, what it counts for when it has ended, and what replies teach about the next one."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Any

import pytest

from llmpipe.client.budget import Amount, BudgetKeeper, Margin
from llmpipe.client.call import Call
from llmpipe.client.layers.budgeted import budgeted, output_limit, upper_bound
from llmpipe.errors import BudgetExceeded, ServerFault
from llmpipe.policy import Budget
from llmpipe.providers.asked import most_sent
from llmpipe.types import Attempt, LLMResponse, Model, Price, Usage
from tests.client.things import a_call, an_answer, deps, script

D = Decimal
PRICE = Price(D(2), D(10), cache_write=D(3))
IN_USD = Budget(usd=D(100))


def call_of(*, price: Price | None = PRICE, provider: str = "openai", model: str = "none-such", **request: Any) -> Call:
    models = {"m": Model("m", provider, model, price=price)}
    return a_call(name="m", models=models, **{"max_output_tokens": 100, **request})


def spent_on(
    call: Call, keeper: BudgetKeeper, *attempts: Attempt, error: Exception | None = None
) -> LLMResponse | None:
    """The answer of a call that makes these attempts and ends in `error`, if there is one."""

    async def make(call: Call) -> LLMResponse:
        call.attempts += attempts
        if error is not None:
            raise error
        return an_answer(usage=(attempts and attempts[-1].usage) or Usage())

    try:
        return asyncio.run(budgeted(script(make), deps(budget=keeper))(call))
    except ServerFault as err:
        return err


def attempt(usage: Usage | None = None, billed: Any = "yes") -> Attempt:
    return Attempt(1, "openai/none-such", 0.0, 0.0, "ok", billed=billed, usage=usage)


def figures(keeper: BudgetKeeper) -> tuple[Decimal, int, int, Decimal, int, int]:
    held = keeper.held_usd, keeper.held_tokens
    return keeper.spent_usd, keeper.spent_tokens, keeper.spent_calls, *held, keeper.unpriced_calls


@pytest.mark.parametrize(
    ("call", "budget", "bound"),
    [
        (call_of(provider="echo"), IN_USD, Amount(calls=1)),
        (call_of(), Budget(calls=5), Amount(calls=1)),
        (call_of(price=None), Budget(calls=5), Amount(None, 0, 1)),
        (call_of(price=Price(D(0), D(0))), IN_USD, Amount(calls=1)),
        (call_of(price=Price(D(0), D(0)), max_output_tokens=None), IN_USD, Amount(calls=1)),
        (call_of(max_output_tokens=None), Budget(calls=5), Amount(calls=1)),
    ],
)
def test_where_the_size_does_not_matter_a_call_is_reserved(call: Call, budget: Budget, bound: Amount) -> None:
    assert upper_bound(call, BudgetKeeper(budget)) == bound


@pytest.mark.parametrize(
    ("price", "extra", "input_price"),
    [
        (PRICE, {}, D(3)),
        (Price(D(2), D(10)), {}, D(2)),
        (PRICE, {"cache_control": {"type": "ephemeral"}}, D(4)),
        (PRICE, {"tools": [{"cache_control": {}}]}, D(4)),
        (Price(D(0), D(10)), {}, D(0)),
        (Price(D(2), D(0)), {}, D(2)),
        (None, {}, None),
    ],
)
def test_an_attempt_reserves_the_dearest_input_and_the_longest_output(
    price: Price | None, extra: dict[str, Any], input_price: Decimal | None
) -> None:
    call = call_of(price=price, extra=extra)
    most = most_sent(call.request, call.target)
    usd = None if price is None or input_price is None else (most * input_price + 100 * price.output) / 1_000_000
    keeper = BudgetKeeper(Budget(tokens=10_000))
    assert upper_bound(call, keeper) == Amount(usd, most + 100, 1)
    keeper.raise_margin(call.model.label, Margin(1.5, 300))
    bound = upper_bound(call, keeper)
    assert bound.tokens == math.ceil(most * 1.5) + 300
    keeper.raise_margin(call.model.label, Margin(1.5, 50))
    assert upper_bound(call, keeper) == bound


def test_a_free_model_counts_its_tokens_where_they_are_limited() -> None:
    call = call_of(price=Price(D(0), D(0)))
    assert upper_bound(call, BudgetKeeper(Budget(tokens=10_000))).tokens > 100


def test_without_an_output_limit_nothing_is_sent_where_money_is_limited() -> None:
    call = call_of(max_output_tokens=None)
    assert output_limit(call) == call.target.dialect.default_output_tokens is None
    assert output_limit(call_of(max_output_tokens=7)) == 7
    words = "openai/none-such has no max_output_tokens, so its cost has no upper bound"
    with pytest.raises(BudgetExceeded, match=words) as caught:
        spent_on(call, BudgetKeeper(IN_USD), attempt())
    assert caught.value.sent is False


@pytest.mark.parametrize(
    ("made", "spent"),
    [
        ((), (0, 0, 0, 0, 0, 0)),
        ((attempt(Usage(10, 20), "yes"),), (D("0.00022"), 30, 1, 0, 0, 0)),
        ((attempt(Usage(10, 20), "no"),), (0, 0, 1, 0, 0, 0)),
        ((attempt(None, "no"),), (0, 0, 1, 0, 0, 0)),
    ],
)
def test_what_an_attempt_used_is_what_it_counts_for(made: tuple[Attempt, ...], spent: tuple[Any, ...]) -> None:
    for error in (None, ServerFault("x")):
        keeper = BudgetKeeper(IN_USD)
        end = spent_on(call_of(), keeper, *made, error=error)
        assert end is error if error else str(end) == "yes"
        assert figures(keeper) == spent
        assert (keeper._open, keeper._reserved_usd) == (0, 0)


@pytest.mark.parametrize("usage", [None, Usage(), Usage(10, None), Usage(None, 10)])
@pytest.mark.parametrize("billed", ["maybe", "yes"])
def test_an_attempt_of_unknown_usage_counts_for_all_that_was_reserved(usage: Usage | None, billed: str) -> None:
    keeper, call = BudgetKeeper(IN_USD), call_of()
    bound = upper_bound(call, keeper)
    spent_on(call, keeper, attempt(usage, billed))
    assert figures(keeper) == (bound.usd, bound.tokens, 1, bound.usd, bound.tokens, 0)
    assert call.reserved == bound


def test_an_attempt_that_was_made_before_or_whose_error_was_not_sent_counts_for_nothing() -> None:
    keeper, call = BudgetKeeper(IN_USD), call_of()
    call.attempts.append(attempt(Usage(10, 20)))
    spent_on(call, keeper)
    error = ServerFault("x")
    error.sent = False
    spent_on(call, keeper, attempt(Usage(10, 20)), error=error)
    assert figures(keeper) == (0, 0, 0, 0, 0, 0)


def test_attempts_of_unknown_price_are_counted_apart_and_echo_is_not_among_them() -> None:
    for call, spent in (
        (call_of(price=None), (0, 30, 1, 0, 0, 1)),
        (call_of(provider="echo", price=None), (0, 0, 1, 0, 0, 0)),
    ):
        keeper = BudgetKeeper(Budget(tokens=10_000))
        spent_on(call, keeper, attempt(Usage(10, 20)))
        assert figures(keeper) == spent
    keeper = BudgetKeeper(Budget(calls=5))
    spent_on(call_of(price=None), keeper, attempt(Usage(10, 20), "no"))
    assert keeper.unpriced_calls == 1


def test_the_answer_says_what_it_cost_with_a_budget_and_without() -> None:
    for keeper in (BudgetKeeper(IN_USD), None):
        answer = spent_on(call_of(), keeper, attempt(Usage(10, 20)))
        assert answer.cost_usd == D("0.00022")


@pytest.mark.parametrize(
    ("more", "output", "margin"),
    [(0.5, 100, Margin(1.0, 0)), (1.0, 100, Margin(1.0, 0)), (2.0, 100, Margin(2.0, 0)), (1.0, 101, Margin(1.0, 101))],
)
def test_a_reply_that_took_more_than_was_reserved_raises_the_margin_of_its_model(
    more: float, output: int, margin: Margin
) -> None:
    keeper, call = BudgetKeeper(IN_USD), call_of(price=Price(D(2), D(10)))
    input_tokens = round(most_sent(call.request, call.target) * more)
    spent_on(call, keeper, attempt(Usage(input_tokens, output)))
    assert keeper.margin("openai/none-such") == margin
    assert keeper.margin("openai/another") == Margin()


def test_a_reply_that_cost_more_than_its_tokens_let_expect_raises_the_margin_by_as_much() -> None:
    keeper, call = BudgetKeeper(IN_USD), call_of(price=Price(D(2), D(0)))
    most = most_sent(call.request, call.target)
    usage = Usage(most, 150, cache_write_tokens=most, cache_write_1h_tokens=most)
    spent_on(call, keeper, attempt(usage))
    assert keeper.margin("openai/none-such") == Margin(2.0, 300)


def test_a_reply_of_a_call_without_a_bound_teaches_nothing() -> None:
    keeper = BudgetKeeper(Budget(calls=5))
    spent_on(call_of(), keeper, attempt(Usage(10**6, 10**6)))
    assert keeper.margin("openai/none-such") == Margin()
