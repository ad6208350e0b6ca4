"""A run from its first look at the disk to its verdict: choose, lock, open, flow, stop, sum up."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmpipe.config.fingerprint import Fingerprint, fingerprint
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine import prepare, proven
from llmpipe.engine.begin import begin_flow, begin_state
from llmpipe.engine.bounds import require_bounds
from llmpipe.engine.carry import begin_with
from llmpipe.engine.choose import Choice, choose_run
from llmpipe.engine.descriptors import require_descriptors
from llmpipe.engine.endings import stop_at_faults
from llmpipe.engine.files import point_latest, private_folder, shared_folder, sweep_run
from llmpipe.engine.flow import Flow
from llmpipe.engine.folders import require_writable, writing
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_schema import LASTED
from llmpipe.engine.lock import RunLock, refuse_network
from llmpipe.engine.masking import redactor_for, unmasked_note
from llmpipe.engine.options import RunOptions
from llmpipe.engine.own_code import load_providers, load_step, refuse_code
from llmpipe.engine.record import Record
from llmpipe.engine.results import Progress, RunReport
from llmpipe.engine.sequence import is_newest
from llmpipe.engine.signals import stopping_at_signals
from llmpipe.engine.state import RunState
from llmpipe.engine.watch import watch
from llmpipe.errors import LlmpipeError
from llmpipe.interrupts import interruptible

if TYPE_CHECKING:
    from llmpipe.client.log import RunLogger
    from llmpipe.client.redact import Redactor
    from llmpipe.config.environment import Environment

_ENDED = "UPDATE invocations SET finished_at = ? WHERE id = ?"
_LAST_WRITES_S = 5.0  # for what is still to be written once the calls in flight were given up
_IGNORE = "# Runs and cached answers stay out of git.\n*\n"


def run_pipeline(pipeline: Pipeline, options: RunOptions, *, environment: Environment, progress: Progress) -> RunReport:
    """Run a pipeline to its end, or to where it has to stop.

    Raises before anything is sent: ConfigError, KeyMissing, LockHeld, NoSuchRun, Changed, StorageError, Interrupted.
    Whatever happens later is in the report, a fault of llmpipe itself among it.
    """
    with interruptible():
        return _run_locked(pipeline, options, environment, progress)


def _run_locked(pipeline: Pipeline, options: RunOptions, environment: Environment, progress: Progress) -> RunReport:
    if not options.allow_python:
        refuse_code(pipeline)
    require_descriptors()
    output = options.output_dir or pipeline.root / "output"
    require_writable(pipeline, options)
    wait = options.lock if isinstance(options.lock, float) else 0.0
    home = output / pipeline.name
    with writing(home):
        _prepare_output(output)
        lock = RunLock(home, wait_s=wait, command=options.command)
    with lock:
        print_ = fingerprint(pipeline)
        choice = choose_run(pipeline, options, output, print_)
        return _Invocation(pipeline, options, choice, print_, environment=environment, progress=progress).run(output)


def _prepare_output(output: Path) -> None:
    """Raises OSError, StorageError."""
    shared_folder(output)  # where `outputs` usually lie
    refuse_network(output)
    ignore = output / ".gitignore"
    if not ignore.exists():
        ignore.write_text(_IGNORE, encoding="utf-8")


class _Invocation:
    """One process's work on a run."""

    def __init__(
        self,
        pipeline: Pipeline,
        options: RunOptions,
        choice: Choice,
        print_: Fingerprint,
        *,
        environment: Environment,
        progress: Progress,
    ) -> None:
        self._options, self._choice, self._fingerprint = options, choice, print_
        self._environment, self._progress = environment, progress
        models = prepare.asked_models(pipeline, choice)
        if not options.offline:
            prepare.require_keys(models, environment)
        if options.max_cost is not None and not options.offline:
            require_bounds(pipeline, choice)
        if options.key is not None:
            prepare.require_row(pipeline, options.key)
        self._notes: list[str] = [choice.note] if choice.note else []
        self._redactor: Redactor = redactor_for(pipeline.models, environment.handed_out)
        self._models = models
        self._providers = {} if options.offline else load_providers(pipeline, models)
        for step in pipeline.steps:
            if step.kind == "python" and step.id in choice.wanted and step.id not in choice.fixed:
                load_step(step, pipeline)  # what cannot be loaded is refused before there is a run
        with writing(choice.folder):
            private_folder(choice.folder)
            sweep_run(choice.folder)
            self._pipeline = prepare.spool_stdin(
                pipeline, choice.folder, self._redactor, note=self._note, key=options.key
            )
        self._run: RunState | None = None

    def run(self, output: Path) -> RunReport:
        """Work, and sum up: every way out of the work leads through `Record.conclude`."""
        record, ledger, invocation = self._begun()
        fault: BaseException | None = None
        try:
            with asyncio.Runner() as runner:
                runner.run(self._work(ledger, invocation, output))
        except BaseException as err:  # noqa: BLE001 - whatever ends the work, the run has a summary
            fault = err
        with suppress(LlmpipeError):  # of a ledger that takes no more, which the summary says
            ledger.put(_ENDED, (time.time(), invocation))
            ledger.put(LASTED, (record.elapsed_s, invocation))
        ledger.close()
        return record.conclude(self._run, fault, self._notes)

    def _begun(self) -> tuple[Record, Ledger, int]:
        """The run's files, with this invocation in them. Nothing is left of a new run that could not be begun."""
        folder, is_new = self._choice.folder, self._choice.continued is None
        with writing(folder), ExitStack() as undo:
            if is_new:
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
            record = Record(self._pipeline, self._options, self._choice, self._fingerprint, redactor=self._redactor)
            if self._choice.base is not None:  # before there is a run.json: half a copy is no run that could go on
                begin_with(self._choice.base.folder, folder, self._choice.redone)
            ledger, invocation, left_open = prepare.open_ledger(self._pipeline, folder, self._options)
            undo.callback(ledger.close)
            ledger.put("INSERT OR REPLACE INTO meta (name, value) VALUES ('number', ?)", (str(record.number),))
            record.begin()
            undo.pop_all()
        if is_newest(folder, record.number):  # also where it goes on: a kill may have come before it was so
            point_latest(folder)
        record.asks_somebody(self._models)
        if note := unmasked_note(self._environment.handed_out, self._redactor):
            self._progress.note(note)  # a warning for who is there, not what came of the run
        if left_open:
            self._note(f"{left_open} calls of the earlier process have no known outcome: they may have been billed")
        return record, ledger, invocation

    def _note(self, line: str) -> None:
        self._notes.append(line)
        self._progress.note(line)

    async def _work(self, ledger: Ledger, invocation: int, output: Path) -> None:
        with self._log() as logger:
            run = self._run = await self._state(ledger, invocation, output, logger)
            asyncio.get_running_loop().set_exception_handler(stop_at_faults(run))
            with stopping_at_signals(run, self._progress):
                try:
                    flow = begin_flow(Flow, run, self._choice, self._fingerprint)
                    async with watch(
                        run, flow, self._progress, prepare.effective_budget(self._pipeline, self._options)
                    ):
                        await self._flow(run, flow)
                    if run.stopped is None and self._looks_at_all():
                        proven.end(ledger, self._fingerprint.whole)
                finally:
                    await run.client.aclose()
                    run.client.cache.close()

    async def _flow(self, run: RunState, flow: Flow) -> None:
        work = asyncio.create_task(flow.run())
        try:
            await _until_abandoned(run, work)
            if work.done():
                work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=_LAST_WRITES_S)  # the end of the event loop cancels every part of it
                if work.done() and not work.cancelled():
                    work.exception()  # what ends the work at once has been raised, or is the reason of the stop

    async def _state(self, ledger: Ledger, invocation: int, output: Path, logger: RunLogger) -> RunState:
        client = partial(
            prepare.make_client, self._pipeline, self._options, ledger=ledger, output=output,
            environment=self._environment, redactor=self._redactor, note=self._note, logger=logger,
            providers=self._providers,
        )  # fmt: skip
        return await begin_state(
            RunState, self._pipeline, self._options, self._choice, self._fingerprint, folder=self._choice.folder,
            ledger=ledger, invocation=invocation, client=client, environment=self._environment,
            redactor=self._redactor, note=self._note,
        )  # fmt: skip

    def _looks_at_all(self) -> bool:
        """True if every item goes through every step."""
        options = self._options
        return options.limit is None and options.key is None and not self._choice.fixed

    def _log(self) -> AbstractContextManager[RunLogger]:
        from llmpipe.client.log import log_to

        others = self._options.allow_python  # only code of the user's may log besides
        return log_to(self._choice.folder / "log.jsonl", self._redactor, others=others, warn=self._note)


async def _until_abandoned(run: RunState, work: asyncio.Task[None]) -> None:
    """Wait for the work; once the calls in flight are given up, only for what is left to be written."""
    abandoned = asyncio.create_task(run.abandoned.wait())
    try:
        await asyncio.wait([work, abandoned], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([work], timeout=_LAST_WRITES_S)
    finally:
        abandoned.cancel()
