"""Responses as JSON, and the sealed envelope in which a cache keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llmpipe.frozen import frozen
from llmpipe.json_text import writer
from llmpipe.types import EMPTY, Attempt, LLMResponse, Usage

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor

_USAGE = tuple(f.name for f in fields(Usage))
_ATTEMPT = tuple((f.name, f.default) for f in fields(Attempt))
_RESPONSE = tuple((f.name, f.default) for f in fields(LLMResponse) if f.name != "rate_limits")
_MAGIC = b"llmpipe-response/1 "
_DIGEST_END = len(_MAGIC) + 64


def response_to_json(response: LLMResponse, redactor: Redactor | None = None) -> bytes:
    """The whole response as compact JSON in UTF-8; what has its default is left out. `output` has to be JSON data.

    `redactor` masks the values of keys; where its text held one as it is, `response_from_json` puts that back, so that
    a response that is used again is validated as it came.
    """
    return _encoded(_without_keys(_response_data(response), redactor))


def response_to_text(response: LLMResponse, redactor: Redactor | None = None) -> str:
    """The same as text, for a file that takes text; halves of surrogate pairs, which it cannot hold, are replaced."""
    text = _without_keys(_response_data(response), redactor)
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def response_from_json(data: bytes | str, redactor: Redactor | None = None) -> LLMResponse:
    """The response that `response_to_json` wrote. Raises ValueError for anything else."""
    return _response_of(_loaded(data), redactor)


def seal(response: LLMResponse, *, material: bytes, at: float, redactor: Redactor | None = None) -> bytes:
    """The envelope of a stored answer: version, checksum, time of storing (epoch seconds), answer, key material.

    Kept of the answer is what the provider said; what belongs to one call alone (its id, attempts, validated output) is
    not. `redactor` masks the values of keys; material that held one no longer has the digest that is the cache's key,
    so that stands beside it.
    """
    kept = {k: v for k, v in _response_data(response).items() if k not in _OF_ONE_CALL}
    head: dict[str, Any] = {"at": at}
    if redactor is not None and redactor.names(asked := material.decode("utf-8", "surrogatepass")):
        head["key"] = hashlib.sha256(material).hexdigest()
        material = _encoded(_written(redactor.known_data(json.loads(asked))))
    answer = _encoded(_without_keys(kept, redactor))
    body = (_encoded(f'{_written(head)[:-1]},"response":'), answer, b"}\n", material)
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    return b"".join((_MAGIC, digest.hexdigest().encode("ascii"), b"\n", *body))


@frozen
class Stored:
    """An opened envelope."""

    response: LLMResponse
    at: float
    material: bytes


def unseal(data: bytes, *, key: str, redactor: Redactor | None = None) -> Stored | None:
    """What a sealed envelope holds; None if it is damaged, of another version, or of another key than `key`."""
    if not data.startswith(_MAGIC) or data[_DIGEST_END : _DIGEST_END + 1] != b"\n":
        return None
    body = data[_DIGEST_END + 1 :]
    if hashlib.sha256(body).hexdigest().encode("ascii") != data[len(_MAGIC) : _DIGEST_END]:
        return None
    head, _, material = body.partition(b"\n")
    try:
        content = _loaded(head)
        if (content["key"] if "key" in content else hashlib.sha256(material).hexdigest()) != key:
            return None
        return Stored(_response_of(content["response"], redactor), float(content["at"]), material)
    except (ValueError, KeyError, TypeError):
        return None


_PLACES = "keys_at"  # which key each mask of the text stands for
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


def _without_keys(data: dict[str, Any], redactor: Redactor | None) -> str:
    text = _written(data)
    if redactor is None or redactor.known(text) is text:
        return text
    places = redactor.places(data["text"])
    return _written(redactor.known_data(data) | ({_PLACES: places} if places else {}))


def _response_of(data: Any, redactor: Redactor | None) -> LLMResponse:
    try:
        known = {name: data[name] for name in data if name != _PLACES}
        if redactor is not None and _PLACES in data:
            known["text"] = redactor.restored(data["text"], data[_PLACES])
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


def _encoded(text: str) -> bytes:
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
