"""What a run cost, may have cost, and does not know: one number in the ledger and wherever it is told."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from decimal import Decimal
from typing import Any

import pytest

from llmpipe.cli.main import main
from llmpipe.config.environment import Environment
from llmpipe.engine.files import read_json
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import RunReport
from llmpipe.engine.run import run_pipeline
from llmpipe.report.summary import Look, after, cron
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.faults.server import FaultServer

HEAD = """
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models:
  m: {{provider: {provider}, base_url: "{url}", model: t, params: {{max_output_tokens: 100}},
       limits: {{concurrency: 4}}{price}}}
defaults: {{model: m, cache: {{read: false, write: false}}, retry: {{max_retries: {retries}, base: 1ms}},
            timeout: {timeout}}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"{step}}}]
{top}
"""
PRICE = ", price: {input: 100, output: 1000}"
QUICK = "{attempt: 1s}"


def text(
    url: str, *, price: str = PRICE, top: str = "", timeout: str = "{attempt: 60s}", retries: int = 0, step: str = "",
    provider: str = "openai_compatible",
) -> str:  # fmt: skip
    return HEAD.format(url=url, price=price, top=top, timeout=timeout, retries=retries, step=step, provider=provider)


def shown(project: Project, *words: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([*words, "--output", str(project.root / "output")]) == 0
    return out.getvalue()


def told(project: Project, report: RunReport) -> list[Any]:
    """The number of attempts that may have been billed, everywhere where it is said."""
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger:
        (number,) = ledger.execute("SELECT COUNT(*) FROM attempts WHERE billed = 'maybe'").fetchone()
    written = read_json(report.folder / "run.json") or {}
    listed = json.loads(shown(project, "runs", "--json"))[0]
    found = [
        number,
        report.maybe_billed,
        written["maybe_billed"],
        written["totals"]["maybe_billed"],
        sum(step.maybe_billed for step in report.steps),
        json.loads(shown(project, "show", "--json"))["maybe_billed"],
        listed["maybe_billed"],
    ]
    words = f"{number} attempt{'' if number == 1 else 's'} "
    pages = (
        after(report, Look(detailed=True)),
        cron(report) if report.exit_code else [f"{words} billed"] * bool(number),
        shown(project, "show").splitlines(),
    )
    found += [
        number if any(words in line and "billed" in line for line in page) == bool(number) else page for page in pages
    ]
    table = shown(project, "runs").splitlines()
    assert ("maybe billed" in table[0]) == bool(number)
    found.append(int(table[1].split()[-1]) if number else 0)
    return found


def rows(project: Project, number: int) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(number)])


@pytest.mark.parametrize(
    ("fault", "timeout", "more"),
    [
        ("silence", QUICK, ""),
        ("silence", "{first_token: 1s}", ""),
        ("silence", "{total: 1s}", ""),
        ("silence_after_head", "{idle: 1s, first_token: 1s}", ""),
        ("silence_in_body", "{idle: 1s}", ""),
        ("drip_body", QUICK, ""),
        ("stream_stall", "{idle: 1s}", ", stream: true"),
        ("stream_cut", QUICK, ", stream: true"),
        ("stream_unfinished", QUICK, ", stream: true"),
        ("hang_up", QUICK, ""),
        ("reset", QUICK, ""),
        ("cut_length", QUICK, ""),
        ("cut_chunked", QUICK, ""),
        ("not_http", QUICK, ""),
    ],
)
def test_every_attempt_whose_billing_is_unknown_is_counted_everywhere(
    project: Project, fault: str, timeout: str, more: str
) -> None:
    rows(project, 2)
    with FaultServer([fault]) as server:
        report = project.run(text(server.base("openai_chat"), timeout=timeout, price=PRICE + more), concurrency=1)
        sent = len(server.requests)
    assert report.exit_code != 0
    assert sent > 0
    assert told(project, report) == [sent] * 11
    assert report.steps[0].cost_usd is None
    totals = (read_json(report.folder / "run.json") or {})["totals"]
    assert (totals["cost_usd"], totals["cost_known_usd"], totals["unpriced"]) == (None, 0, 0)
    assert "$0" not in shown(project, "show") + shown(project, "runs") + shown(project, "show", "last", "a", "r0")


def test_the_count_goes_over_all_invocations(project: Project) -> None:
    rows(project, 6)
    with FaultServer(lambda number, body: "silence" if number in (1, 2, 5, 7) else "ok") as server:
        first = project.run(text(server.base("openai_chat"), timeout=QUICK), concurrency=1)
        assert told(project, first) == [3] * 11
        second = project.run(None, retry_failed="last", concurrency=1)
        assert told(project, second) == [4] * 11
        third = project.run(None, retry_failed="last", concurrency=1)
    assert third.exit_code == 0
    assert told(project, third) == [4] * 11


def test_a_killed_run_says_the_same_wherever_it_is_looked_at(project: Project) -> None:
    rows(project, 8)
    with FaultServer(lambda number, body: "ok" if number < 3 else "silence") as server:
        project.write("x.yaml", text(server.base("openai_chat"), top="budget: {usd: 5}"))
        command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), "--quiet"]
        process = subprocess.Popen(command)
        until = time.monotonic() + 300
        while len(server.requests) < 7:  # three answers and four calls in flight
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        process.wait()
    with closing(sqlite3.connect(project.root / "output" / "x" / "latest" / "run.db")) as ledger:
        sums = "SELECT COUNT(*), SUM(reserved_usd) FROM attempts WHERE billed = 'maybe'"
        number, held = ledger.execute(sums).fetchone()
    document, listed = (json.loads(shown(project, word, "--json")) for word in ("show", "runs"))
    assert number == 4
    assert document["status"] == listed[0]["status"] == "crashed"
    assert document["maybe_billed"] == document["totals"]["maybe_billed"] == listed[0]["maybe_billed"] == number
    assert document["held_usd"] == listed[0]["held_usd"] == pytest.approx(held)
    assert document["totals"]["unknown_usage"] == 0
    assert any("reserved for 4 attempts" in line for line in shown(project, "show").splitlines())


def test_a_budget_that_comes_later_holds_what_may_have_been_billed_before(project: Project) -> None:
    rows(project, 6)
    with FaultServer(lambda number, body: "silence" if number < 3 else "ok") as server:
        first = project.run(text(server.base("openai_chat"), timeout=QUICK), concurrency=1)
        assert (first.maybe_billed, first.held_usd) == (3, 0)
        second = project.run(None, retry_failed="last", concurrency=1, max_cost=Decimal("0.2"))
    assert second.exit_code == 6, "three calls of 100 tokens at $1000 a million are held, and no fourth fits"
    assert second.maybe_billed == 3
    assert second.held_usd >= Decimal("0.3")
    assert len(server.requests) == 6, "nothing was sent"
    assert "reserved for calls whose usage is not known" in second.reason


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing, not even in TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        taken: list[socket.socket] = []
        over = threading.Event()

        def take() -> None:
            while not over.is_set():
                with _quietly():
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()
            for one in taken:
                one.close()


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        return


@pytest.mark.parametrize("timeout", [QUICK, "{total: 1s}", "{first_token: 1s}", "{connect: 1s}"])
def test_before_there_is_a_connection_nothing_can_be_billed(project: Project, timeout: str) -> None:
    rows(project, 2)
    with silent_port() as port:
        report = project.run(text(f"https://127.0.0.1:{port}/v1", timeout=timeout), concurrency=1)
    assert report.exit_code != 0
    assert report.steps[0].calls >= 1
    assert told(project, report) == [0] * 11
    assert report.steps[0].cost_usd == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection_costs_nothing(project: Project, scheme: str) -> None:
    rows(project, 2)
    report = project.run(text(f"{scheme}://127.0.0.1:1/v1"), concurrency=1)
    assert report.exit_code != 0
    assert told(project, report) == [0] * 11


@pytest.mark.parametrize("status", [400, 429, 500, 503, 529])
def test_an_error_reply_is_not_billed_and_the_budget_forgets_it(project: Project, status: int) -> None:
    """Each call reserves about 20 cents, so that one of them held for good would leave no room for the others."""
    rows(project, 4)
    seen: set[str] = set()

    def reply(prompt: str) -> Any:
        if prompt in seen:
            return "fine"
        seen.add(prompt)
        return status, {"error": {"message": "no"}}

    with Answers(reply) as server:
        report = project.run(
            text(server.url, top="budget: {usd: 0.30}", retries=1 if status != 400 else 0), concurrency=1
        )
    assert report.exit_code == (1 if status == 400 else 0), report.reason
    assert told(project, report) == [0] * 11


@pytest.mark.parametrize("status", [408, 502, 504, 524])
def test_a_gateway_that_gave_up_waiting_may_have_been_billed(project: Project, status: int) -> None:
    rows(project, 1)
    with Answers(lambda prompt: (status, {"error": {"message": "no"}})) as server:
        report = project.run(text(server.url), concurrency=1)
    assert told(project, report) == [1] * 11


def test_what_the_budget_holds_beyond_the_table_is_said(project: Project) -> None:
    rows(project, 4)
    with FaultServer(lambda number, body: "silence" if number else "ok") as server:
        pipeline = text(server.base("openai_chat"), timeout=QUICK, top="budget: {usd: 50}")
        report = project.run(pipeline, concurrency=1)
    with closing(sqlite3.connect(report.folder / "run.db")) as ledger:
        (held,) = ledger.execute("SELECT SUM(reserved_usd) FROM attempts WHERE billed = 'maybe'").fetchone()
    assert held > 0.3
    assert report.held_usd == Decimal(str(round(held, 9)))
    line = f"billing    ${held:.2f} more is reserved for 3 attempts that may have been billed"
    assert line in after(report)
    assert line in cron(report)
    assert line in shown(project, "show").splitlines()


# -- what has no price ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "tool_calls"])
def test_what_has_no_price_is_unknown_everywhere_also_if_it_failed(project: Project, finish: str) -> None:
    rows(project, 3)
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"choices": [{"index": 0, "finish_reason": finish, "message": {"content": "x"}}], "usage": usage}
    with Answers(lambda prompt: (200, body)) as server:
        report = project.run(text(server.url, price=""))
    step = report.steps[0]
    assert (step.calls, step.unpriced, step.cost_usd, step.cost_known_usd) == (3, 3, None, 0)
    written = read_json(report.folder / "run.json") or {}
    assert (written["totals"]["cost_usd"], written["totals"]["cost_known_usd"]) == (None, 0)
    assert (written["steps"][0]["cost_usd"], written["steps"][0]["unpriced"]) == (None, 3)
    listed = json.loads(shown(project, "runs", "--json"))[0]
    assert (listed["cost_usd"], listed["cost_known_usd"], listed["unpriced"]) == (None, 0, 3)
    story = json.loads(shown(project, "show", "last", "a", "r0", "--json"))
    assert (story["cost_usd"], story["cost_known_usd"]) == (None, 0)
    pages = [
        "\n".join(after(report, Look(120, detailed=True))),
        "\n".join(cron(report)) if report.exit_code else "cost unknown",
        shown(project, "runs"),
        shown(project, "show"),
        shown(project, "show", "last", "a", "r0"),
    ]
    assert all("unknown" in page and "$" not in page for page in pages), pages
    assert "cost unknown (3 calls without a price)" in pages[0]
    assert any(s.steps and s.steps[0].cost_usd is not None for s in project.seen.snapshots)  # 0 before the first call


MORE = '{id: b, foreach: datasets.d, model: free, prompt: "b {{ item.id }}"}'


def test_a_part_without_a_price_makes_the_rest_a_lower_bound(project: Project) -> None:
    rows(project, 4)
    with Answers() as server:
        pipeline = text(server.url).replace(
            "defaults:",
            f"""  free: {{provider: openai_compatible, model: f,
            base_url: "{server.url}"}}
defaults:""",
        )
        report = project.run(pipeline.replace('prompt: "{{ item.id }}"}', 'prompt: "{{ item.id }}"}, ' + MORE))
    assert [step.cost_usd for step in report.steps] == [Decimal("0.024"), None]
    assert "at least $0.02 (4 calls without a price)" in "\n".join(after(report))
    assert "at least $0.02" in shown(project, "runs")
    totals = (read_json(report.folder / "run.json") or {})["totals"]
    assert (totals["cost_usd"], totals["cost_known_usd"], totals["unpriced"]) == (None, 0.024, 4)


def test_two_servers_with_a_model_of_one_name_cost_what_each_of_them_takes(project: Project) -> None:
    rows(project, 3)
    with Answers(lambda prompt: "yes") as free, Answers(lambda prompt: "yes") as dear:
        file = text(free.url, price=", price: {input: 0, output: 0}").replace(
            "\ndefaults:",
            f'\n  n: {{provider: openai_compatible, base_url: "{dear.url}", model: t{PRICE}}}\ndefaults:',
        )
        report = project.run(file)
        assert [step.cost_usd for step in report.steps] == [0]
        steps = 'steps: [{id: b, foreach: datasets.d, model: n, prompt: "{{ item.id }}"}, '
        report = project.run(file.replace("steps: [", steps), resume="last", accept_changes=True)
        # 10 tokens in at $100, 5 out at $1000 a million
        assert {step.id: step.cost_usd for step in report.steps} == {"a": 0, "b": 3 * Decimal("0.006")}
    assert (free.total, dear.total) == (3, 3)


def test_a_refusal_is_billed(project: Project) -> None:
    rows(project, 2)
    body = {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": None, "refusal": "no"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    with Answers(lambda prompt: (200, body)) as server:
        report = project.run(text(server.url))
    assert report.steps[0].failed == 2
    assert report.steps[0].cost_usd == Decimal("0.012")


@pytest.mark.parametrize("provider", ["ollama", "vllm", "llamacpp", "lmstudio"])
def test_a_server_of_ones_own_costs_what_the_file_says(project: Project, provider: str) -> None:
    rows(project, 2)
    with FaultServer(["ok"]) as server:
        url = server.base("ollama" if provider == "ollama" else "openai_chat")
        unknown = project.run(text(url, provider=provider, price=""))
        free = project.run(text(url, provider=provider, price=", price: {input: 0, output: 0}", top="budget: {usd: 1}"))
    assert (unknown.exit_code, unknown.steps[0].cost_usd, unknown.steps[0].unpriced) == (0, None, 2)
    assert (free.exit_code, free.steps[0].cost_usd, free.steps[0].unpriced) == (0, 0, 0)


@pytest.mark.parametrize("budget", ["{usd: 0.000001}", "{tokens: 1}", "{usd: 0.000001, tokens: 1, calls: 3}"])
def test_echo_never_spends(project: Project, budget: str) -> None:
    rows(project, 3)
    pipeline = text("https://llm.example/v1", top=f"budget: {budget}")
    echo = pipeline.replace(', base_url: "https://llm.example/v1"', "")
    project.write("x.yaml", echo)
    report = run_pipeline(
        project.load(overrides={"models.m.provider": "echo"}), RunOptions(), environment=Environment({}),
        progress=project.seen,
    )  # fmt: skip
    assert (report.exit_code, report.steps[0].succeeded, report.steps[0].cost_usd) == (0, 3, 0), report.reason
    assert report.maybe_billed == 0
    faulty = echo.replace("openai_compatible", "echo").replace("tokens: 100}", "tokens: 100, faults: {timeout: 100%}}")
    assert project.run(faulty.replace(", calls: 3", "")).maybe_billed == 0


def test_echo_needs_no_price_for_a_budget_in_dollars(project: Project) -> None:
    rows(project, 1)
    report = project.run(
        "version: 1\ndatasets: {d: {path: d.jsonl, key: id}}\nmodels: {e: {provider: echo}}\nbudget: {usd: 0.01}\n"
        'steps: [{id: a, foreach: datasets.d, model: e, prompt: "{{ item.id }}"}]\n'
    )
    assert (report.exit_code, report.steps[0].cost_usd) == (0, 0)
