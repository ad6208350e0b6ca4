"""Points a request at a model: fills in the model's own parameters and names the answer by its key."""

from __future__ import annotations

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
    twin.attempts, twin.order = call.attempts, call.order
    return twin


def asking(call: Call, asked: LLMRequest) -> Call:
    """Another question to the same model, as part of the same call."""
    twin = first_call(
        asked, call.model, call.target, request_id=call.request_id, policy=call.policy, journal=call.journal
    )
    twin.attempts, twin.order = call.attempts, call.order
    return twin


def others(call: Call, error: CallFailed) -> tuple[str, ...]:
    """The models that may be asked after `error`, in order: of the policy, else of the call's own model."""
    policy, model = call.policy, call.model
    own = policy.fallback is None
    names, words = (model.fallback, model.fallback_on) if own else (policy.fallback or (), policy.fallback_on)
    return tuple(n for n in names if (is_meant(error, words[n]) if n in words else error.fallback))


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
