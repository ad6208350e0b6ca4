"""What the tests of the layers are made of: calls, a clock turned by hand, handlers that answer from a script."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from llmpipe.client.aim import first_call
from llmpipe.client.allowance import RetryAllowance
from llmpipe.client.call import Call, Deps
from llmpipe.client.journal import Rest
from llmpipe.client.naming import named
from llmpipe.client.redact import Redactor
from llmpipe.client.refusals import Refusals
from llmpipe.policy import CallPolicy
from llmpipe.types import Attempt, LLMRequest, LLMResponse, Model, Usage


class HandClock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Lines:
    """A logger that keeps what it is told, with the part of loguru's interface that the client uses."""

    def __init__(self, kept: list[dict[str, Any]] | None = None, bound: Mapping[str, Any] | None = None) -> None:
        self.kept = [] if kept is None else kept
        self._bound = dict(bound or {})

    def bind(self, **fields: Any) -> Lines:
        return Lines(self.kept, {**self._bound, **fields})

    def info(self, message: str) -> None:
        self.kept.append({"event": message, "level": "info", **self._bound})

    def warning(self, message: str) -> None:
        self.kept.append({"event": message, "level": "warning", **self._bound})

    def debug(self, message: str) -> None:
        self.kept.append({"event": message, "level": "debug", **self._bound})


class Diary:
    """A journal in memory that can be asked what was written, in order."""

    def __init__(self, known: Mapping[str, LLMResponse] | None = None) -> None:
        self.known = dict(known or {})
        self.lines: list[tuple[Any, ...]] = []

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def resting(self, on: Rest) -> AbstractContextManager[None]:
        return nullcontext()

    def recall(self, key: str) -> LLMResponse | None:
        return self.known.get(key)

    async def intend(self, *, key: str, number: int, model: Model, request_id: str, reserved: object = None) -> None:
        self.lines.append(("intend", key, number, model.label, request_id))

    async def settle(self, *, key: str, attempt: Attempt, response: LLMResponse | None) -> None:
        self.lines.append(("settle", key, attempt, response))


def deps(hand: HandClock | None = None, *, models: Mapping[str, Model] | None = None, **changes: Any) -> Deps:
    """Real parts with a hand-turned clock; no gates and no transport, which the layers under test do not use."""
    hand = hand or HandClock()
    known = dict(models or {})
    parts: dict[str, Any] = {
        "clock": hand,
        "wall": lambda: 1_700_000_000.0 + hand.now,
        "sleep": hand.sleep,
        "rng": random.Random(7),
        "cache": None,
        "gates": None,
        "budget": None,
        "allowance": RetryAllowance(),
        "secrets": lambda name: None,
        "transport": None,
        "redactor": Redactor(()),
        "refusals": Refusals(),
        "logger": Lines(),
        "models": known,
        "resolve": lambda name: named(name, known),
    }
    return Deps(**{**parts, **changes})


def a_call(
    prompt: str = "hello",
    *,
    name: str = "demo",
    models: Mapping[str, Model] | None = None,
    policy: CallPolicy | None = None,
    journal: Any = None,
    **request: Any,
) -> Call:
    model, target = named(name, models or {})
    asked = LLMRequest(model=name, prompt=prompt, **request)
    return first_call(asked, model, target, request_id="r-1", policy=policy or CallPolicy(), journal=journal)


def an_answer(text: str = "yes", **changes: Any) -> LLMResponse:
    usage = Usage(input_tokens=3, output_tokens=2)
    return LLMResponse(**{"text": text, "model": "m", "provider": "echo", "usage": usage, **changes})


def script(*steps: LLMResponse | BaseException | Callable[[Call], Awaitable[LLMResponse]]) -> Any:
    """A handler that does one step a call, the last one again and again; `.calls` are the calls that reached it."""
    return _Script(steps)


class _Script:
    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = list(steps)
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> LLMResponse:
        step = self.steps[min(len(self.calls), len(self.steps) - 1)]
        self.calls.append(call)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, LLMResponse):
            return step
        answer: LLMResponse = await step(call)
        return answer
