"""Where a run may send data, and whether a key for it is there; never the key itself (pure, but for the look)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from llmpipe.config.pipeline import Pipeline, may_ask
from llmpipe.engine.choose import Choice
from llmpipe.engine.planned import Destination
from llmpipe.providers.table import Target, resolve

if TYPE_CHECKING:
    from llmpipe.config.environment import Environment


def destinations(pipeline: Pipeline, choice: Choice, environment: Environment) -> tuple[Destination, ...]:
    """Every origin that the steps of the run may come to ask, those of first choice first."""
    first: dict[str, None] = {}
    others: dict[str, None] = {}
    for step in pipeline.steps:
        if step.id in choice.wanted and step.id not in choice.fixed and step.kind == "model":
            first |= dict.fromkeys(step.models)
            others |= dict.fromkeys(may_ask(step, pipeline.models))
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    targets = {name: resolve(pipeline.models[name]) for name in {**first, **others}}
    for name, target in targets.items():
        found.setdefault((target.origin, target.api_key_envs), []).append(name)
    return tuple(
        Destination(
            origin=origin,
            models=tuple(dict.fromkeys(targets[name].label for name in names)),
            keys=keys,
            key_found=next((f"{key}, {place}" for key in keys if (place := environment.origin(key))), ""),
            standby=not any(name in first for name in names),
            kind=_kind(targets[names[0]]),
        )
        for (origin, keys), names in found.items()
    )


def _kind(target: Target) -> Literal["server", "echo", "code"]:
    return "echo" if target.wire == "echo" else "code" if target.wire == "own" else "server"
