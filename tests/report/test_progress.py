"""What a run shows of itself while it runs, on a screen of any size and in a log."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.engine.results import Snapshot, StepCounts
from llmpipe.report.figures import columns_of
from llmpipe.report.frame import ASCII, UNICODE, frame, line, remaining
from llmpipe.report.progress import Lines, Live, Shown, Silent, writer


class Screen:
    """A terminal of a given width, as far as the live display uses one: wraps, moves up, clears."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[str] = [""]
        self.row = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\n":
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append("")
            elif part == "\r":
                continue  # every text of the display starts at the left
            elif part.endswith("A") and part.startswith("\x1b"):
                self.row = max(self.row - int(part[2:-1]), 0)
            elif part == "\x1b[J":
                self.rows = [*self.rows[: self.row], ""]
            elif part == "\x1b[K":
                continue
            else:
                assert columns_of(part) < self.width, "a full line would wrap"
                self.rows[self.row] = part

    def narrow(self, width: int) -> None:
        """What a terminal does to its lines when it is made narrower."""
        rows, above = [], 0
        for index, row in enumerate(self.rows):
            pieces = [row[i : i + width] for i in range(0, len(row), width)] or [""]
            if index < self.row:
                above += len(pieces)
            rows += pieces
        self.rows, self.row, self.width = rows, above, width

    def text(self) -> list[str]:
        return [row for row in self.rows if row]


def snapshot(elapsed_s: float = 102.0, **changes: Any) -> Snapshot:
    steps = (
        StepCounts("extract", "model", "openai/gpt-5-mini", items=5000, succeeded=3808, failed=4, cached=1142,
                   calls=2666),
        StepCounts("rate", "model", "openai/gpt-5-mini", items=5000, succeeded=2635, failed=5, calls=2644,
                   input_tokens=2_100_000, output_tokens=400_000, cost_usd=Decimal("1.87"),
                   cost_known_usd=Decimal("1.87")),
        StepCounts("summary", "model", "anthropic/claude", waiting_for="rate"),
    )  # fmt: skip
    given: dict[str, Any] = {
        "pipeline": "reviews", "run_id": "7f3a", "elapsed_s": elapsed_s, "steps": steps, "in_flight": 48, "retried": 37,
        "budget_usd": Decimal(5), "last_failure": "row 2311 rate  O503 $.score",
        "total_known": True,
    }  # fmt: skip
    return Snapshot(**{**given, **changes})


def test_the_frame_says_how_far_each_step_is() -> None:
    lines = frame(snapshot(), width=80, height=24, glyphs=UNICODE)
    assert lines == [
        "reviews  run 7f3a  openai/gpt-5-mini +1                                00:01:42",
        "extract  ━━━━━━━━━━━━━━━━━━━━━━━━━╸────────          3,812/5,000   76%   37.4/s",
        "rate     ━━━━━━━━━━━━━━━━━╸────────────────          2,640/5,000   53%   25.9/s",
        "summary  waiting for rate",
        "calls 5,310 new  1,142 cached | in flight 48 | retried 37 | failed 9",
        "tokens 2.1M in  400k out | spent $1.87 of $5.00",
        "last failure  row 2311 rate  O503 $.score",
    ]


def test_what_is_not_known_of_the_cost_never_reads_as_nothing() -> None:
    unpriced = StepCounts("rate", "model", "x/y", items=9, succeeded=1, calls=1, unpriced=1, cost_usd=None)
    lines = frame(snapshot(steps=(unpriced,), budget_usd=None), width=80, height=24, glyphs=UNICODE)
    assert lines[3] == "tokens 0 in  0 out | spent unknown"
    partly = replace(unpriced, cost_known_usd=Decimal("0.5"))
    assert line(snapshot(steps=(partly,))).endswith("spent at least $0.50 of $5.00")


def test_bars_are_ascii_where_the_terminal_is() -> None:
    lines = frame(snapshot(), width=80, height=24, glyphs=ASCII)
    assert all(line.isascii() for line in lines)
    assert "#" in lines[1]


def test_an_unknown_total_shows_no_share() -> None:
    lines = frame(snapshot(total_known=False), width=80, height=24, glyphs=UNICODE)
    assert "%" not in "".join(lines)
    assert "3,812/5,000+ " in lines[1]


def test_the_remaining_time_is_that_of_the_slowest_step() -> None:
    done = StepCounts("a", "model", "m", items=100, succeeded=100, done=True)
    slow = StepCounts("b", "model", "m", items=100, succeeded=25)
    assert remaining(snapshot(elapsed_s=10.0, steps=(done, slow))) == 30.0
    assert remaining(snapshot(elapsed_s=10.0, steps=(done, slow), total_known=False)) is None
    assert remaining(snapshot()) is None


def test_what_was_carried_over_does_not_count_as_speed() -> None:
    step = StepCounts("b", "model", "m", items=100, succeeded=60, carried=50)
    assert remaining(snapshot(elapsed_s=10.0, steps=(step,))) == 40.0


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 60))
def test_a_frame_fits_any_screen(width: int, height: int, steps: int) -> None:
    many = tuple(StepCounts(f"step{n}", "model", "m", items=9, succeeded=n % 9, done=n % 2 == 0) for n in range(steps))
    live = Live(size=lambda: (width, height), glyphs=UNICODE)
    text = live.paint(snapshot(steps=many), [])
    rows = re.sub(r"\x1b\[\d*[A-Z]", "", text).split("\n")[:-1]
    assert all(columns_of(row) < max(width, 2) for row in rows)
    assert len(rows) < max(height, 2)


def test_the_frame_is_redrawn_in_place_and_leaves_nothing_behind() -> None:
    screen = Screen(80)
    live = Live(size=lambda: (screen.width, 24), glyphs=UNICODE)
    for second in range(1, 9):
        screen.feed(
            live.paint(snapshot(float(second)), ["the key of \x1b[31mrow 9\x1b[0m is odd"] if second == 4 else [])
        )
    assert screen.text()[0] == "the key of [31mrow 9[0m is odd"
    assert len(screen.text()) == 8
    screen.feed(live.erase())
    assert screen.text() == ["the key of [31mrow 9[0m is odd"]


@pytest.mark.parametrize("width", [60, 41, 20])
def test_a_terminal_made_narrower_keeps_no_rest_of_the_old_frame(width: int) -> None:
    screen = Screen(100)
    live = Live(size=lambda: (screen.width, 24), glyphs=ASCII)
    screen.feed(live.paint(snapshot(), []))
    screen.narrow(width)
    screen.feed(live.paint(snapshot(), []))
    assert len(screen.text()) == 7
    screen.feed(live.erase())
    assert screen.text() == []


def test_a_log_gets_a_line_every_thirty_seconds_or_tenth() -> None:
    lines = Lines()

    def at(seconds: float, done: int, **changes: Any) -> str:
        cost = Decimal("1.87")
        step = StepCounts("rate", "model", "m", items=1000, succeeded=done, cost_usd=cost, cost_known_usd=cost)
        return lines.paint(snapshot(seconds, steps=(step,), **changes), [])

    assert at(0.5, 0) == ""
    assert at(10, 50) == ""
    assert at(11, 100) == "00:00:11 reviews  rate 100/1,000  failed 0  retried 37  in flight 48  spent $1.87 of $5.00\n"
    assert at(11.5, 250) == ""
    assert at(12.0, 250).startswith("00:00:12 reviews  rate 250/1,000")
    assert at(41.9, 260) == ""
    assert at(42.0, 261).startswith("00:00:42 ")
    assert at(72.0, 261, total_known=False) == (
        "00:01:12 reviews  rate 261/1,000+  failed 0  retried 37  in flight 48  spent $1.87 of $5.00\n"
    )


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_display_draws_in_a_thread_and_cleans_up() -> None:
    written: list[str] = []
    shown = Shown(Live(size=lambda: (80, 24), glyphs=UNICODE), written.append, pause_s=0)
    shown.note("before the first snapshot")
    wait_for(lambda: written)
    assert written == ["before the first snapshot\n"]
    shown.update(snapshot())
    wait_for(lambda: len(written) > 1)
    shown.close()
    assert written[-1].endswith("\x1b[J")
    screen = Screen(80)
    screen.feed("".join(written))
    assert screen.text() == ["before the first snapshot"]


def test_at_most_ten_frames_a_second() -> None:
    frames: list[str] = []
    shown = Shown(Live(size=lambda: (80, 24), glyphs=UNICODE), frames.append)
    began = time.monotonic()
    while time.monotonic() - began < 0.35:
        shown.update(snapshot())
        time.sleep(0.001)
    shown.close()
    assert len(frames) <= 10 * (time.monotonic() - began) + 3


def test_a_terminal_that_takes_nothing_never_holds_up_the_run() -> None:
    held = threading.Event()
    shown = Shown(Live(size=lambda: (80, 24), glyphs=UNICODE), lambda _text: held.wait(120), pause_s=0)
    began = time.monotonic()
    for _ in range(1000):
        shown.update(snapshot())
        shown.note("x")
    assert time.monotonic() - began < 20
    shown.close()
    assert time.monotonic() - began < 40
    held.set()


def test_a_reader_that_went_away_ends_the_display_and_not_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    shown = Shown(Lines(), writer(writing, "utf-8"), pause_s=0)
    shown.note("nobody reads this")
    wait_for(lambda: not shown._thread.is_alive())
    shown.update(snapshot())
    shown.close()
    os.close(writing)


def test_a_text_is_written_whole_and_in_the_streams_encoding() -> None:
    reading, writing = os.pipe()
    writer(writing, "ascii")("Zoë ━\n")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"Zo? ?\n"


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.update(snapshot())
    silent.note("x")
    silent.close()
    assert capfd.readouterr() == ("", "")
