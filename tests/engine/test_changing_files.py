"""Data files that change while a run reads them: what the next run does is right, whatever became of the first."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpipe.engine.results import RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project
from tests.engine.test_resume import start

COUNT = 340  # of about 6 KB: more than is read before the first response comes
PAD = "x" * 6000

ONE = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 16}}}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: "{path}"{more}}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "{{{{ item.id }}}} {{{{ item.v }}}}"}}
"""


def rows(word: str, count: int = COUNT, first: int = 0) -> list[dict[str, str]]:
    return [{"id": f"r{n:04}", "v": word, "pad": PAD} for n in range(first, first + count)]


def jsonl(data: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in data).encode()


def as_csv(data: list[dict[str, str]]) -> bytes:
    return "".join(f"{','.join(line)}\n" for line in [("id", "v", "pad"), *(row.values() for row in data)]).encode()


def packed(data: list[dict[str, str]]) -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0, compresslevel=0) as file:
        file.write(jsonl(data))
    return made.getvalue()


FORMATS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "d.jsonl": jsonl,
    "d.csv": as_csv,
    "d.json": lambda data: json.dumps(data).encode(),
    "d.jsonl.gz": packed,
}


def replace(path: Path, new: bytes) -> None:
    draft = path.with_name("draft")
    draft.write_bytes(new)
    draft.replace(path)


def rotate(path: Path, new: bytes) -> None:
    path.rename(path.with_name("rotated"))
    path.write_bytes(new)


def delete(path: Path, new: bytes) -> None:
    path.unlink()


def overwrite(path: Path, new: bytes) -> None:
    with path.open("r+b") as file:
        file.write(new)
        file.truncate()


def overwrite_and_keep_the_time(path: Path, new: bytes) -> None:
    before = path.stat()
    overwrite(path, new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def empty(path: Path, new: bytes) -> None:
    os.truncate(path, 0)


def halve(path: Path, new: bytes) -> None:
    os.truncate(path, path.stat().st_size // 2)


def changing(project: Project, change: Callable[[], None], *, at: int = 5) -> Callable[[str], Any]:
    """A server's answer that calls `change` with the fifth request."""
    seen = iter(range(10**9))

    def reply(prompt: str) -> Any:
        if next(seen) == at:
            change()
        return f"re: {prompt}"

    return reply


def answers(project: Project, report: RunReport) -> dict[str, str]:
    return {line["key"]: line["output"] for line in project.results(report, "one")}


def expected(data: list[dict[str, str]]) -> dict[str, str]:
    return {row["id"]: f"re: {row['id']} {row['v']}" for row in data}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("change", [replace, rotate, delete, overwrite, overwrite_and_keep_the_time, empty, halve])
def test_the_next_run_has_the_rows_of_the_file_as_it_is_then(
    project: Project, change: Callable[[Path, bytes], None], name: str
) -> None:
    old, new = rows("old"), [*rows("new", 50), *rows("old", 200, 50), *rows("new", 7, COUNT)]
    path = project.root / "pipelines" / name
    path.write_bytes(FORMATS[name](old))
    with Answers() as server:
        server.reply = changing(project, lambda: change(path, FORMATS[name](new)))
        first = project.run(ONE.format(url=server.url, path=name, more=", key: id"))
        assert first.exit_code in (0, 1), first.reason
        if first.exit_code == 0:
            assert change in (replace, rotate, delete), "a file of which no version was read as a whole"
            assert answers(project, first) == expected(old)
        path.write_bytes(FORMATS[name](new))
        asked = server.total
        second = project.run(resume="auto")
    assert (second.exit_code, answers(project, second)) == (0, expected(new)), second.reason
    assert server.total - asked <= len(new)
    if first.exit_code == 0:
        assert server.total - asked == 57, "what has not changed is not asked again"


HOW: list[dict[str, Any]] = [{"resume": "auto"}, {"resume": "last"}, {"retry_failed": "last"}, {"from_step": "one"}]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_every_way_to_go_on_sees_what_was_replaced(project: Project, how: dict[str, Any]) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    path.write_bytes(jsonl(rows("old")))
    new = rows("new", COUNT - 10, 10)
    with Answers() as server:
        server.reply = changing(project, lambda: replace(path, jsonl(new)))
        first = project.run(ONE.format(url=server.url, path="d.jsonl", more=", key: id"))
        assert first.exit_code == 0
        second = project.run(**how)
    assert (second.exit_code, answers(project, second)) == (0, expected(new)), second.reason


def test_a_plan_sees_what_was_replaced(project: Project) -> None:
    from tests.engine.foreseen import foresee_and_run

    path = project.root / "pipelines" / "d.jsonl"
    path.write_bytes(jsonl(rows("old")))
    with Answers() as server:
        server.reply = changing(project, lambda: replace(path, jsonl(rows("new", 10))))
        text = ONE.format(url=server.url, path="d.jsonl", more=", key: id")
        project.run(text)
        asked = server.total
        foresee_and_run(project, text, resume="auto")
        assert server.total - asked == 10


LINES = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 16}}}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: d.txt, format: lines}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "{{{{ item.text[:12] }}}}"}}
"""


@pytest.mark.parametrize("more", [1, 40])
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_file_that_grows_while_it_is_read_costs_only_its_new_rows(project: Project, more: int, end: str) -> None:
    """Without a newline at its end, the last line may have been a part of one."""
    path = project.root / "pipelines" / "d.txt"
    lines = [f"line {n:04} {PAD}" for n in range(COUNT)]
    path.write_text("\n".join(lines) + end)

    def grow() -> None:
        with path.open("a") as file:
            file.write("".join(f" more {n:04} {PAD}\n" for n in range(more)))

    with Answers() as server:
        server.reply = changing(project, grow)
        first = project.run(LINES.format(url=server.url))
        assert first.exit_code == 0, first.reason
        asked = server.total
        second = project.run(resume="auto")
        found = [line["key"] for line in project.results(second, "one")]
        assert second.exit_code == 0
        assert len(found) == COUNT + more - (not end)
        assert server.total - asked + len(project.results(first, "one")) in (len(found), len(found) + (not end))


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_row_is_taken_as_complete_only_with_its_line_end(project: Project, end: str) -> None:
    path = project.root / "pipelines" / "d.txt"
    path.write_text("one\ntwo" + end)
    with Answers() as server:
        project.run(LINES.format(url=server.url))
        path.write_text("one\ntwo" + end + "s and threes\n")
        report = project.run(resume="auto")
    assert [line["output"] for line in project.results(report, "one")] == (
        ["re: one", "re: two", "re: s and threes"] if end else ["re: one", "re: twos and thr"]
    )
    assert server.total == 3


def test_the_rest_of_a_line_that_is_being_written_is_no_row(project: Project) -> None:
    """The end of a file, once seen, is the end of this reading, though the file has grown since."""
    from llmpipe.config.rows_source import Source

    path = project.root / "d.txt"
    path.write_bytes(b"one\ntw")
    with path.open("rb", 0) as file, io.BufferedReader(Source(file)) as source:
        assert source.readlines() == [b"one\n", b"tw"]
        with path.open("ab") as more:
            more.write(b"o\nthree\n")
        assert source.readlines() == []


MANY = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 4}}}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: "data/*.jsonl", key: id}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "{{{{ item.id }}}} {{{{ item.v }}}}"}}
"""


@pytest.mark.parametrize("what", ["added", "removed", "replaced", "swapped"])
def test_files_of_a_pattern_that_come_and_go(project: Project, what: str) -> None:
    parts = {f"{n}.jsonl": rows("old", 40, 40 * n) for n in range(12)}
    for name, data in parts.items():
        project.write(f"data/{name}", "")
        (project.root / "pipelines" / "data" / name).write_bytes(jsonl(data))
    folder = project.root / "pipelines" / "data"

    def change() -> None:
        if what == "added":
            parts["99.jsonl"] = rows("old", 5, 9000)
            (folder / "99.jsonl").write_bytes(jsonl(parts["99.jsonl"]))
        elif what == "removed":
            del parts["9.jsonl"]
            (folder / "9.jsonl").unlink()
        elif what == "replaced":
            parts["0.jsonl"] = rows("new", 40)
            replace(folder / "0.jsonl", jsonl(parts["0.jsonl"]))
        else:
            parts["0.jsonl"], parts["1.jsonl"] = parts["1.jsonl"], parts["0.jsonl"]
            for name in ("0.jsonl", "1.jsonl"):
                replace(folder / name, jsonl(parts[name]))

    with Answers() as server:
        server.reply = changing(project, change)
        first = project.run(MANY.format(url=server.url))
        assert first.exit_code in (0, 1), first.reason
        second = project.run(resume="auto")
    assert second.exit_code == 0
    assert answers(project, second) == expected([row for name in sorted(parts) for row in parts[name]])
    assert [line["key"] for line in project.results(second, "one")] == [
        row["id"] for name in sorted(parts) for row in parts[name]
    ]


TWICE = """\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{url}", model: demo, limits: {{concurrency: 4}}}}
defaults: {{model: m, cache: off}}
datasets: {{d: {{path: d.jsonl, key: id}}, e: {{path: d.jsonl, key: v}}}}
steps:
  - {{id: one, foreach: datasets.d, prompt: "{{{{ item.id }}}} {{{{ item.v }}}}"}}
  - {{id: two, foreach: datasets.e, needs: [one], render: "{{{{ item.id }}}} {{{{ item.v }}}}"}}
"""


def test_two_datasets_that_read_different_versions_of_a_file_are_told_apart(project: Project) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    data = [{"id": f"r{n}", "v": f"old{n}"} for n in range(20)]
    path.write_bytes(jsonl(data))
    with Answers() as server:
        new = [*data[:-1], {"id": "r19", "v": "new"}]
        server.reply = changing(project, lambda: replace(path, jsonl(new)))
        first = project.run(TWICE.format(url=server.url))
        assert any("changed between two readings" in note for note in first.notes)
        second = project.run(resume="auto")
    assert second.exit_code == 0
    assert second.notes == (f"carrying over from run {first.run_id}",)
    assert project.outputs(second, "one")[-1] == "re: r19 new"
    assert project.outputs(second, "two")[-1] == "r19 new"


def test_a_run_that_was_killed_after_a_file_was_replaced(project: Project) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    path.write_bytes(jsonl([{"id": f"r{n}", "v": "old"} for n in range(60)]))
    new = [{"id": f"r{n}", "v": "new"} for n in range(5, 60)]
    with Answers(delay_s=0.02) as server:
        project.write("x.yaml", ONE.format(url=server.url, path="d.jsonl", more=", key: id"))
        process = start(project)
        server.wait_for(20)
        replace(path, jsonl(new))
        process.kill()
        process.communicate()
        report = project.run(resume="auto")
    assert (report.exit_code, answers(project, report)) == (0, expected(new)), report.reason


@pytest.mark.parametrize("what", ["fifo", "folder", "device"])
def test_what_is_no_file_is_refused_before_it_is_opened(project: Project, what: str) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    project.write("x.yaml", ONE.format(url="http://127.0.0.1:9/v1", path="d.jsonl", more=", key: id"))
    process = start(project)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "error[" in said


def test_a_row_that_was_repaired_is_retried_as_it_is_now(project: Project) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    data = [{"id": f"r{n}", "v": "bad" if n == 2 else "good"} for n in range(4)]
    path.write_bytes(jsonl(data))
    with Answers(lambda prompt: (400, {"error": {"message": "no"}}) if "bad" in prompt else f"re: {prompt}") as server:
        first = project.run(ONE.format(url=server.url, path="d.jsonl", more=", key: id"))
        assert first.exit_code == 1
        data[2]["v"] = "good"
        path.write_bytes(jsonl(data))
        second = project.run(retry_failed="last")
    assert (second.exit_code, answers(project, second)) == (0, expected(data))
    assert second.run_id == first.run_id


def test_a_retry_of_one_row_publishes_nothing_where_other_rows_have_changed(project: Project) -> None:
    path = project.root / "pipelines" / "d.jsonl"
    data = [{"id": f"r{n}", "v": "bad" if n == 2 else "good"} for n in range(4)]
    path.write_bytes(jsonl(data))
    bad = {"bad"}
    with Answers(lambda p: (400, {"error": {"message": "no"}}) if bad & set(p.split()) else f"re: {p}") as server:
        text = ONE.format(url=server.url, path="d.jsonl", more=", key: id")
        text += "outputs: [{from: steps.one, path: output/one.jsonl}]\n"
        project.run(text)
        bad.clear()
        data[0]["v"] = "changed"
        path.write_bytes(jsonl(data))
        report = project.run(retry_failed="last", key="r2")
        assert (report.exit_code, report.published) == (0, ())
        whole = project.run(retry_failed="last")
    assert len(whole.published) == 1
    assert answers(project, whole) == expected(data)


def test_a_symlink_is_read_where_it_points_when_the_next_run_begins(project: Project) -> None:
    link = project.root / "pipelines" / "d.jsonl"
    for name in ("old", "new"):
        (project.root / "pipelines" / f"{name}.jsonl").write_bytes(
            jsonl([{"id": "a", "v": name}, {"id": "b", "v": "x"}])
        )
    link.symlink_to("old.jsonl")

    def swap() -> None:
        link.unlink()
        link.symlink_to("new.jsonl")

    with Answers() as server:
        server.reply = changing(project, swap, at=0)
        first = project.run(ONE.format(url=server.url, path="d.jsonl", more=", key: id"))
        second = project.run(resume="auto")
    assert answers(project, first)["a"] == "re: a old"
    assert answers(project, second)["a"] == "re: a new"
    assert server.total == 3


@pytest.mark.parametrize("word", ["new", "old"])
def test_standard_input_is_compared_by_its_content(project: Project, word: str) -> None:
    with Answers() as server:
        project.write("x.yaml", ONE.format(url=server.url, path="-", more=", key: id"))
        for given in ("old", word):
            process = start_with(project, jsonl([{"id": "a", "v": given}, {"id": "b", "v": "x"}]))
            assert process.returncode == 0, process.stderr
        assert server.total == (3 if word == "new" else 2)


def start_with(project: Project, data: bytes) -> subprocess.CompletedProcess[bytes]:
    import sys

    command = [sys.executable, "-m", "llmpipe", "run", str(project.root / "pipelines" / "x.yaml"), "--resume", "auto"]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)
