"""What a well-behaved provider of each wire answers: one answer and one error body per kind, as bytes."""

from __future__ import annotations

import json
from typing import Any

WIRES = ("openai_chat", "openai_responses", "anthropic", "gemini", "ollama")


def wire_of(path: str) -> str:
    """The wire that is spoken at `path`."""
    if path.endswith("/responses"):
        return "openai_responses"
    if path.endswith("/messages"):
        return "anthropic"
    if "enerateContent" in path:
        return "gemini"
    if path.endswith("/api/chat"):
        return "ollama"
    return "openai_chat"


def answer(wire: str, text: str = "hello") -> dict[str, Any]:
    """A complete answer with usage: 10 tokens in, 5 out."""
    usage = {"input_tokens": 10, "output_tokens": 5}
    if wire == "anthropic":
        content = [{"type": "text", "text": text}]
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test"}
        return {**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    if wire == "gemini":
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        counts = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "test", "responseId": "r1"}
    if wire == "ollama":
        turn = {"role": "assistant", "content": text}
        return {
            "model": "test",
            "message": turn,
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 10,
            "eval_count": 5,
        }
    if wire == "openai_responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
        head = {"id": "resp_1", "object": "response", "model": "test", "status": "completed", "error": None}
        return {**head, "output": [item], "incomplete_details": None, "usage": {**usage, "total_tokens": 15}}
    turn = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": turn, "finish_reason": "stop", "logprobs": None}
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "test"}
    return {**head, "choices": [choice], "usage": counts}


# kind: (OpenAI code, OpenAI type, Anthropic type, Gemini status, message)
_ERRORS = {
    "rate_limit": ("rate_limit_exceeded", "requests", "rate_limit_error", "RESOURCE_EXHAUSTED", "Rate limit reached"),
    "overloaded": ("server_error", "server_error", "overloaded_error", "UNAVAILABLE", "Overloaded"),
    "server_error": ("server_error", "server_error", "api_error", "INTERNAL", "Internal error"),
    "key_refused": (
        "invalid_api_key",
        "invalid_request_error",
        "authentication_error",
        "UNAUTHENTICATED",
        "Incorrect API key provided: {key}",
    ),
    "quota": (
        "insufficient_quota",
        "insufficient_quota",
        "billing_error",
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota",
    ),
    "model_unknown": (
        "model_not_found",
        "invalid_request_error",
        "not_found_error",
        "NOT_FOUND",
        "The model 'test' is not found",
    ),
    "denied": (
        "access_denied",
        "invalid_request_error",
        "permission_error",
        "PERMISSION_DENIED",
        "You do not have access to this model",
    ),
    "context_length": (
        "context_length_exceeded",
        "invalid_request_error",
        "invalid_request_error",
        "INVALID_ARGUMENT",
        "prompt is too long: this model's maximum context length is 8192 tokens",
    ),
    "content_filter": (
        "content_filter",
        "invalid_request_error",
        "invalid_request_error",
        "INVALID_ARGUMENT",
        "The prompt was blocked by our content filtering policy",
    ),
    "schema_rejected": (
        "invalid_json_schema",
        "invalid_request_error",
        "invalid_request_error",
        "INVALID_ARGUMENT",
        "Invalid schema for response_format",
    ),
    "bad_request": (None, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", "Unknown parameter"),
}


def ended(wire: str, how: str, text: str = "hello") -> dict[str, Any]:
    """An answer that ended in another way than by being complete (facts A4), as the wire spells it.

    `how`: length, refusal, filtered, unknown, or empty (complete, and nothing in it).
    """
    if how == "empty":
        return answer(wire, "")
    whole = answer(wire, text)
    if wire == "anthropic":
        words = {"length": "max_tokens", "refusal": "refusal", "filtered": "refusal"}
        return {**whole, "stop_reason": words.get(how, "a_new_reason")}
    if wire == "gemini":
        words = {"length": "MAX_TOKENS", "refusal": "SAFETY", "filtered": "PROHIBITED_CONTENT"}
        return {**whole, "candidates": [{**whole["candidates"][0], "finishReason": words.get(how, "A_NEW_REASON")}]}
    if wire == "ollama":
        return {**whole, "done_reason": {"length": "length"}.get(how, "a_new_reason")}
    if wire == "openai_responses":
        if how == "refusal":
            item = {**whole["output"][0], "content": [{"type": "refusal", "refusal": text}]}
            return {**whole, "output": [item]}
        words = {"length": "max_output_tokens", "filtered": "content_filter"}
        return {**whole, "status": "incomplete", "incomplete_details": {"reason": words.get(how, "a_new_reason")}}
    choice = whole["choices"][0]
    if how == "refusal":
        choice = {**choice, "message": {"role": "assistant", "content": None, "refusal": text}}
    else:
        words = {"length": "length", "filtered": "content_filter"}
        choice = {**choice, "finish_reason": words.get(how, "a_new_reason")}
    return {**whole, "choices": [choice]}


def error(wire: str, kind: str, status: int, key: str = "", *, more: str = "") -> bytes:
    """An error body of that kind, as the wire spells it (facts A6); `key` is what the client sent, to be echoed.

    `more` is said at the end of the message.
    """
    code, openai_type, anthropic_type, gemini_status, message = _ERRORS[kind]
    message = message.replace("{key}", key) + more
    if wire == "anthropic":
        return _dump({"type": "error", "error": {"type": anthropic_type, "message": message}, "request_id": "req_1"})
    if wire == "gemini":
        details = [{"reason": "API_KEY_INVALID"}] if kind == "key_refused" else _gemini_details(kind)
        return _dump({"error": {"code": status, "message": message, "status": gemini_status, "details": details}})
    if wire == "ollama":
        return _dump({"error": message})
    return _dump({"error": {"message": message, "type": openai_type, "param": None, "code": code}})


def _gemini_details(kind: str) -> list[dict[str, Any]]:
    if kind != "quota":
        return []
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    kind_url = "type.googleapis.com/google.rpc.QuotaFailure"
    return [{"@type": kind_url, "violations": [violation]}, {"retryDelay": "38s"}]


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()
