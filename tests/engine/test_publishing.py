"""Outputs are published all or none, and never over what the pipeline reads."""

from __future__ import annotations

import json

import pytest

from llmpipe.errors import ConfigError
from tests.engine.answers import Answers
from tests.engine.conftest import Project

RENDER = """\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
  - {{id: one, foreach: datasets.d, render: "{word} {{{{ item.id }}}}"}}
outputs:
  - {{from: steps.one, path: output/first.jsonl}}
  - {{from: steps.one, path: {path}, columns: {{x: {column}}}}}
"""


def test_an_output_that_cannot_be_made_keeps_the_others_as_they_were(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "n": 1}, {"id": "b"}])
    first = project.run(RENDER.format(word="old", path="output/second.csv", column="item.id"))
    assert len(first.published) == 2
    second = project.run(RENDER.format(word="new", path="output/second.csv", column="item.n"))
    assert (second.exit_code, second.published) == (1, ())
    assert "old a" in (project.root / "output" / "first.jsonl").read_text()
    assert (project.root / "output" / "second.csv").read_text() == "x\na\nb\n"
    assert [p.name for p in (project.root / "output").glob("*.part")] == []


def test_an_output_does_not_take_the_place_of_the_rows_it_was_made_of(project: Project) -> None:
    path = project.rows("d.jsonl", [{"id": "a"}])
    with pytest.raises(ConfigError, match="O523"):
        project.run(RENDER.format(word="x", path="pipelines/d.jsonl", column="item.id"))
    assert path.read_text() == '{"id": "a"}\n'


def test_a_result_is_one_line_to_whoever_splits_lines_as_unicode_does(project: Project) -> None:
    word = "a\x85b\u2028c\u2029d \u00e9"
    project.rows("d.jsonl", [{"id": word}, {"id": "q\x1c\x0b"}])
    report = project.run(RENDER.format(word="x", path="output/second.json", column="item.id"))
    for path in (report.folder / "steps" / "one.jsonl", project.root / "output" / "first.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["key"] for line in lines] == [word, "q\x1c\x0b"]
        assert "\u00e9" in lines[0]


ASKED = """\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models:
  m: {{provider: openai_compatible, base_url: {url}, api_key_env: M_API_KEY, model: m}}
defaults: {{model: m, cache: off, retry: {{max_retries: 0}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "one {{{{ item.id }}}}"}}
outputs:
  - {{from: steps.one, path: output/found.jsonl}}
"""


class Failing:
    """A server's answers: the rows in `at` are refused."""

    def __init__(self, *at: str) -> None:
        self.at = {f"one {key}" for key in at}

    def __call__(self, prompt: str) -> object:
        return (400, {"error": {"message": "no"}}) if prompt in self.at else "good"


def test_a_retry_of_the_last_failed_row_publishes_what_is_then_whole(project: Project) -> None:
    """`--retry-failed --key K` works in place: the run has all its rows, whichever of them this process looked at."""
    project.variables["M_API_KEY"] = "k"
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(6)])
    found = project.root / "output" / "found.jsonl"
    with Answers(failing := Failing("r2", "r4")) as server:
        text = ASKED.format(url=server.url)
        assert project.run(text).exit_code == 1
        failing.at.clear()
        first = project.run(text, retry_failed="last", key="r2")
        assert (first.exit_code, first.published, found.exists()) == (1, (), False)
        second = project.run(text, retry_failed="last", key="r4")
        assert (second.exit_code, second.status, second.published) == (0, "complete", (found,))
    assert len(found.read_text().splitlines()) == 6


def test_a_retry_within_some_rows_publishes_nothing(project: Project) -> None:
    project.variables["M_API_KEY"] = "k"
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(6)])
    with Answers(failing := Failing("r1")) as server:
        text = ASKED.format(url=server.url)
        assert project.run(text, limit=3).exit_code == 1
        failing.at.clear()
        report = project.run(text, retry_failed="last", key="r1")
        assert (report.exit_code, report.published) == (0, ())
        assert server.total == 4


def test_a_retry_of_a_row_while_others_were_never_sent_publishes_nothing(project: Project) -> None:
    project.variables["M_API_KEY"] = "k"
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(6)])
    with Answers(failing := Failing("r0")) as server:
        text = ASKED.format(url=server.url)
        stopped = project.run(text.replace("max_retries: 0}", "max_retries: 0}, on_error: fail"), concurrency=1)
        assert stopped.steps[0].unsent > 0
        failing.at.clear()
        report = project.run(text.replace("max_retries: 0}", "max_retries: 0}, on_error: fail"),
                             retry_failed="last", key="r0")  # fmt: skip
        assert (report.exit_code, report.status, report.published) == (0, "stopped", ())


@pytest.mark.parametrize(("folder", "path"), [("runs", "runs/x/first.csv"), ("pages", "Pages/X/first.csv")])
def test_an_output_does_not_lie_among_the_runs_wherever_they_go(project: Project, folder: str, path: str) -> None:
    project.rows("d.jsonl", [{"id": "a"}])
    text = RENDER.format(word="x", path=path, column="item.id")
    project.load(text)
    with pytest.raises(ConfigError, match=rf"(?i)O523 results cannot be written to .*{folder}/x holds the runs"):
        project.run(text, output_dir=project.root / folder)
    elsewhere = project.run(text, output_dir=project.root / "other")
    assert (project.root / path) in elsewhere.published
