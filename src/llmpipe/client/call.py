"""What goes down the stack: one call, the things the layers work with, and the shape of a layer."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from llmpipe.client.large_replies import READING_BYTES, WORKING_BYTES, Room, Share, unbounded
from llmpipe.client.silence import Silence
from llmpipe.policy import CallPolicy
from llmpipe.types import Attempt, LLMRequest, LLMResponse, Model

if TYPE_CHECKING:
    from llmpipe.client.allowance import RetryAllowance
    from llmpipe.client.budget import Amount, BudgetKeeper
    from llmpipe.client.cache import Cache
    from llmpipe.client.gate import Gates
    from llmpipe.client.journal import Journal
    from llmpipe.client.redact import Redactor
    from llmpipe.client.refusals import Refusals
    from llmpipe.client.transport import Transport
    from llmpipe.providers.table import Target


class Deadline:
    """The clock over all attempts of a call; it starts with the first admission, so that queueing never counts.

    The layer `limited` calls `start` each time it admits an attempt; only the first one counts.
    """

    __slots__ = ("_on_start", "at", "total_s")

    def __init__(self, total_s: float | None) -> None:
        self.total_s = total_s
        self.at: float | None = None  # in seconds of `Deps.clock`; None: not started, or the clock is off
        self._on_start: Callable[[float], None] | None = None

    def on_start(self, tell: Callable[[float], None]) -> None:
        """Have `tell` called with the total seconds once the clock starts."""
        self._on_start = tell

    def start(self, now: float) -> None:
        """Start the clock at `now` (seconds of `Deps.clock`), unless it runs already or is off."""
        if self.total_s is None or self.at is not None:
            return
        self.at = now + self.total_s
        if self._on_start is not None:
            self._on_start(self.total_s)

    def left(self, now: float) -> float | None:
        """Seconds that are left, never below 0; None if the clock is off. All of them before it has started."""
        if self.at is None:
            return self.total_s
        return max(0.0, self.at - now)


@dataclass(slots=True)
class Call:
    """One request on its way to one model. Nothing but `attempts`, `silence`, `deadline` and `answerer` changes.

    A fallback is another Call that shares `attempts`, `silence`, `request_id` and `journal`.
    """

    request: LLMRequest  # with the model's own parameters filled in
    asked: LLMRequest  # as it was given: what another model is asked starts from this
    model: Model
    target: Target
    key: str  # client.keys.make_cache_key: names the answer in cache, journal and flight
    material: bytes  # the canonical JSON whose digest `key` is
    request_id: str
    policy: CallPolicy
    attempts: list[Attempt] = field(default_factory=list)
    silence: Silence = field(default_factory=Silence)
    work: Share = field(default_factory=unbounded)  # of the room for large replies, until its result is written
    journal: Journal | None = None
    deadline: Deadline = field(default_factory=lambda: Deadline(None))
    reserved: Amount | None = None  # of the budget, for the attempt that is under way
    claimed: bool = False  # the answer may be bought under a claim of the cache
    order: int = 0  # of the calls that wait at a gate the one of the lowest order goes first
    answerer: Call | None = None  # the call made in this one's place: to a fallback, or with the schema in the prompt

    @property
    def number(self) -> int:
        """The number of the attempt that is under way or would be next, from 1, fallbacks counted through."""
        return len(self.attempts) + 1

    @property
    def last(self) -> Call:
        """The call that was asked last in this one's place; this one where there was none."""
        return self if self.answerer is None else self.answerer.last


Handler: TypeAlias = Callable[[Call], Awaitable[LLMResponse]]


@dataclass(slots=True)
class Deps:
    """What the layers work with: clocks, chance, stores, gates. One per client and event loop."""

    clock: Callable[[], float]  # monotonic seconds; decides
    wall: Callable[[], float]  # seconds since the epoch; is written down
    sleep: Callable[[float], Awaitable[Any]]
    rng: random.Random
    cache: Cache | None
    gates: Gates
    budget: BudgetKeeper | None
    allowance: RetryAllowance
    secrets: Callable[[str], str | None]  # name of a variable -> its value
    transport: Transport
    redactor: Redactor
    refusals: Refusals
    logger: Any  # loguru's logger, or what offers the same `bind(...).info(...)`
    models: Mapping[str, Model]
    resolve: Callable[[str], tuple[Model, Target]]  # a model's name, as in LLMRequest.model
    reading: Room = field(default_factory=lambda: Room(READING_BYTES))
    working: Room = field(default_factory=lambda: Room(WORKING_BYTES))
    own: Mapping[str, Handler] = field(default_factory=dict)  # providers that are code: their name -> the exchange


Layer: TypeAlias = Callable[[Handler, Deps], Handler]
