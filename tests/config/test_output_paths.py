"""No path of `outputs` may be one that the project, a pipeline or a run is made of; told at load, at its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config.load import load_pipeline, parse_assignments
from llmpipe.config.output_paths import Taken
from llmpipe.config.pipeline import Pipeline
from llmpipe.errors import ConfigError, Problem

PIPELINE = """\
version: 1
name: mine
include: [../shared/common.yaml]
vars: {{place: output/ok.csv, given: x}}
datasets:
  rows: {{path: ../data/in-*.jsonl, key: id}}
  deep: {{path: "../notes/**/*.md"}}
  unused: {{path: ../data/other.csv}}
models: {{m: {{provider: echo}}, own: {{provider: "mycode:Provider"}}}}
defaults: {{model: m}}
steps:
  - {{id: a, foreach: datasets.rows, prompt_file: ../prompts/a.md, schema: ../shapes/a.json}}
  - {{id: b, foreach: datasets.deep, python: "lib.rules:score"}}
outputs:
{outputs}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "pyproject.toml": "",
        "shared/common.yaml": "vars: {team: x}\n",
        "data/in-1.jsonl": '{"id": 1}\n',
        "data/other.csv": "id\n1\n",
        "data/free.csv": "id\n1\n",
        "notes/one/two/x.md": "x\n",
        "prompts/a.md": "{{ item.id }}\n",
        "shapes/a.json": json.dumps({"type": "object", "properties": {"n": {"$ref": "part.json"}}}),
        "shapes/part.json": '{"type": "string"}',
        "lib/rules.py": "",
        "pipelines/mycode.py": "",
        "pipelines/other.yaml": "version: 1\nname: Neighbour\nsteps: [{id: a, render: x}]\n",
        "output/gone/.lock": "",
        "output/old.csv": "id\n",
        "Makefile": "",
        "values.yaml": "given: y\n",
        "given.txt": "y\n",
        "folder.csv/x": "",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "project"


def load(root: Path, *paths: str, more: str = "", **given: Any) -> Pipeline:
    lines = [f"  - {{from: steps.a, path: {json.dumps(path)}, format: jsonl{more}}}" for path in paths]
    path = root / "pipelines" / "mine.yaml"
    path.write_text(PIPELINE.format(outputs="\n".join(lines)), encoding="utf-8")
    return load_pipeline(path, **given)


def refused(root: Path, *paths: str, **given: Any) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load(root, *paths, **given)
    (problem,) = [p for p in caught.value.problems if p.severity == "error"]
    return problem


CODE = "is named as code and configuration are"
RUNS, DOT, PROJECT = "holds the runs of pipeline", "begin with a dot", "is a file of the project"
YAML, READS, ROWS = "a YAML file there", "is made of that file, or reads it", "read it as rows of dataset"
REFUSED = {
    "output/mine/x.csv": RUNS,
    "output/mine": RUNS,
    "output/mine/latest/run.db": RUNS,
    "output/MINE/status.json": RUNS,
    "Output/Mine/x.csv": RUNS,
    "output/neighbour/x.csv": RUNS,
    "output/gone/x.csv": RUNS,
    "output/sub/../mine/x.csv": RUNS,
    "./output//mine/./x.csv": RUNS,
    "output/.gitignore": DOT,
    "output/.cache/x.db": DOT,
    ".env": DOT,
    ".ENV": DOT,
    ".env.local": DOT,
    "a/.env": DOT,
    ".git/config": DOT,
    ".github/workflows/ci.yml": DOT,
    "output/.hidden/x.csv": DOT,
    ".hidden/../.env": DOT,
    "Makefile": PROJECT,
    "makefile": PROJECT,
    "GNUmakefile": PROJECT,
    "docs/Makefile": PROJECT,
    "pyproject.toml": PROJECT,
    "PyProject.TOML": PROJECT,
    "README.md": PROJECT,
    "LICENSE": PROJECT,
    "requirements-dev.txt": PROJECT,
    "pipelines/mine.yaml": YAML,
    "pipelines/other.yaml": YAML,
    "pipelines/new.yml": YAML,
    "pipelines/deep/new.YAML": YAML,
    "Pipelines/new.yaml": YAML,
    "sub/pipelines/new.yaml": YAML,
    "shared/common.yaml": READS,
    "data/in-1.jsonl": READS,
    "data/other.csv": READS,
    "notes/one/two/x.md": READS,
    "prompts/a.md": READS,
    "shapes/a.json": READS,
    "shapes/part.json": READS,
    "lib/rules.py": READS,
    "pipelines/mycode.py": READS,
    "data/in-2.jsonl": f"{ROWS} 'rows'",
    "notes/new.md": f"{ROWS} 'deep'",
    "notes/one/two/three/new.md": f"{ROWS} 'deep'",
    "src/app/new.py": CODE,
    "src/App/NEW.PY": CODE,
    "web/index.ts": CODE,
    "uv.lock": CODE,
    "deep/poetry.lock": CODE,
    "Cargo.toml": CODE,
    "go.sum": CODE,
    "run.sh": CODE,
    "Procfile": CODE,
    "shapes/other.schema.json": CODE,
    "CHANGELOG.md": PROJECT,
    "docker-compose.yml": PROJECT,
    "tsconfig.json": PROJECT,
    "pipelines/prompts/other.md": "the files there are prompts",
    "Pipelines/prompts/deep/other.txt": "the files there are prompts",
    "folder.csv": "it is a folder",
    f"output/{'x' * 300}.csv": "File name too long",
}


KEPT_ANYWHERE = "makefile gnumakefile bsdmakefile justfile dockerfile containerfile".split()
KEPT_AT_THE_ROOT = (
    "pyproject.toml setup.py setup.cfg tox.ini noxfile.py package.json package-lock.json readme license licence copying"
    " notice requirements changelog contributing cmakelists tsconfig composer docker-compose"
).split()
NAMED_AS_CODE = (
    ".py .pyi .pyx .ipynb .r .jl .sh .bash .zsh .fish .ps1 .bat .js .mjs .cjs .jsx .ts .tsx .java .kt .go .rs .c .h .cc"
    " .cpp .hpp .cs .rb .php .pl .lua .swift .scala .sql .lock .toml .cfg .ini .conf .mod .sum .in .mk .cmake .gradle"
    " .tf .schema.json .db .sqlite .sqlite3 .parquet .pem .key"
).split()


def test_the_names_that_projects_keep(root: Path) -> None:
    output = root.resolve() / "output"
    taken = Taken(output.parent, output.parent / "pipelines" / "mine.yaml", ("mine",), set(), {})

    def reason(path: str) -> str:
        return taken.reason(output.parent / path, path)

    for name in KEPT_ANYWHERE:
        assert PROJECT in reason(name.upper())
        assert PROJECT in reason(f"a/{name.title()}")
        assert PROJECT in reason(f"output/{name}")
    for name in KEPT_AT_THE_ROOT:
        assert PROJECT in reason(name.upper())
        assert PROJECT not in reason(f"a/{name}")
        assert reason(f"output/{name}") == ""
    for suffix in NAMED_AS_CODE:
        assert CODE in reason(f"a/b{suffix}")
        assert CODE in reason(f"b{suffix.upper()}")
        assert reason(f"output/b{suffix}") == reason(f"a/b{suffix}.csv") == ""


@pytest.mark.parametrize("path", REFUSED)
def test_what_the_project_is_made_of_is_refused_with_the_reason(path: str, root: Path) -> None:
    problem = refused(root, path)
    assert (problem.code, problem.place.line) == ("O523", 15)
    assert f"results cannot be written to '{path}': " in problem.message
    assert REFUSED[path] in problem.message


def test_a_var_is_filled_in_before_the_path_is_looked_at(root: Path) -> None:
    assert load(root, "{{ vars.place }}").outputs[0].path == root / "output" / "ok.csv"
    assert RUNS in refused(root, "{{ vars.place }}", vars={"place": "output/mine/x.csv"}).message
    assert DOT in refused(root, "{{ vars.place }}", vars={"place": ".env"}).message


def test_values_of_the_command_line_are_not_overwritten(root: Path) -> None:
    for given in (parse_assignments([], [root / "values.yaml"]), parse_assignments([f"given=@{root}/given.txt"])):
        path = given.files[0].name
        assert READS in refused(root, path, vars=given).message
        assert load(root, path).outputs  # without the flag it is a file as any other


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (".env", DOT),
        (".github/x.yml", DOT),
        ("Makefile", PROJECT),
        ("output/mine/latest/run.db", RUNS),
        ("pipelines/other.yaml", YAML),
        ("data/in-1.jsonl", READS),
        ("src/app.py", CODE),
        ("uv.lock", CODE),
        ("folder.csv", "it is a folder"),
    ],
)
def test_a_symlink_leads_to_none_of_them(target: str, reason: str, root: Path) -> None:
    (root / "link.csv").symlink_to(root / target)
    assert reason in refused(root, "link.csv").message
    (root / "away").symlink_to((root / target).parent, target_is_directory=True)
    assert reason in refused(root, f"away/{Path(target).name}").message


def test_a_dot_file_is_refused_also_where_it_is_a_symlink_to_another(root: Path) -> None:
    (root / ".env").symlink_to("plain.txt")
    assert DOT in refused(root, ".env").message


def test_an_output_folder_that_is_a_symlink_holds_runs_under_both_names(root: Path) -> None:
    (root / "output").rename(root / "elsewhere")
    (root / "output").symlink_to("elsewhere")
    for path in ("output/mine/x.csv", "elsewhere/mine/x.csv", "elsewhere/gone/x.csv"):
        assert RUNS in refused(root, path).message
    assert load(root, "output/new.csv").outputs[0].path == root / "elsewhere" / "new.csv"


def test_a_hard_link_to_an_input_is_refused(root: Path) -> None:
    os.link(root / "data" / "in-1.jsonl", root / "again.jsonl")
    assert READS in refused(root, "again.jsonl").message


def test_what_is_no_regular_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    assert "it is no regular file" in refused(root, "pipe.csv").message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("output/x.csv", "output/x.csv"),
        ("output/x.csv", "output/sub/../x.csv"),
        ("output/x.csv", "output/X.CSV"),
        ("output/größe.csv", "output/gro\u0308ße.csv"),
        ("output/größe.csv", "output/GRÖSSE.csv"),
        ("output/x.csv", "link/x.csv"),
        ("output/x", "output/x/y.csv"),
        ("output/x/y.csv", "output/x"),
    ],
)
def test_two_outputs_are_two_files_in_every_spelling(first: str, second: str, root: Path) -> None:
    (root / "link").symlink_to("output")
    problem = refused(root, first, second)
    assert (problem.code, problem.place.line) == ("O521", 16)


def test_any_other_file_may_be_written_and_replaced(root: Path) -> None:
    paths = ["output/old.csv", "data/free.csv", "data/new.csv", "output/mine.csv", "output/mine2/x.csv", "docs/a.md"]
    paths += ["output/readme.md", "output/labels.yaml", "notes/new.txt", "data/sub/in-2.jsonl", "out/mine/x.csv"]
    paths += ["output/made.py", "output/code/made.sh", "result.json", "a/no-suffix", "pipelines/prompts.csv"]
    assert [o.path for o in load(root, *paths).outputs] == [root / path for path in paths]
