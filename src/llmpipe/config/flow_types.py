"""Lets types such as `enum[bug, idea]` stand unquoted inside of `{ }`, where YAML would end them at the bracket.

    schema: {category: enum[bug, idea], tags: list[string] ..5}

A bracket behind `enum`, `list` or `map` has no meaning in a YAML flow mapping: it is an error there. So a text that is
not YAML is read once more with these characters replaced by signs that YAML takes for letters, one for one, so that all
positions stay; values are turned back as they are read.
"""

from __future__ import annotations

from llmpipe.late import late

_OPENING = late(r"\b(?:enum|list|map)\[")
_INSIDE = late(r'"(?:[^"\\\n]|\\.)*"|[\[\]]')
_PATTERN = late(r"\b(?:string|str|text)\b[ \t]*[\d._]*[ \t]*(/(?:[^/\\\n]|\\.)+/)")
_LONGEST, _DEEPEST = 2_000, 30  # characters of one type, and brackets open at once in it
_FAILURES = 500  # brackets that are never closed, before the rest of the text is left alone
_SIGNS = "[]{},:#"
_STAND_INS = "".join(chr(0xE000 + index) for index in range(len(_SIGNS)))  # of the private use area
_SHROUD = chr(0xE000 + len(_SIGNS))
_MASK = str.maketrans(_SIGNS, _STAND_INS)
_UNMASK = str.maketrans(_STAND_INS, _SIGNS)


def masked(text: str, *, patterns: bool = False) -> str | None:
    """The text with its types (and their /patterns/) made plain for YAML; None if there is nothing to mask."""
    if any(sign in text for sign in _STAND_INS):
        return None
    spans = [*_types(text), *((m.start(1), m.end(1)) for m in _PATTERN.finditer(text) if patterns)]
    if not spans:
        return None
    parts, position = [], 0
    for start, end in sorted(spans):
        if start >= position:
            parts += [text[position:start], text[start:end].translate(_MASK)]
            position = end
    return "".join([*parts, text[position:]])


def unmasked(value: str) -> str:
    """A value as it stands in the file."""
    return value.translate(_UNMASK)


def shrouded(text: str, start: int, end: int) -> str:
    """The text with the characters from `start` to `end` hidden in one plain word, which `is_shroud` knows again."""
    return text[:start] + _SHROUD * (end - start) + text[end:]


def is_shroud(value: str) -> bool:
    """Whether a scalar stands for hidden characters."""
    return bool(value) and not value.strip(_SHROUD)


def _types(text: str) -> list[tuple[int, int]]:
    """From bracket to bracket of every type that is closed."""
    found = []
    position = failed = 0
    while failed < _FAILURES and (opening := _OPENING.search(text, position)):
        end = _closed(text, opening.end())
        failed += end is None
        if end is not None:
            found.append((opening.end() - 1, end))
        position = end if end is not None else opening.end()
    return found


def _closed(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one before `start`."""
    depth = 1
    for mark in _INSIDE.finditer(text, start, start + _LONGEST):
        depth += {"[": 1, "]": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
        if depth > _DEEPEST:
            return None
    return None
