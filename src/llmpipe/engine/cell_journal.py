"""The journal of one cell: writes each attempt's intent and outcome into the ledger, and recalls earlier answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from llmpipe.client.budget import Amount
from llmpipe.client.encoding import response_from_json, response_to_text
from llmpipe.client.journal import Rest
from llmpipe.client.prices import cost_of
from llmpipe.engine.items import clean
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_schema import INTEND, SETTLE
from llmpipe.engine.masking import RESPONSE, puts
from llmpipe.engine.tally import Tally
from llmpipe.errors import Billed, CallFailed
from llmpipe.types import Attempt, LLMResponse, Model, Usage

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor

_RECALL = (
    "SELECT key, reply FROM attempts WHERE step = ? AND item = ? AND outcome = 'ok' AND reply IS NOT NULL ORDER BY id"
)


class Stopping(CallFailed):
    """The run stops: nothing more is sent."""

    code = "P461"
    title = "the run was stopped before this was sent"
    advice = "Continue with --resume."


class CellJournal:
    """Implements `client.journal.Journal` for one step and item. Raises StorageError if the ledger has a fault."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        step: int,
        item: int,
        invocation: int,
        stopping: Callable[[], bool],
        redactor: Redactor,
        tally: Tally,
        recall: bool,
        request: Callable[[], str] | None = None,
    ) -> None:
        self._ledger, self._step, self._item, self._invocation = ledger, step, item, invocation
        self._stopping, self._tally = stopping, tally
        self._redactor = redactor
        self._open: dict[tuple[str, int], tuple[int, Model]] = {}
        self.is_sent = False  # an attempt's intent is in the file, and its end is not known yet
        self.is_waiting = False  # for its turn to be sent
        self.rests_on: Rest | None = None  # whose call brings the answer
        self._recall = recall
        self._request = request  # the conversation as JSON, where no cache keeps it
        self.key: str | None = None  # of the request that was made last
        self._told: dict[str, LLMResponse] | None = None

    @property
    def in_flight(self) -> bool:
        """True while an attempt is sent and not settled."""
        return bool(self._open)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block the call waits for its turn. Raises Stopping when the run stops."""
        self._refuse()
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False

    @contextmanager
    def resting(self, on: Rest) -> Iterator[None]:
        """Within the block another call, of this run or of another, brings the answer."""
        self.rests_on = on
        try:
            yield
        finally:
            self.rests_on = None

    def _refuse(self) -> None:
        if self._stopping():
            refusal = Stopping("the run stops")
            refusal.sent = False
            raise refusal

    def recall(self, key: str) -> LLMResponse | None:
        """An answer to this request that an earlier process of the run wrote down."""
        self.key = key
        if not self._recall:
            return None
        if self._told is None:
            rows = self._ledger.rows(_RECALL, (self._step, self._item))
            self._told = {k: response_from_json(reply, self._redactor) for k, reply in rows}
        return self._told.get(key)

    async def intend(
        self, *, key: str, number: int, model: Model, request_id: str, reserved: Amount | None = None
    ) -> None:
        """Write down that an attempt is about to be sent. Raises Stopping when the run stops."""
        self._refuse()
        id = self._ledger.next_id("attempts")
        self._open[key, number] = id, model
        self._tally.calls += 1
        request = self._request() if self._request is not None else None
        usd = None if reserved is None or reserved.usd is None else float(reserved.usd)
        tokens = None if reserved is None else reserved.tokens
        row = (
            *(id, self._step, self._item, self._invocation, request_id, key, number, model.label, time.time(), request),
            *(usd, tokens, _billed(model, "maybe")),
        )
        await self._ledger.commit(INTEND, row)
        self.is_sent = True

    async def settle(self, *, key: str, attempt: Attempt, response: LLMResponse | None) -> None:
        """Write down what came of an attempt."""
        opened = self._open.pop((key, attempt.number), None)
        if opened is None:
            return
        id, model = opened
        self.is_sent = bool(self._open)
        usage = attempt.usage or (response.usage if response else Usage())
        billed = _billed(model, attempt.billed)
        cost = Decimal(0) if billed == "no" else cost_of(model, usage)
        self._count(attempt, usage, billed=billed, cost=cost)
        for put in puts(RESPONSE, attempt.masked, id, self._step):
            self._ledger.put(*put)
        reply = response_to_text(response, self._redactor) if response else None
        row = (
            *(attempt.outcome, attempt.code, attempt.status, self._text(attempt.error)),
            *(attempt.latency_s, attempt.wait_s, billed),
            *(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens),
            *(None if cost is None else float(cost), reply, self._text(attempt.raw)),
            *(attempt.provider_request_id, attempt.model, id),
        )
        await self._ledger.commit(SETTLE, row)

    def _text(self, text: str | None) -> str | None:
        return clean(self._redactor.text(text)) if text else None

    def _count(self, attempt: Attempt, usage: Usage, *, billed: Billed, cost: Decimal | None) -> None:
        tally = self._tally
        tally.input_tokens += usage.input_tokens or 0
        tally.output_tokens += usage.output_tokens or 0
        if attempt.outcome == "ok" and (usage.input_tokens is None or usage.output_tokens is None):
            tally.unknown_usage += 1
        tally.maybe_billed += billed == "maybe"
        if cost is not None:
            tally.cost_known_usd += cost
        else:
            tally.unpriced += billed == "yes"
            tally.maybe_unpriced += billed == "maybe"
        tally.latencies.add(attempt.latency_s)


def _billed(model: Model, billed: Billed) -> Billed:
    """As it is, but nobody bills for a model that costs nothing."""
    return "no" if cost_of(model, Usage()) == 0 else billed
