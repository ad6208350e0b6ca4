"""How many items are at work at once: as many as the gates let through, and some to follow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.answers import Answers
from tests.engine.conftest import Project


def pipeline(server: Answers, concurrency: int, steps: str) -> str:
    return f"""\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models:
  m:
    provider: openai_compatible
    base_url: {server.url}
    api_key_env: M_API_KEY
    model: m
    limits: {{concurrency: {concurrency}}}
defaults: {{model: m, cache: off}}
steps:
{steps}"""


@pytest.fixture(autouse=True)
def _key(project: Project) -> None:
    project.variables["M_API_KEY"] = "k"


def test_a_run_has_as_many_calls_in_flight_as_its_limit_says(project: Project) -> None:
    """Also where that is more than the rows that are taken up at first."""
    project.rows("d.jsonl", [{"id": str(n)} for n in range(1500)])

    def reply(prompt: str) -> str:
        server.together = 700  # once the first answer has let the others pass
        return "good"

    with Answers(reply) as server:
        report = project.run(pipeline(server, 700, '  - {id: one, foreach: datasets.d, prompt: "{{ item.id }}"}\n'))
    assert report.exit_code == 0
    assert server.most_in_flight == 700


def test_a_long_list_of_one_row_is_asked_at_the_full_limit_too(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "one"}])
    steps = """\
  - {id: make, foreach: datasets.d, prompt: "make", schema: {all: [integer]}}
  - {id: each, foreach: steps.make.all, prompt: "each {{ item }}"}
"""

    def reply(prompt: str) -> Any:
        if prompt != "make":
            return "good"
        server.together = 200
        return {"all": list(range(600))}

    with Answers(reply) as server:
        report = project.run(pipeline(server, 200, steps))
    assert report.exit_code == 0
    assert server.most_in_flight == 200
