"""Two runs that share a cache and ask the same, one of which is stopped: the other one goes on, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.engine.answers import Answers
from tests.engine.conftest import Project

ROWS, WIDTH = 300, 32
TEXT = """\
version: 1
name: {name}
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 32}}}}
defaults: {{model: m}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"}}]
"""


def test_beside_a_stopped_run_the_other_one_asks_at_full_width_and_ends(project: Project) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(ROWS)])
    with Answers(delay_s=0.5) as server:
        project.write("y.yaml", TEXT.format(name="y", url=server.url))
        command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "y.yaml"), "--quiet"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ.copy(), text=True) as other:
            try:
                server.wait_for(2 * WIDTH)
                other.send_signal(signal.SIGSTOP)
                server.wait_until_idle()  # what the stopped run had asked for is none of the other one's
                sent, server.most_in_flight = server.total, 0
                report = project.run(TEXT.format(name="x", url=server.url))
                assert report.exit_code == 0, report.reason
                assert report.steps[0].succeeded == ROWS
                assert server.most_in_flight == WIDTH
                most = max(snapshot.waiting_elsewhere for snapshot in project.seen.snapshots)
                assert most >= WIDTH
                asked = dict(server.asked)
                other.send_signal(signal.SIGCONT)
                assert (other.communicate(timeout=60)[1], other.returncode) == ("", 0)
            finally:
                other.kill()
    assert len(asked) == ROWS
    assert max(asked.values()) <= 2
    assert sum(asked.values()) <= ROWS + WIDTH  # bought twice: what was under way when the other one was stopped
    assert dict(server.asked) == asked  # and it asks for nothing that is there when it comes back
    assert sent >= 2 * WIDTH
