"""What a run tells about itself: counts that add up, causes of failure, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from llmpipe.errors import Problem
from llmpipe.frozen import frozen

Status = Literal["running", "complete", "partial", "failed", "interrupted", "stopped", "crashed"]


@frozen
class StepCounts:
    """One step's sum: `items == succeeded + failed + skipped + unsent`, always."""

    id: str
    kind: str  # model, render, python
    model: str  # "provider/model-id", "" for a step that asks nobody
    items: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    unsent: int = 0
    carried: int = 0  # of succeeded + failed: taken over from an earlier run or process
    cached: int = 0  # of succeeded: every answer came from the cache
    calls: int = 0  # attempts that were sent
    retries: int = 0
    reasks: int = 0
    validated: int = 0  # answers of a model that were held against a schema or a check, whatever came of it
    first_try: int = 0  # of validated: valid as they came, without a re-ask
    mended: int = 0  # of succeeded: repaired or coerced, because the step asks for it
    schema_in_prompt: int = 0  # results whose schema stood in the prompt because the provider refuses it
    fallbacks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_usage: int = 0  # answers whose provider did not say
    cost_usd: Decimal | None = Decimal(0)  # None: a part of it is not known
    cost_known_usd: Decimal = Decimal(0)
    unpriced: int = 0  # attempts that were billed and whose cost is not known
    maybe_billed: int = 0  # attempts of which nobody knows whether they were billed
    p50_s: float | None = None
    p95_s: float | None = None
    done: bool = False
    waiting_for: str = ""  # a step whose end this one waits for

    @property
    def holds(self) -> bool:
        """True if the sum holds."""
        return self.items == self.succeeded + self.failed + self.skipped + self.unsent


@frozen
class Cause:
    """A kind of failure in a step, with one example."""

    step: str
    code: str
    error_type: str
    title: str
    count: int
    example_key: str
    example_error: str


@frozen
class MaskedCount:
    """How many responses, rows or results held the value of a key variable, which is masked in all that is written."""

    variable: str
    what: str  # "response", "row", "result": what a step made without a model
    count: int


@frozen
class Snapshot:
    """The state of a running run, for progress displays."""

    pipeline: str
    run_id: str
    elapsed_s: float
    steps: tuple[StepCounts, ...]
    in_flight: int
    retried: int
    budget_usd: Decimal | None
    last_failure: str = ""
    waiting_elsewhere: int = 0  # items to which another run is to bring the answer, through the cache
    total_known: bool = False  # True once the datasets have been read to the end


@frozen
class RunReport:
    """The verdict of a run."""

    pipeline: str
    pipeline_path: Path
    run_id: str
    folder: Path
    status: Status
    exit_code: int
    reason: str  # one sentence; "" when everything went well
    duration_s: float
    steps: tuple[StepCounts, ...]
    causes: tuple[Cause, ...] = ()
    masked: tuple[MaskedCount, ...] = ()  # where real keys were met and taken out
    maybe_billed: int = 0  # attempts of which nobody knows whether they were billed, of all invocations
    held_usd: Decimal = Decimal(0)  # what the budget holds for them, and for answers of unknown usage, beside the cost
    held_tokens: int = 0
    published: tuple[Path, ...] = ()
    partial: bool = False  # exit 0 with failures within min_success
    no_model_called: bool = False  # every answer came from echo
    previous: str = ""  # the previous run's verdict, for cron's mail
    next_command: str = ""  # what continues or repairs this run
    next_flags: tuple[str, ...] = ()  # that it needs besides, where a limit has to be raised
    problem: Problem | None = None  # what is wrong with a data file, found before anything was sent
    empty: tuple[str, ...] = ()  # the datasets that have no rows
    lost: tuple[str, ...] = ()  # earlier runs that were to be used and cannot be read, and why
    crash: BaseException | None = None  # the fault of llmpipe itself that ended the run
    notes: tuple[str, ...] = ()  # lines for people: what was carried over, what may have been billed …


def total_cost(steps: Iterable[StepCounts]) -> Decimal | None:
    """USD over the steps; None if a part of it is not known."""
    costs = [step.cost_usd for step in steps]
    return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


class Progress(Protocol):
    """Where a run tells how it goes. Called from the event loop: must not block."""

    def update(self, snapshot: Snapshot) -> None:
        """About once a second."""

    def note(self, line: str) -> None:
        """Something that a person should know now."""
