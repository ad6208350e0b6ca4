"""What `plan` says of the shipped pipelines is what `run` then does: cold, warm, and against a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.answering import answering
from tests.e2e.project import SHIPPED, Project, copy_of_repository
from tests.engine.foreseen import files

pytestmark = pytest.mark.e2e
SUBJECTS = "".join(f"{n:07x} {what} number {n}\n" for n in range(8) for what in ("Add", "Fix"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return copy_of_repository(tmp_path)


def planned(project: Project, name: str, *words: str, stdin: str | None = None) -> dict[str, Any]:
    """The plan as JSON; nothing in the project is made, changed or touched."""
    before = files(project.root)
    done = project.llmpipe("plan", str(project.root / f"pipelines/{name}.yaml"), "--json", *words, stdin=stdin)
    assert done.code == 0, done.err
    assert done.err == ""
    assert files(project.root) == before
    found: dict[str, Any] = json.loads(done.out)
    return found


def first_calls(project: Project, name: str) -> dict[str, int]:
    """The first attempts of each item in the newest run, by step."""
    sql = (
        "SELECT steps.name, COUNT(DISTINCT item || ' ' || key) FROM attempts JOIN steps ON steps.id = step"
        " GROUP BY steps.name"
    )
    return dict(project.ledger(name, sql))


@pytest.mark.parametrize("name", SHIPPED)
def test_exact_figures_are_what_the_run_comes_to(name: str, project: Project) -> None:
    stdin = SUBJECTS if name == "release-notes" else None
    for warm in (False, True):
        plan = planned(project, name, stdin=stdin)
        report = project.run(name, "--json", stdin=stdin).report
        calls = first_calls(project, name)
        steps = {step["id"]: step for step in report["steps"]}
        for step in plan["steps"]:
            came = steps[step["id"]]
            if step["items"]["sure"] == "exact":
                assert step["items"]["value"] == came["items"], (name, warm, step["id"])
            if step["cached"]["sure"] == "exact":
                assert step["cached"]["value"] == came["cached"], (name, warm, step["id"])
            if step["calls"]["sure"] == "exact" and warm:
                # a call of the tickets that was never answered may be answered now, and then be asked again
                assert step["calls"]["value"] <= calls.get(step["id"], 0) <= 2 * step["calls"]["value"]
            assert step["calls"]["least"] <= calls.get(step["id"], 0)
        assert plan["no_model"] is True
        assert (sum(step["cached"]["least"] for step in plan["steps"]) > 0) is warm


@pytest.mark.parametrize("model", ["anthropic", "local"])
def test_against_a_server(model: str, project: Project) -> None:
    with answering() as served:
        words = ["--set", f"defaults.model={model}", "--set", f"models.{model}.base_url={served.url}"]
        (project.root / ".env").write_text("ANTHROPIC_API_KEY=sk-one-two-three\n")
        cold = planned(project, "tickets", *words)
        assert served.requests == []
        assert "sk-one-two-three" not in json.dumps(cold)
        (place,) = cold["destinations"]
        assert place["origin"] == served.url
        first = project.run("tickets", "--json", *words).report
        asked = len(served.requests)
        assert cold["steps"][0]["calls"] == {"value": 40, "sure": "exact", "least": 40}
        assert asked == sum(step["calls"] for step in first["steps"])
        for step, came in zip(cold["steps"], first["steps"], strict=True):
            assert step["calls"]["least"] <= came["calls"]
        warm = planned(project, "tickets", *words)
        assert len(served.requests) == asked
        assert warm["total"]["calls"]["least"] == sum(step["failed"] for step in first["steps"])
        for step, came in zip(warm["steps"], first["steps"], strict=True):
            if step["kind"] == "model" and step["cached"]["sure"] == "exact":
                assert step["cached"]["value"] == came["succeeded"]
        assert warm["steps"][0]["cached"]["value"] == first["steps"][0]["succeeded"]
        few = planned(project, "tickets", *words, "--refresh", "--limit", "3")
        assert few["steps"][0]["calls"]["value"] == 3
        assert few["steps"][0]["cost_usd"]["sure"] == ("unknown" if model == "local" else "about")
        project.run("tickets", "--json", *words, "--refresh", "--limit", "3")
        label = [body for _, _, body in served.requests[asked:] if "sort incoming" in json.dumps(body)]
        assert len(label) == 3
