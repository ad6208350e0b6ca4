"""SIGKILL at random moments: the run that is continued ends as one that was never disturbed, and asks little twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.lock import is_held
from tests.engine.answers import Answers
from tests.engine.conftest import Project

IN_FLIGHT = 6
ROWS = 60
TEXT = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 6}}}}
defaults: {{model: m, cache: {cache}}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: list, foreach: datasets.d, prompt: "list {{{{ item.id }}}}", schema: {{parts: "list[string]"}}}}
  - {{id: part, foreach: steps.list.parts, prompt: "part {{{{ parent.id }}}} {{{{ item }}}}"}}
  - {{id: sum, foreach: datasets.d, render: "{{% for p in steps.part %}}{{{{ p.output }}}};{{% endfor %}}"}}
  - id: group
    foreach: {{group: steps.list, size: 20}}
    prompt: "group {{{{ item.rows | length }}}} {{{{ item.key }}}}"
  - {{id: all, render: "{{{{ steps.part | length }}}} {{{{ steps.group | length }}}}"}}
"""


def reply(prompt: str) -> Any:
    if prompt.startswith("list"):
        number = int(prompt.split("r")[-1])
        return {"parts": [f"p{n}" for n in range(number % 3)]}
    return f"re: {prompt}"


def results(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "steps").iterdir())}


def undisturbed(project: Project, server: Answers, cache: str) -> dict[str, str]:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(ROWS)])
    report = project.run(TEXT.format(url=server.url, cache=cache), output_dir=project.root / "reference")
    assert report.exit_code == 0, report.reason
    return results(report.folder)


def kill_once(project: Project, after_s: float, *words: str) -> bool:
    """Start the run (or go on with it) and kill it after so many seconds; True if it was not done by then."""
    command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy())
    home = project.root / "output" / "x"
    end = time.monotonic() + 300
    while not (is_held(home) and (home / "latest").exists()) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    process.wait()
    return process.returncode == -9


def disturbed(project: Project, server: Answers, seed: int, *, kills: int, cache: str) -> None:
    expected = undisturbed(project, server, cache)
    server.asked.clear()
    rng = random.Random(seed)
    done = 0
    words: tuple[str, ...] = ()
    while done < kills and kill_once(project, rng.uniform(0.0, 1.2), *words):
        done += 1
        words = ("--resume",)
    report = project.run(resume="last")
    assert report.exit_code == 0, report.reason
    assert results(report.folder) == expected
    assert not list(report.folder.rglob("*.part"))
    again = sum(count - 1 for count in server.asked.values())
    assert again <= done * IN_FLIGHT, f"{again} asked again after {done} kills"
    data = json.loads((report.folder / "run.json").read_text())
    assert data["totals"]["items"] == data["totals"]["succeeded"]


@pytest.mark.parametrize("seed", range(5))
def test_killed_four_times(project: Project, seed: int) -> None:
    """20 kills in all, the cache switched off."""
    with Answers(reply, delay_s=0.02) as server:
        disturbed(project, server, seed, kills=4, cache="{read: false, write: false}")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_killed_five_times(project: Project, seed: int) -> None:
    """200 kills in all, half of them with the cache."""
    with Answers(reply, delay_s=0.02) as server:
        disturbed(project, server, seed, kills=5, cache="{read: false, write: false}" if seed % 2 else "{ttl: none}")
