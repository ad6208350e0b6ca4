"""Rules of the house that no other tool keeps: what may stand in a file, one version, sizes, the changelog's form."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCES = sorted((REPOSITORY / "src" / "llmpipe").rglob("*.py"))
FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:home|root|work|Users)/[\w.-]+"),
    "a package registry's host": re.compile(r"files\.pythonhosted|pypi\.[a-z]+/|://pypi\b|registry\.npmjs|/simple/?\b"),
    "a provider's key": re.compile(
        r"\b(?:sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{32,}|AIza[A-Za-z0-9_-]{35}|gsk_[A-Za-z0-9]{40,})"
    ),
    "a private key": re.compile("-----BEGIN " + r"[A-Z ]*PRIVATE KEY"),
    "a note for later": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
    "a merge left over": re.compile(r"^(?:<{7}|>{7}) ", re.M),
}
MAY_NAME = {"tests/test_house.py"}


def committed() -> list[Path]:
    """The files that git keeps, or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    paths = [REPOSITORY / name for name in listed.stdout.decode().split("\0") if name]
    return [p for p in paths if p.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_holds(what: str) -> None:
    found = []
    for path in committed():
        name = path.relative_to(REPOSITORY).as_posix()
        if name in MAY_NAME or b"\0" in (data := path.read_bytes()):
            continue
        text = data.decode("utf-8")
        found += [f"{name}: {m.group()[:60]!r}" for m in FORBIDDEN[what].finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of somebody's machine", "see /ho" + "me/ada/llmpipe"),
        ("a package registry's host", "--index-url https://py" + "pi.org/simple"),
        ("a provider's key", "sk-pro" + "j-" + "a1B2" * 10),
        ("a private key", "-----BEG" + "IN RSA PRIVATE KEY-----"),
        ("a note for later", "# TO" + "DO: mend"),
        ("a merge left over", "<<<<" + "<<< HEAD"),
    ],
)
def test_what_is_forbidden_is_found(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_no_committed_file_is_large() -> None:
    assert [p.name for p in committed() if p.stat().st_size > 500_000] == []


def test_the_version_stands_in_one_place() -> None:
    import llmpipe

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    version = re.search(r'__version__ = "([^"]+)"', (REPOSITORY / "src/llmpipe/_version.py").read_text())
    assert version
    assert "version" not in project["project"]
    assert llmpipe.__version__ == version[1] == importlib.metadata.version("llmpipe")
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", version[1])


def test_the_package_says_its_licence_and_that_it_is_typed() -> None:
    meta = importlib.metadata.metadata("llmpipe")
    assert meta["License-Expression"] == "MIT"
    assert (REPOSITORY / "LICENSE").read_text().startswith("MIT License")
    assert (REPOSITORY / "src/llmpipe/py.typed").is_file()


def test_the_changelog_keeps_its_form() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading)
    kinds = re.findall(r"^### (.*)$", text, re.M)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert all(line.startswith(("#", "- ", "  ", "[")) or not line for line in text.splitlines()[4:])


def test_contributing_is_short() -> None:
    assert len((REPOSITORY / "CONTRIBUTING.md").read_text().splitlines()) < 100


def functions() -> Iterator[tuple[str, int, int]]:
    """Each function of the package: where, how many lines, how many positional parameters."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                where = f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"
                yield where, (node.end_lineno or node.lineno) - node.lineno + 1, len(positional)


def test_functions_stay_small() -> None:
    found = list(functions())
    lengths = sorted(length for _, length, _ in found)
    assert lengths[int(len(lengths) * 0.9)] < 30
    assert [f"{where}: {length} lines" for where, length, _ in found if length > 60] == []
    assert [f"{where}: {count} positional parameters" for where, _, count in found if count > 5] == []


def test_modules_stay_small() -> None:
    sizes = {str(p.relative_to(REPOSITORY)): len(p.read_text().splitlines()) for p in SOURCES}
    del sizes["src/llmpipe/errors.py"]  # a table: one short class for each thing that can go wrong
    assert {name: lines for name, lines in sizes.items() if lines > 320} == {}


def test_nothing_is_left_unfinished() -> None:
    assert [str(p.relative_to(REPOSITORY)) for p in SOURCES if "raise NotImplementedError" in p.read_text()] == []


def test_our_own_code_is_not_mocked() -> None:
    pattern = re.compile(r"mock\.patch|MagicMock|AsyncMock|unittest\.mock|pytest_mock")
    tests = [p for p in (REPOSITORY / "tests").rglob("*.py") if p.name != "test_house.py"]
    assert [p.name for p in tests if pattern.search(p.read_text())] == []


def test_every_json_file_is_json() -> None:
    for path in committed():
        if path.suffix == ".json":
            json.loads(path.read_text())


def test_releases_and_changes_are_in_order() -> None:
    dates = re.findall(r"^## \[[\d.]+\] - (\S+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert all(later >= earlier for later, earlier in pairwise(dates))


def test_the_fixed_core_packages_are_depended_on_and_used() -> None:
    """pyyaml, jsonschema, httpx, diskcache and loguru are fixed: each a dependency, each imported where it belongs."""
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[<>=\[]", line)[0] for line in declared}
    assert {"pyyaml", "jsonschema", "httpx", "diskcache", "loguru"} <= names
    for package, file in {
        "yaml": "config/source.py",
        "jsonschema": "structured/judge.py",
        "httpx": "client/http.py",
        "diskcache": "client/disk_cache.py",
        "loguru": "client/log.py",
    }.items():
        text = (REPOSITORY / "src/llmpipe" / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(import|from) {package}\b", text, re.MULTILINE), f"{file} does not use {package}"


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: everything outside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from node.decorator_list if not isinstance(node, ast.Lambda) else ()
            continue
        yield node
        yield from at_import(node)


def test_importing_a_module_stays_cheap() -> None:
    """A regular expression is compiled when it is first used, and a frozen class is made by `@frozen`: start-up."""
    found = []
    for path in SOURCES:
        if path.name in ("late.py", "frozen.py"):
            continue
        for node in at_import(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Call) else ""
            if text.startswith("re.compile(") or ("dataclass(" in text[:12] and "frozen=True" in text):
                found.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {text[:60]}")  # type: ignore[attr-defined]
    assert found == []
