"""The log lines of a call: event names and fields that people filter by."""

from __future__ import annotations

from typing import Any

from llmpipe.client.call import Call
from llmpipe.errors import CallFailed
from llmpipe.types import Attempt, LLMResponse

# Data goes through `bind`, never into the message: loguru takes a message with arguments for a format string (facts C).


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
        logger.bind(**fields).info("llm_call_ok")
        return
    fields.update(error_type=attempt.outcome, error=attempt.error, status=attempt.status, code=attempt.code)
    if attempt.billed != "no":
        fields["billed"] = attempt.billed
    logger.bind(**fields).warning("llm_call_failed")


def cache_hit(logger: Any, call: Call, response: LLMResponse) -> None:
    """`llm_cache_hit`: answered without asking anybody; `attempt` is 0."""
    logger.bind(
        request_id=call.request_id, model=response.answered_by, latency_s=round(response.latency_s, 4), attempt=0
    ).info("llm_cache_hit")


def call_ended(logger: Any, call: Call, err: CallFailed, *, latency_s: float) -> None:
    """`llm_call_failed` for a call that ended between attempts or before the first; `attempt` counts those made."""
    logger.bind(
        request_id=call.request_id,
        model=call.model.label,
        latency_s=round(latency_s, 4),
        attempt=len(call.attempts),
        error_type=err.kind,
        error=err.message,
        code=err.code,
    ).warning("llm_call_failed")
