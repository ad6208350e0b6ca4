"""Puts an output schema into the prompt where the provider refuses to be asked for it natively."""

from __future__ import annotations

from llmpipe.client.aim import in_prompt
from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.refusals import NativeRefused, refusal_of
from llmpipe.errors import NotRecorded
from llmpipe.types import LLMResponse

NOTE = "schema_in_prompt"


def told(inner: Handler, deps: Deps) -> Handler:
    """Ask by the prompt after NativeRefused, and at once where the refusal is known.

    That is another request with a key of its own, so the layer stands outside of everything that goes by keys. The
    answer is noted as "schema_in_prompt". Offline it is looked for too, where the native request has no answer.
    """

    async def by_prompt(call: Call) -> LLMResponse:
        call.answerer = in_prompt(call)
        response = await inner(call.answerer)
        return response.having(notes=(*response.notes, NOTE))

    async def handle(call: Call) -> LLMResponse:
        if not (deps.refusals and refusal_of(call) in deps.refusals):
            try:
                return await inner(call)
            except NativeRefused:
                pass
            except NotRecorded:
                if refusal_of(call) is None:
                    raise
        return await by_prompt(call)

    return handle
