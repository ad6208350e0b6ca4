"""The port through which a run writes down what is asked and what came back; a bare client has none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from llmpipe.types import Attempt, LLMResponse, Model

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount
    from llmpipe.client.call import Call

Rest: TypeAlias = Literal["another run", "an equal call"]


class Journal(Protocol):
    """What the engine's ledger offers the stack.

    For every `intend` there is exactly one `settle` with the same key and number, also when the call is cancelled: its
    attempt then says `billed="maybe"` if anything of its request was sent. A number that was intended and never settled
    is what a killed process leaves. `intend` and `settle` take effect even if the caller is cancelled while it waits
    for them.
    """

    def waiting(self) -> AbstractContextManager[None]:
        """A block in which the call only waits for its turn to be sent, so that whoever stops a run may cancel it.

        Raises CallFailed (with `sent` False) where nothing more is to be sent.
        """

    def resting(self, on: Rest) -> AbstractContextManager[None]:
        """A block in which the call asks for nothing, because another one brings the answer."""

    def recall(self, key: str) -> LLMResponse | None:
        """An answer to this very request that an earlier process of the run wrote down, or None."""

    async def intend(
        self, *, key: str, number: int, model: Model, request_id: str, reserved: Amount | None = None
    ) -> None:
        """Write down that attempt `number` is about to be sent; returns when that is durable.

        `reserved` is what the budget holds for it: what it counts for if its outcome never becomes known.
        """

    async def settle(self, *, key: str, attempt: Attempt, response: LLMResponse | None) -> None:
        """Write down what came of the attempt; returns when that is durable. `response` is None for a failure."""


def waiting(call: Call) -> AbstractContextManager[None]:
    """Within the block `call` waits for its turn. Raises CallFailed if its journal lets nothing more be sent."""
    return nullcontext() if call.journal is None else call.journal.waiting()


def resting(call: Call, on: Rest) -> AbstractContextManager[None]:
    """Within the block `call` waits for the answer to another one."""
    return nullcontext() if call.journal is None else call.journal.resting(on)
