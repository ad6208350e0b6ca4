"""Responses as JSON, and the sealed envelope in which a cache keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from llmpipe.frozen import frozen
from llmpipe.json_text import writer
from llmpipe.types import EMPTY, Attempt, LLMResponse, Usage

_USAGE = tuple(f.name for f in fields(Usage))
_ATTEMPT = tuple((f.name, f.default) for f in fields(Attempt))
_RESPONSE = tuple((f.name, f.default) for f in fields(LLMResponse) if f.name != "rate_limits")
_MAGIC = b"llmpipe-response/1 "
_DIGEST_END = len(_MAGIC) + 64


def response_to_json(response: LLMResponse) -> bytes:
    """The whole response as compact JSON in UTF-8; what has its default is left out. `output` has to be JSON data."""
    return _dumped(_response_data(response))


def response_from_json(data: bytes | str) -> LLMResponse:
    """The response that `response_to_json` wrote. Raises ValueError for anything else."""
    return _response_of(_loaded(data))


def seal(response: LLMResponse, *, material: bytes, at: float) -> bytes:
    """The envelope of a stored answer: version, checksum, time of storing (epoch seconds), answer, key material.

    Kept of the answer is what the provider said; what belongs to one call alone (its id, attempts, validated output) is
    not.
    """
    kept = {k: v for k, v in _response_data(response).items() if k not in _OF_ONE_CALL}
    body = _dumped({"at": at, "response": kept}) + b"\n" + material
    return _MAGIC + hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body


@frozen
class Stored:
    """An opened envelope."""

    response: LLMResponse
    at: float
    material: bytes


def unseal(data: bytes, *, key: str) -> Stored | None:
    """What a sealed envelope holds; None if it is damaged, of another version, or of another key than `key`."""
    if not data.startswith(_MAGIC) or data[_DIGEST_END : _DIGEST_END + 1] != b"\n":
        return None
    body = data[_DIGEST_END + 1 :]
    if hashlib.sha256(body).hexdigest().encode("ascii") != data[len(_MAGIC) : _DIGEST_END]:
        return None
    head, _, material = body.partition(b"\n")
    if hashlib.sha256(material).hexdigest() != key:
        return None
    try:
        content = _loaded(head)
        return Stored(_response_of(content["response"]), float(content["at"]), material)
    except (ValueError, KeyError, TypeError):
        return None


_OF_ONE_CALL = frozenset({"request_id", "attempts", "output", "reasks", "cached", "cost_usd"})


def _response_data(response: LLMResponse) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, default in _RESPONSE:
        value = getattr(response, name)
        if value is None or value == default:
            continue
        if name == "usage":
            value = _usage_data(value)
        elif name == "attempts":
            value = [_attempt_data(a) for a in value]
        elif name == "cost_usd":
            value = str(value)
        data[name] = value
    if response.rate_limits:
        data["rate_limits"] = dict(response.rate_limits)
    return data


def _attempt_data(attempt: Attempt) -> dict[str, Any]:
    data = {}
    for name, default in _ATTEMPT:
        value = getattr(attempt, name)
        if value is not default:
            data[name] = _usage_data(value) if name == "usage" else value
    return data


def _usage_data(usage: Usage) -> dict[str, int]:
    return {name: value for name in _USAGE if (value := getattr(usage, name)) is not None}


def _response_of(data: Any) -> LLMResponse:
    try:
        known = {name: data[name] for name in data}
        if "usage" in known:
            known["usage"] = Usage(**known["usage"])
        if "attempts" in known:
            known["attempts"] = tuple(_attempt_of(a) for a in known["attempts"])
        if "cost_usd" in known:
            known["cost_usd"] = Decimal(known["cost_usd"])
        if "notes" in known:
            known["notes"] = tuple(known["notes"])
        known.setdefault("rate_limits", EMPTY)
        return LLMResponse(**known)
    except (TypeError, ArithmeticError) as err:
        raise ValueError(f"not a stored response: {err}") from err


def _attempt_of(data: Mapping[str, Any]) -> Attempt:
    usage = data.get("usage")
    return Attempt(**{**data, "usage": None if usage is None else Usage(**usage)})


def _dumped(data: Any) -> bytes:
    text = _written(data)
    return text.encode("utf-8", "surrogatepass")  # a reply may hold a lone surrogate; it must come back as it went in


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} is not JSON")


_written = writer(default=_plain)


def _loaded(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except RecursionError as err:
        raise ValueError("too deeply nested") from err
