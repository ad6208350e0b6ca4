"""A copy of this repository's pipelines, and the command run on it as a person does, from another folder."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

SHIPPED = ("tickets", "docs-review", "release-notes", "hello")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The report that --json prints."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def step(self, id: str) -> dict[str, Any]:
        """A step's counts in the report."""
        return next(s for s in self.report["steps"] if s["id"] == id)


@dataclass(frozen=True)
class Project:
    """A project root with pipelines/, schemas/ and the documents; commands run in `elsewhere`."""

    root: Path
    elsewhere: Path

    def llmpipe(self, *words: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "llmpipe", *words],
            cwd=self.elsewhere,
            env=os.environ | (env or {}),
            input=stdin or "",
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, name: str, *words: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Done:
        return self.llmpipe("run", str(self.root / "pipelines" / f"{name}.yaml"), *words, stdin=stdin, env=env)

    def latest(self, name: str) -> Path:
        return (self.root / "output" / name / "latest").resolve()

    def results(self, name: str, step: str) -> list[dict[str, Any]]:
        lines = (self.latest(name) / "steps" / f"{step}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def ledger(self, name: str, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.latest(name) / 'run.db'}?mode=ro", uri=True) as db:
            rows = db.execute(query).fetchall()
        db.close()
        return rows


def copy_of_repository(folder: Path) -> Project:
    """Copy what the pipelines need to `folder`/project."""
    root, elsewhere = folder / "project", folder / "elsewhere"
    elsewhere.mkdir(parents=True)
    for name in ("pipelines", "schemas", "docs"):
        shutil.copytree(REPOSITORY / name, root / name)
    for page in REPOSITORY.glob("*.md"):
        shutil.copy(page, root)
    return Project(root, elsewhere)
