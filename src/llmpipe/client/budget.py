"""The budget of a run: nothing is sent before its upper bound is reserved, and what was used is settled afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from llmpipe.errors import BudgetExceeded
from llmpipe.frozen import frozen
from llmpipe.policy import Budget

ZERO = Decimal(0)


@frozen
class Amount:
    """Money, tokens (input and output together) and calls (attempts). `usd` None: the model has no known price."""

    usd: Decimal | None = ZERO
    tokens: int = 0
    calls: int = 0


@dataclass(slots=True, eq=False)
class Reservation:
    """An amount that is set aside; given back through `BudgetKeeper.settle`, once."""

    amount: Amount
    open: bool = True


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: Amount
    place: asyncio.Future[Reservation]


class BudgetKeeper:
    """Keeps spent + reserved within the budget, always.

    `spent_*` is what earlier processes of the run have spent; `wall_s` of the budget counts from the making of this
    object. `clock` gives monotonic seconds. To be used from one event loop.
    """

    def __init__(
        self,
        budget: Budget = Budget(),
        *,
        spent_usd: Decimal = ZERO,
        spent_tokens: int = 0,
        spent_calls: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.spent_usd, self.spent_tokens, self.spent_calls = spent_usd, spent_tokens, spent_calls
        self.unpriced_calls = 0  # attempts of models without a known price
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

    async def reserve(self, amount: Amount) -> Reservation:
        """Set `amount` aside. What does not fit waits, first come, first served, for open reservations to settle.

        Raises BudgetExceeded (nothing was sent) when none is open, when the wall limit is reached, and for an amount of
        unknown price where money is limited. Cancelling leaves nothing behind.
        """
        self._refuse(amount)
        if not self._waiting and self._fits(amount):
            return self._take(amount)
        if not self._open:
            raise self._exceeded(amount)
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

    def settle(self, reservation: Reservation, used: Amount) -> None:
        """Put what was used in the place of what was reserved, and let those who wait have the rest."""
        if not reservation.open:
            return
        self._release(reservation)
        self.spent_usd += used.usd or ZERO
        self.spent_tokens += used.tokens
        self.spent_calls += used.calls
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
        return not self._too_much(amount)

    def _too_much(self, amount: Amount) -> str:
        """Which limit `amount` would break, in words; "" if none."""
        budget = self.budget
        usd = self.spent_usd + self._reserved_usd + (amount.usd or ZERO)
        if budget.usd is not None and usd > budget.usd:
            spent, limit, more = (_money(value) for value in (self.spent_usd, budget.usd, amount.usd))
            return f"${spent} of ${limit} are spent, the next call may cost ${more}"
        tokens = self.spent_tokens + self._reserved_tokens + amount.tokens
        if budget.tokens is not None and tokens > budget.tokens:
            used = f"{self.spent_tokens:,} of {budget.tokens:,} tokens are used"
            return f"{used}, the next call may take {amount.tokens:,}"
        calls = self.spent_calls + self._reserved_calls + amount.calls
        if budget.calls is not None and calls > budget.calls:
            return f"{self.spent_calls:,} of {budget.calls:,} calls are made"
        return ""

    def _refuse(self, amount: Amount) -> None:
        if self._ends_at is not None and self._clock() >= self._ends_at:
            raise _unsent(self._out_of_time())
        if self.budget.usd is not None and amount.usd is None:
            text = "the budget is in usd and the model has no known price: set `price` on the model"
            raise _unsent(BudgetExceeded(text))

    def _exceeded(self, amount: Amount) -> BudgetExceeded:
        return _unsent(BudgetExceeded(f"{self._too_much(amount)}; nothing was sent"))

    def _out_of_time(self) -> BudgetExceeded:
        return BudgetExceeded(f"the wall limit of {self.budget.wall_s:g} s is reached; nothing was sent")

    def _withdraw(self, waiter: _Waiter) -> None:
        place = waiter.place
        if place.done() and not place.cancelled() and place.exception() is None:
            self._release(place.result())
        elif waiter in self._waiting:
            self._waiting.remove(waiter)
        self._wake()

    def _wake(self) -> None:
        """Serve those who wait, in order; when none is open, the first that does not fit never will."""
        while self._waiting:
            waiter = self._waiting[0]
            if waiter.place.done():
                self._waiting.popleft()
            elif self._fits(waiter.amount):
                self._waiting.popleft()
                waiter.place.set_result(self._take(waiter.amount))
            elif self._open:
                return
            else:
                self._waiting.popleft()
                waiter.place.set_exception(self._exceeded(waiter.amount))


def _unsent(error: BudgetExceeded) -> BudgetExceeded:
    error.sent = False
    return error


def _money(amount: Decimal | None) -> str:
    """At least cents, more digits where they matter."""
    value = amount or ZERO
    return f"{value:.2f}" if value == value.quantize(Decimal("0.01")) else f"{value:.4f}"
