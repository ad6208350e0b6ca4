"""Replies that would fill the memory, each in a process of its own whose peak is measured."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

MOST_MB = 64
PROGRAM = """
import resource, sys
from tests.faults.matrix import run_cell

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

wire, fault, stream = sys.argv[1], sys.argv[2], sys.argv[3] == "stream"
run_cell(wire, "ok", stream=stream)
before = peak()
cell = run_cell(wire, fault, stream=stream)
assert cell.seconds < 60, cell
print(cell.outcome, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize(
    ("wire", "fault", "outcome"),
    [
        ("openai_chat", "endless_body", "ReplyTooLarge"),
        ("anthropic", "huge_length", "ReplyTooLarge"),
        ("gemini", "endless_head", "BadReply"),
        ("ollama", "many_values", "BadReply"),
        ("openai_responses", "long_answer", "ok"),
        ("openai_chat", "stream_endless", "ReplyTooLarge"),
        ("openai_responses", "stream_endless", "ReplyTooLarge"),
        ("anthropic", "stream_endless", "ReplyTooLarge"),
        ("gemini", "stream_endless", "ReplyTooLarge"),
        ("ollama", "stream_endless", "ReplyTooLarge"),
        ("ollama", "stream_long_line", "ReplyTooLarge"),
    ],
)
def test_no_reply_takes_more_memory_than_is_allowed(wire: str, fault: str, outcome: str) -> None:
    stream = "stream" if fault.startswith("stream") else "whole"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, wire, fault, stream],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kind, grown = done.stdout.split()
    assert kind == outcome
    assert int(grown) < MOST_MB
