"""What replies say of the tokens that were used, in every shape that servers were seen to write it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.errors import CallFailed
from llmpipe.providers.usage import grown, larger, tokens, usage_of
from llmpipe.providers.wires import decode, reader_for
from llmpipe.types import HttpReply, LLMRequest, Usage
from tests.providers.golden_files import target_of

MODELS: dict[str, dict[str, Any]] = {
    "chat": {"provider": "openai_compatible", "model": "m", "base_url": "http://127.0.0.1:9/v1"},
    "responses": {"provider": "openai_responses", "model": "m"},
    "anthropic": {"provider": "anthropic", "model": "m"},
    "gemini": {"provider": "gemini", "model": "m"},
    "ollama": {"provider": "ollama", "model": "m"},
}


def body(wire: str, usage: Any, text: str = "fine") -> dict[str, Any]:
    """A whole reply of the wire with that usage, which None leaves out."""
    found: dict[str, Any] = {
        "chat": {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]},
        "responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}],
        },
        "anthropic": {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"},
        "gemini": {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]},
        "ollama": {"message": {"content": text}, "done": True, "done_reason": "stop"},
    }[wire]
    if usage is None:
        return found
    return found | (usage if wire == "ollama" else {"usageMetadata" if wire == "gemini" else "usage": usage})


def read(wire: str, document: Any, *, status: int = 200, request: LLMRequest | None = None) -> Usage | None:
    """The usage of the answer or error that a reply is."""
    reply = HttpReply(status, {}, json.dumps(document).encode())
    try:
        return decode(reply, target_of(MODELS[wire]), request).usage
    except CallFailed as error:
        return error.usage


CHAT = [
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, Usage(9, 4)),
    # reasoning inside the completion (OpenAI), beside it (xAI), and beside it without a total
    ({"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49,
      "completion_tokens_details": {"reasoning_tokens": 30}}, Usage(9, 40, reasoning_tokens=30)),
    ({"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 5010,
      "completion_tokens_details": {"reasoning_tokens": 4000}}, Usage(1000, 4010, reasoning_tokens=4000)),
    ({"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
      "prompt_tokens_details": {"cached_tokens": 128}, "completion_tokens_details": {"reasoning_tokens": 2809}},
     Usage(10120, 4308, cached_tokens=128, reasoning_tokens=2809)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 30}},
     Usage(9, 34, reasoning_tokens=30)),
    # thoughts of Gemini behind a gateway: only the total knows of them
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 513}, Usage(9, 504)),
    ({"prompt_tokens": 9, "total_tokens": 513}, Usage(9, 504)),
    # a total below its parts takes nothing away
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 5}, Usage(9, 4)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 0}, Usage(9, 4)),
    # cache reads and writes: OpenAI, OpenRouter, DeepSeek, Moonshot, LiteLLM
    ({"prompt_tokens": 90, "completion_tokens": 4,
      "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 50}},
     Usage(90, 4, cached_tokens=20, cache_write_tokens=50)),
    ({"prompt_tokens": 90, "completion_tokens": 4, "prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 70},
     Usage(90, 4, cached_tokens=20)),
    ({"completion_tokens": 4, "prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 70},
     Usage(90, 4, cached_tokens=20)),
    ({"prompt_tokens": 90, "completion_tokens": 4, "cached_tokens": 20}, Usage(90, 4, cached_tokens=20)),
    ({"prompt_tokens": 90, "completion_tokens": 4, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30},
     Usage(90, 4, cached_tokens=20, cache_write_tokens=30)),
    # servers that count as Responses or Anthropic do
    ({"input_tokens": 90, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 50},
      "output_tokens_details": {"reasoning_tokens": 3}},
     Usage(90, 4, cached_tokens=20, cache_write_tokens=50, reasoning_tokens=3)),
    ({"prompt_tokens": 90, "completion_tokens": 4, "prompt_tokens_details": {"cache_creation_tokens": 50}},
     Usage(90, 4, cache_write_tokens=50)),
    # one count under several names: 0 where a gateway does not fill the first
    ({"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 30,
      "completion_tokens_details": {"reasoning_tokens": 0}}, Usage(9, 34, reasoning_tokens=30)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "cache_creation_input_tokens": 500,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}},
     Usage(509, 4, cached_tokens=0, cache_write_tokens=500)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "cache_read_input_tokens": 500,
      "prompt_tokens_details": {"cached_tokens": 0}}, Usage(509, 4, cached_tokens=500)),
    ({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
    # cached input beside the prompt
    ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 514,
      "prompt_tokens_details": {"cached_tokens": 500}},
     Usage(510, 4, cached_tokens=500)),
    # other names, texts, floats
    ({"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
    ({"prompt_tokens": "9", "completion_tokens": "4", "total_tokens": "20"}, Usage(9, 11)),
    ({"prompt_tokens": 9.0, "completion_tokens": 4.0}, Usage(9, 4)),
    # what is missing or no number is unknown, never 0
    ({"prompt_tokens": 9, "completion_tokens": None}, Usage(9)),
    ({"prompt_tokens": None, "completion_tokens": 4}, Usage(None, 4)),
    ({"prompt_tokens": None, "completion_tokens": 4, "total_tokens": 13}, Usage(None, 4)),
    ({"prompt_tokens": -9, "completion_tokens": -4}, Usage()),
    ({"prompt_tokens": 9.5, "completion_tokens": "four"}, Usage()),
    ({"prompt_tokens": True, "completion_tokens": [4]}, Usage()),
    ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    ({"prompt_tokens": 9, "completion_tokens": 0}, Usage(9)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None,
      "completion_tokens_details": "none"}, Usage(9, 4)),
    ({}, Usage()), ([], Usage()), ("9", Usage()), (None, Usage()), (13, Usage()),
]  # fmt: skip

RESPONSES = [
    ({"input_tokens": 9, "output_tokens": 40, "total_tokens": 49,
      "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
      "output_tokens_details": {"reasoning_tokens": 30}}, Usage(9, 40, 2, 3, 30)),
    ({"input_tokens": 9, "output_tokens": 4, "total_tokens": 43, "output_tokens_details": {"reasoning_tokens": 30}},
     Usage(9, 34, reasoning_tokens=30)),
    ({"input_tokens": 9, "output_tokens": 4, "total_tokens": 43}, Usage(9, 34)),
    ({"input_tokens": "9", "output_tokens": None}, Usage(9)),
    ({"input_tokens": 0, "output_tokens": 0, "prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 4)),
    ({"input_tokens": 9, "output_tokens": 40, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
      "completion_tokens_details": {"reasoning_tokens": 30}}, Usage(9, 40, 2, 3, 30)),
    (None, Usage()),
]  # fmt: skip

ANTHROPIC = [
    ({"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
    ({"input_tokens": 9, "output_tokens": 4, "total_tokens": 513}, Usage(9, 504)),  # servers that imitate it
    ({"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 20, "total_tokens": 13},
     Usage(29, 4, cached_tokens=20)),
    ({"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30},
     Usage(59, 4, 20, 30)),
    ({"input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": 30,
      "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}},
     Usage(39, 4, None, 30, None, 20)),
    ({"input_tokens": 9, "output_tokens": 4,
      "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}},
     Usage(39, 4, None, 30, None, 20)),
    ({"input_tokens": 9, "output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}},
     Usage(9, 40, reasoning_tokens=30)),
    # a compaction is in the iterations alone
    ({"input_tokens": 23000, "output_tokens": 1000, "iterations": [
        {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
        {"type": "message", "input_tokens": 23000, "output_tokens": 1000}]}, Usage(203000, 4500)),
    ({"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 50, "iterations": [
        {"type": "compaction", "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 9000,
         "cache_creation_input_tokens": 70},
        {"type": "message", "input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 50}]},
     Usage(9230, 15, 9050, 70)),
    ({"input_tokens": 100, "output_tokens": 10, "iterations": [
        {"type": "message", "input_tokens": 60, "output_tokens": 4},
        {"type": "advisor_message", "model": "big", "input_tokens": 800, "output_tokens": 500},
        {"type": "message", "input_tokens": 40, "output_tokens": 6}]}, Usage(900, 510)),
    # iterations that say less than the fields beside them take nothing away
    ({"input_tokens": 100, "output_tokens": 10, "iterations": [{"type": "message", "input_tokens": 60}]},
     Usage(100, 10)),
    ({"input_tokens": 100, "output_tokens": 10, "iterations": None}, Usage(100, 10)),
    ({"input_tokens": 100, "output_tokens": 10, "iterations": ["?", 3]}, Usage(100, 10)),
    ({"output_tokens": 4}, Usage(None, 4)),
    (None, Usage()),
]  # fmt: skip

GEMINI = [
    ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}, Usage(9, 4)),
    ({"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 30, "totalTokenCount": 43},
     Usage(9, 34, reasoning_tokens=30)),
    ({"promptTokenCount": 9, "thoughtsTokenCount": 30, "totalTokenCount": 43}, Usage(9, 34, reasoning_tokens=30)),
    ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 43}, Usage(9, 34)),
    ({"promptTokenCount": 9, "totalTokenCount": 13}, Usage(9, 4)),
    ({"promptTokenCount": 9, "candidatesTokenCount": 4, "toolUsePromptTokenCount": 100, "totalTokenCount": 113},
     Usage(109, 4)),
    ({"promptTokenCount": 90, "candidatesTokenCount": 4, "cachedContentTokenCount": 50, "totalTokenCount": 94},
     Usage(90, 4, cached_tokens=50)),
    ({"promptTokenCount": "90", "candidatesTokenCount": "4"}, Usage(90, 4)),
    ({"totalTokenCount": 13}, Usage()),
    (None, Usage()),
]  # fmt: skip

OLLAMA = [
    ({"prompt_eval_count": 9, "eval_count": 4}, Usage(9, 4)),
    ({"eval_count": 4}, Usage(None, 4)),
    ({"prompt_eval_count": 0, "eval_count": 0}, Usage()),
    (None, Usage()),
]
TABLES = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
CASES = [(wire, usage, expected) for wire, table in TABLES.items() for usage, expected in table]


@pytest.mark.parametrize(("wire", "usage", "expected"), CASES)
def test_a_replys_usage(wire: str, usage: Any, expected: Usage) -> None:
    assert read(wire, body(wire, usage)) == expected


@pytest.mark.parametrize(("wire", "usage", "expected"), CASES)
def test_usage_of_replies_that_are_no_answers(wire: str, usage: Any, expected: Usage) -> None:
    """Cut off at the limit: billed all the same."""
    ends = {
        "chat": lambda data: data["choices"][0].update(finish_reason="length"),
        "responses": lambda data: data.update(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        "anthropic": lambda data: data.update(stop_reason="max_tokens"),
        "gemini": lambda data: data["candidates"][0].update(finishReason="MAX_TOKENS"),
        "ollama": lambda data: data.update(done_reason="length"),
    }
    document = body(wire, usage)
    ends[wire](document)
    assert read(wire, document) == expected


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(
    ("wire", "document"),
    [
        ("chat", {"error": {"message": "no"}, "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        ("chat", {"choices": [{"error": {"code": 502, "message": "upstream"}}],
                  "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        ("responses", {"status": "failed", "error": {"code": "server_error", "message": "no"}, "output": [],
                       "usage": {"input_tokens": 9, "output_tokens": 4}}),
        ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "no"},
                       "usage": {"input_tokens": 9, "output_tokens": 4}}),
        ("gemini", {"error": {"code": 500, "message": "no"},
                    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}}),
        ("ollama", {"error": "no", "prompt_eval_count": 9, "eval_count": 4}),
    ],
)  # fmt: skip
def test_an_error_that_says_what_was_used_was_billed(wire: str, document: Any, status: int) -> None:
    reply = HttpReply(status, {}, json.dumps(document).encode())
    with pytest.raises(CallFailed) as caught:
        decode(reply, target_of(MODELS[wire]))
    assert (caught.value.usage, caught.value.billed) == (Usage(9, 4), "yes")


def stream(wire: str, events: list[Any]) -> Usage:
    """The usage of an answer that came as these events."""
    if wire == "ollama":
        data, kind = "".join(json.dumps(e) + "\n" for e in events), "application/x-ndjson"
    else:
        data, kind = (
            "".join(f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n" for e in events),
            "text/event-stream",
        )
    target = target_of(MODELS[wire])
    reader = reader_for(target, 200, {"content-type": kind})
    reader.feed(data.encode())
    return decode(reader.reply(), target).usage


def chunks(*usages: Any, place: str = "usage") -> list[Any]:
    """Chunks of a chat, each with the usage that is given for it; the last one has no choice, as OpenAI's."""
    made: list[Any] = []
    for number, usage in enumerate(usages):
        choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop" if number == len(usages) - 2 else None}
        last = number == len(usages) - 1
        chunk: dict[str, Any] = {"choices": [] if last and place != "choice" else [choice]}
        if place == "choice":
            choice["usage"] = usage
        else:
            chunk |= {"x_groq": {"usage": usage}} if place == "x_groq" else {"usage": usage}
        made.append(chunk)
    return [*made, "[DONE]"]


FULL = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 43,
        "completion_tokens_details": {"reasoning_tokens": 30}}  # fmt: skip


@pytest.mark.parametrize("place", ["usage", "x_groq", "choice"])
@pytest.mark.parametrize(
    "usages",
    [
        (None, None, FULL),
        (FULL, None, None),
        (None, FULL, None),
        (FULL, FULL, FULL),
        ({"prompt_tokens": 9, "completion_tokens": 0}, {"prompt_tokens": 9, "completion_tokens": 2}, FULL),
        ({"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}, FULL, {"prompt_tokens": 9}),
        (FULL, None, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        ({"prompt_tokens": 9}, {"completion_tokens": 4}, {"completion_tokens_details": {"reasoning_tokens": 30}}),
        ({"prompt_tokens": "9"}, {"completion_tokens": "4"}, {"total_tokens": "43", **FULL}),
    ],
)
def test_a_chat_may_report_in_any_chunk(usages: tuple[Any, ...], place: str) -> None:
    assert stream("chat", chunks(*usages, place=place)) == Usage(9, 34, reasoning_tokens=30)


def test_a_first_chunk_that_counts_nothing_yet_is_not_the_usage() -> None:
    assert stream("chat", chunks({"prompt_tokens": 9, "completion_tokens": 0}, None, None)) == Usage(9)


def test_anthropic_counts_on_from_the_start_of_the_message() -> None:
    start = {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 20,
             "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30}}  # fmt: skip

    def events(*deltas: Any) -> list[Any]:
        return [
            {"type": "message_start", "message": {"role": "assistant", "content": [], "usage": start}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "fine"}},
            *({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage} for usage in deltas),
            {"type": "message_stop"},
        ]

    whole = Usage(59, 40, 20, 30, None, 30)
    assert stream("anthropic", events({"output_tokens": 40})) == whole
    assert stream("anthropic", events({"output_tokens": 40, "input_tokens": None})) == whole
    assert stream("anthropic", events({"output_tokens": 40, "input_tokens": 0})) == whole
    assert stream("anthropic", events({"output_tokens": 20}, {"output_tokens": 40})) == whole
    iterations = [{"type": "compaction", "input_tokens": 500, "output_tokens": 60}, {"type": "message", **start}]
    assert stream("anthropic", events({"output_tokens": 40, "iterations": iterations})) == Usage(
        559, 61, 20, 30, None, 30
    )


def test_gemini_may_leave_out_of_its_last_chunk_what_it_said_before() -> None:
    def chunk(usage: Any, **more: Any) -> Any:
        return {"candidates": [{"content": {"parts": [{"text": "x"}]}, **more}], "usageMetadata": usage}

    first = chunk({"promptTokenCount": 9, "thoughtsTokenCount": 30, "totalTokenCount": 39})
    last = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 43}
    expected = Usage(9, 34, reasoning_tokens=30)
    assert stream("gemini", [first, chunk(last, finishReason="STOP")]) == expected
    assert stream("gemini", [first, chunk(last), chunk(None, finishReason="STOP")]) == expected


def test_a_length_beside_which_reasoning_stands_is_not_full() -> None:
    """The limit binds the answer as the server counts it."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 513}
    request = LLMRequest(model="m", prompt="x", max_output_tokens=100)
    assert read("chat", body("chat", usage), request=request) == Usage(9, 504)
    reply = HttpReply(200, {}, json.dumps(body("chat", {"prompt_tokens": 9, "completion_tokens": 100})).encode())
    with pytest.raises(CallFailed, match="as long as it was allowed to be"):
        decode(reply, target_of(MODELS["chat"]), request)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"input": 9, "output": 4}, Usage(9, 4)),
        ({"input": 20, "cached": 20}, Usage(20, None, 20)),  # all of it cached
        ({"input": 20, "cached": 21}, Usage(41, None, 21)),  # beside it
        ({"input": 20, "cached": 11, "written": 9}, Usage(20, None, 11, 9)),
        ({"input": 20, "cached": 12, "written": 9}, Usage(41, None, 12, 9)),
        ({"input": 1, "cached": 0, "written": 0, "written_1h": 0}, Usage(1, None, 0, 0, None, 0)),
        ({"input": 20, "written": 0}, Usage(20, None, None, 0)),
        ({"input": 20, "written": 5, "written_1h": 7}, Usage(20, None, None, 7, None, 7)),
        ({"input": 20, "written": 7, "written_1h": 5}, Usage(20, None, None, 7, None, 5)),
        ({"input": 20, "written_1h": 5}, Usage(20, None, None, 5, None, 5)),
        ({"input": 0, "output": 4, "total": 9}, Usage(None, 4)),
        ({"output": 4, "cached": 20}, Usage(None, 4, 20)),
        ({"input": 9, "output": 0}, Usage(9, 0)),
        ({"input": 9, "output": 30, "reasoning": 30}, Usage(9, 30, reasoning_tokens=30)),
        ({"input": 9, "output": 30, "reasoning": 31}, Usage(9, 61, reasoning_tokens=31)),
        ({"input": 9, "output": 0, "reasoning": 1}, Usage(9, 1, reasoning_tokens=1)),
        ({"input": 9, "reasoning": 30}, Usage(9, None, reasoning_tokens=30)),
        ({"input": 9, "total": 8}, Usage(9)),
        ({"input": 9, "total": 9}, Usage(9, 0)),
        ({"input": 9, "total": 10}, Usage(9, 1)),
        ({"input": 9, "output": 4, "total": 8}, Usage(9, 4)),
        ({"input": 9, "output": 4, "total": 13}, Usage(9, 4)),
        ({"input": 9, "output": 4, "total": 14}, Usage(9, 5)),
        ({"output": 4, "total": 14}, Usage(None, 4)),
    ],
)
def test_what_counts_come_to(counts: dict[str, int], expected: Usage) -> None:
    assert usage_of(**({"input": None, "output": None} | counts)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0), (7, 7), (7.0, 7), ("7", 7), ("0", 0), ("9" * 15, 10**15 - 1), ("9" * 16, None), (2**53, 2**53),
        (2**53 + 2, None), (-1, None), ("-1", None), (7.5, None), ("7.0", None), ("", None), (" 7", None),
        ("\u0667", None), (True, None), (False, None), (None, None), ([7], None),
    ],
)  # fmt: skip
def test_a_number_of_tokens(value: Any, expected: int | None) -> None:
    assert tokens(value) == expected


def test_the_larger_of_two_reports_counts_in_every_field() -> None:
    some, more = Usage(1, 20, None, 40, 5, None), Usage(10, 2, 30, 4, None, 6)
    assert larger(some, more) == larger(more, some) == Usage(10, 20, 30, 40, 5, 6)
    assert larger(Usage(), Usage(0)) == Usage(0)


def test_a_report_takes_nothing_back() -> None:
    first = {"a": 9, "b": "7", "in": {"x": 3, "y": 5}, "kind": "old", "none": None}
    assert grown(None, first) == {"a": 9, "b": 7, "in": {"x": 3, "y": 5}, "kind": "old"}
    then = {"a": 8, "b": 8, "in": {"x": "4", "y": None}, "kind": "new", "z": 0}
    assert grown(first, then) == {"a": 9, "b": 8, "in": {"x": 4, "y": 5}, "kind": "new", "none": None, "z": 0}
    assert grown({"a": 9}, None) == grown({"a": 9}, {"a": None}) == {"a": 9}


COUNTS = st.none() | st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_never_less_than_any_part_or_the_total(
    input: int | None, output: int | None, total: int | None, cached: int | None, written: int | None,
    written_1h: int | None, reasoning: int | None,
) -> None:  # fmt: skip
    used = usage_of(
        input=input, output=output, total=total, cached=cached, written=written, written_1h=written_1h,
        reasoning=reasoning,
    )  # fmt: skip
    if used.input_tokens is not None:
        assert used.input_tokens >= max(input or 0, (cached or 0) + max(written or 0, written_1h or 0))
    if used.output_tokens is not None and output is not None:
        assert used.output_tokens >= max(output, reasoning or 0)
    if used.input_tokens is not None and used.output_tokens is not None:
        assert used.input_tokens + used.output_tokens >= (total or 0)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), COUNTS), max_size=6))
def test_what_a_stream_reports_grows(reports: list[dict[str, int | None]]) -> None:
    found: dict[str, Any] = {}
    for report in reports:
        found = grown(found, report)
    for name in "abc":
        said = [tokens(report[name]) for report in reports if report.get(name) is not None]
        assert found.get(name) == max((n for n in said if n is not None), default=None)
