"""In how many ways a secret may be spelt: whole forms that are looked for, and an expression for mixed ones.

Whole forms cover what one encoder makes of the whole value. Encoders differ in which characters they touch, and a line
may be broken anywhere; for that there is an expression that takes each character in any spelling. It is slow, so it is
tried only where a fragment of the value stands in the text: every mixed form leaves one of them as it was.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from llmpipe.late import late

_FRAGMENT = 5
_SHORTEST_RUN = 3
_ENOUGH = 4
_PLAIN = late(r"[A-Za-z0-9]+")
_LONGEST = 1_000  # characters of a value that an expression is made for
_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
# Every repeat is bounded and possessive: the text may be a hostile server's, who knows the value.
_BACKSLASHES = r"\\\\{0,7}+"
# Controls, format characters, halves of surrogate pairs: what prints a text drops them.
_UNSEEN_SET = (
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
UNSEEN = f"[{_UNSEEN_SET}]"
UNSEEN_ESCAPED = r"u(?i:00[0189][0-9a-f]|007f|00ad|061c|180e|200[b-f]|202[a-e]|206[0-9a-f]|feff|fff[9ab]|d[89a-f]..)"
_BREAK = rf"(?:[\s{_UNSEEN_SET}]|{_BACKSLASHES}[nrt]|{_BACKSLASHES}{UNSEEN_ESCAPED}){{0,40}}+"
# What may stand before a token though it ends in a letter: an escape, or the end of a terminal's colour.
_ESCAPE = late(r"(?:\\+(?:[abefnrtv0]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})|%(?:25)*[0-9a-fA-F]{2}|\[[0-9;?]*[a-zA-Z])\Z")
_LONGEST_ESCAPE = 24
_NAME = late(r"[\w.:@-]+")


def whole_forms(value: str) -> set[str]:
    """Every spelling that one encoder gives to the value."""
    plain = {value, value.strip()}
    quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    quoted |= {re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), form) for form in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    escaped |= {json.dumps(form)[1:-1] for form in escaped} | {form.replace("/", "\\/") for form in escaped}
    return plain | quoted | escaped


def encoded_forms(value: str) -> set[str]:
    """Every spelling in which each character is another, and the value may stand within a longer text."""
    raw = value.encode("utf-8", "surrogatepass")
    return {raw.hex(), raw.hex().upper()} | _base64_forms(raw)


def is_within_a_token(value: str, found: re.Match[str]) -> bool:
    """Whether what was found is part of a longer name, as `abcdefghijkl1` is of `abcdefghijkl12`.

    A value with signs that names do not have (`+`, `/`, `=`, quotes) is part of none.
    """
    if not _NAME.fullmatch(value):
        return False
    text, start, end = found.string, found.start(), found.end()
    before = start and _is_plain(value[0]) and text[start] == value[0] and _is_plain(text[start - 1])
    if before and not _ESCAPE.search(text, max(0, start - _LONGEST_ESCAPE), start):
        return True
    return end < len(text) and _is_plain(value[-1]) and text[end - 1] == value[-1] and _is_plain(text[end])


def _is_plain(character: str) -> bool:
    return character.isascii() and character.isalnum()


def spread(forms: Iterable[str]) -> re.Pattern[str]:
    """An expression for any of the forms with characters between that are not seen."""
    between = f"[{_UNSEEN_SET}]{{0,40}}"
    return re.compile("|".join(between.join(map(re.escape, form)) for form in forms))


def fragments(value: str) -> set[str]:
    """What stands in a text that holds the value in a mixed spelling; not every text with one of them does.

    Letters and digits, which no encoder touches unless it touches all; the first character as such encoders spell it;
    pieces between line breaks. Few where the value is a usual key, for looking for each takes time.
    """
    runs = [run for run in _PLAIN.findall(value) if len(run) >= _SHORTEST_RUN]
    long = [run[at : at + _FRAGMENT] for run in runs for at in range(0, len(run) - _FRAGMENT + 1, _FRAGMENT)]
    if len(long) >= _ENOUGH:
        found = set(long[:: max(1, len(long) // _ENOUGH)])
    else:
        found = {run[at : at + _FRAGMENT] for run in runs for at in range(0, len(run), _FRAGMENT)}
        found |= {value[at : at + _FRAGMENT] for at in range(0, len(value), _FRAGMENT)}
        found = {fragment for fragment in found if len(fragment) >= _SHORTEST_RUN}
    code = ord(value[0])
    spelt = {f"u{code:04x}", f"u{code:04X}", f"\\x{code:02x}", f"%{code:02x}", f"%{code:02X}", f"%25{code:02X}"}
    return found | spelt | {f"&#{code};", f"&#x{code:x};"}


def mixed(value: str) -> re.Pattern[str] | None:
    """An expression for the value with each character spelt in any way, and line breaks anywhere."""
    if len(value) > _LONGEST:
        return None
    units = re.findall(r"\\+|.", value, re.DOTALL)
    return re.compile(_BREAK.join(f"(?:{'|'.join(_spellings(unit))})" for unit in units))


def _spellings(unit: str) -> Iterator[str]:
    """Those of one character, or of a run of backslashes.

    Each begins with a plain character: then the engine looks for these alone, fifty times as fast.
    """
    code, several = ord(unit[0]), len(unit) > 1

    def each(pattern: str) -> str:
        return f"(?:{pattern}){{{len(unit)}}}" if several else pattern

    if unit[0] == "\\":
        yield rf"\\\\{{{len(unit) - 1},{8 * len(unit)}}}+"
    else:
        yield re.escape(unit)
        if unit in "\"'/":
            yield _BACKSLASHES + re.escape(unit)
    yield each(rf"{_BACKSLASHES}u(?i:{code:04x})")
    if code < 256:
        yield each(rf"{_BACKSLASHES}x(?i:{code:02x})")
        yield each(rf"%(?:25){{0,4}}(?i:{code:02x})")
    yield each(rf"&#(?:0{{0,6}}{code}|(?i:x0{{0,6}}{code:x}));")
    if unit in _NAMED:
        yield f"&{_NAMED[unit]};"


def _base64_forms(raw: bytes) -> set[str]:
    """The characters of base64 that depend on the value alone, for each offset in a group of three bytes."""
    forms = set()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode().rstrip("=")
        first = (offset * 8 + 5) // 6
        last = (offset + len(raw)) * 8 // 6
        standard = encoded[first:last]
        if len(standard) >= 8:
            forms |= {standard, standard.replace("+", "-").replace("/", "_")}
    return forms
