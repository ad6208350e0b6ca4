"""What is installed depends on the locks, not on the day: no install line of any committed file resolves."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from llmpipe import __version__
from tests.cli.words import here
from tests.conftest import REPOSITORY
from tests.test_house import committed

MAY_RESOLVE = {"tools/test-newest"}  # what it is for
SKIPPED = {"tests/test_set_up.py"}
INSTALLS = re.compile(
    r"\b(?:pip[\d.]*|uv|poetry|pdm|conda|mamba)\b[^|;&\n]{0,60}?\b(?:install|wheel|download|sync|add)\b"
    r"|\b(?:uvx|uv run|uv tool|pipx|easy_install|pip-sync)\b|--upgrade-deps\b"
)
LOCKED = re.compile(r"(?:-r|--requirement)[ =]\"?(?:\$lock\b|\S*\.lock\b)")
BUILDS = re.compile(r"\bpip\b.*\bwheel\b|(?:-e|--editable)\b|\binstall\b.*\s\.(?:\[\w+\])?(?=\s|$|`)")
CHECKS = re.compile(r"\bpip check\b")


def fault(line: str) -> str | None:
    """What is wrong with an install line; None for one that installs what the locks name and nothing else."""
    if not INSTALLS.search(line):
        return None
    if not re.search(r"(?<!\S)--no-deps\b", line):
        return "resolves: it lacks --no-deps"
    if re.search(r"(?<!\S)(?:-r|--requirement)\b", line):
        if not LOCKED.search(line):
            return "installs a list that is no lock"
        if "--require-hashes" not in line:
            return "takes files of any content: it lacks --require-hashes"
        if "--only-binary :all:" not in line:
            return "may build with the newest tools: it lacks --only-binary :all:"
    elif BUILDS.search(line) and "--no-build-isolation" not in line:
        return "builds with the newest tools: it lacks --no-build-isolation"
    return None


def install_lines(text: str) -> list[str]:
    """The lines of a file that install something, those that go on behind a backslash in one."""
    return [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if INSTALLS.search(line)]


def test_no_install_line_resolves() -> None:
    found, seen = [], set()
    for path in committed():
        name = path.relative_to(REPOSITORY).as_posix()
        if name in SKIPPED or path.suffix == ".lock" or b"\0" in (data := path.read_bytes()):
            continue
        text = data.decode("utf-8")
        lines = install_lines(text)
        seen |= {name} if lines else set()
        if name not in MAY_RESOLVE:
            found += [f"{name}: {line.strip()} {wrong}" for line in lines if (wrong := fault(line))]
            if any(LOCKED.search(line) for line in lines) and not CHECKS.search(text):
                found.append(f"{name}: installs from a lock and does not check that the lock is whole (pip check)")
    assert found == []
    assert {"tools/install", "tools/lock", "src/llmpipe/cli/scaffold/github/llmpipe.yml", *MAY_RESOLVE} <= seen


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pip install llmpipe", "--no-deps"),
        ("Without `make`: `pip install .`", "--no-deps"),
        ("      - run: python -m pip install llmpipe", "--no-deps"),
        ("python3.12 -m pip --quiet install --require-hashes -r requirements.lock", "--no-deps"),
        ('"$venv/bin/pip3.11" install pip-tools', "--no-deps"),
        ("    run([sys.executable, '-m', 'pip', 'install', 'hatchling'])", "--no-deps"),
        ("pip install --no-dependencies-please x", "--no-deps"),
        ("uv pip install --require-hashes -r requirements.lock", "--no-deps"),
        ("uv sync", "--no-deps"),
        ("uv add httpx", "--no-deps"),
        ("uvx ruff check", "--no-deps"),
        ("uv run --with genai-prices x.py", "--no-deps"),
        ("pipx install llmpipe", "--no-deps"),
        ("python -m venv --upgrade-deps .venv", "--no-deps"),
        ("pip wheel --no-build-isolation .", "--no-deps"),
        ("pip install --no-deps -r requirements.lock", "--require-hashes"),
        ("pip install --no-deps --require-hashes -r requirements.lock", "--only-binary"),
        ("pip install --no-deps --require-hashes --only-binary :all: -r requirements-dev.in", "no lock"),
        ("pip install --no-deps .", "--no-build-isolation"),
        ("pip install --no-deps '.[repair]' -e .", "--no-build-isolation"),
        ("pip install --no-deps --editable .", "--no-build-isolation"),
        ("pip wheel --no-deps --wheel-dir dist .", "--no-build-isolation"),
        ("pip install \\\n    --require-hashes \\\n    -r requirements.lock", "--no-deps"),
    ],
)
def test_an_install_line_that_resolves_is_found(line: str, wrong: str) -> None:
    (joined,) = install_lines(f"before\n{line}\nafter\n")
    assert wrong in str(fault(joined))


@pytest.mark.parametrize(
    "line",
    [
        'pip install -qq --no-deps --only-binary :all: --require-hashes -r "$lock"',
        "python -m pip install --no-deps --only-binary :all: --require-hashes -r .github/x.lock",
        "python -m pip install --no-deps llmpipe==0.1.0",
        'pip install -qq --no-deps --no-build-isolation --editable "$project"',
        "pip check",
        "(on Debian: apt-get install python3 python3-venv)",
        "uv pip compile --universal",
    ],
)
def test_a_line_that_does_not_resolve_passes(line: str) -> None:
    assert fault(line) is None


def requirements(lock: str) -> dict[str, str]:
    """The versions that a lock names."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", (REPOSITORY / lock).read_text(), re.M))


def test_the_locks_name_every_requirement_by_hash_and_without_an_address() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    run, build = project["project"]["dependencies"], project["build-system"]["requires"]
    development = re.findall(r"^[\w-]+", (REPOSITORY / "requirements-dev.in").read_text(), re.M)
    for lock, wanted in (
        ("requirements.lock", run),
        ("requirements-build.lock", build),
        ("requirements-dev.lock", [*run, *build, *project["project"]["optional-dependencies"]["repair"], *development]),
    ):
        text = (REPOSITORY / lock).read_text()
        pinned = re.findall(r"^([a-z0-9-]+)==[^ ]+(?: ; .*)? \\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
        assert {re.split(r"[<>=\[; ]", w.lower(), maxsplit=1)[0] for w in wanted} - set(pinned) == set()
        line = re.compile(r"[a-z0-9-]+==\S+( ; .*)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|#.*|")
        assert [s for s in text.splitlines() if not line.fullmatch(s)] == []


def test_what_development_adds_leaves_the_versions_of_a_run_alone() -> None:
    """`make demo` and `make test` share one environment."""
    dev = requirements("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert {name: dev.get(name) for name in requirements(lock)} == requirements(lock)


def test_a_new_project_checks_its_pipelines_with_this_version_and_what_it_was_tested_with(tmp_path: Path) -> None:
    assert here("init", str(tmp_path)).code == 0
    lock = tmp_path / ".github/llmpipe-requirements.lock"
    assert lock.read_bytes() == (REPOSITORY / "requirements.lock").read_bytes()
    workflow = (tmp_path / ".github/workflows/llmpipe.yml").read_text()
    assert f" install --no-deps llmpipe=={__version__}\n" in workflow
    assert f" -r {lock.relative_to(tmp_path)}\n" in workflow
