"""A plan: the run's own way gone through in a folder that is thrown away, without a lock, a key or a call.

choose_run ─► a copy of the run's ledger, or an empty one ─► RehearsedFlow ─► counts, sums ─► forecast ─► PlanReport
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmpipe.config.fingerprint import Fingerprint, fingerprint
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine import prepare
from llmpipe.engine.begin import begin_flow, begin_state
from llmpipe.engine.carry import take_over
from llmpipe.engine.choose import Choice, choose_run
from llmpipe.engine.folders import require_writable, why_not
from llmpipe.engine.guess import PromptGuess
from llmpipe.engine.ledger import copy_ledger
from llmpipe.engine.ledger_read import leaving_no_trace
from llmpipe.engine.ledger_scratch import ScratchLedger, scratch_folder
from llmpipe.engine.lock import is_held, refuse_network
from llmpipe.engine.masking import redactor_for, unmasked_note
from llmpipe.engine.options import RunOptions
from llmpipe.engine.own_code import refuse_code
from llmpipe.engine.planned import PlanReport
from llmpipe.engine.rehearsed import Rehearsed, RehearsedFlow
from llmpipe.engine.runs import LEDGER, RunInfo, list_runs
from llmpipe.engine.summing_up import sum_up
from llmpipe.engine.sums import StepSum
from llmpipe.errors import ConfigError, DataError, KeyMissing, StorageError
from llmpipe.providers.table import resolve
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.cache_reader import CacheReader
    from llmpipe.config.environment import Environment

STDIN = "stdin"


@contextmanager
def rehearsed(
    pipeline: Pipeline,
    options: RunOptions,
    *,
    environment: Environment,
    tick: Callable[[int], None] = lambda rows: None,
) -> Iterator[PlanReport]:
    """What a run with these options would do. Within the block the report's `asked` can be read.

    `tick` is told now and then how many rows were gone through. Raises ConfigError, NoSuchRun and Changed as a run
    does, and StorageError if there is no room for what is written down on the way.
    """
    if not options.allow_python:
        refuse_code(pipeline)
    print_ = fingerprint(pipeline)
    output = options.output_dir or pipeline.root / "output"
    with scratch_folder() as folder:
        with leaving_no_trace():
            choice = choose_run(pipeline, options, output, print_)
            _take_over(choice, folder)
            runs = list_runs(output / pipeline.name)
        if options.key is not None:
            prepare.require_row(pipeline, options.key)
        rehearsal = _Rehearsal(pipeline, options, choice, print_, environment=environment)
        rehearsal.read_standard_input(folder)
        yield from rehearsal.report(folder, output, runs, tick)


def _take_over(choice: Choice, folder: Path) -> None:
    """Put the ledger that a run would begin with into `folder`. Raises StorageError."""
    if choice.continued is not None and (choice.folder / LEDGER).exists():
        copy_ledger(choice.folder / LEDGER, folder / LEDGER, ())
    elif choice.base is not None:
        take_over(choice.base.folder / LEDGER, folder / LEDGER, choice.redone)


class _Rehearsal:
    """One run gone through."""

    def __init__(
        self, pipeline: Pipeline, options: RunOptions, choice: Choice, print_: Fingerprint, *, environment: Environment
    ) -> None:
        self._pipeline, self._options, self._choice, self._fingerprint = pipeline, options, choice, print_
        self._environment = environment
        self._sources = {name: () if d.stdin else d.paths for name, d in pipeline.datasets.items()}
        self._models = prepare.asked_models(pipeline, choice)
        self._obstacles = [] if options.offline else _lacking_keys(self._models, environment)
        self._redactor = redactor_for(pipeline.models, environment.handed_out)
        note = unmasked_note(environment.handed_out, self._redactor)
        self._notes: list[str] = [note] if note else []

    def read_standard_input(self, folder: Path) -> None:
        """Put standard input into `folder`; a run that goes on has kept its own. Raises ConfigError, NoSuchPart."""
        choice = self._choice
        kept = choice.continued is not None and (choice.folder / STDIN).exists()
        place = choice.folder if kept else folder
        self._pipeline = prepare.spool_stdin(
            self._pipeline, place, self._redactor, note=self._notes.append, key=self._options.key
        )

    def report(
        self, folder: Path, output: Path, runs: tuple[RunInfo, ...], tick: Callable[[int], None]
    ) -> Iterator[PlanReport]:
        """Go through the run and say what came of it; the ledger stays open until the report is let go."""
        ledger = ScratchLedger(folder / LEDGER)
        cache = self._cache(output, folder)
        try:
            invocation, left_open = prepare.entered(ledger, self._options)
            with asyncio.Runner() as runner:
                run = runner.run(self._through(ledger, invocation, cache, tick))
            if left_open:
                self._notes.append(f"{left_open} calls of the earlier process have no known outcome")
            obstacles = (*self._obstacles, *_closed(self._pipeline, self._options, output))
            yield sum_up(
                run, self._choice, self._fingerprint, runs=runs, output=output, environment=self._environment,
                sources=self._sources, obstacles=obstacles, notes=tuple(self._notes),
            )  # fmt: skip
        finally:
            cache.close()
            ledger.close()

    def _cache(self, output: Path, folder: Path) -> CacheReader:
        """The project's cache; an empty one where a run would refuse it."""
        from llmpipe.client.cache_reader import CacheReader

        try:
            return CacheReader(output / ".cache", warn=self._notes.append)
        except StorageError as err:
            self._obstacles.append(str(err))
            return CacheReader(folder / "no-cache", warn=self._notes.append)

    async def _through(
        self, ledger: ScratchLedger, invocation: int, cache: CacheReader, tick: Callable[[int], None]
    ) -> Rehearsed:
        from llmpipe.client.rehearsal import Rehearsal

        client = Rehearsal(
            self._pipeline.models,
            cache=cache,
            budget=prepare.effective_budget(self._pipeline, self._options),
            redactor=self._redactor,
            secrets=self._environment.secret,
        )
        run = await begin_state(
            Rehearsed, self._pipeline, self._options, self._choice, self._fingerprint, folder=ledger.path.parent,
            ledger=ledger, invocation=invocation, client=lambda: client, environment=self._environment,
            redactor=self._redactor, note=self._notes.append,
        )  # fmt: skip
        run.sums = {step.id: StepSum() for step in self._pipeline.steps}
        run.guesses = _guesses(self._pipeline)
        run.tick, run.tries = tick, client.tries
        try:
            await begin_flow(RehearsedFlow, run, self._choice, self._fingerprint).run()
        except DataError as err:
            raise ConfigError([err.problem()]) from err
        return run


def _guesses(pipeline: Pipeline) -> Mapping[str, PromptGuess]:
    return {
        step.id: PromptGuess(pipeline, step, resolve(pipeline.models[step.models[0]]))
        for step in pipeline.steps
        if step.kind == "model"
    }


def _lacking_keys(models: tuple[Model, ...], environment: Environment) -> list[str]:
    try:
        prepare.require_keys(models, environment)
    except KeyMissing as err:
        return str(err).splitlines()
    return []


def _closed(pipeline: Pipeline, options: RunOptions, output: Path) -> Iterator[str]:
    """Why a run could not begin where it has to write."""
    home = output / pipeline.name
    if is_held(home):
        yield "another run of this pipeline is at work"
    try:
        refuse_network(output)
    except StorageError as err:
        yield str(err)
    if reason := why_not(home):
        yield f"the output folder cannot be written: {reason}"
    try:
        require_writable(pipeline, options)
    except ConfigError as err:
        yield from (problem.message for problem in err.problems)
