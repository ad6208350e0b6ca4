"""A small project on `echo`, and the command line inside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PIPELINE = """\
version: 1
name: small
vars: {who: you, tone: plain}
datasets:
  rows: {path: data/rows.jsonl, key: id}
models:
  main: {provider: echo, model: demo}
defaults: {model: main}
steps:
  - id: greet
    foreach: datasets.rows
    prompt: "{{ vars.who }}: {{ item.text }}"
  - id: page
    render: "{{ steps.greet | length }} greeted"
outputs:
  - {from: steps.page, path: output/page.md}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with pipelines/small.yaml over five rows; the working directory."""
    root = tmp_path / "project"
    data = root / "pipelines" / "data"
    data.mkdir(parents=True)
    rows = [{"id": f"r{n}", "text": f"text {n}"} for n in range(5)]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "pipelines" / "small.yaml").write_text(PIPELINE)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def failing(project: Path) -> Path:
    """The same with a pipeline whose model refuses every answer."""
    text = PIPELINE.replace("model: demo}", "model: demo, params: {faults: {refusal: 100%}}}")
    (project / "pipelines" / "small.yaml").write_text(text)
    return project
