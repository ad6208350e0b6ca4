"""The runs below an output folder: listed, found by a part of their id, removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmpipe.engine.files import read_json
from llmpipe.engine.lock import is_held
from llmpipe.engine.underway import counted
from llmpipe.errors import LlmpipeError, LockHeld
from llmpipe.frozen import frozen

LAST = "last"
RUN_FILE, LEDGER = "run.json", "run.db"
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

    @property
    def finished(self) -> bool:
        """True if every item has an end: nothing is left to be sent."""
        return self.status not in _UNFINISHED and self.unsent == 0 and self.finished_at is not None


def list_runs(pipeline_output: Path) -> tuple[RunInfo, ...]:
    """The runs in `output/<pipeline>`, the newest first."""
    held = is_held(pipeline_output)
    found = [_info(folder, held=held) for folder in _folders(pipeline_output)]
    return tuple(sorted((info for info in found if info), key=lambda info: info.started_at, reverse=True))


def run_document(folder: Path) -> dict[str, Any] | None:
    """What `run.json` says; of a run without a verdict, with counts from its ledger. None if there is no run."""
    data = read_json(folder / RUN_FILE)
    ledger = folder / LEDGER
    if data is None and ledger.exists():  # the ledger is the truth of what came back, whatever became of the rest
        data = {"status": "crashed", "started_at": ledger.stat().st_mtime}
    if data is not None and data.get("status") in ("running", "crashed"):
        totals, steps = counted(folder)
        data |= {"totals": totals, "steps": steps}
    return data


def _folders(pipeline_output: Path) -> Iterator[Path]:
    if not pipeline_output.is_dir():
        return
    for folder in pipeline_output.iterdir():
        if folder.is_dir() and not folder.is_symlink() and ((folder / RUN_FILE).exists() or (folder / LEDGER).exists()):
            yield folder


def _info(folder: Path, *, held: bool) -> RunInfo | None:
    data = run_document(folder)
    if data is None:
        return None
    totals = data.get("totals", {})
    status = data.get("status", "crashed")
    if status == "running" and not held:
        status = "crashed"
    return RunInfo(
        run_id=folder.name,
        pipeline=data.get("pipeline", folder.parent.name),
        started_at=float(data.get("started_at", 0)),
        finished_at=data.get("finished_at"),
        status=status,
        exit_code=data.get("exit_code"),
        items=totals.get("items", 0),
        succeeded=totals.get("succeeded", 0),
        failed=totals.get("failed", 0),
        skipped=totals.get("skipped", 0),
        unsent=totals.get("unsent", 0),
        **_money(data, totals),
        folder=folder,
        fingerprint=data.get("fingerprint", {}),
        whole=bool(data.get("whole", True)),
        only=data.get("only"),
        from_step=data.get("from"),
    )


def _money(data: Mapping[str, Any], totals: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the cost. The first version wrote the known part of it as the whole."""
    unpriced, cost = totals.get("unpriced", 0), totals.get("cost_usd", 0)
    known = totals.get("cost_known_usd", cost or 0)
    return {
        "cost_usd": None if cost is None or unpriced else Decimal(str(cost)),
        "cost_known_usd": Decimal(str(known)),
        "unpriced": unpriced,
        "unknown_usage": totals.get("unknown_usage", 0),
        "held_usd": Decimal(str(data.get("held_usd", 0))),
        "held_tokens": data.get("held_tokens", 0),
        "maybe_billed": data.get("maybe_billed", totals.get("maybe_billed", 0)),
    }


def find_run(output: Path, run: str | None, pipeline: str | None) -> RunInfo:
    """The run of that id, or of the only id that begins so; None or "last" = the newest. Raises NoSuchRun.

    `output` is the folder of all pipelines; `pipeline` narrows the search to one.
    """
    names = [pipeline] if pipeline else [f.name for f in output.iterdir() if f.is_dir()] if output.is_dir() else []
    runs = sorted(
        (info for name in names if not name.startswith(".") for info in list_runs(output / name)),
        key=lambda info: info.started_at,
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
    """Remove a run's folder. Raises LockHeld if a run of its pipeline is at work, OSError."""
    if info.status == "running" and is_held(info.folder.parent):
        raise LockHeld(f"run {info.run_id} is at work")
    shutil.rmtree(info.folder)
    latest = info.folder.parent / "latest"
    if latest.is_symlink() and not latest.exists():
        left = list_runs(info.folder.parent)
        latest.unlink()
        if left:
            latest.symlink_to(left[0].run_id)
