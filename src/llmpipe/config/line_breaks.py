"""Keeps three characters that end a line in YAML 1.1, but not in YAML 1.2, from ending one: NEL, LS and PS.

They come with text that was pasted from elsewhere. The parser is shown signs of a private plane in their place, one for
one, so that all positions stay; values are turned back as they are read.
"""

from __future__ import annotations

import codecs
from typing import BinaryIO

from llmpipe.late import late

_BREAKS = "\x85\u2028\u2029"
_STAND_INS = "".join(chr(0x10FF00 + index) for index in range(len(_BREAKS)))
_JOIN = str.maketrans(_BREAKS, _STAND_INS)
_PART = str.maketrans(_STAND_INS, _BREAKS)
_ANY = late(f"[{_BREAKS}]")
_ANY_STAND_IN = late(f"[{_STAND_INS}]")


def joined(text: str) -> str:
    """The text as the parser may see it; as it stands if it has one of the stand-ins itself."""
    if text.isascii() or not _ANY.search(text) or _ANY_STAND_IN.search(text):
        return text
    return text.translate(_JOIN)


def parted(value: str) -> str:
    """A value as it stands in the file."""
    return value if value.isascii() else value.translate(_PART)


class ElementTooLong(Exception):
    """More bytes than an element may take were read, and it has not ended."""


class JoinedStream:
    """A stream of UTF-8 as a text that the parser may see; `line` is where reading it ended.

    `taken` are the bytes since the last element ended, which whoever sees that sets to 0; there may be `most`.
    """

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self.line, self.taken, self._most = 1, 0, most
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read(self, size: int) -> str:
        """Some of the text; "" at its end. Raises UnicodeDecodeError, with `line` at the byte, and ElementTooLong."""
        text = ""
        while not text:
            if self.taken > self._most:
                raise ElementTooLong
            data = self._stream.read(size)
            self.taken += len(data)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                self.line += error.object.count(b"\n", 0, error.start)
                raise
            if not data:
                break
        self.line += text.count("\n")
        return text.translate(_JOIN)
