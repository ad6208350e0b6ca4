"""The lines that stand under a run when it has ended: for a person at a terminal, and for cron's mail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal

from llmpipe.engine.results import Cause, RunReport, StepCounts, total_cost
from llmpipe.frozen import frozen
from llmpipe.report import figures
from llmpipe.report.figures import Column, cost, count, fill, lasted, latency, plural, said, table, tokens
from llmpipe.report.masked import masked_lines
from llmpipe.report.spending import billing, cost_line

MOST_CAUSES = 6
CRON_LINES = 30
LABEL = 11  # columns of "failures   "
Tone = Literal["good", "warning", "bad", "none"]

_VERDICTS: dict[str, tuple[str, Tone]] = {
    "complete": ("complete", "good"),
    "partial": ("partly failed, as allowed,", "warning"),
    "failed": ("failed", "bad"),
    "interrupted": ("interrupted", "bad"),
    "stopped": ("stopped", "bad"),
    "crashed": ("crashed", "bad"),
    "running": ("not finished", "bad"),
}


@frozen
class Look:
    """How to print: columns, whether the steps' table is wanted on success too, colours, and how `show` is called."""

    width: int = 80
    detailed: bool = False
    colour: bool = False
    show: str = "llmpipe show"


@frozen
class Total:
    """The sum over the steps of a run."""

    items: int
    succeeded: int
    failed: int
    skipped: int
    unsent: int
    cached: int
    carried: int
    calls: int
    retries: int
    reasks: int
    input_tokens: int
    output_tokens: int
    unknown_usage: int
    unpriced: int
    maybe_billed: int
    cost_known_usd: Decimal
    cost_usd: Decimal | None

    @classmethod
    def of(cls, steps: Sequence[StepCounts]) -> Total:
        """Add up every field over `steps`."""
        kept = [name for name in cls.__match_args__ if not name.startswith("cost_")]
        sums = {name: sum(getattr(s, name) for s in steps) for name in kept}
        known = sum((s.cost_known_usd for s in steps), Decimal(0))
        return cls(**sums, cost_known_usd=known, cost_usd=total_cost(steps))


def after(report: RunReport, look: Look = Look()) -> list[str]:
    """What a person sees: four lines on success, the table with the failures otherwise."""
    if report.exit_code == 0 and not report.partial and not look.detailed:
        return [
            _headline(report, look),
            *_success(report, look),
            *_validity(report),
            *_remarks(report, look),
            *_files(report, look),
        ]
    return [
        _headline(report, look),
        *(_labelled("reason", said(report.reason, 400)) if report.reason else ()),
        *_steps(report, look.width),
        *_spent(report, brief=look.width >= 80),
        *_validity(report),
        *_causes(report, look),
        *_remarks(report, look),
        *_files(report, look),
        *(_labelled("next", report.next_command) if report.next_command else ()),
    ]


def cron(report: RunReport, look: Look = Look()) -> list[str]:
    """What `--quiet` prints: nothing on success, one line on a partial one, else at most 30 lines without colour.

    A dataset without rows is said in any case, and so are an earlier run that cannot be read and keys that were met in
    rows and responses.
    """
    total = Total.of(report.steps)
    name = said(f"{_file(report)} run {report.run_id}", 200)
    lost = [f"{name}: {said(line, 600)}" for line in report.lost]
    if report.exit_code == 0 and not report.partial:
        empty = (f"dataset {said(dataset, 60)} has no rows" for dataset in report.empty)
        return [*lost, *(f"{name}: {line}" for line in (*masked_lines(report.masked), *empty))]
    if report.exit_code == 0:
        worst = f"; {_cause(max(report.causes, key=lambda c: c.count))}" if report.causes else ""
        where = f"; {report.folder / 'failures'}"
        held = "".join(f"; {line}" for line in masked_lines(report.masked))
        return [*lost, said(f"{_file(report)} run {report.run_id}: partial, {_sum(total)}{held}{worst}{where}", 1000)]
    head = [
        f"{_file(report)} {_verdict(report)[0]} after {lasted(report.duration_s)}, exit code {report.exit_code}",
        *_labelled("run", said(report.run_id)),
        *(_labelled("reason", said(report.reason, 400)) if report.reason else ()),
        *_labelled("items", _sum(total)),
        *_spent(report),
    ]
    tail = [
        *lost[:4],
        *_alerts(report),
        *(_labelled("previous", said(report.previous)) if report.previous else ()),
        *_labelled("files", said(report.folder, 1000)),
        *(_labelled("continue", report.next_command) if report.next_command else ()),
    ]
    failing = [said(f"           {_step_sum(s)}", 200) for s in report.steps if s.failed or s.unsent][:8]
    room = CRON_LINES - len(head) - len(failing) - len(tail)
    return [*head, *failing, *_causes(report, Look(200, show=look.show), room=room), *tail]


def _headline(report: RunReport, look: Look) -> str:
    word, tone = _verdict(report)
    joint = "in" if report.status in ("complete", "partial") else "after"
    left = f"{said(_file(report), 40)}  {word} {joint} {lasted(report.duration_s)}"
    right = f"run {said(report.run_id)}"
    line = f"{fill(left, look.width - len(right) - 2)}  {right}"
    return line.replace(word, paint(word, tone), 1) if look.colour else line


def paint(text: str, tone: Tone) -> str:
    """The text in the colour of its tone."""
    number = {"good": "32", "warning": "33", "bad": "31"}.get(tone)
    return f"\x1b[{number}m{text}\x1b[0m" if number else text


def _verdict(report: RunReport) -> tuple[str, Tone]:
    if report.status == "failed" and report.exit_code == 1 and any(s.succeeded for s in report.steps):
        return "partly failed", "bad"
    return _VERDICTS[report.status]


def _file(report: RunReport) -> str:
    return said(report.pipeline_path.name or report.pipeline, 60)


def _success(report: RunReport, look: Look) -> Iterator[str]:
    parts = [_step_sum(s) for s in report.steps]
    text = ", ".join(parts)
    room = look.width - LABEL
    if len(text) > room:
        text = f"{plural(len(parts), 'step')}, {_sum(Total.of(report.steps))}"
    yield from _labelled("steps", said(text, room))
    yield from _spent(report)


def _step_sum(step: StepCounts) -> str:
    extra = [(step.failed, "failed"), (step.skipped, "skipped"), (step.unsent, "unsent")]
    return " ".join([f"{said(step.id, 40)} {count(step.succeeded)} ok", *(f"{count(n)} {w}" for n, w in extra if n)])


def _sum(total: Total) -> str:
    parts = [f"{plural(total.items, 'item')}: {count(total.succeeded)} ok", f"{count(total.failed)} failed"]
    parts += [f"{count(n)} {w}" for n, w in ((total.skipped, "skipped"), (total.unsent, "unsent")) if n]
    return ", ".join(parts)


def _spent(report: RunReport, *, brief: bool = False) -> Iterator[str]:
    total = Total.of(report.steps)
    if report.no_model_called:
        cached = f" and {count(total.cached)} cached" if total.cached else ""
        yield from _labelled("calls", f"{count(total.calls)} to echo{cached}: no model was called, nothing was paid")
    elif total.calls or total.cached:
        yield from _labelled("calls", _cost(total, brief=brief))
    elif any(s.kind == "model" for s in report.steps):
        yield from _labelled("calls", "none")


def _validity(report: RunReport) -> Iterator[str]:
    """How many answers were valid as they came, for the steps where not all were."""
    for step in report.steps:
        if step.schema_in_prompt:
            text = f"{said(step.id, 40)}: the schema of {count(step.schema_in_prompt)} stood in the prompt (P406)"
            yield from _labelled("answers", text)
        if step.validated > step.first_try:
            share = f"{100 * step.first_try / step.validated:.3g}% of {count(step.validated)} valid at the first try"
            parts = [share, *([plural(step.reasks, "re-ask")] if step.reasks else [])]
            parts += [f"{count(step.mended)} mended"] if step.mended else []
            yield from _labelled("answers", f"{said(step.id, 40)}: {', '.join(parts)}")


def _cost(total: Total, *, brief: bool = False) -> str:
    """Calls, tokens and money; `brief` where the table of steps says the half of it."""
    parts = [count(total.calls)]
    parts += [f"{count(n)} {w}" for n, w in ((total.retries, "retried"), (total.reasks, "re-asked")) if n]
    if not brief:
        parts += [f"{count(total.cached)} cached"] if total.cached else []
        parts.append(f"tokens {tokens(total.input_tokens)} in {tokens(total.output_tokens)} out")
    return ", ".join([*parts, cost_line(total)])


def _steps(report: RunReport, width: int) -> list[str]:
    steps = report.steps
    if not steps:
        return []

    def numbers(title: str, field: str, *, always: bool = False, spare: int = 0) -> Iterator[Column]:
        values = [getattr(s, field) for s in steps]
        if always or any(values):
            yield Column(title, [count(v) for v in values], spare=spare)

    asked = any(s.calls or s.cached or s.input_tokens for s in steps)
    return table(
        [
            Column("step", [said(s.id, 30) for s in steps], "left", widest=24),
            *numbers("items", "items", always=True),
            *numbers("ok", "succeeded", always=True),
            *numbers("cached", "cached", spare=1),
            *numbers("carried", "carried", spare=2),
            *numbers("failed", "failed", always=True),
            *numbers("skipped", "skipped"),
            *numbers("unsent", "unsent"),
            *([Column("p50", [latency(s.p50_s) for s in steps], spare=4)] if asked else ()),
            *([Column("p95", [latency(s.p95_s) for s in steps], spare=5)] if asked else ()),
            *([Column("tokens in/out", [_tokens(s) for s in steps], spare=3)] if asked else ()),
            *(
                [Column("cost", [_step_cost(s) for s in steps], spare=6)]
                if asked and not report.no_model_called
                else ()
            ),
        ],
        width=width,
    )


def _tokens(step: StepCounts) -> str:
    known = step.input_tokens or step.output_tokens
    return f"{tokens(step.input_tokens)} / {tokens(step.output_tokens)}" if known else "-"


def _step_cost(step: StepCounts) -> str:
    if step.kind != "model":
        return "-"
    return cost(step.cost_usd, step.cost_known_usd)


def _causes(report: RunReport, look: Look, *, room: int = 2 * MOST_CAUSES + 2) -> list[str]:
    """The kinds of failure, most frequent first, each with an example; `room` lines at most."""
    causes = sorted(report.causes, key=lambda c: -c.count)
    shown = causes[: min(MOST_CAUSES, max((room - 2) // 2, 1))]
    lines: list[str] = []
    for cause in shown:
        lines += _labelled("" if lines else "failures", _cause(cause))
        example = f"{said(cause.example_key or '-', 24)}: {said(cause.example_error)}"
        lines += _labelled("", f"  {said(example, look.width - LABEL - 2)}")
    if len(causes) > len(shown):
        rest = causes[len(shown) :]
        lines += _labelled(
            "", f"and {plural(sum(c.count for c in rest), 'failure')} of {plural(len(rest), 'other kind')}"
        )
    if shown:
        first = shown[0]
        lines += _labelled("look", figures.item_command(look.show, report.run_id, first.step, first.example_key))
    return lines


def _cause(cause: Cause) -> str:
    return f"{count(cause.count)} x {said(cause.code)} {said(cause.title, 60)} ({said(cause.step, 24)})"


def _remarks(report: RunReport, look: Look) -> list[str]:
    lines = _alerts(report)
    for lost in report.lost:
        lines += _labelled("note", said(lost, max(look.width * 3, 600)))
    for name in report.empty:
        lines += _labelled("note", f"dataset {said(name, 60)} has no rows")
    for note in report.notes[:8]:
        lines += _labelled("note", said(note, max(look.width * 3, 200)))
    return lines


def _alerts(report: RunReport) -> list[str]:
    lines = [line for text in masked_lines(report.masked) for line in _labelled("masked", text)]
    silent = sum(step.unknown_usage for step in report.steps)
    text = billing(report.maybe_billed, silent, report.held_usd, report.held_tokens)
    return [*lines, *(_labelled("billing", text) if text else [])]


def _files(report: RunReport, look: Look) -> list[str]:
    if not report.published:
        return _labelled("output", said(_near(report.folder / "steps"), 1000))
    names = [said(_near(path), 200) for path in report.published]
    shown = names[:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return _labelled("output", ", ".join(shown) + more)


def _near(path: Path) -> Path:
    """The path as seen from the working directory, where that is shorter."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def _labelled(label: str, text: str) -> list[str]:
    return [f"{label:<{LABEL}}{text}"]
