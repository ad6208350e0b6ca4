"""Runs whose first model fails: who is asked instead, and how that stands in result, ledger and cost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

from llmpipe.engine.results import RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project

PIPELINE = """
    version: 1
    name: x
    datasets: {{d: {{path: d.jsonl, key: id}}}}
    models:
      first:
        provider: openai_compatible
        base_url: {first}
        model: small
        price: {{input: 1, output: 1}}
        fallback: [{{model: second, on: [server_error, refused]}}]
      second: {{provider: openai_compatible, base_url: {second}, model: large, price: {{input: 100, output: 100}}}}
    defaults: {{model: first, retry: {{max_retries: 0}}}}
    steps:
      - {{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}", min_success: 1}}
    """


def reply(prompt: str) -> Any:
    if prompt == "broken":
        return 500, {"error": {"message": "Internal error"}}
    if prompt == "long":
        return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
    return "ok"


def ledger(report: RunReport, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(report.folder / "run.db")) as db:
        return db.execute(query).fetchall()


def test_the_words_of_a_fallback_decide_and_the_answer_is_recorded_as_the_others(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "fine"}, {"id": "broken"}, {"id": "long"}])
    with Answers(reply) as first, Answers() as second:
        report = project.run(PIPELINE.format(first=first.url, second=second.url))
    assert list(second.asked) == ["broken"]
    assert report.exit_code == 0
    (step,) = report.steps
    assert (step.succeeded, step.failed, step.fallbacks) == (2, 1, 1)
    rows = ledger(report, "SELECT items.key, answered_by, fallbacks, code FROM results JOIN items ON items.id = item")
    assert set(rows) == {
        ("fine", "openai_compatible/small", 0, None),
        ("broken", "openai_compatible/large", 1, None),
        ("long", None, 0, "P411"),
    }
    costs = dict(ledger(report, "SELECT model, SUM(cost_usd) FROM attempts WHERE outcome = 'ok' GROUP BY model"))
    assert float(costs["openai_compatible/large"]) == 100 * float(costs["openai_compatible/small"]) > 0
    lines = (report.folder / "log.jsonl").read_text().splitlines()
    asked = [(e["model"], e["event"]) for e in map(json.loads, lines) if e.get("attempt")]
    assert ("openai_compatible/small", "llm_call_failed") in asked
    assert ("openai_compatible/large", "llm_call_ok") in asked
