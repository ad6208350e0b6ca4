"""A process that is stopped for longer than every clock, as by Ctrl-Z, throws away nothing that came meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.engine.conftest import Project
from tests.faults.server import FaultServer

ROWS = 24
TEXT = """\
version: 1
name: x
models:
  m: {{provider: {provider}, base_url: "{url}", model: demo, stream: {stream}, limits: {{concurrency: {rows}}}}}
defaults: {{model: m, cache: off, timeout: {timeout}}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"}}]
"""


@pytest.mark.parametrize(
    ("provider", "wire", "stream", "timeout"),
    [
        ("openai_compatible", "openai_chat", "false", "{attempt: 3s, total: 5s}"),
        ("openai_compatible", "openai_chat", "true", "{first_token: 3s, idle: 2s, attempt: 3s}"),
        ("ollama", "ollama", "false", "{first_token: 2s}"),
    ],
)
def test_a_stop_that_is_longer_than_the_clocks_repeats_nothing(
    project: Project, provider: str, wire: str, stream: str, timeout: str
) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(ROWS)])
    begun = time.monotonic()
    with FaultServer(lambda number, body: "ok" if number == 0 else "slow") as server:
        url = server.base(wire)
        text = TEXT.format(provider=provider, url=url, stream=stream, rows=ROWS, timeout=timeout)
        path = project.write("x.yaml", text)
        command = [sys.executable, "-m", "llmpipe", "run", str(path), "--json"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ.copy(), text=True)
        try:
            while len(server.requests) < ROWS // 2:
                assert time.monotonic() - begun < 60
                time.sleep(0.001)
            run.send_signal(signal.SIGSTOP)
            time.sleep(6.5)
            run.send_signal(signal.SIGCONT)
            out, _ = run.communicate(timeout=60)
        finally:
            run.kill()
            run.wait()
        assert (run.returncode, len(server.requests)) == (0, ROWS)
    assert json.loads(out)["maybe_billed"] == 0
