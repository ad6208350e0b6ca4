"""Finding the command, and what is said where it cannot be found or understood."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from llmpipe._version import __version__
from llmpipe.cli.commands import COMMANDS
from tests.cli.words import here, process

NAMES = [name for name, _module, _summary in COMMANDS]
FORMS = [[name] for name in NAMES] + [["runs", "rm"], ["runs", "gc"]]


def test_help_lists_every_command_and_the_exit_codes() -> None:
    done = here("--help")
    assert (done.code, done.err) == (0, "")
    for name in NAMES:
        assert re.search(rf"^  {name} +\w", done.out, re.M)
    for code in ("0", "1", "2", "3", "4", "6", "75", "130, 143"):
        assert re.search(rf"(^| ) *{code} ", done.out, re.M)


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_every_command_has_a_complete_help(words: list[str]) -> None:
    done = here(*words, "--help")
    assert (done.code, done.err) == (0, "")
    for part in (f"usage: llmpipe {' '.join(words)}", "examples:\n  ", "exit codes:\n  0 ", "--help"):
        assert part in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert here("help", *words[:1]).code == 0


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_every_flag_says_what_it_does(words: list[str]) -> None:
    text = here(*words, "--help").out
    flags = re.findall(r"^  (-[^ ,]+(?:, --\S+)?)(?: [^ ]+)*?(?:\n {20,}|  +)(\S.*)$", text, re.M)
    assert flags
    assert all(len(meaning) > 8 for _flag, meaning in flags)


def test_help_of_a_command_can_be_asked_for_in_both_ways() -> None:
    assert here("help", "run").out == here("run", "--help").out == here("run", "-h").out


def test_the_version() -> None:
    assert here("--version").out == f"llmpipe {__version__}\n"
    assert process("--version").out == f"llmpipe {__version__}\n"


def test_nothing_at_all_is_a_usage_error() -> None:
    done = here()
    assert (done.code, done.out) == (2, "")
    assert "usage: llmpipe COMMAND" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "unknown command 'rnu'\n  did you mean 'run'?"),
        (["valdate"], "did you mean 'validate'?"),
        (["--json"], "unknown flag '--json'"),
        (["pipelines/x.yaml"], "did you mean 'llmpipe run pipelines/x.yaml'?"),
        (["\x1b[2Jx"], "unknown command '[2Jx'"),
        (["run"], "name a pipeline file"),
        (["run", "x.yaml", "--limt", "3"], "unknown flag --limt\n  did you mean '--limit'?"),
        (["run", "x.yaml", "--resum=auto"], "did you mean '--resume'?"),
        (["run", "x.yaml", "y.yaml"], "unexpected argument 'y.yaml'"),
        (["run", "x.yaml", "--limit", "0"], "--limit: 0 is below 1"),
        (["run", "x.yaml", "--limit", "-1"], "--limit: -1 is below 1"),
        (["run", "x.yaml", "--limit", "three"], "'three' is not a whole number"),
        (["run", "x.yaml", "--limit"], "--limit: expected one argument"),
        (["run", "x.yaml", "--max-cost", "0"], "0 is not above 0"),
        (["run", "x.yaml", "--max-cost", "nan"], "nan is not above 0"),
        (["run", "x.yaml", "--max-cost", "lots"], "'lots' is not an amount"),
        (["run", "x.yaml", "--lock", "maybe"], "'maybe' is not fail, skip or wait:DURATION"),
        (["run", "x.yaml", "--lock", "wait:long"], "not a duration"),
        (["run", "x.yaml", "--resume", "--retry-failed"], "--resume and --retry-failed exclude each other"),
        (["run", "x.yaml", "--only", "a", "--from", "b"], "--only and --from exclude each other"),
        (["run", "x.yaml", "--no-cache", "--refresh"], "--no-cache and --refresh exclude each other"),
        (["run", "x.yaml", "--refresh", "--offline"], "--refresh and --offline exclude each other"),
        (["run", "x.yaml", "-q", "-v"], "--quiet and --verbose exclude each other"),
        (["run", "x.yaml", "--base", "7f3a"], "--base needs --only STEP or --from STEP"),
        (["run", "x.yaml", "--accept-changes"], "--accept-changes needs --resume"),
        (["validate"], "missing: PIPELINE"),
        (["validate", "x.yaml", "--format", "xml"], "invalid choice: 'xml'"),
        (["runs", "gc"], "say what to keep"),
        (["runs", "rm"], "missing: RUN"),
        (["cache", "shrink"], "there is no action 'shrink'"),
        (["cache", "clean"], "did you mean 'clear'?"),
        (["cache", "prune"], "prune needs --older-than AGE or --max-size SIZE"),
        (["cache", "clear", "--older-than", "3d"], "go with prune"),
        (["schema", "expand"], "expand needs a file"),
        (["explain", "P999"], "there is no code 'P999'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_is_exit_two_and_says_what_to_do(words: list[str], said: str) -> None:
    done = here(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "--help" in done.err
    assert "Traceback" not in done.err


def test_a_pipeline_that_is_not_there_is_offered_under_its_right_name(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    assert "there is no file x.yaml" in here("run", "x.yaml").err
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "tickets.yaml").write_text("version: 1\n")
    for word in ("tickets", "tickets.yaml", "pipelines/tickets.yml", "pipelines/tikets.yaml"):
        done = here("run", word)
        assert done.code == 2
        assert "did you mean 'pipelines/tickets.yaml'?" in done.err
    assert "there are: pipelines/tickets.yaml" in here("run", "pipelines").err


def cpu_s(*command: str) -> float:
    """Seconds of CPU that a process takes, the smallest of seven."""
    found = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_costs_little_more_than_starting_python(words: list[str]) -> None:
    assert cpu_s(sys.executable, "-m", "llmpipe", *words) < 5 * cpu_s(sys.executable, "-c", "pass") + 0.02


@pytest.mark.parametrize("words", [["--help"], ["--version"], *[[*form, "--help"] for form in FORMS]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys; from llmpipe.cli.main import main; main(sys.argv[1:]);"
        "print(','.join(m for m in sys.modules if '.' not in m or 'llmpipe' in m), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.strip().split(","))
    heavy = {"yaml", "httpx", "aiohttp", "asyncio", "jsonschema", "jinja2", "loguru", "diskcache", "sqlite3", "json"}
    assert loaded & heavy == set()
    assert not {name for name in loaded if name.startswith(("llmpipe.engine", "llmpipe.client", "llmpipe.config"))}


def test_a_working_directory_that_is_gone_is_no_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = here("runs")
    assert (done.code, done.out) == (2, "")
    assert "working directory is gone" in done.err
    assert here("--help").code == 0
