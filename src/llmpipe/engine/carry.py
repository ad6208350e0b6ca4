"""A new run that begins with the results of an earlier one: its ledger starts as a copy of the other's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from llmpipe.engine.files import private_folder
from llmpipe.engine.ledger import copy_ledger

FAILURES = "failures"


def begin_with(source: Path, folder: Path, redone: Collection[str]) -> None:
    """Let the run in `folder` begin with what the run in `source` has, but for the results of the steps in `redone`.

    Attempts stay behind: what was paid there is no cost of this run. Raises StorageError, OSError.
    """
    private_folder(folder)
    if (source / FAILURES).is_dir():
        shutil.copytree(source / FAILURES, folder / FAILURES, dirs_exist_ok=True)
        for step in redone:
            shutil.rmtree(folder / FAILURES / step, ignore_errors=True)
    part = folder / ".run.db.part"
    take_over(source / "run.db", part, redone)
    part.replace(folder / "run.db")


def take_over(source: Path, target: Path, redone: Collection[str]) -> None:
    """Copy a ledger without its attempts and without the results of the steps in `redone`. Raises StorageError."""
    names = json.dumps(sorted(redone))
    in_redone = "(SELECT id FROM steps WHERE name IN (SELECT value FROM json_each(?)))"
    copy_ledger(
        source,
        target,
        (
            ("DELETE FROM attempts", ()),
            ("DELETE FROM masked WHERE what = 'response'", ()),
            ("DELETE FROM invocations", ()),
            (f"DELETE FROM results WHERE step IN {in_redone}", (names,)),  # noqa: S608 - fixed text
            ("UPDATE results SET carried = 1, invocation = 0", ()),
        ),
    )
