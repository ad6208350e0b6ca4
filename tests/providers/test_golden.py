"""Requests become exactly these bytes, and replies exactly these answers or errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmpipe.errors import CallFailed
from llmpipe.providers.wires import decode, encode, reader_for
from llmpipe.types import HttpReply, LLMResponse, Usage
from tests.providers.golden_files import GOLDEN, WIRES, cases, load, reply_of, request_of, target_of

WITH_JSON_REPLY = cases(".reply.json")
WITH_STREAM = cases(".reply.txt")


def check_response(response: LLMResponse, expect: dict[str, Any]) -> None:
    for name, value in expect.items():
        if name == "usage":
            assert response.usage == Usage(*value)
        else:
            assert getattr(response, name) == value
    if "reasoning" not in expect:
        assert response.reasoning is None


def check_error(error: CallFailed, expect: dict[str, Any]) -> None:
    assert error.kind == expect["error"], str(error)
    for name, value in expect.items():
        if name == "usage":
            assert error.usage == Usage(*value)
        elif name == "raw":
            assert value in (error.raw or "")
        elif name == "says":
            assert value.lower() in str(error).lower()
        elif name != "error":
            assert getattr(error, name) == value, name


@pytest.mark.parametrize("name", cases(".request.json"))
def test_a_request_becomes_the_golden_bytes(name: str) -> None:
    case, sent = load(f"{name}.case.json"), load(f"{name}.request.json")
    target, request = target_of(case["model"]), request_of(case["request"])
    call = encode(request, target, stream=case["stream"])
    assert json.loads(call.body) == sent
    assert list(json.loads(call.body)) == list(sent)
    assert call.url == case["url"]
    assert call.method == "POST"
    assert case["headers"].items() <= dict(call.headers).items()
    assert call.body == encode(request, target, stream=case["stream"]).body
    if "key" in case and case["key"] is None and not target.api_key_envs:
        assert call.auth_header is None
    elif case["key"] is not None:
        assert [call.auth_header, call.auth_prefix] == case["key"]


@pytest.mark.parametrize("name", WITH_JSON_REPLY)
def test_a_reply_becomes_the_golden_answer(name: str) -> None:
    case = load(f"{name}.case.json")
    target, request = target_of(case["model"]), request_of(case["request"])
    body = (GOLDEN / f"{name}.reply.json").read_bytes()
    reply = HttpReply(case["status"], case["reply_headers"], body)
    if "error" in case["expect"]:
        with pytest.raises(CallFailed) as caught:
            decode(reply, target, request)
        check_error(caught.value, case["expect"])
        return
    response = decode(reply, target, request)
    check_response(response, case["expect"])
    assert response.finish == "stop"
    assert response.provider == case["model"]["provider"]
    assert response.answered_by == target.label


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
@pytest.mark.parametrize("name", WITH_STREAM)
def test_a_stream_becomes_the_golden_answer_however_it_is_cut_up(name: str, size: int) -> None:
    case = load(f"{name}.case.json")
    target, request = target_of(case["model"]), request_of(case["request"])
    data = (GOLDEN / f"{name}.reply.txt").read_bytes()

    def read() -> LLMResponse:
        reader = reader_for(target, 200, case["reply_headers"])
        for at in range(0, len(data), size):
            if not reader.done:
                reader.feed(data[at : at + size])
        return decode(reader.reply(), target, request)

    if "error" in case["expect"]:
        with pytest.raises(CallFailed) as caught:
            read()
        check_error(caught.value, case["expect"])
    else:
        check_response(read(), case["expect"])


@pytest.mark.parametrize("name", [n for n in WITH_STREAM if n.endswith("/stream")])
def test_a_stream_that_is_cut_anywhere_is_never_an_answer(name: str) -> None:
    """No terminal event, no answer: the last event of the file is the terminal one (facts A6)."""
    case = load(f"{name}.case.json")
    target = target_of(case["model"])
    data = (GOLDEN / f"{name}.reply.txt").read_bytes()
    separator = b"\n" if name.startswith("ollama") else b"\r\n\r\n" if name.startswith("gemini") else b"\n\n"
    last = data.rstrip().rfind(separator) + len(separator)
    for end in range(last):
        reader = reader_for(target, 200, case["reply_headers"])
        reader.feed(data[:end])
        with pytest.raises(CallFailed) as caught:
            decode(reader.reply(), target)
        assert caught.value.kind in ("StreamCut", "BadReply")
        assert caught.value.retryable


def ending_cases() -> list[tuple[str, str, int]]:
    found = []
    for wire in WIRES:
        for cell, entry in load(f"{wire}/endings.json")["cells"].items():
            found += [(wire, cell, n) for n in range(len(entry["replies"]))]
    return found


@pytest.mark.parametrize(("wire", "cell", "number"), ending_cases())
def test_a_reply_that_is_no_answer_is_told_by_how_it_ends(wire: str, cell: str, number: int) -> None:
    data = load(f"{wire}/endings.json")
    entry = data["cells"][cell]
    body = entry["replies"][number]
    with pytest.raises(CallFailed) as caught:
        decode(reply_of(200, {}, body), target_of(data["model"]))
    error = caught.value
    assert error.kind == entry["error"], str(error)
    assert error.status == 200
    assert json.loads(error.raw or "") == body
    assert error.billed in ("yes", "maybe")
    if error.usage is not None and error.usage.output_tokens is not None:
        assert error.billed == "yes"


@pytest.mark.parametrize("wire", WIRES)
def test_every_cell_of_the_endings_has_at_least_three_replies(wire: str) -> None:
    cells = load(f"{wire}/endings.json")["cells"]
    short = [
        c for c, entry in cells.items() if len(entry["replies"]) < 3 and c not in ("upstream failed", "failed by rate")
    ]
    assert short == []


def error_cases() -> list[tuple[str, int, str]]:
    return [(wire, n, row["name"]) for wire in WIRES for n, row in enumerate(load(f"{wire}/errors.json"))]


@pytest.mark.parametrize(("wire", "number", "name"), error_cases())
def test_an_error_is_of_its_class(wire: str, number: int, name: str) -> None:
    row = load(f"{wire}/errors.json")[number]
    model = row["model"] or {"provider": wire.removesuffix("_chat"), "model": "m"}
    with pytest.raises(CallFailed) as caught:
        decode(reply_of(row["status"], row["headers"], row["body"]), target_of(model))
    error = caught.value
    check_error(error, row["expect"])
    assert error.status == row["status"]
    if error.kind != "RedirectRefused":
        assert error.retry_after is None or error.retry_after > 0
    assert not (error.account and error.retryable)
    assert "\n" not in str(error)
    assert len(str(error)) < 700
