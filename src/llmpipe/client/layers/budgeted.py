"""Reserves what an attempt may cost before it is sent, and settles what it did cost."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal

from llmpipe.client.budget import Amount, BudgetKeeper, Margin
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.journal import waiting
from llmpipe.client.prices import MILLION, bills, cost_of, dearest_input, highest_price
from llmpipe.errors import BudgetExceeded, CallFailed
from llmpipe.providers.asked import most_sent
from llmpipe.types import Attempt, LLMResponse, Usage

NOTHING = Amount()
ONE_CALL = Amount(calls=1)


def budgeted(inner: Handler, deps: Deps) -> Handler:
    """Keep every attempt within the budget and say what the answer cost.

    It stands after the gate, so that waiting calls reserve nothing. Every attempt counts: with what it used if that is
    known, with its whole reservation if it may have been billed (facts B2.8), with nothing but the call otherwise. A
    reply that took more than was reserved raises the margin of its model, for those who wait for their turn too.
    """

    async def handle(call: Call) -> LLMResponse:
        keeper = deps.budget
        if keeper is None:
            return _priced(call, await inner(call))
        bound = _bound(call, keeper)
        with waiting(call):
            reservation = await keeper.reserve(bound.amount)
        call.reserved = reservation.amount
        made = len(call.attempts)
        used, is_known = NOTHING, True
        try:
            return _priced(call, await inner(call))
        except CallFailed as err:
            made += not err.sent
            raise
        finally:
            if len(call.attempts) > made:
                used, is_known = _used(call, bound, reservation.amount, call.attempts[-1])
            keeper.settle(reservation, used, is_known=is_known)

    return handle


def upper_bound(call: Call, keeper: BudgetKeeper) -> Amount:
    """What the attempt may cost, as it would be reserved now.

    Raises BudgetExceeded for a request without an output limit where money or tokens are limited.
    """
    return _bound(call, keeper).amount()


@dataclass(slots=True)
class _Bound:
    """What an attempt may take: `fixed`, or its tokens, more where replies of the model have taken more before."""

    keeper: BudgetKeeper
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    prices: tuple[Decimal, Decimal] | None = None  # of a token of input and of output; None: not known
    fixed: Amount | None = None

    def amount(self) -> Amount:
        if self.fixed is not None:
            return self.fixed
        margin = self.keeper.margin(self.model)
        most = math.ceil(self.input_tokens * margin.input)
        output = max(self.output_tokens, margin.output)
        usd = None if self.prices is None else most * self.prices[0] + output * self.prices[1]
        return Amount(usd, most + output, 1)

    def learn(self, usage: Usage, usd: Decimal | None) -> None:
        """Raise the model's margin by a reply that took more than was reserved for it."""
        if self.fixed is not None or usage.input_tokens is None or usage.output_tokens is None:
            return
        output = usage.output_tokens if usage.output_tokens > self.output_tokens else 0
        self.keeper.raise_margin(self.model, Margin(usage.input_tokens / self.input_tokens, output))
        amount = self.amount()
        if usd is not None and amount.usd and usd > amount.usd:  # a price that was not foreseen
            more = float(usd / amount.usd)
            margin = self.keeper.margin(self.model)
            self.keeper.raise_margin(self.model, Margin(margin.input * more, math.ceil(margin.output * more)))


def _bound(call: Call, keeper: BudgetKeeper) -> _Bound:
    model = call.model
    price = highest_price(model)
    if not bills(model.provider):
        return _Bound(keeper, model.label, fixed=ONE_CALL)
    if not keeper.counts_input:
        return _Bound(keeper, model.label, fixed=ONE_CALL if price is not None else Amount(None, 0, 1))
    if price is not None and price.input == price.output == 0 and keeper.budget.tokens is None:
        return _Bound(keeper, model.label, fixed=ONE_CALL)
    output = output_limit(call)
    if output is None:
        error = BudgetExceeded(f"{model.label} has no max_output_tokens, so its cost has no upper bound")
        error.sent = False
        raise error
    prices = None
    if price is not None:
        asks_for_cache = "cache_control" in json.dumps(dict(call.request.extra), default=str)
        prices = (dearest_input(price, asks_for_cache=asks_for_cache) / MILLION, price.output / MILLION)
    return _Bound(keeper, model.label, most_sent(call.request, call.target), output, prices)


def output_limit(call: Call) -> int | None:
    """How many tokens the answer may have at most; None if neither the request nor its provider says."""
    own = call.request.max_output_tokens
    return call.target.dialect.default_output_tokens if own is None else own


def _priced(call: Call, response: LLMResponse) -> LLMResponse:
    return response.having(cost_usd=cost_of(call.model, response.usage))


def _used(call: Call, bound: _Bound, reserved: Amount, attempt: Attempt) -> tuple[Amount, bool]:
    """What the attempt used, and whether it is known; where it is not, that is what was reserved."""
    if attempt.billed == "no" or not bills(call.model.provider):
        return Amount(None if reserved.usd is None else Decimal(0), 0, 1), True
    usage = attempt.usage or Usage()
    if usage.input_tokens is None or usage.output_tokens is None:
        return reserved, False
    usd = cost_of(call.model, usage)
    bound.learn(usage, usd)
    return Amount(usd, usage.input_tokens + usage.output_tokens, 1), True
