"""The structured log: one JSON object a line, in a file that only its owner can read, secrets redacted.

loguru's own serializer costs 93-124 µs a line, this one about a quarter. `diagnose` and `backtrace` stay off: they
print the values of variables, keys among them (facts C). Data reaches the log through `bind`, never as the message,
which loguru would take for a format string.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmpipe.client.redact import Redactor
from llmpipe.json_text import writer

if TYPE_CHECKING:
    from loguru import Message

MAX_TRACEBACK_CHARS = 20_000
RESERVED = ("ts", "level", "event")


class JsonLines:
    """A sink of loguru that appends to a file. Lines are written whole.

    A disk that takes no more of them is said once to `warn`: a log must never be what a run fails of.
    """

    def __init__(self, path: Path, redactor: Redactor, warn: Callable[[str], None]) -> None:
        self._path, self._warn = path, warn
        self._lost = False
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8", buffering=64 * 1024)
        self._redactor = redactor
        self._guard = threading.Lock()  # a run's own lines do not come through loguru, which has a lock of its own
        self.written = threading.local()  # .already: what this thread logs just now stands in the file

    def write(self, message: Message) -> None:
        """Append one line; errors and warnings reach the file at once, the rest when the buffer is full."""
        if getattr(self.written, "already", False):
            return
        record = message.record
        self.append(as_line(record), at_once=record["level"].no >= 30)

    def append(self, line: str, *, at_once: bool) -> None:
        """Append one line of JSON, redacted."""
        line = self._redactor.text(line)
        with self._guard:
            if self._lost:
                return
            try:
                self._file.write(line + "\n")
                if at_once:
                    self._file.flush()
            except OSError as err:
                self._lose(err)

    def stop(self) -> None:
        """Called by loguru when the sink is removed."""
        with self._guard:
            try:
                self._file.close()
            except OSError as err:
                if not self._lost:
                    self._lose(err)

    def _lose(self, err: OSError) -> None:
        self._lost = True
        self._warn(f"{self._path.name} is not complete: {err.strerror or err}")


class RunLogger:
    """What a run gives its client for a logger: `bind(...).info(...)`, and the line is in the run's file.

    loguru finds out the caller's frame, process, thread and local time for every line; none of that is in a line of
    ours, and it costs 70 of 100 µs. So a line goes through loguru only where somebody else listens there: a sink that
    the pipeline's own code has added. Everything else that is logged in a run reaches the file through loguru.
    """

    def __init__(self, sink: JsonLines, fields: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._sink, self._fields = sink, fields

    def bind(self, **fields: Any) -> RunLogger:
        """The same logger with these fields in its lines."""
        return RunLogger(self._sink, {**self._fields, **fields})

    def info(self, event: str) -> None:
        """A line of level info."""
        self._sink.append(_line(time.time(), "info", event, self._fields), at_once=False)
        self._tell_others("INFO", event)

    def warning(self, event: str) -> None:
        """A line of level warning; it is in the file at once."""
        self._sink.append(_line(time.time(), "warning", event, self._fields), at_once=True)
        self._tell_others("WARNING", event)

    def _tell_others(self, level: str, event: str) -> None:
        from loguru import logger

        core: Any = getattr(logger, "_core", None)  # loguru has no public way to ask who listens
        if len(getattr(core, "handlers", ())) < 2:
            return
        self._sink.written.already = True
        try:
            logger.opt(depth=2).bind(**self._fields).log(level, event)
        finally:
            self._sink.written.already = False


def as_line(record: Any) -> str:
    """One record of loguru as JSON: `ts` (seconds since the epoch), `level`, `event`, then what was bound."""
    fields = record["extra"]
    if record["exception"] is not None:
        fields = {**fields, "exception": _exception(record["exception"])}
    return _line(record["time"].timestamp(), record["level"].name.lower(), record["message"], fields)


def _line(at: float, level: str, event: str, bound: Mapping[str, Any]) -> str:
    fields = {"ts": round(at, 4), "level": level, "event": event}
    for name, value in bound.items():
        fields[f"{name}_" if name in RESERVED else name] = value
    return _written(fields)


_written = writer(ascii_only=True, default=str)


def _exception(caught: Any) -> str:
    """Type, words and places; no values of variables."""
    import traceback

    lines = traceback.format_exception(caught.type, caught.value, caught.traceback)
    return "".join(lines)[-MAX_TRACEBACK_CHARS:]


@contextmanager
def log_to(
    path: Path,
    redactor: Redactor,
    *,
    level: str = "INFO",
    others: bool = True,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[RunLogger]:
    """Log to `path` until the block ends; yields the short way into it. Raises OSError if the file cannot be opened.

    Other sinks stay as they are; loguru's default one on stderr is the command line's to remove. `others`: whether
    anybody else may log. Where nobody does, and loguru is not there yet, it is not imported: 40 ms.
    """
    sink = JsonLines(path, redactor, warn)
    if not others and "loguru" not in sys.modules:
        try:
            yield RunLogger(sink)
        finally:
            sink.stop()
        return
    from loguru import logger

    id = logger.add(sink, level=level, format="{message}", diagnose=False, backtrace=False, catch=True)
    try:
        yield RunLogger(sink)
    finally:
        logger.remove(id)
