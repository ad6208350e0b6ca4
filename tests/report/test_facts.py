"""What `validate -v` says of answers: what each model gets of a schema, what is done about those that do not hold."""

from __future__ import annotations

from pathlib import Path

from llmpipe.config.load import load_pipeline
from llmpipe.report.facts import facts
from tests.config.project import write_project

TEXT = """version: 1
models:
  oa: {provider: openai, model: gpt-5-mini, params: {max_output_tokens: 500}}
  cl: {provider: anthropic, model: claude-sonnet-4-5}
  ol: {provider: ollama, model: qwen3}
  ds: {provider: deepseek, model: deepseek-chat}
  de: {provider: echo}
steps:
"""


def told(step: str, folder: Path) -> str:
    path = write_project(folder, f"{TEXT}  - {{id: a, prompt: x, {step}}}\n")
    return "\n".join(line.strip() for line in facts(load_pipeline(path), lambda name: ""))


def test_what_each_model_gets_of_a_schema(tmp_path: Path) -> None:
    said = told("model: [oa, cl, ol, ds, de], schema: {a: integer 1..5, note?: string ..20}", tmp_path)
    native = "sent natively; every answer is validated here in full\nthe copy that is sent:"
    for part in (
        f"schema for oa: {native} without 1 keyword\n$.note: maxLength\n",
        "the copy that is sent: without 3 keywords\n$.a: minimum\n$.a: maximum\n$.note: maxLength\n",
        f"schema for ol: {native} whole, and whole in the prompt\n",
        "schema for ds: in the prompt, with JSON of any shape asked for;",
        "schema for de: not sent;",
    ):
        assert part in said


def test_why_a_schema_goes_by_the_prompt(tmp_path: Path) -> None:
    said = told("model: oa, schema: {a: map[integer]}", tmp_path)
    assert "schema for oa: in the prompt; every answer" in said
    assert "openai cannot be asked for it natively: $.a is a map" in said


def test_a_long_list_of_what_is_left_out_is_cut(tmp_path: Path) -> None:
    fields = ", ".join(f"f{n}: integer 1..5" for n in range(15))
    said = told(f"model: cl, schema: {{{fields}}}", tmp_path)
    assert "without 30 keywords" in said
    assert "$.f9: maximum\nand 10 more" in said


def test_what_is_done_about_answers_that_do_not_hold(tmp_path: Path) -> None:
    step = "model: oa, schema: {a: string}, max_reasks: 3, reask_model: cl, repair: true, coerce: true"
    said = told(f"{step}, on_truncated: extend, timeout: {{total: 1m}}", tmp_path)
    assert "an invalid answer is asked for again up to 3 times by cl, repaired, coerced" in said
    assert "a cut answer is asked for once more, with twice the limit" in said
    assert "an item takes at most 5m 0s (1m 0s a call, 4 retries, 3 re-asks, 1 extension)" in said
    assert "model      cl:" in said
    plain = told("model: oa", tmp_path)
    assert "invalid" not in plain
    assert "cut answer" not in plain
