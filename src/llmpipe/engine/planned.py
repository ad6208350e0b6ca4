"""What a plan says: figures that know how sure they are, per step and in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from llmpipe.frozen import frozen

Sure = Literal["exact", "about", "at most", "unknown"]
Number = int | Decimal


@frozen
class Figure:
    """A number, and how sure it is: "about" is an estimate, "at most" a bound above, which may rest on one.

    `value` is None if and only if `sure` is "unknown". `least` is the part of it that is there for certain: what is
    known of a sum of which another part is estimated or unknown.
    """

    value: Number | None
    sure: Sure
    least: Number

    def __add__(self, other: Figure) -> Figure:
        least = self.least + other.least
        if self.value is None or other.value is None:
            return Figure(None, "unknown", least)
        kinds = {self.sure, other.sure}
        sure: Sure = "at most" if "at most" in kinds else "about" if "about" in kinds else "exact"
        return Figure(self.value + other.value, sure, least)

    def times(self, factor: Decimal) -> Figure:
        """So many of it."""
        value = None if self.value is None else self.value * factor
        return Figure(value, self.sure, self.least * factor)

    def rounded(self) -> Figure:
        """In whole numbers."""
        return Figure(None if self.value is None else round(self.value), self.sure, round(self.least))

    @property
    def is_exact(self) -> bool:
        """True if a run would come to exactly this."""
        return self.sure == "exact"

    @property
    def is_nothing(self) -> bool:
        """True if it is exactly 0."""
        return self.is_exact and not self.value


def exact(value: Number) -> Figure:
    """What a run would come to."""
    return Figure(value, "exact", value)


def about(value: Number, least: Number = 0) -> Figure:
    """An estimate."""
    return Figure(value, "about", least)


def at_most(value: Number, least: Number = 0) -> Figure:
    """A bound above."""
    return Figure(value, "at most", least)


def unknown(least: Number = 0) -> Figure:
    """What nothing is known of, beyond what is there for certain."""
    return Figure(None, "unknown", least)


NOTHING = exact(0)


@frozen
class AskedItem:
    """An item for which a model would be asked, and why.

    `kind`: "new" (there is nothing yet), "changed" (what its result was made of), "failed" or "skipped" before,
    "misfit" (the answer that is there does not fit today's schema and checks), "shared" (another item asks the same).
    """

    key: str
    kind: str
    why: str


@frozen
class AskedKind:
    """How many items of a step would be asked for the same reason, and the first few."""

    kind: str
    count: int
    first: tuple[AskedItem, ...]


@frozen
class StepPlan:
    """What would happen to one step's items.

    `cached`: answered from the cache; `recalled`: by what this run wrote down before it died; `carried`: results that
    are taken over; `shared`: the same request as for another item, so one call does for both; `skipped`: their `if` is
    false, or what they build on has no result. `failing`: would fail without anything being asked. `open`: what is to
    be asked for them is not known, because it builds on answers that are not there. `calls` counts first attempts.
    """

    id: str
    kind: str  # model, render, python
    model: str  # as people call it: "fast (openai/gpt-5-mini)"; "" for a step that asks nobody
    items: Figure
    calls: Figure
    cached: Figure
    carried: int = 0
    recalled: int = 0
    shared: int = 0
    skipped: int = 0
    failing: tuple[Failing, ...] = ()
    open: int = 0
    asked: tuple[AskedKind, ...] = ()  # why
    input_tokens: Figure = NOTHING
    output_tokens: Figure = NOTHING
    cost_usd: Figure = NOTHING
    cost_known_usd: Figure = NOTHING  # of the calls with a known price
    unpriced: tuple[str, ...] = ()  # "provider/model-id" of models that would be asked and whose price nobody knows
    builds_on: tuple[str, ...] = ()  # the steps whose missing answers leave items open
    input_by: str = ""  # on what the estimate of the input rests, "" if none was needed
    output_by: str = ""  # the same of the output
    items_by: str = ""  # the same of items and calls
    schema: str = ""  # how the schema is sent, in words; "" without one
    fixed: bool = False  # not run at all: its results are taken over (--only, --from)

    @property
    def failed(self) -> int:
        """How many would fail without anything being asked."""
        return sum(one.count for one in self.failing)


@frozen
class Failing:
    """Items of a step that would fail, by code."""

    code: str
    count: int
    example_key: str
    example_error: str


@frozen
class Destination:
    """Where data may be sent. `keys`: the variables that may hold the key, and where one was found ("" if nowhere)."""

    origin: str
    models: tuple[str, ...]  # "provider/model-id"
    keys: tuple[str, ...]
    key_found: str
    standby: bool  # only after errors, or to be asked again
    kind: Literal["server", "echo", "code"] = "server"


BudgetVerdict = Literal["none", "within", "expected within", "may be exceeded", "exceeded"]


@frozen
class BudgetPlan:
    """The budget, what of it is spent already (a run that goes on), and whether the plan keeps it.

    "within" and "exceeded" are certain: by the bounds that a run reserves, and by the least that the calls can take.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None
    wall_s: float | None = None
    spent_usd: Decimal = Decimal(0)
    spent_tokens: int = 0
    spent_calls: int = 0
    verdict: BudgetVerdict = "none"
    reason: str = ""


@frozen
class PlanReport:
    """What a run would do, as things stand. `every_asked` gives a step's items for which a model would be asked."""

    pipeline: str
    pipeline_path: Path
    root: Path
    datasets: Mapping[str, int]  # name → rows that this run would look at
    sources: Mapping[str, tuple[Path, ...]]  # name → files; () is standard input
    cut: str  # "--limit 5" or "--key K": only these rows
    cache: Path
    cache_mode: str  # use, off, refresh
    offline: bool
    going_on: str  # "continuing run 7f3a"; "" for a run that starts from nothing
    steps: tuple[StepPlan, ...]
    budget: BudgetPlan
    prices_as_of: str
    destinations: tuple[Destination, ...]
    no_model: bool  # whoever might be asked is echo
    changed: tuple[str, ...] = ()  # since the run `changed_since`
    changed_since: str = ""
    obstacles: tuple[str, ...] = ()  # why a run would not begin as things stand: a missing key, a lock that is held
    would_stop: str = ""  # why a run would stop before its end
    again: str = ""  # how many more calls an earlier run made than first attempts
    notes: tuple[str, ...] = ()
    every_asked: Callable[[str], Iterator[AskedItem]] = field(default=lambda step: iter(()), repr=False, compare=False)

    @property
    def exit_code(self) -> int:
        """6 if the budget would be exceeded for certain, else 0."""
        return 6 if self.budget.verdict == "exceeded" else 0
