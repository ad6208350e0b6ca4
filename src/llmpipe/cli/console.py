"""The two streams of the command line: written whole, in any encoding, or found closed without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, TextIO

# What our own texts use beyond ASCII, for terminals that cannot show it. Data is escaped instead.
_PLAIN_GLYPHS = {
    "…": "...", "·": "-", "—": "-", "–": "-", "→": "->", "━": "=", "─": "-", "╸": "-", "×": "x", "≥": ">=", "≤": "<=",
}  # fmt: skip


class OutputLost(Exception):
    """Standard output did not take what was asked for (a full disk, for one)."""


class OutputClosed(OutputLost):
    """The reader of standard output went away, or there was none."""


class Console:
    """Standard output for results, standard error for people.

    `redact`, `without_keys` and `crash_folder` are filled in by a command as soon as it knows the secrets and the
    project. Every line goes through `without_keys` last, when what nobody sees has left it; `redact` is for messages
    that are no data.
    """

    def __init__(self, out: TextIO | None, err: TextIO | None, *, variable: Callable[[str], str | None]) -> None:
        self.out_stream = out
        self.err_stream = err
        self.variable = variable
        self.redact: Callable[[str], str] = str
        self.without_keys: Callable[[str], str] = str
        self.crash_folder: Path | None = None

    def out(self, text: str) -> None:
        """Write a line to standard output. Raises OutputLost or OutputClosed."""
        if self.out_stream is None:
            raise OutputClosed("standard output is closed")
        try:
            self.out_stream.write(_fitting(self.without_keys(text), self.out_stream) + "\n")
        except BrokenPipeError as error:
            raise OutputClosed(str(error)) from error
        except (OSError, ValueError) as error:
            raise OutputLost(_reason(error)) from error

    def lines(self, texts: Iterable[str]) -> None:
        """Write several lines to standard output."""
        for text in texts:
            self.out(text)

    def json(self, value: Any) -> None:
        """Write one JSON document to standard output."""
        from llmpipe.cli.documents import document

        self.json_text(document(value))

    def json_text(self, text: str) -> None:
        """Write a JSON document: UTF-8, or ASCII where standard output has another encoding."""
        from llmpipe.report.plain import ascii_json

        encoding = (self.out_stream.encoding if self.out_stream is not None else None) or "utf-8"
        self.out(text if encoding.lower().replace("-", "") == "utf8" else ascii_json(text))

    def err(self, *texts: str) -> None:
        """Write lines to standard error, if there is one that listens."""
        if self.err_stream is None:
            return
        try:
            for text in texts:
                self.err_stream.write(_fitting(self.without_keys(text), self.err_stream) + "\n")
            self.err_stream.flush()
        except (OSError, ValueError):
            self.err_stream = None  # nobody left to tell; the exit code still says it

    def flush(self) -> None:
        """Hand everything to the system. Raises OutputLost or OutputClosed."""
        if self.out_stream is None:
            return
        try:
            self.out_stream.flush()
        except BrokenPipeError as error:
            raise OutputClosed(str(error)) from error
        except (OSError, ValueError) as error:
            raise OutputLost(_reason(error)) from error

    def abandon(self) -> None:
        """Let the interpreter's last flush go nowhere instead of complaining."""
        for stream in (self.out_stream, sys.stdout):
            if stream is not None:
                _point_at_nothing(stream)
        self.out_stream = None

    def width(self) -> int:
        """Columns for text on standard error: the terminal's, between 40 and 120; 80 where there is none."""
        return min(max(self.size()[0], 40), 120) if self.on_terminal(self.err_stream) else 80

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal behind standard error."""
        try:
            size = os.get_terminal_size(self.err_stream.fileno() if self.err_stream is not None else 2)
        except (OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24

    def on_terminal(self, stream: TextIO | None) -> bool:
        """True if a person reads the stream on a terminal that understands cursor codes."""
        try:
            return stream is not None and stream.isatty() and self.variable("TERM") != "dumb"
        except ValueError:
            return False

    def live(self) -> bool:
        """True if standard error may be redrawn in place: decided here, so that FORCE_COLOR cannot spoil a log."""
        return self.on_terminal(self.err_stream) and not _yes(self.variable("CI"))

    def colour(self, stream: TextIO | None) -> bool:
        """True if the stream takes colours: NO_COLOR wins over FORCE_COLOR, which wins over what the stream is."""
        if self.variable("NO_COLOR"):
            return False
        return _yes(self.variable("FORCE_COLOR")) or self.on_terminal(stream)


def _yes(value: str | None) -> bool:
    return bool(value) and str(value).lower() not in ("0", "false", "no")


def _fitting(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for glyph, ascii_form in _PLAIN_GLYPHS.items():
            text = text.replace(glyph, ascii_form)
        text = text.translate(
            {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
        )  # no UTF-8: names of files
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _point_at_nothing(stream: TextIO) -> None:
    try:
        target = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, target)
        os.close(nothing)
    except (OSError, ValueError):
        return


def reserve_descriptors() -> None:
    """Fill a closed 0, 1 or 2, so that no database file gets a number to which a library prints its complaints."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
