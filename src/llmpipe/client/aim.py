"""Points a request at a model: fills in the model's own parameters and names the answer by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmpipe.client.call import Call
from llmpipe.client.journal import Journal
from llmpipe.client.keys import digest, key_material
from llmpipe.error_words import is_meant
from llmpipe.errors import CallFailed
from llmpipe.policy import CallPolicy
from llmpipe.types import LLMRequest, Model

if TYPE_CHECKING:
    from llmpipe.providers.table import Target


def first_call(
    asked: LLMRequest, model: Model, target: Target, *, request_id: str, policy: CallPolicy, journal: Journal | None
) -> Call:
    """The call that asks `model` what was asked."""
    request = filled(asked, model)
    material = key_material(request, target)
    return Call(
        request=request,
        asked=asked,
        model=model,
        target=target,
        key=digest(material),
        material=material,
        request_id=request_id,
        policy=policy,
        journal=journal,
    )


def aimed(call: Call, model: Model, target: Target) -> Call:
    """The same question to another model: a call of its own that goes on counting the attempts of `call`."""
    twin = first_call(call.asked, model, target, request_id=call.request_id, policy=call.policy, journal=call.journal)
    twin.attempts, twin.silence, twin.order = call.attempts, call.silence, call.order
    twin.work = call.work
    return twin


def in_prompt(call: Call) -> Call:
    """The same question to the same model with the schema in the prompt: it goes on counting the attempts of `call`."""
    dialect = replace(call.target.dialect, schema_mode="prompt")
    return aimed(call, call.model, replace(call.target, dialect=dialect))


def asking(call: Call, asked: LLMRequest) -> Call:
    """Another question to the model that answered, as part of the same call; the fallbacks behind it are left."""
    by = call.answerer
    if by is None or by.model.name == call.model.name:  # with the schema in the prompt: known by now, and done again
        return _going_on(call, asked, call.model, call.target, policy=call.policy)
    names, words = _fallbacks(call)
    behind = names[names.index(by.model.name) + 1 :] if by.model.name in names else ()
    return _going_on(call, asked, by.model, by.target, policy=replace(call.policy, fallback=behind, fallback_on=words))


def asking_another(call: Call, asked: LLMRequest, model: Model, target: Target) -> Call:
    """Another question to another model, as part of the same call; its own fallbacks hold, or those of the policy."""
    named = call.policy.fallback
    rest = None if named is None else tuple(name for name in named if name != model.name)
    return _going_on(call, asked, model, target, policy=replace(call.policy, fallback=rest))


def _going_on(call: Call, asked: LLMRequest, model: Model, target: Target, *, policy: CallPolicy) -> Call:
    twin = first_call(asked, model, target, request_id=call.request_id, policy=policy, journal=call.journal)
    twin.attempts, twin.silence, twin.order = call.attempts, call.silence, call.order
    twin.work = call.work
    return twin


def others(call: Call, error: CallFailed) -> tuple[str, ...]:
    """The models that may be asked after `error`, in order: of the policy, else of the call's own model."""
    names, words = _fallbacks(call)
    return tuple(n for n in names if (is_meant(error, words[n]) if n in words else error.fallback))


def _fallbacks(call: Call) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    policy, model = call.policy, call.model
    if policy.fallback is None:
        return model.fallback, model.fallback_on
    return policy.fallback, policy.fallback_on


def filled(request: LLMRequest, model: Model) -> LLMRequest:
    """`request` with the model's `params` where it says nothing itself; `extra` and `faults` are merged by key."""
    changes: dict[str, Any] = {}
    for name, value in model.params.items():
        own = getattr(request, name)
        if name in ("extra", "faults"):
            changes[name] = {**value, **own}
        elif own is None or own == ():
            changes[name] = value
    return replace(request, **changes) if changes else request
