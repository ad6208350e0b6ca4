"""A run on one screen, an item on one line, and an item's whole story: for `show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.engine.runs import RunInfo
from llmpipe.engine.story import AttemptRow, ItemRow, ItemStory
from llmpipe.report.figures import columns_of, cost, count, fill, item_command, latency, moment, plural, said, shorten
from llmpipe.report.masked import masked_lines
from llmpipe.report.plain import plain
from llmpipe.report.spending import billing, cost_line

MOST_TEXT = 20_000  # characters of one text on the screen; --json has all of it
LINE = 100


def item_line(row: ItemRow) -> str:
    """An item of a step: key, how it ended, and its output or what went wrong."""
    if row.status == "succeeded":
        tail = _short(row.output)
    else:
        tail = " ".join(plain(part) for part in (row.code, row.error or row.reason) if part)
    return f"{fill(said(row.key or '-', 24), 12)}  {fill(row.status, 9)}  {shorten(plain(tail), LINE - 25)}".rstrip()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def story(told: ItemStory) -> Iterator[str]:
    """The whole story of one item: the row, what was asked, every attempt with its reply, the end."""
    yield f"step {said(told.step)}, item {said(told.key or '-')}: {told.status}{_how(told)}"
    if told.code or told.error:
        yield f"  {plain(' '.join(part for part in (told.code, told.error) if part))}"
    if told.reason:
        yield f"  {plain(told.reason)}"
    if told.item not in ({}, None):
        yield from _section("item", told.item)
    for message in told.messages:
        yield from _section(f"asked ({message.get('role', '?')})", message.get("content", ""))
    for attempt in told.attempts:
        yield from _attempt(attempt)
    if told.status == "succeeded":
        yield from _section("output", told.output)
    yield from _sum(told)


def _how(told: ItemStory) -> str:
    carried = f"carried over from run {told.made_in}" if told.made_in else "carried over"
    parts = [word for word, is_so in (("from the cache", told.cached), (carried, told.carried)) if is_so]
    parts += [f"answered by {said(told.answered_by)}"] if told.answered_by else []
    parts += [plural(told.reasks, "re-ask")] if told.reasks else []
    parts += [said(note, 60) for note in told.notes]
    return f" ({', '.join(parts)})" if parts else ""


def _attempt(attempt: AttemptRow) -> Iterator[str]:
    outcome = attempt.outcome or "sent, outcome unknown"
    parts = [plain(outcome), *([f"{attempt.code}"] if attempt.code else ())]
    parts += [f"HTTP {attempt.status}"] if attempt.status else []
    parts += [latency(attempt.latency_s)] if attempt.latency_s is not None else []
    parts += [_tokens(attempt)] if attempt.usage.input_tokens is not None else []
    parts += (
        [f"billed: {attempt.billed}"] if attempt.billed and attempt.billed != "yes" and attempt.outcome != "ok" else []
    )
    yield ""
    yield f"attempt {attempt.number}  {said(attempt.model)}  {moment(attempt.started_at)}  {', '.join(parts)}"
    if attempt.error:
        yield from _indented(attempt.error)
    if attempt.reasoning:
        yield from _section("thought", attempt.reasoning, gap=False)
    if attempt.reply is not None:
        yield from _section("reply", attempt.reply, gap=False)
    if attempt.raw:
        yield from _section("reply as it came", attempt.raw, gap=False)
    if attempt.wait_s:
        yield f"  then waited {latency(attempt.wait_s)}"


def _tokens(attempt: AttemptRow) -> str:
    usage = attempt.usage
    return f"{count(usage.input_tokens or 0)} tokens in, {count(usage.output_tokens or 0)} out"


def _sum(told: ItemStory) -> Iterator[str]:
    yield ""
    if told.attempts:
        what = cost(told.cost_usd, told.cost_known_usd)
        yield f"cost       {what} in {plural(len(told.attempts), 'attempt')}"
    if told.failure_file is not None:
        yield f"evidence   {plain(told.failure_file)}"
    if told.code:
        yield f"explain    llmpipe explain {told.code}"


def _section(title: str, value: Any, *, gap: bool = True) -> Iterator[str]:
    if gap:
        yield ""
    yield f"{title}:" if gap else f"  {title}:"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    yield from _indented(text, "  " if gap else "    ")


def _indented(text: str, by: str = "  ") -> Iterator[str]:
    shown = plain(text[:MOST_TEXT], multiline=True)
    for line in shown.split("\n"):
        yield f"{by}{line}".rstrip()
    if len(text) > MOST_TEXT:
        yield f"{by}... and {count(len(text) - MOST_TEXT)} characters more; --json has all of it"


def overview(info: RunInfo, document: Mapping[str, Any], *, show: str) -> Iterator[str]:
    """A run on one screen: verdict, counts per step, causes of failure, where its files are, what to do next."""
    code = "" if info.exit_code is None else f", exit code {info.exit_code}"
    yield f"run {said(info.run_id)} of {said(info.pipeline)}: {said(info.status)}{code}"
    ended = f", ended {moment(info.finished_at)}" if info.finished_at else ""
    yield f"started    {moment(info.started_at)}{ended}"
    if document.get("reason"):
        yield f"reason     {plain(document['reason'])}"
    yield f"items      {_items(info)}, {cost_line(info)}"
    held = billing(info.maybe_billed, info.unknown_usage, info.held_usd, info.held_tokens)
    if held:
        yield f"billing    {held}"
    yield from _steps(document)
    yield from _causes(document, info, show)
    yield from (f"masked     {line}" for line in masked_lines(document.get("masked") or ()))
    yield f"files      {plain(info.folder)}"
    if document.get("next_command"):
        yield f"next       {plain(document['next_command'])}"


def _items(info: RunInfo) -> str:
    parts = [plural(info.items, "item")]
    counts = (("ok", info.succeeded), ("failed", info.failed), ("skipped", info.skipped), ("unsent", info.unsent))
    return f"{parts[0]}: {', '.join(f'{count(n)} {word}' for word, n in counts if n or word in ('ok', 'failed'))}"


def _steps(document: Mapping[str, Any]) -> Iterator[str]:
    steps = document.get("steps") or ()
    width = max((columns_of(said(s["id"], 24)) for s in steps), default=0)
    for index, step in enumerate(steps):
        label = fill(said(step["id"], 24), width)
        parts = [f"{count(step['succeeded'])} of {count(step['items'])} ok"]
        parts += [f"{count(step[n])} {n}" for n in ("failed", "skipped", "unsent", "cached", "carried") if step.get(n)]
        if step.get("validated"):
            parts.append(f"{count(step['first_try'])} of {count(step['validated'])} valid at the first try")
        model = f"  {said(step['model'], 40)}" if step.get("model") else ""
        yield f"{'steps' if not index else '':<11}{label}  {', '.join(parts)}{model}"


def _causes(document: Mapping[str, Any], info: RunInfo, show: str) -> Iterator[str]:
    causes = document.get("causes") or ()
    for index, cause in enumerate(causes[:8]):
        what = f"{count(cause['count'])} x {said(cause['code'])} {said(cause['title'], 60)} ({said(cause['step'], 24)})"
        yield f"{'failures' if not index else '':<11}{what}"
        yield f"             {said(cause['example_key'] or '-', 24)}: {said(cause['example_error'], 200)}"
    if causes:
        first = causes[0]
        yield f"look       {item_command(show, info.run_id, first['step'], first['example_key'])}"
