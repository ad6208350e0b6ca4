"""What a plan says of its budget, and what a budget that stopped a run has to be: on both sides of every limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llmpipe.client.budget import Amount, Shortfall
from llmpipe.engine.balance import balance
from llmpipe.engine.planned import BudgetPlan, Figure, StepPlan, about, at_most, exact, unknown
from llmpipe.engine.sufficient import Rest, sufficient
from llmpipe.engine.sums import Asked, Held, StepSum
from llmpipe.policy import Budget

NOTHING_SPENT = Amount()
FITS = "the upper bounds of all calls fit into it together; retries and re-asks come on top"


def usd(text: str) -> Decimal:
    return Decimal(text)


def judged(
    budget: Budget,
    *helds: Held,
    spent: Amount = NOTHING_SPENT,
    calls: int = 1,
    figures: dict[str, Figure] | None = None,
) -> BudgetPlan:
    """The plan of steps of which each makes so many calls, and holds what is given for it."""
    known = {"calls": exact(calls), "input_tokens": exact(1), "output_tokens": about(1), "cost_usd": about(usd("0.5"))}
    steps, sums = [], {}
    for number, held in enumerate(helds):
        id = f"s{number}"
        made: dict[str, Any] = known | (figures or {})
        steps.append(StepPlan(id=id, kind="model", model="m", items=exact(1), cached=exact(0), **made))
        sums[id] = StepSum(asked={("m", None): Asked(calls=calls)}, held=held)
    return balance(budget, spent, steps, sums)


def test_the_plan_repeats_the_budget_and_what_is_spent() -> None:
    budget = Budget(usd=usd("5"), tokens=50, calls=6, wall_s=7.5)
    plan = judged(budget, Held(), spent=Amount(usd("1.5"), 20, 3))
    assert (plan.usd, plan.tokens, plan.calls, plan.wall_s) == (usd("5"), 50, 6, 7.5)
    assert (plan.spent_usd, plan.spent_tokens, plan.spent_calls) == (usd("1.5"), 20, 3)
    assert judged(budget, Held(), spent=Amount(None, 0, 0)).spent_usd == 0
    assert judged(Budget(usd=usd("1")), Held(most_usd=usd("1")), spent=Amount(None)).verdict == "within"


def test_without_a_limit_there_is_no_verdict() -> None:
    plan = judged(Budget(wall_s=1.0), Held(refused="no", least_tokens=10**9))
    assert (plan.verdict, plan.reason) == ("none", "")


@pytest.mark.parametrize(
    ("budget", "helds", "spent", "reason"),
    [
        (Budget(calls=5), (Held(), Held()), Amount(calls=3), ""),  # two steps, one call each
        (Budget(calls=5), (Held(), Held()), Amount(calls=4), "2 calls are known to be needed, and 1 are left"),
        (Budget(calls=5), (Held(),), Amount(calls=7), "1 calls are known to be needed, and 0 are left"),
        (Budget(tokens=100), (Held(least_tokens=30), Held(least_tokens=30)), Amount(tokens=40), ""),
        (
            Budget(tokens=100),
            (Held(least_tokens=30), Held(least_tokens=31)),
            Amount(tokens=40),
            "the known prompts alone have at least 61 tokens, and 60 are left",
        ),
        (
            Budget(tokens=100),
            (Held(least_tokens=1),),
            Amount(tokens=140),
            "the known prompts alone have at least 1 tokens, and 0 are left",
        ),
        (Budget(usd=usd("1")), (Held(least_usd=usd("0.3")), Held(least_usd=usd("0.3"))), Amount(usd("0.4")), ""),
        (
            Budget(usd=usd("1")),
            (Held(least_usd=usd("0.3")), Held(least_usd=usd("0.3001"))),
            Amount(usd("0.4")),
            "the known prompts alone cost at least $0.6001, and $0.6000 are left",
        ),
        (
            Budget(usd=usd("1")),
            (Held(least_usd=usd("0.3")),),
            Amount(usd("1.4")),
            "the known prompts alone cost at least $0.3000, and $0.0000 are left",
        ),
        (Budget(tokens=100), (Held(largest_tokens=60), Held(largest_tokens=50)), Amount(tokens=40), ""),
        (
            Budget(tokens=100),
            (Held(largest_tokens=61), Held(largest_tokens=50)),
            Amount(tokens=40),
            "one call has to reserve 61 tokens, and 60 are left",
        ),
        (Budget(usd=usd("1")), (Held(largest_usd=usd("0.6")), Held(largest_usd=usd("0.5"))), Amount(usd("0.4")), ""),
        (
            Budget(usd=usd("1")),
            (Held(largest_usd=usd("0.5")), Held(largest_usd=usd("0.6001"))),
            Amount(usd("0.4")),
            "one call has to reserve $0.6001, and $0.6000 are left",
        ),
        (Budget(calls=9), (Held(), Held(refused="too long"), Held(refused="other")), NOTHING_SPENT, "too long"),
        (Budget(usd=usd("0"), tokens=0, calls=0), (), NOTHING_SPENT, ""),
        # a limit that is not set breaks nothing
        (
            Budget(calls=9),
            (Held(least_tokens=10**9, least_usd=usd("99"), largest_tokens=10**9, largest_usd=usd("99")),),
            NOTHING_SPENT,
            "",
        ),
        (Budget(usd=usd("9")), (Held(), Held()), Amount(calls=10**6), ""),
    ],
)
def test_what_cannot_be_kept(budget: Budget, helds: tuple[Held, ...], spent: Amount, reason: str) -> None:
    plan = judged(budget, *helds, spent=spent)
    assert (plan.verdict == "exceeded", plan.reason if plan.verdict == "exceeded" else "") == (bool(reason), reason)


FEW, MORE = "by this estimate it has too few", "what is unknown may take more"
ALL = Budget(usd=usd("1"), tokens=100, calls=2)


@pytest.mark.parametrize(
    ("budget", "held", "within"),
    [
        (ALL, Held(most_usd=usd("0.5"), most_tokens=50), True),  # twice
        (ALL, Held(most_usd=usd("0.5001"), most_tokens=50), False),
        (ALL, Held(most_usd=usd("0.5"), most_tokens=51), False),
        (Budget(tokens=100), Held(most_usd=usd("99"), most_tokens=50), True),
        (Budget(calls=2), Held(most_usd=usd("99"), most_tokens=10**9), True),
        (Budget(usd=usd("1")), Held(most_usd=usd("0.5"), most_tokens=10**9), True),
    ],
)
def test_what_is_kept_for_certain(budget: Budget, held: Held, *, within: bool) -> None:
    plan = judged(budget, held, held)
    assert (plan.verdict, plan.reason) == (("within", FITS) if within else ("expected within", ""))
    calls = judged(budget, held, held, figures={"calls": about(0)})
    assert (calls.verdict, calls.reason) == ("expected within", "")


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"cost_usd": about(usd("1"))}, ""),
        ({"cost_usd": about(usd("1.01"))}, f"{FEW} dollars"),
        ({"cost_usd": unknown()}, f"{MORE} dollars"),
        ({"input_tokens": about(40), "output_tokens": about(60)}, ""),
        ({"input_tokens": about(41), "output_tokens": about(60)}, f"{FEW} tokens"),
        ({"input_tokens": unknown()}, f"{MORE} tokens"),
        ({"calls": at_most(2)}, ""),
        ({"calls": at_most(3)}, f"{FEW} calls"),
        (
            {"cost_usd": unknown(), "output_tokens": about(101), "calls": unknown()},
            f"{MORE} dollars; {FEW} tokens; {MORE} calls",
        ),
    ],
)
def test_what_an_estimate_says_of_it(figures: dict[str, Figure], reason: str) -> None:
    held = Held(most_tokens=101)
    plan = judged(ALL, held, figures=figures)
    assert (plan.verdict, plan.reason) == ("may be exceeded" if reason else "expected within", reason)
    unlimited = judged(Budget(calls=10**9), held, figures=figures | {"calls": about(1)})
    assert (unlimited.verdict, unlimited.reason) == ("expected within", "")


def lacking(kind: Any, more: str) -> Shortfall:
    return Shortfall(kind=kind, spent=Decimal(0), held=Decimal(0), more=usd(more), limit=Decimal(0))


SPENT = Amount(usd("2"), 200, 20)
NO_CALLS = lacking("calls", "0")


@pytest.mark.parametrize(
    ("budget", "lack", "rests", "flags"),
    [
        (Budget(), lacking("usd", "1"), (), ()),
        (Budget(usd=usd("3")), lacking("usd", "1"), (), ()),
        (Budget(usd=usd("2.99")), lacking("usd", "1"), (), ("--max-cost", "3.00")),
        (Budget(usd=usd("2")), lacking("usd", "0.001"), (), ("--max-cost", "2.01")),  # upwards
        (Budget(tokens=201), lacking("tokens", "1"), (), ()),
        (Budget(tokens=200), lacking("tokens", "1"), (), ("--set", "budget.tokens=201")),
        (Budget(tokens=200), lacking("tokens", "0.2"), (), ("--set", "budget.tokens=201")),
        (Budget(calls=21), lacking("calls", "1"), (), ()),
        (Budget(calls=20), lacking("calls", "1"), (), ("--set", "budget.calls=21")),
        # what lacks of one kind is nothing of the others
        (Budget(tokens=200, calls=20), lacking("usd", "9"), (), ()),
        # the rest: items that were tried took so much of it, times 1.5; and one call's bound, the less of them the more
        (
            Budget(tokens=200),
            NO_CALLS,
            (Rest(left=4, tried=1, taken=Amount(None, 10), most=Amount(None, 25)),),
            ("--set", "budget.tokens=280"),  # 200 + 4 * (10 * 1.5 + 25) / 2
        ),
        (
            Budget(tokens=200),
            NO_CALLS,
            (
                Rest(left=4, tried=3, taken=Amount(None, 10), most=Amount(None, 25)),
                Rest(left=2, tried=0, taken=Amount(None, 0), most=Amount(None, 7)),
            ),
            ("--set", "budget.tokens=254"),  # 200 + 40 + 14
        ),
        (
            Budget(tokens=253),
            NO_CALLS,
            (Rest(left=0, tried=9, taken=Amount(None, 900), most=Amount(None, 25)),),
            (),
        ),
        # a bound that nobody knows is what lacks for the next call
        (
            Budget(usd=usd("1"), tokens=1, calls=1),
            lacking("usd", "3"),
            (Rest(left=2, tried=1, taken=Amount(usd("2"), 4, 2), most=Amount(None, 0, 0)),),
            # 2 + 3 + 2 * (3 + 3) / 2, 200 + 2 * 6 / 2, 20 + 2 * 3 / 2
            ("--max-cost", "11.00", "--set", "budget.tokens=206", "--set", "budget.calls=23"),
        ),
    ],
)
def test_sufficient_flags_for_the_rest(
    budget: Budget, lack: Shortfall, rests: tuple[Rest, ...], flags: tuple[str, ...]
) -> None:
    assert sufficient(budget, lack, SPENT, rests) == flags


@pytest.mark.parametrize(
    ("more", "shown"),
    [("0.0000015", "0.000002"), ("0.09", "0.090000"), ("0.0999999", "0.100000"), ("0.1", "0.10"), ("0.101", "0.11")],
)
def test_sufficient_money_is_rounded_up_and_small_sums_finely(more: str, shown: str) -> None:
    spent = Amount(None, 0, 0)
    assert sufficient(Budget(usd=usd("0")), lacking("usd", more), spent, ()) == ("--max-cost", shown)
