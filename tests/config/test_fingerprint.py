"""What changes a pipeline's fingerprint, and what does not; each change is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmpipe.config.fingerprint import Fingerprint, changes, fingerprint, from_json, to_json
from llmpipe.config.load import load_pipeline
from tests.config.project import load

TEXT = """
version: 1
vars: {team: Ops, other: x}
datasets: {rows: {path: data/rows.csv, key: id}}
models: {m: {provider: openai, model: g, params: {max_output_tokens: 99}}, n: {provider: echo, model: demo}}
defaults: {model: m, retry: {max_retries: 2}}
budget: {tokens: 1M}
steps:
  - id: label
    foreach: datasets.rows
    system: You
    prompt: "{{ item.body }} {{ vars.team }}"
    schema: {label: string}
    if: item.id != "0"
    check: output.label != ""
  - {id: group, foreach: {group: steps.label, by: output.label}, model: n, prompt: "{{ item.key }}"}
  - {id: end, prompt_file: end.md, model: n}
outputs: [{from: steps.end, path: output/end.md}]
"""
FILES = {"end.md": "{{ steps.group | length }}\n"}


def printed(folder: Path, text: str = TEXT, files: dict[str, str] | None = None) -> Fingerprint:
    return fingerprint(load(folder, text, files or FILES))


SAME = [
    ("max_retries: 2", "max_retries: 3"),
    ("tokens: 1M", "tokens: 2M"),
    ("    foreach: datasets.rows\n", "    foreach: datasets.rows\n    timeout: {total: 1m}\n    cache: off\n"),
    ("    foreach: datasets.rows\n", "    foreach: datasets.rows\n    on_error: fail\n    min_success: 1%\n"),
    ("    foreach: datasets.rows\n", "    foreach: datasets.rows\n    max_reasks: 7\n    max_prompt: 5k\n"),
    ("model: g, ", "model: g, limits: {rpm: 5}, price: {input: 1, output: 1}, "),
    ("output/end.md", "output/other.md"),
    ("{team: Ops, other: x}", "{team: Ops, other: changed}"),
    ("version: 1\n", "version: 1\ndescription: words # and a comment\n"),
    ("rows: {path: data/rows.csv", "rows: {path: 'data/*.csv'"),
]
DIFFERENT = [
    ("system: You", "system: They", "step 'label': system"),
    ("{{ item.body }} {{", "{{ item.body }}, {{", "step 'label': prompt"),
    ("{label: string}", "{label: integer}", "step 'label': schema"),
    ('"0"', '"1"', "step 'label': if"),
    ('label != ""', 'label == ""', "step 'label': check"),
    ("team: Ops", "team: Sales", "step 'label': vars.team"),
    ("model: g,", "model: h,", "step 'label': model m, model"),
    ("max_output_tokens: 99", "max_output_tokens: 98", "step 'label': model m"),
    ("by: output.label", "by: output.label, size: 5", "step 'group': foreach"),
    ("key: id", "key: body", "step 'label': foreach"),
    ("    system: You", "    params: {temperature: 1}\n    system: You", "step 'label': params"),
    ("    system: You", "    allow_skipped: true\n    system: You", "step 'label': allow_skipped"),
    ("id: end,", "id: finish,", "step 'end' was removed"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_policy_and_what_is_not_read_change_nothing(old: str, new: str, tmp_path: Path) -> None:
    assert old in TEXT
    assert printed(tmp_path, TEXT.replace(old, new)) == printed(tmp_path)


@pytest.mark.parametrize(("old", "new", "said"), DIFFERENT)
def test_meaning_changes_it_and_the_change_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    before, after = printed(tmp_path), None
    text = TEXT.replace(old, new)
    if "finish" in new:
        text = text.replace("steps.end", "steps.finish")
    after = printed(tmp_path, text)
    assert after.whole != before.whole
    assert said in changes(before, after)


def test_only_the_steps_concerned_change(tmp_path: Path) -> None:
    before, after = printed(tmp_path), printed(tmp_path, TEXT.replace("system: You", "system: They"))
    assert {id for id in before.steps if before.steps[id] != after.steps[id]} == {"label"}


def test_a_prompt_file_counts_by_its_content(tmp_path: Path) -> None:
    before = printed(tmp_path)
    assert changes(before, printed(tmp_path, files={"end.md": "other {{ steps.group | length }}"})) == (
        "step 'end': prompt",
    )
    assert printed(tmp_path) == before


CODE = {
    "pipelines/own/rules.py": "from . import words\nimport json, shared\ndef f(item):\n    from deep.down import x\n",
    "pipelines/own/__init__.py": "",
    "pipelines/own/words.py": "import own.rules\nfrom .more import *\n",
    "pipelines/own/more.py": "",
    "pipelines/shared.py": "X = 1\n",
    "shared.py": "hidden by the one beside the pipeline",
    "deep/down.py": "x = 1\n",
    "deep/other.py": "",
    "broken.py": "def",
}
SEEN = ["own/rules.py", "own/__init__.py", "own/words.py", "own/more.py", "shared.py", "../deep/down.py"]


@pytest.mark.parametrize("edited", [*CODE, "pipelines/own/new.py"])
def test_a_python_step_counts_by_all_of_the_project_that_it_imports(edited: str, tmp_path: Path) -> None:
    def made() -> Fingerprint:
        (tmp_path / "pipelines/x.yaml").write_text("version: 1\nsteps: [{id: a, python: 'own.rules:f'}]\n")
        return fingerprint(load_pipeline(tmp_path / "pipelines/x.yaml"))

    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = made()
    with (tmp_path / edited).open("a") as file:
        file.write("# edited\n")
    is_seen = edited in [os.path.normpath(f"pipelines/{name}") for name in SEEN]
    assert changes(before, made()) == (("step 'a': python",) if is_seen else ())


def test_it_survives_being_written_down(tmp_path: Path) -> None:
    before = printed(tmp_path)
    again = from_json(json.loads(json.dumps(to_json(before))))
    assert again == before
    assert changes(again, before) == ()
