"""Closed, full, narrow and foreign streams; a fault of our own; Ctrl-C: one plain message, the right exit code."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmpipe.cli import explain, main
from llmpipe.cli.console import Console
from llmpipe.cli.documents import document
from llmpipe.cli.main import main as run_main
from tests.cli.words import here, process

NOISE = ("Traceback", "Exception ignored", "BrokenPipe")


def quiet_about_itself(text: str) -> bool:
    return not any(noise in text for noise in NOISE)


@pytest.mark.parametrize("words", [["--help"], ["providers"], ["run", "--help"], ["schema"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_fault(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = process(*words, stdout=writing)
    finally:
        os.close(writing)
    assert (done.code, done.err) == (0, "")


def test_a_reader_that_takes_one_line_is_no_fault() -> None:
    script = f"{shlex.quote(sys.executable)} -m llmpipe schema | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{", "0"]
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = process("providers", stdout=full)
    assert done.code == 1
    assert "standard output could not be written: No space left on device" in done.err
    assert quiet_about_itself(done.err)


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(closing: str) -> None:
    for words, code in (("providers", 0), ("nonsense", 2), ("run", 2)):
        done = subprocess.run(
            ["bash", "-c", f"{shlex.quote(sys.executable)} -m llmpipe {words} {closing}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (words, done.stderr)
        assert quiet_about_itself(done.stderr)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    console = Console(stream, stream, variable=lambda _name: None)
    console.out("cut… ━━ → Zoë 日本")
    console.err("─╸×")
    console.flush()
    text = raw.getvalue().decode(encoding)
    if encoding == "utf-8":
        assert text == "cut… ━━ → Zoë 日本\n─╸×\n"
    elif encoding == "ascii":
        assert text == "cut... == -> Zo\\xeb \\u65e5\\u672c\n--x\n"
    else:
        assert "Zoë \\u65e5\\u672c" in text


def test_a_foreign_encoding_of_the_process_is_no_fault() -> None:
    done = process("run", "pipelines/Zoë.yaml", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 2
    assert "pipelines/Zo\\xeb.yaml" in done.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "live", "colour"),
    [
        ({"TERM": "xterm"}, True, True),
        ({}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"CI": "true"}, False, True),
        ({"CI": "false"}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, True),
    ],
)
def test_a_terminal_is_redrawn_and_coloured_only_where_it_likes_it(
    variables: dict[str, str], live: bool, colour: bool
) -> None:
    console = Console(None, Terminal(), variable=variables.get)
    assert console.live() is live
    assert console.colour(console.err_stream) is colour


def test_forced_colours_put_no_cursor_codes_into_a_log() -> None:
    console = Console(None, io.StringIO(), variable={"FORCE_COLOR": "1"}.get)
    assert console.live() is False
    assert console.width() == 80


def test_a_document_is_harmless_and_exact() -> None:
    from decimal import Decimal

    value = {"text": "\x9b31m \u202e \ud800 \u2028", "usd": Decimal("0.0042"), "whole": Decimal(3), "path": Path("a/b")}
    text = document(value)
    assert not re.search("[\x7f-\x9f\u202e\ud800\u2028]", text)
    assert json.loads(text) == {**value, "usd": 0.0042, "whole": 3, "path": "a/b"}


def crash(_words: object, _console: object) -> int:
    raise ZeroDivisionError("the key sk-canary was here")


def test_a_fault_of_our_own_is_exit_three_with_a_private_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(explain, "main", crash)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = here("explain", "P431")
    assert (done.code, done.out) == (3, "")
    (file,) = tmp_path.iterdir()
    assert str(file) in done.err
    assert done.err.startswith("error[X901]: a fault of llmpipe itself: ZeroDivisionError")
    assert "Traceback" not in done.err
    text = file.read_text()
    assert "llmpipe explain P431" in text
    assert 'raise ZeroDivisionError("the key sk-canary was here")' in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_fault_of_our_own_keeps_secrets_and_goes_below_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crash_with_secret(_words: object, console: Console) -> int:
        console.crash_folder = tmp_path / "output"
        console.redact = lambda text: text.replace("sk-canary", "[redacted]")
        return crash(_words, console)

    monkeypatch.setattr(explain, "main", crash_with_secret)
    done = here("explain", "sk-canary")
    assert done.code == 3
    (file,) = (tmp_path / "output").iterdir()
    assert "sk-canary" not in done.err + file.read_text()
    assert "the key [redacted] was here" in done.err
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_traceback_that_cannot_be_written_is_still_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(explain, "main", crash)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere" / "file"))
    (tmp_path / "nowhere").write_text("a file, so no folder can be made below it")
    done = here("explain")
    assert done.code == 3
    assert "could not be written anywhere" in done.err


def test_an_interrupt_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_words: object, _console: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "main", interrupted)
    done = here("explain")
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


def test_descriptors_that_were_closed_are_filled_so_that_no_database_gets_them() -> None:
    script = (
        "import os, sys; os.close(0); os.close(1); os.close(2);"
        "from llmpipe.cli.main import main; main(['--version']);"
        "number = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os._exit(number)"
    )
    done = subprocess.run([sys.executable, "-c", script, os.devnull], check=False)
    assert done.returncode > 2


def test_the_way_in_never_raises() -> None:
    assert run_main(["\ud800"]) == 2
    assert main.main(["run", "\x00"]) == 2
