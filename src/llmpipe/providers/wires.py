"""The wires by name, each a set of pure functions; what the client uses of them is this module.

call  = encode(request, target)            ->  send it  ->  HttpReply  ->  decode(reply, target, request)
call  = encode(request, target, stream=True) -> send it ->  reader = reader_for(target, status, headers)
        reader.feed(chunk) ... until reader.done or the end  ->  decode(reader.reply(), target, request)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from llmpipe.errors import CallFailed
from llmpipe.frozen import frozen
from llmpipe.providers.asked import asked_schema
from llmpipe.providers.body import NotJsonBody, as_map, read_json
from llmpipe.providers.stream import Assembler, StreamReader
from llmpipe.providers.table import Target
from llmpipe.types import HttpCall, HttpReply, LLMRequest, LLMResponse, Usage

__all__ = ["WIRES", "Wire", "asked_schema", "decode", "encode", "prefers_stream", "reader_for", "wire"]


class _Encode(Protocol):
    def __call__(self, request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall: ...


class _Decode(Protocol):
    def __call__(self, reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse: ...


@frozen
class Wire:
    """A wire's pure functions."""

    encode: _Encode
    decode: _Decode
    assembler: Callable[[], Assembler]  # a new one for each reply
    usage_in: Callable[[Mapping[str, Any]], Usage]  # of a whole body


WIRES = ("openai_chat", "openai_responses", "anthropic", "gemini", "ollama")


@cache
def wire(name: str) -> Wire:
    """The wire of that name, one of WIRES; its module is imported when the first call needs it."""
    module = import_module(f"llmpipe.providers.{name}")
    return Wire(module.encode, module.decode, module.Streamed, module.usage_in)


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes that ask `request` of `target`, without its key.

    Raises BadRequest (with `sent` False) for what the provider has no field for or JSON cannot hold.
    """
    return wire(target.wire).encode(request, target, stream=stream)


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in `reply`, or the CallFailed that it amounts to.

    With `request` given, an answer as long as was allowed and an input that the server read only in part are told too.
    An error whose body says what was used was billed.
    """
    try:
        return wire(target.wire).decode(reply, target, request)
    except CallFailed as err:
        if err.usage is None:
            used = wire(target.wire).usage_in(_mapping(reply.body))
            if used.input_tokens is not None and used.output_tokens is not None:
                err.usage, err.billed = used, "yes"
        raise


def _mapping(body: bytes | bytearray) -> Mapping[str, Any]:
    try:
        return as_map(read_json(body))
    except NotJsonBody:
        return {}


def reader_for(target: Target, status: int, headers: Mapping[str, str]) -> StreamReader:
    """The reader of a streamed reply whose head has arrived; `headers` have lower-case names."""
    return StreamReader(status, headers, assembler=wire(target.wire).assembler())


def prefers_stream(request: LLMRequest, target: Target) -> bool:
    """Whether the reply may take minutes, so that it should be streamed (facts B1: 21,333 tokens take ten)."""
    allowed = request.max_output_tokens or target.dialect.default_output_tokens
    return allowed is not None and allowed > target.dialect.stream_over
