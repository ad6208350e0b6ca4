"""Validates an answer and asks again with the validator's own words: the one function for steps and notebooks alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmpipe.client.aim import asking
from llmpipe.client.call import Call, Handler
from llmpipe.errors import CallFailed, CheckFailed, InvalidOutput, NotJson, SchemaMismatch
from llmpipe.structured.messages import reask_for_check, reask_for_json, reask_for_violations
from llmpipe.structured.reading import read_json
from llmpipe.types import LLMRequest, LLMResponse, Message

if TYPE_CHECKING:
    from llmpipe.structured.schema import OutputSchema

DEFAULT_REASKS = 1
_KEPT_SCHEMAS = 64
_LISTED = 3


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What an answer has to hold.

    `schema`: the answer is JSON that fits it. `check` gets the value (the text, without a schema) and returns what is
    wrong with it in one sentence, or None. `max_reasks`: how often a model is asked again; 0 = never.
    `repair`: almost-JSON is mended before it is validated, and marked.
    """

    schema: OutputSchema | None = None
    check: Callable[[Any], str | None] | None = None
    max_reasks: int = DEFAULT_REASKS
    repair: bool = False


@dataclass(slots=True)
class _Try:
    """One answer of the conversation, and what is wrong with it."""

    response: LLMResponse
    error: InvalidOutput


async def ask(handler: Handler, call: Call, spec: OutputSpec) -> LLMResponse:
    """The answer to `call` with its validated `output`; invalid ones are asked for again, at most `max_reasks` times.

    Each re-ask is a request of its own (own key, own retries) that shows the model its reply and what is wrong with it;
    it ends early when the model repeats its reply. The response counts the tokens and the cost of all tries.
    Raises NotJson, SchemaMismatch or CheckFailed, with every try in `details["tries"]`; an answer that is refused, cut,
    filtered or empty is another error, which is never parsed and never asked again (facts B2.6).
    """
    tries: list[_Try] = []
    asked = call.asked
    while True:
        try:
            response = await handler(call)
        except CallFailed as err:
            if tries:
                err.details = {"error": err.details, "tries": _told(tries)}
            raise
        try:
            output, notes = await _read(response, call, spec)
        except InvalidOutput as err:
            repeated = bool(tries) and tries[-1].response.text == response.text
            tries.append(_Try(response, err))
            if repeated or len(tries) > spec.max_reasks:
                raise _final(tries, call) from None
            asked = _again(asked, response.text, err)
            call = asking(call, asked)
        else:
            return _summed(replace(response, output=output, notes=(*response.notes, *notes)), tries)


def spec_of(schema: Mapping[str, Any]) -> OutputSpec:
    """The spec of a request that brings only a schema. Raises SchemaUnusable if that is no JSON Schema."""
    from llmpipe.structured.schema import compile_schema

    name = json.dumps(schema, sort_keys=True, default=dict)
    spec = _specs.get(name)
    if spec is None:
        if len(_specs) >= _KEPT_SCHEMAS:
            _specs.clear()
        spec = _specs[name] = OutputSpec(compile_schema(schema))
    return spec


_specs: dict[str, OutputSpec] = {}


async def _read(response: LLMResponse, call: Call, spec: OutputSpec) -> tuple[Any, tuple[str, ...]]:
    """The validated value in an answer, and notes on how it was had. Raises InvalidOutput with `details["say"]`."""
    if spec.schema is None:
        _check(response.text, spec)
        return None, ()
    try:
        value, notes = read_json(response.text, repair=spec.repair)
    except NotJson as err:
        err.details = {"say": reask_for_json(err.message)}
        raise
    value = _restored(value, call)
    violations = await spec.schema.violations_async(value)
    if violations:
        listed = "; ".join(f"{v.path}: {v.message}" for v in violations[:_LISTED])
        more = f" (and {len(violations) - _LISTED} more)" if len(violations) > _LISTED else ""
        raise SchemaMismatch(listed + more, details={"say": reask_for_violations(violations)})
    _check(value, spec)
    return value, notes


def _check(value: Any, spec: OutputSpec) -> None:
    wrong = spec.check(value) if spec.check is not None else None
    if wrong is not None:
        raise CheckFailed(wrong, details={"say": reask_for_check(wrong)})


def _restored(value: Any, call: Call) -> Any:
    """The value in the form of the whole schema, where the provider was given a reduced copy of it (facts A3)."""
    from llmpipe.providers.asked import asked_schema

    reduced = asked_schema(call.request, call.answerer or call.target)
    return value if reduced is None else reduced.restore(value)


def _again(asked: LLMRequest, reply: str, err: InvalidOutput) -> LLMRequest:
    prompt = (Message("user", asked.prompt),) if asked.prompt is not None else ()
    turns = (*asked.messages, *prompt, Message("assistant", reply), Message("user", err.details["say"]))
    return replace(asked, prompt=None, messages=turns)


def _final(tries: list[_Try], call: Call) -> InvalidOutput:
    """The last error, with all that was answered."""
    response = tries[-1].response
    err = copy.copy(tries[-1].error)
    err.details = {"tries": _told(tries)}
    err.raw = response.text
    err.usage = _summed(response, tries[:-1]).usage
    err.billed = "yes"
    err.provider_request_id = response.provider_request_id
    err.attempts = tuple(call.attempts)
    err.request_id = call.request_id
    return err


def _told(tries: list[_Try]) -> list[dict[str, Any]]:
    return [
        {
            "reply": t.response.text,
            "error_type": t.error.kind,
            "error": t.error.message,
            "model": t.response.answered_by,
            "usage": t.response.usage,
            "cached": t.response.cached,
        }
        for t in tries
    ]


def _summed(response: LLMResponse, earlier: list[_Try]) -> LLMResponse:
    """`response` with the tokens, money and seconds of the tries before it."""
    if not earlier:
        return response
    usage, cost, latency = response.usage, response.cost_usd, response.latency_s
    for t in earlier:
        usage = t.response.usage + usage
        cost = None if cost is None or t.response.cost_usd is None else cost + t.response.cost_usd
        latency += t.response.latency_s
    notes = tuple(dict.fromkeys(response.notes))
    return replace(response, usage=usage, cost_usd=cost, latency_s=latency, reasks=len(earlier), notes=notes)
