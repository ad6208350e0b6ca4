"""Which run an invocation works on: a new one, one that it continues, one that it builds on."""

from __future__ import annotations

import secrets
from pathlib import Path

from llmpipe.config.fingerprint import Fingerprint, changes, from_json
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine import proven
from llmpipe.engine.ledger_versions import LedgerUnreadable
from llmpipe.engine.options import RunOptions
from llmpipe.engine.runs import LAST, LEDGER, NoSuchPart, NoSuchRun, RunInfo, find_run, list_runs, require_readable
from llmpipe.errors import LlmpipeError, StorageError
from llmpipe.frozen import frozen


class Changed(LlmpipeError):
    """The pipeline is not the one that the run was begun with."""

    code = "X911"
    title = "the pipeline has changed since the run was begun"
    advice = "Pass --accept-changes to redo the steps concerned, or start a new run."
    exit_code = 2


@frozen
class Choice:
    """A folder to work in; `continued` if it has a run already; `base` to take results over from.

    Of the base the results of `redone` are left behind; the steps in `fixed` are not run at all; `wanted` are the
    steps of this run.
    """

    folder: Path
    continued: RunInfo | None
    wanted: frozenset[str]
    base: RunInfo | None = None
    redone: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    note: str = ""
    lost: tuple[str, ...] = ()  # which runs were to be continued or built on and cannot be read, and why
    only: str | None = None
    from_step: str | None = None

    @property
    def has_results(self) -> bool:
        """True if the ledger begins with results: of an earlier process of this run, or of the run it builds on."""
        return self.continued is not None or self.base is not None


def choose_run(pipeline: Pipeline, options: RunOptions, output: Path, fingerprint: Fingerprint) -> Choice:
    """Decide. Raises NoSuchRun, Changed, StorageError if the run that is named cannot be read."""
    home = output / pipeline.name
    every = frozenset(step.id for step in pipeline.steps)
    if options.retry_failed is not None:
        return _continue(pipeline, options, find_run(output, options.retry_failed, pipeline.name), fingerprint)
    if options.resume == "auto":
        return _auto(pipeline, options, home, fingerprint)
    if options.resume is not None:
        return _continue(pipeline, options, find_run(output, options.resume, pipeline.name), fingerprint)
    if options.only or options.from_step:
        return _on_base(pipeline, options, output)
    return Choice(_fresh(home), None, every)


def _continue(pipeline: Pipeline, options: RunOptions, info: RunInfo, fingerprint: Fingerprint) -> Choice:
    require_readable(info)
    different = _differences(info, fingerprint)
    if not info.fingerprint and different and proven.is_blank(info.folder / LEDGER):
        raise LedgerUnreadable(f"the process of run {info.run_id} ended before it had asked for anything")
    if different and not options.accept_changes:
        raise Changed(f"run {info.run_id} was begun with another pipeline: {'; '.join(different)}")
    wanted, redone = _selected(pipeline, info.only, info.from_step)
    note = f"continuing run {info.run_id}"
    if info.only or info.from_step:
        note += f" ({'only' if info.only else 'from'} {info.only or info.from_step})"
    return Choice(info.folder, info, wanted, fixed=wanted - redone, note=note, only=info.only, from_step=info.from_step)


def _auto(pipeline: Pipeline, options: RunOptions, home: Path, fingerprint: Fingerprint) -> Choice:
    """Continue the last unfinished run of the same fingerprint, else begin one that carries over what still holds."""
    every = frozenset(step.id for step in pipeline.steps)
    runs = [info for info in list_runs(home) if info.whole]
    lost = []
    if runs and not runs[0].finished:
        reason = _why_unreadable(runs[0])
        if reason:
            lost.append(reason)
        elif not _differences(runs[0], fingerprint):
            return Choice(runs[0].folder, runs[0], every, note=f"continuing run {runs[0].run_id}")
    base = None
    for info in (info for info in runs if info.finished):
        reason = _why_unreadable(info)
        if not reason:
            base = info
            break
        lost.append(reason)
    note = f"carrying over from run {base.run_id}" if base else "nothing is carried over" if lost else ""
    return Choice(_fresh(home), None, every, base=base, note=note, lost=tuple(lost))


def _why_unreadable(info: RunInfo) -> str:
    try:
        require_readable(info)
    except StorageError as err:
        return f"run {info.run_id} cannot be read: {err}"
    return ""


def _differences(info: RunInfo, fingerprint: Fingerprint) -> tuple[str, ...]:
    if not info.fingerprint and proven.results_of(info.folder / LEDGER) == fingerprint.whole:
        return ()
    try:
        return changes(from_json(info.fingerprint), fingerprint)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ("its run.json does not say with which pipeline it was begun",)


def _on_base(pipeline: Pipeline, options: RunOptions, output: Path) -> Choice:
    wanted, redone = _selected(pipeline, options.only, options.from_step)
    home = output / pipeline.name
    if options.base is not None:
        base = find_run(output, options.base, pipeline.name)
    else:
        found = next((info for info in list_runs(home) if info.finished), None)
        if found is None:
            raise NoSuchRun(
                f"there is no finished run of {pipeline.name} to build on; run it once, or name one: --base"
            )
        base = found
    require_readable(base)
    return Choice(
        _fresh(home), None, wanted, base=base, redone=redone, fixed=wanted - redone,
        note=f"building on run {base.run_id}", only=options.only, from_step=options.from_step,
    )  # fmt: skip


def _selected(pipeline: Pipeline, only: str | None, from_step: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """The steps of a run, and those of them that are run rather than taken over. Raises NoSuchPart."""
    every = frozenset(step.id for step in pipeline.steps)
    named = only or from_step
    if named is None:
        return every, every
    above, below = _related(pipeline, named)
    if only:
        return above | {named}, frozenset({named})
    return every, frozenset({named}) | below


def _related(pipeline: Pipeline, id: str) -> tuple[frozenset[str], frozenset[str]]:
    """The steps that `id` builds on, and those that build on it. Raises NoSuchPart for an unknown step."""
    if id not in pipeline.order:
        raise NoSuchPart(f"there is no step '{id}'; there are: {', '.join(pipeline.order)}")
    uses = {step.id: _uses(pipeline, step.id) for step in pipeline.steps}

    def closure(start: str, edges: dict[str, set[str]]) -> frozenset[str]:
        found: set[str] = set()
        open_ = [start]
        while open_:
            for other in edges.get(open_.pop(), set()) - found:
                found.add(other)
                open_.append(other)
        return frozenset(found - {start})

    used_by: dict[str, set[str]] = {}
    for user, used in uses.items():
        for one in used:
            used_by.setdefault(one, set()).add(user)
    return closure(id, uses), closure(id, used_by)


def _uses(pipeline: Pipeline, id: str) -> set[str]:
    step = pipeline.step(id)
    found = {ref.step for ref in step.refs} | set(step.needs)
    scope: str | None = step.scope
    while scope is not None:
        at = pipeline.scopes[scope]
        if at.step:
            found.add(at.step)
        scope = at.parent
    return found - {id}


def _fresh(home: Path) -> Path:
    """A folder name for a new run that no other run has."""
    while True:
        folder = home / secrets.token_hex(3)
        if not folder.exists() and folder.name != LAST:
            return folder
