"""The keys for answers that do not hold: refused where they would do nothing, and counted among what may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmpipe.config.fingerprint import changes, fingerprint
from llmpipe.config.load import load_pipeline
from tests.config.project import place_of, problems, unmark, write_project

HEAD = """version: 1
models:
  weak: {provider: echo, params: {max_output_tokens: 100}}
  free: {provider: echo}
  strong: {provider: openai, model: gpt-5-mini}
steps:
"""


@pytest.mark.parametrize(
    ("step", "code", "said"),
    [
        ("prompt: x, «repair»: true", "C207", "has no schema"),
        ("prompt: x, check: 'true', «coerce»: true", "C207", "has no schema"),
        ("prompt: x, «reask_model»: strong", "C207", "neither a schema nor a check"),
        ("prompt: x, schema: {a: string}, max_reasks: 0, «reask_model»: strong", "C207", "never asks again"),
        ("render: x, «on_truncated»: extend", "C207", "asks nobody"),
        ("prompt: x, schema: {a: string}, reask_model: «stron»", "C215", "no model 'stron'"),
        ("prompt: x, model: free, on_truncated: «extend»", "C207", "no max_output_tokens to double"),
        ("prompt: x, on_truncated: «retry»", "C204", "fail, extend"),
        ("prompt: x, schema: {a: string}, repair: «yes»", "C202", "true"),
    ],
)
def test_what_would_do_nothing_is_refused_at_its_place(step: str, code: str, said: str, tmp_path: Path) -> None:
    text = f"{HEAD}  - {{id: a, {step if 'model: free' in step or 'render' in step else 'model: weak, ' + step}}}\n"
    text, places = unmark(text)
    problem = next(p for p in problems(tmp_path, text) if p.code == code)
    assert said in f"{problem.message} {problem.note}"
    assert place_of(problem) == places[0]


@pytest.mark.parametrize(
    "step",
    [
        "model: weak, on_truncated: extend",
        "model: free, on_truncated: extend, params: {max_output_tokens: 5}",
        "model: free, repair: false, coerce: false, on_truncated: fail",
        "model: free, check: 'true', reask_model: strong",
    ],
)
def test_what_does_something_is_taken(step: str, tmp_path: Path) -> None:
    load_pipeline(write_project(tmp_path, f"{HEAD}  - {{id: a, prompt: x, {step}}}\n"))


def test_the_defaults_may_hold_them_for_steps_that_they_suit(tmp_path: Path) -> None:
    text = f"{HEAD}  - {{id: a, prompt: x, schema: {{a: string}}}}\n  - {{id: b, prompt: x}}\n"
    defaults = "defaults: {model: weak, repair: true, coerce: true, on_truncated: extend, reask_model: strong}\n"
    step = load_pipeline(write_project(tmp_path, text + defaults)).step("a")
    assert (step.repair, step.coerce, step.on_truncated, step.reask_model) == (True, True, "extend", "strong")
    wrong = problems(tmp_path, text + defaults.replace("strong", "nobody"))
    assert [p.code for p in wrong] == ["C215"]


def test_a_budget_counts_the_model_that_is_asked_again(tmp_path: Path) -> None:
    text = f"{HEAD}  - {{id: a, prompt: x, model: weak, schema: {{a: string}}, reask_model: strong}}\n"
    (problem,) = problems(tmp_path, text + "budget: {usd: 1}\n")
    assert (problem.code, "strong" in problem.message) == ("C229", True)


def test_the_fingerprint_knows_who_is_asked_again_and_how_answers_are_read(tmp_path: Path) -> None:
    def printed(extra: str) -> Any:
        text = f"{HEAD}  - {{id: a, prompt: x, model: weak, schema: {{a: string}}{extra}}}\n"
        return fingerprint(load_pipeline(write_project(tmp_path, text)))

    plain = printed("")
    assert changes(plain, printed(", coerce: true")) == ("step 'a': reading",)
    assert changes(plain, printed(", reask_model: strong")) == ("step 'a': model strong",)
    assert changes(plain, printed(", max_reasks: 5, on_truncated: extend")) == ()


def test_repair_says_when_its_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "json_repair" else found(name, *a)
    )
    text = f"{HEAD}  - {{id: a, prompt: x, model: weak, schema: {{a: string}}, repair: true}}\n"
    (problem,) = problems(tmp_path, text)
    assert (problem.code, problem.note) == ("C241", "pip install --no-deps json-repair")
