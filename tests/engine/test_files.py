"""What a kill leaves half-written is gone after the next process has been there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from llmpipe.engine.files import replacing, sweep_drafts
from tests.engine.conftest import Project

TEXT = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: one, foreach: datasets.d, render: "{{ item.id }}"}
outputs:
  - {from: steps.one, path: output/one.jsonl}
"""
KILLED_WHILE_WRITING = """\
import os, signal, sys
from pathlib import Path
from llmpipe.engine.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_writing(path: Path) -> list[Path]:
    """Let a process die by SIGKILL in the middle of writing `path`; returns what it left."""
    before = set(path.parent.rglob(".*"))
    process = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert process.returncode == -9
    return [left for left in path.parent.rglob(".*") if left not in before]


def test_what_a_killed_process_left_in_a_run_is_gone_when_it_goes_on(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}])
    first = project.run(TEXT)
    left = []
    for name in ("steps/one.jsonl", "failures/one/a-12345678.json", "run.json", "../status.json"):
        left += killed_while_writing(first.folder / name)
    assert len(left) == 4
    report = project.run(resume="last")
    assert report.exit_code == 0
    assert [path for path in left if path.exists()] == []
    assert (report.folder / "steps" / "one.jsonl").read_text() == '{"key": "a", "output": "a"}\n'


def test_a_draft_of_an_output_that_was_left_behind_goes_with_the_next_one(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}])
    (old,) = killed_while_writing(project.root / "output" / "one.jsonl")
    os.utime(old, (time.time() - 7200,) * 2)
    assert project.run(TEXT).exit_code == 0
    assert not old.exists()


def test_a_draft_that_somebody_is_writing_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "a[1].jsonl") as file:
        file.write("whole")
        sweep_drafts(tmp_path / "a[1].jsonl")
    assert (tmp_path / "a[1].jsonl").read_text() == "whole"
