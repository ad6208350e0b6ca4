"""The structured log: private, whole lines, no secrets, data never taken for a format."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from llmpipe import LLMClient, LLMRequest
from llmpipe.client.log import log_to
from llmpipe.client.redact import Redactor
from llmpipe.errors import ServerFault


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_one_json_object_a_line_with_what_was_bound(path: Path) -> None:
    with log_to(path, Redactor()):
        logger.bind(request_id="r1", model="echo/demo", latency_s=0.25, attempt=1).info("llm_call_ok")
    (line,) = lines(path)
    assert line.pop("ts") > 1_600_000_000
    assert line == {
        "level": "info",
        "event": "llm_call_ok",
        "request_id": "r1",
        "model": "echo/demo",
        "latency_s": 0.25,
        "attempt": 1,
    }


def test_the_lines_of_a_run_reach_the_sinks_that_somebody_else_has_added(path: Path) -> None:
    heard: list[tuple[str, str, dict[str, Any]]] = []
    with log_to(path, Redactor()) as run_logger:
        run_logger.bind(attempt=1).info("llm_call_ok")
        id = logger.add(lambda m: heard.append((m.record["level"].name, m.record["message"], dict(m.record["extra"]))))
        try:
            run_logger.bind(attempt=2).info("llm_call_ok")
            run_logger.bind(attempt=3, error="{a} {0} <red>").warning("llm_call_failed")
        finally:
            logger.remove(id)
        logger.info("mine")
    assert [line["event"] for line in lines(path)] == ["llm_call_ok", "llm_call_ok", "llm_call_failed", "mine"]
    assert heard == [
        ("INFO", "llm_call_ok", {"attempt": 2}),
        ("WARNING", "llm_call_failed", {"attempt": 3, "error": "{a} {0} <red>"}),
    ]


def test_a_sink_of_somebody_else_that_fails_costs_no_call(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log_to(path, Redactor()) as run_logger:
        id = logger.add(lambda m: 1 / 0, catch=True)
        try:
            run_logger.bind(attempt=1).info("llm_call_ok")
        finally:
            logger.remove(id)
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert len(lines(path)) == 1


def test_only_the_owner_can_read_it(path: Path) -> None:
    path.write_text("")
    path.chmod(0o644)
    with log_to(path, Redactor()):
        logger.info("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), log_to(path, Redactor()):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_lines_of_an_earlier_process_stay(path: Path) -> None:
    for event in ("one", "two"):
        with log_to(path, Redactor()):
            logger.info(event)
    assert [line["event"] for line in lines(path)] == ["one", "two"]


def test_hostile_data_stays_on_its_line_and_is_no_format(path: Path) -> None:
    hostile = 'x\n{"event": "forged"}\u2028{0} {attempt.__class__} <red>\x1b[31m\ud800'
    with log_to(path, Redactor()):
        logger.bind(error=hostile).warning("llm_call_failed")
    assert path.read_bytes().isascii()
    (line,) = lines(path)
    assert line["error"] == hostile
    assert line["event"] == "llm_call_failed"


def test_secrets_are_taken_out_in_every_field(path: Path) -> None:
    with log_to(path, Redactor(["canary-9431-key"])):
        logger.bind(error="key canary-9431-key", nested={"a": ["canary-9431-key"]}).warning("canary-9431-key")
    assert "canary" not in path.read_text()
    assert len(lines(path)) == 1


def test_a_line_from_which_a_key_was_taken_is_still_json(path: Path) -> None:
    headers = {"authorization": "Bearer abcdef0123456789", "api_key": "abcdef0123456789"}
    with log_to(path, Redactor()):
        logger.bind(headers=headers, body=json.dumps(headers)).warning("x")
    (line,) = lines(path)
    assert "abcdef0123456789" not in path.read_text()
    assert set(line["headers"]) == {"authorization", "api_key"}
    assert set(json.loads(line["body"])) == {"authorization", "api_key"}


def test_a_traceback_has_no_values_of_variables(path: Path) -> None:
    def fail() -> None:
        password = "hunter2-in-a-variable"
        raise ValueError("went wrong", len(password))

    with log_to(path, Redactor()):
        try:
            fail()
        except ValueError:
            logger.exception("broke")
    (line,) = lines(path)
    assert "ValueError" in line["exception"]
    assert "hunter2-in-a-variable" not in line["exception"].replace('password = "hunter2-in-a-variable"', "")


def test_bound_names_do_not_hide_the_lines_own(path: Path) -> None:
    with log_to(path, Redactor()):
        logger.bind(event="e", level="l", ts="t").info("real")
    (line,) = lines(path)
    assert (line["event"], line["event_"], line["level_"]) == ("real", "e", "l")


def test_after_the_block_nothing_is_written(path: Path) -> None:
    with log_to(path, Redactor()):
        logger.info("in")
    logger.info("out")
    assert [line["event"] for line in lines(path)] == ["in"]


def test_the_level_is_kept(path: Path) -> None:
    with log_to(path, Redactor(), level="WARNING"):
        logger.info("no")
        logger.warning("yes")
    assert [line["event"] for line in lines(path)] == ["yes"]


def test_a_warning_is_in_the_file_at_once(path: Path) -> None:
    with log_to(path, Redactor()):
        logger.warning("now")
        assert [line["event"] for line in lines(path)] == ["now"]


@pytest.mark.parametrize("queued", [False, True])
def test_a_sink_of_loguru_shows_the_fields_of_a_call_and_keeps_its_name(queued: bool) -> None:
    texts: list[str] = []
    records: list[Any] = []
    text = logger.add(texts.append, enqueue=queued)
    record = logger.add(lambda message: records.append(message.record), enqueue=queued)
    try:
        with LLMClient() as client:
            request = LLMRequest(model="demo {x} <red>", prompt="hello")
            for _ in range(2):
                client.call(request)
            with pytest.raises(ServerFault):
                client.call(LLMRequest(model="demo", prompt="other"), max_retries=0, force_error=True)
        logger.complete()
    finally:
        logger.remove(text)
        logger.remove(record)
    assert [r["message"] for r in records] == ["llm_call_ok", "llm_cache_hit", "llm_call_failed"]
    for line, kept in zip(texts, records, strict=True):
        fields = kept["extra"]
        shown = " ".join(f"{name}={fields[name]}" for name in ("request_id", "model", "latency_s", "attempt"))
        assert f"{kept['message'][:]} {shown}" in line
    assert "INFO" in texts[0]
    assert "model=echo/demo {x} <red>" in texts[0]
    assert "error_type=ServerFault code=P422" in texts[2]


def test_a_line_of_json_has_the_bare_name_of_an_event(path: Path) -> None:
    with log_to(path, Redactor()) as own, LLMClient(logger=own) as client:
        client.call(LLMRequest(model="demo", prompt="hello"))
    with log_to(path, Redactor()), LLMClient() as client:
        client.call(LLMRequest(model="demo", prompt="hello"))
    assert [line["event"] for line in lines(path)] == ["llm_call_ok"] * 2
    written: list[str] = []
    sink = logger.add(written.append, serialize=True)
    try:
        with LLMClient() as client:
            client.call(LLMRequest(model="demo", prompt="hello"))
    finally:
        logger.remove(sink)
    document = json.loads(written[0])
    assert document["record"]["message"] == "llm_call_ok"
    assert "llm_call_ok request_id=" in document["text"]
