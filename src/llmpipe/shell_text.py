"""Words of a command line as a shell takes them, in characters that any file and terminal can hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def quoted(word: str) -> str:
    """The word, quoted where it has to be.

    What cannot be seen, and bytes that are not UTF-8 (which Python reads as halves of surrogate pairs), are written as
    bash, zsh and the shells of POSIX 2024 read them: `$'a\\nb\\xff'`.
    """
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(_escaped(character) for character in word)}'"


def joined(words: Iterable[str]) -> str:
    """The words as one line."""
    return " ".join(map(quoted, words))


def is_utf8(text: str) -> bool:
    """False for text of the command line or a file name that came in bytes of another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
