"""What one invocation asks of a run, beside the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from llmpipe.frozen import frozen
from llmpipe.types import EMPTY


@frozen
class RunOptions:
    """The flags of `llmpipe run`. None or empty = not given."""

    vars: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # as given, for the record
    limit: int | None = None  # only the first N items of each dataset
    key: str | None = None  # only this item of the datasets
    only: str | None = None  # only this step, on the results of `base`
    from_step: str | None = None  # this step and what depends on it, on the results of `base`
    base: str | None = None  # a run id; None: the last finished run
    resume: str | None = None  # a run id, "last" or "auto"
    accept_changes: bool = False
    retry_failed: str | None = None  # a run id or "last"
    cache: Literal["use", "off", "refresh"] = "use"
    offline: bool = False
    max_cost: Decimal | None = None
    concurrency: int | None = None
    output_dir: Path | None = None  # None: <project root>/output
    lock: Literal["fail", "skip"] | float = "fail"  # a number: wait so many seconds
    allow_python: bool = False
    allow_read: tuple[Path, ...] = ()
    command: str = ""  # what was typed, secrets redacted, for run.json
