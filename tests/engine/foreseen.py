"""A plan made in-process, and held against what the run that follows really does."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpipe.config.environment import Environment
from llmpipe.engine.options import RunOptions
from llmpipe.engine.planned import AskedItem, PlanReport, StepPlan
from llmpipe.engine.rehearse import rehearsed
from llmpipe.engine.results import RunReport
from tests.engine.conftest import Project

_MADE = (
    "SELECT steps.name, COUNT(DISTINCT items.key), SUM(attempts.number = 1) FROM attempts"
    " JOIN steps ON steps.id = attempts.step JOIN items ON items.id = attempts.item"
    " WHERE invocation = (SELECT MAX(id) FROM invocations) GROUP BY steps.name"
)
_ASKED = (
    "SELECT DISTINCT steps.name, items.key FROM attempts JOIN steps ON steps.id = attempts.step"
    " JOIN items ON items.id = attempts.item WHERE invocation = (SELECT MAX(id) FROM invocations)"
)


@dataclass(frozen=True)
class Foreseen:
    """A plan with every item that it would have a model asked for."""

    report: PlanReport
    asked: dict[str, list[AskedItem]]

    def step(self, id: str) -> StepPlan:
        return next(step for step in self.report.steps if step.id == id)

    def keys(self, step: str, *kinds: str) -> list[str]:
        """The keys of the items that would be asked for, for one of these reasons or for any."""
        return [item.key for item in self.asked[step] if not kinds or item.kind in kinds]


def files(root: Path) -> dict[str, str]:
    """Everything below a folder, with what is in it; but for SQLite's index of the log that a killed process left."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if not (path.name.endswith(".db-shm") and path.with_name(path.name[:-3] + "wal").stat().st_size)
    }


def foresee(project: Project, text: str | None = None, **options: Any) -> Foreseen:
    """The plan of a run; nothing below the project is made, changed or touched by it."""
    pipeline = project.load(text)
    before = files(project.root)
    with rehearsed(pipeline, RunOptions(**options), environment=Environment(project.variables)) as report:
        asked = {step.id: list(report.every_asked(step.id)) for step in report.steps}
    assert files(project.root) == before
    return Foreseen(report, asked)


def first_attempts(report: RunReport) -> dict[str, int]:
    """Calls of each step in the last process of a run, retries and re-asks that were answered left out by number."""
    with closing(sqlite3.connect(report.folder / "run.db")) as db:
        return {step: calls for step, _, calls in db.execute(_MADE)}


def asked_items(report: RunReport) -> set[tuple[str, str]]:
    """Step and key of each item for which a model was asked in the last process of a run."""
    with closing(sqlite3.connect(report.folder / "run.db")) as db:
        return set(db.execute(_ASKED))


def holds(plan: Foreseen, report: RunReport) -> None:
    """Every figure of the plan that is exact is what the run came to, and what is known is part of it."""
    calls = first_attempts(report)
    counts = {step.id: step for step in report.steps}
    asked = asked_items(report)
    for step in plan.report.steps:
        came = counts[step.id]
        made = calls.get(step.id, 0)
        if step.items.is_exact:
            assert step.items.value == came.items, step.id
        if step.calls.is_exact:
            assert step.calls.value == made, step.id
            assert {(step.id, key) for key in plan.keys(step.id, *_SENT)} == {a for a in asked if a[0] == step.id}
        assert step.calls.least <= made, step.id
        assert step.carried <= came.carried, step.id
        assert step.open or not step.items.is_exact or step.carried == came.carried, step.id
        if step.cached.is_exact:
            assert step.cached.value == _freshly_cached(report, step.id), step.id
        assert step.cached.least <= _freshly_cached(report, step.id), step.id
        assert step.failed <= came.failed, step.id


_SENT = ("new", "changed", "failed", "skipped", "misfit")


def _freshly_cached(report: RunReport, step: str) -> int:
    """Items that were answered from the cache in the last process of a run."""
    sql = (
        "SELECT COUNT(*) FROM results JOIN steps ON steps.id = results.step WHERE steps.name = ? AND cached"
        " AND results.finished_at >= (SELECT MAX(started_at) FROM invocations)"
    )
    with closing(sqlite3.connect(report.folder / "run.db")) as db:
        found: int = db.execute(sql, (step,)).fetchone()[0]
        return found


def foresee_and_run(project: Project, text: str | None = None, **options: Any) -> tuple[Foreseen, RunReport]:
    """A plan, and the run that it is of; the plan has to hold."""
    plan = foresee(project, text, **options)
    report = project.run(text, **options)
    holds(plan, report)
    return plan, report
