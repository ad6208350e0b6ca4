"""A fault of llmpipe itself: the traceback goes to a file without secrets, the person gets one plain message."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from llmpipe._version import __version__
from llmpipe.cli.console import Console
from llmpipe.errors import InternalError
from llmpipe.report.figures import said


def report_crash(console: Console, words: Sequence[str], error: BaseException) -> int:
    """Write the traceback, say where it is, return exit code 3."""
    text = _text(words, error)
    try:
        text = console.redact(text)
    except Exception:  # noqa: BLE001 - without its redactor the text might hold a key: keep only the frames
        text = "".join(traceback.format_tb(error.__traceback__))
    path = _write(console.crash_folder, text)
    named = f"the traceback is in {path}" if path else "the traceback could not be written anywhere"
    kind = said(console.redact(f"{type(error).__name__}: {error}"), 300)
    console.err(f"error[X901]: {InternalError.title}: {kind}", f"  {named}", f"  {InternalError.advice}")
    return InternalError.exit_code


def _text(words: Sequence[str], error: BaseException) -> str:
    head = f"llmpipe {__version__}, Python {platform.python_version()}, {sys.platform}\nllmpipe {' '.join(words)}\n\n"
    return head + "".join(traceback.format_exception(error))


def _write(folder: Path | None, text: str) -> Path | None:
    for place in (folder, Path(tempfile.gettempdir())):
        if place is None:
            continue
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"llmpipe-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
            descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return place / name
    return None
