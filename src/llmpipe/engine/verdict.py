"""The sum of a run, read from its ledger: counts per step, causes of failure, and whether everything adds up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.config.pipeline import Pipeline
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.results import Cause, StepCounts
from llmpipe.engine.spending import Spending
from llmpipe.engine.tally import Tally
from llmpipe.errors import CallFailed, LlmpipeError, every_class

_STATUS = (
    "SELECT COALESCE(results.status, 'unsent'), COUNT(*),"
    " SUM(results.invocation <> :invocation AND results.status <> 'skipped'), SUM(results.cached),"
    " SUM(results.retries), SUM(results.reasks), SUM(results.fallbacks)"
    " FROM items LEFT JOIN results ON results.item = items.id AND results.step = :step"
    " WHERE items.scope = :scope AND items.live = 1 GROUP BY 1"
)
_VALIDITY = (
    "SELECT SUM(results.status = 'succeeded' OR results.code IN ('O501', 'O503', 'O504')),"
    " SUM(results.status = 'succeeded' AND results.reasks = 0 AND NOT mended),"
    " SUM(results.status = 'succeeded' AND mended), SUM(COALESCE(results.notes LIKE '%schema_in_prompt%', 0))"
    " FROM (SELECT *, COALESCE(notes LIKE '%repaired%'"
    " OR notes LIKE '%coerced:%', 0) AS mended FROM results WHERE step = ?) AS results"
    " JOIN items ON items.id = results.item WHERE items.live = 1"
)
_CAUSES = (
    "SELECT results.code, results.error_type, COUNT(*), MIN(items.ord), items.key, results.error FROM results"
    " JOIN items ON items.id = results.item WHERE results.step = ? AND items.live = 1 AND results.status = 'failed'"
    " GROUP BY results.code, results.error_type ORDER BY COUNT(*) DESC, results.code"
)

_TRIED = (
    "SELECT COUNT(*) FROM (SELECT DISTINCT attempts.step, attempts.item FROM attempts"
    " JOIN items ON items.id = attempts.item AND items.live = 1 WHERE NOT EXISTS"
    " (SELECT 1 FROM results WHERE results.step = attempts.step AND results.item = attempts.item))"
)


def model_label(pipeline: Pipeline, id: str) -> str:
    """ "provider/model-id" of a step's model (and how many more), "" for a step that asks nobody."""
    models = pipeline.step(id).models
    if not models:
        return ""
    first = pipeline.models[models[0]].label
    return first if len(models) == 1 else f"{first} +{len(models) - 1}"


def count_step(
    ledger: LedgerReader, pipeline: Pipeline, id: str, *, numbers: tuple[int, int], tally: Tally, invocation: int
) -> StepCounts:
    """The counts of one step from the ledger; `numbers` are the ledger's for the step and its scope.

    What other processes than `invocation` made counts as carried over.
    """
    step, scope = numbers
    rows: dict[str, tuple[Any, ...]] = {
        row[0]: row[1:] for row in ledger.rows(_STATUS, {"step": step, "scope": scope, "invocation": invocation})
    }

    def total(column: int) -> int:
        return sum(row[column] or 0 for row in rows.values())

    def status(name: str) -> int:
        return int(rows[name][0]) if name in rows else 0

    validated, first_try, mended, in_prompt = _validity(ledger, pipeline, id, step)
    return StepCounts(
        id=id,
        kind=pipeline.step(id).kind,
        model=model_label(pipeline, id),
        items=total(0),
        succeeded=status("succeeded"),
        failed=status("failed"),
        skipped=status("skipped"),
        unsent=status("unsent"),
        carried=total(1),
        cached=total(2),
        retries=total(3),
        reasks=total(4),
        validated=validated,
        first_try=first_try,
        mended=mended,
        schema_in_prompt=in_prompt,
        fallbacks=total(5),
        **Spending.of(ledger, step).told(),
        p50_s=tally.latencies.quantile(0.5),
        p95_s=tally.latencies.quantile(0.95),
        done=tally.done,
    )


def _validity(ledger: LedgerReader, pipeline: Pipeline, id: str, number: int) -> tuple[int, int, int, int]:
    """Answers that were validated, those of them that were valid at once, those that were mended, and those that were
    asked for in the prompt because the provider refuses the schema."""
    step = pipeline.step(id)
    if step.kind != "model" or (step.schema is None and not step.checks):
        return 0, 0, 0, 0
    validated, first_try, mended, in_prompt = ledger.rows(_VALIDITY, (number,))[0]
    return validated or 0, first_try or 0, mended or 0, in_prompt or 0


def live_counts(pipeline: Pipeline, id: str, tally: Tally, *, waiting_for: str) -> StepCounts:
    """The counts of a step while it runs, from memory."""
    items = max(tally.known_items, tally.expected_items, tally.status.total())
    return StepCounts(
        id=id,
        kind=pipeline.step(id).kind,
        model=model_label(pipeline, id),
        items=items,
        succeeded=tally.status["succeeded"],
        failed=tally.status["failed"],
        skipped=tally.status["skipped"],
        unsent=max(0, items - tally.status.total()),
        carried=tally.carried,
        cached=tally.cached,
        calls=tally.calls,
        retries=tally.retries,
        reasks=tally.reasks,
        fallbacks=tally.fallbacks,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        unknown_usage=tally.unknown_usage,
        cost_usd=tally.cost_usd,
        cost_known_usd=tally.cost_known_usd,
        unpriced=tally.unpriced,
        maybe_billed=tally.maybe_billed,
        p50_s=tally.latencies.quantile(0.5),
        p95_s=tally.latencies.quantile(0.95),
        done=tally.done,
        waiting_for=waiting_for,
    )


def causes(ledger: LedgerReader, steps: Mapping[str, int]) -> tuple[Cause, ...]:
    """Why items failed, per step, the most frequent first, each with the first item that it hit."""
    titles = _titles()
    found = [
        Cause(id, code or "", kind or "", titles.get(code or "", kind or ""), count, key, error or "")
        for id, number in steps.items()
        for code, kind, count, _, key, error in ledger.rows(_CAUSES, (number,))
    ]
    return tuple(sorted(found, key=lambda cause: -cause.count))


ITEM_TITLES = {
    "D310": "an item lacks what a template needs",
    "D311": "a rendered text is too large",
    "D312": "a null would be written into a text",
    "D313": "a template could not be filled",
    "D314": "a condition is neither true nor false",
    "D315": "a template does too much work",
    "D320": "the list, text or group that a step runs over is not there",
    "D330": "a Python step raised an error",
    "D331": "a Python step returned what JSON cannot hold",
    "D332": "a Python step took too long",
}


def _titles() -> dict[str, str]:
    known: dict[str, str] = {
        kind.code: kind.title for kind in every_class(LlmpipeError) if issubclass(kind, CallFailed)
    }
    return known | ITEM_TITLES


def disagreements(counts: StepCounts, tally: Tally, *, lines: int | None, stopped: bool) -> list[str]:
    """What does not add up: an empty list, or the proof that something was lost."""
    found = []
    if not counts.holds:
        found.append(f"{counts.id}: {counts.items} items are not the sum of their ends")
    if counts.unsent and not stopped:
        found.append(
            f"{counts.id}: {counts.unsent} of {counts.items} items have no end although the run was not stopped"
        )
    found += [
        f"{counts.id}: {tally.status[name]} {name} were counted, the ledger has {getattr(counts, name)}"
        for name in ("succeeded", "failed", "skipped")
        if tally.status[name] != getattr(counts, name)
    ]
    if lines is not None and lines != counts.succeeded:
        found.append(f"{counts.id}: {lines} results were written, {counts.succeeded} succeeded")
    return found


def left_over(steps: tuple[StepCounts, ...], reader: LedgerReader) -> str:
    """What a provider that is down leaves without a result: items that were tried in vain, and items never sent."""
    unsent, tried = sum(counts.unsent for counts in steps), reader.value(_TRIED)
    never = max(0, unsent - tried)
    words = [f"{never} {'item was' if never == 1 else 'items were'} not sent"] if never else []
    if tried:
        words.append(f"{tried} {'item' if tried == 1 else 'items'} got no answer")
    return "".join(f"; {part}" for part in words)
