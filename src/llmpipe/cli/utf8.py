"""Has the names of files be UTF-8, as pipeline files are, whatever the locale says."""

from __future__ import annotations

import os
import sys


def require_utf8_names() -> None:
    """Start this process again in Python's UTF-8 mode if Python took another encoding for names of files.

    It cannot be changed in a running process (https://peps.python.org/pep-0540/). Where the encoding is ASCII, as under
    LC_ALL=C with PYTHONUTF8=0, a file `größe.csv` can be neither read nor written. What is printed stays in the
    encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8" or "utf8" in sys._xoptions or not sys.executable:
        return
    from llmpipe.config.environment import hand_down

    stream = sys.stderr or sys.stdout
    if stream is not None:
        hand_down("PYTHONIOENCODING", stream.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very command
