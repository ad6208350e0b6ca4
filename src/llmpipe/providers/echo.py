"""The embedded default provider: no key, no network, no model; the same request is answered alike everywhere.

`plan` decides (how long the answer takes, and what it is) and does nothing; the client waits by its own clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.errors import BadRequest, CallFailed, SchemaUnusable, ServerFault
from llmpipe.frozen import frozen
from llmpipe.providers.estimate import estimate_input, estimate_tokens
from llmpipe.providers.faults import drawn_fault, fault_error
from llmpipe.structured.instance import example_instance
from llmpipe.types import LLMRequest, LLMResponse, Usage


@frozen
class Plan:
    """What comes of an attempt: after `delay_s` seconds, a response or an error."""

    delay_s: float
    outcome: LLMResponse | CallFailed


def answer(request: LLMRequest, *, attempt: int = 1, model: str = "echo") -> LLMResponse:
    """The answer to `request`, at once. Raises the CallFailed that the attempt (from 1) meets instead."""
    outcome = plan(request, attempt=attempt, model=model).outcome
    if isinstance(outcome, CallFailed):
        raise outcome
    return outcome


def plan(request: LLMRequest, *, attempt: int = 1, model: str = "echo") -> Plan:
    """What comes of the attempt (from 1) at `request`, and after how many seconds.

    The answer is `echo: <last user prompt>`, or an instance of the schema drawn by the conversation. `force_error`
    makes every attempt a server fault, `latency_s` the delay, `faults` the shares of what goes wrong.
    """
    delay = max(0.0, request.latency_s or 0.0)
    if request.force_error:
        return Plan(delay, ServerFault("forced error", status=500))
    seed = _seed(request)
    try:
        fault = drawn_fault(request.faults, seed, attempt)
        text = _text(request, seed, fault)
    except (ValueError, SchemaUnusable) as err:
        return Plan(0.0, _unsendable(str(err)))
    usage = Usage(input_tokens=estimate_input(request), output_tokens=estimate_tokens(text))
    error = fault_error(fault, request, text, usage) if fault else None
    reply = LLMResponse(text=text, model=model, provider="echo", usage=usage, answered_by=f"echo/{model}")
    return Plan(delay, error or reply)


def _text(request: LLMRequest, seed: str, fault: str | None) -> str:
    if request.schema is None:
        return f"echo: {_last_prompt(request)}"
    value = example_instance(request.schema, seed)
    text = json.dumps(_spoilt(value, request.schema) if fault == "schema_violation" else value, ensure_ascii=False)
    return f"Here you are: {text[:-1]}" if fault == "invalid_json" else text


def _last_prompt(request: LLMRequest) -> str:
    turns = [turn.content for turn in request.turns() if turn.role == "user"]
    return turns[-1] if turns else request.turns()[-1].content


def _seed(request: LLMRequest) -> str:
    """Names the conversation: its turns and its sample. A re-ask is another conversation, a retry is not."""
    parts = [f"{turn.role}\x1f{turn.content}" for turn in request.turns()]
    parts.append(str(request.sample))
    return hashlib.sha256("\x1e".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _spoilt(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value` changed in one place so that the schema no longer takes it; as it is if the schema takes everything."""
    from llmpipe.structured.schema import compile_schema

    accepts = compile_schema(schema).accepts
    return next((changed for changed in _changes(value) if not accepts(changed)), value)


def _changes(value: Any) -> Iterator[Any]:
    """Mistakes that models make: a value of the wrong kind, a name left out, a name too many, another shape."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield {**value, name: "many" if isinstance(part, int | float) else 12345}
        for name in value:
            yield {other: part for other, part in value.items() if other != name}
        yield {**value, "unexpected": True}
    yield from (["unexpected"], {"unexpected": True}, "unexpected", 12345, None)


def _unsendable(why: str) -> BadRequest:
    error = BadRequest(f"echo cannot be asked this: {why}")
    error.sent = False
    return error
