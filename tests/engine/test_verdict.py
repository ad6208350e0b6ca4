"""The sum of a run as its ledger has it: counts, causes, what does not add up and what is left over."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config.pipeline import Dataset, Pipeline
from llmpipe.config.rows_source import FileRead, Reading
from llmpipe.engine.carry import begin_with
from llmpipe.engine.items import Cell, Item
from llmpipe.engine.known import Known
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_schema import TABLES
from llmpipe.engine.results import Cause, StepCounts
from llmpipe.engine.sequence import is_newest, next_number, number_in
from llmpipe.engine.tally import Tally
from llmpipe.engine.unchanged import Head, began_with, is_still_head, is_unchanged, note_read, noted_head
from llmpipe.engine.verdict import causes, count_step, disagreements, left_over, live_counts, model_label
from llmpipe.errors import Place
from tests.engine.conftest import Project

TEXT = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
models:
  m: {provider: echo, model: one}
  n: {provider: echo, model: two}
defaults: {model: m}
steps:
  - {id: plain, foreach: datasets.d, prompt: "{{ item.id }}"}
  - {id: shaped, foreach: datasets.d, prompt: "{{ item.id }}", schema: {type: object}}
  - {id: checked, foreach: datasets.d, prompt: "{{ item.id }}", check: output | length < 9}
  - {id: filled, foreach: datasets.d, render: "{{ item.id }}"}
  - {id: both, foreach: datasets.d, model: [m, n], prompt: "{{ item.id }}"}
"""


@pytest.fixture
def pipeline(project: Project) -> Pipeline:
    project.rows("d.jsonl", [{"id": "r1"}])
    return project.load(TEXT)


def ledger_of(path: Path, *rows: tuple[str, dict[str, Any]]) -> Path:
    """A ledger with these rows."""
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.executescript(TABLES)
        for table, row in [("meta", {"name": "version", "value": "2"}), *rows]:
            marks = ", ".join("?" * len(row))
            ledger.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", [*row.values()])
    return path


def item(id: int, *, scope: int = 2, live: int = 1) -> tuple[str, dict[str, Any]]:
    return "items", {"id": id, "scope": scope, "key": f"k{id}", "ord": f"{99 - id}", "data": "{}", "digest": b"",
                     "live": live}  # fmt: skip


def result(item: int, status: str, *, step: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    row = {"step": step, "item": item, "status": status, "digest": b"", "finished_at": 1.0, "invocation": 7}
    return "results", row | more


ROWS = [
    *(item(id) for id in range(1, 11)), item(11, live=0), item(12, scope=3),
    result(1, "succeeded", cached=1),
    result(2, "succeeded", reasks=2, retries=3, fallbacks=1, invocation=6, notes='["coerced:$.a"]'),
    result(3, "succeeded", notes='["repaired", "schema_in_prompt"]'),
    result(4, "failed", code="O501", error_type="SchemaViolation", error="no", retries=1),
    result(5, "failed", code="P411", error_type="ServerFault", error="down", invocation=6),
    result(6, "failed", code="P411", error_type="ServerFault", error="up"),
    result(7, "skipped", invocation=6),
    result(8, "succeeded", reasks=1),
    result(11, "failed", code="P411", error_type="ServerFault", error="gone"),
    result(9, "failed", step=2, code="D310", error_type="ItemError"),
    result(10, "failed", step=2),
]  # fmt: skip


def counted(path: Path, pipeline: Pipeline, id: str, tally: Tally | None = None) -> StepCounts:
    with LedgerReader(path) as reader:
        return count_step(reader, pipeline, id, numbers=(1, 2), tally=tally or Tally(), invocation=7)


def test_what_is_counted_of_a_step(tmp_path: Path, pipeline: Pipeline) -> None:
    tally = Tally(done=True)
    for _ in range(20):
        tally.latencies.add(1.0)
    tally.latencies.add(30.0)
    found = counted(ledger_of(tmp_path / "run.db", *ROWS), pipeline, "shaped", tally)
    assert found == StepCounts(
        id="shaped", kind="model", model="echo/one", items=10, succeeded=4, failed=3, skipped=1, unsent=2, carried=2,
        cached=1, retries=4, reasks=3, validated=5, first_try=1, mended=2, schema_in_prompt=1, fallbacks=1,
        p50_s=found.p50_s, p95_s=found.p95_s, done=True,
    )  # fmt: skip
    assert found.p50_s == pytest.approx(1.0, rel=0.06)
    assert found.p95_s == pytest.approx(1.0, rel=0.06)
    assert found.holds


@pytest.mark.parametrize(
    ("id", "is_validated"), [("plain", False), ("shaped", True), ("checked", True), ("filled", False), ("both", False)]
)
def test_answers_are_validated_where_there_is_a_schema_or_a_check(
    tmp_path: Path, pipeline: Pipeline, id: str, is_validated: bool
) -> None:
    path = ledger_of(tmp_path / "run.db", *ROWS)
    found = counted(path, pipeline, id)
    assert (found.validated, found.first_try, found.mended, found.schema_in_prompt) == (
        (5, 1, 2, 1) if is_validated else (0, 0, 0, 0)
    )
    empty = counted(ledger_of(tmp_path / "empty.db"), pipeline, id)
    assert (empty.succeeded, empty.failed, empty.skipped, empty.unsent) == (0,) * 4
    assert (empty.items, empty.validated, empty.first_try, empty.mended, empty.schema_in_prompt) == (0,) * 5


def test_the_model_of_a_step_by_its_label(pipeline: Pipeline) -> None:
    found = {step.id: model_label(pipeline, step.id) for step in pipeline.steps}
    assert found == {
        "plain": "echo/one", "shaped": "echo/one", "checked": "echo/one", "filled": "", "both": "echo/one +1",
    }  # fmt: skip


def test_causes_come_with_their_first_item_the_most_frequent_first(tmp_path: Path) -> None:
    with LedgerReader(ledger_of(tmp_path / "run.db", *ROWS)) as reader:
        found = causes(reader, {"shaped": 1, "other": 2, "none": 3})
    assert found == (
        Cause("shaped", "P411", "ServerFault", found[0].title, 2, "k6", "up"),
        Cause("shaped", "O501", "SchemaViolation", found[1].title, 1, "k4", "no"),
        Cause("other", "", "", "", 1, "k10", ""),
        Cause("other", "D310", "ItemError", "an item lacks what a template needs", 1, "k9", ""),
    )
    assert "" not in (found[0].title, found[1].title)


def test_the_counts_of_a_step_while_it_runs(pipeline: Pipeline) -> None:
    tally = Tally(
        status=Counter(succeeded=3, failed=2, skipped=1), known_items=8, carried=1, cached=2, calls=9, retries=4,
        reasks=5, fallbacks=6, input_tokens=70, output_tokens=80, unknown_usage=1, cost_known_usd=Decimal("0.5"),
        maybe_billed=2,
    )  # fmt: skip
    found = live_counts(pipeline, "both", tally, waiting_for="plain")
    assert found == StepCounts(
        id="both", kind="model", model="echo/one +1", items=8, succeeded=3, failed=2, skipped=1, unsent=2, carried=1,
        cached=2, calls=9, retries=4, reasks=5, fallbacks=6, input_tokens=70, output_tokens=80, unknown_usage=1,
        cost_usd=Decimal("0.5"), cost_known_usd=Decimal("0.5"), maybe_billed=2, waiting_for="plain",
    )  # fmt: skip
    tally.expected_items, tally.unpriced = 12, 1
    more = live_counts(pipeline, "both", tally, waiting_for="")
    assert (more.items, more.unsent, more.cost_usd, more.unpriced) == (12, 6, None, 1)
    tally.expected_items = tally.known_items = 0
    assert (live_counts(pipeline, "both", tally, waiting_for="").items, more.done) == (6, False)


def test_running_counts_begin_at_nothing_and_follow_the_cells() -> None:
    begun = {f.name: getattr(Tally(), f.name) for f in fields(Tally)}
    assert begun.pop("latencies").quantile(1.0) is begun.pop("first_failure") is None
    assert (begun.pop("done"), begun.pop("status")) == (False, Counter())
    assert len(begun) == 16
    assert set(begun.values()) == {0}
    tally = Tally(carried=5, failing=1)
    tally.change(None, Cell("succeeded"))
    tally.change(Cell("failed"), Cell("failed"))
    assert (tally.status["succeeded"], tally.status["failed"], tally.carried, tally.failures()) == (1, 0, 4, 1)
    tally.forget(Cell("succeeded"))
    tally.lose("skipped", 2)
    assert (tally.status["succeeded"], tally.status["skipped"], tally.carried) == (0, -2, 1)


GOOD = {"items": 6, "succeeded": 3, "failed": 2, "skipped": 1}


@pytest.mark.parametrize(
    ("counts", "lines", "stopped", "wrong"),
    [
        (GOOD, 3, False, []),
        (GOOD, None, False, []),
        (GOOD, 2, False, ["s: 2 results were written, 3 succeeded"]),
        (GOOD | {"items": 7}, 3, False, ["s: 7 items are not the sum of their ends"]),
        (GOOD | {"items": 7, "unsent": 1}, 3, True, []),
        (
            GOOD | {"items": 7, "unsent": 1},
            3,
            False,
            ["s: 1 of 7 items have no end although the run was not stopped"],
        ),
        (GOOD | {"items": 7, "failed": 3}, 3, False, ["s: 2 failed were counted, the ledger has 3"]),
        (GOOD | {"items": 7, "skipped": 2}, 3, False, ["s: 1 skipped were counted, the ledger has 2"]),
        (GOOD | {"items": 5, "succeeded": 2}, 2, False, ["s: 3 succeeded were counted, the ledger has 2"]),
    ],
)
def test_what_does_not_add_up(counts: dict[str, int], lines: int | None, stopped: bool, wrong: list[str]) -> None:
    tally = Tally(status=Counter(succeeded=3, failed=2, skipped=1))
    found = StepCounts(id="s", kind="model", model="", **counts)  # type: ignore[arg-type]
    assert disagreements(found, tally, lines=lines, stopped=stopped) == wrong


def attempt(id: int, item: int, step: int = 1) -> tuple[str, dict[str, Any]]:
    row = {"id": id, "step": step, "item": item, "invocation": 1, "request_id": "", "key": "", "number": 1,
           "model": "", "started_at": 1.0}  # fmt: skip
    return "attempts", row


@pytest.mark.parametrize(
    ("unsent", "attempts", "said"),
    [
        (0, (), ""),
        (1, (), "; 1 item was not sent"),
        (2, (), "; 2 items were not sent"),
        (2, (attempt(1, 9), attempt(2, 9)), "; 1 item was not sent; 1 item got no answer"),
        (2, (attempt(1, 9), attempt(2, 10)), "; 2 items got no answer"),
        (1, (attempt(1, 9), attempt(2, 10)), "; 2 items got no answer"),
        (3, (attempt(1, 1), attempt(2, 11)), "; 3 items were not sent"),  # one has its end, the other is gone
        (3, (attempt(1, 1, 9),), "; 2 items were not sent; 1 item got no answer"),
    ],
)
def test_what_is_left_over(tmp_path: Path, unsent: int, attempts: tuple[Any, ...], said: str) -> None:
    steps = (StepCounts("s", "model", "", unsent=unsent), StepCounts("t", "model", ""))
    rows = [row for row in ROWS if row[1].get("step") != 2]
    with LedgerReader(ledger_of(tmp_path / "run.db", *rows, *attempts)) as reader:
        assert left_over(steps, reader) == said


def test_results_that_are_known_of_an_item(tmp_path: Path) -> None:
    rows = (
        ("steps", {"id": 1, "name": "s", "scope": 2, "kind": "model", "model": ""}),
        ("steps", {"id": 2, "name": "t", "scope": 2, "kind": "model", "model": ""}),
        item(1),
        result(1, "succeeded", output='{"a": 1}', reason="r"),
        result(1, "failed", step=2, code="c", error="e", permanent=1),
        result(1, "failed", step=3),
        result(2, "failed"),
    )
    ledger = Ledger(ledger_of(tmp_path / "run.db", *rows))
    known = Known(ledger, {"s": 1, "t": 2})
    one = Item(1, "d", "k1", "1", {})
    assert known.cells(one) == {
        "s": Cell("succeeded", b"", {"a": 1}, "r"), "t": Cell("failed", b"", None, "", "c", "e", permanent=True),
    }  # fmt: skip
    assert Known(ledger, {"t": 2}).cells(Item(1, "d", "k1", "1", {})).keys() == {"t"}
    ledger.close()
    assert known.cells(one).keys() == {"s", "t"}  # read once


def test_what_a_ledger_says_of_a_datasets_file(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"1\n2\n")
    dataset = Dataset("d", (path,), "jsonl", "id", Place("p"))

    def read(size: int, *, ends_line: bool, marked: bytes | None = None) -> Reading:
        digest = hashlib.sha256(path.read_bytes()[:size]).digest()
        return Reading(files=[FileRead(path, size, digest, marked, ends_line)])

    ledger = Ledger(ledger_of(tmp_path / "run.db"))
    assert (is_unchanged(ledger, dataset), noted_head(ledger, dataset)) == (False, Head())
    ledger.close()
    for name, reading, head_rows in (
        ("whole.db", read(4, ends_line=True), 2), ("cut.db", read(4, ends_line=False), 0),
    ):  # fmt: skip
        ledger = Ledger(ledger_of(tmp_path / name))
        note_read(ledger, dataset, reading, 2)
        ledger.close()
        with LedgerReader(tmp_path / name) as reader:
            assert is_unchanged(reader, dataset)
            head = noted_head(reader, dataset)
            assert (head.rows, head.size, bool(head.digest)) == (head_rows, 4 if head_rows else 0, bool(head_rows))
            assert is_still_head(head, dataset) is bool(head_rows)
            keyed = Dataset("d", (path,), "jsonl", "other", Place("p"))
            assert (is_unchanged(reader, keyed), is_still_head(head, keyed)) == (False, False)
            elsewhere = Dataset("e", (path,), "jsonl", "id", Place("q"))
            assert is_unchanged(reader, elsewhere) is False  # it has no rows in the ledger
            assert is_still_head(head, elsewhere) is bool(head_rows)
            if head_rows:
                found = read(4, ends_line=True).files[0].sha256
                assert began_with(read(4, ends_line=True, marked=found), head, dataset)
            assert not began_with(read(4, ends_line=True, marked=b"x"), head, dataset)
            assert not began_with(read(4, ends_line=True), head, dataset)
            path.write_bytes(b"1\n2\n3\n")
            assert (is_unchanged(reader, dataset), is_still_head(head, dataset)) == (False, bool(head_rows))
            path.write_bytes(b"1\n3\n")
            assert (is_unchanged(reader, dataset), is_still_head(head, dataset)) == (False, False)
            path.write_bytes(b"1\n2")
            assert (is_unchanged(reader, dataset), is_still_head(head, dataset)) == (False, False)
            path.unlink()
            assert (is_unchanged(reader, dataset), is_still_head(head, dataset)) == (False, False)
            path.write_bytes(b"1\n2\n")


@pytest.mark.parametrize(
    ("format", "names", "has_head"),
    [
        ("jsonl", ("a",), True), ("csv", ("a",), True), ("tsv", ("a",), True), ("lines", ("a",), True),
        ("json", ("a",), False), ("files", ("a",), False), ("jsonl", ("a", "b"), False), ("jsonl", ("a.gz",), False),
    ],
)  # fmt: skip
def test_rows_may_be_added_to_one_plain_file_of_lines(
    tmp_path: Path, format: Any, names: tuple[str, ...], has_head: bool
) -> None:
    paths = tuple(tmp_path / name for name in names)
    dataset = Dataset("d", paths, format, "id", Place("p"), root=tmp_path)
    ledger = Ledger(ledger_of(tmp_path / "run.db"))
    note_read(ledger, dataset, Reading(files=[FileRead(path, 4, b"x", None, True) for path in paths]), 2)
    ledger.close()
    with LedgerReader(tmp_path / "run.db") as reader:
        assert (noted_head(reader, dataset) == Head()) is not has_head


def test_the_number_of_a_run(tmp_path: Path) -> None:
    for name, number in (("p/a", "7"), ("p/b", "12"), ("q/c", '"99"'), ("q/d", "true"), ("q/e", "null")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(f'{{"number": {number}}}')
    (tmp_path / "q" / "e" / "run.json").write_text("{")
    assert next_number(tmp_path) == 13
    assert (tmp_path / ".sequence").read_text() == "13\n"
    assert (tmp_path / ".sequence").stat().st_mode & 0o777 == 0o600
    (tmp_path / ".sequence").write_text("99999 \n")
    assert [next_number(tmp_path), next_number(tmp_path)] == [100_000, 100_001]
    (tmp_path / ".sequence").write_text("5")
    assert next_number(tmp_path) == 6
    (tmp_path / ".sequence").write_text("9x and more")
    assert next_number(tmp_path) == 13
    assert (tmp_path / ".sequence").read_text() == "13\n"
    assert [number_in({"number": given}) for given in (3, True, "3", None)] == [3, 0, 0, 0]
    run = tmp_path / "p" / "a"
    assert is_newest(run, 0)
    (tmp_path / "p" / "latest").symlink_to("b")
    assert [is_newest(run, number) for number in (11, 12, 13)] == [False, True, True]
    assert next_number(tmp_path / "q") == 1


def test_a_run_that_begins_with_another_ones_results_has_neither_its_calls_nor_what_is_redone(tmp_path: Path) -> None:
    source, folder = tmp_path / "old", tmp_path / "new"
    for name in ("s/a.json", "t/b.json"):
        (source / "failures" / name).parent.mkdir(parents=True)
        (source / "failures" / name).write_text("{}")
    steps = [
        ("steps", {"id": id, "name": name, "scope": 2, "kind": "", "model": ""}) for id, name in ((1, "s"), (2, "t"))
    ]
    masked = [("masked", {"what": what, "step": 1, "id": 1, "variable": "K"}) for what in ("response", "row", "result")]
    more = [attempt(1, 1), ("invocations", {"id": 7, "started_at": 1.0})]
    ledger_of(source / "run.db", *steps, *masked, *more, *ROWS)
    before = (source / "run.db").read_bytes()
    begin_with(source, folder, {"t"})
    assert (source / "run.db").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["failures", "run.db"]
    assert sorted(p.name for p in (folder / "failures").rglob("*")) == ["a.json", "s"]
    with LedgerReader(folder / "run.db") as reader:
        assert [reader.value(f"SELECT COUNT(*) FROM {table}") for table in ("attempts", "invocations", "items")] == [
            0,
            0,
            12,
        ]
        assert reader.rows("SELECT what FROM masked ORDER BY what") == [("result",), ("row",)]
        assert reader.rows("SELECT DISTINCT step, carried, invocation FROM results") == [(1, 1, 0)]
        assert reader.value("SELECT COUNT(*) FROM results") == len([r for r in ROWS if r[1].get("step") == 1])
    (tmp_path / "bare").mkdir()
    ledger_of(tmp_path / "bare" / "run.db", *steps, *ROWS)
    begin_with(tmp_path / "bare", tmp_path / "other", ())
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["run.db"]
    with LedgerReader(tmp_path / "other" / "run.db") as reader:
        assert reader.rows("SELECT DISTINCT step FROM results ORDER BY 1") == [(1,), (2,)]
