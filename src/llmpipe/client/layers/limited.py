"""Lets a call pass when its gate has a place for it, and tells the gate how it ended."""

from __future__ import annotations

from llmpipe.client.aim import others
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.gate import Gate
from llmpipe.client.gate_state import Outcome
from llmpipe.client.journal import waiting
from llmpipe.errors import CallFailed, ProviderDown
from llmpipe.providers.estimate import estimate_input
from llmpipe.providers.limits import limits_from_headers
from llmpipe.types import LLMResponse, Usage

_DOWN = ProviderDown("")


def limited(inner: Handler, deps: Deps) -> Handler:
    """Hold each attempt until its gate admits it; the call's total clock starts with the first admission.

    An account error that arrives after the gate was closed by another call counts as unsent (design 4): one failure
    speaks for all. A call that has another model left does not wait for an open breaker.
    """

    async def handle(call: Call) -> LLMResponse:
        gate = deps.gates.of(call.target, call.model.limits)
        retry = call.policy.retry
        fails = retry.retry_after_over == "fail"
        max_hold, longest = (retry.retry_after_max, None) if fails else (None, retry.retry_after_max)
        tokens = _expected_tokens(call) if gate.counts_tokens else 0
        patient, tried = not _has_another(call), len(call.attempts)
        with waiting(call):
            ticket = await gate.enter(tokens, max_hold=max_hold, patient=patient, order=call.order, tried=tried)
        call.deadline.start(deps.clock())
        outcome = Outcome()
        try:
            response = await inner(call)
            outcome = Outcome(answered=True, tokens=_used(response.usage))
            call.silence.answered(gate)
        except CallFailed as err:
            own = err.sent and (err.fault or err.hold) and call.silence.fault(gate, ticket.passed.number)
            outcome = Outcome(error=err, tokens=_used(err.usage), longest_hold=longest, own=own)
            if err.account and gate.state.closed_by is not None:
                err.sent = False
            raise
        finally:
            gate.leave(ticket, outcome)
        _learn(gate, call, response)
        return response

    return handle


def _learn(gate: Gate, call: Call, response: LLMResponse) -> None:
    if response.rate_limits:
        gate.learn(limits_from_headers(response.rate_limits, call.target.dialect.limit_headers))


def _has_another(call: Call) -> bool:
    """True if this call is the first choice and a fallback stands behind it for when the provider is down."""
    return any(name != call.model.name for name in others(call, _DOWN))


def _expected_tokens(call: Call) -> int:
    """Providers count the output that is allowed when they decide on a rate limit."""
    return estimate_input(call.request) + (call.request.max_output_tokens or 0)


def _used(usage: Usage | None) -> int | None:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens + usage.output_tokens
