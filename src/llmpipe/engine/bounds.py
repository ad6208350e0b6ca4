"""What a call of a step may take at most: whether that is known at all, and how much it is."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from llmpipe.config.pipeline import Pipeline, Step, may_ask
from llmpipe.engine.choose import Choice
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.options import RunOptions
from llmpipe.engine.prepare import effective_budget
from llmpipe.engine.spending import UNRESERVED, longest_input
from llmpipe.errors import ConfigError, Problem

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount

_AROUND = 32  # tokens of what stands around a prompt


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


def prompt_tokens(step: Step, ledger: LedgerReader) -> int:
    """About how many tokens a prompt of the step has: as its templates, or as the longest that a reply counted."""
    from llmpipe.providers.estimate import most_tokens

    own = sum(most_tokens(message.content.source) for message in step.messages)
    own += most_tokens(str(step.schema.document)) if step.schema is not None else 0
    return _AROUND + max(own, longest_input(ledger))


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


async def reserve_unknown(ledger: Ledger, pipeline: Pipeline, options: RunOptions, steps: Mapping[str, int]) -> None:
    """Let a budget that came after the first process hold something for the calls that may have been billed before."""
    budget = effective_budget(pipeline, options)
    if budget.usd is None and budget.tokens is None:
        return
    for step in pipeline.steps:
        if step.kind == "model":
            most = most_of(step, pipeline, prompt_tokens(step, ledger))
            ledger.put(UNRESERVED, (float(most.usd or 0), most.tokens, steps[step.id]))
    await ledger.commit()
