"""Another model for a request that the first one cannot answer now: by class of error, never for an invalid output."""

from __future__ import annotations

from dataclasses import replace

from llmpipe.client.aim import aimed, others
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.errors import CallFailed
from llmpipe.types import LLMResponse


def fallback(inner: Handler, deps: Deps) -> Handler:
    """Ask the models of `policy.fallback` (None: the model's own) in turn, each after errors of the classes it is for.

    A model without classes of its own (`fallback_on`) is for errors whose class has `fallback`. The layer stands
    outside the retries, so a model is left after its last retry, and at once when its breaker is open or its account
    refused the call. The error of the last model asked leaves; the attempts of all of them are in the call. A
    fallback's own fallbacks are not followed.
    """

    async def handle(call: Call) -> LLMResponse:
        try:
            return await inner(call)
        except CallFailed as err:
            failure = err
            left = list(others(call, err))
        while left:
            model, target = deps.resolve(left[0])
            call.answerer = aimed(call, model, target)
            try:
                response = await inner(call.answerer)
            except CallFailed as err:
                left = _after(left[0], others(call, err), call)
                err.__cause__, failure = failure, err
            else:
                return replace(response, notes=(*response.notes, f"fallback:{model.name}"))
        raise failure

    return handle


def _after(name: str, names: tuple[str, ...], call: Call) -> list[str]:
    """Those of `names` that stand behind `name` in the whole list."""
    whole = call.model.fallback if call.policy.fallback is None else call.policy.fallback
    behind = whole[whole.index(name) + 1 :]
    return [other for other in names if other in behind]
