"""Names an answer by everything that decides it: canonical JSON over an allow-list, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmpipe.errors import BadRequest
from llmpipe.json_text import writer
from llmpipe.types import LLMRequest

if TYPE_CHECKING:
    from llmpipe.providers.table import Target

KEY_VERSION = 1


def make_cache_key(request: LLMRequest, target: Target | None = None) -> str:
    """The sha256, in hex, under which the answer to `request` is kept (design 5).

    In it: provider, address, model, conversation, parameters, what is sent of the schema, extra body, API version and
    beta headers, sample, what `echo` is told to do. Not in it: timeouts, retries, limits, names of models, keys.
    Without `target`, `request.model` is read as a bare client reads it. Raises BadRequest for what JSON cannot hold.
    """
    if target is None:
        from llmpipe.client.naming import named

        _, target = named(request.model, {})
    return digest(key_material(request, target))


def digest(material: bytes) -> str:
    """The key of that material."""
    return hashlib.sha256(material).hexdigest()


def key_material(request: LLMRequest, target: Target) -> bytes:
    """The canonical JSON that a key is the digest of; what is not set is left out, so that new parts change no key."""
    parts: dict[str, Any] = {
        "v": KEY_VERSION,
        "provider": target.provider,
        "address": target.url,
        "model": target.model,
        "turns": [(m.role, m.content) for m in request.turns()],
        "params": _params(request, target),
        "schema": _schema_as_sent(request, target),
        "extra": request.extra,
        "headers": {k: v for k, v in target.headers.items() if k.endswith(("-version", "-beta"))},
        "sample": request.sample,
        "echo": _echo(request, target),
    }
    try:
        text = _canonical({name: value for name, value in parts.items() if value})
    except (TypeError, ValueError, RecursionError) as err:
        refused = BadRequest(f"the request holds something that JSON cannot: {err}")
        refused.sent = False
        raise refused from err
    return text.encode("utf-8", "surrogatepass")


def _params(request: LLMRequest, target: Target) -> dict[str, Any]:
    limit = request.max_output_tokens
    given = {
        "temperature": _number(request.temperature),
        "top_p": _number(request.top_p),
        "max_output_tokens": target.dialect.default_output_tokens if limit is None else limit,
        "seed": request.seed,
        "stop": request.stop or None,
        "reasoning_effort": request.reasoning_effort,
    }
    return {name: value for name, value in given.items() if value is not None}


def _schema_as_sent(request: LLMRequest, target: Target) -> dict[str, Any] | None:
    """What the provider is given of the schema; a change of the rest leaves kept answers to be validated anew."""
    if request.schema is None or target.dialect.schema_mode == "none":
        return None
    from llmpipe.providers.asked import asked

    try:
        given = asked(request, target)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError):
        return {"document": request.schema}  # no JSON Schema: refused by whoever compiles it
    return {"native": given.native, "schema": given.schema, "told": given.told}


def _echo(request: LLMRequest, target: Target) -> dict[str, Any]:
    """What `echo` makes its answers of, besides the conversation; a schema decides them, and what own code answers."""
    told = {
        "force_error": request.force_error,
        "latency_s": request.latency_s,
        "faults": request.faults,
        "schema": request.schema if target.wire in ("echo", "own") else None,
    }
    return {name: value for name, value in told.items() if value}


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)  # 1 and 1.0 are one temperature


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__}")


_canonical = writer(sort_keys=True, allow_nan=False, default=_plain)
