"""How a run shows itself while it runs: a display redrawn in place, a plain line now and then, or nothing.

The engine's event loop calls `update` and `note`; both only put something into a slot. A thread of its own writes,
with `os.write`, so that a terminal held with Ctrl-S, or a slow reader behind a pipe, never stops the calls.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from llmpipe.engine.results import Snapshot
from llmpipe.report.figures import columns_of, said
from llmpipe.report.frame import Glyphs, frame, line

MOST_NOTES = 200  # waiting to be written
FRAME_S = 0.1  # at most 10 frames a second
LINE_S = 30.0
LINE_SHARE = 0.10

Write = Callable[[str], None]
Size = Callable[[], tuple[int, int]]  # columns, lines


class Display(Protocol):
    """A Progress that is closed at the end; `told` are the notes that it has shown."""

    told: set[str]

    def update(self, snapshot: Snapshot) -> None:
        """About once a second."""

    def note(self, line: str) -> None:
        """Something that a person should know now."""

    def close(self) -> None:
        """Take down what is redrawn; nothing is written afterwards."""


class Silent:
    """Shows nothing."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def update(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Live:
    """The frame, redrawn in place. Pure bookkeeping of the screen: `paint` returns what to write."""

    def __init__(self, *, size: Size, glyphs: Glyphs) -> None:
        self._size = size
        self._glyphs = glyphs
        self._drawn: list[int] = []  # widths of the lines on the screen

    def paint(self, snapshot: Snapshot, notes: list[str]) -> str:
        """Escape codes and text that turn the screen into the notes and a new frame below them."""
        width, height = self._size()
        lines = [
            said(text, max(width - 1, 1)) for text in frame(snapshot, width=width, height=height, glyphs=self._glyphs)
        ]
        start = self._up(width)
        self._drawn = [columns_of(text) for text in lines]
        body = "".join(f"{said(text, 1000)}\x1b[K\n" for text in notes) + "".join(f"{text}\x1b[K\n" for text in lines)
        return f"{start}{body}\x1b[J"

    def erase(self) -> str:
        """What takes the frame off the screen; the summary says it all."""
        width, _height = self._size()
        start = self._up(width)
        self._drawn = []
        return f"{start}\x1b[J" if start else ""

    def _up(self, width: int) -> str:
        """Move to the first line of the old frame: a terminal made narrower has wrapped its lines meanwhile."""
        rows = sum(max(-(-drawn // max(width, 1)), 1) for drawn in self._drawn)
        return f"\r\x1b[{rows}A" if rows else ""


class Lines:
    """A plain line every 30 s, or sooner when another tenth of the items is done."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._last_share = 0.0

    def paint(self, snapshot: Snapshot, notes: list[str]) -> str:
        """The notes, and a line if it is time for one."""
        text = "".join(f"{said(note, 1000)}\n" for note in notes)
        items = sum(s.items for s in snapshot.steps)
        done = sum(s.succeeded + s.failed + s.skipped for s in snapshot.steps)
        share = done / items if items and snapshot.total_known else 0.0
        if self._last_s is None:
            self._last_s = 0.0
        due = snapshot.elapsed_s - self._last_s >= LINE_S
        if not due and (share - self._last_share < LINE_SHARE or snapshot.elapsed_s - self._last_s < 1.0):
            return text
        self._last_s, self._last_share = snapshot.elapsed_s, share
        return f"{text}{line(snapshot)}\n"

    def erase(self) -> str:
        """Nothing was drawn in place."""
        return ""


class Shown:
    """Carries snapshots to a `Live` or `Lines` painter in a thread of its own."""

    def __init__(self, painter: Live | Lines, write: Write, *, pause_s: float = FRAME_S) -> None:
        self.told: set[str] = set()
        self._painter = painter
        self._write = write
        self._pause_s = pause_s
        self._snapshot: Snapshot | None = None
        self._notes: deque[str] = deque(maxlen=MOST_NOTES)
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="llmpipe-progress", daemon=True)
        self._thread.start()

    def update(self, snapshot: Snapshot) -> None:
        """Keep the newest snapshot; the thread shows it."""
        self._snapshot = snapshot
        self._wake.set()

    def note(self, line: str) -> None:
        """Keep a line for the thread; the oldest are dropped if nobody reads."""
        self._notes.append(line)
        self.told.add(line)
        self._wake.set()

    def close(self) -> None:
        """End the thread; waits a second at most, for a terminal that takes nothing more."""
        self._ended.set()
        self._wake.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        try:
            while not self._ended.is_set():
                self._wake.wait()
                self._wake.clear()
                self._show()
                self._ended.wait(self._pause_s)
            last = "".join(f"{said(note, 1000)}\n" for note in self._taken())
            self._write(self._painter.erase() + last)
        except (OSError, ValueError):
            self._ended.set()  # nobody looks any more: a closed terminal must not end the run

    def _show(self) -> None:
        if self._ended.is_set():
            return
        notes = self._taken()
        if self._snapshot is None:
            text = "".join(f"{said(note, 1000)}\n" for note in notes)
        else:
            text = self._painter.paint(self._snapshot, notes)
        if text:
            self._write(text)

    def _taken(self) -> list[str]:
        notes = []
        while self._notes:
            notes.append(self._notes.popleft())
        return notes


def writer(descriptor: int, encoding: str) -> Write:
    """Write text to a file descriptor, in full, past Python's buffer and its lock."""

    def write(text: str) -> None:
        data = text.encode(encoding, "replace")
        while data:
            data = data[os.write(descriptor, data) :]

    return write
