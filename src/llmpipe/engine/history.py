"""What earlier runs of a pipeline took for each step: the ground of estimates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.runs import LEDGER, RunInfo, run_document
from llmpipe.errors import StorageError
from llmpipe.frozen import frozen

_RUNS = 10  # of the newest, that are looked into
_ANSWERS = 20_000  # of a step's newest ones, that are averaged
_TAKEN = (
    "SELECT model, COUNT(*), SUM(input_tokens), SUM(output_tokens) FROM (SELECT model, input_tokens, output_tokens"
    " FROM attempts WHERE step = ? AND outcome = 'ok' AND input_tokens IS NOT NULL AND output_tokens IS NOT NULL"
    " ORDER BY id DESC LIMIT ?) GROUP BY model"
)
_CALLS = "SELECT COUNT(*), COUNT(DISTINCT item) FROM attempts WHERE step = ?"


@frozen
class Taken:
    """What an answer took on the average. `again`: calls of the step in that run beyond the first of each item."""

    run: str
    answers: int
    input_tokens: float
    output_tokens: float
    calls: int
    again: int


@frozen
class Course:
    """How a step of a whole run went: its items, and how many of them were skipped."""

    run: str
    items: int
    skipped: int


@frozen
class History:
    """By step: the newest course of a whole run; by step and "provider/model-id": what the newest answers took."""

    courses: Mapping[str, Course] = field(default_factory=dict)
    taken: Mapping[tuple[str, str], Taken] = field(default_factory=dict)


def history(runs: Sequence[RunInfo], wanted: Collection[tuple[str, str]]) -> History:
    """What `runs` (the newest first) tell of steps, until something is known of each step and model in `wanted`."""
    courses: dict[str, Course] = {}
    taken: dict[tuple[str, str], Taken] = {}
    steps = {step for step, _ in wanted}
    for info in runs[:_RUNS]:
        if info.whole and info.finished:
            for course_of, course in _courses(info).items():
                courses.setdefault(course_of, course)
        for name, found in _taken(info, steps).items():
            taken.setdefault(name, found)
        if set(wanted) <= set(taken) and steps <= set(courses):
            break
    return History(courses, taken)


def _courses(info: RunInfo) -> dict[str, Course]:
    found = {}
    for step in (run_document(info.folder) or {}).get("steps", []):
        try:
            found[str(step["id"])] = Course(info.run_id, step["items"], step["skipped"])
        except (KeyError, TypeError):
            continue
    return found


def _taken(info: RunInfo, steps: Collection[str]) -> dict[tuple[str, str], Taken]:
    try:
        with LedgerReader(info.folder / LEDGER) as ledger:
            numbers = {name: number for name, number in ledger.rows("SELECT name, id FROM steps") if name in steps}
            return {
                (name, row[0]): _average(info, row, ledger.rows(_CALLS, (number,))[0])
                for name, number in numbers.items()
                for row in ledger.rows(_TAKEN, (number, _ANSWERS))
            }
    except StorageError:
        return {}


def _average(info: RunInfo, row: Sequence[Any], made: Sequence[int]) -> Taken:
    _, answers, tokens_in, tokens_out = row
    calls, items = made
    return Taken(info.run_id, answers, tokens_in / answers, tokens_out / answers, calls, calls - items)
