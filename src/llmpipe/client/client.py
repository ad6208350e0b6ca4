"""LLMClient: the door to the stack, for pipelines and notebooks alike."""

from __future__ import annotations

import asyncio
import math
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from llmpipe.client.aim import first_call
from llmpipe.client.cache import Cache, SimpleMemoryCache
from llmpipe.client.clock import Clock
from llmpipe.client.journal import Journal
from llmpipe.client.large_replies import Share
from llmpipe.client.loop_thread import LoopThread
from llmpipe.client.naming import missing_key, named
from llmpipe.client.output import OutputSpec, in_full, spec_of
from llmpipe.client.override import CURRENT, overridden
from llmpipe.client.own import own_provider
from llmpipe.client.reask import ask
from llmpipe.client.redact import Redactor
from llmpipe.client.refusals import Refusals
from llmpipe.client.room import Parts, Room, open_room
from llmpipe.errors import BadRequest
from llmpipe.policy import CachePolicy, CallPolicy, Retry, Timeout
from llmpipe.types import EMPTY, LLMRequest, LLMResponse, Model

if TYPE_CHECKING:
    from llmpipe.client.budget import BudgetKeeper
    from llmpipe.client.gate import GateStats
    from llmpipe.client.proxies import Proxies
    from llmpipe.providers.table import Target


class LLMClient:
    """Asks models, with every layer of the stack around each call.

        client = LLMClient()
        response = client.call(LLMRequest(model="openai/gpt-5-mini", prompt="hello"))
        print(response)

    `models` names models with parameters, limits and fallbacks; any other name is "provider/model-id", or a bare name
    that `echo` answers. `cache` None = a SimpleMemoryCache of its own. `timeout`, `retry` and `cache_policy` are for
    calls without a policy of their own. `providers` holds code that answers (docs/own-provider.md), by the
    "module:object" that models name. `secrets` finds the value of a variable by its name, `proxies` says how hosts are
    reached; both come from the process environment unless they are given. `budget` and `redactor` are shared by all
    calls; a key that is used is made known to the redactor. `logger` is loguru's unless another one is given. `note` is
    told in one sentence what a person should know besides: that a provider refuses an output schema.

    May be used from several threads and event loops, and in the child of a fork; each loop has connections and gates of
    its own. Close it, or use it in a `with` or `async with` block.
    """

    def __init__(
        self,
        models: Mapping[str, Model] = EMPTY,
        *,
        cache: Cache | None = None,
        timeout: Timeout = Timeout(),
        retry: Retry = Retry(),
        cache_policy: CachePolicy = CachePolicy(),
        providers: Mapping[str, Callable[..., Any]] = EMPTY,
        secrets: Callable[[str], str | None] | None = None,
        proxies: Proxies | None = None,
        budget: BudgetKeeper | None = None,
        redactor: Redactor | None = None,
        note: Callable[[str], None] | None = None,
        logger: Any = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.policy = CallPolicy(timeout=timeout, retry=retry, cache=cache_policy)
        self._own_cache = cache is None
        self._look_up = _secrets() if secrets is None else secrets
        self._keys: dict[str, str] = {}
        self._ids = random.Random()  # noqa: S311 - names calls, guards nothing
        self._names: dict[str, tuple[Model, Target]] = {}
        self._parts = Parts(
            models=dict(models),
            resolve=self.resolve,
            cache=SimpleMemoryCache() if cache is None else cache,
            secrets=self._secret,
            redactor=Redactor() if redactor is None else redactor,
            budget=budget,
            logger=_loguru() if logger is None else logger,
            proxies=_proxies() if proxies is None else proxies,
            rng=random.Random() if rng is None else rng,  # noqa: S311 - spreads waits, guards nothing
            sleep=sleep,
            refusals=Refusals(note),
            own={name: own_provider(name, answer, self._secret) for name, answer in providers.items()},
        )
        method = self._provider_call
        inherited = type(self)._provider_call is LLMClient._provider_call
        self._override = None if inherited else overridden(method)
        self._rooms: dict[asyncio.AbstractEventLoop, Room] = {}
        self._thread = LoopThread()
        self._end = weakref.finalize(self, self._thread.close)  # a client that nobody closes leaves no thread behind

    def call(
        self,
        req: LLMRequest,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        force_error: bool = False,
    ) -> LLMResponse:
        """`acall`, for callers that do not await; works in a notebook and inside a running event loop too."""
        return self._thread.run(self.acall(req, timeout_s=timeout_s, max_retries=max_retries, force_error=force_error))

    async def acall(
        self,
        req: LLMRequest,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        force_error: bool = False,
        policy: CallPolicy | None = None,
        output: OutputSpec | None = None,
        journal: Journal | None = None,
        order: int = 0,
        work: Share | None = None,
    ) -> LLMResponse:
        """The answer to `req`, through every layer.

        `timeout_s` bounds each attempt in seconds (its connection is closed), `max_retries` counts the attempts after
        the first; both win over `policy`. `output` says how an answer is validated and asked for again; a request with
        a `schema` and no `output` is validated against that and asked for again once. `force_error` makes `echo` fail.
        Of the calls that wait at a gate the one of the lowest `order` goes first. A response that is large holds room
        in `work` (from `share`) until that is released.

        Raises CallFailed (a RuntimeError, with `attempts` and `request_id`), and before anything is sent: KeyMissing,
        ConfigError for a schema that is none, ValueError for a senseless bound.
        """
        if not isinstance(req, LLMRequest):
            raise TypeError(f"call takes an LLMRequest, not {type(req).__name__}: LLMRequest(model=..., prompt=...)")
        if output is None and req.schema is not None:
            req = in_full(req)
        policy = bounded(self.policy if policy is None else policy, timeout_s, max_retries)
        model, target = self.resolve(req.model)
        if not policy.offline:
            self._require_keys(model, target, policy, output)
        call = first_call(
            replace(req, force_error=True) if force_error else req,
            model,
            target,
            request_id=f"{self._ids.getrandbits(64):016x}",
            policy=policy,
            journal=journal,
        )
        call.order = order
        if call.request.force_error:
            self._require_echo(target)
        if output is None and call.request.schema is not None:
            output = spec_of(call.request.schema)
        handler = self._room().handler
        call.work = self.share() if work is None else work
        try:
            return await (handler(call) if output is None else ask(handler, call, output, resolve=self.resolve))
        finally:
            if work is None:
                call.work.release()

    def share(self) -> Share:
        """A share of the room in which this event loop's large responses are worked on; release it."""
        return Share(self._room().deps.working)

    async def _provider_call(
        self,
        request: LLMRequest,
        *,
        timeout_s: float | None = None,
        attempt: int | None = None,
        force_error: bool | None = None,
    ) -> LLMResponse:
        """One exchange with the provider; override it to answer by other means, every layer stays around it.

        `request` has the model's own parameters filled in; `timeout_s` is the attempt's clock, which ends the method
        from outside too. An override may be `async` or not, may also take `attempt` (the number of the attempt, from
        1) and `force_error`, returns an LLMResponse or a text, and may call this method. What its exceptions mean:
        client/override.py.
        """
        call = CURRENT.get()
        if force_error is not None and force_error != bool(request.force_error):
            request = replace(request, force_error=force_error)
        if request is not call.request:
            call = replace(call, request=request)
        if timeout_s is not None and timeout_s != call.policy.timeout.attempt:
            call = replace(call, policy=bounded(call.policy, timeout_s, None))
        with Clock(timeout_s):
            return await self._room().exchange(call)

    def resolve(self, name: str) -> tuple[Model, Target]:
        """The model of that name and the target of its calls. Raises ModelUnknown, with what to mend."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = named(name, self._parts.models)
        return found

    def gates(self) -> tuple[GateStats, ...]:
        """What the gates of the running event loop are doing."""
        return self._room().deps.gates.stats()

    def schema_refused(self, name: str, schema: Mapping[str, Any]) -> str | None:
        """What the provider of a model said when it refused to be asked natively for `schema`; None if it has not."""
        model, target = self.resolve(name)
        return self._parts.refusals.words(LLMRequest(model=name, prompt="", schema=schema), model, target)

    @property
    def cache(self) -> Cache:
        """Where answers are kept."""
        return self._parts.cache

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and everything that `close` closes."""
        room = self._rooms.pop(asyncio.get_running_loop(), None)
        if room is not None:
            await room.aclose()
        self.close()

    def close(self) -> None:
        """End the thread behind `call` with its connections, and the cache that the client made itself.

        Connections of other event loops that still run are closed by `aclose` there. A closed client may be used again.
        """
        self._thread.close()
        if self._own_cache:
            self._parts.cache.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _room(self) -> Room:
        loop = asyncio.get_running_loop()
        room = self._rooms.get(loop)
        if room is None:
            for closed in [other for other in list(self._rooms) if other.is_closed()]:
                self._rooms.pop(closed, None)
            room = self._rooms[loop] = open_room(self._parts, self._override)
            self._thread.at_end(loop, room.deps.transport.aclose)
        return room

    def _secret(self, name: str) -> str | None:
        value = self._look_up(name)
        if value and self._keys.get(name) != value:
            self._keys[name] = value
            self._parts.redactor.add({name: value})
        return value

    def _require_echo(self, target: Target) -> None:
        """Refuse to force an error where nobody would: only `echo` and an override of one's own know how to."""
        if self._override is None and target.wire != "echo":
            refusal = BadRequest(f"force_error is for the embedded provider; {target.label} cannot be made to fail")
            refusal.sent = False
            raise refusal

    def _require_keys(self, model: Model, target: Target, policy: CallPolicy, output: OutputSpec | None = None) -> None:
        """Raise KeyMissing unless the model, its fallbacks and who is asked again have keys; an override needs none."""
        if self._override is not None:
            return
        names = model.fallback if policy.fallback is None else policy.fallback
        names = (*names, output.reask_model) if output is not None and output.reask_model is not None else names
        for one, aim in ((model, target), *map(self.resolve, names)):
            if aim.needs_key and not any(self._secret(name) for name in aim.api_key_envs):
                raise missing_key(one, aim)


def bounded(policy: CallPolicy, timeout_s: float | None, max_retries: int | None) -> CallPolicy:
    """`policy` with these bounds. The total grows with `timeout_s` where it would cut attempts short.

    Raises ValueError unless `timeout_s` is above 0 and finite, and `max_retries` 0 or more.
    """
    if timeout_s is None and max_retries is None:
        return policy
    timeout, retry = policy.timeout, policy.retry
    if max_retries is not None:
        if max_retries < 0:
            raise ValueError("max_retries must be 0 or more")
        retry = replace(retry, max_retries=max_retries)
    if timeout_s is not None:
        if not (timeout_s > 0 and math.isfinite(timeout_s)):
            raise ValueError("timeout_s must be a number of seconds above 0")
        most = timeout_s * (retry.max_retries + 1)
        total = None if timeout.total is None else max(timeout.total, most)
        timeout = replace(timeout, attempt=timeout_s, total=total)
    return replace(policy, timeout=timeout, retry=retry)


def _secrets() -> Callable[[str], str | None]:
    """The process's variables; one that is missing is looked for again, because a notebook may set it later."""
    from llmpipe.config.environment import Environment

    known = Environment.load()
    return lambda name: known.secret(name) or Environment.load().secret(name)


def _proxies() -> Proxies:
    from llmpipe.client.proxies import Proxies
    from llmpipe.config.environment import Environment

    return Proxies.from_environment(Environment.load().get)


def _loguru() -> Any:
    from loguru import logger

    return logger
