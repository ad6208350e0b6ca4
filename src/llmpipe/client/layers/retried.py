"""The one owner of retries: sends a request again after a fault that may pass, and says why when it does not."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.journal import waiting
from llmpipe.errors import BadRequest, CallFailed, RetryAfterTooLong, RetryAllowanceSpent, TotalTimeout
from llmpipe.frozen import frozen
from llmpipe.policy import Retry, add_jitter, backoff_delay
from llmpipe.types import LLMResponse


@frozen
class Verdict:
    """What follows a failed attempt: `again` after `wait_s`, or an end, perhaps because of too long a hint."""

    next: Literal["again", "stop", "hint_too_long"]
    wait_s: float = 0.0


def retried(inner: Handler, deps: Deps) -> Handler:
    """Repeat the call after a fault, at most `policy.retry.max_retries` times, each wait within the total deadline."""

    async def handle(call: Call) -> LLMResponse:
        failures: Counter[str] = Counter()
        taken = 0
        while True:
            try:
                response = await inner(call)
            except CallFailed as err:
                failures[err.kind] += 1
                wait = _wait_or_raise(err, call, failures, deps)
                taken = deps.allowance.take(throttled=err.hold)
                if not taken:
                    raise _ending(RetryAllowanceSpent, err, "the run's allowance of retries is used up") from err
                _note_wait(call, wait)
            else:
                deps.allowance.give_back(taken)
                return response
            if wait > 0:
                with waiting(call):
                    await deps.sleep(wait)

    return handle


def decide(err: CallFailed, failures: Counter[str], retry: Retry, rng: random.Random) -> Verdict:
    """What follows `err`, the latest of the `failures` (counted by class) of this call. Facts B2.2 and B2.3.

    The class of the error speaks first, then the server's `x-should-retry`, then the class's own limit and the
    policy's.
    """
    tries = failures.total()
    limit = retry.max_retries if err.retry_limit is None else min(err.retry_limit, retry.max_retries)
    if not _worth_it(err) or tries > retry.max_retries or failures[err.kind] > limit:
        return Verdict("stop")
    delay = backoff_delay(tries, base=retry.base, cap=retry.cap)
    wait = add_jitter(delay, rng=rng) if retry.jitter == "full" else delay
    hint = err.retry_after
    if hint is None or not hint > 0:
        return Verdict("again", wait)
    if hint > retry.retry_after_max:
        return Verdict("hint_too_long") if retry.retry_after_over == "fail" else Verdict("again", wait)
    return Verdict("again", max(wait, hint))


def _worth_it(err: CallFailed) -> bool:
    if not err.sent:
        return False
    if err.retryable:
        return err.should_retry is not False
    # A verdict of the server helps only what was classified by its status alone: a body that names the cause wins.
    return bool(err.should_retry) and type(err) in (CallFailed, BadRequest)


def _wait_or_raise(err: CallFailed, call: Call, failures: Counter[str], deps: Deps) -> float:
    verdict = decide(err, failures, call.policy.retry, deps.rng)
    if verdict.next == "stop":
        raise err
    if verdict.next == "hint_too_long":
        most = call.policy.retry.retry_after_max
        text = f"the server asks to wait {err.retry_after:g} s, more than retry_after_max ({most:g} s): {err.message}"
        raise _ending(RetryAfterTooLong, err, text) from err
    left = call.deadline.left(deps.clock())
    if left is not None and verdict.wait_s >= left:
        text = f"the next attempt would be in {verdict.wait_s:.1f} s, {left:.1f} s of the total are left: {err.message}"
        raise _ending(TotalTimeout, err, text) from err
    return verdict.wait_s


def _note_wait(call: Call, wait: float) -> None:
    if call.attempts:
        call.attempts[-1] = replace(call.attempts[-1], wait_s=round(wait, 3))


def _ending(kind: type[CallFailed], err: CallFailed, text: str) -> CallFailed:
    """An error that ends the call and carries the evidence of the attempt before it."""
    evidence: dict[str, Any] = {
        name: getattr(err, name)
        for name in (
            "status",
            "provider_code",
            "retry_after",
            "raw",
            "usage",
            "billed",
            "provider_request_id",
            "details",
        )
    }
    return kind(text, **evidence)
