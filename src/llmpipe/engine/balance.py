"""Whether a plan keeps the budget (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from llmpipe.client.budget import Amount
from llmpipe.engine.planned import NOTHING, BudgetPlan, BudgetVerdict, StepPlan
from llmpipe.engine.sums import Held, StepSum
from llmpipe.policy import Budget


def balance(budget: Budget, spent: Amount, steps: Sequence[StepPlan], sums: Mapping[str, StepSum]) -> BudgetPlan:
    """The budget beside the plan. "exceeded" is certain: the run would end with exit code 6."""
    helds = [sums[step.id].held for step in steps]
    calls = sum(sums[step.id].calls for step in steps)
    verdict, reason = _verdict(_Left(budget, spent), steps, helds, calls)
    return BudgetPlan(
        usd=budget.usd,
        tokens=budget.tokens,
        calls=budget.calls,
        wall_s=budget.wall_s,
        spent_usd=spent.usd or Decimal(0),
        spent_tokens=spent.tokens,
        spent_calls=spent.calls,
        verdict=verdict,
        reason=reason,
    )


class _Left:
    """What is left of a budget; None = no limit."""

    def __init__(self, budget: Budget, spent: Amount) -> None:
        self.usd = None if budget.usd is None else budget.usd - (spent.usd or 0)
        self.tokens = None if budget.tokens is None else budget.tokens - spent.tokens
        self.calls = None if budget.calls is None else budget.calls - spent.calls


def _verdict(left: _Left, steps: Sequence[StepPlan], helds: Sequence[Held], calls: int) -> tuple[BudgetVerdict, str]:
    if left.usd is None and left.tokens is None and left.calls is None:
        return "none", ""
    broken = _broken(left, helds, calls)
    if broken:
        return "exceeded", broken
    if all(step.calls.is_exact for step in steps) and _fits(left, helds, calls):
        return "within", "the upper bounds of all calls fit into it together; retries and re-asks come on top"
    doubts = list(_doubts(left, steps))
    if doubts:
        return "may be exceeded", "; ".join(doubts)
    return "expected within", ""


def _broken(left: _Left, helds: Sequence[Held], calls: int) -> str:
    """Why the calls that are known cannot all be made; "" if they may."""
    refused = next((held.refused for held in helds if held.refused), "")
    if refused:
        return refused
    if left.calls is not None and calls > left.calls:
        return f"{calls:,} calls are known to be needed, and {max(left.calls, 0):,} are left"
    tokens, usd = sum(h.least_tokens for h in helds), sum((h.least_usd for h in helds), Decimal(0))
    if left.tokens is not None and tokens > left.tokens:
        return f"the known prompts alone have at least {tokens:,} tokens, and {max(left.tokens, 0):,} are left"
    if left.usd is not None and usd > left.usd:
        return f"the known prompts alone cost at least ${usd:.4f}, and ${max(left.usd, Decimal(0)):.4f} are left"
    return _too_large(left, helds)


def _too_large(left: _Left, helds: Sequence[Held]) -> str:
    """A single call whose reservation does not fit, even if it were the first; nothing is overspent."""
    tokens = max((h.largest_tokens for h in helds), default=0)
    usd = max((h.largest_usd for h in helds), default=Decimal(0))
    if left.tokens is not None and tokens > left.tokens:
        return f"one call has to reserve {tokens:,} tokens, and {left.tokens:,} are left"
    if left.usd is not None and usd > left.usd:
        return f"one call has to reserve ${usd:.4f}, and ${left.usd:.4f} are left"
    return ""


def _fits(left: _Left, helds: Sequence[Held], calls: int) -> bool:
    tokens, usd = sum(h.most_tokens for h in helds), sum((h.most_usd for h in helds), Decimal(0))
    return (
        (left.calls is None or calls <= left.calls)
        and (left.tokens is None or tokens <= left.tokens)
        and (left.usd is None or usd <= left.usd)
    )


def _doubts(left: _Left, steps: Sequence[StepPlan]) -> list[str]:
    """The limits that the estimate does not keep, or that it cannot be held against."""
    usd = sum((step.cost_usd for step in steps), NOTHING)
    tokens = sum((step.input_tokens + step.output_tokens for step in steps), NOTHING)
    calls = sum((step.calls for step in steps), NOTHING)
    found = []
    for what, limit, figure in (
        ("dollars", left.usd, usd),
        ("tokens", left.tokens, tokens),
        ("calls", left.calls, calls),
    ):
        if limit is not None and figure.value is None:
            found.append(f"what is unknown may take more {what}")
        elif limit is not None and figure.value is not None and figure.value > limit:
            found.append(f"by this estimate it has too few {what}")
    return found
