"""What stands under a run when it has ended."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.results import Cause, RunReport, StepCounts
from llmpipe.report.figures import columns_of
from llmpipe.report.summary import Look, after, cron

RUN = "20261110-031500-7f3a"
FOLDER = Path("/p/output/reviews") / RUN


def step(id: str, **counts: Any) -> StepCounts:
    return StepCounts(id, counts.pop("kind", "model"), counts.pop("model", "openai/gpt-5-mini"), **counts)


EXTRACT = step(
    "extract", items=5000, succeeded=4996, failed=4, cached=1142, calls=3860, retries=37, input_tokens=1_400_000,
    output_tokens=300_000, cost_known_usd=Decimal("1.21"), cost_usd=Decimal("1.21"), p50_s=0.8, p95_s=2.1, done=True,
)  # fmt: skip
RATE = step(
    "rate", items=5000, succeeded=4987, failed=9, skipped=4, calls=5000, reasks=12, input_tokens=1_200_000,
    output_tokens=200_000, cost_known_usd=Decimal("0.98"), cost_usd=Decimal("0.98"), p50_s=0.6, p95_s=1.4, done=True,
)  # fmt: skip
GOOD = step("rate", items=40, succeeded=40, calls=40, input_tokens=1200, output_tokens=450, cost_usd=Decimal("0.0012"))
CAUSES = (
    Cause("extract", "P431", "CallTimeout", "the call timed out", 3, "row 9", "the attempt clock ran out after 120 s"),
    Cause("rate", "O503", "SchemaMismatch", "the answer does not fit the schema", 9, "2311", "$.score 7 > maximum 5"),
    Cause("extract", "P440", "Refused", "the model refused to answer", 1, "77", "I cannot help with that"),
)


def report(**changes: Any) -> RunReport:
    given: dict[str, Any] = {
        "pipeline": "reviews",
        "pipeline_path": Path("/p/pipelines/reviews.yaml"),
        "run_id": RUN,
        "folder": FOLDER,
        "status": "complete",
        "exit_code": 0,
        "reason": "",
        "duration_s": 291.0,
        "steps": (GOOD,),
    }
    return RunReport(**{**given, **changes})


FAILED = report(
    status="failed",
    exit_code=1,
    reason="step rate: 9 of 4,996 items failed",
    steps=(EXTRACT, RATE),
    causes=CAUSES,
    next_command="llmpipe run pipelines/reviews.yaml --retry-failed 7f3a",
    previous="complete on 2026-11-09 with 4,991 items",
)


def test_a_success_is_four_lines() -> None:
    assert after(report()) == [
        "reviews.yaml  complete in 4m 51s                        run " + RUN,
        "steps      rate 40 ok",
        "calls      40, tokens 1.2k in 450 out, $0.0012",
        f"output     {FOLDER}/steps",
    ]


def test_a_success_with_many_steps_is_four_lines_too() -> None:
    steps = tuple(step(f"step_number_{n}", items=40, succeeded=30, skipped=10, calls=30) for n in range(9))
    lines = after(report(steps=steps))
    assert len(lines) == 4
    assert lines[1] == "steps      9 steps, 360 items: 270 ok, 0 failed, 90 skipped"


def test_echo_is_named_as_no_model_and_costs_nothing() -> None:
    lines = after(report(no_model_called=True))
    assert lines[2] == "calls      40 to echo: no model was called, nothing was paid"
    assert "$" not in "\n".join(lines)


def test_what_is_unpriced_is_never_shown_as_free() -> None:
    unpriced = step("rate", items=4, succeeded=4, calls=4, unpriced=4, cost_usd=None)
    lines = after(report(steps=(unpriced,)))
    assert lines[2] == "calls      4, tokens 0 in 0 out, cost unknown (4 calls without a price)"
    partly = replace(unpriced, id="more", cost_known_usd=Decimal("1.20"), maybe_billed=7, unknown_usage=1)
    found = report(status="failed", exit_code=1, steps=(unpriced, partly), maybe_billed=7)
    expected = (
        "at least $1.20 (7 calls without a price, 1 call without a price or usage, 7 calls that may have been billed)"
    )
    assert any(expected in line for line in cron(found))
    table = after(found, Look(width=120))
    assert [line.split("  ")[-1].strip() for line in table if re.match("(step|rate|more) ", line)] == [
        "cost", "unknown", "at least $1.20"
    ]  # fmt: skip
    assert "$0" not in "\n".join([*table, *cron(found)])


def test_published_files_are_named() -> None:
    files = tuple(Path(f"/p/output/{n}.csv") for n in range(5))
    assert after(report(published=files))[-1] == (
        "output     /p/output/0.csv, /p/output/1.csv, /p/output/2.csv and 2 more"
    )


def test_a_failure_shows_the_table_the_causes_and_what_to_do() -> None:
    assert after(FAILED) == [
        "reviews.yaml  partly failed after 4m 51s                run " + RUN,
        "reason     step rate: 9 of 4,996 items failed",
        "step     items     ok  cached  failed  skipped   p50   p95  tokens in/out   cost",
        "extract  5,000  4,996   1,142       4        0  0.8s  2.1s    1.4M / 300k  $1.21",
        "rate     5,000  4,987       0       9        4  0.6s  1.4s    1.2M / 200k  $0.98",
        "calls      8,860, 37 retried, 12 re-asked, $2.19",
        "failures   9 x O503 the answer does not fit the schema (rate)",
        "             2311: $.score 7 > maximum 5",
        "           3 x P431 the call timed out (extract)",
        "             row 9: the attempt clock ran out after 120 s",
        "           1 x P440 the model refused to answer (extract)",
        "             77: I cannot help with that",
        f"look       llmpipe show {RUN} rate 2311",
        f"output     {FOLDER}/steps",
        "next       llmpipe run pipelines/reviews.yaml --retry-failed 7f3a",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_keeps_to_the_width(width: int) -> None:
    lines = after(FAILED, Look(width=width))
    table = [line for line in lines if re.match(r"(step|extract|rate) ", line)]
    assert len(table) == 3
    assert all(columns_of(line) <= width for line in table)
    assert "failed" in table[0]
    assert "ok" in table[0]


def test_unsent_items_are_counted() -> None:
    stopped = report(
        status="stopped", exit_code=6, reason="the budget of $1 is used up",
        steps=(step("rate", items=100, succeeded=60, unsent=40, calls=60),),
    )  # fmt: skip
    table = after(stopped)[2:4]
    assert table[0].split()[:5] == ["step", "items", "ok", "failed", "unsent"]
    assert table[1].split()[:5] == ["rate", "100", "60", "0", "40"]
    assert "100 items: 60 ok, 0 failed, 40 unsent" in "\n".join(cron(stopped))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"maybe_billed": 1}, "billing    1 attempt may have been billed: the outcome is not known"),
        (
            {"maybe_billed": 7, "held_usd": Decimal("0.1715"), "held_tokens": 900},
            "billing    $0.17 more is reserved for 7 attempts that may have been billed",
        ),
        (
            {"maybe_billed": 7, "held_tokens": 9000},
            "billing    9,000 tokens more are reserved for 7 attempts that may have been billed",
        ),
        (
            {"steps": (replace(GOOD, unknown_usage=2),), "held_usd": Decimal("0.5")},
            "billing    $0.50 more is reserved for 2 responses without usage",
        ),
        (
            {"steps": (replace(GOOD, unknown_usage=2),), "maybe_billed": 1, "held_usd": Decimal("0.5")},
            "billing    $0.50 more is reserved for 1 attempt that may have been billed and 2 responses without usage",
        ),
    ],
)
def test_what_may_have_been_billed_is_said_also_after_a_success(more: dict[str, Any], line: str) -> None:
    assert line in after(report(**more), Look(width=120))
    assert line in cron(report(**more | {"status": "failed", "exit_code": 1}))


def test_rows_and_replies_cannot_steer_the_terminal() -> None:
    cause = Cause("rate", "O503", "SchemaMismatch", "bad\x1b[2J", 1, "k\x1b]0;x\x07", "seen\u202e \x9b31m\nsecond line")
    text = "\n".join(after(report(status="failed", exit_code=1, causes=(cause,), reason="re\x1bason")))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "seen 31m second line" in text


def test_colours_only_where_they_are_asked_for() -> None:
    assert "\x1b[32mcomplete\x1b[0m" in after(report(), Look(colour=True))[0]
    assert not any("\x1b" in line for line in after(report()))


def test_cron_hears_nothing_of_a_success() -> None:
    assert cron(report()) == []


def test_cron_hears_one_line_of_a_partial_success() -> None:
    (line,) = cron(report(status="partial", partial=True, steps=(EXTRACT, RATE), causes=CAUSES))
    assert "10,000 items: 9,983 ok, 13 failed, 4 skipped" in line
    assert "9 x O503" in line
    assert str(FOLDER / "failures") in line


@pytest.mark.parametrize("kinds", [0, 1, 3, 40])
@pytest.mark.parametrize("steps", [0, 1, 3, 40])
def test_crons_mail_has_at_most_thirty_lines(kinds: int, steps: int) -> None:
    bad = report(
        status="failed",
        exit_code=1,
        reason="too much failed",
        steps=tuple(step(f"s{n}", items=10, succeeded=1, failed=9, calls=10) for n in range(steps)),
        causes=tuple(Cause("s0", f"P{400 + n}", "X", "went wrong", n + 1, f"k{n}", "because") for n in range(kinds)),
        previous="complete on 2026-11-09",
        next_command="llmpipe run x.yaml --resume",
        maybe_billed=2,
    )
    lines = cron(bad)
    assert len(lines) <= 30
    text = "\n".join(lines)
    for wanted in ("exit code 1", RUN, "too much failed", "previous   complete on 2026-11-09", str(FOLDER), "--resume"):
        assert wanted in text
    assert "\x1b" not in text
    if kinds:
        assert f"{kinds} x P{399 + kinds} went wrong (s0)" in text
        assert f"k{kinds - 1}: because" in text
    if kinds == 40:
        assert "other kinds" in text
