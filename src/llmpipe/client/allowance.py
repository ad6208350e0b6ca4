"""The retries that a whole run may still make, so that a bad hour cannot multiply the bill."""

from __future__ import annotations

CAPACITY = 10_000
COST = 14
COST_THROTTLED = 5
REFUND = 1


class RetryAllowance:
    """A bucket of tokens over all calls of a client (facts B1, botocore's retry quota; facts B2.5).

    A retry takes 14 tokens, or 5 after a 429 or an overload, which cost the provider little. A call that succeeds gives
    back what its last retry took, or 1 token if it needed none; the bucket never holds more than it started with.
    botocore's bucket holds 500 for one caller; this one holds 10,000 (714 fruitless retries), because a run has
    hundreds of calls in flight and a short outage makes each of them retry a few times.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.tokens = capacity

    def take(self, *, throttled: bool) -> int:
        """Take the price of one retry and return it; 0 if the bucket does not hold as much."""
        cost = COST_THROTTLED if throttled else COST
        if cost > self.tokens:
            return 0
        self.tokens -= cost
        return cost

    def give_back(self, taken: int) -> None:
        """Give back what the call's last retry took (0: it made none)."""
        self.tokens = min(self.capacity, self.tokens + (taken or REFUND))
