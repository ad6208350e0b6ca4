"""What a ledger tells of one step's items, and of one item: from the row to every attempt and its reply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmpipe.engine.files import read_json
from llmpipe.engine.items import why_unmade
from llmpipe.engine.ledger_read import LedgerReader, from_json
from llmpipe.engine.runs import RUN_FILE, NoSuchPart, RunInfo
from llmpipe.errors import StorageError
from llmpipe.frozen import frozen
from llmpipe.types import Usage


@frozen
class ItemRow:
    """One item of a step. `status` is "unsent" for an item without a result."""

    key: str
    status: str
    code: str | None
    error: str | None
    reason: str | None
    output: Any


@frozen
class AttemptRow:
    """One attempt as the ledger has it; `outcome` None = it was sent and its end is unknown."""

    number: int
    model: str
    started_at: float
    outcome: str | None
    code: str | None
    status: int | None
    error: str | None
    latency_s: float | None
    wait_s: float | None
    billed: str | None
    usage: Usage
    cost_usd: float | None
    reply: str | None  # the answer's text
    reasoning: str | None  # what the model thought before it, where the provider tells
    raw: str | None  # the body of a reply that was no answer
    request_id: str
    key: str


@frozen
class ItemStory:
    """Everything that is known of one item in one step."""

    key: str
    step: str
    item: Any
    status: str
    reason: str | None
    code: str | None
    error: str | None
    output: Any
    attempts: tuple[AttemptRow, ...]
    replies: tuple[str, ...]
    usage: Usage
    cost_usd: Decimal | None  # None: a part of it is not known
    cost_known_usd: Decimal
    cached: bool
    carried: bool
    answered_by: str | None
    notes: tuple[str, ...]  # how the output was had: "fences_stripped", "repaired", "coerced:$.path", "extended" ...
    reasks: int
    failure_file: Path | None
    messages: tuple[dict[str, str], ...]  # what was asked; empty if the cache that kept it is gone
    made_in: str | None = None  # the run of a carried result, whose attempts and cost are told


_ROWS = (
    "SELECT items.key, COALESCE(results.status, 'unsent'), results.code, results.error, results.reason, results.output"
    " FROM items LEFT JOIN results ON results.item = items.id AND results.step = :step"
    " WHERE items.scope = :scope AND items.live = 1"
    " AND (:status IS NULL OR COALESCE(results.status, 'unsent') = :status) ORDER BY items.ord LIMIT :limit"
)
_ITEM = (
    "SELECT items.id, items.data, COALESCE(results.status, 'unsent'), results.reason, results.code, results.error,"
    " results.output, results.cached, results.carried, results.answered_by, results.reasks, results.failure_file,"
    " results.request_key, results.notes"
    " FROM items LEFT JOIN results ON results.item = items.id AND results.step = ?"
    " WHERE items.scope = ? AND items.live = 1 AND items.key = ?"
)
_ATTEMPTS = (
    "SELECT number, model, started_at, outcome, code, status, error, latency_s, wait_s, billed, input_tokens,"
    " output_tokens, cached_tokens, reasoning_tokens, cost_usd, reply, raw, request_id, key"
    " FROM attempts WHERE step = ? AND item = ? ORDER BY id"
)


def step_items(info: RunInfo, step: str, *, status: str | None = None, limit: int | None = None) -> Iterator[ItemRow]:
    """The items of a step in input order. Raises NoSuchPart for an unknown step, StorageError."""
    with LedgerReader(info.folder / "run.db") as ledger:
        number, scope = _numbers(ledger, step)
        args = {"step": number, "scope": scope, "status": status, "limit": -1 if limit is None else limit}
        for block in ledger.scan(_ROWS, args):
            for key, found, code, error, reason, output in block:
                yield ItemRow(key, found, code, error, reason, from_json(output) if output else None)


def item_story(info: RunInfo, step: str, key: str) -> ItemStory:
    """The whole story of one item in one step. Raises NoSuchPart if there is no such step or item, StorageError."""
    with LedgerReader(info.folder / "run.db") as ledger:
        number, scope = _numbers(ledger, step)
        found = ledger.rows(_ITEM, (number, scope, key))
        if not found:
            near = ledger.rows("SELECT key FROM items WHERE scope = ? AND live = 1 ORDER BY ord LIMIT 5", (scope,))
            raise NoSuchPart(f"step {step} has no item '{key}'; the first are: {', '.join(repr(k) for (k,) in near)}")
        attempts = tuple(_attempt(row) for row in ledger.rows(_ATTEMPTS, (number, found[0][0])))
        kept = _kept(ledger, number, found[0][0])
        item = _shown(ledger, found[0][0], from_json(found[0][1]))
    _, _, status, reason, code, error, output, cached, carried, answered_by, reasks, file, request_key = found[0][:-1]
    path = info.folder / file if file else None
    total = sum((attempt.usage for attempt in attempts), Usage())
    known = sum((Decimal(str(a.cost_usd)) for a in attempts if a.cost_usd is not None), Decimal(0))
    told = ItemStory(
        key=key,
        step=step,
        item=item,
        status=status,
        reason=reason,
        code=code,
        error=error,
        output=from_json(output) if output else None,
        attempts=attempts,
        replies=tuple(a.reply for a in attempts if a.reply is not None) or _tried(path),
        usage=total,
        cost_usd=known if all(a.cost_usd is not None or a.billed == "no" for a in attempts) else None,
        cost_known_usd=known,
        cached=bool(cached),
        carried=bool(carried),
        answered_by=answered_by,
        notes=tuple((found[0][-1] or "").split()),
        reasks=reasks or 0,
        failure_file=path if path is not None and path.exists() else None,
        messages=_messages(path) or kept or _cached(info, request_key),
    )
    return _with_origin(info, told) if told.carried and not attempts else told


def _with_origin(info: RunInfo, told: ItemStory) -> ItemStory:
    """The story with what was asked and answered in the run that made the result, if that run is still there."""
    base = (read_json(info.folder / RUN_FILE) or {}).get("base")
    if not isinstance(base, str):
        return told
    there = replace(info, folder=info.folder.parent / base, run_id=base)
    try:
        made = item_story(there, told.step, told.key)
    except (NoSuchPart, StorageError):
        return replace(told, made_in=base)
    if (made.status, made.output, made.error) != (told.status, told.output, told.error):
        return replace(told, made_in=base)  # it was made anew there since
    return replace(
        told,
        made_in=made.made_in or base,
        attempts=made.attempts,
        replies=made.replies,
        usage=made.usage,
        cost_usd=made.cost_usd,
        cost_known_usd=made.cost_known_usd,
        messages=told.messages or made.messages,
    )


def _numbers(ledger: LedgerReader, step: str) -> tuple[int, int]:
    found = ledger.rows("SELECT id, scope FROM steps WHERE name = ?", (step,))
    if not found:
        names = ", ".join(name for (name,) in ledger.rows("SELECT name FROM steps ORDER BY id"))
        raise NoSuchPart(f"the run has no step '{step}'; there are: {names}")
    return found[0][0], found[0][1]


def _shown(ledger: LedgerReader, id: int, data: Any) -> Any:
    """An item's data as people know it: for the numbers of a group's members the keys of its rows."""
    sql = "SELECT items.parent, scopes.name FROM items JOIN scopes ON scopes.id = items.scope WHERE items.id = ?"
    at, kind = id, ""
    while kind in ("", "samples", "models"):
        ((parent, name),) = ledger.rows(sql, (at,))
        at, kind = parent, name.partition(":")[0]
    if kind != "group" or why_unmade(data) is not None:
        return data
    rows = "SELECT key FROM items WHERE id IN (SELECT value FROM json_each(?)) ORDER BY ord"
    keys = [key for (key,) in ledger.rows(rows, (json.dumps(data["members"]),))]
    return {name: value for name, value in data.items() if name != "members"} | {"rows": keys}


def _attempt(row: tuple[Any, ...]) -> AttemptRow:
    number, model, started, outcome, code, status, error, latency, wait, billed = row[:10]
    tokens, cost, reply, raw, request_id, key = row[10:14], row[14], row[15], row[16], row[17], row[18]
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], cached_tokens=tokens[2], reasoning_tokens=tokens[3])
    answer = from_json(reply) if reply else {}
    return AttemptRow(
        *(number, model, started, outcome, code, status, error, latency, wait, billed),
        *(usage, cost, answer.get("text", "") if reply else None, answer.get("reasoning"), raw, request_id, key),
    )


def _messages(failure: Path | None) -> tuple[dict[str, str], ...]:
    if failure is None or not failure.exists():
        return ()
    request = json.loads(failure.read_text(encoding="utf-8")).get("payload", {}).get("request") or {}
    return tuple(request.get("messages", ()))


def _tried(failure: Path | None) -> tuple[str, ...]:
    """The replies of every try as the failure file has them, cached ones too."""
    if failure is None or not failure.exists():
        return ()
    details = json.loads(failure.read_text(encoding="utf-8")).get("details")
    tries = details.get("tries", ()) if isinstance(details, dict) else ()
    return tuple(one["reply"] for one in tries if isinstance(one, dict) and isinstance(one.get("reply"), str))


def _kept(ledger: LedgerReader, step: int, item: int) -> tuple[dict[str, str], ...]:
    """The conversation that the ledger kept because no cache did."""
    sql = "SELECT request FROM attempts WHERE step = ? AND item = ? AND request IS NOT NULL ORDER BY id DESC LIMIT 1"
    text = ledger.value(sql, (step, item))
    return tuple(from_json(text)) if text else ()


def _cached(info: RunInfo, key: str | None) -> tuple[dict[str, str], ...]:
    """The conversation as it stands in the material of the cached answer's key."""
    from llmpipe.client.disk_cache import DiskCache
    from llmpipe.client.encoding import unseal

    folder = info.folder.parent.parent / ".cache"
    if key is None or not folder.is_dir():
        return ()
    cache = DiskCache(folder, warn=lambda line: None, heals=False)
    try:
        data = cache.peek(key)
    finally:
        cache.close()
    stored = unseal(data, key=key) if data else None
    turns = json.loads(stored.material).get("turns", ()) if stored else ()
    return tuple({"role": role, "content": content} for role, content in turns)
