"""A plan as people read it: a table of the steps, what it rests on, where data would go, what stands in the way."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmpipe.engine.planned import Destination, PlanReport, StepPlan
from llmpipe.report.figures import columns_of, count, lasted, money, plural, said
from llmpipe.report.plan_table import step_table, unpriced_models

LABEL = 11  # columns of "sends      "
MOST_FAILING = 6
Line = tuple[str, str]  # a label and what it is about
_KINDS = {  # of asked items, in the order in which they are told
    "misfit": "whose answer in the cache does not fit",
    "changed": "changed",
    "failed": "failed before",
    "skipped": "skipped before",
    "new": "new",
    "shared": "that ask the same as another item",
}
_VERDICTS = {
    "within": "it is enough for every call",
    "expected within": "by this estimate it is enough",
    "may be exceeded": "it may not be enough",
    "exceeded": "it is not enough",
}


def plan_lines(plan: PlanReport, *, width: int = 80, verbose: bool = False) -> Iterator[str]:
    """The whole plan; with `verbose` every item for which a model would be asked, and why."""
    yield _headline(plan, width)
    if plan.going_on:
        yield from _written([("run", said(plan.going_on, 200))], width)
    yield from step_table(plan, width)
    yield from _written(_body(plan, verbose=verbose), width)


def warnings(plan: PlanReport) -> list[str]:
    """What is said under `--quiet` too: why a run would not begin, or not come to its end."""
    return list(_written(_trouble(plan), 80))


def _body(plan: PlanReport, *, verbose: bool) -> Iterator[Line]:
    yield from _unknown(plan)
    yield from _rests_on(plan)
    yield from _failing(plan)
    for step in plan.steps:
        yield from _validity(step)
        yield from _every(plan, step) if verbose else _asked(plan, step)
    yield from _changed(plan)
    yield from _money(plan)
    yield from _where(plan)
    yield from _trouble(plan)


def _written(lines: Iterable[Line], width: int) -> Iterator[str]:
    """Labels in a column of their own; a label that comes again is left out."""
    before = None
    for label, text in lines:
        head = "" if label == before else label
        before = label
        room = max(width, 60) - LABEL
        parts = textwrap.wrap(text, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(parts):
            yield f"{head if not number else '':<{LABEL}}{part}"


# -- head -------------------------------------------------------------------------------------------------------------


def _headline(plan: PlanReport, width: int) -> str:
    rows = [_rows(name, number, plan) for name, number in plan.datasets.items()]
    cut = f" ({plan.cut})" if plan.cut else ""
    left = f"{said(plan.pipeline_path.name, 40)}  {', '.join(rows) or 'no dataset'}{cut}"
    how = {"off": "cache not used", "refresh": "cache written, not read"}.get(plan.cache_mode)
    right = how or f"cache {said(_near(plan.cache), 60)}"
    gap = width - columns_of(left) - columns_of(right)
    return f"{left}{' ' * gap}{right}" if gap >= 2 else f"{left}  {right}"


def _rows(name: str, number: int, plan: PlanReport) -> str:
    files = plan.sources.get(name, ())
    if not files:
        place = "standard input"
    elif len(files) == 1:
        place = said(_near(files[0]), 60)
    else:
        place = f"{len(files)} files of {said(name, 40)}"
    return f"{plural(number, 'row')} from {place}"


# -- what it rests on --------------------------------------------------------------------------------------------------


def _unknown(plan: PlanReport) -> Iterator[Line]:
    """Which steps build on answers that are not there, and what their figures rest on all the same."""
    for above, ids in _grouped((", ".join(step.builds_on), step.id) for step in plan.steps if step.builds_on).items():
        build = "builds" if len(ids) == 1 else "build"
        yield "unknown", f"{said(', '.join(ids), 100)} {build} on what {said(above, 100)} has not answered yet"
    for step in plan.steps:
        if step.kind == "python" and step.open:
            yield "unknown", f"{said(step.id, 40)} runs Python code, which a plan does not call"
    ways = _grouped((step.items_by, step.id) for step in plan.steps if step.items_by)
    if ways:
        yield "items", _ways(ways)


def _rests_on(plan: PlanReport) -> Iterator[Line]:
    asking = [step for step in plan.steps if not step.input_tokens.is_nothing]
    if not asking:
        return
    ways = _ways(_grouped((step.input_by, step.id) for step in asking if step.input_by))
    yield "tokens", "in: 4 characters a token of the rendered prompts" + (f"; {ways}" if ways else "")
    if ways := _ways(_grouped((step.output_by, step.id) for step in asking if step.output_by)):
        yield "tokens", f"out: {ways}"
    if plan.again:
        yield "tokens", plan.again


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, id in pairs:
        found.setdefault(name, []).append(id)
    return found


def _ways(groups: dict[str, list[str]]) -> str:
    """ "label by max_output_tokens; answer, verify as in run 7f3a"."""
    return "; ".join(f"{said(', '.join(ids), 100)} {said(by, 100)}" for by, ids in groups.items())


def _failing(plan: PlanReport) -> Iterator[Line]:
    found = [(step, one) for step in plan.steps for one in step.failing]
    for step, one in found[:MOST_FAILING]:
        items = plural(one.count, "item")
        yield "failing", f"{said(step.id, 40)}: {items} would fail with {said(one.code)}, and no model would be asked"
        yield "failing", f"  {said(one.example_key or '-', 24)}: {said(one.example_error, 120)}"
    if len(found) > MOST_FAILING:
        yield "failing", f"and {plural(len(found) - MOST_FAILING, 'other kind')}; --json has all of them"


def _validity(step: StepPlan) -> Iterator[Line]:
    """What becomes of the answers that are there, where today's schema and checks do not take all of them."""
    misfits = next((kind.count for kind in step.asked if kind.kind == "misfit"), 0)
    if misfits:
        fit = f"{plural(int(step.cached.least), 'cached answer')} fit today's schema and checks"
        yield "validity", f"{said(step.id, 40)}: {fit}; {count(misfits)} do not, and would be asked for again"


def _asked(plan: PlanReport, step: StepPlan) -> Iterator[Line]:
    """How many items a model would be asked for, and why, where there is more to say than that it would."""
    order = list(_KINDS)
    for kind in sorted(step.asked, key=lambda kind: order.index(kind.kind)):
        if kind.kind == "new" and not plan.going_on:
            continue
        keys = ", ".join(said(item.key or "-", 24) for item in kind.first)
        more = ", ..." if kind.count > len(kind.first) else ""
        yield "asks", f"{said(step.id, 40)}: {plural(kind.count, 'item')} {_KINDS[kind.kind]}: {keys}{more}"
        for item in kind.first if kind.kind in ("misfit", "failed") else ():
            yield "asks", f"  {said(item.key or '-', 24)}: {said(item.why, 120)}"


def _every(plan: PlanReport, step: StepPlan) -> Iterator[Line]:
    for item in plan.every_asked(step.id):
        why = f"{_KINDS[item.kind]}: {item.why}" if item.why else _KINDS[item.kind]
        yield f"ask {said(step.id, 40)}", f"{said(item.key or '-', 60)}  {said(why, 200)}"


def _changed(plan: PlanReport) -> Iterator[Line]:
    """What has changed since the last run, and what that means for the answers that are there."""
    if not plan.changed:
        return
    yield "changed", f"since run {said(plan.changed_since)}: {said('; '.join(plan.changed), 400)}"
    for step in plan.steps:
        if step.schema and any(line.startswith(f"step '{step.id}'") and "schema" in line for line in plan.changed):
            yield "changed", f"the schema of {said(step.id, 40)} is {said(step.schema, 80)}: {_schema(step)}"


def _schema(step: StepPlan) -> str:
    if step.calls.is_nothing:
        return "every answer that is there fits it as it is now"
    if step.cached.least:
        return "the answers that are there are to the same question, and are validated anew"
    return "no answer in the cache is to what would be sent now"


# -- money and places --------------------------------------------------------------------------------------------------


def _money(plan: PlanReport) -> Iterator[Line]:
    budget = plan.budget
    parts = [money(budget.usd)] if budget.usd is not None else []
    parts += [f"{count(n)} {word}" for n, word in ((budget.tokens, "tokens"), (budget.calls, "calls")) if n is not None]
    parts += [lasted(budget.wall_s)] if budget.wall_s is not None else []
    spent = [money(budget.spent_usd)] if budget.spent_usd and budget.usd is not None else []
    spent += [f"{count(budget.spent_tokens)} tokens"] if budget.spent_tokens and budget.tokens is not None else []
    spent += [plural(budget.spent_calls, "call")] if budget.spent_calls and budget.calls is not None else []
    if parts:
        before = f", of which {' and '.join(spent)} spent" if spent else ""
        verdict = f": {_VERDICTS[budget.verdict]}" if budget.verdict != "none" else ""
        why = f" ({budget.reason})" if budget.reason and budget.verdict != "exceeded" else ""  # said below
        yield "budget", f"{', '.join(parts)}{before}{verdict}{why}"
    if plan.no_model or all(step.calls.is_nothing for step in plan.steps):
        return
    unpriced = dict.fromkeys(unpriced_models(plan.steps))
    without = f"; none is known of {said(', '.join(unpriced), 200)}" if unpriced else ""
    yield "prices", f"as of {plan.prices_as_of}{without}"


def _where(plan: PlanReport) -> Iterator[Line]:
    if plan.offline:
        yield "sends", "nothing (--offline): what the cache does not hold is a failure"
    elif plan.no_model:
        yield "sends", "nothing: every answer comes from echo, no model would be called"
    elif all(step.calls.is_nothing for step in plan.steps):
        yield "sends", "nothing: no answer is missing"
    else:
        for place in plan.destinations:
            yield "may send" if place.standby else "sends", _place(place)


def _place(place: Destination) -> str:
    names = said(", ".join(place.models), 100)
    if place.kind == "echo":
        return f"nothing to {names}, which is answered here"
    if place.kind == "code":
        return f"data to code of the project, {said(place.origin.removeprefix('own:'), 60)}{_key(place)}"
    when = ", after errors or to ask again" if place.standby else ""
    return f"data to {said(place.origin, 100)}{_key(place)} for {names}{when}"


def _key(place: Destination) -> str:
    if not place.keys:
        return " (no key)"
    if not place.key_found:
        return f" ({' or '.join(place.keys)} is NOT set)"
    name, _, origin = place.key_found.partition(", ")
    return f" ({name} is set{f' in {origin}' if origin != 'environment' else ''})"


def _trouble(plan: PlanReport) -> Iterator[Line]:
    for reason in plan.obstacles:
        yield "obstacle", f"a run would not begin: {said(reason, 400)}"
    if plan.would_stop:
        yield "stop", f"a run would end early: {said(plan.would_stop, 400)}"
    if plan.budget.verdict == "exceeded":
        yield "stop", f"a run would end with exit code 6: {said(plan.budget.reason, 400)}"
    for note in plan.notes[:8]:
        yield "note", said(note, 400)


def _near(path: Path) -> Path:
    """The path as seen from the working directory, where that is shorter."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
