"""Answers of the rarer kinds, as a run meets them: nothing hangs it, nothing is bent, nothing is made up."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from llmpipe.engine.results import RunReport, StepCounts
from tests.engine.conftest import Project
from tests.engine.speaking import Asked, Speaking

ROWS = [{"id": f"r{n}", "body": f"text {n}"} for n in range(4)]


@pytest.fixture
def rows(project: Project) -> Project:
    project.rows("rows.jsonl", ROWS)
    project.variables = {"A_TEST_KEY": "k-1"}
    return project


def pipeline(server: Speaking, schema: Any, *, provider: str = "openai", step: str = "max_reasks: 0") -> str:
    return (
        "version: 1\n"
        "datasets: {rows: {path: rows.jsonl, key: id}}\n"
        f"models:\n  m: {server.model(provider, more=', params: {max_output_tokens: 100}')}\n"
        "defaults: {model: m, timeout: {attempt: 10s}, retry: {max_retries: 0}}\n"
        "steps:\n  - id: label\n    foreach: datasets.rows\n    prompt: 'Label {{ item.id }}'\n"
        f"    schema: {json.dumps(schema)}\n    min_success: 1\n"
        + "".join(f"    {line}\n" for line in step.splitlines())
    )


def row_of(asked: Asked) -> str:
    return next(text for text in asked.texts if "Label " in text).split("Label ")[1][:2]


def counts(report: RunReport) -> StepCounts:
    return next(s for s in report.steps if s.id == "label")


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def test_a_pattern_that_hangs_among_alternatives_fails_its_item_alone(rows: Project) -> None:
    way = closed({"t": {"type": "string", "pattern": "^(a+)+$"}, "n": {"type": "string"}}, "t")
    schema = closed({"x": {"anyOf": [way, {"type": "null"}]}}, "x")

    def say(asked: Asked) -> str:
        return json.dumps({"x": {"t": "a" * 40 + ("!" if row_of(asked) == "r1" else ""), "n": None}})

    with Speaking(say) as server:
        started = time.perf_counter()
        report = rows.run(pipeline(server, schema))
    assert time.perf_counter() - started < 150
    assert (report.exit_code, counts(report).succeeded, counts(report).failed) == (0, 3, 1)
    assert rows.outputs(report, "label") == [{"x": {"t": "a" * 40}}] * 3
    assert [(cause.code, cause.example_key) for cause in report.causes] == [("O503", "r1")]
