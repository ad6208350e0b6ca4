"""Names of files in any bytes: every command works with them or says in one message why not; nothing waits for ever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PIPELINE
from tests.cli.test_folders import by_the_modes
from tests.cli.words import Done, here, process

BYTE = "\udcff"  # how Python reads 0xff in a name
FILE = "pipelines/small.yaml"
GLOB = PIPELINE.replace("data/rows.jsonl", '"data/r*.jsonl"')


def fine(done: Done, code: int = 0) -> Done:
    """The command ended as it should and told nothing of its insides."""
    assert done.code == code, done.err
    assert not any(noise in done.out + done.err for noise in ("Traceback", "X901", "UnicodeEncodeError"))
    return done


@pytest.fixture
def odd(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder, over a file, whose names are not UTF-8."""
    root = project.with_name(f"project{BYTE}")
    shutil.move(str(project), str(root))
    monkeypatch.chdir(root)
    (root / FILE).write_text(GLOB)
    (root / "pipelines/data/rows.jsonl").rename(root / f"pipelines/data/rows{BYTE}.jsonl")
    return root


def test_a_project_and_its_data_may_have_names_that_are_not_utf8(odd: Path) -> None:
    fine(here("validate", FILE))
    assert "pipelines/data/rows\\xff.jsonl" in fine(here("plan", FILE)).out
    document = json.loads(fine(here("run", FILE, "--json")).out)
    assert (document["folder"], document["status"]) == (str(odd / "output/small" / document["run_id"]), "complete")
    assert json.loads((odd / "output/small/latest/run.json").read_text(encoding="utf-8"))["status"] == "complete"
    assert (odd / "output/page.md").read_text() == "5 greeted\n"
    for line in (odd / "output/small/latest/log.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)
    assert "\\xff/output/small/" in fine(here("show", "last")).out
    assert json.loads(fine(here("runs", "--json")).out)[0]["folder"] == document["folder"]
    assert "text 3" in fine(here("show", "last", "greet", "r3")).out
    fine(here("show", "last", "--json"))
    fine(here("cache", "stats"))
    fine(here("run", FILE, "--resume", "auto"))
    fine(here("runs", "rm", "last"))


def test_every_path_of_the_command_line_may_be_of_other_bytes(project: Path) -> None:
    (project / f"values{BYTE}.yaml").write_text("who: all\n")
    (project / f"pipelines/other{BYTE}.yaml").write_text(PIPELINE.replace("name: small", "name: other"))
    flags = ("--vars-file", f"values{BYTE}.yaml", "--var", f"tone=@values{BYTE}.yaml", "--output", f"out{BYTE}")
    fine(here("run", f"pipelines/other{BYTE}.yaml", *flags))
    command = json.loads((project / f"out{BYTE}/other/latest/run.json").read_text())["command"]
    done = subprocess.run(
        ["bash", "-c", f'llmpipe() {{ printf "%s\\0" "$@"; }}; {command}'], capture_output=True, check=True
    )
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == [
        "run", f"pipelines/other{BYTE}.yaml", *flags,
    ]  # fmt: skip
    fine(here("show", "last", "greet", "r1", "--output", f"out{BYTE}"))
    fine(here("init", f"new{BYTE}"))
    fine(here("run", f"new{BYTE}/pipelines/hello.yaml"))


def test_a_command_that_is_printed_runs_as_it_is_printed(failing: Path) -> None:
    name = f"pipelines/it's {BYTE}\n.yaml"
    (failing / FILE).rename(failing / name)
    printed = json.loads(fine(here("run", name, "--json"), 1).out)["next_command"]
    assert printed.isprintable()
    shell = f'llmpipe() {{ "{sys.executable}" -m llmpipe "$@"; }}; {printed} --quiet'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    assert (done.returncode, b"5 failed" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", FILE, "--var", f"who={BYTE}"), r"error[C220]: --var who=\xff is not UTF-8"),
        (("run", FILE, "--set", f"vars.who={BYTE}"), r"error[C224]: --set vars.who=\xff is not UTF-8"),
        (("run", FILE, "--key", BYTE), "no row has the key"),
        (("run", FILE, "--only", BYTE), r"there is no step '\xff'"),
        (("run", FILE, "--resume", BYTE), "error[X910]"),
        (("run", f"{BYTE}.yaml"), r"there is no file \xff.yaml"),
        (("run", f"pipelines/{BYTE}.yaml"), r"error[C226]: '\xff' cannot be the name of a pipeline"),
        (("show", BYTE), "error[X910]"),
        ((BYTE,), "unknown command"),
        (("run", "x" * 300), "cannot be read: File name too long"),
        (("validate", f"{'x/' * 3000}y.yaml"), "cannot be read: File name too long"),
        (("show", "last", "--output", "x" * 300), "File name too long"),
        (("cache", "stats", "--output", "x" * 300), "File name too long"),
        (("init", "x" * 300), "File name too long"),
        (("run", FILE, "--output", "x" * 300), "File name too long"),
        (("run", FILE, "--vars-file", "x" * 300), "File name too long"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_message(words: tuple[str, ...], said: str, project: Path) -> None:
    (project / f"pipelines/{BYTE}.yaml").write_text(PIPELINE.replace("name: small\n", ""))
    done = fine(here(*words), 2)
    assert said in " ".join(done.err.split())


def test_texts_of_a_file_whose_name_is_no_text_are_refused(project: Path) -> None:
    (project / FILE).write_text(GLOB.replace("key: id", "format: files").replace("text }}", "name }}"))
    (project / "pipelines/data/rows.jsonl").rename(project / f"pipelines/data/r{BYTE}.jsonl")
    assert r"data/r\xff.jsonl" in fine(here("run", FILE), 2).err


@pytest.mark.parametrize(
    "name", ["emoji 🦊", "two\nlines", "\x1b[31m", "-", "[x]", "*", "~home", "'\"$(x)`", "x" * 200]
)
def test_a_data_file_may_have_any_name_of_text(name: str, project: Path) -> None:
    (project / "pipelines/data/rows.jsonl").rename(project / f"pipelines/{name}.jsonl")
    path = json.dumps(f"./{name}.jsonl", ensure_ascii=False)
    (project / FILE).write_text(PIPELINE.replace("data/rows.jsonl", path))
    for words in (("validate", FILE), ("plan", FILE), ("run", FILE)):
        assert "\x1b" not in fine(here(*words)).err


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is no regular file"),
        (Path.mkdir, "is a folder, not a file"),
        (lambda path: path.symlink_to("nowhere"), "is a symbolic link that leads nowhere"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "lies outside of the project"),
    ],
)
@pytest.mark.parametrize("what", ["data", "schema", "reference", "prompt"])
def test_what_is_no_file_is_refused_and_nothing_waits_for_it(what: str, make: object, said: str, project: Path) -> None:
    names = {"data": "data/rows.jsonl", "schema": "s.json", "reference": "r.json", "prompt": "p.md"}
    path = project / "pipelines" / names[what]
    path.unlink(missing_ok=True)
    make(path)  # type: ignore[operator]
    text = {
        "schema": PIPELINE.replace('item.text }}"', 'item.text }}"\n    schema: s.json'),
        "reference": PIPELINE.replace('item.text }}"', 'item.text }}"\n    schema: {properties: {a: {$ref: r.json}}}'),
        "prompt": PIPELINE.replace('prompt: "{{ vars.who }}: {{ item.text }}"', "prompt_file: p.md"),
    }.get(what, PIPELINE)
    (project / FILE).write_text(text)
    for words in (("validate", FILE), ("plan", FILE), ("run", FILE)):
        done = process(*words, cwd=project)
        message = " ".join((done.out + done.err).split())
        assert done.code == 2
        assert said in message or what == "reference", message
        assert "X901" not in message


# -- locales -----------------------------------------------------------------------------------------------------------

UMLAUTS = """\
version: 1
name: p
datasets: {d: {path: daten-ä.csv, key: größe}}
models: {m: {provider: echo}}
steps:
  - {id: r, foreach: datasets.d, model: m, prompt: "{{ item['größe'] }} → {{ item['maß'] }}"}
outputs: [{from: steps.r, path: output/größe.csv, columns: {"Größe": "item['größe']", "Maß": output}}]
"""
LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "posix": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "latin-1": {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
    "plain C": {"LC_ALL": "C"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_every_command_works_in_every_locale(locale: str, tmp_path: Path) -> None:
    root = tmp_path / "Größe"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines/maß.yaml").write_text(UMLAUTS, encoding="utf-8")
    (root / "pipelines/daten-ä.csv").write_text("größe,maß\nä,1\n日本,2\n", encoding="utf-8")

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "llmpipe", *words]
        done = subprocess.run(
            command, cwd=root, env=LOCALES[locale], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
        told = done.stdout + done.stderr
        assert done.returncode == code, (words, told)
        assert b"X901" not in told
        assert b"Traceback" not in told
        if locale in ("ascii", "posix"):
            assert told.isascii()
        return done

    for words in ("validate pipelines/maß.yaml", "plan pipelines/maß.yaml", "run pipelines/maß.yaml"):
        run(*words.split())
    assert (root / "output/größe.csv").read_text(encoding="utf-8").splitlines()[0] == "Größe,Maß"
    for words in ("runs", "show last", "show last r", "show last r ä", "cache stats", "providers", "explain P431"):
        run(*words.split())
    story = json.loads(run("show", "last", "r", "日本", "--json").stdout.decode("utf-8"))
    assert (story["item"], story["messages"][0]["content"]) == ({"größe": "日本", "maß": "2"}, "日本 → 2")
    assert json.loads(run("run", "pipelines/maß.yaml", "--json").stdout)["pipeline_path"].endswith("maß.yaml")
    assert json.loads(run("show", "last", "r", "--json").stdout.splitlines()[0])["key"] == "ä"
    found = run("validate", "pipelines/maß.yaml", "--format", "json", "--var", "ü=1", code=2)
    assert "'ü'" in json.loads(found.stdout)[0]["message"]
    run("run", "pipelines/maß.yaml", "--output", "aus-ü", "--quiet")
    assert (root / "aus-ü/p/latest").is_dir()
    run("run", "pipelines/fehlt-ß.yaml", code=2)
    run("init", "neu-ü")


ODD_TEXTS = [
    "\r",
    "a\r\nb",
    "\0",
    "\x1b[31m",
    "\u2028",
    "\x85",
    "\ufeffx",
    " a ",
    "\u202ea",
    "🦊\u200d",
    '"',
    "\\",
    "é",
]


def test_json_and_result_files_give_back_every_text(project: Path) -> None:
    rows = [{"id": text, "text": text} for text in ODD_TEXTS]
    rows = [row for row in rows if row["id"].strip()]
    (project / "pipelines/data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / FILE).write_text(PIPELINE.replace('prompt: "{{ vars.who }}: ', 'render: "'))
    fine(here("run", FILE))
    texts = [row["text"] for row in rows]
    lines = (project / "output/small/latest/steps/greet.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"key": text, "output": text} for text in texts]
    shown = [json.loads(line) for line in fine(here("show", "last", "greet", "--all", "--json")).out.splitlines()]
    assert [(row["key"], row["output"]) for row in shown] == list(zip(texts, texts, strict=True))
    for text in texts:
        if "\0" not in text:  # no command line can hold it
            told = json.loads(fine(here("show", "last", "greet", text, "--json")).out)
            assert (told["key"], told["item"], told["output"]) == (text, {"id": text, "text": text}, text)


@pytest.mark.parametrize("path", ["locked/rows.jsonl", "locked/*.jsonl", "shut.jsonl"])
def test_data_that_may_not_be_read_is_one_message(path: str, project: Path) -> None:
    locked = project / "pipelines/locked"
    locked.mkdir()
    for file in (locked / "rows.jsonl", project / "pipelines/shut.jsonl"):
        shutil.copy(project / "pipelines/data/rows.jsonl", file)
    (project / "pipelines/shut.jsonl").chmod(0)
    locked.chmod(0)
    (project / FILE).write_text(PIPELINE.replace("data/rows.jsonl", path))
    try:
        with by_the_modes():
            for words in (("validate", FILE), ("plan", FILE), ("run", FILE)):
                done = fine(here(*words), 2)
                assert "D301" in done.out + done.err
    finally:
        locked.chmod(0o755)
