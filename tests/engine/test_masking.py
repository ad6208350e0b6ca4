"""Keys in rows, responses and results: data stays as it came unless it holds a real key, which is then nowhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from llmpipe.client.redact import Redactor
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_schema import TABLES
from llmpipe.engine.masking import (
    RESPONSE,
    RESULT,
    ROW,
    has_masked_rows,
    key_without_keys,
    masked_counts,
    puts,
    unmasked_note,
    without_keys,
)
from llmpipe.engine.results import MaskedCount, RunReport
from tests.engine.answers import Answers
from tests.engine.conftest import Project

KEY = "sk-local-9f8e7d6c5b4a"
WORDS = ["testing", "default", "changeme", "not-needed", "no-key-required", "unittesting", "local-testing", "m"]
PIPELINE = """
    version: 1
    name: x
    datasets: {{d: {{path: d.jsonl, key: id}}}}
    models: {{m: {{provider: openai_compatible, base_url: "{url}", model: m, api_key_env: LOCAL_API_KEY}}}}
    defaults: {{model: m, retry: {{max_retries: 0}}}}
    steps:
      - {{id: a, foreach: datasets.d, prompt: "{{{{ item.text }}}}", schema: {schema}, max_reasks: 0, min_success: 0%}}
      - id: by
        foreach: {{group: steps.a, by: output.label}}
        render: "{{{{ item.key }}}}: {{{{ item.rows | length }}}}"
      - {{id: after, foreach: datasets.d, render: "{{{{ steps.a.label }}}} of {{{{ item.text }}}}"}}
    outputs:
      - {{from: steps.a, path: output/a.csv, columns: {{id: item.id, text: item.text, label: output.label}}}}
      - {{from: steps.after, path: output/after.jsonl}}
    """


def pipeline(server: Answers, schema: str = "{label: string}") -> str:
    return PIPELINE.format(url=server.url, schema=schema)


def holding(root: Path, *keys: str) -> list[str]:
    """The files below `root`, and the texts in its databases, that hold one of the keys; the dataset itself may."""
    found = []
    for path in (p for p in root.rglob("*") if p.is_file() and "pipelines" not in p.parts):
        data = path.read_bytes().replace(f"{KEY}0".encode(), b"")  # which is another word
        found += [f"{path.name} holds {key}" for key in keys if key.encode() in data or key in path.name]
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def items_in(report: RunReport) -> list[tuple[str, str]]:
    with sqlite3.connect(report.folder / "run.db") as db:
        found = db.execute("SELECT key, data FROM items WHERE key <> '' ORDER BY id").fetchall()
    db.close()
    return found


@pytest.mark.parametrize("word", WORDS)
def test_a_word_in_a_key_variable_changes_no_row_key_group_response_or_cell(project: Project, word: str) -> None:
    project.variables["LOCAL_API_KEY"] = word
    rows = [
        {"id": word, "text": f"about {word}"},
        {"id": f"{word}-2", "text": word.upper()},
        {"id": "c", "text": "shoes"},
    ]
    project.rows("d.jsonl", rows)
    with Answers(lambda prompt: {"label": word if word in prompt else "other"}) as server:
        report = project.run(pipeline(server, f"{{label: 'enum[{word}, other]'}}"))
        assert (report.exit_code, report.masked) == (0, ())
        assert [(row["id"], row["text"]) for row in rows_of(project.root / "output/a.csv")] == [
            (row["id"], row["text"]) for row in rows
        ]
        assert [data for _, data in items_in(report)[:3]] == [json.dumps(row) for row in rows]
        assert project.results(report, "a")[0] == {"key": word, "output": {"label": word}}
        assert {row["output"] for row in project.results(report, "by")} == {f"{word}: 1", "other: 2"}
        count = server.total
        again = project.run(resume="auto")
        fresh = project.run()
    assert server.total == count == 3
    assert again.steps[0].carried == fresh.steps[0].cached == 3
    assert project.results(again, "a") == project.results(fresh, "a") == project.results(report, "a")
    warnings = [note for note in project.seen.notes if "LOCAL_API_KEY" in note]
    assert len(warnings) == 3
    assert all("not masked" in note and f" {word} " not in note.replace("a word", "") for note in warnings)


def answer_with_the_key(prompt: str) -> dict[str, str]:
    return {"label": f"the key is {KEY}" if "leak" in prompt else "fine"}


def test_a_real_key_in_a_response_is_valid_as_it_came_and_nowhere_afterwards(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": n, "text": f"{'leak' if n % 2 else 'fine'} {n}"} for n in range(4)])
    only_valid_raw = "{type: object, properties: {label: {pattern: '^(the key is sk-local-[0-9a-f]{12}|fine)$'}}}"
    with Answers(answer_with_the_key) as server:
        report = project.run(pipeline(server, only_valid_raw))
        assert (report.exit_code, report.steps[0].succeeded) == (0, 4)
        assert report.masked == (MaskedCount("LOCAL_API_KEY", "response", 2),)
        assert json.loads((report.folder / "run.json").read_text())["masked"] == [
            {"variable": "LOCAL_API_KEY", "what": "response", "count": 2}
        ]
        outputs = [row["output"]["label"] for row in project.results(report, "a")]
        assert outputs == ["fine", "the key is [redacted]", "fine", "the key is [redacted]"]
        assert {row["output"] for row in project.results(report, "by")} == {"fine: 2", "the key is [redacted]: 2"}
        assert project.outputs(report, "after")[1] == "the key is [redacted] of leak 1"
        assert [row["label"] for row in rows_of(project.root / "output/a.csv")] == outputs
        fresh = project.run()
    assert (server.total, fresh.steps[0].cached, fresh.exit_code) == (4, 4, 0)
    for step in ("a", "by", "after"):
        assert project.results(fresh, step) == project.results(report, step)
    assert holding(project.root, KEY) == []


SPELT = {
    "URL": lambda key: quote(key, safe=""),
    "base64": lambda key: base64.b64encode(b"x" + key.encode() + b"yz").decode(),
    "hex": lambda key: key.encode().hex(),
    "zero width": lambda key: key[:7] + "\u200b" + key[7:],
    "JSON in JSON": lambda key: json.dumps(json.dumps({"key": key})),
    "beside a colour": lambda key: f"\x1b[31m{key}\x1b[0m",
}


@pytest.mark.parametrize("spelt", SPELT)
def test_a_real_key_in_another_spelling_is_masked_too(project: Project, spelt: str) -> None:
    key = "sk-canary/Zq8x7+Wv6="
    project.variables["LOCAL_API_KEY"] = key
    project.rows("d.jsonl", [{"id": "one", "text": "x"}])
    with Answers(lambda prompt: {"label": f"see {SPELT[spelt](key)} here"}) as server:
        report = project.run(pipeline(server))
    assert report.exit_code == 0
    assert [masked.count for masked in report.masked] == [1]
    text = json.dumps(project.results(report, "a"))
    assert "[redacted]" in text
    assert SPELT[spelt](key) not in text
    assert (
        holding(project.root, key, quote(key, safe=""), key.encode().hex(), base64.b64encode(key.encode()).decode())
        == []
    )
    visible = "".join(ch for ch in project.outputs(report, "a")[0]["label"] if ch.isprintable())
    assert key not in visible


KEY_ROWS = [
    {"id": "one", "text": f"my key {KEY}"}, {"id": KEY, "text": "two"}, {"id": f"x {KEY}", "text": "three"},
    {"id": "four", "text": f"{KEY}0 is another"}, {"id": "five", "text": "[redacted]"},
]  # fmt: skip


def test_a_real_key_in_rows_goes_out_as_it_is_and_stands_nowhere(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    project.rows("d.jsonl", KEY_ROWS)
    with Answers(lambda prompt: {"label": prompt[::-1][:8]}) as server:
        report = project.run(pipeline(server))
        assert (report.exit_code, report.steps[0].succeeded) == (0, 5)
        assert server.prompts.count(f"my key {KEY}") == 1
        assert sorted(server.prompts) == sorted(str(row["text"]) for row in KEY_ROWS)
        assert report.masked == (MaskedCount("LOCAL_API_KEY", "row", 3), MaskedCount("LOCAL_API_KEY", "result", 1))
        keys = [row["key"] for row in project.results(report, "a")]
        assert (keys[0], *keys[3:]) == ("one", "four", "five")
        assert [key.partition("[redacted]")[0] for key in keys[1:3]] == ["", "x "]
        published = rows_of(project.root / "output/a.csv")
        assert [row["text"] for row in published] == [
            "my key [redacted]", "two", "three", f"{KEY}0 is another", "[redacted]"
        ]  # fmt: skip
        assert len(published) == len(set(keys)) == 5
        again = project.run(resume="auto")
        fresh = project.run()
    assert server.total == 5, "neither a resumed run nor the cache asks again"
    assert (again.steps[0].carried, fresh.steps[0].cached) == (5, 5)
    for step in ("a", "by", "after"):
        assert project.results(again, step) == project.results(fresh, step) == project.results(report, step)
    assert holding(project.root, KEY) == []


def test_a_retry_reads_rows_with_a_key_as_they_came(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": "one", "text": f"my key {KEY}"}, {"id": "two", "text": "fine"}])
    broken = True
    with Answers(
        lambda prompt: (500, {"error": f"no {KEY}"}) if broken and KEY in prompt else {"label": "x"}
    ) as server:
        report = project.run(pipeline(server))
        assert report.steps[0].failed == 1
        assert {masked.what for masked in report.masked} == {"response", "row"}
        broken = False
        report = project.run(retry_failed="last")
    assert (report.exit_code, report.steps[0].succeeded) == (0, 2)
    assert server.asked[f"my key {KEY}"] == 2
    assert holding(project.root, KEY) == []


def test_what_looks_like_a_key_and_is_none_of_ours_stays_in_data(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    other = "sk-proj-0123456789abcdefghij and x-api-key: 0123456789abcdef"
    project.rows("d.jsonl", [{"id": other, "text": other}])
    with Answers(lambda prompt: "no JSON: " + other) as server:
        report = project.run(pipeline(server))
    (failure,) = (report.folder / "failures" / "a").iterdir()
    document = json.loads(failure.read_text())
    assert document["payload"]["item"] == {"id": other, "text": other}
    assert document["payload"]["key"] == other
    assert document["raw"] == "no JSON: " + other
    assert report.masked == ()


@pytest.mark.parametrize("key", ["482910573846", "482910573846.5"])
def test_a_key_that_is_a_number_breaks_no_json(project: Project, key: str) -> None:
    project.variables["LOCAL_API_KEY"] = key
    project.write("d.jsonl", f'{{"id": "one", "text": "x", "n": {key}, "{key}": {{"m": [{key}, 1]}}}}\n')
    with Answers(lambda prompt: {"label": key}) as server:
        report = project.run(pipeline(server))
    assert report.exit_code == 0
    assert json.loads(items_in(report)[0][1])["n"] == "[redacted]"
    assert project.outputs(report, "a") == [{"label": "[redacted]"}]
    assert holding(project.root, key) == []


@pytest.mark.parametrize("name", ["openai_compatible", "llama-3.1-8b-instruct", "127.0.0.1"])
def test_the_name_of_a_model_provider_or_host_is_no_secret(project: Project, name: str) -> None:
    project.variables["LOCAL_API_KEY"] = name
    project.rows("d.jsonl", [{"id": "one", "text": f"about {name}"}])
    with Answers(lambda prompt: {"label": prompt}) as server:
        text = pipeline(server).replace("model: m,", "model: llama-3.1-8b-instruct,", 1)
        report = project.run(text)
    assert (report.exit_code, report.masked) == (0, ())
    assert project.outputs(report, "a") == [{"label": f"about {name}"}]
    assert any("LOCAL_API_KEY" in note for note in project.seen.notes)


def test_names_that_become_equal_when_masked_lose_no_entry(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    row = {"id": "one", "text": "x", KEY: 1, quote(KEY): 2, "[redacted]": 3, KEY.encode().hex(): 4}
    project.rows("d.jsonl", [row])
    with Answers(lambda prompt: {"label": "x"}) as server:
        report = project.run(pipeline(server))
    data = json.loads(items_in(report)[0][1])
    assert len(data) == len(row)
    assert data["[redacted]"] == 3


COMMAND = [sys.executable, "-m", "llmpipe"]


def command(project: Project, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=project.root, input=stdin, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "LOCAL_API_KEY": KEY, **env}, timeout=240, check=False,
    )  # fmt: skip


def test_the_summary_the_mail_show_and_json_count_it(project: Project) -> None:
    project.rows("d.jsonl", [{"id": n, "text": f"leak {n}"} for n in range(2)])
    with Answers(answer_with_the_key) as server:
        project.write("x.yaml", pipeline(server))
        said = "2 responses contained the value of LOCAL_API_KEY; masked"
        done = command(project, "run", "pipelines/x.yaml", "--no-cache")
        assert said in done.stderr
        assert done.returncode == 0
        quiet = command(project, "run", "pipelines/x.yaml", "--quiet", "--no-cache", "--json")
        assert said in quiet.stderr
        assert json.loads(quiet.stdout)["masked"] == [{"variable": "LOCAL_API_KEY", "what": "response", "count": 2}]
        assert said in command(project, "show").stdout
        shown = command(project, "show", "last", "a", "0").stdout
        assert "the key is [redacted]" in shown
        for text in (done.stderr, quiet.stderr, quiet.stdout, shown):
            assert KEY not in text


def test_a_key_variable_with_a_word_is_named_at_the_start_and_its_value_is_not(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "text": "x"}])
    with Answers(lambda prompt: {"label": "fine"}) as server:
        project.write("x.yaml", pipeline(server))
        for words in (["run", "pipelines/x.yaml"], ["plan", "pipelines/x.yaml"]):
            done = command(project, *words, LOCAL_API_KEY="zebrafish")
            assert done.returncode == 0
            assert "LOCAL_API_KEY holds no real key" in done.stderr + done.stdout
            assert "zebrafish" not in done.stderr + done.stdout
        quiet = command(project, "run", "pipelines/x.yaml", "--quiet", LOCAL_API_KEY="zebrafish")
        assert (quiet.returncode, quiet.stderr) == (0, "")


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\x1b", "\ufeff", "\U000e0041"])
def test_show_prints_no_key_that_was_hidden_behind_what_nobody_sees(project: Project, hidden: str) -> None:
    """Also one that stands in the files: of a run whose key was another, or that an older version wrote."""
    project.rows("d.jsonl", [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}])
    spelt = KEY[:10] + hidden + KEY[10:]
    with Answers(lambda prompt: {"label": spelt} if prompt == "x" else (400, {"error": {"message": spelt}})) as server:
        project.write("x.yaml", pipeline(server))
        assert command(project, "run", "pipelines/x.yaml", LOCAL_API_KEY="sk-another-key-0000001").returncode == 0
    texts = [command(project, "show", *words).stdout for words in (
        ["last"], ["last", "a"], ["last", "a", "a"], ["last", "a", "b"], ["last", "a", "a", "--json"],
        ["last", "a", "b", "--json"], ["last", "--json"],
    )]  # fmt: skip
    assert any("[redacted]" in text for text in texts)
    for text in texts:
        assert KEY not in text
        assert KEY not in "".join(ch for ch in text if ch.isprintable())


def test_standard_input_is_kept_without_the_key(project: Project) -> None:
    with Answers(lambda prompt: {"label": prompt}) as server:
        project.write(
            "x.yaml", pipeline(server).replace("{path: d.jsonl, key: id}", "{path: '-', format: jsonl, key: id}")
        )
        lines = "".join(json.dumps(row) + "\n" for row in KEY_ROWS)
        done = command(project, "run", "pipelines/x.yaml", stdin=lines)
        assert done.returncode == 0, done.stderr
    spool = project.root / "output" / "x" / "latest" / "stdin"
    assert "3 lines of standard input contained the value of LOCAL_API_KEY; masked" in done.stderr
    assert len(spool.read_text().splitlines()) == 5
    assert f"{KEY}0" in spool.read_text()
    assert KEY not in spool.read_text().replace(f"{KEY}0", "")


def test_a_killed_run_recalls_a_response_with_a_key_as_it_came(project: Project) -> None:
    """The response is in the ledger, its result is not: what a process that is killed in between leaves behind."""
    project.variables["LOCAL_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": n, "text": f"leak {n}"} for n in range(3)])
    valid_raw = "{type: object, properties: {label: {type: string, minLength: 32}}}"
    assert len(f"the key is {KEY}") == 32
    with Answers(answer_with_the_key) as server:
        report = project.run(pipeline(server, valid_raw), cache="off")
        whole = project.results(report, "a")
        assert len(whole) == 3
        with sqlite3.connect(report.folder / "run.db") as db:
            db.execute("DELETE FROM results")
        db.close()
        document = json.loads((report.folder / "run.json").read_text())
        (report.folder / "run.json").write_text(json.dumps({**document, "status": "running", "finished_at": None}))
        again = project.run(resume=report.run_id, cache="off")
    assert server.total == 3
    assert (again.exit_code, project.results(again, "a")) == (0, whole)
    assert holding(project.root, KEY) == []


def test_a_response_is_not_put_together_with_a_key_that_came_since(project: Project) -> None:
    project.variables["LOCAL_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": 1, "text": "leak"}])
    new = "sk-local-000011112222"
    with Answers(answer_with_the_key) as server:
        project.run(pipeline(server))
        project.variables["LOCAL_API_KEY"] = new
        report = project.run()
    assert (server.total, report.exit_code, report.masked) == (1, 0, ())
    assert project.outputs(report, "a") == [{"label": "the key is [redacted]"}]
    assert holding(project.root, KEY, new) == []


def test_kills_of_a_run_whose_responses_hold_the_key_lose_and_repeat_nothing(project: Project) -> None:
    project.rows("d.jsonl", [{"id": n, "text": f"leak {n}"} for n in range(120)])
    with Answers(answer_with_the_key, delay_s=0.05) as server:
        text = pipeline(server).replace(
            "api_key_env: LOCAL_API_KEY", "api_key_env: LOCAL_API_KEY, limits: {concurrency: 4}"
        )
        project.write("x.yaml", text)
        for wanted in (10, 40, 80):
            child = subprocess.Popen(
                [*COMMAND, "run", "pipelines/x.yaml", "--quiet", "--no-cache", "--resume", "auto"], cwd=project.root,
                env={**os.environ, "LOCAL_API_KEY": KEY}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            server.wait_for(wanted, seconds=200)
            child.send_signal(signal.SIGKILL)
            child.wait()
        done = command(project, "run", "pipelines/x.yaml", "--no-cache", "--resume", "auto", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert report["steps"][0]["succeeded"] == 120
    assert server.total <= 120 + 3 * 8
    assert len((project.root / "output/after.jsonl").read_text().splitlines()) == 120
    assert holding(project.root, KEY) == []


def test_json_without_the_values_of_keys_and_the_variables_that_it_held() -> None:
    redactor = Redactor({"A": KEY, "B": "sk-other-1234567890ab"})
    plain = '{"a": "sk-local", "b": [1]}'
    assert without_keys(plain, redactor) == (plain, ())
    text, names = without_keys(json.dumps({KEY: 1, "b": [f"x {KEY} y", "sk-other-1234567890ab"]}), redactor)
    assert json.loads(text) == {"[redacted]": 1, "b": ["x [redacted] y", "[redacted]"]}
    assert sorted(names) == ["A", "B"]


def test_keys_of_items_that_differ_in_what_is_masked_stay_apart() -> None:
    redactor = Redactor({"A": KEY, "B": "sk-other-1234567890ab"})
    assert key_without_keys("plain", redactor) == "plain"
    one, other = (key_without_keys(f"k-{key}", redactor) for key in (KEY, "sk-other-1234567890ab"))
    digest = hashlib.sha256(f"k-{KEY}".encode()).hexdigest()[:8]
    assert one == f"k-[redacted]-{digest}"
    assert other.startswith("k-[redacted]-")
    assert other != one
    assert key_without_keys(f"\ud800{KEY}", redactor).startswith("\ud800[redacted]-")


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"A": KEY}, ""),
        ({"A": "word", "B": KEY}, "warning: A holds no real key ({why}): it is not masked in {where}"),
        ({"A": "word", "B": "demo"}, "warning: A, B hold no real key ({why}): they are not masked in {where}"),
    ],
)
def test_what_is_said_of_values_that_are_no_keys(values: dict[str, str], note: str) -> None:
    words = {"why": "fewer than 12 characters, a word, or a public name", "where": "rows, responses and files"}
    assert unmasked_note(values, Redactor(values)) == note.format(**words)


def test_what_was_masked_is_counted_as_long_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.executescript(TABLES)
        ledger.execute("INSERT INTO meta VALUES ('version', '2')")
        for id, scope, data, live in (
            (1, 2, '"[redacted]"', 1), (2, 2, '"[redacted]"', 0), (3, 2, '"new"', 1), (4, 5, '"[redacted]"', 1),
            (6, 7, '"[redacted]"', 0), (8, 9, '"x"', 1),
        ):  # fmt: skip
            row = (id, scope, f"k{id}", "1", data, b"", live)
            ledger.execute(
                "INSERT INTO items (id, scope, key, ord, data, digest, live) VALUES (?, ?, ?, ?, ?, ?, ?)", row
            )
            for what in (ROW, RESULT):
                for put in puts(what, ("A",), id, 3 if what == RESULT else 0):
                    ledger.execute(*put)
        for step, item, output in ((3, 1, '"[redacted]"'), (3, 2, '"new"'), (4, 3, '"[redacted]"'), (3, 4, None)):
            ledger.execute(
                "INSERT INTO results (step, item, status, digest, finished_at, output) VALUES (?, ?, '', x'', 1, ?)",
                (step, item, output),
            )
        for put in [*puts(RESPONSE, ("A", ""), 7, 3), *puts(RESPONSE, ("A",), 8, 3), *puts(RESPONSE, ("A",), 8, 4)]:
            ledger.execute(*put)
            ledger.execute(*put)  # once
    with LedgerReader(path) as reader:
        assert masked_counts(reader) == (
            MaskedCount("a key", "response", 1),
            MaskedCount("A", "response", 2),
            MaskedCount("A", "row", 2),
            MaskedCount("A", "result", 1),
        )
        assert [has_masked_rows(reader, scope) for scope in (2, 5, 7, 9, 1)] == [True, True, False, True, False]
