"""Raw failure files: any payload can be kept, nobody else can read it, and half a file is never there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe import LLMRequest, persist_raw_failure
from llmpipe.client.redact import Redactor
from llmpipe.errors import RateLimited, SchemaMismatch
from llmpipe.types import Attempt, Usage


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_it_returns_the_path_that_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = persist_raw_failure({"prompt": "hello"}, RuntimeError("boom"))
    assert path == Path("output/raw_failure.json")
    assert written(path) == {"payload": {"prompt": "hello"}, "error_type": "RuntimeError", "error": "boom"}


def test_the_evidence_of_an_error_is_in_it(tmp_path: Path) -> None:
    err = RateLimited("slow down", status=429, raw='{"error": 1}', retry_after=3.0, details={"a": (1, 2)})
    usage = Usage(input_tokens=3)
    err.attempts = (Attempt(1, "echo/m", 1.5, 0.1, "RateLimited", code="P420", usage=usage),)
    err.request_id = "r-1"
    record = written(persist_raw_failure("asked", err, filename=tmp_path / "f.json"))
    assert record["error_type"] == "RateLimited"
    assert (record["code"], record["status"], record["raw"], record["request_id"]) == (
        "P420",
        429,
        '{"error": 1}',
        "r-1",
    )
    assert record["details"] == {"a": [1, 2]}
    assert record["attempts"][0]["outcome"] == "RateLimited"
    assert record["attempts"][0]["usage"]["input_tokens"] == 3
    assert "--resume" in record["advice"]


def test_file_and_folders_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = persist_raw_failure(1, RuntimeError(), filename=tmp_path / "a" / "b" / "f.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (path.parent, path.parent.parent)} == {0o700}
    assert [p.name for p in path.parent.iterdir()] == ["f.json"]


def test_a_later_failure_replaces_the_file(tmp_path: Path) -> None:
    for n in (1, 2):
        path = persist_raw_failure(n, RuntimeError(), filename=tmp_path / "f.json")
    assert written(path)["payload"] == 2


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "f.json").symlink_to(victim)
    persist_raw_failure(1, RuntimeError(), filename=tmp_path / "f.json")
    assert victim.read_text() == "precious"


def test_a_file_that_cannot_be_written_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.json").mkdir()
    with pytest.raises(OSError, match=r"f\.json"):
        persist_raw_failure(1, RuntimeError(), filename=tmp_path / "f.json")
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@dataclass
class Thing:
    a: Any
    b: bytes = b"\xff"


def test_what_json_cannot_hold_becomes_text(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop += [loop, loop, {"again": loop}]
    payload = {
        "loop": loop,
        (1, 2): object,
        "rude": Rude(),
        "numbers": [float("nan"), float("inf"), 10**5000],
        "thing": Thing({3}),
        "surrogate": "\ud800",
        "path": Path("x"),
    }
    payload["deep"] = nested = []  # type: ignore[var-annotated]
    for _ in range(5000):
        nested.append(nested := [])
    record = written(persist_raw_failure(payload, RuntimeError("\udcff"), filename=tmp_path / "f.json"))["payload"]
    assert record["loop"][0] == "<list, nested too deeply>"
    assert record["numbers"][:2] == ["nan", "inf"]
    assert record["thing"] == {"a": [3], "b": "\\xff"}
    assert "repr failed" in record["rude"]
    assert "nested too deeply" in json.dumps(record["deep"])


@given(st.recursive(st.none() | st.floats() | st.text(st.characters()) | st.binary(), st.lists))
def test_any_payload_can_be_kept(tmp_path_factory: pytest.TempPathFactory, payload: Any) -> None:
    path = persist_raw_failure(payload, RuntimeError(), filename=tmp_path_factory.getbasetemp() / "any.json")
    assert set(written(path)) == {"payload", "error_type", "error"}


def test_a_request_is_written_field_by_field(tmp_path: Path) -> None:
    request = LLMRequest(model="demo", prompt="hello", extra={"a": 1})
    payload = written(persist_raw_failure(request, SchemaMismatch("x"), filename=os.fspath(tmp_path / "f.json")))[
        "payload"
    ]
    assert (payload["model"], payload["prompt"], payload["extra"]) == ("demo", "hello", {"a": 1})


def test_secrets_are_taken_out_everywhere(tmp_path: Path) -> None:
    secret = "canary-123456"
    err = RateLimited(f"bad {secret}", raw=f"got {secret}", details=[{"k": secret, secret: 1}])
    path = persist_raw_failure({"p": [secret]}, err, filename=tmp_path / "f.json", redactor=Redactor([secret]))
    assert "canary" not in path.read_text()
    assert written(path)["payload"] == {"p": ["[redacted]"]}
