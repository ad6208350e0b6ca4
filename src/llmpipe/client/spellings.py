"""In how many ways a secret may be spelt: whole forms that are looked for, and an expression for mixed ones.

Whole forms cover what one encoder makes of the whole value. Encoders differ in which characters they touch, and a line
may be broken anywhere; for that there is an expression that takes each character in any spelling. It is slow, so it is
tried only where a fragment of the value stands in the text: every mixed form leaves one of them as it was.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
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
_BREAK = rf"(?:\s|{_BACKSLASHES}[nrt]){{0,40}}+"


def whole_forms(value: str) -> set[str]:
    """Every spelling that one encoder gives to the value."""
    plain = {value, value.strip()}
    quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    quoted |= {re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), form) for form in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    escaped |= {json.dumps(form)[1:-1] for form in escaped} | {form.replace("/", "\\/") for form in escaped}
    hexed = {value.encode().hex(), value.encode().hex().upper()}
    return plain | quoted | escaped | hexed | _base64_forms(value)


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


def _base64_forms(value: str) -> set[str]:
    """The characters of base64 that depend on the value alone, for each offset in a group of three bytes."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = set()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode().rstrip("=")
        first = (offset * 8 + 5) // 6
        last = (offset + len(raw)) * 8 // 6
        standard = encoded[first:last]
        if len(standard) >= 8:
            forms |= {standard, standard.replace("+", "-").replace("/", "_")}
    return forms
