"""What the live display and the plain lines say about a snapshot: pure text, no terminal."""

from __future__ import annotations

from decimal import Decimal

from llmpipe.engine.results import Snapshot, StepCounts, total_cost
from llmpipe.frozen import frozen
from llmpipe.report.figures import clock, columns_of, cost, count, fill, money, said, shorten, tokens


@frozen
class Glyphs:
    """The characters of a bar."""

    full: str = "━"
    half: str = "╸"
    empty: str = "─"


UNICODE = Glyphs()
ASCII = Glyphs("#", "", "-")


def frame(snapshot: Snapshot, *, width: int, height: int, glyphs: Glyphs) -> list[str]:
    """The lines of the live display, for `width` columns; never more lines than fit above the cursor."""
    foot = [_calls(snapshot), _money(snapshot)]
    if snapshot.waiting_elsewhere:
        foot.append(_elsewhere(snapshot))
    if snapshot.last_failure:
        foot.append(f"last failure  {said(snapshot.last_failure, max(width - 15, 20))}")
    room = max(height - 2 - len(foot), 1)
    steps = _most_telling(snapshot.steps, room)
    name = min(max((columns_of(said(s.id, 24)) for s in steps), default=4), 24, max(width // 4, 4))
    lines = [_head(snapshot, width), *(_step(s, snapshot, name=name, width=width, glyphs=glyphs) for s in steps)]
    hidden = len(snapshot.steps) - len(steps)
    return [*lines, *([f"and {hidden} more"] if hidden and room > 1 else []), *foot][: max(height - 1, 1)]


def line(snapshot: Snapshot) -> str:
    """One plain line, for a log."""
    steps = "  ".join(f"{said(s.id, 24)} {_done(s, snapshot)}" for s in snapshot.steps if s.items or not s.waiting_for)
    failed = sum(s.failed for s in snapshot.steps)
    parts = [f"{clock(snapshot.elapsed_s)} {said(snapshot.pipeline, 40)}", steps, f"failed {count(failed)}"]
    parts += [f"retried {count(snapshot.retried)}"] if snapshot.retried else []
    parts += [f"in flight {snapshot.in_flight}", f"spent {_spent(snapshot)}"]
    parts += [_elsewhere(snapshot)] if snapshot.waiting_elsewhere else []
    return "  ".join(p for p in parts if p)


def remaining(snapshot: Snapshot) -> float | None:
    """Seconds until the slowest step will be through at its present rate; None while that cannot be said."""
    if not snapshot.total_known or snapshot.elapsed_s < 2:
        return None
    waits = [s for s in snapshot.steps if not s.done]
    if any(s.waiting_for or not _through(s) for s in waits):
        return None
    return max(((s.items - _through(s)) * snapshot.elapsed_s / (_through(s) - s.carried) for s in waits
                if _through(s) > s.carried), default=None)  # fmt: skip


def _through(step: StepCounts) -> int:
    return step.succeeded + step.failed + step.skipped


def _most_telling(steps: tuple[StepCounts, ...], room: int) -> tuple[StepCounts, ...]:
    """All steps if they fit; else those at work, then those that wait, in the pipeline's order."""
    if len(steps) <= room:
        return steps
    ranked = sorted(range(len(steps)), key=lambda i: (steps[i].done, bool(steps[i].waiting_for), i))
    return tuple(steps[i] for i in sorted(ranked[: max(room - 1, 1)]))


def _head(snapshot: Snapshot, width: int) -> str:
    models = list(dict.fromkeys(s.model for s in snapshot.steps if s.model))
    model = f"  {said(models[0], 40)}{f' +{len(models) - 1}' if len(models) > 1 else ''}" if models else ""
    eta = remaining(snapshot)
    right = clock(snapshot.elapsed_s) + (f"  ETA {clock(eta)}" if eta is not None else "")
    left = f"{said(snapshot.pipeline, 40)}  run {said(snapshot.run_id)}{model}"
    room = width - 1 - len(right) - 2
    return f"{fill(shorten(left, room), room)}  {right}" if room > 10 else right


def _step(step: StepCounts, snapshot: Snapshot, *, name: int, width: int, glyphs: Glyphs) -> str:
    label = fill(said(step.id, name), name)
    if step.waiting_for and not _through(step):
        return f"{label}  waiting for {said(step.waiting_for, 24)}"
    share = _through(step) / step.items if step.items and (snapshot.total_known or step.done) else None
    figures = _done(step, snapshot)
    per_second = (_through(step) - step.carried) / snapshot.elapsed_s if snapshot.elapsed_s >= 1 else 0.0
    tail = f"{figures}  {f'{share:4.0%}' if share is not None else '    '}  {per_second:5.1f}/s"
    bar = min(width - 1 - name - 4 - max(len(tail), 34), 40)
    if bar < 5:
        return f"{label}  {figures}"
    return f"{label}  {_bar(share, bar, glyphs)}  {fill(tail, 34, right=True)}"


def _done(step: StepCounts, snapshot: Snapshot) -> str:
    through = count(_through(step))
    if step.done or (snapshot.total_known and step.items):
        return f"{through}/{count(step.items)}"
    return f"{through}/{count(step.items)}+" if step.items else through


def _bar(share: float | None, width: int, glyphs: Glyphs) -> str:
    if share is None:
        return glyphs.empty * width
    halves = min(int(share * width * 2), width * 2)
    tip = glyphs.half if halves % 2 else ""
    return (glyphs.full * (halves // 2) + tip).ljust(width, glyphs.empty)


def _calls(snapshot: Snapshot) -> str:
    steps = snapshot.steps
    parts = [f"calls {count(sum(s.calls for s in steps))} new  {count(sum(s.cached for s in steps))} cached"]
    parts += [f"in flight {snapshot.in_flight}", f"retried {count(snapshot.retried)}"]
    return " | ".join([*parts, f"failed {count(sum(s.failed for s in steps))}"])


def _elsewhere(snapshot: Snapshot) -> str:
    return f"waiting for another run's responses: {count(snapshot.waiting_elsewhere)}"


def _money(snapshot: Snapshot) -> str:
    came, went = (sum(getattr(s, name) for s in snapshot.steps) for name in ("output_tokens", "input_tokens"))
    return f"tokens {tokens(went)} in  {tokens(came)} out | spent {_spent(snapshot)}"


def _spent(snapshot: Snapshot) -> str:
    limit: Decimal | None = snapshot.budget_usd
    known = sum((step.cost_known_usd for step in snapshot.steps), Decimal(0))
    return cost(total_cost(snapshot.steps), known) + (f" of {money(limit)}" if limit is not None else "")
