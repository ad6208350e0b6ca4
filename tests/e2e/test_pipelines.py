"""The four pipelines that ship, run as a person runs them: another working directory, no key, no network."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.e2e.project import SHIPPED, Done, Project, copy_of_repository

pytestmark = pytest.mark.e2e

SUBJECTS = "".join(f"{n:07x} {what} number {n}\n" for n in range(30) for what in ("Add", "Fix"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_of_repository(tmp_path_factory.mktemp("tickets"))


@pytest.fixture(scope="module")
def demo(shared: Project) -> Done:
    """One run of the main pipeline, looked at from many sides."""
    return shared.run("tickets", "--json")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return copy_of_repository(tmp_path)


def test_the_demo_ends_well_and_says_that_something_failed(demo: Done) -> None:
    assert demo.code == 0, demo.err
    assert demo.report["status"] == "partial"
    assert demo.report["no_model_called"] is True


def test_the_readme_shows_the_demo_as_it_is(demo: Done) -> None:
    shown = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for step in demo.report["steps"]:
        counts = r"\s+".join(str(step[name]) for name in ("id", "items", "succeeded", "failed", "skipped"))
        assert re.search(rf"^{counts}\s", shown, re.M), counts


def test_every_item_of_the_demo_is_accounted_for(demo: Done) -> None:
    for step in demo.report["steps"]:
        assert step["items"] == step["succeeded"] + step["failed"] + step["skipped"], step
        assert step["unsent"] == 0
    assert demo.step("label")["items"] == demo.step("answer")["items"] == 40


def test_every_branch_and_group_turns_up(shared: Project, demo: Done) -> None:
    labels = [r["output"] for r in shared.results("tickets", "label")]
    wanted = json.loads((REPOSITORY / "schemas/ticket-label.schema.json").read_text())["properties"]
    for name in ("category", "priority", "language"):
        assert {label[name] for label in labels} == set(wanted[name]["enum"])
    assert {len(label["claims"]) for label in labels} >= {0, 1, 2, 3}
    assert demo.step("answer")["succeeded"] > 3
    assert demo.step("answer")["skipped"] > 3
    assert {r["output"]["supported"] for r in shared.results("tickets", "verify")} == {True, False}
    assert demo.step("digest")["items"] == len(wanted["category"]["enum"])
    assert demo.step("verify")["items"] == sum(len(label["claims"]) for label in labels)


def test_every_kind_of_fault_turns_up_and_is_named(shared: Project, demo: Done) -> None:
    happened = {name for (name,) in shared.ledger("tickets", "SELECT DISTINCT outcome FROM attempts")}
    assert happened >= {"ok", "RateLimited", "ServerFault", "CallTimeout", "Truncated", "Refused"}
    failed = {
        name for (name,) in shared.ledger("tickets", "SELECT DISTINCT error_type FROM results WHERE status = 'failed'")
    }
    assert failed >= {"Truncated", "Refused", "SchemaMismatch", "NotJson"}
    assert sum(step["retries"] for step in demo.report["steps"]) > 3
    assert sum(step["reasks"] for step in demo.report["steps"]) > 3


def test_a_failure_is_never_a_result(shared: Project, demo: Done) -> None:
    for step in ("label", "answer", "verify", "digest"):
        good = {r["key"] for r in shared.results("tickets", step)}
        files = list((shared.latest("tickets") / "failures").glob(f"{step}/*.json"))
        assert len(good) == demo.step(step)["succeeded"]
        assert len(files) == demo.step(step)["failed"]
        for file in files:
            failure = json.loads(file.read_text(encoding="utf-8"))
            assert failure["error_type"]
            assert failure["error"]
            assert failure["payload"]


def test_results_stand_in_the_order_of_the_rows(shared: Project, demo: Done) -> None:
    keys = [r["key"] for r in shared.results("tickets", "label")]
    assert keys == sorted(keys)
    assert len(keys) == demo.step("label")["succeeded"]


def test_published_files_hold_what_succeeded(shared: Project, demo: Done) -> None:
    with (shared.root / "output" / "tickets-labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [r["key"] for r in shared.results("tickets", "label")]
    assert set(rows[0]) == {"id", "category", "priority", "language", "summary", "answered"}
    assert {row["answered"].lower() for row in rows} == {"true", "false"}
    assert sum(row["answered"].lower() == "true" for row in rows) == demo.step("answer")["succeeded"]
    report = (shared.root / "output" / "tickets-report.md").read_text(encoding="utf-8")
    assert report.startswith("# Tickets of the day\n")
    assert f"{len(rows)} labelled, {40 - len(rows)} not" in report


def test_hostile_text_stays_text(shared: Project, demo: Done) -> None:
    assert demo.code == 0
    hostile = next(
        r
        for r in map(json.loads, (REPOSITORY / "pipelines/data/tickets.jsonl").read_text().splitlines())
        if "{{7*7}}" in r["subject"]
    )
    words = ("show", "last", "label", hostile["id"], "--output", str(shared.root / "output"))
    shown = shared.llmpipe(*words)
    assert shown.code == 0
    assert "{{7*7}}" in shown.out + shown.err
    story = shared.llmpipe(*words, "--json")
    assert "{{7*7}} ${7*7}" in story.out
    assert "__mro__" in story.out


def test_nothing_is_written_outside_the_project(shared: Project, demo: Done) -> None:
    assert demo.code == 0
    assert list(shared.elsewhere.iterdir()) == []
    assert (shared.root / "output" / ".gitignore").is_file()


def test_the_demo_is_the_same_everywhere(shared: Project, demo: Done, project: Project) -> None:
    again = project.run("tickets", "--json", "--concurrency", "3")
    assert again.code == demo.code == 0
    for step in ("label", "answer", "verify", "digest", "report"):
        assert project.results("tickets", step) == shared.results("tickets", step)


def test_a_second_run_asks_again_only_for_what_failed(project: Project) -> None:
    first = project.run("tickets", "--json")
    labels = project.results("tickets", "label")
    second = project.run("tickets", "--json")
    assert first.code == second.code == 0
    assert second.step("label")["cached"] > 25
    assert project.results("tickets", "label") == labels


def test_documents_are_reviewed(project: Project) -> None:
    done = project.run("docs-review", "--json")
    assert done.code == 0, done.err
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
    assert done.step("claims")["succeeded"] == done.step("claims")["items"] == len(pages)
    review = (project.root / "output" / "docs-review.md").read_text(encoding="utf-8")
    assert "README.md" in review


def test_release_notes_are_written_from_standard_input(project: Project) -> None:
    done = project.run("release-notes", "--json", "--var", "version=0.2.0", stdin=SUBJECTS)
    assert done.code == 0, done.err
    assert done.step("sort")["items"] == 60
    assert (done.step("section")["succeeded"], done.step("section")["skipped"]) == (3, 1)
    notes = (project.root / "output" / "release-notes.md").read_text(encoding="utf-8")
    assert notes.startswith("## 0.2.0\n")
    assert {line for line in notes.splitlines() if line.startswith("### ")} == {"### Added", "### Changed", "### Fixed"}


def test_hello_says_hello(project: Project) -> None:
    done = project.run("hello")
    assert done.code == 0, done.err
    assert done.out == ""
    assert "hello" in str(project.results("hello", "hello")[0]["output"]).lower()


@pytest.mark.parametrize("name", SHIPPED)
def test_each_has_the_editors_line_and_is_valid(name: str, shared: Project) -> None:
    path = shared.root / "pipelines" / f"{name}.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=../schemas/pipeline.schema.json\n")
    done = shared.llmpipe("validate", str(path))
    assert done.code == 0, done.err


def real_models() -> list[Any]:
    models = yaml.safe_load((REPOSITORY / "pipelines/tickets.yaml").read_text())["models"]
    return [
        pytest.param(name, id=name) for name, model in models.items() if model["provider"] not in ("echo", "ollama")
    ]


@pytest.mark.parametrize("name", real_models())
def test_a_missing_key_is_said_before_anything_is_sent(name: str, project: Project) -> None:
    done = project.run("tickets", "--set", f"defaults.model={name}")
    assert done.code == 4
    assert f"{name.upper()}_API_KEY" in done.err
    assert "P401" in done.err
