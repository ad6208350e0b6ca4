"""What the wires make of limits, of ends and of parts of a reply, on both sides of every bound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmpipe.errors import CallFailed, ContextTooLong, Refused
from llmpipe.providers.ollama import context_size
from llmpipe.providers.wires import WIRES, decode, encode, wire
from llmpipe.types import HttpReply, LLMRequest, LLMResponse, Message
from tests.providers.golden_files import target_of

REQUEST = LLMRequest(model="m", prompt="hello")


def target(name: str, **more: Any) -> Any:
    return target_of({"provider": name.removesuffix("_chat"), "model": "m"} | more)


def answer(name: str, body: dict[str, Any], request: LLMRequest | None = None) -> LLMResponse:
    return decode(HttpReply(200, {}, json.dumps(body).encode()), target(name), request)


def failure(name: str, body: dict[str, Any], request: LLMRequest | None = None) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        answer(name, body, request)
    return caught.value


@pytest.mark.parametrize("name", WIRES)
def test_nothing_is_streamed_unless_it_is_asked(name: str) -> None:
    whole = encode(REQUEST, target(name), stream=False)
    assert encode(REQUEST, target(name)) == wire(name).encode(REQUEST, target(name)) == whole
    assert whole.headers["accept"] == "application/json"
    streamed = encode(REQUEST, target(name), stream=True)
    assert streamed.headers["accept"] == ("application/x-ndjson" if name == "ollama" else "text/event-stream")
    assert (streamed.body, streamed.url) != (whole.body, whole.url)


@pytest.mark.parametrize(
    ("words", "limit", "size"),
    [(0, 8_180, 8_192), (0, 8_181, 16_384), (0, 1_048_564, 1_048_576), (0, 9_000_000, 1_048_576), (0, None, 8_192)],
)
def test_ollama_is_given_room_in_powers_of_two(words: int, limit: int | None, size: int) -> None:
    assert context_size((Message("user", "x " * words),), limit) == size


def test_ollama_has_room_for_an_answer_where_no_limit_is_set() -> None:
    turns = (Message("user", "x"),) * 20
    for size in (8_192, 16_384):
        needed = next(n for n in range(size) if context_size(turns, n) > size)
        assert context_size((*turns, Message("user", "x")), needed - 1) > size  # each turn counts
        assert context_size(turns, needed - 1) == size
    many = (Message("user", "x"),) * 500
    assert [context_size(many, limit) for limit in (None, 2_048)] == [context_size(many, 2_048)] * 2
    sizes = {count: context_size((Message("user", "x"),) * count, None) for count in range(300, 700)}
    assert sizes == {count: context_size((Message("user", "x"),) * count, 2_048) for count in range(300, 700)}
    assert set(sizes.values()) == {8_192, 16_384}


def test_ollama_takes_the_context_that_is_asked_for() -> None:
    def options(**extra: Any) -> dict[str, Any]:
        body = json.loads(encode(LLMRequest(model="m", prompt="hello", extra=extra), target("ollama")).body)
        assert (body["stream"], body["truncate"]) == (False, False)
        assert "num_ctx" not in body
        found: dict[str, Any] = body["options"]
        return found

    assert options() == {"num_ctx": 8_192}
    assert options(num_ctx=77) == {"num_ctx": 77}
    assert options(options={"num_ctx": 78, "top_k": 1}) == {"num_ctx": 78, "top_k": 1}


@pytest.mark.parametrize(
    ("words", "read", "is_dropped"),
    [
        (1_000, 900, False), (1_000, 899, True), (1_009, 908, False), (1_009, 907, True), (256, 230, False),
        (256, 229, True), (255, 1, False), (1_000, None, False), (1_000, 0, False),
    ],
)  # fmt: skip
def test_ollama_that_read_only_a_part_is_told_from_one_that_read_all(
    words: int, read: int | None, is_dropped: bool
) -> None:
    body = {"message": {"content": "fine"}, "done": True, "done_reason": "stop", "eval_count": 1}
    body |= {} if read is None else {"prompt_eval_count": read}
    request = LLMRequest(model="m", prompt="word " * words)
    assert answer("ollama", body).text == "fine"
    if is_dropped:
        error = failure("ollama", body, request)
        assert isinstance(error, ContextTooLong)
        assert f"read {read} tokens of a prompt of at least {words}," in str(error)
    else:
        assert answer("ollama", body, request).text == "fine"


@pytest.mark.parametrize("done", [False, None, 1, "true"])
def test_ollama_has_to_say_that_it_is_done(done: object) -> None:
    assert "not marked as done" in str(failure("ollama", {"message": {"content": "x"}, "done": done}))


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"category": "cyber", "explanation": "not that"}, "the model refused: cyber: not that"),
        ({"category": "cyber"}, "the model refused: cyber"),
        ({"explanation": "not that", "category": None}, "the model refused: not that"),
        ({}, "the model refused: refusal"),
        (None, "the model refused: refusal"),
    ],
)
def test_anthropic_says_why_it_refused(details: object, said: str) -> None:
    error = failure("anthropic", {"content": [], "stop_reason": "refusal", "stop_details": details})
    assert isinstance(error, Refused)
    assert said in str(error)


PARTS: list[tuple[str, dict[str, Any], tuple[str, str | None]]] = [
    (
        "anthropic",
        {
            "content": [
                {"type": "thinking", "thinking": "t"},
                {"type": "text", "text": "a"},
                {"type": "thinking", "thinking": "u"},
                {"type": "tool", "text": "no"},
                {"type": "text", "text": "b"},
            ],
            "stop_reason": "end_turn",
        },
        ("ab", "t\nu"),
    ),
    (
        "gemini",
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"text": "t", "thought": True},
                            {"text": "a", "thought": False},
                            {"text": "b", "thought": 1},
                            {"text": "u", "thought": True},
                        ]
                    },
                    "finishReason": "STOP",
                },
                {"content": {"parts": [{"text": "no"}]}, "finishReason": "SAFETY"},
            ]
        },
        ("ab", "tu"),
    ),
    (
        "openai_chat",
        {
            "choices": [
                {
                    "message": {
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "thinking", "thinking": [{"text": "t"}, {"text": "u"}]},
                            {"type": "image", "text": "no"},
                            {"type": "output_text", "text": "b"},
                        ]
                    },
                    "finish_reason": "stop",
                },
                {"message": {"content": "no"}, "finish_reason": "length"},
            ]
        },
        ("ab", "tu"),
    ),
    (
        "openai_chat",
        {
            "choices": [
                {"message": {"content": "a", "reasoning": "r", "reasoning_content": "c"}, "finish_reason": "eos"}
            ]
        },
        ("a", "c"),
    ),
    (
        "openai_chat",
        {"choices": [{"message": {"content": "a", "reasoning": "r"}, "finish_reason": "stop"}]},
        ("a", "r"),
    ),
    (
        "openai_responses",
        {
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"text": "t"}], "content": [{"text": "u"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "other", "text": "no"}]},
                {"type": "call", "content": [{"type": "output_text", "text": "no"}]},
            ],
        },
        ("a", "t\nu"),
    ),
    (
        "ollama",
        {"message": {"content": "a", "thinking": "t"}, "done": True, "done_reason": "stop"},
        ("a", "t"),
    ),
]


@pytest.mark.parametrize(("name", "body", "expected"), PARTS)
def test_the_answer_and_what_was_thought_are_told_apart(
    name: str, body: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    found = answer(name, body)
    assert (found.text, found.reasoning, found.model, found.answered_by) == (*expected, "m", target(name).label)


ENDS: list[tuple[str, dict[str, Any], str]] = [
    *(("anthropic", {"content": [], "stop_reason": reason}, kind) for reason, kind in (
        ("max_tokens", "Truncated"), ("model_context_window_exceeded", "Truncated"), ("refusal", "Refused"),
        ("pause_turn", "IncompleteAnswer"), ("end_turn", "EmptyAnswer"), ("stop_sequence", "EmptyAnswer"),
    )),
    *(("openai_chat", {"choices": [{"message": {}, "finish_reason": reason}]}, kind) for reason, kind in (
        ("length", "Truncated"), ("model_length", "Truncated"), ("content_filter", "ContentFiltered"),
        ("stop", "EmptyAnswer"), ("eos", "EmptyAnswer"), ("tool_calls", "IncompleteAnswer"), (None, "IncompleteAnswer"),
    )),
    ("openai_chat", {"choices": [{"message": {"content": "a", "refusal": "no"}, "finish_reason": "stop"}]}, "Refused"),
    ("openai_chat", {"choices": []}, "EmptyAnswer"),
    ("openai_chat", {"choices": {}}, "BadReply"),
    ("openai_chat", {"choices": [{"error": {"code": 429, "message": "m"}}]}, "RateLimited"),
    *(("gemini", {"candidates": [{"finishReason": reason}]}, kind) for reason, kind in (
        ("MAX_TOKENS", "Truncated"), ("SAFETY", "ContentFiltered"), ("RECITATION", "ContentFiltered"),
        ("LANGUAGE", "ContentFiltered"), ("BLOCKLIST", "ContentFiltered"), ("PROHIBITED_CONTENT", "ContentFiltered"),
        ("SPII", "ContentFiltered"), ("MODEL_ARMOR", "ContentFiltered"), ("ESCALATION", "ContentFiltered"),
        ("IMAGE_SAFETY", "ContentFiltered"), ("STOP", "EmptyAnswer"), ("OTHER", "IncompleteAnswer"),
    )),
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "ContentFiltered"),
    ("gemini", {"promptFeedback": {"safetyRatings": []}}, "EmptyAnswer"),
    ("gemini", {"usageMetadata": {}}, "EmptyAnswer"),
    ("gemini", {"candidates": []}, "EmptyAnswer"),
    ("gemini", {"modelVersion": "x"}, "BadReply"),
    ("openai_responses", {"status": "completed", "output": []}, "EmptyAnswer"),
    ("openai_responses", {"status": "in_progress", "output": []}, "IncompleteAnswer"),
    *(("openai_responses", {"status": "incomplete", "output": [], "incomplete_details": {"reason": reason}}, kind)
      for reason, kind in (("max_output_tokens", "Truncated"), ("content_filter", "ContentFiltered"),
                           ("other", "IncompleteAnswer"), (None, "IncompleteAnswer"))),
    *(("ollama", {"message": {}, "done": True, "done_reason": reason}, kind) for reason, kind in (
        ("length", "Truncated"), ("stop", "EmptyAnswer"), ("load", "IncompleteAnswer"),
    )),
    ("ollama", {"message": "x", "done": True}, "BadReply"),
    ("anthropic", {"content": "x"}, "BadReply"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "kind"), ENDS)
def test_how_an_answer_ended(name: str, body: dict[str, Any], kind: str) -> None:
    assert failure(name, body).kind == kind


@pytest.mark.parametrize(
    ("url", "model", "sent"),
    [
        (
            "https://generativelanguage.googleapis.com/v1beta",
            "models/a b",
            "https://generativelanguage.googleapis.com/v1beta/models/a%20b",
        ),
        (
            "https://generativelanguage.googleapis.com/v1",
            "x/y",
            "https://generativelanguage.googleapis.com/v1/models/x%2Fy",
        ),
    ],
)
def test_gemini_is_asked_at_the_address_of_the_model(url: str, model: str, sent: str) -> None:
    asked = target("gemini", base_url=url, model=model)
    assert encode(REQUEST, asked).url == f"{sent}:generateContent"
    assert encode(REQUEST, asked, stream=True).url == f"{sent}:streamGenerateContent?alt=sse"
