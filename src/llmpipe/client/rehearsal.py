"""A client that goes through with a call as far as it costs nothing, and says what would be sent where it would be.

The layers that answer without a provider are the run's own, in the run's order. Where the first layer that waits or
pays would stand (`total_timeout`), the rehearsal ends the call with `NotSent`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from llmpipe.client.aim import in_prompt
from llmpipe.client.allowance import RetryAllowance
from llmpipe.client.budget import BudgetKeeper
from llmpipe.client.cache import Cache
from llmpipe.client.call import Call, Deps
from llmpipe.client.client import LLMClient
from llmpipe.client.layers.budgeted import output_limit, upper_bound
from llmpipe.client.layers.single_flight import single_flight
from llmpipe.client.layers.total import total_timeout
from llmpipe.client.layers.traced import traced
from llmpipe.client.output import OutputSpec
from llmpipe.client.prices import MILLION, price_at
from llmpipe.client.proxies import Proxies
from llmpipe.client.redact import Redactor
from llmpipe.client.refusals import Name, NativeRefused, Refusals, refusal_of
from llmpipe.client.room import Room
from llmpipe.client.stack import LAYERS, build_stack
from llmpipe.errors import BudgetExceeded, CallFailed
from llmpipe.frozen import frozen
from llmpipe.policy import Budget, CallPolicy
from llmpipe.providers.asked import estimate_sent
from llmpipe.providers.estimate import least_tokens
from llmpipe.types import LLMResponse, Model, Price

if TYPE_CHECKING:
    from llmpipe.client.gate import Gates
    from llmpipe.client.transport import Transport
    from llmpipe.providers.table import Target

_LOOKS = 20  # calls by which it is found out whether a provider refused a schema
# `traced` would log, and `single_flight` keeps apart what is under way at the same time: here one call follows another.
REHEARSED = tuple(layer for layer in LAYERS[: LAYERS.index(total_timeout)] if layer not in (traced, single_flight))


@frozen
class Bounds:
    """What an exchange takes at least and may take at most, where there is a budget to hold it against.

    `refused` is why the budget would not let it be sent at all; money is None where the price is not known.
    """

    least_tokens: int
    least_usd: Decimal | None
    most_tokens: int
    most_usd: Decimal | None
    refused: str = ""


@frozen
class Asking:
    """An exchange that would be made: with whom, how large the request is about, and how long the answer may be.

    `price` is the one of a request of this size, None if nobody knows; `output_limit` None: the request sets none.
    `shared`: an equal request comes before it, whose answer the cache will have by then. `repeated`: one comes before
    it whose answer nobody keeps, so that it is made again unless both are under way at the same time.
    """

    model: str
    price: Price | None
    input_tokens: int
    output_limit: int | None
    shared: bool
    repeated: bool
    bounds: Bounds | None


class NotSent(CallFailed):
    """An exchange would be made here."""

    def __init__(self, asking: Asking) -> None:
        super().__init__("a plan sends nothing")
        self.sent = False
        self.asking = asking


class Rehearsal(LLMClient):
    """An LLMClient that answers from journal and cache, and raises NotSent where it would send.

    It needs no keys. `budget` is what the run may still spend. Close it to let go of nothing: the cache is the
    caller's.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        cache: Cache,
        budget: Budget,
        redactor: Redactor,
        secrets: Callable[[str], str | None],
    ) -> None:
        super().__init__(models, cache=cache, secrets=secrets, proxies=Proxies(), redactor=redactor, logger=_Mute())
        self._keeper = BudgetKeeper(budget)
        self._kept: set[int] = set()  # the beginnings of the keys whose answers the cache will have
        self._lost: set[int] = set()  # of those that nobody keeps
        self._cache, self._refusals = cache, Refusals()
        self._looks: Counter[Name] = Counter()  # for answers by the prompt where none was given natively
        self.tries: list[Asking] = []  # calls that would only find out that a provider refuses a schema
        deps = _deps(cache, redactor, self.resolve, self._refusals)
        self._rehearsed = Room(deps, self._not_sent, build_stack(self._not_sent, deps, REHEARSED))

    def _room(self) -> Room:
        return self._rehearsed

    def _require_keys(self, model: Model, target: Target, policy: CallPolicy, output: OutputSpec | None = None) -> None:
        """Nothing is sent, so no key is needed."""

    async def _not_sent(self, call: Call) -> LLMResponse:
        name = refusal_of(call)
        if name is not None and await self._was_refused(call, name):
            self.tries.append(self._asking(call))
            refused = NativeRefused(f"{call.model.label} refused this output schema in an earlier run")
            self._refusals.add(name, call.model, refused)
            raise refused
        raise NotSent(self._asking(call))

    async def _was_refused(self, call: Call, name: Name) -> bool:
        """True if answers by the prompt are there, which are only asked for after the native request was refused."""
        self._looks[name] += 1
        if not call.policy.cache.read or self._looks[name] > _LOOKS:
            return False
        return await self._cache.get(in_prompt(call).key) is not None

    def _asking(self, call: Call) -> Asking:
        policy, key = call.policy.cache, int(call.key[:16], 16)
        shared = policy.read and key in self._kept
        repeated = not shared and (key in self._kept or key in self._lost)
        (self._kept if policy.write else self._lost).add(key)
        tokens = estimate_sent(call.request, call.target)
        return Asking(
            model=call.model.name,
            price=price_at(call.model, tokens),
            input_tokens=tokens,
            output_limit=output_limit(call),
            shared=shared,
            repeated=repeated,
            bounds=None if shared else self._bounds(call),
        )

    def _bounds(self, call: Call) -> Bounds | None:
        """None without a budget in money or tokens; the number of calls needs none."""
        if not self._keeper.counts_input:
            return None
        least = sum(least_tokens(turn.content) for turn in call.request.turns())
        usd = _least_usd(call.model, least)
        try:
            most = upper_bound(call, self._keeper)
        except BudgetExceeded as err:
            return Bounds(least, usd, least, usd, str(err))
        unknown = self._keeper.budget.usd is not None and most.usd is None
        refused = f"the price of {call.model.label} is not known, so a budget in usd lets nothing be sent to it"
        return Bounds(least, usd, most.tokens, most.usd, refused if unknown else "")


def _least_usd(model: Model, tokens: int) -> Decimal | None:
    """What so many tokens of input cost at least: all of them may come from the provider's own cache."""
    price = price_at(model, tokens)
    if price is None:
        return None
    cheapest = price.input if price.cached_input is None else min(price.input, price.cached_input)
    return tokens * cheapest / MILLION


def _deps(cache: Cache, redactor: Redactor, resolve: Callable[[str], tuple[Model, Target]], refusals: Refusals) -> Deps:
    """What the rehearsed layers work with; those that wait, pay or send, and what they need, are not there."""
    return Deps(
        clock=time.monotonic,
        wall=time.time,
        sleep=asyncio.sleep,
        rng=random.Random(0),  # noqa: S311 - nothing is spread
        cache=cache,
        gates=cast("Gates", None),
        budget=None,
        allowance=RetryAllowance(),
        secrets=lambda name: None,
        transport=cast("Transport", None),
        redactor=redactor,
        refusals=refusals,
        logger=_Mute(),
        models={},
        resolve=resolve,
    )


class _Mute:
    """A logger for calls that are not made."""

    def bind(self, **fields: Any) -> _Mute:
        return self

    def info(self, event: str) -> None:
        """Nothing."""

    def warning(self, event: str) -> None:
        """Nothing."""
