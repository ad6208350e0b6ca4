"""Searches by regular expressions that come from a schema, in texts that come from a model, without ever hanging.

Chosen by measurement: a search that is sure to be short (see `regex_cost`) takes 0.3 us where it stands. Any other goes
to a child process, 40 to 80 us a search, which ends at a limit of CPU time and is started again. A linear-time
engine would be quicker still, but knows no look-around and no back-references, so it would not be the same language.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import select
import struct
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from llmpipe.structured.regex_cost import steps_of

if TYPE_CHECKING:
    import subprocess

SHORT_STEPS = 2e6  # about 20 ms of CPU at worst
CPU_LIMIT_S = 0.5
WALL_LIMIT_S = 15.0  # only for a machine so loaded that the child gets no CPU


class SearchTooLong(Exception):
    """The search was given up at the limit of CPU time."""


def may_be_long(pattern: str, length: int) -> bool:
    """Whether a search in a text of so many characters is one for the child process."""
    return steps_of(pattern)(length) > SHORT_STEPS


def search(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text, as `re.search` finds it.

    May block for `CPU_LIMIT_S` of a child's CPU time. Raises SearchTooLong.
    """
    if steps_of(pattern)(len(text)) <= SHORT_STEPS:
        return _compiled(pattern).search(text) is not None
    return _child.search(pattern, text)


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern)


class RegexChild:
    """The child process: started when it is first needed, used by one thread at a time, restarted after a limit."""

    def __init__(self, limit_s: float = CPU_LIMIT_S) -> None:
        self.limit_s = limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # the process that started the child: a fork must not share its pipes

    def search(self, pattern: str, text: str) -> bool:
        """As `re.search`. Raises SearchTooLong at the limit, RuntimeError if the pattern cannot be used."""
        first, second = (part.encode("utf-8", "surrogatepass") for part in (pattern, text))
        request = struct.pack(">II", len(first), len(second)) + first + second
        with self._lock:
            answer = self._ask(request)
            if answer is None:
                self.close()
                raise SearchTooLong
        if answer == b"\x02":
            raise RuntimeError(f"the regular expression {pattern[:80]!r} cannot be used")
        return answer == b"\x01"

    def _ask(self, request: bytes) -> bytes | None:
        """The one byte of the answer, None at the limit."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return None
        ready = select.poll()
        ready.register(process.stdout.fileno(), select.POLLIN | select.POLLHUP)
        if not ready.poll(WALL_LIMIT_S * 1000):
            return None
        return os.read(process.stdout.fileno(), 1) or None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            if self._owner == os.getpid():
                self.close()
            import subprocess

            script = str(Path(__file__).with_name("_regex_child.py"))
            self._process = subprocess.Popen(  # noqa: S603 - our own script, by the interpreter that runs us
                [sys.executable, "-I", "-S", script, str(self.limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C at the terminal is the parent's affair
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


_child = RegexChild()
atexit.register(_child.close)
