"""What a call of a step may take at most: whether that is known at all, and how much it is."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from llmpipe.config.pipeline import Pipeline, Step, may_ask
from llmpipe.engine.choose import Choice
from llmpipe.errors import ConfigError, Problem

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount


def answer_limit(step: Step, name: str, pipeline: Pipeline) -> int | None:
    """How many tokens an answer of a model to this step may have."""
    from llmpipe.providers.table import resolve

    model = pipeline.models[name]
    given = step.params.get("max_output_tokens", model.params.get("max_output_tokens"))
    return resolve(model).dialect.default_output_tokens if given is None else int(given)


def require_bounds(pipeline: Pipeline, choice: Choice) -> None:
    """Raise ConfigError, naming each model for which a limit in dollars cannot be kept.

    The file's own budget was checked as it was read; --max-cost comes later, and is of the steps of this run alone.
    """
    from llmpipe.client.prices import bills, is_free, price_of

    found: dict[str, Problem] = {}
    for step in pipeline.steps:
        if step.id not in choice.wanted or step.id in choice.fixed:
            continue
        for name in may_ask(step, pipeline.models):
            model = pipeline.models[name]
            if not bills(model.provider):
                continue
            cannot = "so --max-cost cannot be kept"
            if price_of(model) is None:
                found[name] = Problem(
                    "C229", f"the price of model '{name}' ({model.label}) is not known, {cannot}", step.place,
                    hint=f"add to the model '{name}' price: {{input: 0.25, output: 2}}", note="USD per million tokens",
                )  # fmt: skip
            elif answer_limit(step, name, pipeline) is None and not is_free(model):
                found[name] = Problem(
                    "C229", f"model '{name}' has no limit for its answers, {cannot}", step.place,
                    hint=f"add to the model '{name}' params: {{max_output_tokens: 2000}}",
                )  # fmt: skip
    if found:
        raise ConfigError(list(found.values()))


def most_of(step: Step, pipeline: Pipeline, input_tokens: int) -> Amount:
    """What a call with so much input may take, of the dearest model that the step may ask."""
    from llmpipe.client.budget import Amount
    from llmpipe.client.prices import MILLION, bills, highest_price

    usd, tokens = Decimal(0), 0
    for name in may_ask(step, pipeline.models):
        model, limit = pipeline.models[name], answer_limit(step, name, pipeline) or 0
        if not bills(model.provider):
            continue
        price = highest_price(model)
        tokens = max(tokens, input_tokens + limit)
        if price is not None:
            usd = max(usd, (input_tokens * price.input + limit * price.output) / MILLION)
    return Amount(usd, tokens, 1)
