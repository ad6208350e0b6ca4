"""The log lines of a call: event names and fields that people filter by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llmpipe.client.call import Call
from llmpipe.errors import CallFailed
from llmpipe.types import Attempt, LLMResponse

# Data goes through `bind`, never into the message: loguru takes a message with arguments for a format string (facts C).
_SHOWN = ("request_id", "model", "latency_s", "attempt", "error_type", "code")


class Event(str):
    """The name of an event; where a sink's format writes it out, its fields follow: `llm_call_ok request_id=...`.

    loguru's own sink prints messages and nothing of what was bound, so a bare name would tell a notebook nothing. To
    whoever filters records or reads lines of JSON it is the name alone, and the fields are in `extra`.
    """

    __slots__ = ("_fields",)
    _fields: Mapping[str, Any]

    def __new__(cls, name: str, fields: Mapping[str, Any] = MappingProxyType({})) -> Event:
        event = super().__new__(cls, name)
        event._fields = {key: fields[key] for key in _SHOWN if fields.get(key) is not None}
        return event

    def __str__(self) -> str:
        return self  # loguru takes the text of a message, and it stays an event

    def __format__(self, spec: str) -> str:
        return format(" ".join([self[:], *(f"{key}={value}" for key, value in self._fields.items())]), spec)


def attempt_made(logger: Any, call: Call, attempt: Attempt) -> None:
    """One line per attempt: `llm_call_ok`, or `llm_call_failed` with its `error_type`."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "model": attempt.model,
        "latency_s": round(attempt.latency_s, 4),
        "attempt": attempt.number,
    }
    if attempt.usage is not None:
        fields["input_tokens"] = attempt.usage.input_tokens
        fields["output_tokens"] = attempt.usage.output_tokens
    if attempt.outcome == "ok":
        logger.bind(**fields).info(Event("llm_call_ok", fields))
        return
    fields.update(error_type=attempt.outcome, error=attempt.error, status=attempt.status, code=attempt.code)
    if attempt.billed != "no":
        fields["billed"] = attempt.billed
    logger.bind(**fields).warning(Event("llm_call_failed", fields))


def cache_hit(logger: Any, call: Call, response: LLMResponse) -> None:
    """`llm_cache_hit`: answered without asking anybody; `attempt` is 0."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "model": response.answered_by,
        "latency_s": round(response.latency_s, 4),
        "attempt": 0,
    }
    logger.bind(**fields).info(Event("llm_cache_hit", fields))


def schema_refused(logger: Any, call: Call, err: CallFailed) -> None:
    """`llm_schema_refused`, once for a schema: from now on it stands in the prompt."""
    fields: dict[str, Any] = {"request_id": call.request_id, "model": call.model.label, "error": err.message}
    logger.bind(**fields).warning(Event("llm_schema_refused", fields))


def call_ended(logger: Any, call: Call, err: CallFailed, *, latency_s: float) -> None:
    """`llm_call_failed` for a call that ended between attempts or before the first; `attempt` counts those made."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "model": call.model.label,
        "latency_s": round(latency_s, 4),
        "attempt": len(call.attempts),
        "error_type": err.kind,
        "error": err.message,
        "code": err.code,
    }
    logger.bind(**fields).warning(Event("llm_call_failed", fields))
