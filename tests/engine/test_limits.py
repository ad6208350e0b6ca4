"""A machine that has no more to give: the run ends with 1, says what to do, and can be continued."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.answers import Answers
from tests.engine.conftest import Project

ROWS = 300
TEXT = """\
version: 1
datasets: {{d: {{path: d.jsonl, key: id}}}}
models: {{m: {{provider: openai_compatible, base_url: "{url}", model: t, limits: {{concurrency: 32}}}}}}
defaults: {{model: m}}
steps: [{{id: a, foreach: datasets.d, prompt: "{{{{ item.id }}}} {{{{ item.t }}}}", schema: {{a: string}}}}]
outputs: [{{from: steps.a, path: out.csv}}]
"""


def reply(prompt: str) -> Any:
    return {"a": prompt}


def refusing(prompt: str) -> Any:
    """Some rows fail, so that files of failures are written."""
    return (400, {"error": {"message": "no"}}) if prompt.startswith("r7") else {"a": prompt}


@pytest.fixture
def filled(project: Project) -> Project:
    project.rows("d.jsonl", [{"id": f"r{n}", "t": "x" * 1500} for n in range(ROWS)])
    return project


class Ended:
    """What came of a command."""

    def __init__(self, project: Project, *words: str, limit: Callable[[], None] | None = None, **streams: Any) -> None:
        command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), *words]
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        done = subprocess.run(command, **given, text=True, preexec_fn=limit, timeout=300, check=False)
        self.code, self.err = done.returncode, done.stderr or ""
        folders = [f for f in (project.root / "output" / "x").glob("[0-9a-f]*") if (f / "run.json").exists()]
        self.json = json.loads((folders[0] / "run.json").read_text()) if folders else None

    def is_told(self, *words: str) -> None:
        """Exit 1, one message with what to do, and a run.json that agrees."""
        assert self.code == 1, self.err
        assert "Traceback" not in self.err
        assert "X901" not in self.err
        (message,) = [line for line in self.err.splitlines() if line.startswith(("reason", "error"))]
        assert any(word in self.err for word in words), self.err
        assert "--resume" in self.err
        if self.json is not None:
            assert (self.json["status"], self.json["exit_code"]) == ("failed", 1)
            assert self.json["reason"].split(".")[0][:40] in message + self.json["reason"]


def whole(project: Project, server: Answers, *, failed: int = 0, again: int = 32) -> None:
    """The run continued where there is room has every row, and asked twice for no more than was in flight."""
    words = ("--resume",) if list((project.root / "output" / "x").glob("*/run.json")) else ()
    ended = Ended(project, *words)
    assert ended.code == (1 if failed else 0), ended.err
    assert ended.json is not None
    assert ended.json["totals"]["succeeded"] == ROWS - failed
    assert sum(server.asked.values()) <= ROWS + again + failed
    assert list(project.root.rglob("*.part")) == []


def limiting(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize("size", [1_000, 100_000, 700_000])
def test_files_that_may_not_grow(filled: Project, size: int) -> None:
    """What a quota or a full disk does, at one place after the other: the file of the run, its ledger, the cache."""
    with Answers(reply, delay_s=0.005) as server:
        filled.write("x.yaml", TEXT.format(url=server.url))
        limit = limiting(resource.RLIMIT_FSIZE, size)
        Ended(filled, limit=limit).is_told("ulimit -f")
        Ended(filled, "--resume", limit=limit) if size > 90_000 else None
        whole(filled, server, again=64)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Callable[[], None]]:
    """A file system of its own at `folder`, and what makes it larger. Skips where that takes a right we lack."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("mounting is for root")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=99m,nr_inodes=9999", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("options", ["size=40k", "size=200k", "size=1500k", "size=9m,nr_inodes=9"])
def test_a_full_disk(filled: Project, options: str) -> None:
    with Answers(reply, delay_s=0.005) as server, small_disk(filled.root / "output", options) as enlarge:
        filled.write("x.yaml", TEXT.format(url=server.url))
        Ended(filled).is_told("Free some space")
        Ended(filled, *(["--resume"] if list((filled.root / "output" / "x").glob("*/run.json")) else [])).is_told(
            "Free"
        )
        enlarge()
        whole(filled, server, again=64)


@pytest.mark.parametrize("inodes", [13, 22])
def test_a_disk_without_inodes_keeps_what_was_in_flight(filled: Project, inodes: int) -> None:
    """The ledger has room; only a file of a failure cannot be made."""
    with (
        Answers(refusing, delay_s=0.02) as server,
        small_disk(filled.root / "output", f"size=90m,nr_inodes={inodes}") as enlarge,
    ):
        filled.write("x.yaml", TEXT.format(url=server.url))
        Ended(filled).is_told("inodes")
        enlarge()
        whole(filled, server, failed=11, again=11)


@pytest.mark.parametrize("inodes", [13, 15, 17])
def test_a_disk_without_inodes_for_the_results_has_one_for_the_verdict(filled: Project, inodes: int) -> None:
    with (
        Answers(reply) as server,
        small_disk(filled.root / "output", f"size=90m,nr_inodes={inodes}") as enlarge,
    ):
        filled.write("x.yaml", TEXT.format(url=server.url))
        ended = Ended(filled)
        ended.is_told("inodes")
        assert ended.json is not None
        enlarge()
        whole(filled, server, again=0)


def test_an_end_that_cannot_be_noted_everywhere_is_noted_as_a_failure(filled: Project) -> None:
    (filled.root / "output" / "x" / "status.json").mkdir(parents=True)
    with Answers(reply) as server:
        filled.write("x.yaml", TEXT.format(url=server.url))
        ended = Ended(filled)
        assert ended.code == 1, ended.err
        assert ended.json is not None
        assert (ended.json["status"], ended.json["exit_code"]) == ("failed", 1)


@pytest.mark.parametrize("files", [40, 80])
def test_few_file_descriptors_mean_fewer_calls_at_once(filled: Project, files: int) -> None:
    with Answers(reply, delay_s=0.005) as server:
        filled.write("x.yaml", TEXT.format(url=server.url).replace("concurrency: 32", "concurrency: 64"))
        ended = Ended(filled, limit=limiting(resource.RLIMIT_NOFILE, files))
        assert ended.code == 0, ended.err
        assert (
            f"fewer calls at once, since ulimit -n is {files} (104 would do): m {max(1, files - 40)} instead of 64"
            in (" ".join(ended.err.split()))
        )
        assert server.most_in_flight <= max(1, files - 40)


@pytest.mark.parametrize("files", [11, 16, 18])
def test_too_few_file_descriptors_for_anything(filled: Project, files: int) -> None:
    with Answers(reply, delay_s=0.005) as server:
        filled.write("x.yaml", TEXT.format(url=server.url))
        Ended(filled, limit=limiting(resource.RLIMIT_NOFILE, files)).is_told("ulimit -n")
        whole(filled, server)


def test_the_limit_on_descriptors_is_raised_as_far_as_it_may_be(filled: Project) -> None:
    with Answers(reply, delay_s=0.05) as server:
        filled.write("x.yaml", TEXT.format(url=server.url).replace("concurrency: 32", "concurrency: 90"))
        ended = Ended(filled, limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 400)))
        assert ended.code == 0, ended.err
        assert "fewer calls" not in ended.err
        assert server.most_in_flight > 60


def test_descriptors_that_run_out_later_stop_the_run(filled: Project) -> None:
    """Somebody else in the process takes them: here a Python step that keeps files open."""
    filled.write("hoard.py", "import os\nKEPT = []\ndef keep(key):\n    KEPT.append(os.dup(0))\n    return key\n")
    with Answers(reply, delay_s=0.02) as server:
        text = TEXT.format(url=server.url).replace("prompt:", "needs: [k], prompt:")
        text = text.replace("steps: [", 'steps: [{id: k, foreach: datasets.d, python: "hoard:keep"}, ')
        filled.write("x.yaml", text)
        ended = Ended(filled, "--allow-python", limit=limiting(resource.RLIMIT_NOFILE, 120))
        assert ended.code == 1, ended.err
        assert "Traceback" not in ended.err
        assert "X901" not in ended.err
        assert ended.json is not None
        assert ended.json["status"] == "failed"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_output_folder_that_goes_away_ends_the_run(filled: Project, how: str) -> None:
    output = filled.root / "output"

    def take() -> None:
        server.wait_for(60)
        if how == "removed":
            shutil.rmtree(output)
        else:
            output.rename(filled.root / "elsewhere")
        if how == "replaced":
            (output / "x").mkdir(parents=True)

    with Answers(reply, delay_s=0.2) as server:
        filled.write("x.yaml", TEXT.format(url=server.url).replace("concurrency: 32", "concurrency: 8"))
        thread = threading.Thread(target=take)
        thread.start()
        ended = Ended(filled)
        thread.join()
        assert ended.code == 1, ended.err
        assert "Traceback" not in ended.err
        assert "X901" not in ended.err
        assert "removed or moved" in " ".join(ended.err.split())
        assert server.total < ROWS
        if how != "removed":
            shutil.rmtree(output, ignore_errors=True)
            (filled.root / "elsewhere").rename(output)
            whole(filled, server, again=16)


@pytest.mark.parametrize("words", [(), ("--quiet",)])
def test_standard_error_that_takes_nothing_changes_no_exit_code(filled: Project, words: tuple[str, ...]) -> None:
    with Answers(reply) as server, Path("/dev/full").open("w") as full:
        filled.write("x.yaml", TEXT.format(url=server.url))
        assert Ended(filled, *words, stderr=full).code == 0


def test_standard_output_that_takes_nothing_is_an_error(filled: Project) -> None:
    with Answers(reply) as server, Path("/dev/full").open("w") as full:
        filled.write("x.yaml", TEXT.format(url=server.url))
        ended = Ended(filled, "--json", stdout=full)
        assert (ended.code, ended.json and ended.json["status"]) == (1, "complete")
        assert "standard output could not be written" in ended.err
        assert Ended(filled, "--json", "--resume", "auto", stdout=full, stderr=full).code == 1


@pytest.mark.parametrize("megabytes", [240, 300])
def test_little_memory_leaves_no_run_waiting(filled: Project, megabytes: int) -> None:
    """Which of its parts gets no more memory, or no thread, is a matter of chance."""
    limit = limiting(resource.RLIMIT_AS, megabytes * 1_000_000)
    with Answers(refusing, delay_s=0.01) as server:
        filled.write("x.yaml", TEXT.format(url=server.url))
        ended = Ended(filled, limit=limit)
        assert ended.code == 1, ended.err
        assert "Traceback" not in ended.err
        assert "X901" not in ended.err
        whole(filled, server, failed=11, again=11 + 32)
