"""A budget can only be kept if every model's answer has a bound: told at load, not at the first call."""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.config.fields import Fields
from llmpipe.config.pipeline import Step
from llmpipe.config.problems import Problems
from llmpipe.policy import Budget
from llmpipe.types import Model


def check_budget(
    budget: Budget, pipeline: Fields, steps: Mapping[str, Step], models: Mapping[str, Model], problems: Problems
) -> None:
    """A budget in dollars or tokens needs `max_output_tokens` for every model that may be asked."""
    from llmpipe.providers.rows import PROVIDERS

    if budget.usd is None and budget.tokens is None:
        return
    section = pipeline.get("models")
    for step in steps.values():
        for name in _asked(step, models):
            model = models.get(name)
            if model is None or PROVIDERS[model.provider].wire == "echo":
                continue
            if (
                "max_output_tokens" not in model.params
                and "max_output_tokens" not in step.params
                and section is not None
            ):
                what = "usd" if budget.usd is not None else "tokens"
                message = f"model '{name}' has no limit for its answers, so `budget: {what}` cannot be kept"
                hint = "add params: {max_output_tokens: 2000}"
                problems.add("C229", message, section.key_place(name), hint=hint)


def _asked(step: Step, models: Mapping[str, Model]) -> list[str]:
    """The models that a step may come to ask, fallbacks included."""
    found = list(step.models)
    for name in step.models:
        model = models.get(name)
        found += step.fallback if step.fallback is not None else model.fallback if model is not None else ()
    return list(dict.fromkeys(found))
