"""What a run that its budget stopped has left to do, step by step."""

from __future__ import annotations

from decimal import Decimal

from llmpipe.config.pipeline import Step
from llmpipe.engine import prepare, spending
from llmpipe.engine.bounds import most_of, prompt_tokens
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.results import StepCounts
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.sufficient import Rest, sufficient


def next_flags(
    run: RunState, stop: Stop | None, reader: LedgerReader, steps: tuple[StepCounts, ...]
) -> tuple[str, ...]:
    """The flags with which the rest fits into the budget that stopped the run; none after any other end."""
    if stop is None or stop.lack is None:
        return ()
    budget = prepare.effective_budget(run.pipeline, run.options)
    return sufficient(budget, stop.lack, prepare.spent(reader), _rests_of(run, reader, steps))


def _rests_of(run: RunState, reader: LedgerReader, steps: tuple[StepCounts, ...]) -> tuple[Rest, ...]:
    """What is left of each step that asks a model.

    A step whose items are not known yet, for they come of another step's, has as many as that has; a longer fan-out is
    not foreseen. Prompts of steps that have not begun are as long as the longest so far, and read the answers there
    will be.
    """
    items = {s.id: max(s.items, run.tallies[s.id].expected_items) for s in steps}
    rests = []
    for counts in steps:
        step = run.pipeline.step(counts.id)
        if step.kind != "model":
            continue
        number = run.step_numbers[step.id]
        left = items[step.id] - counts.items + counts.unsent
        left += counts.failed if run.options.retry_failed is not None else 0  # they keep their end until they succeed
        source = run.pipeline.scopes[step.scope].step
        if not items[step.id] and not counts.done and source is not None:
            left = items[step.id] = items.get(source, 0)
        rests.append(
            Rest(
                left=left,
                tried=spending.tried(reader, number),
                taken=prepare.spent(reader, number),
                most=most_of(step, run.pipeline, _input(run, reader, step, steps, items)),
            )
        )
    return tuple(rests)


def _input(
    run: RunState, reader: LedgerReader, step: Step, steps: tuple[StepCounts, ...], items: dict[str, int]
) -> int:
    """About how many tokens a prompt of the step has at most."""
    lists = {ref.step for ref in step.refs if ref.mode == "whole"} | {run.pipeline.scopes[step.scope].step}
    read = Decimal(0)
    for counts in steps:
        if counts.id in lists and counts.succeeded:
            read += Decimal(counts.output_tokens) / counts.succeeded * items[counts.id]
    share = max(1, items[step.id])
    return prompt_tokens(step, reader) + int(read / share)
