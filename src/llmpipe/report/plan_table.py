"""The table of a plan: a line for each step, exact where the plan is, marked where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from llmpipe.engine.planned import NOTHING, BudgetPlan, Figure, PlanReport, StepPlan
from llmpipe.report.figures import Column, columns_of, count, money, said, table, tokens


def step_table(plan: PlanReport, width: int) -> list[str]:
    """With the models' names and ids if there is room, else with their names alone."""
    for models in (list(map(_model, plan.steps)), [_model(step).partition(" (")[0] for step in plan.steps]):
        lines = table(_columns(plan, models), width=width)
        if "model" in lines[0] and columns_of(lines[0]) <= width:
            break
    return lines


def _columns(plan: PlanReport, models: list[str]) -> list[Column]:
    steps = plan.steps

    def some(title: str, numbers: Sequence[int], spare: int = 0) -> list[Column]:
        return [Column(title, [*map(count, numbers), ""], spare=spare)] if any(numbers) else []

    asks = any(step.kind == "model" for step in steps)
    columns = [
        Column("step", [*(said(step.id, 30) for step in steps), "total"], "left", widest=24),
        Column("items", [*(_count(step.items) for step in steps), ""]),
        *some("carried", [step.carried for step in steps]),
        *([Column("cached", [*(_of_model(step, step.cached) for step in steps), ""])] if asks else []),
        *some("recalled", [step.recalled for step in steps], 2),
        *some("shared", [step.shared for step in steps], 2),
        *some("skipped", [step.skipped for step in steps], 2),
        *some("failing", [step.failed for step in steps]),
    ]
    if asks:
        columns += [
            Column("calls", [*(_of_model(step, step.calls) for step in steps), _count(_sum(steps, "calls"))]),
            Column("tokens in/out", [*map(_tokens_of, steps), _tokens(*_both(steps))], spare=1),
        ]
    if asks and not plan.no_model:
        columns.append(
            Column("cost", [*map(_cost_of, steps), _cost(_sum(steps, "cost_known_usd"), unpriced_models(steps))])
        )
    return [*columns, Column("model", [*models, _budget_short(plan.budget)], "left", spare=3)]


def _sum(steps: Sequence[StepPlan], name: str) -> Figure:
    total = NOTHING
    for step in steps:
        total += getattr(step, name)
    return total


def _both(steps: Sequence[StepPlan]) -> tuple[Figure, Figure]:
    return _sum(steps, "input_tokens"), _sum(steps, "output_tokens")


def _of_model(step: StepPlan, figure: Figure) -> str:
    return _count(figure) if step.kind == "model" and not step.fixed else "-"


def _model(step: StepPlan) -> str:
    return "not run" if step.fixed else said(step.model or step.kind, 60)


def _count(figure: Figure) -> str:
    return _figure(figure, lambda number: count(int(number)))


def _figure(figure: Figure, write: Callable[[Any], str]) -> str:
    """Exact as it is, ~ an estimate, ≤ a bound, + what is known of an unknown sum."""
    if figure.value is None:
        return f"{write(figure.least)}+" if figure.least else "unknown"
    return {"exact": "", "about": "~", "at most": "≤", "unknown": ""}[figure.sure] + write(figure.value)


def _tokens_of(step: StepPlan) -> str:
    return _tokens(step.input_tokens, step.output_tokens) if step.kind == "model" and not step.fixed else "-"


def _tokens(given: Figure, taken: Figure) -> str:
    if given.is_nothing and taken.is_nothing:
        return "0"
    shown = [_figure(figure, lambda number: tokens(int(number))) for figure in (given, taken)]
    return "unknown" if shown == ["unknown", "unknown"] else " / ".join(shown)


def _cost_of(step: StepPlan) -> str:
    return _cost(step.cost_known_usd, step.unpriced) if step.kind == "model" and not step.fixed else "-"


def _cost(figure: Figure, unpriced: Sequence[str]) -> str:
    if unpriced and figure.is_nothing:
        return "unknown"
    known = _figure(figure, lambda number: money(Decimal(number)))
    return f"{known} + unknown" if unpriced else known


def unpriced_models(steps: Sequence[StepPlan]) -> list[str]:
    """Models that would be asked and whose price nobody knows."""
    return [label for step in steps for label in step.unpriced]


def _budget_short(budget: BudgetPlan) -> str:
    return f"budget {money(budget.usd)}" if budget.usd is not None else ""
