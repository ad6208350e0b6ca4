"""Providers that are code of the user's own: an object that is called in place of the exchange, within every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.client.call import Call, Handler
from llmpipe.client.override import overridden
from llmpipe.errors import ModelUnknown


def own_provider(name: str, answer: Callable[..., Any], secrets: Callable[[str], str | None]) -> Handler:
    """The innermost handler made of `answer`, which `provider: module:object` names; docs/own-provider.md.

    A class is made an object of, once, without arguments. It is called with the request, and with those of `model` (the
    id), `key` (the value of the variable that `api_key_env` names, else None), `timeout_s`, `attempt`, `force_error`
    that it takes; what its results and exceptions mean stands in client/override.py.
    """

    def more(call: Call) -> Mapping[str, Any]:
        variable = call.target.api_key_env
        return {"model": call.target.model, "key": None if variable is None else secrets(variable)}

    return overridden(answer() if isinstance(answer, type) else answer, what=name, more=more)


def not_there(provider: str) -> ModelUnknown:
    """The error for a provider whose code nobody has given to the client."""
    hint = f"LLMClient(..., providers={{'{provider}': ...}})"
    error = ModelUnknown(f"provider '{provider}' is code, and the client was not given it: {hint}")
    error.sent = False
    return error
