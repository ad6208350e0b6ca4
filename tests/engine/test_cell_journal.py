"""What the journal of an item writes down of its attempts, and what is summed up of that: in memory and in the file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe.client.budget import Amount
from llmpipe.client.redact import Redactor
from llmpipe.client.rehearsal import Asking, Bounds
from llmpipe.engine.cell_journal import CellJournal, Stopping
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.spending import UNRESERVED, Spending, longest_input, overlong, spent, tried
from llmpipe.engine.sums import Asked, Held, Seen, StepSum
from llmpipe.engine.tally import Latencies, Tally
from llmpipe.types import Attempt, LLMResponse, Model, Price, Usage

KEY = "a1b2c3d4e5f6g7h8i9"
CENT = Decimal(10_000)  # a token, as a price of a million
FREE, PRICED, UNPRICED = "openai/free", "openai/cents", "openai/m"
MODELS = {
    FREE: Model(name="f", provider="openai", model="free", price=Price(input=Decimal(0), output=Decimal(0))),
    PRICED: Model(name="p", provider="openai", model="cents", price=Price(input=CENT, output=CENT)),
    UNPRICED: Model(name="u", provider="openai", model="m"),
}


def journal(ledger: Ledger, tally: Tally, item: int = 1, *, step: int = 3, recall: bool = False, **more: Any) -> Any:
    return CellJournal(
        ledger,
        step=step,
        item=item,
        invocation=7,
        stopping=more.pop("stopping", lambda: False),
        redactor=Redactor({"K": KEY}),
        tally=tally,
        recall=recall,
        **more,
    )


def attempt(number: int = 1, model: str = PRICED, outcome: str = "ok", **more: Any) -> Attempt:
    return Attempt(number=number, model=model, started_at=1.0, latency_s=0.5, outcome=outcome, **more)


def response(text: str = "fine", **more: Any) -> LLMResponse:
    return LLMResponse(text=text, model="m", provider="p", **more)


def with_ledger(folder: Path, act: Callable[[Ledger], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        ledger = Ledger(folder / "run.db")
        try:
            return await act(ledger)
        finally:
            ledger.close()

    return asyncio.run(main())


def test_an_attempt_is_in_the_file_before_it_is_sent_and_after_it_came_back(tmp_path: Path) -> None:
    def columns(names: str) -> str:
        return f"SELECT {names} FROM attempts"

    async def act(ledger: Ledger) -> None:
        one = journal(ledger, Tally(), 5, request=lambda: '{"q":1}')
        assert (one.in_flight, one.is_sent, one.is_waiting, one.rests_on, one.key) == (False, False, False, None, None)
        await one.intend(
            key="k", number=2, model=MODELS[PRICED], request_id="r", reserved=Amount(Decimal("0.25"), 40, 1)
        )
        assert (one.in_flight, one.is_sent) == (True, True)
        ids = "id, step, item, invocation, request_id, key, number, model, request"
        assert ledger.rows(columns(ids)) == [(1, 3, 5, 7, "r", "k", 2, PRICED, '{"q":1}')]
        assert ledger.rows(columns("reserved_usd, reserved_tokens, billed, outcome")) == [(0.25, 40, "maybe", None)]
        done = attempt(
            2,
            outcome="RateLimited",
            code="P429",
            status=429,
            error=f"no {KEY}",
            raw=f"raw {KEY}",
            wait_s=1.5,
            billed="yes",
            usage=Usage(4, 2, 1, None, 3),
            provider_request_id="id",
            masked=("K",),
        )
        await one.settle(key="k", attempt=done, response=None)
        assert (one.in_flight, one.is_sent) == (False, False)
        said = "outcome, code, status, error, latency_s, wait_s, billed, cost_usd, reply, raw, provider_request_id"
        assert ledger.rows(columns(said)) == [
            ("RateLimited", "P429", 429, "no [redacted]", 0.5, 1.5, "yes", 0.06, None, "raw [redacted]", "id")
        ]
        assert ledger.rows(columns("input_tokens, output_tokens, cached_tokens, reasoning_tokens")) == [(4, 2, 1, 3)]
        assert ledger.rows("SELECT what, step, id, variable FROM masked") == [("response", 3, 1, "K")]
        await one.settle(key="k", attempt=done, response=None)  # it has no second end
        assert ledger.value(columns("COUNT(*)")) == 1

    with_ledger(tmp_path, act)


def test_two_attempts_of_one_item_are_told_apart(tmp_path: Path) -> None:
    async def act(ledger: Ledger) -> None:
        one = journal(ledger, Tally())
        await one.intend(key="k", number=1, model=MODELS[PRICED], request_id="r")
        await one.intend(key="k", number=2, model=MODELS[FREE], request_id="r", reserved=Amount(None, 9))
        await one.settle(key="k", attempt=attempt(1), response=response(usage=Usage(1, 2)))
        assert (one.in_flight, one.is_sent) == (True, True)
        assert ledger.rows("SELECT outcome, billed, reserved_usd, reserved_tokens, cost_usd FROM attempts") == [
            ("ok", "no", None, None, 0.0),
            (None, "no", None, 9, None),
        ]

    with_ledger(tmp_path, act)


def test_who_waits_and_on_whom_an_item_rests(tmp_path: Path) -> None:
    async def act(ledger: Ledger) -> None:
        one = journal(ledger, Tally())
        with one.waiting():
            assert one.is_waiting
        with one.resting("an equal call"):
            assert one.rests_on == "an equal call"
        assert (one.is_waiting, one.rests_on) == (False, None)

    with_ledger(tmp_path, act)


def test_a_run_that_stops_sends_nothing_and_counts_nothing(tmp_path: Path) -> None:
    async def act(ledger: Ledger) -> None:
        tally = Tally()
        one = journal(ledger, tally, stopping=lambda: True)
        with pytest.raises(Stopping) as caught, one.waiting():
            pass
        assert caught.value.sent is False
        with pytest.raises(Stopping):
            await one.intend(key="k", number=1, model=MODELS[PRICED], request_id="r")
        assert (tally.calls, one.in_flight, ledger.value("SELECT COUNT(*) FROM attempts")) == (0, False, 0)

    with_ledger(tmp_path, act)


def test_answers_that_an_earlier_process_wrote_down_are_recalled(tmp_path: Path) -> None:
    async def act(ledger: Ledger) -> None:
        for item, step, key, outcome, text in (
            (1, 3, "a", "ok", "first"), (1, 3, "a", "ok", "last"), (1, 3, "b", "BadReply", "no"),
            (2, 3, "c", "ok", "another item's"), (1, 4, "d", "ok", "another step's"),
        ):  # fmt: skip
            one = journal(ledger, Tally(), item, step=step)
            await one.intend(key=key, number=1, model=MODELS[FREE], request_id="r")
            await one.settle(key=key, attempt=attempt(1, FREE, outcome), response=response(text))
        again = journal(ledger, Tally(), recall=True)
        found = {key: again.recall(key) for key in "abcd"}
        assert {key: answer and answer.text for key, answer in found.items()} == {
            "a": "last", "b": None, "c": None, "d": None,
        }  # fmt: skip
        assert again.key == "d"
        forgetful = journal(ledger, Tally())
        assert (forgetful.recall("a"), forgetful.key) == (None, "a")

    with_ledger(tmp_path, act)


COUNTED = ("calls", "input_tokens", "output_tokens", "unknown_usage", "cost_known_usd", "unpriced", "maybe_billed",
           "maybe_unpriced")  # fmt: skip
ZEROS = dict.fromkeys(COUNTED, 0)
CASES: list[tuple[Attempt, Usage | None, dict[str, Any]]] = [
    (attempt(billed="yes", usage=Usage(4, 2)), None, {"input_tokens": 4, "output_tokens": 2, "cost_known_usd": "0.06"}),
    (attempt(billed="yes"), Usage(4, 2), {"input_tokens": 4, "output_tokens": 2, "cost_known_usd": "0.06"}),
    (attempt(billed="yes", usage=Usage(1, 1)), Usage(4, 2), {"input_tokens": 1, "output_tokens": 1,
                                                             "cost_known_usd": "0.02"}),
    (attempt(billed="yes"), Usage(), {"unknown_usage": 1, "unpriced": 1}),
    (attempt(billed="yes"), Usage(4), {"unknown_usage": 1, "unpriced": 1, "input_tokens": 4}),
    (attempt(billed="yes"), Usage(None, 2), {"unknown_usage": 1, "unpriced": 1, "output_tokens": 2}),
    (attempt(billed="no"), Usage(4, 2), {"input_tokens": 4, "output_tokens": 2}),
    (attempt(billed="no", outcome="RateLimited"), None, {}),
    (attempt(billed="maybe", outcome="CallTimeout"), None, {"maybe_billed": 1, "maybe_unpriced": 1}),
    (attempt(billed="maybe", outcome="CallTimeout", usage=Usage(4, 2)), None,
     {"input_tokens": 4, "output_tokens": 2, "maybe_billed": 1, "cost_known_usd": "0.06"}),
    (attempt(model=FREE, billed="yes"), Usage(4, 2), {"input_tokens": 4, "output_tokens": 2}),
    (attempt(model=FREE, billed="maybe", outcome="CallTimeout"), None, {}),
    (attempt(model=UNPRICED, billed="yes"), Usage(4, 2), {"input_tokens": 4, "output_tokens": 2, "unpriced": 1}),
    (attempt(model=UNPRICED, billed="maybe", outcome="CallTimeout"), None, {"maybe_billed": 1, "maybe_unpriced": 1}),
    (attempt(model=UNPRICED, billed="no", outcome="RateLimited"), None, {}),
]  # fmt: skip


async def made(
    ledger: Ledger, tally: Tally, done: Attempt, usage: Usage | None, *, item: int = 1, step: int = 3
) -> None:
    one = journal(ledger, tally, item, step=step)
    await one.intend(key="k", number=1, model=MODELS[done.model], request_id="r", reserved=Amount(Decimal("0.5"), 50))
    await one.settle(key="k", attempt=done, response=None if usage is None else response(usage=usage))


@pytest.mark.parametrize(("done", "usage", "expected"), CASES)
def test_what_is_counted_of_an_attempt_in_memory_is_what_the_file_says(
    tmp_path: Path, done: Attempt, usage: Usage | None, expected: dict[str, Any]
) -> None:
    async def act(ledger: Ledger) -> None:
        tally = Tally()
        await made(ledger, tally, done, usage)
        found = Spending.of(ledger)
        whole = {"calls": 1, **expected, "cost_known_usd": Decimal(expected.get("cost_known_usd", 0))}
        for sums in (tally, found):
            assert {name: getattr(sums, name) for name in COUNTED} == ZEROS | whole
            unknown = "unpriced" in expected or "maybe_unpriced" in expected
            assert sums.cost_usd == (None if unknown else whole["cost_known_usd"])
        assert tally.latencies.quantile(1.0) == pytest.approx(0.5, rel=0.05)
        kept = done.model != FREE and done.billed != "no" and (found.unknown_usage or not found.input_tokens)
        assert (found.held_usd, found.held_tokens) == ((Decimal("0.5"), 50) if kept else (0, 0))
        tokens = 50 if kept else found.input_tokens + found.output_tokens
        assert spent(ledger) == (found.held_usd + (0 if kept else found.cost_known_usd), tokens, 1)

    with_ledger(tmp_path, act)


def test_sums_are_of_one_step_or_of_all(tmp_path: Path) -> None:
    async def act(ledger: Ledger) -> None:
        assert Spending.of(ledger) == Spending()
        assert (spent(ledger), longest_input(ledger), overlong(ledger), tried(ledger, 3)) == ((0, 0, 0), 0, {}, 0)
        tally = Tally()
        for done, usage, _ in CASES:
            await made(ledger, tally, done, usage)
        await made(ledger, Tally(), attempt(billed="yes"), Usage(30, 20), item=2, step=4)
        await made(ledger, Tally(), attempt(billed="yes"), Usage(31, 20), item=3, step=4)
        await made(ledger, Tally(), attempt(billed="yes"), Usage(1, 60), item=3, step=4)
        one = journal(ledger, Tally(), 4, step=5)
        await one.intend(key="k", number=1, model=MODELS[PRICED], request_id="r")  # of which nothing came back
        third, fourth, fifth = (Spending.of(ledger, step) for step in (3, 4, 5))
        again = Tally()
        again.begin_with(third)
        for sums in (third, again):
            assert {name: getattr(sums, name) for name in COUNTED} == {name: getattr(tally, name) for name in COUNTED}
        assert fourth == Spending(calls=3, input_tokens=62, output_tokens=100, cost_known_usd=Decimal("1.62"))
        assert fifth == Spending(calls=1, maybe_billed=1, maybe_unpriced=1)
        names = [f.name for f in fields(Spending)]
        summed = {name: sum(getattr(one, name) for one in (third, fourth, fifth)) for name in names}
        assert Spending.of(ledger) == Spending(**summed)
        assert spent(ledger, 4) == (Decimal("1.62"), 162, 3)
        assert (tried(ledger, 4), tried(ledger, 3), tried(ledger, 9)) == (2, 1, 0)
        assert (longest_input(ledger), overlong(ledger)) == (31, {PRICED: 60})
        ledger.put("UPDATE attempts SET reserved_tokens = 0 WHERE step = 4 AND item = 3")
        await ledger.commit()
        assert overlong(ledger) == {}
        ledger.put(UNRESERVED, (0.75, 9, 5))
        ledger.put(UNRESERVED, (0.75, 9, 3))  # all of it was reserved for
        await ledger.commit()
        assert spent(ledger, 5) == (Decimal("0.75"), 9, 1)
        assert Spending.of(ledger, 3) == third
        ledger.put("UPDATE attempts SET cost_usd = 0.1234567894, reserved_usd = 0.9876543214 WHERE step = 5")
        await ledger.commit()
        fine = Spending.of(ledger, 5)
        shown = [str(fine.cost_known_usd), str(fine.held_usd)]
        assert shown == ["0.123456789", "0.987654321"]  # to the billionth, as decimals

    with_ledger(tmp_path, act)


def test_what_is_said_of_a_steps_spending() -> None:
    sums = Spending(1, 2, 3, 4, Decimal(5), 0, 7, 0, Decimal(9), 10)
    assert sums.told() == {
        "calls": 1, "input_tokens": 2, "output_tokens": 3, "unknown_usage": 4, "cost_known_usd": 5, "unpriced": 0,
        "maybe_billed": 7, "cost_usd": 5,
    }  # fmt: skip


def test_latencies_are_told_within_five_percent() -> None:
    none, some = Latencies(), Latencies()
    assert none.quantile(0.5) is None
    for seconds in (0.1, 0.2, 0.2, 40.0):
        some.add(seconds)
    found = [some.quantile(share) for share in (0.01, 0.25, 0.26, 0.75, 0.76, 1.0)]
    assert found == pytest.approx([0.1, 0.1, 0.2, 0.2, 40.0, 40.0], rel=0.05)
    assert all(
        told is not None and told >= real for told, real in zip(found, (0.1, 0.1, 0.2, 0.2, 40, 40), strict=True)
    )
    none.add(0.0)
    assert none.quantile(0.5) == 0.0


def askings() -> Iterator[Asking]:
    known, unknown = Price(input=Decimal(1), output=Decimal(2)), None
    bounds = Bounds(10, Decimal("0.1"), 20, Decimal("0.2"))
    yield Asking("m", known, 5, 7, shared=False, repeated=False, bounds=bounds)
    yield Asking("m", known, 6, None, shared=False, repeated=True, bounds=Bounds(1, None, 30, None, "too long"))
    yield Asking("m", unknown, 1, 0, shared=False, repeated=False, bounds=Bounds(1, Decimal(1), 2, Decimal(3), "other"))
    yield Asking("n", known, 2, 3, shared=False, repeated=False, bounds=None)
    yield Asking("n", known, 9, 9, shared=True, repeated=True, bounds=bounds)


def test_sums_of_what_would_be_asked_and_what_is_there() -> None:
    sums = StepSum()
    numbers = ("cached", "recalled", "shared", "repeated", "code", "open", "ruled_out", "open_tokens", "calls")
    assert [getattr(sums, name) for name in numbers] == [0] * len(numbers)
    assert sums.held == Held(0, Decimal(0), 0, Decimal(0), 0, Decimal(0), "")
    assert (Asked(), Seen()) == (Asked(0, 0, 0, 0), Seen(0, 0, 0))
    for asking in askings():
        sums.ask(asking)
    known = Price(input=Decimal(1), output=Decimal(2))
    assert sums.asked == {
        ("m", known): Asked(2, 11, 7, 1),
        ("m", None): Asked(1, 1, 0, 0),
        ("n", known): Asked(1, 2, 3),
    }
    assert (sums.calls, sums.shared, sums.repeated) == (4, 1, 1)
    assert sums.held == Held(12, Decimal("1.1"), 52, Decimal("3.2"), 30, Decimal(3), "too long")
    for usage, more in (
        (Usage(4, 2), {}), (Usage(40, 20), {"cached": True}), (Usage(4), {}), (Usage(None, 2), {"cached": True}),
        (Usage(9, 9), {"reasks": 1}),
    ):  # fmt: skip
        sums.see(response(usage=usage, answered_by="p/m", **more))
    assert sums.seen == {"p/m": Seen(2, 44, 22)}
    assert (sums.cached, sums.recalled) == (2, 3)
