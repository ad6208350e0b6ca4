"""What is kept of a failure: one JSON file per item and step, with all that it takes to understand and repeat it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.client.failures import persist_raw_failure
from llmpipe.config.pipeline import Step
from llmpipe.engine.items import Item
from llmpipe.errors import CallFailed, ItemError
from llmpipe.types import LLMRequest

if TYPE_CHECKING:
    from llmpipe.engine.state import RunState

_UNSAFE = re.compile(r"[^a-z0-9]+")


def file_stem(key: str) -> str:
    """A file name made of a key, which data never chooses: a slug to read and eight hex digits to be unique."""
    slug = _UNSAFE.sub("-", key.lower()).strip("-")[:40].strip("-") or "item"
    return f"{slug}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


class Evidence:
    """Writes and removes the failure files of one step."""

    def __init__(self, run: RunState, step: Step) -> None:
        self._run, self._step = run, step
        self._folder = run.folder / "failures" / step.id

    def path(self, item: Item) -> Path:
        """Where the failure of this item is kept."""
        return self._folder / f"{file_stem(item.key or self._step.id)}.json"

    def with_request(self, details: Any, request: LLMRequest) -> dict[str, Any]:
        """The details of an error together with the request that was made."""
        turns = [asdict(turn) for turn in request.turns()]
        return {"request": {"model": request.model, "messages": turns}, "details": details}

    async def write(self, item: Item, err: ItemError | CallFailed, code: str) -> str:
        """Write the failure's file off the event loop; returns its path relative to the run's folder."""
        path = self.path(item)
        payload = self._payload(item, err, code)
        redactor = self._run.redactor
        await asyncio.to_thread(persist_raw_failure, payload, err, filename=path, redactor=redactor)
        return str(path.relative_to(self._run.folder))

    def _payload(self, item: Item, err: ItemError | CallFailed, code: str) -> dict[str, Any]:
        details = err.details if isinstance(err, CallFailed) else None
        asked: Mapping[str, Any] = details if isinstance(details, dict) else {}
        run = self._run
        retry = f"llmpipe run {run.pipeline.path.name} --retry-failed {run.folder.name}"
        return {
            "pipeline": run.pipeline.name,
            "run": run.folder.name,
            "step": self._step.id,
            "key": item.key,
            "code": code,
            "advice": err.advice,
            "item": run.expand(item),
            "request": asked.get("request"),
            "details": asked.get("details"),
            "reproduce": f"{retry} --key {item.key}" if item.key else retry,
        }

    def forget(self, item: Item) -> None:
        """Remove the file of a failure that a later success replaced."""
        self.path(item).unlink(missing_ok=True)
