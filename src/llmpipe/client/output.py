"""What an answer has to hold, and the reading of it: text → JSON → the user's own form → schema → check."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmpipe.client.call import Call
from llmpipe.errors import CheckFailed, NotJson, SchemaMismatch, SchemaUnusable
from llmpipe.frozen import frozen
from llmpipe.structured.messages import reask_for_check, reask_for_json, reask_for_violations
from llmpipe.structured.reading import read_json
from llmpipe.types import LLMRequest, LLMResponse

if TYPE_CHECKING:
    from llmpipe.structured.schema import OutputSchema
    from llmpipe.structured.violations import Violation

DEFAULT_REASKS = 1
LONG_TEXT = 100_000  # characters; above, parsing takes longer than an event loop should wait
MOST_MARKS = 10  # notes on what was coerced in one answer
_KEPT_SCHEMAS = 64
_LISTED = 3


@frozen
class OutputSpec:
    """What an answer has to hold, and what is done about one that does not.

    `schema`: the answer is JSON that fits it. `check` gets the value (the text, without a schema) and returns what is
    wrong with it in one sentence, or None. `max_reasks`: how often a model is asked again; 0 = never. `reask_model`
    names the model that is asked again; None = the one that answered.
    `repair`: almost-JSON is mended before it is validated. `coerce`: where a value does not fit, texts are turned into
    the numbers, booleans and dates that the schema asks for. Both are marked in the response's notes.
    `extend`: an answer that was cut off is asked for once more with twice the room, if the request limits it.
    """

    schema: OutputSchema | None = None
    check: Callable[[Any], str | None] | None = None
    max_reasks: int = DEFAULT_REASKS
    repair: bool = False
    coerce: bool = False
    extend: bool = False
    reask_model: str | None = None


async def read_output(response: LLMResponse, call: Call, spec: OutputSpec) -> tuple[Any, tuple[str, ...]]:
    """The validated value in an answer to `call`, and notes on how it was had.

    Raises NotJson, SchemaMismatch or CheckFailed with `details`: what to `say` to the model, and all `violations`.
    Long answers are read in a thread, and so are checks that may take long: the event loop never waits for them.
    """
    schema = spec.schema
    if schema is None:
        _check(response.text, spec)
        return None, ()
    try:
        length = len(response.text) * (50 if spec.repair else 1)  # mending takes so many times as long
        if length > LONG_TEXT or schema.may_block(len(response.text)):
            value, notes = await asyncio.to_thread(_value, response, call, spec)
        else:
            value, notes = _value(response, call, spec)
    except NotJson as err:
        err.details = {"say": reask_for_json(err.message)}
        raise
    violations = await schema.violations_async(value)
    if violations and spec.coerce:
        changed, marks = _coerced(value, schema)
        if marks and not await schema.violations_async(changed):
            value, notes, violations = changed, (*notes, *_few(marks)), []
    if violations:
        raise _mismatch(violations)
    _check(value, spec)
    return value, notes


def in_full(request: LLMRequest) -> LLMRequest:
    """The request with its schema as JSON Schema where it brings the short form, `{"score": "integer 1..5"}`.

    What may be either, as `{"type": "string"}`, is JSON Schema. Raises SchemaUnusable for a short form that is none.
    """
    from llmpipe.structured.short_form import expand, is_short_form

    schema = request.schema
    if not schema or not isinstance(schema, Mapping):
        return request
    try:
        short = is_short_form(schema)
    except SchemaUnusable:
        short = False
    return replace(request, schema=expand(schema)) if short else request


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


def _value(response: LLMResponse, call: Call, spec: OutputSpec) -> tuple[Any, tuple[str, ...]]:
    """The value in the form of the whole schema, where the provider was given a reduced copy of it (facts A3)."""
    from llmpipe.providers.asked import asked_schema

    value, notes = read_json(response.text, repair=spec.repair)
    reduced = asked_schema(call.request, call.target)
    return (value if reduced is None else reduced.restore(value)), notes


def _coerced(value: Any, schema: OutputSchema) -> tuple[Any, tuple[str, ...]]:
    from llmpipe.structured.coerce import coerce

    return coerce(value, schema.document)


def _few(marks: tuple[str, ...]) -> tuple[str, ...]:
    return marks if len(marks) <= MOST_MARKS else (*marks[:MOST_MARKS], f"coerced:{len(marks) - MOST_MARKS}_more")


def _mismatch(violations: list[Violation]) -> SchemaMismatch:
    listed = "; ".join(f"{v.path}: {v.message}" for v in violations[:_LISTED])
    more = f" (and {len(violations) - _LISTED} more)" if len(violations) > _LISTED else ""
    details = {"say": reask_for_violations(violations), "violations": [str(v) for v in violations]}
    return SchemaMismatch(listed + more, details=details)


def _check(value: Any, spec: OutputSpec) -> None:
    wrong = spec.check(value) if spec.check is not None else None
    if wrong is not None:
        raise CheckFailed(wrong, details={"say": reask_for_check(wrong, is_json=spec.schema is not None)})
