"""Tokens as replies report them: fields of many names in, one Usage out that never counts less than was used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpipe.providers.body import as_count, as_map
from llmpipe.types import Usage


def tokens(value: Any) -> int | None:
    """`value` as a number of tokens, also where it came as text; None for what is no such number."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return as_count(value)


def reported(usage: Mapping[str, Any], *names: str) -> int | None:
    """The largest number of tokens in the fields `names` ("a" or "a.b"); None if none holds one.

    Gateways write one count under several names, and 0 under those that they do not fill.
    """
    found = None
    for name in names:
        outer, _, inner = name.partition(".")
        value = tokens(as_map(usage.get(outer)).get(inner) if inner else usage.get(outer))
        if value is not None:
            found = max(value, found or 0)
    return found


def usage_of(
    *,
    input: int | None,
    output: int | None,
    total: int | None = None,
    cached: int | None = None,
    written: int | None = None,
    written_1h: int | None = None,
    reasoning: int | None = None,
) -> Usage:
    """The usage that these counts come to.

    A part that is larger than its whole stands beside it (cached input, reasoning output). What `total` has beyond
    input and output is output: xAI counts reasoning in nothing but the total
    (https://docs.x.ai/docs/key-information/consumption-and-rate-limits), and so do gateways to Gemini. No prompt has 0
    tokens: an input of 0 is not known.
    """
    written = written_1h if written is None else max(written, written_1h or 0)
    stored = (cached or 0) + (written or 0)
    if input is not None and stored > input:
        input += stored
    input = input or None
    thought = reasoning or 0
    if output is not None and thought > output:
        output += thought
    if input is not None and total is not None and total >= input:
        output = max(output or 0, total - input)
    return Usage(
        input_tokens=input,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        cache_write_1h_tokens=written_1h,
    )


def larger(one: Usage, other: Usage) -> Usage:
    """The larger of both counts in every field."""
    both = ((getattr(one, name), getattr(other, name)) for name in Usage.__match_args__)
    return Usage(*(b if a is None else a if b is None else max(a, b) for a, b in both))


def grown(before: Any, now: Any) -> dict[str, Any]:
    """What a stream has reported so far, with one report more: counts only grow, and a null takes nothing back.

    Servers report in the first chunk, in the last, or a running sum in each.
    """
    found = dict(as_map(before))
    for name, value in as_map(now).items():
        old, new = found.get(name), tokens(value)
        if isinstance(value, Mapping):
            found[name] = grown(old, value)
        elif new is not None:
            found[name] = max(new, tokens(old) or 0)
        elif value is not None:
            found[name] = value
    return found
