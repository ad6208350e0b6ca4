"""What has to stand before anything is sent: folder, spooled input, keys, client, ledger with its numbers and sums."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.config.pipeline import ROOT_SCOPE, Dataset, Pipeline, may_ask
from llmpipe.config.rows import read_rows
from llmpipe.engine import spending
from llmpipe.engine.choose import Choice
from llmpipe.engine.files import private_folder
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.options import RunOptions
from llmpipe.engine.runs import NoSuchPart
from llmpipe.engine.spending import Spending
from llmpipe.engine.tally import Tally
from llmpipe.errors import ConfigError, DataError, KeyMissing, Problem, StorageError
from llmpipe.policy import Budget
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.budget import Amount
    from llmpipe.client.client import LLMClient
    from llmpipe.client.log import RunLogger
    from llmpipe.client.redact import Redactor
    from llmpipe.config.environment import Environment

_BLOCK = 1024 * 1024  # bytes of standard input that are looked at together
_KEYS_KEPT = 10_000  # of which the nearest is suggested
_OPEN = "SELECT COUNT(*) FROM attempts WHERE outcome IS NULL AND COALESCE(billed, 'maybe') = 'maybe'"
_CLOSE_OPEN = (
    "UPDATE attempts SET outcome = 'unknown', billed = COALESCE(billed, 'maybe'),"
    " error = 'the process ended before the reply' WHERE outcome IS NULL"
)
_STATUS = (
    "SELECT results.status, COUNT(*) FROM results JOIN items ON items.id = results.item"
    " WHERE results.step = ? AND items.live = 1 GROUP BY results.status"
)


def limited_models(pipeline: Pipeline, options: RunOptions) -> Mapping[str, Model]:
    """The models with what the command line says about their limits."""
    if options.concurrency is None:
        return pipeline.models
    return {
        name: replace(model, limits=replace(model.limits, concurrency=options.concurrency))
        for name, model in pipeline.models.items()
    }


def effective_budget(pipeline: Pipeline, options: RunOptions) -> Budget:
    """The budget of the file; --max-cost replaces its money."""
    return pipeline.budget if options.max_cost is None else replace(pipeline.budget, usd=options.max_cost)


def asked_models(pipeline: Pipeline, choice: Choice) -> tuple[Model, ...]:
    """Every model that the steps of this run may ask, fallbacks and those that are asked again included."""
    found: dict[str, Model] = {}
    for step in pipeline.steps:
        if step.id not in choice.wanted or step.id in choice.fixed:
            continue
        found |= {name: pipeline.models[name] for name in may_ask(step, pipeline.models)}
    return tuple(found.values())


def require_keys(models: tuple[Model, ...], environment: Environment) -> None:
    """Raise KeyMissing, naming every model whose key is in none of its variables, or could not be sent as it is."""
    from llmpipe.client.naming import lacks_key
    from llmpipe.providers.table import resolve

    missing = []
    for model in models:
        target = resolve(model)
        found = next((name for name in target.api_key_envs if environment.secret(name)), None)
        if found is None and target.needs_key:
            missing.append(lacks_key(model, target))
        elif found is not None and not _can_be_sent(environment.secret(found) or ""):
            missing.append(
                f"the key of model '{model.name}' cannot be used: {found} holds a line break, a space or a letter"
                " that no key has"
            )
    if missing:
        raise KeyMissing("\n".join(missing))


def _can_be_sent(key: str) -> bool:
    """Whether a header takes it."""
    return key.isascii() and key.isprintable() and " " not in key


def require_row(pipeline: Pipeline, key: str) -> None:
    """Raise NoSuchPart unless a dataset that a step runs over has a row with that key, or comes from standard input."""
    from llmpipe.config.near import did_you_mean

    used = {scope.dataset for scope in pipeline.scopes.values() if scope.dataset is not None}
    known: list[str] = []
    for dataset in (pipeline.datasets[name] for name in sorted(used)):
        if dataset.stdin:
            return
        try:
            for row in read_rows(dataset):
                if row.key == key:
                    return
                if len(known) < _KEYS_KEPT:
                    known.append(row.key)
        except DataError:
            return  # the run tells where
    hint = did_you_mean(key, known) or (f"the first is {known[0]!r}" if known else "there are no rows")
    raise NoSuchPart(f"no row has the key {key!r}: {hint}")


def spool_stdin(
    pipeline: Pipeline, folder: Path, redactor: Redactor, *, note: Callable[[str], None], key: str | None = None
) -> Pipeline:
    """The pipeline with standard input replaced by a file in the run's folder, in which keys are masked and noted.

    Raises ConfigError at a terminal, NoSuchPart (and keeps nothing) if no row has the `key` that is to be run.
    """
    piped = [dataset for dataset in pipeline.datasets.values() if dataset.stdin]
    if not piped:
        return pipeline
    spool = folder / "stdin"
    is_new = not spool.exists()
    if is_new:
        for variable, lines in _spool(piped[0], spool, redactor).items():
            note(f"{lines} lines of standard input contained the value of {variable}; masked")
    datasets = {
        name: replace(dataset, paths=(spool,), stdin=False) if dataset.stdin else dataset
        for name, dataset in pipeline.datasets.items()
    }
    spooled = replace(pipeline, datasets=datasets)
    if key is not None:
        try:
            require_row(spooled, key)
        except NoSuchPart:
            if is_new:
                spool.unlink()
                with contextlib.suppress(OSError):  # a run that is continued has more in it
                    folder.rmdir()
            raise
    return spooled


def _spool(dataset: Dataset, spool: Path, redactor: Redactor) -> Counter[str]:
    stream = sys.stdin
    if stream is None or stream.isatty():
        message = f"dataset '{dataset.name}' reads standard input, and nothing is piped into it"
        note = "as in: git log --oneline | llmpipe run …"
        raise ConfigError([Problem("D301", message, dataset.place, note=note)])
    found: Counter[str] = Counter()
    part = spool.with_suffix(".part")
    with open(part, "wb", opener=_private) as file:
        while block := stream.buffer.read(_BLOCK) + stream.buffer.readline(_BLOCK):
            text = block.decode("utf-8", "surrogateescape")
            if redactor.known(text) is text:
                file.write(block)
                continue
            for line in text.splitlines(keepends=True):
                found.update(redactor.names(line))
                file.write(redactor.known(line).encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())
    part.replace(spool)
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def open_ledger(pipeline: Pipeline, folder: Path, options: RunOptions) -> tuple[Ledger, int, int]:
    """The ledger with this invocation entered; its number; how many calls a killed process left open."""
    ledger = Ledger(private_folder(folder) / "run.db")
    try:
        invocation, left_open = entered(ledger, options)
    except StorageError:
        ledger.close()
        raise
    return ledger, invocation, left_open


def entered(ledger: Ledger, options: RunOptions) -> tuple[int, int]:
    """Enter this invocation into a ledger: its number, and how many calls a killed process left open."""
    left_open = int(ledger.value(_OPEN))
    invocation = int(ledger.value("SELECT COALESCE(MAX(id), 0) FROM invocations")) + 1
    ledger.put(_CLOSE_OPEN)
    ledger.put(
        "INSERT INTO invocations (id, started_at, pid, command) VALUES (?, ?, ?, ?)",
        (invocation, time.time(), os.getpid(), options.command),
    )
    return invocation, left_open


def _in_order(pipeline: Pipeline) -> list[str]:
    return [ROOT_SCOPE, *(id for id in pipeline.scopes if id != ROOT_SCOPE)]


async def number_things(ledger: Ledger, pipeline: Pipeline, redact: Any) -> tuple[dict[str, int], dict[str, int]]:
    """The ledger's numbers of the steps and scopes; what is new gets one. The root item is entered as item 1."""
    from llmpipe.engine.ledger_schema import INSERT_ITEM
    from llmpipe.engine.verdict import model_label

    await ledger.commit()
    scopes = _numbered(ledger, "scopes", _in_order(pipeline))
    for name, number in scopes.items():
        ledger.put("INSERT OR IGNORE INTO scopes (id, name) VALUES (?, ?)", (number, name))
    steps = _numbered(ledger, "steps", [step.id for step in pipeline.steps])
    homes = dict(ledger.rows("SELECT id, scope FROM steps"))
    for step in pipeline.steps:
        if homes.get(steps[step.id], scopes[step.scope]) != scopes[step.scope]:
            ledger.put("DELETE FROM results WHERE step = ?", (steps[step.id],))
        row = (steps[step.id], step.id, scopes[step.scope], step.kind, redact(model_label(pipeline, step.id)))
        ledger.put("INSERT OR REPLACE INTO steps (id, name, scope, kind, model) VALUES (?, ?, ?, ?, ?)", row)
    if ledger.value("SELECT COUNT(*) FROM items") == 0:
        id = ledger.next_id("items")
        ledger.put(INSERT_ITEM, (id, scopes[ROOT_SCOPE], "", None, "", "{}", b""))
    await ledger.commit()
    return steps, scopes


def _numbered(ledger: Ledger, table: str, names: list[str]) -> dict[str, int]:
    there = dict(ledger.rows(f"SELECT name, id FROM {table}"))  # noqa: S608 - one of two fixed names
    top = max(there.values(), default=0)
    for name in names:
        if name not in there:
            top += 1
            there[name] = top
    return {name: there[name] for name in names}


def initial_tallies(
    ledger: Ledger, pipeline: Pipeline, steps: dict[str, int], scopes: dict[str, int]
) -> dict[str, Tally]:
    """The counts with which a run begins: nothing, or what earlier processes of it wrote down."""
    tallies = {}
    for step in pipeline.steps:
        tally = Tally()
        tally.status.update(dict(ledger.rows(_STATUS, (steps[step.id],))))
        tally.carried = tally.status.total()
        sql = "SELECT COUNT(*) FROM items WHERE scope = ? AND live = 1"
        tally.known_items = ledger.value(sql, (scopes[step.scope],))
        tally.begin_with(Spending.of(ledger, steps[step.id]))
        tallies[step.id] = tally
    return tallies


def spent(ledger: LedgerReader, step: int | None = None) -> Amount:
    """What the run, or one step of it, has spent of the budget so far."""
    from llmpipe.client.budget import Amount

    return Amount(*spending.spent(ledger, step))


def make_client(
    pipeline: Pipeline, options: RunOptions, *, ledger: Ledger, output: Path, environment: Environment,
    redactor: Redactor, note: Any, logger: RunLogger, providers: Mapping[str, Any],
) -> LLMClient:  # fmt: skip
    """The client of a run: its models, the project's cache, the budget with what earlier processes spent."""
    from llmpipe.client.budget import BudgetKeeper, Margin
    from llmpipe.client.client import LLMClient
    from llmpipe.client.disk_cache import DiskCache
    from llmpipe.client.proxies import Proxies
    from llmpipe.engine.descriptors import with_descriptors

    before, held = spent(ledger), Spending.of(ledger)
    budget = BudgetKeeper(
        effective_budget(pipeline, options),
        spent_usd=before.usd or Decimal(0),
        spent_tokens=before.tokens,
        spent_calls=before.calls,
        held_usd=held.held_usd,
        held_tokens=held.held_tokens,
        margins={model: Margin(output=longest) for model, longest in spending.overlong(ledger).items()},
    )
    models = with_descriptors(limited_models(pipeline, options), note)
    proxies = Proxies.from_environment(environment.variables.get)
    return LLMClient(
        models,
        cache=DiskCache(output / ".cache", warn=note),
        providers=providers,
        secrets=environment.secret,
        budget=budget,
        redactor=redactor,
        proxies=proxies,
        note=note,
        logger=logger,
    )
