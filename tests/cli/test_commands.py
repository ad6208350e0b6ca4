"""init, validate, runs, show, cache, providers and schema, each on real files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from decimal import Decimal
from pathlib import Path

import pytest

from llmpipe.cli.places import output_folder, show_command
from llmpipe.cli.runs import superfluous
from llmpipe.engine.runs import RunInfo
from tests.cli.words import Done, here
from tests.conftest import REPOSITORY

FILE = "pipelines/small.yaml"


# -- init


def test_a_new_project_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = here("init", "my project")
    assert (done.code, done.out) == (0, "")
    assert "cd 'my project'" in done.err
    monkeypatch.chdir(tmp_path / "my project")
    ran = here("run", "pipelines/hello.yaml")
    assert ran.code == 0, ran.err
    assert len(ran.err.splitlines()) == 4
    assert Path("output/hello-ratings.csv").read_text().startswith("id,mood,summary,answered\nr1,")
    assert Path("output/hello-page.md").read_text().startswith("# Reviews of The Corner Bakery\n")
    shown = here("show", "last", "rate", "r2")
    assert "Waited twenty minutes" in shown.out


def test_the_files_of_a_new_project_are_whole(tmp_path: Path) -> None:
    here("init", str(tmp_path))
    assert (tmp_path / "schemas/pipeline.schema.json").read_bytes() == (
        REPOSITORY / "schemas/pipeline.schema.json"
    ).read_bytes()
    text = (tmp_path / "pipelines/hello.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schemas/pipeline.schema.json\n")
    assert here("validate", str(tmp_path / "pipelines/hello.yaml")).code == 0
    ignored = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "init", "-q", str(tmp_path)], check=True, capture_output=True
    )
    assert ignored.returncode == 0
    for name, hidden in (("output/x", True), (".env", True), ("pipelines/hello.yaml", False)):
        found = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", name], check=False)
        assert (found.returncode == 0) is hidden


def test_each_model_offered_by_the_new_project_is_usable(tmp_path: Path) -> None:
    here("init", str(tmp_path))
    path = tmp_path / "pipelines/hello.yaml"
    text = path.read_text()
    offered = re.findall(r"^  #   (main: \{.*?\})", text, re.M)
    assert len(offered) == 4
    for line in offered:
        path.write_text(text.replace("  main: {provider: echo, model: demo}", f"  {line}"))
        assert here("validate", str(path)).code == 0


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    (tmp_path / ".gitignore").write_text("output/\n")
    (tmp_path / "elsewhere").write_text("also mine\n")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/review.schema.json").symlink_to(tmp_path / "elsewhere")
    done = here("init", str(tmp_path))
    assert done.code == 0
    assert (tmp_path / "README.md").read_text() == "mine\n"
    assert (tmp_path / ".gitignore").read_text() == "output/\n"
    assert (tmp_path / "elsewhere").read_text() == "also mine\n"
    assert f"kept   {tmp_path / 'README.md'} (it was there)" in done.err
    assert "add to .gitignore: .env" in done.err
    again = here("init", str(tmp_path))
    assert again.code == 0
    assert "wrote" not in again.err


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    for word in ("x", "x/y"):
        done = here("init", str(tmp_path / word))
        assert done.code == 2
        assert "Traceback" not in done.err


# -- validate


def test_a_usable_file(project: Path) -> None:
    done = here("validate", FILE)
    assert (done.code, done.err) == (0, "")
    assert done.out == "pipelines/small.yaml: ok (2 steps, 1 dataset, 1 model)\n"


def test_all_problems_of_all_files(project: Path) -> None:
    Path("pipelines/one.yaml").write_text("version: 1\nsteps: [{id: a, promt: x}]\n")
    Path("pipelines/two.yaml").write_text("version: 1\nstepps: []\n")
    done = here("validate", "pipelines/one.yaml", FILE, "pipelines/two.yaml")
    assert done.code == 2
    assert "pipelines/one.yaml:2:17" in done.out
    assert "did you mean 'prompt'?" in done.out
    assert "did you mean 'steps'?" in done.out
    assert "pipelines/small.yaml: ok" in done.out
    assert done.out.endswith("3 files, 2 not usable; nothing was sent\n")


@pytest.mark.parametrize("form", ["text", "concise", "json", "github"])
def test_every_format_is_on_stdout_and_sets_the_exit_code(project: Path, form: str) -> None:
    Path("pipelines/one.yaml").write_text("version: 1\nsteps: [{id: a, promt: x}]\n")
    bad, good = here("validate", "--format", form, "pipelines/one.yaml"), here("validate", "--format", form, FILE)
    assert (bad.code, bad.err, good.code, good.err) == (2, "", 0, "")
    assert "C203" in bad.out
    if form == "json":
        assert {problem["code"] for problem in json.loads(bad.out)} >= {"C203"}
        assert json.loads(good.out) == []
    if form == "github":
        assert bad.out.startswith("::error ")
        assert good.out == ""


def test_validating_sends_and_writes_nothing_and_needs_no_key(project: Path) -> None:
    done = here("validate", "-v", FILE, "--set", "models.main={provider: openai, model: gpt-5-mini}")
    assert done.code == 0, done.out
    assert "sends data to https://api.openai.com (the address of provider openai)" in done.out
    assert "key in OPENAI_API_KEY (not set)" in done.out
    assert not Path("output").exists()


def test_the_facts_of_a_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("OPENAI_API_KEY=k-123456789\n")
    Path(FILE).write_text(
        """\
version: 1
datasets: {rows: {path: data/rows.jsonl, key: id}}
models:
  a:
    provider: openai
    model: gpt-5-mini
    params: {max_output_tokens: 500}
    limits: {concurrency: 8, rpm: 500, tpm: 0}
    fallback: [b]
  b: {provider: openai_compatible, model: m, base_url: "http://127.0.0.1:9/v1", params: {max_output_tokens: 500}}
budget: {calls: 20k, wall: 1h}
max_failures: 5%
steps:
  - id: rate
    model: a
    foreach: datasets.rows
    prompt: "{{ item.text }}"
    schema: {score: integer 1..5, tags: "list[string]"}
    max_reasks: 2
    min_success: 98.5%
    timeout: {attempt: 10s, total: 1m}
    retry: {max_retries: 1}
  - id: each
    model: a
    foreach: steps.rate.tags
    prompt: "{{ item }}"
    timeout: {attempt: none, total: none}
  - id: by_score
    model: a
    foreach: {group: steps.rate, by: output.score, size: 50}
    prompt: "{{ item.key }}"
"""
    )
    done = here("validate", "-v", FILE)
    assert done.code == 0, done.out
    for fact in (
        "dataset    rows: jsonl, 1 file, key id",
        "key in OPENAI_API_KEY (set in .env)",
        "concurrency 8, rpm 500, tpm off; falls back to b",
        "sends data to http://127.0.0.1:9 (base_url of the file), no key",
        "step       rate: for each row of rows; a",
        "min_success 98.5%",
        "an item takes at most 6m 0s (1m 0s a call, 1 retry, 2 re-asks, 1 fallback), queueing not counted",
        "schema for a: sent natively",
        "step       each: for each of steps.rate.tags; a",
        "no time bound: neither timeout.attempt nor timeout.total is set",
        "step       by_score: for each group of at most 50 of steps.rate by output.score; a",
        "budget     20,000 calls, 1h 0m",
        "failures   the run stops early above 5%",
    ):
        assert fact in done.out, fact
    assert "k-123456789" not in done.out


# -- runs and show


def ran(*words: str) -> str:
    return str(json.loads(here("run", FILE, "--json", "-q", *words).out)["run_id"])


def test_runs_are_listed_newest_first(project: Path) -> None:
    assert here("runs").out == ""
    assert f"there are no runs in {project / 'output'}" in here("runs").err
    first, second = ran(), ran()
    lines = here("runs").out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", second, first]
    assert lines[1].split()[1] == "small"
    assert here("runs", "small").out == here("runs", FILE).out == here("runs").out
    assert here("runs", "other").out == ""
    listed = json.loads(here("runs", "--json").out)
    assert [(r["run_id"], r["succeeded"], r["status"]) for r in listed] == [
        (second, 6, "complete"),
        (first, 6, "complete"),
    ]
    assert len(here("runs", "--limit", "1").out.splitlines()) == 2


def test_a_run_is_removed_and_nothing_else(project: Path) -> None:
    first, second = ran(), ran()
    done = here("runs", "rm", first)
    assert done.code == 0
    assert not (project / "output/small" / first).exists()
    assert (project / "output/small" / second).is_dir()
    assert (project / "output/page.md").exists()
    missing = here("runs", "rm", "nonesuch")
    assert missing.code == 2
    assert second in missing.err


def test_old_runs_are_collected(project: Path) -> None:
    ids = [ran() for _ in range(4)]
    dry = here("runs", "gc", "--keep", "2", "--dry-run")
    assert sorted(Path(line.split()[-1]).name for line in dry.out.splitlines()) == sorted(ids[:2])
    assert len(list((project / "output/small").glob("*/run.json"))) == 5  # `latest` leads to one of the four
    assert "removed 2 runs" in here("runs", "gc", "--keep", "2").err
    assert "removed 0 runs" in here("runs", "gc", "--older-than", "1h").err
    assert "removed 1 run\n" in here("runs", "gc", "--keep", "0").err
    (left,) = json.loads(here("runs", "--json").out)
    assert left["run_id"] == ids[-1]


def info(run: str, pipeline: str, age_s: float, status: str = "complete") -> RunInfo:
    return RunInfo(
        run, pipeline, 1000.0 - age_s, None, status, 0, 0, 0, 0, 0, 0, Decimal(0), Path(run), {}, True
    )  # fmt: skip


def test_the_newest_and_the_newest_good_run_always_stay() -> None:
    runs = [
        info("a5", "a", 1, "running"), info("a4", "a", 2, "failed"), info("a3", "a", 3), info("a2", "a", 4, "crashed"),
        info("a1", "a", 5), info("b1", "b", 6, "failed"),
    ]  # fmt: skip

    def going(keep: int, before: float = 1000.0) -> list[str]:
        return [r.run_id for r in superfluous(runs, keep=keep, before=before)]

    assert going(0) == going(1) == ["a4", "a2", "a1"]
    assert going(3) == ["a2", "a1"]
    assert going(9) == []
    assert going(0, before=1000.0 - 4.5) == ["a1"]


def test_a_run_on_one_screen(failing: Path) -> None:
    run = ran()
    done = here("show")
    assert done.code == 0
    assert done.out == here("show", run).out == here("show", run[:4], "--pipeline", FILE).out
    assert done.out.startswith(f"run {run} of small: failed, exit code 1\n")
    assert "items      6 items: 0 ok, 5 failed, 1 skipped, $0" in done.out
    assert "failures   5 x P440 the model refused to answer (greet)" in done.out
    assert f"look       llmpipe show {run} greet r0" in done.out
    assert json.loads(here("show", "--json").out)["status"] == "failed"


def test_the_items_of_a_step(project: Path) -> None:
    ran()
    lines = here("show", "last", "greet").out.splitlines()
    assert [line.split()[:2] for line in lines] == [[f"r{n}", "succeeded"] for n in range(5)]
    assert lines[0].endswith("echo: you: text 0")
    cut = here("show", "last", "greet", "--limit", "2")
    assert len(cut.out.splitlines()) == 2
    assert "these are the first 2; --all lists every one" in cut.err
    assert here("show", "last", "greet", "--limit", "5").err == ""
    assert here("show", "last", "greet", "--status", "failed").out == ""
    objects = [json.loads(line) for line in here("show", "last", "greet", "--json", "--all").out.splitlines()]
    assert [o["key"] for o in objects] == [f"r{n}" for n in range(5)]


def test_the_story_of_an_item(failing: Path) -> None:
    ran()
    done = here("show", "last", "greet", "r3")
    for part in (
        "step greet, item r3: failed",
        "P440",
        '"text": "text 3"',
        "asked (user):\n  you: text 3",
        "attempt 1  echo/demo",
        "Refused",
        "evidence   ",
        "explain    llmpipe explain P440",
    ):
        assert part in done.out, part
    told = json.loads(here("show", "last", "greet", "r3", "--json").out)
    assert (told["key"], told["code"], len(told["attempts"])) == ("r3", "P440", 1)


def test_a_step_that_runs_once_needs_no_key(project: Path) -> None:
    ran()
    done = here("show", "last", "page")
    assert "step page, item -: succeeded" in done.out
    assert "5 greeted" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonesuch"], "there is no run 'nonesuch'"),
        (["last", "great"], "no step 'great'; there are: greet, page"),
        (["last", "greet", "r9"], "no item 'r9'"),
        (["last", "--pipeline", "other"], "there are no runs of other"),
    ],
)
def test_what_is_not_there_is_exit_two(project: Path, words: list[str], said: str) -> None:
    ran()
    done = here("show", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_hostile_rows_and_keys_stay_inert(project: Path) -> None:
    row = {"id": "k\x1b[2J\u202e-1", "text": "\x1b]0;owned\x07 \x9b31m {{ vars }}\n\x1b[1Asecond"}
    Path("pipelines/data/rows.jsonl").write_text(json.dumps(row) + "\n")
    ran()
    listed = here("show", "last", "greet")
    stories = [here("show", "last", "greet", str(row["id"])), here("show", "last", "greet", str(row["id"]), "--json")]
    for done in [listed, *stories]:
        assert done.code == 0
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.out + done.err)
    assert "{{ vars }}" in stories[0].out


def test_runs_are_found_from_anywhere_in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ran()
    for folder in ("pipelines", "pipelines/data", "output", "output/small"):
        monkeypatch.chdir(project / folder)
        assert here("show").out.startswith(f"run {run} of small")
    monkeypatch.chdir(project.parent)
    assert here("show").code == 2
    assert here("show", "--output", str(project / "output")).out.startswith(f"run {run} of small")


def test_the_command_that_shows_a_run_works_where_one_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "output" / "small" / "7f3a"
    assert show_command(folder) == "llmpipe show"
    monkeypatch.chdir(project.parent)
    assert show_command(folder) == f"llmpipe show --output {shlex.quote(str(project / 'output'))}"
    assert output_folder("x") == project.parent / "x"


# -- cache


def cached(*words: str) -> Done:
    return here("cache", *words)


def test_the_cache_is_looked_at_and_made_smaller(project: Path) -> None:
    assert json.loads(cached("--json").out)["answers"] == 0
    assert not Path("output").exists()
    ran()
    stats = json.loads(cached("stats", "--json").out)
    assert (stats["answers"], stats["folder"]) == (5, str(project / "output/.cache"))
    assert abs(stats["newest"] - time.time()) < 600
    assert "answers    5" in cached().out
    assert json.loads(cached("prune", "--older-than", "1h", "--json").out)["removed"] == 0
    pruned = json.loads(cached("prune", "--max-size", "1k", "--json").out)
    assert 0 < pruned["removed"] <= 5
    assert pruned["answers"] == 5 - pruned["removed"]
    ran("--refresh")
    assert cached("clear").out.startswith("removed 5 answers\n")
    assert json.loads(cached("--json").out)["answers"] == 0


def test_a_damaged_cache_can_be_cleared(project: Path) -> None:
    here("run", "pipelines/small.yaml", "-q")
    for path in Path("output/.cache").glob("cache.db*"):
        path.write_bytes(b"no database" * 1000)
    done = cached("clear")
    assert (done.code, "set aside as cache-damaged-" in done.err) == (0, True)
    assert not list(Path("output/.cache").glob("cache-damaged-*"))
    assert json.loads(cached("--json").out)["answers"] == 0


def test_a_run_with_a_damaged_cache_says_so_once_and_the_next_one_not(project: Path) -> None:
    here("run", "pipelines/small.yaml", "-q")
    for path in Path("output/.cache").glob("cache.db*"):
        path.write_bytes(b"no database" * 1000)
    first, second = here("run", "pipelines/small.yaml"), here("run", "pipelines/small.yaml")
    assert [done.code for done in (first, second)] == [0, 0]
    assert [done.err.count("was damaged; it was set aside") for done in (first, second)] == [1, 0]
    assert "5 cached" in " ".join(second.err.split())


def test_a_cache_that_cannot_be_read_is_told(project: Path) -> None:
    ran()
    for path in Path("output/.cache").glob("cache.db*"):
        path.write_bytes(b"not a database, " * 100)
    done = cached()
    assert done.code == 1
    assert "error[X930]" in done.err
    assert "Traceback" not in done.err


# -- providers and schema


def test_the_providers_and_whether_their_keys_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k-canary-123")
    (tmp_path / ".env").write_text("GEMINI_API_KEY=k-canary-456\n")
    done = here("providers")
    rows = {row["name"]: row for row in json.loads(here("providers", "--json").out)}
    assert {name: rows[name]["key"] for name in ("anthropic", "gemini", "openai", "ollama", "echo")} == {
        "anthropic": "set", "gemini": "set", "openai": "not set", "ollama": "not needed", "echo": "not needed",
    }  # fmt: skip
    assert re.search(r"^openai +https://api\.openai\.com/v1 +OPENAI_API_KEY +not set", done.out, re.M)
    assert "canary" not in done.out


def test_the_schema_is_printed_byte_by_byte() -> None:
    assert here("schema").out == (REPOSITORY / "schemas/pipeline.schema.json").read_text()


def test_a_short_schema_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text('{category: "enum[bug, idea]", score: integer 1..5, "note?": string}\n')
    schema = json.loads(here("schema", "expand", "short.yaml").out)
    assert schema["properties"]["category"]["enum"] == ["bug", "idea"]
    assert schema["required"] == ["category", "score"]
    reading, writing = os.pipe()
    os.write(writing, Path("short.yaml").read_bytes())
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert json.loads(here("schema", "expand", "-").out) == schema


@pytest.mark.parametrize("text", ["- a\n", "a: nonsense[\n", "", "a: integre\n", "{a: {b: 5}}\n", "\x00"])
def test_a_short_schema_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text(text)
    done = here("schema", "expand", "short.yaml")
    assert (done.code, done.out) == (2, "")
    assert "short.yaml" in done.err
    assert here("schema", "expand", "nowhere.yaml").code == 2


def test_every_problem_of_a_short_schema_is_told_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text("a: integre\nb:\n  c: string /(/\nd: list\n")
    done = here("schema", "expand", "short.yaml")
    assert [place in done.err for place in ("short.yaml:1:4", "short.yaml:3:6", "short.yaml:4:4")] == [True] * 3


def test_what_is_a_json_schema_already_is_printed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text('{a?: "enum[b, 3, null]", c: "list[number 0..1] ..3"}\n')
    once = here("schema", "expand", "short.yaml").out
    Path("long.json").write_text(once)
    assert here("schema", "expand", "long.json").out == once


def test_mistakes_of_the_command_line_and_of_the_file_are_told_at_once(project: Path) -> None:
    small = project / "pipelines/small.yaml"
    small.write_text(
        small.read_text().replace("{who: you,", "{loud: false, must: {type: string, required: true}, who: you,")
    )
    small.write_text(small.read_text().replace("item.text", "item.text }} {{ vars.woh"))
    words = ["--var", "loud=yes", "--var", "tone", "--set", "x", "--vars-file", "none.yaml", "--var", "zz=1"]
    done = here("validate", "--format", "concise", *words, str(small))
    assert done.code == 2
    codes = [line.split(" error ")[1].split()[0] for line in done.out.splitlines()]
    assert sorted(codes) == ["C214", "C220", "C220", "C222", "C224", "Y112"]
    assert "[C222]" in here("run", *words, str(small)).err
