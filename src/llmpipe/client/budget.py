"""The budget of a run: nothing is sent before its upper bound is reserved, and what was used is settled afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Literal

from llmpipe.errors import BudgetExceeded
from llmpipe.frozen import frozen
from llmpipe.policy import Budget
from llmpipe.types import EMPTY

ZERO = Decimal(0)
Kind = Literal["usd", "tokens", "calls"]


@frozen
class Amount:
    """Money, tokens (input and output together) and calls (attempts). `usd` None: the model has no known price."""

    usd: Decimal | None = ZERO
    tokens: int = 0
    calls: int = 0


@frozen
class Margin:
    """How far replies of a model went beyond what was expected: times the input, tokens of the longest output."""

    input: float = 1.0
    output: int = 0


NO_MARGIN = Margin()


@frozen
class Shortfall:
    """What a limit ("usd", "tokens", "calls") lacks for the next call.

    `held` is the part of `spent` that is reserved for calls of which nobody knows what they took.
    """

    kind: Kind
    spent: Decimal
    held: Decimal
    more: Decimal
    limit: Decimal

    def __str__(self) -> str:
        if self.kind == "calls":
            return f"stopped before the next call: {self.spent:,} calls are made, the limit is {self.limit:,}"
        if self.kind == "tokens":
            spent, held, more, limit = (f"{n:,}" for n in (self.spent - self.held, self.held, self.more, self.limit))
            done, what = f"{spent} tokens used", "take"
        else:
            spent, held, more, limit = _dollars(self)
            done, what = f"{spent} spent", "cost"
        done += f", {held} more reserved for calls whose usage is not known" if self.held else ""
        if not self.spent:
            return f"stopped before the first call: it may {what} up to {more}, the limit is {limit}; nothing was sent"
        return f"stopped before the next call: {done}, it may {what} up to {more}, the limit is {limit}"


@dataclass(slots=True, eq=False)
class Reservation:
    """An amount that is set aside; given back through `BudgetKeeper.settle`, once."""

    amount: Amount
    open: bool = True


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: Callable[[], Amount]
    place: asyncio.Future[Reservation]


class BudgetKeeper:
    """Keeps spent + reserved within the budget, always.

    `spent_*` is what earlier processes of the run have spent, `held_*` the part of it that was reserved for calls of
    which nobody knows what they took, `margins` what replies showed of the models (by "provider/model-id"). `wall_s` of
    the budget counts from the making of this object. `clock` gives monotonic seconds. To be used from one event loop.
    """

    def __init__(
        self,
        budget: Budget = Budget(),
        *,
        spent_usd: Decimal = ZERO,
        spent_tokens: int = 0,
        spent_calls: int = 0,
        held_usd: Decimal = ZERO,
        held_tokens: int = 0,
        margins: Mapping[str, Margin] = EMPTY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.spent_usd, self.spent_tokens, self.spent_calls = spent_usd, spent_tokens, spent_calls
        self.held_usd, self.held_tokens = held_usd, held_tokens
        self.unpriced_calls = 0  # attempts of models without a known price
        self._margins = dict(margins)
        self._reserved_usd, self._reserved_tokens, self._reserved_calls = ZERO, 0, 0
        self._open = 0
        self._waiting: deque[_Waiter] = deque()
        self._clock = clock
        self._ends_at = None if budget.wall_s is None else clock() + budget.wall_s

    @property
    def counts_input(self) -> bool:
        """True if a reservation has to know how large a request is."""
        return self.budget.usd is not None or self.budget.tokens is not None

    def left_s(self) -> float | None:
        """Seconds until the wall limit, never below 0; None if there is none."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._clock())

    def margin(self, model: str) -> Margin:
        """How far replies of "provider/model-id" have gone beyond what was expected."""
        return self._margins.get(model, NO_MARGIN)

    def raise_margin(self, model: str, seen: Margin) -> None:
        """Take note of a reply; what was seen before stays."""
        known = self.margin(model)
        self._margins[model] = Margin(max(known.input, seen.input), max(known.output, seen.output))

    async def reserve(self, amount: Callable[[], Amount]) -> Reservation:
        """Set an amount aside. What does not fit waits, first come, first served, for open reservations to settle.

        `amount` is asked anew whenever there may be room: replies of others may have raised it. Raises BudgetExceeded
        when none is open, when the wall limit is reached, and for an amount of unknown price where money is limited.
        Cancelling leaves nothing behind.
        """
        first = amount()
        self._refuse(first)
        if not self._waiting and self._fits(first):
            return self._take(first)
        if not self._open:
            raise self._exceeded(first)
        waiter = _Waiter(amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self.left_s()):
                return await waiter.place
        except TimeoutError:
            self._withdraw(waiter)
            raise _unsent(self._out_of_time()) from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def settle(self, reservation: Reservation, used: Amount, *, is_known: bool = True) -> None:
        """Put what was used in the place of what was reserved, and let those who wait have the rest."""
        if not reservation.open:
            return
        self._release(reservation)
        self.spent_usd += used.usd or ZERO
        self.spent_tokens += used.tokens
        self.spent_calls += used.calls
        if not is_known:
            self.held_usd += used.usd or ZERO
            self.held_tokens += used.tokens
        if used.usd is None:
            self.unpriced_calls += used.calls
        self._wake()

    def _release(self, reservation: Reservation) -> None:
        reservation.open = False
        self._open -= 1
        self._reserved_usd -= reservation.amount.usd or ZERO
        self._reserved_tokens -= reservation.amount.tokens
        self._reserved_calls -= reservation.amount.calls

    def _take(self, amount: Amount) -> Reservation:
        self._open += 1
        self._reserved_usd += amount.usd or ZERO
        self._reserved_tokens += amount.tokens
        self._reserved_calls += amount.calls
        return Reservation(amount)

    def _fits(self, amount: Amount) -> bool:
        return self._lack(amount) is None

    def _lack(self, amount: Amount) -> Shortfall | None:
        """The limit that `amount` would break."""
        budget = self.budget
        limits: tuple[
            tuple[Literal["usd", "tokens", "calls"], Decimal | int | None, Decimal, Decimal, Decimal], ...
        ] = (
            ("usd", budget.usd, self.spent_usd, self.held_usd, amount.usd or ZERO),
            ("tokens", budget.tokens, Decimal(self.spent_tokens), Decimal(self.held_tokens), Decimal(amount.tokens)),
            ("calls", budget.calls, Decimal(self.spent_calls), ZERO, Decimal(amount.calls)),
        )
        reserved = (self._reserved_usd, Decimal(self._reserved_tokens), Decimal(self._reserved_calls))
        for (kind, limit, spent, held, more), others in zip(limits, reserved, strict=True):
            if limit is not None and spent + others + more > limit:
                return Shortfall(kind, spent, held, more, Decimal(limit))
        return None

    def _refuse(self, amount: Amount) -> None:
        if self._ends_at is not None and self._clock() >= self._ends_at:
            raise _unsent(self._out_of_time())
        if self.budget.usd is not None and amount.usd is None:
            text = "the budget is in usd and the model has no known price: set `price` on the model"
            raise _unsent(BudgetExceeded(text))

    def _exceeded(self, amount: Amount) -> BudgetExceeded:
        lack = self._lack(amount)
        error = _unsent(BudgetExceeded(str(lack)))
        error.lack = lack
        return error

    def _out_of_time(self) -> BudgetExceeded:
        return BudgetExceeded(f"the wall limit of {self.budget.wall_s:g} s is reached")

    def _withdraw(self, waiter: _Waiter) -> None:
        place = waiter.place
        if place.done() and not place.cancelled() and place.exception() is None:
            self._release(place.result())
        self._wake()  # which passes over it

    def _wake(self) -> None:
        """Serve those who wait, in order; when none is open, the first that does not fit never will."""
        while self._waiting:
            waiter = self._waiting[0]
            if waiter.place.done():
                self._waiting.popleft()
                continue
            amount = waiter.amount()
            if self._fits(amount):
                waiter.place.set_result(self._take(amount))
            elif self._open:
                return
            else:
                waiter.place.set_exception(self._exceeded(amount))


def _unsent(error: BudgetExceeded) -> BudgetExceeded:
    error.sent = False
    return error


def _dollars(lack: Shortfall) -> tuple[str, str, str, str]:
    """Spent, held, more and limit, in as few digits as show that they are too much together."""
    for digits in ("0.01", "0.0001", "0.000001"):
        unit = Decimal(digits)
        spent, held = ((n).quantize(unit, ROUND_HALF_UP) for n in (lack.spent - lack.held, lack.held))
        more, limit = lack.more.quantize(unit, ROUND_UP), lack.limit
        if spent + held + more > limit >= 10 * unit and limit == limit.quantize(unit):
            break
    return f"${spent}", f"${held}", f"${more}", f"${limit.quantize(unit, ROUND_DOWN)}"
