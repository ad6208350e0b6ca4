"""How a schema is asked for: the copy that the provider gets, or the words that go into the prompt instead."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from llmpipe.frozen import frozen
from llmpipe.providers.estimate import PER_TURN, estimate_tokens, most_tokens
from llmpipe.providers.table import Target
from llmpipe.structured.messages import prompt_instructions
from llmpipe.structured.reduce import Reduced, reduce_for
from llmpipe.types import LLMRequest, Message

_KEPT = 64
_AROUND = 96  # tokens of a template's own system message, as that of gpt-oss
_AROUND_SCHEMA = 512  # a provider's own instructions for structured output


@frozen
class Asked:
    """What a request says about its schema: `native` the field to send, `schema` its content, and the turns.

    `told` is what the turns say of it, None if nothing.
    """

    native: Literal["json_schema", "json_object"] | None
    schema: Mapping[str, Any] | None
    turns: tuple[Message, ...]
    told: str | None = None


@frozen
class _Kept:
    document: Mapping[str, Any]  # the one that the rest was made of; a caller may change his in place
    reduced: Reduced
    instructions: str
    tokens: int  # of the native copy, estimated


_kept: OrderedDict[tuple[int, str], _Kept] = OrderedDict()


def asked_schema(request: LLMRequest, target: Target) -> Reduced | None:
    """The copy of the schema that the provider is given natively; None if none is, so that nothing has to be restored.

    Whoever validates the answer applies `restore` of this to it first.
    """
    if request.schema is None or target.dialect.schema_mode != "json_schema":
        return None
    reduced = _of(request.schema, target).reduced
    return None if reduced.refused_reason else reduced


@frozen
class Sent:
    """What a provider gets of a schema, for people and records.

    `how`: natively, as JSON of any shape with the schema in the prompt, in the prompt alone, or not at all.
    `in_prompt`: the whole of it stands in the prompt. `dropped`: what the native copy lacks, each as "$.path: keyword".
    `refused`: why there is no native copy although the provider takes schemas.
    """

    how: Literal["native", "json_object", "prompt", "not_sent"]
    in_prompt: bool
    dropped: tuple[str, ...] = ()
    refused: str | None = None


def sent(document: Mapping[str, Any], target: Target) -> Sent:
    """What `target` gets of a schema."""
    dialect = target.dialect
    if dialect.schema_mode == "none":
        return Sent("not_sent", in_prompt=False)
    reduced = reduce_for(document, dialect.schema_limits) if dialect.schema_mode == "json_schema" else None
    if reduced is not None and reduced.refused_reason is None:
        return Sent("native", dialect.schema_in_prompt, reduced.dropped)
    plain = dialect.schema_mode == "json_object" and document.get("type") == "object"
    refused = reduced.refused_reason if reduced is not None else None
    return Sent("json_object" if plain else "prompt", in_prompt=True, refused=refused)


def asked(request: LLMRequest, target: Target) -> Asked:
    """How `request` is to ask `target` for its schema.

    A schema that the provider's limits cannot hold goes by JSON mode or the prompt instead (facts A3).
    """
    turns = request.turns()
    mode = target.dialect.schema_mode
    if request.schema is None or mode == "none":
        return Asked(None, None, turns)
    reduced = asked_schema(request, target)
    text = _of(request.schema, target).instructions
    if reduced is not None and not target.dialect.schema_in_prompt:
        return Asked("json_schema", reduced.schema, turns)
    told = instructed(turns, text)
    if reduced is not None:
        return Asked("json_schema", reduced.schema, told, text)
    plain = mode == "json_object" and request.schema.get("type") == "object"  # JSON mode writes nothing but objects
    return Asked("json_object" if plain else None, None, told, text)


def estimate_sent(request: LLMRequest, target: Target) -> int:
    """About how many input tokens a provider counts for `request`: its turns, and its schema as it is sent."""
    given = asked(request, target)
    native = _of(request.schema, target).tokens if request.schema is not None and given.schema is not None else 0
    return sum(estimate_tokens(turn.content) + PER_TURN for turn in given.turns) + native


def most_sent(request: LLMRequest, target: Target) -> int:
    """A number of input tokens that a provider hardly counts above for `request`: more than `estimate_sent`.

    Beside the turns and the schema stands what chat templates and providers put around them.
    """
    given = asked(request, target)
    most = _AROUND + sum(most_tokens(turn.content) + 2 * PER_TURN for turn in given.turns)
    if given.native is not None:
        most += _AROUND_SCHEMA
    if request.schema is not None and given.schema is not None:
        most += most_tokens(_json(given.schema))
    if request.extra:
        most += most_tokens(_json(dict(request.extra)))
    return most


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def native_name(request: LLMRequest, target: Target) -> str | None:
    """Names what `target` is asked for natively of the request's schema: equal for equal copies; None if nothing is."""
    if request.schema is None:
        return None
    mode = target.dialect.schema_mode
    if mode == "json_object":
        return mode if request.schema.get("type") == "object" else None
    reduced = asked_schema(request, target)
    return None if reduced is None else reduced.digest


def instructed(turns: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """`turns` with `text` at the end of the first system turn, or where there is none of the last user turn."""
    spots = [i for i, turn in enumerate(turns) if turn.role == "system"][:1]
    spots = spots or [i for i, turn in enumerate(turns) if turn.role == "user"][-1:]
    if not spots:
        return (*turns, Message("user", text))
    at = spots[0]
    changed = Message(turns[at].role, f"{turns[at].content}\n\n{text}")
    return (*turns[:at], changed, *turns[at + 1 :])


def _of(schema: Mapping[str, Any], target: Target) -> _Kept:
    slot = (id(schema), target.dialect.schema_limits)
    kept = _kept.get(slot)
    if kept is not None and kept.document == schema:
        return kept
    document = copy.deepcopy(dict(schema))
    reduced = reduce_for(document, target.dialect.schema_limits)
    tokens = estimate_tokens(json.dumps(reduced.schema, ensure_ascii=False, separators=(",", ":"), default=dict))
    kept = _Kept(document, reduced, prompt_instructions(document), tokens)
    _kept[slot] = kept
    while len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return kept
