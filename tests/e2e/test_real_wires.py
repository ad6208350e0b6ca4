"""The main pipeline against servers that speak as the real ones do: one line changed, every answer validated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.answering import answering
from tests.e2e.project import copy_of_repository

pytestmark = pytest.mark.e2e

SERVERS = {
    "openai": ("/v1", "/v1/chat/completions", "authorization"),
    "anthropic": ("", "/v1/messages", "x-api-key|authorization"),
    "gemini": ("", ":generateContent", "x-goog-api-key"),
    "local": ("", "/api/chat", ""),
}


@pytest.mark.parametrize("model", SERVERS)
def test_tickets_against_a_server_of_each_kind(model: str, tmp_path: Path) -> None:
    base, path, header = SERVERS[model]
    project = copy_of_repository(tmp_path)
    key = "a-key-that-nobody-has"
    with answering() as asked:
        done = project.run(
            "tickets",
            "--json",
            *("--set", f"defaults.model={model}"),
            *("--set", f"models.{model}.base_url={asked.url}{base}"),
            env={f"{model.upper()}_API_KEY": key},
        )
    assert done.code == 0, done.err
    report = done.report
    assert report["no_model_called"] is False
    assert done.step("label")["succeeded"] + done.step("label")["failed"] == 40
    assert len(asked.requests) >= 40
    assert all(path in where for where, _, _ in asked.requests)
    if header:
        assert all(key in "".join(sent.get(h, "") for h in header.split("|")) for _, sent, _ in asked.requests)
    bodies = json.dumps([body for _, _, body in asked.requests])
    assert "Charged twice for November" in bodies
    assert "{{7*7}}" in bodies
    assert key not in bodies
    left = [p for p in project.root.rglob("*") if p.is_file() and key.encode() in p.read_bytes()]
    assert left == []
