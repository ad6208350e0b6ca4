"""A budget can only be kept if every model's answer has a bound and a price: told at load, not at the first call."""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.config.fields import Fields
from llmpipe.config.pipeline import Step, may_ask
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
        for name in may_ask(step, models):
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
