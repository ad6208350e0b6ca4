"""`run.json`, `status.json`, the result files and the report: what a run writes about itself."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmpipe.config.fingerprint import Fingerprint
from llmpipe.config.pipeline import Pipeline, Scope
from llmpipe.engine import prepare
from llmpipe.engine.choose import Choice
from llmpipe.engine.evidence import remove_orphans
from llmpipe.engine.files import read_json, write_json
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_schema import LASTED
from llmpipe.engine.ledger_versions import DamagedValue, LedgerUnreadable
from llmpipe.engine.masking import masked_counts
from llmpipe.engine.options import RunOptions
from llmpipe.engine.outputs import Publisher, export_steps
from llmpipe.engine.results import RunReport, Status, StepCounts
from llmpipe.engine.run_file import closing, opening, previous, schemas_sent, update_status
from llmpipe.engine.runs import RUN_FILE
from llmpipe.engine.spending import Spending
from llmpipe.engine.state import RunState
from llmpipe.engine.sufficient import sufficient
from llmpipe.engine.unchanged import is_unchanged
from llmpipe.engine.verdict import causes, count_step, disagreements
from llmpipe.errors import InternalError, ItemError, LlmpipeError, ProviderDown
from llmpipe.shell_text import quoted
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor


_TRIED = (
    "SELECT COUNT(*) FROM (SELECT DISTINCT attempts.step, attempts.item FROM attempts"
    " JOIN items ON items.id = attempts.item AND items.live = 1 WHERE NOT EXISTS"
    " (SELECT 1 FROM results WHERE results.step = attempts.step AND results.item = attempts.item))"
)
_LASTED = (  # ledgers of 0.1.0 have no durations
    "SELECT COALESCE(SUM(COALESCE(duration_s, MAX(finished_at - started_at, 0.0))), 0.0) FROM invocations WHERE id <> ?"
)


class Record:
    """The files of one run, from `begin` to `conclude`."""

    def __init__(
        self, pipeline: Pipeline, options: RunOptions, choice: Choice, print_: Fingerprint, *, redactor: Redactor
    ) -> None:
        self._pipeline, self._options, self._choice, self._redactor = pipeline, options, choice, redactor
        self._path = choice.folder / RUN_FILE
        self._clock = time.monotonic()
        earlier = read_json(self._path) or {}
        self._previous = previous(choice.folder.parent)
        self._asks = True
        self._data = opening(pipeline, options, choice, print_, redactor=redactor, earlier=earlier)

    @property
    def number(self) -> int:
        """The place of the run in the order in which runs are made."""
        return int(self._data["number"])

    def asks_somebody(self, models: tuple[Model, ...]) -> None:
        """Take note of whether any of the models is a real one."""
        from llmpipe.providers.table import resolve

        self._asks = any(resolve(model).wire != "echo" for model in models)

    def begin(self) -> None:
        """Say that the run is at work. Raises OSError."""
        write_json(self._path, self._data)

    def crashed(self, err: BaseException) -> None:
        """Say that the run ended without a verdict: by a fault of its place, or of llmpipe itself."""
        code = err.exit_code if isinstance(err, LlmpipeError) else InternalError.exit_code
        reason = self._redactor.text(f"{type(err).__name__}: {err}")
        self._data |= {"status": "crashed", "exit_code": code, "reason": reason, "finished_at": None}
        if isinstance(err, LedgerUnreadable):
            self._data["damaged"] = reason
        with contextlib.suppress(OSError):
            write_json(self._path, self._data)
            if isinstance(err, DamagedValue) and self._choice.base is not None:  # it was copied from there
                base = self._choice.base.folder / RUN_FILE
                write_json(base, (read_json(base) or {}) | {"damaged": reason})

    def conclude(self, run: RunState, notes: tuple[str, ...]) -> RunReport:
        """Sum up from the ledger, write the result files, publish the outputs, and give the verdict. Raises OSError."""
        if run.ledger.failed is None:
            run.ledger.put("UPDATE invocations SET finished_at = ? WHERE id = ?", (time.time(), run.invocation))
            run.ledger.put(LASTED, (time.monotonic() - self._clock, run.invocation))
        run.ledger.close()
        with LedgerReader(run.ledger.path) as reader:
            numbers = {
                step.id: (run.step_numbers[step.id], run.scope_numbers[step.scope])
                for step in self._pipeline.steps
                if step.id in self._choice.wanted
            }
            report = self._summed_up(run, reader, numbers, notes)
            duration_s = report.duration_s + reader.value(_LASTED, (run.invocation,))
        self._data["schemas"] = schemas_sent(self._pipeline, run.client)
        self._write(report, duration_s)
        return report

    def _summed_up(
        self, run: RunState, reader: LedgerReader, numbers: dict[str, tuple[int, int]], notes: tuple[str, ...]
    ) -> RunReport:
        stopped = run.stopping()
        spending = Spending.of(reader)
        steps = tuple(
            count_step(reader, self._pipeline, id, numbers=pair, tally=run.tallies[id], invocation=run.invocation)
            for id, pair in numbers.items()
        )
        verdict = self._verdict(run, steps, reader)
        publish = verdict[1] == 0 and self._is_publishable(reader, steps)
        lines, published, trouble = self._results(reader, run.folder, numbers, publish=publish)
        if trouble and verdict[1] == 0:
            verdict = ("failed", 1, trouble)
        wrong = [
            line
            for counts in steps
            for line in disagreements(
                counts, run.tallies[counts.id], lines=lines.get(counts.id), stopped=stopped or self._is_cut()
            )
        ]
        if wrong and run.ledger.failed is None:
            verdict = ("crashed", InternalError.exit_code, "the sum does not hold: " + "; ".join(wrong))
        status, code, reason = verdict
        return RunReport(
            pipeline=self._pipeline.name,
            pipeline_path=self._pipeline.path,
            run_id=run.folder.name,
            folder=run.folder,
            status=status,
            exit_code=code,
            reason=self._redactor.text(reason),
            duration_s=time.monotonic() - self._clock,
            steps=steps,
            causes=causes(reader, {id: number for id, (number, _) in numbers.items()}),
            masked=masked_counts(reader),
            maybe_billed=spending.maybe_billed,
            held_usd=spending.held_usd,
            held_tokens=spending.held_tokens,
            published=published,
            partial=status == "partial",
            no_model_called=not self._asks and any(step.kind == "model" for step in steps),
            previous=self._previous,
            next_command=self._next_command(steps, code),
            next_flags=self._next_flags(run, reader, steps),
            problem=run.stopped.problem if run.stopped is not None else None,
            lost=self._choice.lost,
            empty=() if stopped else self._empty(run, reader, numbers),
            notes=notes,
        )

    def _empty(self, run: RunState, reader: LedgerReader, steps: Iterable[str]) -> tuple[str, ...]:
        """The datasets that the steps run over and that have no rows."""
        sql = "SELECT 1 FROM items WHERE scope = ? AND live = 1 LIMIT 1"
        found = [
            scope.dataset
            for scope in self._scopes(steps)
            if scope.dataset is not None and not reader.rows(sql, (run.scope_numbers[scope.id],))
        ]
        return tuple(dict.fromkeys(found))

    def _results(
        self, reader: LedgerReader, folder: Path, numbers: dict[str, tuple[int, int]], *, publish: bool
    ) -> tuple[dict[str, int], tuple[Path, ...], str]:
        """Write the files of the steps, and the outputs if asked: lines per step, outputs, and what went wrong."""
        lines: dict[str, int] = {}
        try:
            lines = export_steps(reader, folder, numbers)
            remove_orphans(reader, folder)
            published = Publisher(self._pipeline, reader, self._redactor.known_data).publish() if publish else ()
        except OSError as err:
            return lines, (), f"results could not be written: {err}"
        except ItemError as err:
            return lines, (), f"outputs could not be made: {err}"
        return lines, published, ""

    def _verdict(self, run: RunState, steps: tuple[StepCounts, ...], reader: LedgerReader) -> tuple[Status, int, str]:
        stop = run.stopped
        if stop is not None:
            rest = _left(steps, reader) if stop.exit_code == ProviderDown.exit_code else ""
            return stop.status, stop.exit_code, stop.reason + rest  # type: ignore[return-value]
        broken = [
            f"step {counts.id}: {counts.failed} of {counts.succeeded + counts.failed} items failed"
            for counts in steps
            if not self._pipeline.step(counts.id).min_success.met(counts.succeeded, counts.failed)
        ]
        if broken:
            return "failed", 1, "; ".join(broken)
        left = sum(counts.unsent for counts in steps)
        if left and self._is_cut():
            return "stopped", 0, f"{left} items of the run were left out by --limit or --key"
        if any(counts.failed for counts in steps):
            return "partial", 0, ""
        return "complete", 0, ""

    def _is_publishable(self, reader: LedgerReader, steps: tuple[StepCounts, ...]) -> bool:
        """True if the run has every row, and every row an end.

        A retry in place may look at some rows only; the others have their ends from before.
        """
        if not self._is_cut():
            return bool(self._data["whole"])
        if not self._data["whole"] or self._options.retry_failed is None or any(counts.unsent for counts in steps):
            return False
        used = {scope.dataset for scope in self._scopes(counts.id for counts in steps)} - {None}
        return all(is_unchanged(reader, self._pipeline.datasets[name or ""]) for name in used)

    def _scopes(self, steps: Iterable[str]) -> Iterator[Scope]:
        """The scopes in which the steps run, and those around them."""
        for id in steps:
            at: str | None = self._pipeline.step(id).scope
            while at is not None:
                yield self._pipeline.scopes[at]
                at = self._pipeline.scopes[at].parent

    def _is_cut(self) -> bool:
        """True if this process was to look at some of the rows only; the run may have more."""
        return self._options.limit is not None or self._options.key is not None

    def _next_command(self, steps: tuple[StepCounts, ...], code: int) -> str:
        run = f"llmpipe run {quoted(_shown(self._pipeline.path))}"
        id = self._choice.folder.name
        if any(counts.unsent for counts in steps) or code == InternalError.exit_code:
            return f"{run} --resume {id}"
        if any(counts.failed for counts in steps):
            return f"{run} --retry-failed {id}"
        return ""

    def _next_flags(self, run: RunState, reader: LedgerReader, steps: tuple[StepCounts, ...]) -> tuple[str, ...]:
        lack = run.stopped.lack if run.stopped is not None else None
        if lack is None:
            return ()
        budget = prepare.effective_budget(self._pipeline, self._options)
        left = {s.id: max(s.items, run.tallies[s.id].expected_items) - s.items + s.unsent for s in steps}
        return sufficient(budget, lack, prepare.spent(reader), steps, left)

    def _write(self, report: RunReport, duration_s: float) -> None:
        self._data |= closing(report, self._pipeline, duration_s=duration_s)
        try:
            write_json(self._path, self._data)
            update_status(self._choice.folder.parent / "status.json", report)
        except OSError:
            if report.exit_code == 0:
                raise


def _python() -> str:
    return sys.version.partition(" ")[0]


def _shown(path: Path) -> str:
    """The path as a person would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _left(steps: tuple[StepCounts, ...], reader: LedgerReader) -> str:
    """What a provider that is down leaves without a result: items that were tried in vain, and items never sent."""
    unsent, tried = sum(counts.unsent for counts in steps), reader.value(_TRIED)
    never = max(0, unsent - tried)
    words = [f"{never} {'item was' if never == 1 else 'items were'} not sent"] if never else []
    if tried:
        words.append(f"{tried} {'item' if tried == 1 else 'items'} got no answer")
    return "".join(f"; {part}" for part in words)
