"""Reads a reply as JSON, strictly; around exactly one JSON value, fences, reasoning and prose are taken away.

Never invents, never fills in: a value that is cut off, that stands beside a second one, or that has further JSON
around it is NotJson. The notes say what was taken away: think_stripped, fences_stripped, prose_stripped, repaired.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from llmpipe.errors import NotJson
from llmpipe.json_numbers import UnkeptNumber, read_number
from llmpipe.late import late
from llmpipe.structured.measure import MAX_NODES, NotPlain, measure

MAX_CHARS = 8 * 1024 * 1024

_FENCE = late(r"\A\s*(?P<mark>`{3,}+|~{3,}+)[A-Za-z0-9_+-]*[ \t]*\r?\n?(?P<inside>.*?)(?P=mark)\s*\Z", re.DOTALL)
_FENCE_MARK = late(r"(?:`{3,}+|~{3,}+)[A-Za-z0-9_+-]*")
_THINK = late(r"\A\s*<(?P<tag>think|thinking|thought|reasoning)>", re.IGNORECASE)
_THINK_END = late(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_BRACKET = late(r"[\[\]{}]")
_PROSE_BRACKET = late(r"\[[^\[\]{}\"\n]{0,200}\]|\{[^\[\]{}\"\n:]{0,200}\}")
_LOOSE_PAIR = late(r"\"\s*:\s*(?:\Z|[\"\d\-\[{]|true\b|false\b|null\b)")
_LOW_SURROGATES = late(r"[\ud800-\udfff]")


class _Refused(ValueError):
    """Strict JSON says no, although Python's parser would not."""


def read_json(text: str, *, repair: bool = False) -> tuple[Any, tuple[str, ...]]:
    """The JSON value that a reply is, or holds, and notes on what was taken away around it.

    Strict: NaN, infinities, duplicate names, lone surrogates, control characters in text, more than 8 Mi characters,
    500,000 values, lists over 100,000 items or 128 levels are refused. `repair` lets json-repair (the extra
    `llmpipe[repair]`) mend what is not JSON, provided that nothing comes out that does not stand in the text.
    Raises NotJson, whose message says what is wrong in words that may go to a person or a model.
    """
    if len(text) > MAX_CHARS:
        raise _not_json(f"the answer has {len(text)} characters, more than {MAX_CHARS}", text)
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise _not_json("the answer is empty", text)
    try:
        return _loads(text), ()
    except ValueError as error:
        first = error
    notes: list[str] = []
    text = _without_reasoning(text, notes)
    try:
        return _extract(text, first, notes), tuple(notes)
    except NotJson as error:
        if not repair:
            raise
        from llmpipe.structured.repair import repaired

        return repaired(text, error), (*notes, "repaired")


def _loads(text: str) -> Any:
    """Strict JSON. Raises ValueError, in words fit for a message."""
    try:
        return _checked(_DECODER.decode(text), text)
    except RecursionError:
        raise _Refused("it is nested too deep") from None


def _checked(value: Any, text: str) -> Any:
    try:
        measure(value)
    except NotPlain as error:
        raise _Refused(error.message) from None
    if "\\u" in text or not text.isascii():
        _refuse_surrogates(value)
    return value


def _refuse_surrogates(value: Any) -> None:
    """Text that cannot be written as UTF-8 would break whoever stores the answer."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if _LOW_SURROGATES.search(item):
                raise _Refused("it holds half of a surrogate pair, which is not text")
        elif isinstance(item, dict):
            stack += [*item, *item.values()]
        elif isinstance(item, list):
            stack += item


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the name {json.dumps(twice[:60], ensure_ascii=False)} is given twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=read_number)


def _without_reasoning(text: str, notes: list[str]) -> str:
    """The text after a block of reasoning at its beginning; a block that never ends leaves nothing to read."""
    opened, ends = _THINK.match(text), list(_THINK_END.finditer(text))
    if opened and not ends:
        raise _not_json("the answer ends in the middle of its reasoning", text)
    if opened:
        end = next((end for end in ends if end.start() >= opened.end()), None)
    else:  # some chat templates put the opening tag into the prompt
        first = _BRACKET.search(text)
        end = ends[-1] if ends and (first is None or len(ends) == 1) else None
    if end is None:
        return text
    notes.append("think_stripped")
    return text[end.end() :].strip()


def _extract(text: str, first: ValueError, notes: list[str]) -> Any:
    """The one JSON value in the text."""
    fence = _FENCE.match(text)
    inside = fence["inside"] if fence and fence["mark"] not in fence["inside"] else text
    if fence or notes:
        try:
            value = _loads(inside.strip())
        except ValueError as error:
            first = error
        else:
            notes += ["fences_stripped"] if inside is not text else []
            return value
    value, outside = _only_candidate(text, first)
    prose = _FENCE_MARK.sub("", outside)
    if _LOOSE_PAIR.search(prose):
        raise _not_json("there is more JSON beside the value, so it may be incomplete", text)
    notes += ["fences_stripped"] if prose != outside else []
    notes += ["prose_stripped"] if prose.strip() else []
    return value


def _only_candidate(text: str, first: ValueError) -> tuple[Any, str]:
    """The only JSON object or array in the text, and what stands around it."""
    found: list[Any] = []
    outside: list[str] = []
    position = 0
    while bracket := _BRACKET.search(text, position):
        outside.append(text[position : bracket.start()])
        prose = _PROSE_BRACKET.match(text, bracket.start())
        try:
            if bracket[0] in "]}":
                raise _Refused("a bracket is closed that was never opened")
            if prose:  # by itself: an error of the decoder counts the lines before it, and these may be many
                value, position = _DECODER.decode(prose[0]), prose.end()
            else:
                value, position = _DECODER.raw_decode(text, bracket.start())
        except (ValueError, RecursionError) as error:
            if not prose:
                reason = error if found or bracket.start() or not isinstance(error, RecursionError) else first
                raise _not_json(_said(reason), text) from None
            outside.append(prose[0])
            position = prose.end()
            continue
        if prose and _is_reference(value):
            outside.append(prose[0])
        else:
            found.append(value)
    outside.append(text[position:])
    if len(found) != 1:
        many = f"{len(found)} JSON values stand in the answer, where one was asked for"
        raise _not_json(many if found else f"there is no JSON object or list in it ({_said(first)})", text)
    try:
        return _checked(found[0], text), "".join(outside)
    except ValueError as error:
        raise _not_json(_said(error), text) from None


def _is_reference(value: Any) -> bool:
    """`[1]`, as in a footnote: a list of nothing but small whole numbers beside other JSON."""
    return isinstance(value, list) and 0 < len(value) <= 3 and all(type(v) is int and 0 < v < 1000 for v in value)


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        what = error.msg.removesuffix(" at")
        if "Unterminated string" in error.msg or error.pos >= len(error.doc.rstrip()):
            return f"it breaks off: {what} at line {error.lineno} column {error.colno}"
        return f"{what} at line {error.lineno} column {error.colno}"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnkeptNumber):
        return f"{error.fault}; a number may have 15 digits" if error.advice else error.fault
    return str(error) if isinstance(error, _Refused) else "a number in it is too large"


def _not_json(reason: str, text: str) -> NotJson:
    return NotJson(f"the answer is not JSON: {reason}", raw=text[:65536], billed="yes", details={"reason": reason})


__all__ = ["MAX_CHARS", "MAX_NODES", "read_json"]
