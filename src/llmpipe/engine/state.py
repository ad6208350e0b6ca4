"""What the parts of a running run share: the ledger, the client, the counts, and whether it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline
from llmpipe.engine.cell_journal import CellJournal
from llmpipe.engine.context import Wholes
from llmpipe.engine.group_rows import Expand, expander
from llmpipe.engine.items import Item
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.masking import without_keys
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import Status
from llmpipe.engine.tally import Tally
from llmpipe.errors import Problem
from llmpipe.frozen import frozen

if TYPE_CHECKING:
    from llmpipe.client.budget import Shortfall
    from llmpipe.client.client import LLMClient
    from llmpipe.client.redact import Redactor


@frozen
class Stop:
    """Why a run stops before its end.

    `status` is how it will be called; after `patience_s` the calls that are still in flight are cancelled.
    """

    reason: str
    exit_code: int
    status: Status = "stopped"
    patience_s: float | None = None
    unfinished: bool = False  # there may be more to do than is known: --resume goes on
    problem: Problem | None = None  # what is wrong with a data file, found before anything was sent
    lack: Shortfall | None = None  # of the budget


@dataclass(slots=True)
class RunState:
    """One invocation at work."""

    pipeline: Pipeline
    options: RunOptions
    folder: Path
    ledger: Ledger
    client: LLMClient
    invocation: int
    step_numbers: Mapping[str, int]
    scope_numbers: Mapping[str, int]
    redactor: Redactor
    values_redactor: Redactor
    note: Callable[[str], None]
    definitions: Mapping[str, bytes]  # step id → digest of its own definition
    fixed: frozenset[str] = frozenset()  # steps that are only carried over, never run (--only, --from)
    wholes: Wholes = field(default_factory=Wholes)
    tallies: dict[str, Tally] = field(default_factory=dict)
    root: Item = field(default_factory=lambda: Item(1, ROOT_SCOPE, "", "", {}))
    started: float = field(default_factory=time.monotonic)
    last_failure: str = ""
    stopped: Stop | None = None
    recall: bool = False  # earlier processes of this run left answers that may be recalled
    at_work: dict[asyncio.Task[Any], CellJournal] = field(default_factory=dict)
    stop_event: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)  # set once calls in flight are given up
    _expanders: dict[str, Expand | None] = field(default_factory=dict)

    def redact(self, text: str) -> str:
        """Text about the run (errors, replies that are no answers) without secrets or what looks like one."""
        return self.redactor.text(text)

    def without_keys(self, text: str) -> tuple[str, tuple[str, ...]]:
        """JSON of rows and results without the values of keys, and the variables whose values it held.

        What merely looks like a key is the user's data and stays.
        """
        return without_keys(text, self.values_redactor)

    def stopping(self) -> bool:
        """True once nothing more may be sent."""
        return self.stopped is not None

    def stop(self, stop: Stop) -> None:
        """Stop admitting. The first reason stays; of several patiences the shortest counts.

        Calls in flight go on, and so does what is made of a response that has arrived, as far as nothing more is sent
        for it; calls that wait for their turn are given up.
        """
        if stop.patience_s is not None:
            asyncio.get_running_loop().call_later(stop.patience_s, self.abandon)
        if self.stopped is not None:
            return
        self.stopped = stop
        self.stop_event.set()
        for task, journal in list(self.at_work.items()):
            if journal.is_waiting:
                task.cancel()

    def check_failures(self) -> None:
        """Stop early when more items failed than the pipeline allows."""
        allowed = self.pipeline.max_failures
        if allowed is None:
            return
        failed = sum(tally.failures() for tally in self.tallies.values())
        ended = sum(tally.status["succeeded"] for tally in self.tallies.values()) + failed
        if allowed.exceeded(failed, ended):
            self.stop(Stop(f"{failed} items failed, more than max_failures allows", 1, status="failed"))

    def abandon(self) -> None:
        """Give up the calls in flight too; each is written down as possibly billed. Responses are still written."""
        self.abandoned.set()
        for task, journal in list(self.at_work.items()):
            if journal.in_flight or journal.is_waiting:
                task.cancel()

    def expand(self, item: Item) -> Any:
        """An item's data as templates see it: for the numbers of a group's members, their rows from the ledger."""
        expand = self.expander(item.scope)
        return item.data if expand is None else expand(item.data)

    def expander(self, scope: str) -> Expand | None:
        """What `expand` does with the data of a scope's items; None if nothing."""
        if scope not in self._expanders:
            self._expanders[scope] = expander(self.pipeline, self.ledger, self.step_numbers, scope)
        return self._expanders[scope]
