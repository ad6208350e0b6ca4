"""The order of the steps: every step after what it uses; a cycle is told with its whole way round."""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.config.pipeline import Step
from llmpipe.config.problems import Problems
from llmpipe.config.scopes import Scopes
from llmpipe.errors import Place


def sort_steps(steps: Mapping[str, Step], scopes: Scopes, problems: Problems) -> tuple[str, ...]:
    """A topological order of the ids that keeps the order of the file where it can; a problem for each cycle."""
    uses = {id: _uses(step, scopes) for id, step in steps.items()}
    done: dict[str, None] = {}
    while len(done) < len(steps):
        ready = next((id for id in steps if id not in done and all(u in done for u in uses[id])), None)
        if ready is None and scopes.circular:
            return tuple(steps)
        if ready is None:
            _report_cycle({id: uses[id] for id in steps if id not in done}, done, steps, problems)
            return tuple(steps)
        done[ready] = None
    return tuple(done)


def _uses(step: Step, scopes: Scopes) -> dict[str, Place]:
    """The steps that come before `step` → where it says so."""
    found = {source: step.place for source in scopes.sources(step.scope) if source != step.id}
    found |= dict.fromkeys(step.needs, step.place)
    return found | {ref.step: ref.place for ref in step.refs}


def _report_cycle(
    left: Mapping[str, Mapping[str, Place]], done: Mapping[str, None], steps: Mapping[str, Step], problems: Problems
) -> None:
    """Walk along unfinished uses until a step comes again: from there on it is the cycle."""
    way = [next(iter(left))]
    while True:
        onward = next(u for u in left[way[-1]] if u not in done and u in steps)
        if onward in way:
            cycle = [*way[way.index(onward) :], onward]
            break
        way.append(onward)
    shown = " -> ".join(cycle)
    place = left[cycle[0]][cycle[1]]
    problems.add("C216", f"the steps wait for each other: {shown}", place, note="-> reads 'uses the results of'")
