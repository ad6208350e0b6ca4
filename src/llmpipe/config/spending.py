"""A budget can only be kept if every model's answer has a bound and a price: told at load, not at the first call."""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.config.fields import Fields
from llmpipe.config.pipeline import Step
from llmpipe.config.problems import Problems
from llmpipe.policy import Budget
from llmpipe.types import Model, Price


def check_budget(
    budget: Budget, pipeline: Fields, steps: Mapping[str, Step], models: Mapping[str, Model], problems: Problems
) -> None:
    """A budget in dollars or tokens needs a limit for the answers of each model, one in dollars its price."""
    if budget.usd is None and budget.tokens is None:
        return
    section = pipeline.get("models")
    for step in steps.values():
        for name in _asked(step, models):
            model = models.get(name)
            if model is None or section is None:
                continue
            place = section.key_place(name)
            bounded = "max_output_tokens" in model.params or "max_output_tokens" in step.params
            if not bounded and not _costs_nothing(model):
                what = "usd" if budget.usd is not None else "tokens"
                message = f"model '{name}' has no limit for its answers, so `budget: {what}` cannot be kept"
                problems.add("C229", message, place, hint="add params: {max_output_tokens: 2000}")
            if budget.usd is not None and _price(model) is None:
                message = f"the price of model '{name}' ({model.label}) is not known, so `budget: usd` cannot be kept"
                problems.add(
                    "C229", message, place, hint="add price: {input: 0.25, output: 2}", note="USD per million tokens"
                )


def _costs_nothing(model: Model) -> bool:
    """Whether it is the embedded provider, whose answers have a bound of their own."""
    from llmpipe.providers.table import row_of

    return row_of(model.provider).wire == "echo"


def _price(model: Model) -> Price | None:
    from llmpipe.client.prices import price_of

    return price_of(model)


def _asked(step: Step, models: Mapping[str, Model]) -> list[str]:
    """The models that a step may come to ask, fallbacks included."""
    found = list(step.models)
    for name in step.models:
        model = models.get(name)
        found += step.fallback if step.fallback is not None else model.fallback if model is not None else ()
    return list(dict.fromkeys(found))
