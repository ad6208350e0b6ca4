"""What the documents show works: pipelines run, Python runs, commands, flags, files and links exist."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from llmpipe.cli.main import main
from llmpipe.config.load import load_pipeline
from llmpipe.errors import every_class
from llmpipe.providers.rows import PROVIDERS
from tests.conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BASE = {
    "version": 1,
    "datasets": {"tickets": {"path": "data/tickets.jsonl", "key": "id"}},
    "models": {"echo": {"provider": "echo"}},
    "steps": [
        {
            "id": "label",
            "foreach": "datasets.tickets",
            "model": "{model}",
            "prompt": "{{ item.body }}",
            "schema": {"category": "string"},
        },
        {"id": "report", "render": "{{ steps.label | length }}"},
    ],
}


class Block(NamedTuple):
    """A fenced block of a document."""

    where: str
    text: str


def blocks(language: str) -> list[Any]:
    found = []
    for path in DOCUMENTS:
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", path.read_text(), re.M | re.S):
            line = path.read_text()[: match.start()].count("\n") + 2
            where = f"{path.relative_to(REPOSITORY)}:{line}"
            found.append(pytest.param(Block(where, match[1]), id=where))
    return found


def yaml_blocks(*, whole: bool) -> list[Any]:
    return [p for p in blocks("yaml") if ("steps" in yaml.safe_load(p.values[0].text)) is whole]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the files that the documents' examples name."""
    folder = tmp_path / "project"
    data = folder / "pipelines" / "data"
    data.mkdir(parents=True)
    (folder / "docs").mkdir()
    tickets = "".join(json.dumps({"id": f"T{n}", "body": f"text {n}", "urgent": n % 2 == 0}) + "\n" for n in range(12))
    (data / "tickets.jsonl").write_text(tickets)
    (data / "tickets-2026-11-02.jsonl").write_text(tickets)
    (data / "archive-1.jsonl.gz").write_bytes(gzip.compress(tickets.encode()))
    (data / "reviews.csv").write_text("id,text\n" + "".join(f"{n},fine {n}\n" for n in range(12)))
    (data / "people.csv").write_text("id,body,age,score,active\n1,a,18,-1.5,true\n2,b,,,\n")
    for name in ("README.md", "docs/a.md"):
        (folder / name).write_text("# Something\n")
    return folder


def on_echo(text: str) -> str:
    """The same pipeline with `echo` behind every model."""
    document = yaml.safe_load(text)
    for name, model in document["models"].items():
        kept = {"fallback": model["fallback"]} if "fallback" in model else {}
        document["models"][name] = model if model["provider"] == "echo" else {"provider": "echo", **kept}
    return yaml.safe_dump(document, sort_keys=False)


def llmpipe(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("block", yaml_blocks(whole=True))
def test_a_pipeline_of_the_documents_loads_and_runs(block: Block, project: Path) -> None:
    path = project / "pipelines" / "shown.yaml"
    path.write_text(block.text)
    load_pipeline(path)
    path.write_text(on_echo(block.text))
    done = subprocess.run(
        [sys.executable, "-m", "llmpipe", "run", str(path), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["status"] in ("complete", "partial")
    assert sum(step["succeeded"] for step in report["steps"]) > 0


@pytest.mark.parametrize("block", yaml_blocks(whole=False))
def test_a_part_of_a_pipeline_of_the_documents_loads(block: Block, project: Path) -> None:
    part = yaml.safe_load(block.text)
    models = part.get("models", BASE["models"])
    base = json.loads(
        json.dumps({k: v for k, v in BASE.items() if k not in part}).replace("{model}", next(iter(models)))
    )
    if "datasets" in part:
        base["steps"][0]["foreach"] = f"datasets.{next(iter(part['datasets']))}"
    path = project / "pipelines" / "shown.yaml"
    if "budget" in part:  # money is bounded only where answers are
        base["models"]["echo"]["params"] = {"max_output_tokens": 100}
    path.write_text(yaml.safe_dump(base, sort_keys=False) + block.text)
    load_pipeline(path)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_of_the_documents_runs(block: Block, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the sh blocks, with where it stands."""
    for param in blocks("sh"):
        for line in param.values[0].text.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield param.values[0].where, words
    for path in DOCUMENTS:
        for match in re.finditer(r"`((?:llmpipe|make) [a-z][^`\n]*)`", path.read_text()):
            yield path.name, shlex.split(match[1])


def queries() -> Iterator[str]:
    """Every SQL statement of the documents."""
    for param in blocks("sql"):
        yield from filter(str.strip, param.values[0].text.split(";"))
    for _, words in commands():
        if words[0] == "sqlite3":
            yield words[-1]


def test_queries_of_the_documents_find_what_they_say(project: Path) -> None:
    path = project / "pipelines" / "tickets.yaml"
    path.write_text(yaml.safe_dump({**BASE, "steps": [{**BASE["steps"][0], "model": "echo"}]}, sort_keys=False))
    assert llmpipe("run", str(path))[0] == 0
    asked = list(queries())
    with contextlib.closing(sqlite3.connect(project / "output/tickets/latest/run.db")) as ledger:
        answers = [ledger.execute(query).fetchall() for query in asked]
    assert len(answers) >= 4
    assert ("label", 12, 12, 0, 0, 0) in [row for answer in answers for row in answer]


def flags_of(command: str) -> set[str]:
    code, text, _ = llmpipe(command, "--help")
    assert code == 0, f"there is no command {command}"
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))


def test_the_commands_of_the_documents_exist() -> None:
    known: dict[str, set[str]] = {}
    seen = 0
    for where, words in commands():
        words = words[words.index("|") + 1 :] if "|" in words else words
        program = Path(words[0]).name
        if program == "make":
            assert words[1] in targets(), where
        elif program == "llmpipe":
            seen += 1
            given = known.setdefault(words[1], flags_of(words[1]))
            missing = [w for w in words[2:] if w.startswith("-") and w.split("=")[0] not in given]
            assert missing == [], f"{where}: llmpipe {words[1]} has no {missing}"
            for word in words[2:]:
                if word.startswith("pipelines/") and "*" not in word and word != "pipelines/x.yaml":
                    assert (REPOSITORY / word).is_file(), f"{where}: {word}"
        else:
            assert program in ("export", "pip", "git", "sqlite3"), f"{where}: {words}"
    assert seen > 10


def test_the_flags_that_are_spoken_of_exist() -> None:
    run = flags_of("run") | flags_of("validate") | flags_of("init")
    for path in DOCUMENTS:
        for flag in re.findall(r"`(--[a-z][a-z-]*)", path.read_text()):
            assert flag in run, f"{path.name}: {flag}"


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if not link.startswith(("http:", "https:")):
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_codes_are_real() -> None:
    codes = {cls.code for cls in every_class()}
    for path in DOCUMENTS:
        for code in re.findall(r"`(?:llmpipe explain )?([YCDPOX]\d{3})`", path.read_text()):
            assert code in codes, f"{path.name}: {code}"


def test_every_provider_is_documented_with_its_key() -> None:
    text = (REPOSITORY / "docs" / "providers.md").read_text()
    assert [name for name in PROVIDERS if f"`{name}`" not in text] == []
    for name in ("openai", "anthropic", "gemini"):
        assert f"`{PROVIDERS[name].key_vars[0]}`" in text


def test_every_page_is_listed() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text()
    pages = {p.name for p in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"({name})" not in index} == set()
