"""The runs below an output folder: listed, found by a part of their id, removed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmpipe.engine.files import point_latest, read_json
from llmpipe.engine.ledger_read import LedgerReader, leaving_no_trace
from llmpipe.engine.ledger_versions import LedgerTooNew, LedgerUnreadable
from llmpipe.engine.lock import is_held
from llmpipe.engine.sequence import number_in
from llmpipe.engine.underway import counted, number_of
from llmpipe.errors import LlmpipeError, LockHeld, StorageError
from llmpipe.frozen import frozen

LAST = "last"
RUN_FILE, LEDGER = "run.json", "run.db"
RUN_VERSION = 2  # of run.json; that of 0.1.0 names none
_UNFINISHED = ("running", "interrupted", "stopped", "crashed")


class NoSuchRun(LlmpipeError):
    """No run, or more than one, answers to the name that was given."""

    code = "X910"
    title = "no such run"
    advice = "`llmpipe runs` lists the runs that there are."
    exit_code = 2


class NoSuchPart(NoSuchRun):
    """No step, item or row answers to the name that was given."""

    code = "X912"
    title = "no such step, item or row"
    advice = "`llmpipe show RUN STEP` lists a step's items; --key names a row by its dataset's `key`."


@frozen
class RunInfo:
    """What `run.json` says of a run. Times are seconds since the epoch."""

    run_id: str
    pipeline: str
    started_at: float
    finished_at: float | None
    status: str  # as in results.Status; "crashed" for a run whose process died
    exit_code: int | None
    items: int
    succeeded: int
    failed: int
    skipped: int
    unsent: int
    cost_usd: Decimal | None  # None: a part of it is not known
    folder: Path
    fingerprint: dict[str, Any]
    whole: bool  # every step, every item (no --limit, --key, --only)
    only: str | None = None  # the step that --only named
    from_step: str | None = None  # the step that --from named
    cost_known_usd: Decimal = Decimal(0)
    unpriced: int = 0
    unknown_usage: int = 0
    maybe_billed: int = 0
    held_usd: Decimal = Decimal(0)
    held_tokens: int = 0
    number: int = 0  # the place in the order in which runs were made; 0 for those of 0.1.0, which came before
    duration_s: float | None = None  # of all its processes together
    damaged: str = ""  # why a process found that the ledger cannot be trusted
    version: int = RUN_VERSION

    @property
    def order(self) -> tuple[int, float]:
        """What runs are sorted by, the oldest first."""
        return self.number, self.started_at

    @property
    def finished(self) -> bool:
        """True if every item has an end: nothing is left to be sent."""
        return self.status not in _UNFINISHED and self.unsent == 0 and self.finished_at is not None


def list_runs(pipeline_output: Path) -> tuple[RunInfo, ...]:
    """The runs in `output/<pipeline>`, the newest first."""
    held = is_held(pipeline_output)
    found = [_info(folder, held=held) for folder in _folders(pipeline_output)]
    return tuple(sorted(found, key=lambda info: info.order, reverse=True))


def run_document(folder: Path) -> dict[str, Any] | None:
    """What `run.json` says; of a run without a verdict, with counts from its ledger. None if there is no run."""
    if not _is_run(folder):
        return None
    data = read_json(folder / RUN_FILE)
    if data is None:  # the ledger is the truth of what came back, whatever became of the rest
        data = {"status": "crashed", "started_at": folder.stat().st_mtime, "number": _number_without_file(folder)}
    if data.get("status") in ("running", "crashed"):
        try:
            data |= counted(folder)
        except StorageError as err:
            data |= {"totals": {"cost_usd": None}, "steps": [], "reason": str(err)}
    return data


def _number_without_file(folder: Path) -> int:
    """The number of a run whose `run.json` is lost; where the ledger is too, the link says if it is the newest."""
    latest = folder.parent / "latest"
    is_newest = latest.is_symlink() and latest.readlink().name == folder.name
    return number_of(folder) or (sys.maxsize if is_newest else 0)


def _is_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (RUN_FILE, LEDGER))


def _folders(pipeline_output: Path) -> Iterator[Path]:
    if not pipeline_output.is_dir():
        return
    for folder in pipeline_output.iterdir():
        if folder.is_dir() and not folder.is_symlink() and _is_run(folder):
            yield folder


def _info(folder: Path, *, held: bool) -> RunInfo:
    data = run_document(folder) or {}
    totals = _typed(data, "totals", dict) or {}
    status = _typed(data, "status", str) or "crashed"
    if status == "running" and not held:
        status = "crashed"
    return RunInfo(
        run_id=folder.name,
        pipeline=_typed(data, "pipeline", str) or folder.parent.name,
        number=number_in(data),
        started_at=float(_typed(data, "started_at", float, int) or 0),
        finished_at=_typed(data, "finished_at", float, int),
        duration_s=_typed(data, "duration_s", float, int),
        status=status,
        exit_code=_typed(data, "exit_code", int),
        items=_typed(totals, "items", int) or 0,
        succeeded=_typed(totals, "succeeded", int) or 0,
        failed=_typed(totals, "failed", int) or 0,
        skipped=_typed(totals, "skipped", int) or 0,
        unsent=_typed(totals, "unsent", int) or 0,
        **_money(data, totals),
        folder=folder,
        fingerprint=_typed(data, "fingerprint", dict) or {},
        whole=bool(data.get("whole", True)),
        only=_typed(data, "only", str),
        from_step=_typed(data, "from", str),
        damaged=_typed(data, "damaged", str) or "",
        version=_typed(data, "version", int) or 1,
    )


def _money(data: Mapping[str, Any], totals: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the cost. The first version wrote the known part of it as the whole."""
    unpriced, cost = _typed(totals, "unpriced", int) or 0, _typed(totals, "cost_usd", float, int)
    known = _typed(totals, "cost_known_usd", float, int)
    free = cost is None and "cost_usd" not in totals
    return {
        "cost_usd": None if unpriced or (cost is None and not free) else Decimal(str(cost or 0)),
        "cost_known_usd": Decimal(str((cost if known is None else known) or 0)),
        "unpriced": unpriced,
        "unknown_usage": _typed(totals, "unknown_usage", int) or 0,
        "held_usd": Decimal(str(_typed(data, "held_usd", float, int) or 0)),
        "held_tokens": _typed(data, "held_tokens", int) or 0,
        "maybe_billed": _typed(data, "maybe_billed", int) or _typed(totals, "maybe_billed", int) or 0,
    }


def _typed(data: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """A value of a file that may be damaged, None if it is of another kind."""
    value = data.get(name)
    return value if type(value) in kinds else None


def require_readable(info: RunInfo) -> None:
    """Raise StorageError unless the run can be continued or built on: LedgerTooNew, LedgerUnreadable."""
    if info.version > RUN_VERSION:
        raise LedgerTooNew(
            f"the {RUN_FILE} of run {info.run_id} is of version {info.version}; this llmpipe reads versions up to"
            f" {RUN_VERSION}"
        )
    if info.damaged:
        raise LedgerUnreadable(info.damaged)
    with leaving_no_trace(), LedgerReader(info.folder / LEDGER) as ledger:
        ledger.check()


def find_run(output: Path, run: str | None, pipeline: str | None) -> RunInfo:
    """The run of that id, or of the only id that begins so; None or "last" = the newest. Raises NoSuchRun.

    `output` is the folder of all pipelines; `pipeline` narrows the search to one.
    """
    names = [pipeline] if pipeline else [f.name for f in output.iterdir() if f.is_dir()] if output.is_dir() else []
    runs = sorted(
        (info for name in names if not name.startswith(".") for info in list_runs(output / name)),
        key=lambda info: info.order,
        reverse=True,
    )
    of = f" of {pipeline}" if pipeline else ""
    if not runs:
        raise NoSuchRun(f"there are no runs{of} in {output}")
    if run in (None, LAST, "latest"):
        return runs[0]
    exact = [info for info in runs if info.run_id == run]
    near = exact or [info for info in runs if info.run_id.startswith(run)]
    if len(near) == 1:
        return near[0]
    listed = ", ".join(f"{info.run_id} ({info.pipeline}, {info.status})" for info in (near or runs)[:8])
    if near:
        raise NoSuchRun(f"'{run}' is the beginning of {len(near)} runs: {listed}")
    raise NoSuchRun(f"there is no run '{run}'{of}; there are: {listed}")


def remove_run(info: RunInfo) -> None:
    """Remove a run's folder. Raises LockHeld if a run of its pipeline is at work, OSError.

    What makes it a run goes last, so that a removal that was interrupted can be found and done again.
    """
    if info.status == "running" and is_held(info.folder.parent):
        raise LockHeld(f"run {info.run_id} is at work")
    for path in sorted(info.folder.iterdir(), key=lambda path: (path.name == RUN_FILE, path.name.startswith(LEDGER))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    info.folder.rmdir()
    latest = info.folder.parent / "latest"
    if latest.is_symlink() and not latest.exists():
        left = list_runs(info.folder.parent)
        latest.unlink()
        if left:
            point_latest(left[0].folder)
