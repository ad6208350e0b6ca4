"""A provider that answers nobody ends a run to be continued, however few rows it has; a row that fails alone fails."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from llmpipe.engine.results import RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.faults.server import FaultServer

PIPELINE = """
    version: 1
    name: x
    datasets: {{d: {{path: d.jsonl, key: id}}}}
    models:
      m: {{provider: openai_compatible, base_url: "{url}", model: tiny, limits: {{concurrency: {concurrency}}}}}
    defaults:
      model: m
      retry: {{base: 10ms, cap: 20ms, max_retries: {retries}}}
      timeout: {{attempt: 1s, total: 20s}}
    steps:
      - {{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"}}
    """
BROKEN = (500, {"error": {"message": "Internal error"}})


def run(
    project: Project, url: str, ids: list[str], *, concurrency: int = 4, retries: int = 4, **more: Any
) -> RunReport:
    project.rows("d.jsonl", [{"id": id} for id in ids])
    return project.run(PIPELINE.format(url=url, concurrency=concurrency, retries=retries), **more)


def sums(report: RunReport) -> tuple[int, int, int]:
    (step,) = report.steps
    assert step.items == step.succeeded + step.failed + step.skipped + step.unsent
    return step.succeeded, step.failed, step.unsent


def nobody() -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(
    "fault", ["unavailable", "server_error", "rate_limit", "hang_up", "reset", "cut_length", "silence", "nobody"]
)
def test_few_rows_and_no_answer_end_to_be_continued(project: Project, fault: str, rows: int) -> None:
    ids = [f"r{n}" for n in range(rows)]
    retries = 4 if rows == 1 else 1
    with FaultServer([fault if fault != "nobody" else "ok"]) as server:
        url = nobody() if fault == "nobody" else server.base("openai_chat")
        report = run(project, url, ids, retries=retries)
        sent = len(server.requests)
    assert (report.exit_code, report.status) == (75, "stopped")
    assert sums(report) == (0, 0, rows)
    assert sent == (0 if fault == "nobody" else rows * (retries + 1))
    assert "openai_compatible/tiny did not answer for" in report.reason
    assert f"({rows * (retries + 1)} tries)" in report.reason
    assert "not sent" not in report.reason
    assert "nothing was sent" not in report.reason
    assert list((report.folder / "failures").glob("*/*")) == []
    with FaultServer(["ok"]) as server:
        again = run(project, server.base("openai_chat"), ids, resume="last", accept_changes=True)
    assert (again.exit_code, sums(again)) == (0, (rows, 0, 0))


def test_a_step_that_runs_once_ends_likewise(project: Project) -> None:
    text = f"""
        version: 1
        name: x
        models: {{m: {{provider: openai_compatible, base_url: "{nobody()}", model: tiny}}}}
        steps: [{{id: digest, model: m, prompt: hello, retry: {{max_retries: 1, base: 10ms}}}}]
        """
    report = project.run(text)
    assert (report.exit_code, sums(report)) == (75, (0, 0, 1))


def test_without_retries_one_try_is_all_that_is_made(project: Project) -> None:
    with FaultServer(["unavailable"]) as server:
        report = run(project, server.base("openai_chat"), ["only"], retries=0)
        assert len(server.requests) == 1
    assert (report.exit_code, sums(report)) == (75, (0, 0, 1))
    assert "(1 try)" in report.reason


def test_a_fallback_that_is_down_too_ends_likewise_and_one_that_answers_does_not(project: Project) -> None:
    text = """
        version: 1
        name: x
        datasets: {{d: {{path: d.jsonl, key: id}}}}
        models:
          m: {{provider: openai_compatible, base_url: "{first}", model: tiny, fallback: [other]}}
          other: {{provider: openai_compatible, base_url: "{second}", model: large}}
        defaults: {{model: m, retry: {{max_retries: 1, base: 10ms}}}}
        steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"}}]
        """
    project.rows("d.jsonl", [{"id": "only"}])
    down = project.run(text.format(first=nobody(), second=nobody()))
    assert (down.exit_code, sums(down)) == (75, (0, 0, 1))
    assert "openai_compatible/tiny did not answer" in down.reason
    assert "openai_compatible/large did not answer" in down.reason
    with Answers() as second:
        answered = project.run(text.format(first=nobody(), second=second.url))
    assert (answered.exit_code, sums(answered)) == (0, (1, 0, 0))


def test_a_total_that_runs_out_before_the_provider_counts_as_down_fails_no_row(project: Project) -> None:
    project.rows("d.jsonl", [{"id": n} for n in range(6)])
    text = PIPELINE.replace("total: 20s", "total: 1s").format(url=nobody(), concurrency=4, retries=4)
    report = project.run(text)
    assert report.exit_code == 75, report.reason
    assert sums(report) == (0, 0, 6)


@pytest.mark.parametrize("poison", [0, 1, 3])
def test_a_row_that_only_fails_while_others_are_answered_is_a_failure(project: Project, poison: int) -> None:
    ids = [f"r{n}" for n in range(4)]
    with Answers(lambda prompt: BROKEN if prompt == ids[poison] else "ok") as server:
        report = run(project, server.url, ids, concurrency=1)
    assert (report.exit_code, sums(report)) == (1, (3, 1, 0))
    assert report.causes[0].code == "P422"


def test_many_rows_in_a_row_that_only_fail_are_no_outage(project: Project) -> None:
    ids = [f"bad{n}" for n in range(12)] + [f"good{n}" for n in range(30)]
    with Answers(lambda prompt: BROKEN if prompt.startswith("bad") else "ok") as server:
        report = run(project, server.url, ids, concurrency=1, retries=2)
        assert server.asked == {id: 3 if id.startswith("bad") else 1 for id in ids}
    assert (report.exit_code, sums(report)) == (1, (30, 12, 0))


def test_a_row_that_failed_before_is_no_outage_when_it_is_alone(project: Project) -> None:
    ids = ["good", "bad"]
    with Answers(lambda prompt: BROKEN if prompt == "bad" else "ok") as server:
        first = run(project, server.url, ids, retries=1)
        again = run(project, server.url, ids, retries=1, resume="auto")
        assert server.asked == {"good": 1, "bad": 4}
    assert (first.exit_code, sums(first)) == (1, (1, 1, 0))
    assert (again.exit_code, sums(again)) == (1, (1, 1, 0))


def test_what_a_row_does_to_one_model_is_not_the_outage_of_another(project: Project) -> None:
    """The fallback is down, the first model answers everybody else: only the row has failed."""
    text = """
        version: 1
        name: x
        datasets: {{d: {{path: d.jsonl, key: id}}}}
        models:
          m: {{provider: openai_compatible, base_url: "{first}", model: tiny, fallback: [other]}}
          other: {{provider: openai_compatible, base_url: "{second}", model: large}}
        defaults: {{model: m, retry: {{max_retries: 1, base: 10ms}}}}
        steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"}}]
        """
    project.rows("d.jsonl", [{"id": id} for id in ("bad", "one", "two")])
    with Answers(lambda prompt: BROKEN if prompt == "bad" else "ok") as first:
        report = project.run(text.format(first=first.url, second=nobody()))
    assert (report.exit_code, sums(report)) == (1, (2, 1, 0))


def test_what_was_not_sent_is_told_from_what_got_no_answer(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "only"}])
    second = '      - {{id: b, foreach: datasets.d, prompt: "{{{{ steps.a }}}}"}}\n'
    report = project.run((PIPELINE.rstrip() + "\n" + second).format(url=nobody(), concurrency=4, retries=0))
    assert report.exit_code == 75
    assert report.reason.endswith("; 1 item was not sent; 1 item got no answer")


@pytest.mark.soak
def test_a_provider_that_goes_down_in_the_middle_fails_no_row(project: Project) -> None:
    ids = [f"r{n:03}" for n in range(300)]
    with Answers(lambda prompt: "ok" if len(server.prompts) <= 20 else BROKEN) as server:
        report = run(project, server.url, ids, concurrency=1)
        tried = set(server.prompts[20:])
    assert report.exit_code == 75
    assert sums(report) == (20, 0, 280)
    assert f"; {280 - len(tried)} items were not sent; {len(tried)} items got no answer" in report.reason
