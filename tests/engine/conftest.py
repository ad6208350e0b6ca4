"""A project in a folder of its own, loaded and run in-process on `echo` or on a server on loopback."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from llmpipe.config.environment import Environment
from llmpipe.config.load import load_pipeline
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import RunReport, Snapshot
from llmpipe.engine.run import run_pipeline


@dataclass
class Seen:
    """A progress that keeps what it was told."""

    snapshots: list[Snapshot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def note(self, line: str) -> None:
        self.notes.append(line)


class Project:
    """A folder with `pipelines/x.yaml` and what it needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pipelines").mkdir(parents=True)
        self.seen = Seen()
        self.variables: dict[str, str] = {}

    def write(self, name: str, text: str) -> Path:
        path = self.root / "pipelines" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def rows(self, name: str, rows: list[dict[str, Any]]) -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def load(self, text: str | None = None, **given: Any) -> Pipeline:
        path = self.root / "pipelines" / "x.yaml"
        if text is not None:
            self.write("x.yaml", text)
        return load_pipeline(path, **given)

    def run(self, text: str | None = None, **options: Any) -> RunReport:
        pipeline = self.load(text)
        return run_pipeline(
            pipeline, RunOptions(**options), environment=Environment(self.variables), progress=self.seen
        )

    def results(self, report: RunReport, step: str) -> list[dict[str, Any]]:
        lines = (report.folder / "steps" / f"{step}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def outputs(self, report: RunReport, step: str) -> list[Any]:
        return [line["output"] for line in self.results(report, step)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(autouse=True)
def _databases_are_closed(tmp_path: Path) -> Iterator[None]:
    """Whatever a run ends of, it lets go of its databases: only some Pythons tell of one that was forgotten."""
    yield
    assert [name for name in _open_files() if name.startswith(str(tmp_path)) and ".db" in name] == []


def _open_files() -> Iterator[str]:
    descriptors = Path("/proc/self/fd")
    for link in descriptors.iterdir() if descriptors.is_dir() else ():
        with contextlib.suppress(OSError):  # one that was closed meanwhile, as that of the folder itself
            yield str(link.readlink())


@pytest.fixture
def counts() -> Callable[[RunReport], dict[str, tuple[int, int, int, int, int]]]:
    """step → (items, succeeded, failed, skipped, unsent)."""
    return lambda report: {s.id: (s.items, s.succeeded, s.failed, s.skipped, s.unsent) for s in report.steps}
