"""Another model for a request that the first one cannot answer now: by class of error, never for an invalid output."""

from __future__ import annotations

from dataclasses import replace

from llmpipe.client.aim import aimed
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.errors import CallFailed
from llmpipe.types import LLMResponse


def fallback(inner: Handler, deps: Deps) -> Handler:
    """Ask the models of `policy.fallback` (None: the model's own) in turn, while errors are of a class with `fallback`.

    It stands outside the retries, so a model is left after its last retry, and at once when its breaker is open or its
    account refused the call. The error of the last model asked leaves; the attempts of all of them are in the call. A
    fallback's own fallbacks are not followed.
    """

    async def handle(call: Call) -> LLMResponse:
        try:
            return await inner(call)
        except CallFailed as err:
            names = call.model.fallback if call.policy.fallback is None else call.policy.fallback
            if not names or not err.fallback:
                raise
            failure = err
        for name in names:
            model, target = deps.resolve(name)
            try:
                response = await inner(aimed(call, model, target))
            except CallFailed as err:
                err.__cause__ = failure
                if not err.fallback:
                    raise
                failure = err
            else:
                call.answerer = target
                return replace(response, notes=(*response.notes, f"fallback:{model.name}"))
        raise failure

    return handle
