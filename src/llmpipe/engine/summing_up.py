"""Sums a rehearsal up: what its ledger and its sums come to, beside what earlier runs took, is the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmpipe.config.fingerprint import Fingerprint, changes, from_json
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine import prepare
from llmpipe.engine.balance import balance
from llmpipe.engine.choose import Choice
from llmpipe.engine.destinations import destinations
from llmpipe.engine.expected import ExpectedItems
from llmpipe.engine.forecast import Ground, forecast
from llmpipe.engine.history import History, history
from llmpipe.engine.ledger_read import leaving_no_trace
from llmpipe.engine.options import RunOptions
from llmpipe.engine.planned import AskedItem, AskedKind, PlanReport
from llmpipe.engine.rehearsed import Rehearsed
from llmpipe.engine.results import StepCounts
from llmpipe.engine.runs import RunInfo
from llmpipe.engine.verdict import count_step
from llmpipe.providers.table import resolve

if TYPE_CHECKING:
    from llmpipe.config.environment import Environment

_THERE = "SELECT scopes.name, COUNT(*) FROM items JOIN scopes ON scopes.id = items.scope WHERE live = 1 GROUP BY scope"
_ASKED = "SELECT item, kind, why FROM asked WHERE step = ? ORDER BY rowid"
_KINDS = "SELECT kind, COUNT(*) FROM asked WHERE step = ? GROUP BY kind ORDER BY kind"
_FIRST = "SELECT item, kind, why FROM asked WHERE step = ? AND kind = ? ORDER BY rowid LIMIT 5"
_MANY = 20  # calls of earlier runs, of which a share can be told


def sum_up(
    run: Rehearsed, choice: Choice, print_: Fingerprint, *, runs: tuple[RunInfo, ...], output: Path,
    environment: Environment, sources: Mapping[str, tuple[Path, ...]], obstacles: tuple[str, ...],
    notes: tuple[str, ...],
) -> PlanReport:  # fmt: skip
    """The plan. `runs` are the earlier ones, the newest first."""
    pipeline, options = run.pipeline, run.options
    there = dict(run.ledger.rows(_THERE))
    with leaving_no_trace():
        known = history(runs, _wanted(pipeline, choice))
    items = ExpectedItems(pipeline, there, unexpanded=run.unexpanded, unknown=run.unknown, history=known)
    counts = _counts(run, choice)
    steps = forecast(Ground(pipeline, counts, run.sums, items, there, run.guesses, known, choice.fixed))
    since = choice.continued or choice.base or next((info for info in runs if info.whole), None)
    changed = _changed(since, print_)
    models = prepare.asked_models(pipeline, choice)
    return PlanReport(
        pipeline=pipeline.name,
        pipeline_path=pipeline.path,
        root=pipeline.root,
        datasets=_rows_of(run, there, choice),
        sources=sources,
        cut=_cut(options),
        cache=output / ".cache",
        cache_mode=options.cache,
        offline=options.offline,
        going_on="; ".join((*choice.lost, choice.note)),
        steps=tuple(replace(step, asked=_kinds(run, step.id)) for step in steps),
        budget=balance(prepare.effective_budget(pipeline, options), prepare.spent(run.ledger), steps, run.sums),
        prices_as_of=_prices_as_of(),
        destinations=destinations(pipeline, choice, environment),
        no_model=bool(models) and all(resolve(model).wire == "echo" for model in models),
        changed=changed,
        changed_since=since.run_id if since is not None and changed else "",
        obstacles=obstacles,
        would_stop=run.redact(run.would_stop.reason) if run.would_stop is not None else "",
        again=_again(known, counts),
        notes=tuple(dict.fromkeys(notes)),
        every_asked=partial(_asked, run),
    )


def _counts(run: Rehearsed, choice: Choice) -> Mapping[str, StepCounts]:
    return {
        step.id: count_step(
            run.ledger,
            run.pipeline,
            step.id,
            numbers=(run.step_numbers[step.id], run.scope_numbers[step.scope]),
            tally=run.tallies[step.id],
            invocation=run.invocation,
        )
        for step in run.pipeline.steps
        if step.id in choice.wanted
    }


def _kinds(run: Rehearsed, step: str) -> tuple[AskedKind, ...]:
    return tuple(
        AskedKind(kind, number, tuple(AskedItem(*row) for row in run.ledger.rows(_FIRST, (step, kind))))
        for kind, number in run.ledger.rows(_KINDS, (step,))
    )


def _asked(run: Rehearsed, step: str) -> Iterator[AskedItem]:
    for block in run.ledger.scan(_ASKED, (step,)):
        for key, kind, why in block:
            yield AskedItem(key, kind, why)


def _wanted(pipeline: Pipeline, choice: Choice) -> set[tuple[str, str]]:
    """The steps of the run with the models that they ask."""
    return {
        (step.id, pipeline.models[name].label)
        for step in pipeline.steps
        if step.id in choice.wanted
        for name in step.models
    }


def _rows_of(run: Rehearsed, there: Mapping[str, int], choice: Choice) -> Mapping[str, int]:
    """Rows of each dataset that the run would look at."""
    pipeline, options = run.pipeline, run.options
    used = set()
    for step in pipeline.steps:
        at: str | None = step.scope if step.id in choice.wanted else None
        while at is not None:
            used.add(at)
            at = pipeline.scopes[at].parent
    most = 1 if options.key is not None else options.limit
    rows = {id: number if most is None else min(number, most) for id, number in there.items()}
    return {
        scope.dataset: rows.get(scope.id, 0)
        for scope in pipeline.scopes.values()
        if scope.dataset is not None and scope.id in used
    }


def _cut(options: RunOptions) -> str:
    parts = [f"--limit {options.limit}"] if options.limit is not None else []
    parts += [f"--key {options.key}"] if options.key is not None else []
    return " ".join(parts)


def _changed(since: RunInfo | None, now: Fingerprint) -> tuple[str, ...]:
    if since is None:
        return ()
    try:
        return changes(from_json(since.fingerprint), now)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def _again(known: History, counts: Mapping[str, StepCounts]) -> str:
    """What share of an earlier run's calls were not the first for their item, where it was more than a few."""
    taken = {step: one for (step, _), one in known.taken.items() if step in counts}
    calls, again = sum(t.calls for t in taken.values()), sum(t.again for t in taken.values())
    if calls < _MANY or again * 50 < calls:
        return ""
    runs = ", ".join(dict.fromkeys(t.run for t in taken.values()))
    return f"{100 * again / calls:.0f}% of the calls of run {runs} were retries and re-asks, which are not counted here"


def _prices_as_of() -> str:
    from llmpipe.client.prices import as_of

    return as_of()
