"""What stands in `run.json` and `status.json`: how a run began, how it ended, and the last one of its pipeline."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe._version import __version__
from llmpipe.config.fingerprint import Fingerprint, to_json
from llmpipe.config.pipeline import Pipeline, may_ask
from llmpipe.engine.choose import Choice
from llmpipe.engine.files import is_gone, read_json, write_json
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import RunReport, StepCounts, total_cost
from llmpipe.engine.runs import RUN_VERSION
from llmpipe.engine.sequence import next_number
from llmpipe.shell_text import quoted
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.client import LLMClient
    from llmpipe.client.redact import Redactor


def opening(
    pipeline: Pipeline,
    options: RunOptions,
    choice: Choice,
    print_: Fingerprint,
    *,
    redactor: Redactor,
    earlier: Mapping[str, Any],
) -> dict[str, Any]:
    """What `run.json` says while the run is at work; `earlier` is what it said before. Raises OSError."""
    return {
        "version": RUN_VERSION,
        "run": choice.folder.name,
        "number": choice.continued.number if choice.continued else next_number(choice.folder.parent.parent),
        "pipeline": pipeline.name,
        "path": str(pipeline.path.relative_to(pipeline.root)),
        "status": "running",
        "exit_code": None,
        "reason": "",
        "started_at": earlier.get("started_at", time.time()),
        "finished_at": None,
        "whole": earlier.get("whole", False) or _is_whole(options, choice),
        "command": redactor.text(options.command),
        "base": choice.base.run_id if choice.base else earlier.get("base"),
        "only": choice.only,
        "from": choice.from_step,
        "versions": {"llmpipe": __version__, "python": sys.version.partition(" ")[0]},
        "fingerprint": to_json(print_),
        "vars": redactor.data(dict(pipeline.vars)),
        "overrides": redactor.data(dict(pipeline.overrides)),
        "models": {name: _model_facts(model) for name, model in pipeline.models.items()},
        "schemas": schemas_sent(pipeline),
        "sources": {str(_relative(s.path, pipeline.root)): s.sha256 for s in pipeline.sources},
        "totals": earlier.get("totals", {}),
        "pid": os.getpid(),
    }


def _is_whole(options: RunOptions, choice: Choice) -> bool:
    """True if this process goes through every step with every row, or would if nothing came between."""
    return options.limit is None and options.key is None and choice.only is None and options.retry_failed is None


def closing(report: RunReport, pipeline: Pipeline, *, duration_s: float) -> dict[str, Any]:
    """What `run.json` says of the end; `duration_s` of all its processes together."""
    totals: dict[str, Any] = {
        name: sum(getattr(counts, name) for counts in report.steps)
        for name in ("items", "succeeded", "failed", "skipped", "unsent", "cached", "calls", "input_tokens",
                     "output_tokens", "unknown_usage", "unpriced", "maybe_billed", "retries", "reasks",
                     "validated", "first_try", "mended", "schema_in_prompt")
    }  # fmt: skip
    cost = total_cost(report.steps)
    totals["cost_usd"] = None if cost is None else float(cost)
    totals["cost_known_usd"] = float(sum((counts.cost_known_usd for counts in report.steps), Decimal(0)))
    return {
        "status": report.status,
        "exit_code": report.exit_code,
        "reason": report.reason,
        "finished_at": time.time(),
        "duration_s": round(duration_s, 3),
        "maybe_billed": report.maybe_billed,
        "held_usd": float(report.held_usd),
        "held_tokens": report.held_tokens,
        "masked": [asdict(masked) for masked in report.masked],
        "no_model_called": report.no_model_called,
        "totals": totals,
        "steps": [_plain(asdict(counts)) for counts in report.steps],
        "causes": [_plain(asdict(cause)) for cause in report.causes],
        "published": [str(_relative(path, pipeline.root)) for path in report.published],
    }


def previous(home: Path) -> str:
    """How the last run of the pipeline ended, in a few words; "" if there was none."""
    last = (read_json(home / "status.json") or {}).get("last")
    try:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last["finished_at"]))  # type: ignore[index]
        return f"run {last['run']}: {last['status']}, exit {last['exit_code']}, {when}"  # type: ignore[index]
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""  # there was none, or the file is damaged


def update_status(path: Path, report: RunReport) -> None:
    """Say in `status.json` how the last run ended. Raises OSError."""
    data = read_json(path) or {}
    entry = {"run": report.run_id, "status": report.status, "exit_code": report.exit_code, "finished_at": time.time()}
    data["last"] = entry
    if report.exit_code == 0:
        data["last_success"] = entry
    write_json(path, data)


def _model_facts(model: Model) -> dict[str, Any]:
    from llmpipe.providers.table import resolve

    target = resolve(model)
    return {"provider": model.provider, "model": model.model, "origin": target.origin, "key": target.api_key_env}


def schemas_sent(pipeline: Pipeline, client: LLMClient | None = None) -> dict[str, dict[str, Any]]:
    """What each model that a step may ask gets of the step's schema: how it is sent, and what of it is not.

    `client` knows which of them were refused in this run.
    """
    from llmpipe.providers.asked import Sent, sent
    from llmpipe.providers.table import resolve

    found: dict[str, dict[str, Any]] = {}
    for step in pipeline.steps:
        if step.schema is None or step.kind != "model":
            continue
        told = {}
        for name in may_ask(step, pipeline.models):
            refused = client.schema_refused(name, step.schema.document) if client is not None else None
            as_planned = sent(step.schema.document, resolve(pipeline.models[name]))
            told[name] = as_planned if refused is None else Sent("prompt", in_prompt=True, refused=refused)
        found[step.id] = {name: _without_none(asdict(how)) for name, how in told.items()}
    return found


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in data.items() if v not in (None, ())}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in data.items()}


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def next_command(pipeline: Pipeline, folder: Path, steps: Sequence[StepCounts], *, unfinished: bool) -> str:
    """What continues or repairs the run in `folder`; "" if there is nothing to do."""
    here = Path.cwd()
    path = pipeline.path.relative_to(here) if pipeline.path.is_relative_to(here) else pipeline.path
    run = f"llmpipe run {quoted(str(path))}"
    if unfinished and is_gone(folder):
        return run
    if unfinished or any(counts.unsent for counts in steps):
        return f"{run} --resume {folder.name}"
    if any(counts.failed for counts in steps):
        return f"{run} --retry-failed {folder.name}"
    return ""


def note_damage(path: Path, reason: str) -> None:
    """Say in another run's file that its ledger cannot be read."""
    with contextlib.suppress(OSError):
        write_json(path, (read_json(path) or {}) | {"damaged": reason})
