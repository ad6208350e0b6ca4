"""What the steps of a run would take: exact where it was gone through, estimated where answers are missing (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

from llmpipe.client.prices import MILLION, price_at
from llmpipe.config.pipeline import Pipeline, Step
from llmpipe.engine.bounds import answer_limit
from llmpipe.engine.expected import ExpectedItems
from llmpipe.engine.guess import PromptGuess
from llmpipe.engine.history import History, Taken
from llmpipe.engine.planned import NOTHING, Failing, Figure, StepPlan, Sure, about, at_most, exact, unknown
from llmpipe.engine.results import StepCounts
from llmpipe.engine.sums import Seen, StepSum
from llmpipe.frozen import frozen
from llmpipe.providers.asked import sent
from llmpipe.providers.table import resolve
from llmpipe.types import Price

_FEW = 5  # items of a step that were gone through, below which an earlier run tells more
ZERO = Decimal(0)
_HOW = {
    "native": "sent natively",
    "json_object": "sent in the prompt",
    "prompt": "sent in the prompt",
    "not_sent": "not sent",
}


@frozen
class Ground:
    """What a rehearsal found, and what earlier runs took."""

    pipeline: Pipeline
    counts: Mapping[str, StepCounts]  # of the steps that are wanted, by id
    sums: Mapping[str, StepSum]
    items: ExpectedItems
    there: Mapping[str, int]  # items by scope
    guesses: Mapping[str, PromptGuess]
    history: History
    fixed: frozenset[str]


@frozen
class _Extra:
    """Calls that are expected beyond those that are known, with how long their prompts are each."""

    calls: int
    sure: Sure  # of the number
    tokens: Decimal | None
    tokens_sure: Sure
    by: str


def forecast(ground: Ground) -> tuple[StepPlan, ...]:
    """The steps in the order in which they run."""
    wanted = [ground.pipeline.step(id) for id in ground.pipeline.order if id in ground.counts]
    return tuple(_Forecast(ground, step).plan() for step in wanted)


class _Forecast:
    """One step."""

    def __init__(self, ground: Ground, step: Step) -> None:
        self._ground, self._step = ground, step
        self._sum, self._counts = ground.sums[step.id], ground.counts[step.id]
        self._labels = {name: ground.pipeline.models[name].label for name in ground.pipeline.models}

    def plan(self) -> StepPlan:
        step, made, counts = self._step, self._sum, self._counts
        items, items_by = self._ground.items.of(step.scope)
        calls, calls_by = self._calls(items)
        extra = self._extra(calls)
        output, output_by = self._output(extra)
        cost, unpriced = self._cost(extra, calls)
        return StepPlan(
            id=step.id,
            kind=step.kind,
            model=_called(step, self._ground.pipeline),
            items=items,
            calls=calls,
            cached=self._cached(calls),
            carried=counts.carried,
            recalled=made.recalled,
            shared=made.shared,
            skipped=counts.skipped,
            failing=tuple(Failing(code, f.count, f.key, f.error) for code, f in sorted(made.failing.items())),
            open=made.open + made.code,
            input_tokens=self._input(extra, calls),
            output_tokens=output,
            cost_usd=cost + unknown() if unpriced else cost,
            cost_known_usd=cost,
            unpriced=unpriced,
            builds_on=() if calls.is_exact and items.is_exact else self._builds_on(),
            input_by=extra.by if extra.calls else "",
            output_by=output_by,
            items_by=", ".join(dict.fromkeys(by for by in (items_by, calls_by) if by)),
            schema=_schema(step, self._ground.pipeline),
            fixed=step.id in self._ground.fixed,
        )

    # -- how often a model is asked --------------------------------------------------------------------------------

    def _calls(self, items: Figure) -> tuple[Figure, str]:
        made = self._sum
        if self._step.kind != "model":
            return NOTHING, ""
        there = self._ground.there.get(self._step.scope, 0)
        left = made.open - made.ruled_out
        if items.is_exact and not left:
            return (at_most(made.calls, made.calls - made.repeated) if made.repeated else exact(made.calls)), ""
        if items.value is None:
            return unknown(made.calls), ""
        share, by, sure = self._share()
        more = left + max(0, int(items.value) - there)
        return Figure(made.calls + math.ceil(share * more), sure, made.calls), by

    def _share(self) -> tuple[Decimal, str, Sure]:
        """The part of the open items for which a model will be asked."""
        if self._step.when is None:
            return Decimal(1), "", "about"
        made, counts = self._sum, self._counts
        asked = made.cached + made.recalled + made.shared + made.calls
        if asked + counts.skipped >= _FEW:
            return Decimal(asked) / (asked + counts.skipped), "as the items whose `if` is known", "about"
        course = self._ground.history.courses.get(self._step.id)
        if course is not None and course.items:
            return 1 - Decimal(course.skipped) / course.items, f"as in run {course.run}", "about"
        return Decimal(1), "if its `if` is true for all", "at most"

    def _cached(self, calls: Figure) -> Figure:
        made = self._sum
        if calls.is_exact or not self._step.cache.read:
            return exact(made.cached)
        return unknown(made.cached)

    def _builds_on(self) -> tuple[str, ...]:
        """The steps above whose answers are missing."""
        step, pipeline = self._step, self._ground.pipeline
        near = [ref.step for ref in step.refs]
        at: str | None = step.scope
        while at is not None:
            scope = pipeline.scopes[at]
            near += [scope.step] if scope.step not in (None, step.id) else []
            at = scope.parent
        lacking = [id for id in dict.fromkeys([*near, *step.needs]) if id in self._ground.sums and self._lacks(id)]
        return tuple(lacking)

    def _lacks(self, id: str) -> bool:
        made = self._ground.sums[id]
        exact = self._ground.items.of(self._ground.pipeline.step(id).scope)[0].is_exact
        return bool(made.calls or made.shared or made.code or made.open) or not exact

    # -- how much goes in ------------------------------------------------------------------------------------------

    def _extra(self, calls: Figure) -> _Extra:
        more = 0 if calls.value is None else int(calls.value) - self._sum.calls
        tokens, sure, by = self._prompt()
        return _Extra(more, calls.sure, tokens, sure, by)

    def _prompt(self) -> tuple[Decimal | None, Sure, str]:
        """How long one of the expected prompts is about, and what that rests on."""
        made = self._sum
        if made.calls >= _FEW:
            return Decimal(self._known_input()) / made.calls, "about", "as the prompts that are known"
        taken = [t for name in self._step.models if (t := self._taken(self._labels[name])) is not None]
        if taken:
            return Decimal(taken[0].input_tokens), "about", f"as in run {taken[0].run}"
        if made.calls:
            return Decimal(self._known_input()) / made.calls, "about", "as the prompts that are known"
        return self._guessed()

    def _guessed(self) -> tuple[Decimal | None, Sure, str]:
        guess = self._ground.guesses.get(self._step.id)
        if guess is None:
            return None, "unknown", ""
        made = self._sum
        prompts = made.open - made.ruled_out
        total = about(Decimal(made.open_tokens) / prompts if prompts else Decimal(guess.fixed))
        lacks = {id: Decimal(n) / prompts for id, n in made.pending.items()} if prompts else guess.lacks
        for id, times in lacks.items():
            total += self._answer_size(id).times(Decimal(times))
        by = "by its template, and the columns and answers that it reads" if total.value is not None else ""
        return None if total.value is None else Decimal(total.value), total.sure, by

    def _answer_size(self, id: str) -> Figure:
        """About how many tokens a reference to a step's answers brings into a prompt of this step."""
        other = self._ground.pipeline.step(id)
        if other.kind != "model":
            return unknown()
        one, _ = _Forecast(self._ground, other)._extra_output(other.models[0])
        mode = next((ref.mode for ref in self._step.refs if ref.step == id), "own")
        if mode == "own":
            return one
        theirs = self._ground.items.of(other.scope)[0].value
        ours = self._ground.items.of(self._step.scope)[0].value if mode == "below" else 1
        return unknown() if theirs is None or not ours else one.times(Decimal(theirs) / Decimal(ours))

    def _known_input(self) -> int:
        return sum(one.input_tokens for one in self._sum.asked.values())

    def _input(self, extra: _Extra, calls: Figure) -> Figure:
        known = self._known_input()
        base = about(known, known) if known else NOTHING
        if calls.value is None or (extra.calls and extra.tokens is None):
            return base + unknown()
        if not extra.calls:
            return base
        sure: Sure = "at most" if "at most" in (extra.sure, extra.tokens_sure) else "about"
        return base + Figure(round(extra.calls * (extra.tokens or 0)), sure, 0)

    # -- how much comes out, and what it costs ---------------------------------------------------------------------

    def _taken(self, label: str) -> Taken | None:
        return self._ground.history.taken.get((self._step.id, label))

    def _average(self, label: str) -> tuple[Decimal | None, str]:
        """Tokens of an answer of that model to this step, by an earlier run or by the answers in the cache."""
        taken = self._taken(label)
        if taken is not None:
            return Decimal(taken.output_tokens), f"as in run {taken.run}"
        seen: Seen | None = self._sum.seen.get(label)
        if seen is not None and seen.answers:
            return Decimal(seen.output_tokens) / seen.answers, "as the answers that are there"
        return None, ""

    def _known_output(self, name: str, price: Price | None) -> tuple[Figure, str]:
        """Tokens that come back from the known calls to one model at one price."""
        one = self._sum.asked[name, price]
        average, by = self._average(self._labels[name])
        if average is not None:
            return about(round(average * one.calls)), by
        if one.unlimited:
            return unknown(), ""
        return at_most(one.output_limit), "by max_output_tokens"

    def _extra_output(self, name: str) -> tuple[Figure, str]:
        """Tokens of one expected answer of a model."""
        average, by = self._average(self._labels[name])
        if average is not None:
            return about(average), by
        limit = answer_limit(self._step, name, self._ground.pipeline)
        return (unknown(), "") if limit is None else (at_most(limit), "by max_output_tokens")

    def _output(self, extra: _Extra) -> tuple[Figure, str]:
        why: list[str] = []
        total = NOTHING
        for name, price in self._sum.asked:
            figure, by = self._known_output(name, price)
            total, why = total + figure, [*why, by]
        for name in self._step.models if extra.calls else ():
            figure, by = self._extra_output(name)
            total, why = total + figure.times(Decimal(extra.calls) / len(self._step.models)), [*why, by]
        if extra.sure == "unknown":
            total = total + unknown()
        return total.rounded(), ", ".join(dict.fromkeys(by for by in why if by))

    def _cost(self, extra: _Extra, calls: Figure) -> tuple[Figure, tuple[str, ...]]:
        """USD of the calls with a known price, and the models without one."""
        total = NOTHING
        unpriced: list[str] = []
        for (name, price), one in self._sum.asked.items():
            if price is None:
                unpriced.append(self._labels[name])
                continue
            total += _priced(price, about(one.input_tokens, one.input_tokens), self._known_output(name, price)[0])
        unsure = extra.calls or calls.value is None
        for name in self._step.models if unsure else ():
            price = price_at(self._ground.pipeline.models[name], round(extra.tokens or 0))
            if price is None:
                unpriced.append(self._labels[name])
                continue
            total += self._extra_cost(name, price, extra, calls)
        return total, tuple(dict.fromkeys(unpriced))

    def _extra_cost(self, name: str, price: Price, extra: _Extra, calls: Figure) -> Figure:
        if price.input == price.output == 0:
            return NOTHING
        if calls.value is None:
            return unknown()
        many = Decimal(extra.calls) / len(self._step.models)
        tokens = unknown() if extra.tokens is None else Figure(extra.tokens * many, extra.tokens_sure, 0)
        return _priced(price, tokens, self._extra_output(name)[0].times(many))


def _priced(price: Price, tokens_in: Figure, tokens_out: Figure) -> Figure:
    if price.input == price.output == 0:
        return NOTHING
    return tokens_in.times(price.input / MILLION) + tokens_out.times(price.output / MILLION)


def _called(step: Step, pipeline: Pipeline) -> str:
    if not step.models:
        return ""
    first = pipeline.models[step.models[0]]
    more = f" +{len(step.models) - 1}" if len(step.models) > 1 else ""
    return f"{first.name} ({first.label}){more}"


def _schema(step: Step, pipeline: Pipeline) -> str:
    """How the step's schema reaches its models: "sent natively to fast", "sent in the prompt to local"."""
    if step.schema is None or step.kind != "model":
        return ""
    words = {name: sent(step.schema.document, resolve(pipeline.models[name])) for name in step.models}
    said = [f"{_HOW[how.how]} to {name}" for name, how in words.items()]
    return ", ".join(said)
