"""Large replies, many at once or one by one, take little more memory than their own bytes in flight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.answers import Answers
from tests.engine.conftest import Project

MB = 1_000_000
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the most memory of a process is read from /proc")
ABOVE = 64 * MB  # what a run may take above the bytes in flight, of a run with small replies
TEXT = """\
version: 1
name: x
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: {at_once}}}}}
defaults: {{model: m, max_reasks: 0, retry: {{max_retries: 0}}, min_success: 0}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}"{schema}}}]
"""
# What wait4 says counts the memory of the process that started this one too, as it was then.
RUN = """\
import sys
from llmpipe.cli.main import main
code = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
sys.exit(code)
"""
SCHEMA = ", schema: {text: string}"
LISTS = ", schema: {list: [string]}"


def most_memory(project: Project, answer: Any, schema: str, *, rows: int, at_once: int) -> tuple[int, int]:
    """The most bytes that a run had resident, and its exit code."""
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(rows)])
    with Answers(lambda prompt: answer) as server:
        path = project.write("x.yaml", TEXT.format(url=server.url, at_once=at_once, schema=schema))
        command = [sys.executable, "-c", RUN, "run", str(path), "--quiet"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ.copy())
    return int(done.stdout) * 1024, done.returncode


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> int:
    project = Project(Path(tmp_path_factory.mktemp("small")) / "project")
    most, code = most_memory(project, {"text": "small"}, SCHEMA, rows=64, at_once=64)
    assert code == 0
    return most


@pytest.mark.parametrize(
    ("what", "size", "rows", "at_once"),
    [
        ("json", MB, 64, 64),
        ("text", MB, 64, 64),
        ("list", MB // 2, 64, 64),
        ("invalid", MB, 64, 64),
        ("error", MB, 64, 64),
        ("json", 7_500_000, 3, 1),
    ],
)
def test_a_run_takes_little_more_than_the_bytes_in_flight(
    project: Project, baseline: int, what: str, size: int, rows: int, at_once: int
) -> None:
    text = "word " * (size // 5)
    answers: dict[str, tuple[Any, str, int]] = {
        "json": ({"text": text}, SCHEMA, 0),
        "text": (text, "", 0),
        "list": ({"list": ["some words"] * (size // 14)}, LISTS, 0),
        "invalid": ('{"text": ' + json.dumps(text), SCHEMA, 0),
        "error": ((400, {"error": {"message": text}}), "", 0),
    }
    answer, schema, code = answers[what]
    most, ended = most_memory(project, answer, schema, rows=rows, at_once=at_once)
    assert ended == code
    in_flight = size * (at_once + 1)  # the next one comes in while one is written down
    assert most - baseline <= in_flight + ABOVE
