"""Takes from a text whatever could steer a terminal, so that rows, replies and file names can be printed."""

from __future__ import annotations

import re

from llmpipe.late import late

_BYTE = late("[\udc80-\udcff]")  # one that is not UTF-8, in a file name or on the command line
# C0 and C1 controls with DEL, bidirectional controls, zero-width and tag characters, lone surrogates.
_UNSEEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_STEERING = late(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff{_UNSEEN}]")
_BREAKS = late("\r\n|[\n\r\x85\u2028\u2029]")
_SPACE = late("[\t\n\r\x85\u2028\u2029]+")


def plain(text: object, *, multiline: bool = False) -> str:
    """`str(text)` without characters that move the cursor, change colours, reorder or hide text.

    Escape sequences lose their escape and stay readable. Bytes that are not UTF-8 show as `\\xff`. Line breaks and tabs
    become one space each run, or stay (as "\\n" and four spaces) with `multiline`.
    """
    kept = str(text)
    kept = _BREAKS.sub("\n", kept).replace("\t", "    ") if multiline else _SPACE.sub(" ", kept)
    kept = _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", kept)
    return _STEERING.sub("", kept)


def plain_json(document: str) -> str:
    """A JSON text with the same characters written as \\u escapes: the same value, safe to print."""
    return _JSON_STEERING.sub(_escaped, document)


def ascii_json(document: str) -> str:
    """A JSON text with every character beyond ASCII written as a \\u escape: the same value in any encoding."""
    return document if document.isascii() else _BEYOND_ASCII.sub(_escaped, document)


_BEYOND_ASCII = late("[^\x00-\x7f]")
# Inside JSON the C0 controls are escaped by the encoder already; its own newlines and indentation must stay.
_JSON_STEERING = late(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{_UNSEEN}]")


def _escaped(match: re.Match[str]) -> str:
    point = ord(match.group())
    if point <= 0xFFFF:
        return f"\\u{point:04x}"
    return f"\\u{0xD7C0 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
