"""`llmpipe run` from the flags to the exit code, on `echo`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmpipe.cli.run import options
from llmpipe.cli.run_flags import FLAGS, parser
from llmpipe.engine.options import RunOptions
from tests.cli.words import here, process

FILE = "pipelines/small.yaml"


def test_a_good_run_is_four_lines_on_stderr(project: Path) -> None:
    done = here("run", FILE)
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"small\.yaml  complete in \d\.\ds +run \w+", lines[0])
    assert lines[1:] == [
        "steps      greet 5 ok, page 1 ok",
        "calls      5 to echo: no model was called, nothing was paid",
        "output     output/page.md",
    ]
    assert (project / "output" / "page.md").read_text() == "5 greeted\n"


def test_a_good_run_from_cron_is_silent(project: Path) -> None:
    done = here("run", FILE, "--quiet", "--resume", "auto", "--lock", "skip")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_is_one_object_on_stdout(project: Path) -> None:
    done = here("run", FILE, "--json", "--quiet")
    report = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert report["status"] == "complete"
    assert report["exit_code"] == 0
    assert report["no_model_called"] is True
    assert [(s["id"], s["items"], s["succeeded"]) for s in report["steps"]] == [("greet", 5, 5), ("page", 1, 1)]
    assert report["published"] == [str(project / "output" / "page.md")]
    assert Path(report["folder"]).is_dir()


def test_a_failed_run_names_causes_and_what_to_do(failing: Path) -> None:
    done = here("run", FILE)
    assert (done.code, done.out) == (1, "")
    run = re.search(r"run (\w+)$", done.err.splitlines()[0], re.M)
    assert run
    assert "failures   5 x P440 the model refused to answer (greet)" in done.err
    assert f"look       llmpipe show {run[1]} greet r0" in done.err
    assert f"next       llmpipe run pipelines/small.yaml --retry-failed {run[1]}" in done.err
    shown = here("show", run[1], "greet", "r0")
    assert shown.code == 0
    assert "failed" in shown.out.splitlines()[0]


def test_a_failed_run_from_cron_is_a_short_mail(failing: Path) -> None:
    here("run", FILE, "-q")
    done = here("run", FILE, "-q")
    lines = done.err.splitlines()
    assert (done.code, done.out) == (1, "")
    assert 5 < len(lines) <= 30
    assert "\x1b" not in done.err
    for label in ("run", "reason", "items", "failures", "previous", "files", "continue"):
        assert any(line.startswith(f"{label} ") for line in lines), label


def test_the_command_that_goes_on_repeats_what_makes_the_pipeline_what_it_is(failing: Path) -> None:
    done = here("run", FILE, "--var", "who=all of you", "--set", "steps.greet.max_prompt=1M", "--output", "elsewhere")
    (line,) = [line for line in done.err.splitlines() if line.startswith("next")]
    assert line.endswith("--var 'who=all of you' --set steps.greet.max_prompt=1M --output elsewhere")
    (look,) = [line for line in done.err.splitlines() if line.startswith("look")]
    again = here(*shlex.split(look)[2:])
    assert again.code == 0
    assert "r0" in again.out


def test_values_of_the_command_line_reach_the_prompts(project: Path) -> None:
    (project / "who.txt").write_text("all\n")
    (project / "vars.yaml").write_text("who: nobody\ntone: warm\n")
    done = here("run", FILE, "--json", "-q", "--vars-file", "vars.yaml", "--var", "who=@who.txt")
    folder = Path(json.loads(done.out)["folder"])
    first = json.loads((folder / "steps" / "greet.jsonl").read_text().splitlines()[0])
    assert first["output"] == "echo: all: text 0"


def test_limit_runs_some_rows_and_publishes_nothing(project: Path) -> None:
    report = json.loads(here("run", FILE, "--json", "-q", "--limit", "2").out)
    assert report["steps"][0]["items"] == 2
    assert report["published"] == []
    assert not (project / "output" / "page.md").exists()


def test_a_broken_file_is_exit_two_and_all_problems(project: Path) -> None:
    (project / FILE).write_text(f"{(project / FILE).read_text()}temprature: 1\nstepps: []\n")
    done = here("run", FILE, "--json")
    assert done.code == 2
    assert done.err.count("error[C203]") == 2
    assert "nothing was sent" in done.err
    refusal = json.loads(done.out)
    assert (refusal["status"], refusal["exit_code"]) == ("refused", 2)
    assert len(refusal["problems"]) == 2
    assert not (project / "output").exists()


def test_an_undeclared_var_is_exit_two(project: Path) -> None:
    done = here("run", FILE, "--var", "whom=x")
    assert done.code == 2
    assert "whom" in done.err
    assert "'who'" in done.err


def test_a_missing_key_is_exit_four_before_anything_is_sent(project: Path) -> None:
    done = here("run", FILE, "--set", "models.main={provider: openai, model: gpt-5-mini}")
    assert (done.code, done.out) == (4, "")
    assert "error[P401]" in done.err
    assert "OPENAI_API_KEY" in done.err
    assert "echo" in done.err


def test_a_row_that_cannot_be_read_is_told_with_its_place(project: Path) -> None:
    (project / "pipelines/data/rows.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", torn\n')
    done = here("run", FILE)
    assert done.code in (1, 2)
    assert "rows.jsonl:2" in done.err or "rows.jsonl" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("flag", "code"), [(["--lock", "fail"], 75), (["--lock", "skip"], 0), (["--lock", "wait:300ms"], 75), ([], 75)]
)
def test_another_run_at_work(project: Path, flag: list[str], code: int) -> None:
    here("run", FILE)
    with (project / "output" / "small" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        done = here("run", FILE, "--json", *flag)
        assert done.code == code
        assert "wait:300ms" not in flag or time.monotonic() - began >= 0.3
        told = json.loads(done.out)
        assert told["exit_code"] == code
        assert "at work" in told["reason"]
        assert "at work" in done.err
        quiet = here("run", FILE, "-q", *flag)
        assert (quiet.err == "") == (code == 0)


def test_resume_without_a_run_takes_the_pipeline_that_follows(project: Path) -> None:
    here("run", FILE)
    assert here("run", "--resume", FILE).code == here("run", FILE, "--resume").code
    assert "there is no file" not in here("run", "--resume", FILE).err


def given(words: list[str]) -> RunOptions:
    return options(parser().read(["x.yaml", *words]), "llmpipe run x.yaml")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--var", "a=b", "--var", "c=d=e"], "vars", {"a": "b", "c": "d=e"}),
        (["--limit", "1_000"], "limit", 1000),
        (["--key", "T-1"], "key", "T-1"),
        (["--only", "label"], "only", "label"),
        (["--from", "label"], "from_step", "label"),
        (["--base", "7f3a"], "base", "7f3a"),
        (["--resume"], "resume", "last"),
        (["--resume", "auto"], "resume", "auto"),
        (["--accept-changes"], "accept_changes", True),
        (["--retry-failed"], "retry_failed", "last"),
        (["--retry-failed", "7f3a"], "retry_failed", "7f3a"),
        (["--no-cache"], "cache", "off"),
        (["--refresh"], "cache", "refresh"),
        (["--offline"], "offline", True),
        (["--max-cost", "0.10"], "max_cost", Decimal("0.10")),
        (["--concurrency", "7"], "concurrency", 7),
        (["--output", "out"], "output_dir", Path.cwd() / "out"),
        (["--lock", "skip"], "lock", "skip"),
        (["--lock", "wait:10m"], "lock", 600.0),
        (["--allow-python"], "allow_python", True),
        (["--allow-read", "a", "--allow-read", "b"], "allow_read", (Path.cwd() / "a", Path.cwd() / "b")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_flag_is_one_option_of_the_engine(words: list[str], field: str, value: Any) -> None:
    made, plain = given(words), given([])
    expected = value if field != "output_dir" and field != "allow_read" else getattr(made, field)
    assert getattr(made, field) == expected
    if field in ("output_dir", "allow_read"):
        names = [made.output_dir] if field == "output_dir" else list(made.allow_read)
        assert [p and (p.is_absolute(), p.name) for p in names] == [
            (True, word) for word in words if not word.startswith("--")
        ]
    changed = {name for name in RunOptions.__slots__ if getattr(made, name) != getattr(plain, name)}
    assert changed == {field}


def test_every_option_of_the_engine_can_be_given() -> None:
    reached = {"vars", "command"}
    for flag in FLAGS:
        dest = flag.options.get("dest", flag.names[-1].lstrip("-").replace("-", "_"))
        reached |= {{"no_cache": "cache", "refresh": "cache", "output": "output_dir"}.get(dest, dest)}
    assert set(RunOptions.__slots__) <= reached


def test_a_key_on_the_command_line_is_not_written_down(project: Path) -> None:
    key = "k-" + "canary" * 5
    done = process("run", FILE, "--var", f"who={key}", "--set",
                   "models.other={provider: openai, model: x}", env={"OPENAI_API_KEY": key})  # fmt: skip
    assert done.code == 0, done.err
    record = next((project / "output" / "small").glob("*/run.json")).read_text()
    assert json.loads(record)
    assert key not in record


def on_a_terminal(*words: str, env: dict[str, str]) -> str:
    """What a terminal of 80 columns is sent by a command."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "llmpipe", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**{k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "FORCE_COLOR")}, **env},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert child.wait(30) == 0
    return seen.decode()


def test_a_terminal_is_redrawn_in_place_and_left_tidy(project: Path) -> None:
    slow = ["--set", "models.main.params={latency: 700ms}", "--concurrency", "2"]
    text = on_a_terminal("run", FILE, *slow, env={"TERM": "xterm"})
    assert re.search(r"\r\x1b\[\d+A", text)
    assert "in flight 2" in text
    assert "\x1b[?25l" not in text
    last = text[text.rindex("\x1b[J") :]
    assert len(re.sub(r"\x1b\[\d*[a-zA-Z]", "", last).strip().splitlines()) == 4
    assert "\x1b[32mcomplete\x1b[0m" in last


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "xterm", "CI": "true", "NO_COLOR": "1"}])
def test_no_cursor_codes_where_they_would_not_be_understood(project: Path, env: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal("run", FILE, env=env)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_report_that_cannot_be_printed_is_an_error(project: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = process("run", FILE, "--json", stdout=full)
    assert done.code == 1
    assert "No space left on device" in done.err


def test_a_report_whose_reader_went_away_keeps_the_runs_verdict(failing: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = process("run", FILE, "--json", stdout=writing)
    finally:
        os.close(writing)
    assert done.code == 1
    assert "Traceback" not in done.err


def test_closed_streams_do_not_change_the_verdict(project: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m llmpipe run {FILE} <&- >&- 2>&-"], check=False
    )
    assert done.returncode == 0
    assert (project / "output" / "page.md").read_text() == "5 greeted\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(project: Path, number: signal.Signals, code: int) -> None:
    slow = ["--set", "models.main.params={latency: 2s}", "--concurrency", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "llmpipe", "run", FILE, *slow], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    assert any("greet 1/5" in line for line in child.stderr)  # eight of the ten seconds that it takes are left
    child.send_signal(number)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (code, "")
    assert "small.yaml  interrupted after" in err
    assert "unsent" in err
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("next ")]
    assert " --resume " in line
    assert "--set 'models.main.params={latency: 2s}'" in line


def test_the_command_that_goes_on_can_be_pasted(failing: Path) -> None:
    (failing / FILE).rename(failing / "pipelines" / "my rows.yaml")
    done = here("run", "pipelines/my rows.yaml")
    assert "llmpipe run 'pipelines/my rows.yaml' --retry-failed" in done.err
    (evidence, *_rest) = (failing / "output" / "small" / "latest" / "failures").rglob("*.json")
    assert "run 'pipelines/my rows.yaml' --retry-failed" in json.loads(evidence.read_text())["payload"]["reproduce"]


def test_every_missing_key_has_a_line_of_its_own(project: Path) -> None:
    models = "main: {provider: openai, model: gpt, fallback: [other]}\n  other: {provider: anthropic, model: claude}"
    text = (project / FILE).read_text()
    (project / FILE).write_text(text.replace("main: {provider: echo, model: demo}", models))
    done = here("run", FILE)
    assert done.code == 4
    assert done.err.splitlines() == [
        "error[P401]: model 'main' needs an API key, and OPENAI_API_KEY is not set",
        "error[P401]: model 'other' needs an API key, and ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN is not set",
        "  Set it in the environment or in the project's .env, or use `provider: echo` to try without a model.",
    ]


def test_a_key_that_no_row_has_is_refused_before_anything_is_sent(project: Path) -> None:
    done = here("run", FILE, "--key", "r33")
    assert done.code == 2
    assert "error[X912]: no row has the key 'r33': did you mean 'r3'?" in done.err
    assert not list((project / "output").glob("small/*/run.json"))
    assert here("run", FILE, "--key", "r3").code == 0


def test_a_step_that_is_not_there_is_refused_before_anything_is_sent(project: Path) -> None:
    done = here("run", FILE, "--only", "gret")
    assert (done.code, "X912" in done.err, "greet" in done.err) == (2, True, True)


@pytest.mark.parametrize(("key", "code"), [("zz", 2), ("b", 0)])
def test_a_key_that_no_piped_row_has_is_refused_too(
    key: str, code: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (project / FILE).read_text().replace("data/rows.jsonl, key: id", '"-", format: lines, key: text')
    (project / FILE).write_text(text)
    (project / "piped").write_text("a\nb\n")
    with (project / "piped").open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        done = here("run", FILE, "--key", key)
    assert done.code == code, done.err
    assert ("error[X912]: no row has the key 'zz'" in done.err) == (code == 2)
    assert len(list((project / "output").glob("small/*/stdin"))) == (2 if code == 0 else 0)  # the run, and latest


@pytest.mark.parametrize("flags", [(), ("--quiet",), ("--json",)])
def test_a_torn_row_that_is_found_in_time_is_told_as_an_error_of_the_data_file(
    flags: tuple[str, ...], project: Path
) -> None:
    rows = "".join(json.dumps({"id": f"r{n}", "text": "x"}) + "\n" for n in range(60_000))
    data = project / "pipelines/data/rows.jsonl"
    data.write_text(f'{rows}{{"id": "torn\x1b[2J", "text": "{"y" * 300}\n')
    done = here("run", FILE, *flags)
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[0].startswith("error[D302]: not JSON at column 13: invalid control character")
    assert "--> pipelines/data/rows.jsonl:60001:13" in (line.strip() for line in lines)
    assert any(line.startswith("60001  | ") and '"torn?[2J"' in line for line in lines)
    assert " = mend or remove the row, then run again\n" in done.err
    assert lines[-1] == "1 error in pipelines/data/rows.jsonl; nothing was sent"
    assert len(lines) < 14
    assert max(map(len, lines)) <= 80
    assert "items" not in done.err
    if "--json" in flags:
        assert json.loads(done.out)["problem"]["code"] == "D302"


def test_a_dataset_without_rows_is_told(project: Path) -> None:
    (project / "pipelines/data/rows.jsonl").write_text("\n")
    done = here("run", FILE)
    assert done.code == 0
    assert "note       dataset rows has no rows" in done.err.splitlines()
    quiet = here("run", FILE, "--quiet")
    assert quiet.code == 0
    assert re.fullmatch(r"small\.yaml run \w+: dataset rows has no rows\n", quiet.err)


@pytest.mark.parametrize("text", ["", "\n\n", "id,text\n", "id,text\n\n"])
def test_a_table_without_rows_is_told_whether_it_has_a_header_or_not(text: str, project: Path) -> None:
    (project / FILE).write_text((project / FILE).read_text().replace("rows.jsonl", "rows.csv"))
    (project / "pipelines/data/rows.csv").write_text(text)
    done = here("run", FILE, "--quiet")
    assert (done.code, "dataset rows has no rows" in done.err) == (0, True)
