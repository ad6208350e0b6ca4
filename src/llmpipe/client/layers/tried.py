"""Tries a schema on its provider with one call before others ask for it, and learns whether the provider refuses it."""

from __future__ import annotations

import asyncio

from llmpipe.client.call import Call, Deps, Handler
from llmpipe.client.events import schema_refused
from llmpipe.client.refusals import Name, NativeRefused, refusal_of
from llmpipe.errors import CallFailed, SchemaRejected
from llmpipe.types import LLMResponse


def tried(inner: Handler, deps: Deps) -> Handler:
    """Let the first call that asks natively for a schema go alone; after a refusal nobody asks for it like that.

    A refusal is NativeRefused, which the layer `told` answers by the prompt; it closes no gate. This stands within the
    gate, so that calls which waited there hear of it before they are sent. A first call that fails otherwise holds
    nobody up any longer.
    """
    tried_before: set[Name] = set()
    trying: dict[Name, asyncio.Event] = {}

    async def ask(call: Call, name: Name) -> LLMResponse:
        if name in deps.refusals:
            raise _refused(f"{call.model.label} has refused this output schema")
        try:
            return await inner(call)
        except SchemaRejected as err:
            if deps.refusals.add(name, call.model, err):
                schema_refused(deps.logger, call, err)
            raise _refused(err.message) from err

    async def handle(call: Call) -> LLMResponse:
        name = refusal_of(call)
        if name is None:
            return await inner(call)
        while name in trying:
            await trying[name].wait()
        if name in tried_before or name in deps.refusals:
            return await ask(call, name)
        done = trying[name] = asyncio.Event()
        try:
            response = await ask(call, name)
        except CallFailed:
            tried_before.add(name)
            raise
        finally:
            del trying[name]
            done.set()
        tried_before.add(name)
        return response

    return handle


def _refused(words: str) -> NativeRefused:
    """Says neither good nor bad of the account to the gate: whether calls are answered is still to be seen."""
    refused = NativeRefused(words)
    refused.sent = False
    return refused
