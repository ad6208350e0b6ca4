"""What is kept of a failure: one JSON file per item and step, with all that it takes to understand and repeat it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.client.failures import persist_raw_failure
from llmpipe.config.pipeline import Step
from llmpipe.engine.items import Item
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.errors import CallFailed, ItemError
from llmpipe.late import late
from llmpipe.shell_text import quoted
from llmpipe.types import LLMRequest

if TYPE_CHECKING:
    from llmpipe.engine.state import RunState

_NAMED = (
    "SELECT results.failure_file FROM results JOIN items ON items.id = results.item"
    " WHERE results.status = 'failed' AND items.live = 1 AND results.failure_file IS NOT NULL"
)
_UNSAFE = late(r"[^a-z0-9]+")


def file_stem(key: str) -> str:
    """A file name made of a key, which data never chooses: a slug to read and eight hex digits to be unique."""
    slug = _UNSAFE.sub("-", key.lower()).strip("-")[:40].strip("-") or "item"
    return f"{slug}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _request(asked: LLMRequest) -> dict[str, Any]:
    return {"model": asked.model, "messages": [asdict(turn) for turn in asked.turns()]}


def remove_orphans(ledger: LedgerReader, folder: Path) -> None:
    """Remove the failure files that no failed result of a living item speaks of any more. Raises OSError."""
    named = {name for block in ledger.scan(_NAMED) for (name,) in block}
    for path in folder.glob("failures/*/*.json"):
        if str(path.relative_to(folder)) not in named:
            path.unlink(missing_ok=True)


class Evidence:
    """Writes and removes the failure files of one step."""

    def __init__(self, run: RunState, step: Step) -> None:
        self._run, self._step = run, step
        self._folder = run.folder / "failures" / step.id

    def path(self, item: Item) -> Path:
        """Where the failure of this item is kept."""
        return self._folder / f"{file_stem(item.key or self._step.id)}.json"

    async def write(self, item: Item, err: ItemError | CallFailed, code: str) -> str:
        """Write the failure's file off the event loop; returns its path relative to the run's folder."""
        path = self.path(item)
        payload = self._payload(item, err, code)
        redactor = self._run.values_redactor  # what looks like a key in a row is the user's own
        await asyncio.to_thread(persist_raw_failure, payload, err, filename=path, redactor=redactor)
        return str(path.relative_to(self._run.folder))

    def _payload(self, item: Item, err: ItemError | CallFailed, code: str) -> dict[str, Any]:
        run = self._run
        asked = err.asked if isinstance(err, CallFailed) else None
        file = run.pipeline.path.relative_to(run.pipeline.root)
        retry = f"llmpipe run {quoted(str(file))} --retry-failed {run.folder.name}"
        return {
            "pipeline": run.pipeline.name,
            "run": run.folder.name,
            "step": self._step.id,
            "key": item.key,
            "code": code,
            "item": run.expand(item),
            "request": None if asked is None else _request(asked),
            "reproduce": f"{retry} --key {quoted(item.key)}" if self._is_row(item) else retry,
        }

    def _is_row(self, item: Item) -> bool:
        """True if --key can name the item."""
        return self._run.pipeline.scopes[item.scope].kind == "dataset"

    def forget(self, item: Item) -> None:
        """Remove the file of a failure that a later success replaced."""
        self.path(item).unlink(missing_ok=True)
