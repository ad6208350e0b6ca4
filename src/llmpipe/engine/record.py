"""`run.json`, `status.json`, the result files and the report: what a run writes about itself."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.config.fingerprint import Fingerprint
from llmpipe.config.pipeline import Pipeline, Scope
from llmpipe.engine.choose import Choice
from llmpipe.engine.endings import moved, stop_for
from llmpipe.engine.evidence import remove_orphans
from llmpipe.engine.files import read_json, write_json
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_versions import DamagedValue, LedgerUnreadable
from llmpipe.engine.masking import masked_counts
from llmpipe.engine.options import RunOptions
from llmpipe.engine.outputs import Publisher, export_steps
from llmpipe.engine.rests import next_flags
from llmpipe.engine.results import RunReport, Status, StepCounts
from llmpipe.engine.run_file import closing, next_command, note_damage, opening, previous, schemas_sent, update_status
from llmpipe.engine.runs import RUN_FILE
from llmpipe.engine.spending import Spending
from llmpipe.engine.state import RunState, Stop
from llmpipe.engine.unchanged import is_unchanged
from llmpipe.engine.verdict import causes, count_step, disagreements, left_over, live_counts
from llmpipe.errors import InternalError, ItemError, ProviderDown
from llmpipe.interrupts import Interrupted, LateSignals, taking
from llmpipe.local_faults import local_fault
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor


_ROOM_BYTES = 64 * 1024
_LAST_ROOM_BYTES = 16 * 1024
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
        self._counted: RunReport | None = None  # before the results are written
        self._lasted_before_s = 0.0  # this run's earlier invocations
        # Given back at the end, so that a full disk then takes the rest of the ledger, and at last the verdict.
        self._room, self._last_room = choice.folder / ".room.part", choice.folder / ".verdict.part"
        self._data = opening(pipeline, options, choice, print_, redactor=redactor, earlier=earlier)

    @property
    def number(self) -> int:
        """The place of the run in the order in which runs are made."""
        return int(self._data["number"])

    @property
    def elapsed_s(self) -> float:
        """How long this process has worked on the run."""
        return time.monotonic() - self._clock

    def asks_somebody(self, models: tuple[Model, ...]) -> None:
        """Take note of whether any of the models is a real one."""
        from llmpipe.providers.table import resolve

        self._asks = any(resolve(model).wire != "echo" for model in models)

    def begin(self) -> None:
        """Say that the run is at work, and keep some room for saying how it ended. Raises OSError."""
        try:
            self._room.write_bytes(os.urandom(_ROOM_BYTES))
            self._last_room.write_bytes(os.urandom(_LAST_ROOM_BYTES))
            write_json(self._path, self._data)
        except BaseException:
            self._give_back(self._room)
            self._give_back(self._last_room)
            raise

    def _give_back(self, room: Path) -> None:
        with contextlib.suppress(OSError):
            room.unlink()

    def conclude(self, run: RunState | None, fault: BaseException | None, notes: Sequence[str]) -> RunReport:
        """Sum up from the ledger, write the result files, publish the outputs, and give the verdict.

        `fault` ended the work. Raises it again, an error with advice, where the run was not even set up.
        """
        self._give_back(self._room)
        stop = stop_for(fault) if fault is not None else run.stopped if run is not None else None
        report: RunReport | None = None
        signals = LateSignals(expected=stop is not None and stop.status == "interrupted")
        with taking(signals.append):
            if run is not None and not run.ledger.is_in_place:
                stop = moved(self._choice.folder)
            elif run is not None:
                try:
                    report = self._summed_up(run, stop, notes, signals.check)
                except Exception as err:  # noqa: BLE001 - no run ends without its summary
                    self._note_damage(err)
                    fault, stop = (fault, stop) if stop is not None else (err, stop_for(err))
                except Interrupted as err:
                    stop = stop or stop_for(err)
            if report is None:
                assert stop is not None
                report = self._short(run, stop, notes)
            self._note_damage(fault)
            if run is not None:
                self._data["schemas"] = schemas_sent(self._pipeline, run.client)
            report = self._written(report, stop)
        if run is None and fault is not None and report.status == "failed":
            raise local_fault(fault) or fault
        return replace(report, crash=fault) if stop is not None and stop.status == "crashed" else report

    def _note_damage(self, fault: BaseException | None) -> None:
        """Say in `run.json` that a ledger cannot be read, so that `--resume auto` does not come back to it."""
        if isinstance(fault, LedgerUnreadable):
            self._data["damaged"] = reason = self._redactor.text(str(fault))
            if isinstance(fault, DamagedValue) and self._choice.base is not None:  # it was copied from there
                note_damage(self._choice.base.folder / RUN_FILE, reason)

    def _summed_up(
        self, run: RunState, stop: Stop | None, notes: Sequence[str], check: Callable[[], None]
    ) -> RunReport:
        numbers = {
            step.id: (run.step_numbers[step.id], run.scope_numbers[step.scope])
            for step in self._pipeline.steps
            if step.id in self._choice.wanted
        }
        with LedgerReader(run.ledger.path) as reader:
            reader.between_blocks = check
            spending = Spending.of(reader)
            self._lasted_before_s = reader.value(_LASTED, (run.invocation,))
            steps = tuple(
                count_step(reader, self._pipeline, id, numbers=pair, tally=run.tallies[id], invocation=run.invocation)
                for id, pair in numbers.items()
            )
            report = self._report(steps, stop, self._verdict(stop, steps, reader), notes)
            report = replace(
                report,
                maybe_billed=spending.maybe_billed,
                held_usd=spending.held_usd,
                held_tokens=spending.held_tokens,
                masked=masked_counts(reader),
                next_flags=next_flags(run, stop, reader, steps),
                causes=causes(reader, {id: number for id, (number, _) in numbers.items()}),
                empty=() if stop else self._empty(run, reader, numbers),
            )
            self._counted = report
            if stop is not None:  # first of all: there may be no room for the results
                report = self._written(report, stop)
            publish = report.exit_code == 0 and self._is_publishable(reader, steps)
            lines, published, trouble = self._results(reader, run.folder, numbers, publish=publish)
        report = replace(report, published=published)
        if trouble and report.exit_code == 0:
            report = self._ended(report, ("failed", 1, trouble))
        return self._balanced(report, run, lines, stop)

    def _balanced(self, report: RunReport, run: RunState, lines: dict[str, int], stop: Stop | None) -> RunReport:
        """The report, or what does not add up in it; after a fault the ledger may lack what was counted."""
        is_cut = stop is not None or self._is_cut()
        wrong = [
            line
            for counts in report.steps
            for line in disagreements(counts, run.tallies[counts.id], lines=lines.get(counts.id), stopped=is_cut)
        ]
        if not wrong or run.ledger.failed is not None or (stop is not None and stop.unfinished):
            return report
        reason = "the sum does not hold: " + "; ".join(wrong)
        return self._ended(report, ("crashed", InternalError.exit_code, reason))

    def _ended(self, report: RunReport, verdict: tuple[Status, int, str]) -> RunReport:
        """The report with another end, after which there is more to do."""
        status, code, reason = verdict
        following = next_command(self._pipeline, self._choice.folder, report.steps, unfinished=True)
        reason = self._redactor.text(reason)
        return replace(report, status=status, exit_code=code, reason=reason, partial=False, next_command=following)

    def _short(self, run: RunState | None, stop: Stop, notes: Sequence[str]) -> RunReport:
        """The report without the results: of what was counted, or of what is in memory if the ledger cannot be read."""
        if self._counted is not None:
            return self._ended(self._counted, self._verdict(stop, self._counted.steps))
        steps = () if run is None else tuple(
            live_counts(self._pipeline, step.id, run.tallies[step.id], waiting_for="")
            for step in self._pipeline.steps
            if step.id in self._choice.wanted
        )  # fmt: skip
        return self._report(steps, stop, self._verdict(stop, steps), notes)

    def _report(
        self, steps: tuple[StepCounts, ...], stop: Stop | None, verdict: tuple[Status, int, str], notes: Sequence[str]
    ) -> RunReport:
        status, code, reason = verdict
        return RunReport(
            pipeline=self._pipeline.name,
            pipeline_path=self._pipeline.path,
            run_id=self._choice.folder.name,
            folder=self._choice.folder,
            status=status,
            exit_code=code,
            reason=self._redactor.text(reason),
            duration_s=self.elapsed_s,
            steps=steps,
            partial=status == "partial",
            no_model_called=not self._asks and any(step.kind == "model" for step in steps),
            previous=self._previous,
            next_command=next_command(
                self._pipeline, self._choice.folder, steps, unfinished=stop is not None and stop.unfinished
            ),
            problem=stop.problem if stop is not None else None,
            lost=self._choice.lost,
            notes=tuple(notes),
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
            reader.between_blocks()
            published = Publisher(self._pipeline, reader, self._redactor.known_data).publish() if publish else ()
        except OSError as err:
            return lines, (), f"results could not be written: {stop_for(err).reason}"
        except ItemError as err:
            return lines, (), f"outputs could not be made: {err}"
        return lines, published, ""

    def _verdict(
        self, stop: Stop | None, steps: tuple[StepCounts, ...], reader: LedgerReader | None = None
    ) -> tuple[Status, int, str]:
        if stop is not None:
            is_down = reader is not None and stop.exit_code == ProviderDown.exit_code
            return stop.status, stop.exit_code, stop.reason + (left_over(steps, reader) if is_down and reader else "")
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

    def _written(self, report: RunReport, stop: Stop | None) -> RunReport:
        """Write `run.json` and `status.json`; the report, which is one of a failure if they cannot be written."""
        if not os.path.isdir(self._choice.folder):  # noqa: PTH112 - Path.is_dir raises where the folder cannot be entered
            return report
        begun: dict[str, Any] = {name: self._data[name] for name in ("totals", "steps") if name in self._data}
        self._data |= closing(report, self._pipeline, duration_s=report.duration_s + self._lasted_before_s)
        if not report.steps:
            self._data |= begun  # nothing was counted
        if stop is not None and stop.unfinished and stop.status != "interrupted":
            self._data["finished_at"] = None
        self._give_back(self._last_room)
        try:
            write_json(self._path, self._data)
            update_status(self._choice.folder.parent / "status.json", report)
        except OSError as err:
            if report.exit_code == 0:
                return self._written(self._ended(report, self._verdict(stop_for(err), report.steps)), stop)
        return report
