"""The contract of a run: what is allowed to fail, what stops it, what it may cost, and that the sum holds."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.lock import is_held
from llmpipe.engine.results import RunReport
from llmpipe.errors import KeyMissing, LockHeld
from tests.engine.answers import Answers
from tests.engine.conftest import Project

Counts = Callable[[RunReport], dict[str, tuple[int, int, int, int, int]]]
REFUSED = {"error": {"message": "bad", "type": "invalid_request_error"}}


def test_a_models_entry_can_make_every_call_of_echo_fail(project: Project, counts: Counts) -> None:
    report = project.run("""\
        version: 1
        models: {bad: {provider: echo, params: {force_error: true}}}
        defaults: {model: bad, retry: {max_retries: 0}}
        steps:
          - {id: one, prompt: hello, on_error: continue}
          - {id: other, prompt: hello, params: {force_error: false}}
        """)
    assert counts(report) == {"one": (1, 0, 1, 0, 0), "other": (1, 1, 0, 0, 0)}


def test_a_schema_added_to_a_step_asks_echo_again(project: Project) -> None:
    text = """\
        version: 1
        models: {fast: {provider: echo}}
        steps:
          - {id: one, model: fast, prompt: hello%s}
        """
    assert project.run(text % "").exit_code == 0
    assert project.run(text % ", max_reasks: 0, schema: {a: string}").exit_code == 0


def pipeline(server: Answers, top: str = "", step: str = "", model: str = "") -> str:
    return f"""\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{server.url}", model: demo{model}}}
defaults: {{model: m, cache: {{read: false, write: false}}, retry: {{max_retries: 1, base: 1ms}}}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
{top}
steps:
  - {{id: one, foreach: datasets.d, prompt: "one {{{{ item.id }}}}"{step}}}
"""


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}"} for n in range(count)]


def failing_after(count: int, status: int, body: dict[str, Any]) -> Callable[[str], Any]:
    """Answers the first `count` requests; fails the others."""
    lock, seen = threading.Lock(), [0]

    def reply(prompt: str) -> Any:
        with lock:
            seen[0] += 1
            return f"re: {prompt}" if seen[0] <= count else (status, body)

    return reply


def failing_rows(*names: str) -> Callable[[str], Any]:
    return lambda prompt: (400, REFUSED) if prompt.removeprefix("one ") in names else f"re: {prompt}"


@pytest.mark.parametrize(
    ("allowed", "failed", "code"),
    [("100%", 1, 1), ("90%", 1, 0), ("90%", 2, 1), ("8", 2, 0), ("9", 2, 1), ("0%", 10, 0)],
)
def test_min_success_is_a_share_or_a_count(
    project: Project, counts: Counts, allowed: str, failed: int, code: int
) -> None:
    project.rows("d.jsonl", rows(10))
    with Answers(failing_rows(*[f"r{n}" for n in range(failed)])) as server:
        report = project.run(pipeline(server, step=f", min_success: {allowed}"))
    assert report.exit_code == code
    assert report.partial == (code == 0)
    assert counts(report) == {"one": (10, 10 - failed, failed, 0, 0)}


def test_on_error_fail_stops_the_run_at_the_first_failure(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(50))
    with Answers(failing_rows("r3"), delay_s=0.01) as server:
        report = project.run(pipeline(server, step=", on_error: fail"), concurrency=2)
    items, succeeded, failed, skipped, unsent = counts(report)["one"]
    assert report.exit_code == 1
    assert (items, failed, skipped) == (50, 1, 0)
    assert unsent > 30
    assert succeeded + unsent == 49
    assert "--resume" in report.next_command


def test_max_failures_stops_a_run_that_goes_wrong(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(200))
    with Answers(lambda prompt: (400, REFUSED), delay_s=0.005) as server:
        report = project.run(pipeline(server, top="max_failures: 5"), concurrency=2)
        assert server.total < 20
    assert report.exit_code == 1
    assert 6 <= counts(report)["one"][2] <= 12
    assert sum(counts(report)["one"][1:]) == 200


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}, 4),
        (429, {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}, 1),
        (404, {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}, 1),
    ],
)
def test_an_account_error_stops_at_once_with_one_failure(
    project: Project, counts: Counts, status: int, error: dict[str, Any], code: int
) -> None:
    project.rows("d.jsonl", rows(100))
    with Answers(lambda prompt: (status, {"error": error}), delay_s=0.01) as server:
        report = project.run(pipeline(server))
        assert server.total == 1
    assert report.exit_code == code
    assert counts(report) == {"one": (100, 0, 1, 0, 99)}


def test_an_account_error_in_the_middle_keeps_what_came_and_goes_on_later(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(60))
    error = {"error": {"message": "spent", "type": "insufficient_quota", "code": "credit_balance_exhausted"}}
    with Answers(failing_after(20, 429, error), delay_s=0.005) as server:
        text = pipeline(server)
        first = project.run(text, concurrency=4)
        assert first.exit_code == 1
        assert counts(first) == {"one": (60, 20, 1, 0, 39)}
        server.reply = lambda prompt: f"re: {prompt}"
        second = project.run(text, resume="last")
    assert second.exit_code == 0, second.reason
    assert counts(second) == {"one": (60, 60, 0, 0, 0)}


def test_a_provider_that_stays_down_ends_the_run_to_be_continued(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(500))
    with Answers(lambda prompt: (503, {"error": {"message": "down"}})) as server:
        report = project.run(pipeline(server).replace("max_retries: 1", "max_retries: 3"), concurrency=4)
        assert server.total < 200
    assert report.exit_code == 75
    assert sum(counts(report)["one"][1:]) == 500
    assert counts(report)["one"][4] > 300


PRICE = ", price: {input: 1000, output: 1000}, params: {max_output_tokens: 20}"


def test_a_budget_is_never_exceeded_and_a_raised_one_goes_on(project: Project, counts: Counts) -> None:
    """10 + 5 tokens at 1000 dollars a million are 1.5 cents a call."""
    project.rows("d.jsonl", rows(40))
    with Answers(delay_s=0.005) as server:
        text = pipeline(server, top="budget: {usd: 0.20}", model=PRICE)
        first = project.run(text)
        spent = sum(step.cost_usd for step in first.steps)
        sent = server.total
        assert first.exit_code == 6
        assert spent <= Decimal("0.20")
        assert spent == Decimal("0.015") * sent
        assert counts(first)["one"][1] == sent > 3
        second = project.run(text, resume="last", max_cost=Decimal(5))
        assert server.total == 40
    assert second.exit_code == 0
    assert sum(step.cost_usd for step in second.steps) == Decimal("0.6")


def test_a_budget_of_calls_counts_retries_and_goes_over_resumptions(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(10))
    with Answers(lambda prompt: (500, {"error": {"message": "x"}}) if prompt == "one r0" else "fine") as server:
        text = pipeline(server, top="budget: {calls: 6}")
        first = project.run(text, concurrency=1)
        assert server.total == 6
        assert first.exit_code == 6
        second = project.run(text, resume="last", concurrency=1)
        assert server.total == 6
    assert second.exit_code == 6
    assert sum(counts(second)["one"][1:]) == 10


def test_the_deadline_of_a_run(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", rows(50))
    with Answers(delay_s=0.2) as server:
        report = project.run(pipeline(server, top="budget: {wall: 700ms}"), concurrency=2)
    assert report.exit_code == 6
    assert sum(counts(report)["one"][1:]) == 50
    assert counts(report)["one"][4] > 20


def test_two_runs_at_once_are_refused_before_anything_is_sent(project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    with Answers(delay_s=1.0) as server:
        text = pipeline(server)
        other = threading.Thread(target=lambda: project.run(text))
        project.write("x.yaml", text)
        other.start()
        server.wait_for(2)
        with pytest.raises(LockHeld):
            project.run()
        assert server.total == 2
        other.join()
        assert not is_held(project.root / "output" / "x")


def test_a_missing_key_is_found_before_anything_is_made(project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    with Answers() as server:
        text = pipeline(server, model=", api_key_env: MY_KEY")
        with pytest.raises(KeyMissing, match="MY_KEY"):
            project.run(text)
        project.variables["MY_KEY"] = "secret-key-1234567890"
        assert project.run().exit_code == 0
        assert server.total == 2


@pytest.mark.parametrize("key", ["sk-1\n2", "two words", "\u043a\u043b\u044e\u0447"])
def test_a_key_that_no_header_takes_is_found_before_anything_is_made(key: str, project: Project) -> None:
    project.rows("d.jsonl", rows(2))
    project.variables["MY_KEY"] = key
    with Answers() as server:
        with pytest.raises(KeyMissing, match="model 'm' cannot be used: MY_KEY holds") as caught:
            project.run(pipeline(server, model=", api_key_env: MY_KEY"))
        assert server.total == 0
    assert key not in str(caught.value)
    assert not list(project.root.glob("output/x/*/run.json"))


def test_a_bad_row_in_a_small_file_is_found_before_anything_is_sent(project: Project) -> None:
    path = project.rows("d.jsonl", rows(900))
    path.write_text(path.read_text() + '{"id": "torn\n')
    with Answers() as server:
        report = project.run(pipeline(server))
        assert server.total == 0
    assert report.exit_code == 2
    assert "d.jsonl:901" in report.reason


def test_a_run_says_what_it_did(project: Project) -> None:
    project.rows("d.jsonl", rows(5))
    with Answers(failing_rows("r1")) as server:
        report = project.run(pipeline(server, step=", min_success: 50%"))
    data = json.loads((report.folder / "run.json").read_text())
    assert data["status"] == "partial"
    assert data["totals"]["items"] == 5
    assert data["steps"][0]["failed"] == 1
    assert data["causes"][0]["example_key"] == "r1"
    status = json.loads((report.folder.parent / "status.json").read_text())
    assert status["last"]["run"] == status["last_success"]["run"] == report.run_id
    (failure,) = (report.folder / "failures" / "one").iterdir()
    record = json.loads(failure.read_text())
    assert record["error_type"] == "BadRequest"
    assert record["payload"]["request"]["messages"][-1]["content"] == "one r1"
    assert len(record["attempts"]) == 1
    assert (report.folder.parent / "latest").resolve() == report.folder
    modes = {path.stat().st_mode & 0o077 for path in report.folder.rglob("*")}
    assert modes == {0}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))


def test_a_full_disk_ends_the_run_with_what_came_kept(project: Project) -> None:
    """The file size limit stands for a full disk; the rest of the run goes on once there is room."""
    project.rows("d.jsonl", [{"id": f"r{n}", "text": "x" * 300} for n in range(300)])
    with Answers(lambda prompt: "y" * 20_000) as server:
        project.write("x.yaml", pipeline(server).replace("{{ item.id }}", "{{ item.id }} {{ item.text }}"))
        command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml")]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ.copy(), preexec_fn=limited, timeout=600, check=False
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        database = project.root / "output" / "x" / "latest" / "run.db"
        with LedgerReader(database) as ledger:
            kept = ledger.value("SELECT COUNT(*) FROM results")
        assert kept > 5
        before = server.total
        report = project.run(resume="last")
        assert report.exit_code == 0, report.reason
        assert server.total <= before + 300 - kept


def test_nothing_outside_of_the_run_folder_is_written(project: Project, tmp_path: Path) -> None:
    project.rows(
        "d.jsonl", [{"id": "../../../evil"}, {"id": "/etc/x"}, {"id": "a\x00b"}, {"id": "CON"}, {"id": "é" * 300}]
    )
    before = {path for path in tmp_path.rglob("*") if "output" not in path.parts}
    with Answers(lambda prompt: (400, REFUSED)) as server:
        report = project.run(pipeline(server, step=", min_success: 0%"))
    assert report.exit_code == 0
    assert {path for path in tmp_path.rglob("*") if "output" not in path.parts} <= before | {
        project.root / "pipelines" / "x.yaml"
    }
    assert len(list((report.folder / "failures" / "one").iterdir())) == 5
