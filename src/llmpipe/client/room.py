"""What a client needs for one event loop: connections, gates and the stack around them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmpipe.client.allowance import RetryAllowance
from llmpipe.client.cache import Cache
from llmpipe.client.call import Deps, Handler
from llmpipe.client.refusals import Refusals
from llmpipe.client.stack import build_stack
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.budget import BudgetKeeper
    from llmpipe.client.proxies import Proxies
    from llmpipe.client.redact import Redactor
    from llmpipe.providers.table import Target


@dataclass(slots=True)
class Parts:
    """What all rooms of a client share."""

    models: Mapping[str, Model]
    resolve: Callable[[str], tuple[Model, Target]]
    cache: Cache
    secrets: Callable[[str], str | None]
    redactor: Redactor
    budget: BudgetKeeper | None
    logger: Any
    proxies: Proxies
    rng: random.Random
    sleep: Callable[[float], Awaitable[Any]]
    own: Mapping[str, Handler] = field(default_factory=dict)
    allowance: RetryAllowance = field(default_factory=RetryAllowance)
    refusals: Refusals = field(default_factory=Refusals)


@dataclass(slots=True)
class Room:
    """One event loop's share of a client. `exchange` is the innermost handler, `handler` the whole stack."""

    deps: Deps
    exchange: Handler
    handler: Handler

    async def aclose(self) -> None:
        """Close the connections."""
        await self.deps.transport.aclose()


def open_room(parts: Parts, override: Handler | None) -> Room:
    """A room for the running loop. `override` takes the place of the exchange within the stack."""
    from llmpipe.client.clock import awake_time
    from llmpipe.client.gate import Gates
    from llmpipe.client.layers.provider import provider
    from llmpipe.client.transport import Transport

    asyncio.get_running_loop()  # raises RuntimeError where there is none
    deps = Deps(
        clock=awake_time(),
        wall=time.time,
        sleep=parts.sleep,
        rng=parts.rng,
        cache=parts.cache,
        gates=Gates(clock=time.monotonic, logger=parts.logger),
        budget=parts.budget,
        allowance=parts.allowance,
        secrets=parts.secrets,
        transport=Transport(proxies=parts.proxies, ca_file=parts.proxies.ca_file),
        redactor=parts.redactor,
        refusals=parts.refusals,
        logger=parts.logger,
        models=parts.models,
        resolve=parts.resolve,
        own=parts.own,
    )
    exchange = provider(deps)
    return Room(deps, exchange, build_stack(exchange if override is None else override, deps))
