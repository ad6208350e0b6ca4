"""Ctrl-C, SIGTERM and SIGHUP at any moment, many at once: the exit code says so, and the run can be continued."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.lock import RunLock, is_held
from llmpipe.interrupts import AGAIN_S, Interrupted, interruptible, taking
from tests.engine.answers import Answers

ROWS = 200
TEXT = """\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models: {{m: {{provider: openai_compatible, base_url: "{url}", model: t, limits: {{concurrency: 16}}}}}}
defaults: {{model: m}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}}", schema: {{a: string}}}}]
outputs: [{{from: steps.a, path: out.csv}}]
"""
CODES = {128 + number: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pyproject.toml").touch()
    rows = "".join(json.dumps({"id": f"r{n}"}) + "\n" for n in range(ROWS))
    (tmp_path / "pipelines" / "d.jsonl").write_text(rows)
    return tmp_path / "pipelines" / "x.yaml"


def started(*words: object, **streams: Any) -> subprocess.Popen[str]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-m", "llmpipe", *map(str, words)], text=True, **given)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not true() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "X901" not in err
    return str(err)


def check(pipeline: Path, process: subprocess.Popen[str], err: str) -> None:
    """What stands on the disk says what the exit code says, and the run goes on to its end."""
    root = pipeline.parent.parent
    folders = [f for f in (root / "output" / "x").glob("[0-9a-f]*") if (f / "run.json").exists()]
    assert list(root.rglob("*.part")) == []
    for folder in folders:
        data = json.loads((folder / "run.json").read_text())
        assert data["exit_code"] == process.returncode
        assert data["status"] == ("interrupted" if process.returncode else "complete")
        assert f"run {folder.name}" in err
        if process.returncode:
            assert f"--resume {folder.name}" in err
    if process.returncode:
        again = started("run", pipeline, *(["--resume"] if folders else []))
        ended(again)
        assert again.returncode == 0
    assert len((root / "out.csv").read_text().splitlines()) == ROWS + 1


@pytest.mark.parametrize("seed", range(8))
def test_five_at_once_at_any_moment_of_a_run(pipeline: Path, seed: int) -> None:
    rng = random.Random(seed)
    with Answers(lambda p: {"a": p}, delay_s=0.03) as server:
        pipeline.write_text(TEXT.format(url=server.url))
        process = started("run", pipeline)
        if seed % 2:
            server.wait_for(rng.randrange(1, ROWS), seconds=120)
        else:
            wait_until(lambda: is_held(pipeline.parent.parent / "output" / "x"), process)
            time.sleep(rng.uniform(0, 0.5))
        for _ in range(5):
            number = signal.SIGINT if seed < 4 else rng.choice(sorted(CODES.values()))
            if process.poll() is None:
                process.send_signal(number)
            time.sleep(rng.choice([0, 0.01, 0.1]))
        err = ended(process)
        assert process.returncode in (0, *CODES)
        check(pipeline, process, err)


def test_five_at_once_while_the_results_are_written(pipeline: Path) -> None:
    """The interpreter's own end is no moment for a traceback either."""
    with Answers(lambda p: {"a": p}) as server:
        pipeline.write_text(TEXT.format(url=server.url))
        process = started("run", pipeline)
        folder = pipeline.parent.parent / "output" / "x"
        wait_until(lambda: any(folder.glob("*/steps")), process)
        for _ in range(5):
            process.send_signal(signal.SIGINT)
        check(pipeline, process, ended(process))


@pytest.mark.parametrize("number", sorted(CODES.values()))
def test_while_it_waits_for_the_lock(pipeline: Path, number: int) -> None:
    with Answers(lambda p: {"a": p}) as server:
        pipeline.write_text(TEXT.format(url=server.url))
        with RunLock(pipeline.parent.parent / "output" / "x"):
            process = started("run", pipeline, "--lock", "wait:10m")
            wait_until(lambda: (pipeline.parent.parent / "output" / ".gitignore").exists(), process)
            time.sleep(0.3)
            for _ in range(5):
                process.send_signal(number)
            assert ended(process) == "interrupted\n"
            assert process.returncode == 128 + number
        assert server.total == 0


def test_an_ignored_signal_stays_ignored(pipeline: Path) -> None:
    with Answers(lambda p: {"a": p}, delay_s=0.03) as server:
        pipeline.write_text(TEXT.format(url=server.url))
        command = ["nohup", sys.executable, "-m", "llmpipe", "run", str(pipeline)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        server.wait_for(40, seconds=120)
        process.send_signal(signal.SIGHUP)
        ended(process)
        assert process.returncode == 0


def test_the_first_signal_raises_and_those_right_after_it_do_not() -> None:
    with interruptible():
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (caught.value.number, caught.value.exit_code) == (signal.SIGTERM, 143)
        for number in CODES.values():
            os.kill(os.getpid(), number)
        assert AGAIN_S > 1


def test_who_takes_the_signals_gets_every_one_and_the_first_after_it_raises_none() -> None:
    seen: list[int] = []
    with interruptible():
        with taking(seen.append), interruptible():
            for number in CODES.values():
                os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
    assert sorted(seen) == sorted(CODES.values())


def test_the_handlers_are_those_of_before_again() -> None:
    before = [signal.getsignal(number) for number in CODES.values()]
    with interruptible():
        assert [signal.getsignal(number) for number in CODES.values()] != before
    assert [signal.getsignal(number) for number in CODES.values()] == before


EARLY = """\
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "llmpipe.cli.main":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["llmpipe", "--version"]
from llmpipe.cli.start import main
sys.exit(main())
"""


@pytest.mark.parametrize("ignored", [False, True])
def test_before_the_command_is_loaded_there_is_no_traceback_either(ignored: bool) -> None:
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{EARLY}" if ignored else EARLY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0 if ignored else -signal.SIGINT, "")
