"""A run that stops before its end keeps every response that has arrived, and says of the rest that it was not sent."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from llmpipe.engine.results import RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project

HEAD = """
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models:
  m:
    provider: openai_compatible
    base_url: "{url}"
    model: t
    params: {{max_output_tokens: 20}}
    price: {{input: 1, output: 1}}
    limits: {{concurrency: {concurrency}}}
  other: {{provider: openai_compatible, base_url: "{url}", model: u, params: {{max_output_tokens: 20}},
           price: {{input: 1, output: 1}}, limits: {{concurrency: {concurrency}}}}}
defaults: {{model: m, cache: {{read: false, write: false}}}}
{more}
"""
ONE = 'steps: [{id: a, foreach: datasets.d, prompt: "{{ item.id }}", schema: {a: string}}]'
TWO = """
steps:
  - {id: a, foreach: datasets.d, prompt: "{{ item.id }}", schema: {a: string}}
  - {id: b, foreach: datasets.d, prompt: "b {{ steps.a.a }}", schema: {a: string}}
"""
GROUPS = """
steps:
  - {id: a, foreach: datasets.d, prompt: "{{ item.id }}", schema: {a: string}}
  - id: g
    foreach: {group: steps.a, by: "output.a[-1]", size: 2}
    prompt: "g {{ item.key }} {% for r in item.rows %}{{ r.key }} {% endfor %}"
    schema: {a: string}
"""


def run(
    project: Project, server: Answers, more: str, *, rows: int = 100, concurrency: int = 64, **options: Any
) -> RunReport:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(rows)])
    return project.run(HEAD.format(url=server.url, concurrency=concurrency, more=more), **options)


def kept(report: RunReport) -> dict[str, tuple[int, int]]:
    """step → (items with a response, items with a result), as the ledger has it."""
    sql = (
        "SELECT steps.name, (SELECT COUNT(DISTINCT item) FROM attempts WHERE step = steps.id AND outcome = 'ok'),"
        " (SELECT COUNT(*) FROM results WHERE step = steps.id AND status = 'succeeded') FROM steps"
    )
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger:
        return {name: (responses, results) for name, responses, results in ledger.execute(sql)}


def whole(project: Project, report: RunReport, server: Answers, *, rows: int = 100) -> RunReport:
    """The run continued without a budget: everything has a result, and no prompt was sent twice."""
    text = (project.root / "pipelines" / "x.yaml").read_text()
    text = re.sub(r"budget: .*", "", text)
    text = re.sub(r"max_failures: .*", "", text)
    again = project.run(text, resume="last")
    assert (again.exit_code, again.run_id) == (0, report.run_id), again.reason
    assert [s.unsent for s in again.steps] == [0] * len(again.steps)
    assert set(server.asked.values()) == {1}
    return again


@pytest.mark.parametrize(("concurrency", "delay_s"), [(1, 0.0), (7, 0.05), (33, 0.0), (64, 0.05)])
def test_a_budget_of_calls_gives_as_many_results(project: Project, concurrency: int, delay_s: float) -> None:
    with Answers(lambda p: {"a": p}, delay_s=delay_s) as server:
        report = run(project, server, f"budget: {{calls: 64}}\n{ONE}", concurrency=concurrency)
        (step,) = report.steps
        assert (report.exit_code, report.status) == (6, "stopped")
        assert (step.succeeded, step.failed, step.unsent, step.calls) == (64, 0, 36, 64), report.causes
        assert len(project.results(report, "a")) == server.total == 64
        whole(project, report, server)
        assert server.total == 100


@pytest.mark.parametrize(
    ("budget", "steps", "concurrency"),
    [
        ("calls: 60", TWO, 64),
        ("calls: 60", TWO, 3),
        ("calls: 110", GROUPS, 64),
        ("usd: 0.0012", ONE, 64),
        ("usd: 0.0012", GROUPS, 3),
        ("tokens: 1200", TWO, 64),
    ],
)
def test_every_response_of_a_stopped_run_is_a_result(
    project: Project, budget: str, steps: str, concurrency: int
) -> None:
    with Answers(lambda p: {"a": p}, delay_s=0.02) as server:
        report = run(project, server, f"budget: {{{budget}}}\n{steps}", concurrency=concurrency)
        assert report.exit_code == 6, report.reason
        assert sum(responses for responses, _ in kept(report).values()) == server.total > 3
        assert all(responses == results for responses, results in kept(report).values())
        assert all(s.holds and s.failed == s.skipped == 0 for s in report.steps)
        whole(project, report, server)


def test_equal_requests_share_the_last_response_too(project: Project) -> None:
    project.write("d.jsonl", "")
    with Answers(lambda p: {"a": p}, delay_s=0.05) as server:
        text = ONE.replace("{{ item.id }}", "{{ item.id | length }}")  # three prompts for a hundred rows
        report = run(project, server, f"budget: {{calls: 2}}\n{text}", rows=101)
        (step,) = report.steps
        assert (step.succeeded, step.unsent, server.total) == (100, 1, 2)


@pytest.mark.parametrize("budget", [70, 110])
def test_what_needs_a_re_ask_is_not_run_and_its_response_is_not_asked_for_again(project: Project, budget: int) -> None:
    """Every fourth row gets an invalid response first; the re-ask has another prompt, so each is sent once."""

    def reply(prompt: str) -> Any:
        return "no JSON" if re.fullmatch(r"r\d*[048]", prompt) else {"a": prompt}

    with Answers(reply, delay_s=0.02) as server:
        report = run(project, server, f"budget: {{calls: {budget}}}\n{ONE.replace('prompt', 'max_reasks: 2, prompt')}")
        (step,) = report.steps
        assert (report.exit_code, server.total, step.failed) == (6, budget, 0)
        valid = [p for p in server.prompts if re.fullmatch(r"r\d*[1235679]", p) or p.startswith("Your")]
        responses, _ = kept(report)["a"]
        assert step.succeeded >= len([p for p in valid if p.startswith("r")])
        assert step.succeeded + step.unsent == 100
        assert responses <= 100
        text = (project.root / "pipelines" / "x.yaml").read_text()
        again = project.run(re.sub(r"budget: .*", "", text), resume="last")
        assert [(s.succeeded, s.unsent) for s in again.steps] == [(100, 0)]
        first = [p for p in server.prompts if re.fullmatch(r"r\d+", p)]
        assert len(first) == len(set(first)) == 100


def test_a_fallback_that_the_budget_does_not_pay_leaves_the_row_unsent(project: Project) -> None:
    with Answers(lambda p: {"a": p} if p[-1] in "13579" else (500, {"error": {"message": "x"}})) as server:
        more = f"budget: {{calls: 30}}\n{ONE}".replace(
            "prompt:", "model: m, fallback: [other], retry: {max_retries: 0}, prompt:"
        )
        report = run(project, server, more, concurrency=8)
        (step,) = report.steps
        responses, results = kept(report)["a"]
        assert (report.exit_code, server.total) == (6, 30)
        assert responses == results == step.succeeded > 0
        assert step.holds
        assert step.unsent > 0


STOPS = {
    "max_failures": ("max_failures: 2", 1, lambda n: n in (10, 11, 12)),
    "on_error": ("", 1, lambda n: n == 10),
}


@pytest.mark.parametrize("kind", STOPS)
def test_failures_that_stop_a_run_leave_the_others_their_results(project: Project, kind: str) -> None:
    more, code, fails = STOPS[kind]

    def reply(prompt: str) -> Any:
        return (400, {"error": {"message": "no"}}) if fails(int(prompt[1:])) else {"a": prompt}

    steps = ONE if more else ONE.replace("prompt:", "on_error: fail, prompt:")
    with Answers(reply, delay_s=0.03) as server:
        report = run(project, server, f"{more}\n{steps}", concurrency=32)
        (step,) = report.steps
        assert (report.exit_code, report.status) == (code, "failed")
        responses, results = kept(report)["a"]
        assert responses == results == step.succeeded
        assert server.total == step.succeeded + step.failed
        assert step.unsent == 100 - server.total > 0


def test_an_account_error_leaves_the_others_their_results(project: Project) -> None:
    answered = []

    def reply(prompt: str) -> Any:
        if server.total > 50:
            return 401, {"error": {"message": "no"}}
        answered.append(prompt)
        return {"a": prompt}

    with Answers(reply, delay_s=0.03) as server:
        report = run(project, server, ONE, concurrency=32)
        (step,) = report.steps
        assert report.exit_code == 4
        responses, results = kept(report)["a"]
        assert responses == results == step.succeeded == len(answered) > 10
        assert (step.failed, step.unsent) == (1, 99 - len(answered))


def interrupting(server: Answers, after: int, number: int, times: int = 1) -> threading.Thread:
    def send() -> None:
        server.wait_for(after)
        for _ in range(times):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 73), (signal.SIGTERM, 1), (signal.SIGHUP, 150)])
def test_an_interrupt_keeps_what_was_in_flight(project: Project, number: int, after: int) -> None:
    with Answers(lambda p: {"a": p}, delay_s=0.05) as server:
        thread = interrupting(server, after, number)
        report = run(project, server, TWO, rows=300)
        thread.join()
        assert (report.exit_code, report.status) == (128 + number, "interrupted")
        assert all(responses == results for responses, results in kept(report).values())
        assert sum(s.succeeded for s in report.steps) == server.total >= after
        whole(project, report, server)


def test_the_second_interrupt_keeps_what_has_arrived(project: Project) -> None:
    with Answers(lambda p: {"a": p}, delay_s=0.3) as server:
        thread = interrupting(server, 100, signal.SIGINT, times=5)
        report = run(project, server, ONE, rows=300)
        thread.join()
        (step,) = report.steps
        assert (report.exit_code, report.status) == (130, "interrupted")
        responses, results = kept(report)["a"]
        assert responses == results == step.succeeded
        assert step.holds


def slow_after(count: int, seconds: float) -> tuple[Answers, Callable[[], None]]:
    """A server that answers `count` requests at once and the others after so long, and what makes it quick again."""
    server = Answers(lambda p: {"a": p}, delay_s=lambda number: seconds if number > count else 0.01)
    return server, lambda: setattr(server, "delay_s", 0.01)


@pytest.mark.soak
def test_the_deadline_waits_ten_seconds_for_what_is_in_flight_and_no_longer(project: Project) -> None:
    server, again = slow_after(40, 3600)
    with server:
        report = run(project, server, f"budget: {{wall: 2s}}\n{ONE}", rows=300, concurrency=16)
        (step,) = report.steps
        assert (report.exit_code, report.status) == (6, "stopped")
        responses, results = kept(report)["a"]
        assert responses == results == step.succeeded >= 24
        assert 11.5 < report.duration_s < 100
        again()


def test_an_interrupt_of_a_run_that_is_stopping_waits_no_longer_than_it_says(project: Project) -> None:
    """A budget stop waits for what is in flight as long as its clocks allow; Ctrl-C means ten seconds."""
    server, again = slow_after(50, 3600)
    with server:
        thread = threading.Thread(target=lambda: (server.wait_for(60), time.sleep(1), os.kill(os.getpid(), 2)))
        thread.start()
        report = run(project, server, f"budget: {{calls: 60}}\n{ONE}", rows=300, concurrency=16)
        thread.join()
        assert (report.exit_code, report.status) == (130, "interrupted")
        assert report.duration_s < 100
        again()
