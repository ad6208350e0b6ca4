"""Reserves an upper bound of what an attempt may cost before it is sent, and settles what it did cost."""

from __future__ import annotations

import json
from decimal import Decimal

from llmpipe.client.budget import Amount, BudgetKeeper
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.journal import waiting
from llmpipe.client.prices import MILLION, bills, cost_of, highest_price
from llmpipe.errors import BudgetExceeded, CallFailed
from llmpipe.types import Attempt, LLMRequest, LLMResponse, Usage

NOTHING = Amount()
ONE_CALL = Amount(calls=1)
PER_TURN = 32  # what a chat template may put around a turn
OVERHEAD = 64  # what a provider may add to any request
SCHEMA_OVERHEAD = 512  # its own instructions for structured output


def budgeted(inner: Handler, deps: Deps) -> Handler:
    """Keep every attempt within the budget and say what the answer cost.

    It stands after the gate, so that waiting calls reserve nothing. Every attempt counts: with what it used if that is
    known, with its whole reservation if it may have been billed (facts B2.8), with nothing but the call otherwise.
    """

    async def handle(call: Call) -> LLMResponse:
        keeper = deps.budget
        if keeper is None:
            return _priced(call, await inner(call))
        bound = upper_bound(call, keeper)
        with waiting(call):
            reservation = await keeper.reserve(bound)
        call.reserved = bound
        made = len(call.attempts)
        used = NOTHING
        try:
            return _priced(call, await inner(call))
        except CallFailed as err:
            made += not err.sent
            raise
        finally:
            if len(call.attempts) > made:
                used = _used(call, bound, call.attempts[-1])
            keeper.settle(reservation, used)

    return handle


def upper_bound(call: Call, keeper: BudgetKeeper) -> Amount:
    """What the attempt can cost at most. A token is a byte of text at least, so bytes bound the input from above.

    Raises BudgetExceeded for a request without an output limit where money or tokens are limited.
    """
    if not bills(call.model.provider):
        return ONE_CALL
    if not keeper.counts_input:
        return ONE_CALL if highest_price(call.model) is not None else Amount(None, 0, 1)
    price = highest_price(call.model)
    if price is not None and price.input == price.output == 0 and keeper.budget.tokens is None:
        return ONE_CALL
    output = output_limit(call)
    if output is None:
        error = BudgetExceeded(f"{call.model.label} has no max_output_tokens, so its cost has no upper bound")
        error.sent = False
        raise error
    most = _most_input(call.request)
    usd = None if price is None else (most * price.input + output * price.output) / MILLION
    return Amount(usd, most + output, 1)


def output_limit(call: Call) -> int | None:
    """How many tokens the answer may have at most; None if neither the request nor its provider says."""
    own = call.request.max_output_tokens
    return call.target.dialect.default_output_tokens if own is None else own


def _most_input(request: LLMRequest) -> int:
    size = OVERHEAD + sum(len(turn.content.encode("utf-8", "replace")) + PER_TURN for turn in request.turns())
    if request.schema is not None:
        size += SCHEMA_OVERHEAD + 2 * len(
            json.dumps(dict(request.schema), ensure_ascii=True)
        )  # once natively, once in the prompt
    if request.extra:
        size += len(json.dumps(dict(request.extra), ensure_ascii=True, default=str))
    return size


def _priced(call: Call, response: LLMResponse) -> LLMResponse:
    return response.having(cost_usd=cost_of(call.model, response.usage))


def _used(call: Call, bound: Amount, attempt: Attempt) -> Amount:
    """What the attempt used; where nobody knows it, what was reserved."""
    if attempt.billed == "no" or not bills(call.model.provider):
        return Amount(_zero(bound), 0, 1)
    usage = attempt.usage or Usage()
    if usage.input_tokens is None or usage.output_tokens is None:
        return bound
    return Amount(cost_of(call.model, usage), usage.input_tokens + usage.output_tokens, 1)


def _zero(bound: Amount) -> Decimal | None:
    return None if bound.usd is None else Decimal(0)
