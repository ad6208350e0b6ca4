"""Spells one schema without `allOf`, and without references that have keywords beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.structured.keywords import ANNOTATIONS, Dialect
from llmpipe.structured.limits import is_recursive
from llmpipe.structured.merging import merged
from llmpipe.structured.recursion import target_of

_MAX_PARTS = 200  # of an allOf whose references multiply


class Refused(Exception):
    """The schema cannot be asked for natively; the message says why."""


def flat(document: Any, schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """A schema of `document` with `allOf`, and references that have keywords beside them, folded in. Raises Refused."""
    result = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
    if dialect == "draft-07" and "$ref" in result:
        result = {"$ref": result["$ref"]}
    for _ in range(50):
        parts = result.pop("allOf", None)
        if parts is None and ("$ref" not in result or not set(result) - ANNOTATIONS - {"$ref"}):
            return result
        if parts is None:
            parts = [{"$ref": result.pop("$ref")}]
        if len(parts) > _MAX_PARTS:
            break
        for part in parts:
            result = merged(result, _resolved(document, part, dialect))
            if not isinstance(result, dict):
                raise Refused("a part of it takes nothing")
    raise Refused("allOf with parts that cannot be folded into one")


def _resolved(document: Any, part: Any, dialect: Dialect) -> Any:
    if not isinstance(part, Mapping) or "$ref" not in part:
        return part
    target = target_of(document, part["$ref"])
    if is_recursive(document, target):
        raise Refused("a recursive $ref has other keywords beside it")
    rest = {key: value for key, value in part.items() if key != "$ref"}
    return merged(rest, target) if rest and dialect != "draft-07" else target
