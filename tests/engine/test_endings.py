"""Whatever ends a run, it ends with a summary, counts that add up, a run.json that agrees, and the next command."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from llmpipe.engine.results import Snapshot
from tests.engine.answers import Answers
from tests.engine.conftest import Project, Seen

HEAD = """
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models: {{m: {{provider: openai_compatible, base_url: "{url}", model: t, limits: {{concurrency: 4}}}}}}
defaults: {{model: m}}
{more}
"""
CODE = """
import glob, os, sqlite3

def broken(key):
    raise RuntimeError("no luck with " + key)

class Odd(BaseException):
    pass

def odd(key):
    raise Odd(key)

def forget(key):
    "Takes a result out of the ledger behind the run's back."
    (path,) = glob.glob(os.path.join(os.path.dirname(__file__), "..", "output", "x", "[0-9a-f]*", "run.db"))
    db = sqlite3.connect(path, timeout=30)
    db.execute("DELETE FROM results WHERE item = (SELECT MIN(item) FROM results)")
    db.commit()
    db.close()
    return key

class Provider:
    def __call__(self, request, key):
        raise ValueError("the provider's own fault")

provider = Provider()
"""
ASK = 'steps: [{id: a, foreach: datasets.d, prompt: "{{ item.id }}", schema: {a: string}}'


@dataclass
class Case:
    more: str
    code: int
    status: str
    reason: str
    reply: Any = None


CASES = {
    "by": Case(f"{ASK}, {{id: g, foreach: {{group: steps.a, by: item.nothing}}, prompt: x}}]", 1, "failed", "12 of 12"),
    "own code": Case('steps: [{id: a, foreach: datasets.d, python: "own:broken"}]', 1, "failed", "12 of 12"),
    "own code of a strange kind": Case('steps: [{id: a, foreach: datasets.d, python: "own:odd"}]', 1, "failed", "12"),
    "a sum that does not hold": Case(f'{ASK}, {{id: p, needs: [a], python: "own:forget"}}]', 3, "crashed", "the sum"),
    "account": Case(f"{ASK}]", 4, "stopped", "key", lambda p: (401, {"error": {"message": "no"}})),
    "a step": Case(f"{ASK}]", 1, "failed", "12 of 12", lambda p: (400, {"error": {"message": "no"}})),
    "on_error": Case(f"{ASK}]".replace("prompt", "on_error: fail, prompt"), 1, "failed", "step a", lambda p: (400, {})),
    "budget": Case(f"budget: {{calls: 5}}\n{ASK}]", 6, "stopped", "calls"),
    "own provider": Case(
        'models: {o: {provider: "own:provider", model: t}}\ndefaults: {model: o}\n' + ASK + "]", 1, "failed", "12 of 12"
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_run_ends_with_its_summary(project: Project, kind: str) -> None:
    case = CASES[kind]
    project.write("own.py", CODE)
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(12)])
    with Answers(case.reply or (lambda prompt: {"a": prompt})) as server:
        text = HEAD.format(url=server.url, more=case.more)
        if kind == "own provider":
            text = "\n".join(line for line in text.splitlines() if "openai_compatible" not in line and "m}" not in line)
        project.write("x.yaml", text)
        command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), "--allow-python"]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == case.code, done.stderr
    assert "Traceback" not in done.stderr
    (path,) = [p for p in (project.root / "output" / "x").glob("*/run.json") if not p.parent.is_symlink()]
    data, said = json.loads(path.read_text()), json.loads(done.stdout)
    assert (data["status"], data["exit_code"]) == (said["status"], said["exit_code"]) == (case.status, case.code)
    assert case.reason in data["reason"]
    assert f"run {path.parent.name}" in done.stderr.splitlines()[0] + done.stderr
    assert any(line.startswith("next") and path.parent.name in line for line in done.stderr.splitlines())
    for step in data["steps"]:
        if case.code != 3:
            assert step["items"] == step["succeeded"] + step["failed"] + step["skipped"] + step["unsent"]


class ShortOfMemory(Seen):
    """A display for whose second update there is no memory: in the update itself, or in what it leaves to the loop."""

    def __init__(self, *, later: bool) -> None:
        super().__init__()
        self.later = later

    def update(self, snapshot: Snapshot) -> None:
        super().update(snapshot)
        if len(self.snapshots) != 2:
            return
        if not self.later:
            raise MemoryError
        asyncio.get_running_loop().call_soon(self._fail)

    def _fail(self) -> None:
        raise MemoryError


@pytest.mark.parametrize("later", [False, True])
def test_a_lack_of_memory_beside_the_work_stops_the_run(project: Project, later: bool) -> None:
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(80)])
    project.seen = ShortOfMemory(later=later)
    with Answers(delay_s=0.2) as server:
        more = 'steps: [{id: a, foreach: datasets.d, prompt: "{{ item.id }}"}]'
        text = HEAD.format(url=server.url, more=more)
        report = project.run(text)
        assert (report.exit_code, report.status) == (1, "failed"), report.reason
        assert "not enough memory" in report.reason
        assert report.steps[0].succeeded == server.total < 80
        project.seen = Seen()
        assert project.run(text, resume="last").exit_code == 0
    assert max(server.asked.values()) == 1
