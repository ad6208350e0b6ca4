"""A budget is kept, says what it lacks in figures that add up, and names a command that goes on."""

from __future__ import annotations

import json
import random
import shlex
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llmpipe.cli.main import main
from llmpipe.engine.results import RunReport
from tests.engine.conftest import Project

PRICE = (10, 100)  # dollars a million
INPUT = 20


class Bills:
    """A server that bills what it likes: `output(number)` tokens for its answers, counted from 0."""

    def __init__(self, output: Callable[[int], int], *, input: int = INPUT, delay_s: float = 0.02) -> None:
        self.output, self.input, self.delay_s = output, input, delay_s
        self.total = 0
        self.tokens = 0
        self.in_flight = self.at_first = 0
        self.usd = Decimal(0)
        lock, bills = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    number = bills.total
                    bills.total += 1
                    bills.in_flight += 1
                time.sleep(bills.delay_s)
                took = bills.output(number)
                with lock:
                    bills.at_first = bills.at_first or bills.in_flight
                    bills.in_flight -= 1
                    bills.tokens += bills.input + took
                    bills.usd += Decimal(bills.input * PRICE[0] + took * PRICE[1]) / 1_000_000
                usage = {"prompt_tokens": bills.input, "completion_tokens": took, "total_tokens": bills.input + took}
                self.reply(body.get("stream") is True, usage)

            def reply(self, stream: bool, usage: dict[str, int]) -> None:
                if stream:
                    chunk = {"choices": [{"index": 0, "delta": {"content": "{}"}, "finish_reason": "stop"}]}
                    last: dict[str, Any] = {"choices": [], "usage": usage}
                    data = "".join(f"data: {e}\n\n" for e in (json.dumps(chunk), json.dumps(last), "[DONE]")).encode()
                else:
                    choice = {"index": 0, "message": {"content": "{}"}, "finish_reason": "stop"}
                    data = json.dumps({"choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("content-type", "text/event-stream" if stream else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Bills:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def model(self, more: str = "", *, id: str = "m") -> str:
        # `mistral` does not take an answer that is as long as was allowed for a cut one
        url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        price = f"price: {{input: {PRICE[0]}, output: {PRICE[1]}}}"
        return (
            f"{{provider: mistral, model: {id}, base_url: '{url}', api_key_env: A_TEST_KEY, {price},"
            f" params: {{max_output_tokens: 400}}{more}}}"
        )


def start(project: Project, server: Bills, budget: str, *, rows: int = 100, more: str = "", step: str = "") -> str:
    project.variables["A_TEST_KEY"] = "none"
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(rows)])
    return (
        "version: 1\ndatasets: {d: {path: d.jsonl, key: id}}\n"
        f"models: {{m: {server.model(more)}, n: {server.model(more, id='n')}}}\n"
        "defaults: {model: m, cache: {read: false, write: false}}\n"
        f"budget: {budget}\n"
        f'steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"{step}}}]\n'
    )


@pytest.mark.parametrize("concurrency", [1, 4, 64])
@pytest.mark.parametrize("more", ["", ", stream: true"])
@pytest.mark.parametrize("budget", ["{usd: 1.00}", "{tokens: 12000}"])
def test_no_overrun_while_replies_stay_within_what_was_reserved(
    project: Project, concurrency: int, more: str, budget: str
) -> None:
    rng = random.Random(concurrency)
    with Bills(lambda number: rng.randint(1, 400)) as server:
        report = project.run(start(project, server, budget, more=more), concurrency=concurrency)
    assert report.exit_code == 6, report.reason
    assert server.usd <= 1 if "usd" in budget else server.tokens <= 12_000
    assert report.steps[0].cost_usd == server.usd
    assert report.steps[0].succeeded == server.total > 10


OVER: dict[str, Callable[[int], int]] = {
    "at once": lambda number: 5_000,
    "after a while": lambda number: 5_000 if number >= 20 else 300,
    "now and then": lambda number: 5_000 if number % 7 == 3 else 100,
}


@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("more", ["", ", stream: true"])
@pytest.mark.parametrize("when", OVER)
@pytest.mark.parametrize(("budget", "limit"), [("{usd: 3}", 3), ("{tokens: 30000}", 30_000)])
def test_a_reply_above_its_reservation_costs_no_more_than_the_calls_in_flight(
    project: Project, concurrency: int, more: str, when: str, budget: str, limit: int
) -> None:
    """Each of those in flight may bill 4,600 tokens above what was reserved for it; nothing later does."""
    with Bills(OVER[when]) as server:
        report = project.run(start(project, server, budget, more=more), concurrency=concurrency)
    spent = server.usd if "usd" in budget else server.tokens
    each = Decimal("0.46") if "usd" in budget else 4_600
    in_flight = 1 if when == "at once" else concurrency  # the gate lets one call through before the first answer
    assert spent <= limit + in_flight * each
    assert report.exit_code == 6, report.reason
    assert report.steps[0].cost_usd == server.usd


def test_a_reply_of_more_input_than_was_foreseen_raises_the_margin_too(project: Project) -> None:
    with Bills(lambda number: 10, input=30_000) as server:
        report = project.run(start(project, server, "{usd: 2}"), concurrency=64)
    assert report.exit_code == 6
    assert server.usd <= Decimal(2) + Decimal("0.31")


def test_models_that_share_a_budget_have_margins_of_their_own(project: Project) -> None:
    with Bills(lambda number: 3_000) as server:
        text = start(project, server, "{usd: 2}", step=", model: [m, n]")
        report = project.run(text, concurrency=16)
    assert report.exit_code == 6
    assert server.usd <= Decimal(2) + 2 * Decimal("0.27")


@pytest.mark.parametrize("step", [", schema: {a: string}, max_reasks: 3", ", schema: {a: string}, reask_model: n"])
def test_re_asks_are_within_the_budget(project: Project, step: str) -> None:
    with Bills(lambda number: 390) as server:
        report = project.run(start(project, server, "{usd: 1}", step=step), concurrency=16)
    assert report.exit_code == 6
    assert Decimal("0.5") < server.usd <= 1


def test_the_margin_goes_over_a_resumption(project: Project) -> None:
    with Bills(lambda number: 5_000) as server:
        text = start(project, server, "{usd: 0.6}")
        first = project.run(text, concurrency=1)
        assert (first.exit_code, server.total) == (6, 1)
        second = project.run(text, resume="last", max_cost=Decimal("0.9"), concurrency=64)
        assert (second.exit_code, server.total) == (6, 1), "the reply of the first process is remembered"
        third = project.run(text, resume="last", max_cost=Decimal("1.1"), concurrency=64)
    assert third.exit_code == 6
    assert server.usd <= Decimal("1.1")


# -- what is said --------------------------------------------------------------------------------------------------


def next_line(told: str) -> list[str]:
    (line,) = [line for line in told.splitlines() if line.startswith("next ")]
    return shlex.split(line.removeprefix("next"))


@pytest.mark.parametrize(
    ("budget", "flags"),
    [
        ("{usd: 0.10}", []),
        ("{usd: 0.10}", ["--max-cost", "0.07"]),
        ("{usd: 0.002}", []),
        ("{tokens: 2000}", []),
        ("{tokens: 100}", []),
        ("{tokens: 100}", ["--set", "budget.tokens=900"]),
        ("{calls: 3}", []),
        ("{usd: 0.10, tokens: 3000, calls: 4}", []),
        ("{usd: 5, tokens: 3000, calls: 100}", ["--max-cost", "0.08"]),
    ],
)
def test_the_command_that_is_named_goes_on_to_the_end(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, budget: str, flags: list[str]
) -> None:
    rng = random.Random(7)
    with Bills(lambda number: rng.randint(100, 300), delay_s=0.0) as server:
        project.write("x.yaml", start(project, server, budget, rows=12))
        (project.root / ".env").write_text("A_TEST_KEY=none\n")
        monkeypatch.chdir(project.root)
        words = ["run", "pipelines/x.yaml", *flags]
        assert main(words) == 6
        told = capfd.readouterr().err
        command = next_line(told)
        assert command[0] == "llmpipe"
        assert main(command[1:]) == 0, (command, capfd.readouterr().err)
    assert server.total == 12
    assert command.count("--max-cost") <= 1


def goes_on(project: Project, capfd: pytest.CaptureFixture[str], words: list[str]) -> list[str]:
    """Stop at the budget, go on by the command that is named, and be done; the command."""
    (project.root / ".env").write_text("A_TEST_KEY=none\n")
    assert main(words) == 6
    command = next_line(capfd.readouterr().err)
    assert main(command[1:]) == 0, (command, capfd.readouterr().err)
    capfd.readouterr()
    return command


DEAR = "price: {input: 1000, output: 10000}"
LATER = {
    "one call over all of it": 'prompt: "{% for r in steps.a %}{{ r.output }}{% endfor %}"',
    "groups": 'foreach: {group: steps.a, by: item.id, size: 1}, prompt: "{{ item.key }}"',
    "a dataset that comes later": 'foreach: datasets.d, needs: [a], prompt: "{{ item.id }} again"',
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("budget", ["{usd: 0.10}", "{tokens: 2000}", "{calls: 3}"])
def test_the_limit_that_is_named_suffices_for_steps_that_have_not_begun(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, budget: str, later: str
) -> None:
    """Their model is a hundred times as dear as the one that was asked so far."""
    monkeypatch.chdir(project.root)
    with Bills(lambda number: 200, delay_s=0.0) as server:
        made = start(project, server, budget, rows=8, more=", limits: {concurrency: 2}")
        cheap, dear = made.split(", n: ")
        dear = dear.replace(f"price: {{input: {PRICE[0]}, output: {PRICE[1]}}}", DEAR)
        made = f"{cheap}, n: {dear}".rstrip().removesuffix("]") + f", {{id: b, model: n, {LATER[later]}}}]\n"
        project.write("x.yaml", made)
        goes_on(project, capfd, ["run", "pipelines/x.yaml"])


def test_the_limit_that_is_named_counts_what_responses_without_usage_hold(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    with Bills(lambda number: 0, input=0, delay_s=0.0) as server:
        project.write("x.yaml", start(project, server, "{usd: 0.2}", rows=12))
        goes_on(project, capfd, ["run", "pipelines/x.yaml"])
    assert server.total == 12


def test_the_limit_that_is_named_suffices_for_items_that_are_re_asked(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    with Bills(lambda number: 200, delay_s=0.0) as server:
        step = ", schema: {a: string}, max_reasks: 3, min_success: 0%"
        project.write("x.yaml", start(project, server, "{usd: 0.3}", rows=12, step=step))
        command = goes_on(project, capfd, ["run", "pipelines/x.yaml", "--concurrency", "2"])
        assert server.total == 12 * 2, "an answer that comes again is not asked for a third time"
        assert main(["run", "pipelines/x.yaml", "--retry-failed", command[4], *command[5:]]) == 6
        again = next_line(capfd.readouterr().err)
        assert main(again[1:]) == 0, (again, capfd.readouterr().err)


@pytest.mark.parametrize("lack", ["price", "limit"])
def test_a_limit_on_the_command_line_that_cannot_be_kept_is_refused_before_anything_is_sent(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    monkeypatch.chdir(project.root)
    (project.root / ".env").write_text("A_TEST_KEY=none\n")
    with Bills(lambda number: 200, delay_s=0.0) as server:
        cheap, n = start(project, server, "{wall: 1h}", rows=2).split(", n: ")
        without = f"price: {{input: {PRICE[0]}, output: {PRICE[1]}}}, " if lack == "price" else "max_output_tokens: 400"
        assert without in n
        made = f"{cheap}, n: {n.replace(without, '')}".rstrip().removesuffix("]")
        project.write("x.yaml", made + ', {id: b, model: n, needs: [a], foreach: datasets.d, prompt: "b"}]\n')
        assert main(["run", "pipelines/x.yaml", "--max-cost", "5"]) == 2
        told = capfd.readouterr().err
        assert "C229" in told
        assert "'n'" in told
        assert server.total == 0
        assert not (project.root / "output" / "x" / "latest").exists()
        assert main(["run", "pipelines/x.yaml"]) == 0
        assert main(["run", "pipelines/x.yaml", "--max-cost", "5", "--only", "a"]) == 0, "b is not asked"


def figures(report: RunReport) -> list[Decimal]:
    return [Decimal(word.strip("$,;").replace(",", "")) for word in report.reason.split() if word[0] == "$"]


def test_the_stop_says_spent_next_and_limit_and_they_do_not_fit(project: Project) -> None:
    with Bills(lambda number: 300) as server:
        report = project.run(start(project, server, "{usd: 0.30}"), concurrency=4)
    assert report.reason.startswith("stopped before the next call: $0.2"), report.reason
    spent, more, limit = figures(report)
    assert limit == Decimal("0.30")
    assert spent + more > limit
    assert abs(spent - server.usd) < Decimal("0.01")
    assert "nothing was sent" not in report.reason


def test_a_budget_too_small_for_any_call_says_that_nothing_was_sent(project: Project) -> None:
    with Bills(lambda number: 300) as server:
        report = project.run(start(project, server, "{usd: 0.01}"))
    assert server.total == 0
    assert report.reason == (
        "stopped before the first call: it may cost up to $0.0411, the limit is $0.0100; nothing was sent"
    )


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ("{calls: 3}", "stopped before the next call: 3 calls are made, the limit is 3"),
        ("{tokens: 100}", "stopped before the first call: it may take up to 506, the limit is 100; nothing was sent"),
        ("{tokens: 900}", "stopped before the next call: 640 tokens used, it may take up to 506, the limit is 900"),
    ],
)
def test_tokens_and_calls_are_said_alike(project: Project, budget: str, reason: str) -> None:
    with Bills(lambda number: 300) as server:
        report = project.run(start(project, server, budget), concurrency=1)
    assert report.reason == reason


def test_a_long_prompt_reserves_about_what_it_costs(project: Project) -> None:
    """40 kB of English are about 9,000 tokens; what is reserved for them is no more than two and a half times that."""
    text = "The order arrived two days late, one cup was broken, and nobody answered my letters until Friday. " * 410
    with Bills(lambda number: 10, input=8_200) as server:
        source = start(project, server, "{usd: 1}", rows=1).replace("{{ item.id }}", text + "{{ item.id }}")
        report = project.run(source)
        assert report.exit_code == 0, report.reason
        small = project.run(source.replace("{usd: 1}", "{usd: 0.01}"))
    (more,) = [amount for amount in figures(small) if amount > Decimal("0.01")]
    assert Decimal("0.082") < more - Decimal("0.04") < Decimal("0.082") * Decimal("2.6")
