"""Every kind of mistake in a pipeline file: its code, its exact place, and the advice beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmpipe.config.load import load_pipeline
from llmpipe.errors import ConfigError
from tests.config.project import load, place_of, problems, unmark, write_project

HEAD = """\
version: 1
vars: {team: Ops, days: [mon, tue], deep: {type: object, default: {days: [1]}}}
datasets:
  rows: {path: data/rows.csv}
models:
  m: {provider: echo}
"""
SHAPED = "schema: {label: string, claims: [{text: string, sure?: boolean}]}"
A_STEP = "steps:\n  - {id: a, model: m, prompt: hi}\n"
TWO = f"""\
steps:
  - id: one
    foreach: datasets.rows
    prompt: "x {{{{ item.body }}}}"
    {SHAPED}
  - id: two
"""

CASES: dict[str, tuple[str, str, str]] = {
    # the file and its keys
    "a list": ("«- »a\n", "C202", ""),
    "unknown key": (HEAD + A_STEP + "«step»: 1\n", "C203", "did you mean 'steps'?"),
    "key of another mapping": (
        HEAD + "steps:\n  - id: a\n    prompt: x\n    «temperature»: 1\n",
        "C203",
        "'temperature' may stand under 'params'",
    ),
    "slip in a key of another mapping": (
        HEAD + "steps:\n  - id: a\n    prompt: x\n    «temprature»: 1\n",
        "C203",
        "did you mean 'temperature' under 'params'?",
    ),
    "slip in a key": (HEAD + "steps:\n  - {id: a, «promt_file»: x}\n", "C203", "did you mean 'prompt_file'?"),
    "slip in a key that has to be there": (
        HEAD + A_STEP + "outputs: [{«form»: steps.a, path: output/x.csv}]\n",
        "C203",
        "did you mean 'from'?",
    ),
    "missing key": (HEAD + "steps:\n  - {«prompt»: x}\n", "C201", ""),
    "version as text": ("version: «'1'»\n" + HEAD.partition("\n")[2] + A_STEP, "C204", "write 1, without quotes"),
    "number as text": (
        HEAD + "max_failures: 3\ndefaults: {retry: {max_retries: «'3'»}}\n" + A_STEP,
        "C202",
        "write 3, without quotes",
    ),
    "yes for true": (HEAD + "steps:\n  - {id: a, prompt: x, allow_skipped: «yes»}\n", "C202", "write true"),
    "steps by name": (
        HEAD + "steps:\n  «one»: {prompt: x}\n",
        "C202",
        "write each step with a dash: '- id: one'",
    ),
    "models with dashes": (
        "version: 1\nmodels:\n  «-» {provider: echo}\n" + "steps:\n  - {id: a, render: hi}\n",
        "C202",
        "write each under its name, without a dash: 'name: ...'",
    ),
    "foreach without its kind": (
        HEAD + "steps:\n  - {id: a, foreach: «rows», prompt: '{{ item.body }}'}\n",
        "C204",
        "did you mean 'datasets.rows'?",
    ),
    "foreach with a slip": (
        HEAD + "steps:\n  - {id: a, foreach: «dataset.rosw», prompt: '{{ item.body }}'}\n",
        "C204",
        "did you mean 'datasets.rows'?",
    ),
    "foreach over a bare var": (
        HEAD + "steps:\n  - {id: a, foreach: «days», prompt: '{{ item }}'}\n",
        "C204",
        "did you mean 'vars.days'?",
    ),
    "foreach over a bare step": (
        HEAD + TWO + "    foreach: «one»\n    prompt: '{{ item.body }}'\n",
        "C204",
        "did you mean 'steps.one'?",
    ),
    "foreach of nothing alike": (HEAD + "steps:\n  - {id: a, foreach: «zzz», prompt: hi}\n", "C204", ""),
    "model of a misspelt provider": (
        HEAD + "steps:\n  - {id: a, model: «openia/gpt-5», prompt: hi}\n",
        "C215",
        "did you mean 'openai/gpt-5'?",
    ),
    "no steps": (HEAD + "steps: «[]»\n", "C204", ""),
    "two things at once": (HEAD + "steps:\n  - {id: a, prompt: x, «render»: y}\n", "C205", ""),
    "nothing to do": (HEAD + "steps:\n  - {«id»: a}\n", "C205", ""),
    "wrong type": (HEAD + "steps:\n  - {id: a, prompt: «[x]»}\n", "C202", ""),
    "number for text": (HEAD + "steps:\n  - {id: a, prompt: «12»}\n", "C202", 'quote this: "12"'),
    "not among the choices": (
        HEAD + "steps:\n  - {id: a, prompt: x, on_error: «contine»}\n",
        "C204",
        "did you mean 'continue'?",
    ),
    "duration without a unit": (HEAD + "defaults: {timeout: {idle: «60»}}\n" + A_STEP, "C204", "say the unit: 60s"),
    "negative duration": (HEAD + "defaults: {retry: {base: «-1s»}}\n" + A_STEP, "C204", ""),
    "negative number": (HEAD + "defaults: {retry: {max_retries: «-1»}}\n" + A_STEP, "C204", ""),
    "share as a fraction": (HEAD + "steps:\n  - {id: a, prompt: x, min_success: «0.98»}\n", "C204", "write 98%"),
    "share above all": (HEAD + "max_failures: «101%»\n" + A_STEP, "C204", ""),
    "count of nothing": (HEAD + "budget: {calls: «0»}\n" + A_STEP, "C204", ""),
    "count that is a fraction": (HEAD + "budget: {calls: «1.2345k»}\n" + A_STEP, "C204", ""),
    "hyphen in a name": (HEAD + "steps:\n  - {id: «my-step», prompt: x}\n", "C204", ""),
    "hyphen in the name of a dataset": (
        HEAD.replace("  rows:", "  «my-rows»:") + A_STEP,
        "C204",
        "write 'my_rows'",
    ),
    "id twice": (HEAD + "steps:\n  - {id: a, prompt: x}\n  - {id: «a», prompt: y}\n", "C206", ""),
    "key without effect in render": (HEAD + "steps:\n  - {id: a, render: x, «model»: m}\n", "C207", "remove it"),
    "key without effect in python": (
        HEAD + "steps:\n  - {id: a, python: 'json:dumps', «system»: x}\n",
        "C207",
        "remove it",
    ),
    "re-asks of nothing": (HEAD + "steps:\n  - {id: a, prompt: x, «max_reasks»: 2}\n", "C207", "remove it"),
    # templates and references
    "unknown name": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ «boddy» }}'}\n",
        "C210",
        "did you mean 'item.body'?",
    ),
    "unknown name in a block": (
        HEAD + "steps:\n  - id: a\n    foreach: datasets.rows\n    prompt: |\n      One\n      two {{ «bodi» }}\n",
        "C210",
        "did you mean 'item.body'?",
    ),
    "a column without item": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ «body» }}'}\n",
        "C210",
        "did you mean 'item.body'?",
    ),
    "slip in item": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ «itm».body }}'}\n",
        "C210",
        "did you mean 'item'?",
    ),
    "unknown column": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ «item.bdy» }}'}\n",
        "C217",
        "did you mean 'item.body'?",
    ),
    "item without foreach": (HEAD + "steps:\n  - {id: a, prompt: '{{ «item».body }}'}\n", "C210", ""),
    "parent without one": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ «parent».body }}'}\n",
        "C210",
        "",
    ),
    "output in a prompt": (HEAD + "steps:\n  - {id: a, prompt: '{{ «output» }}'}\n", "C210", ""),
    "unknown var": (HEAD + "steps:\n  - {id: a, prompt: '{{ «vars.teem» }}'}\n", "C214", "did you mean 'vars.team'?"),
    "unknown step": (HEAD + TWO + "    prompt: '{{ «steps.on» }}'\n", "C212", "did you mean 'steps.one'?"),
    "unknown field of an output": (
        HEAD + TWO + "    foreach: datasets.rows\n    prompt: '{{ «steps.one.lable» }}'\n",
        "C217",
        "did you mean 'steps.one.label'?",
    ),
    "field of a text": (
        HEAD + "steps:\n  - {id: one, prompt: x}\n  - {id: two, prompt: '{{ «steps.one.label» }}'}\n",
        "C217",
        "",
    ),
    "field of a list": (HEAD + TWO + "    prompt: '{{ «steps.one.label» }}'\n", "C218", ""),
    "itself": (HEAD + "steps:\n  - {id: a, prompt: '{{ «steps.a» }}'}\n", "C216", ""),
    "a cycle": (
        HEAD + "steps:\n  - {id: a, prompt: '{{ «steps.b» }}'}\n  - {id: b, prompt: '{{ steps.a }}'}\n",
        "C216",
        "",
    ),
    "a cycle by needs": (HEAD + "steps:\n  - {id: a, prompt: x, needs: [«a»]}\n", "C216", ""),
    "a cycle of items": (
        HEAD + "steps:\n  - {id: a, foreach: «steps.b», prompt: x}\n  - {id: b, foreach: steps.a, prompt: x}\n",
        "C216",
        "",
    ),
    "unknown need": (HEAD + TWO + "    prompt: x\n    needs: «oen»\n", "C212", "did you mean 'one'?"),
    "slip in a fanned out element": (
        HEAD + TWO + "    foreach: steps.one.claims\n    prompt: '{{ «item.txt» }} {{ parent.body }}'\n",
        "C217",
        "did you mean 'item.text'?",
    ),
    "template syntax": (HEAD + "steps:\n  - {id: a, prompt: 'x {{ vars.team «}»'}\n", "C240", ""),
    "expression syntax": (
        HEAD + "steps:\n  - {id: a, prompt: x, if: '{{ vars.team «}»}'}\n",
        "C240",
        "an expression stands here: write it without the braces",
    ),
    "slip in if": (
        HEAD + "steps:\n  - {id: a, foreach: datasets.rows, if: '«item.idd» == 1', prompt: x}\n",
        "C217",
        "did you mean 'item.id'?",
    ),
    "slip in check": (
        HEAD + TWO + "    prompt: x\n    schema: {a: string}\n    check: «output.b» == 'x'\n",
        "C217",
        "",
    ),
    # foreach
    "unknown dataset": (
        HEAD + "steps:\n  - {id: a, foreach: «datasets.row», prompt: x}\n",
        "C213",
        "did you mean 'datasets.rows'?",
    ),
    "unknown list": (HEAD + TWO + "    foreach: «steps.one.clams»\n    prompt: x\n", "C217", "did you mean 'claims'?"),
    "not a list": (HEAD + TWO + "    foreach: «steps.one.label»\n    prompt: x\n", "C219", ""),
    "var that is no list": (HEAD + "steps:\n  - {id: a, foreach: «vars.team», prompt: x}\n", "C219", ""),
    "unknown group": (
        HEAD + TWO + "    foreach: {group: «steps.oen»}\n    prompt: x\n",
        "C212",
        "did you mean 'steps.one'?",
    ),
    "unknown field in by": (
        HEAD + TWO + "    foreach: {group: steps.one, by: «output.lable»}\n    prompt: x\n",
        "C217",
        "did you mean 'output.label'?",
    ),
    "unknown field of a group": (
        HEAD + TWO + "    foreach: {group: steps.one}\n    prompt: '{{ «item.row» }}'\n",
        "C217",
        "did you mean 'item.rows'?",
    ),
    "overlap as large as size": (
        HEAD
        + "steps:\n  - {id: a, foreach: {split: datasets.rows, text: item.body, size: 10, «overlap»: 10}, prompt: x}\n",
        "C204",
        "",
    ),
    "text to split": (
        HEAD + "steps:\n  - {id: a, foreach: {split: datasets.rows, text: «item.bod», size: 10}, prompt: x}\n",
        "C217",
        "did you mean 'item.body'?",
    ),
    # models and providers
    "unknown model": (HEAD + "steps:\n  - {id: a, model: «mm», prompt: x}\n", "C215", "did you mean 'm'?"),
    "unknown model among defaults": (HEAD + "defaults: {model: «n»}\n" + A_STEP, "C215", ""),
    "unknown fallback with errors": (
        HEAD + "steps:\n  - {id: a, fallback: [{model: «n», on: [timeout]}], prompt: x}\n",
        "C215",
        "",
    ),
    "unknown error of a fallback": (
        (
            "version: 1\nmodels: {m: {provider: echo, fallback: [{model: k, on: [«timeouts»]}]}, k: {provider: echo}}\n"
            "steps:\n  - {id: a, model: m, prompt: x}\n"
        ),
        "C204",
        "did you mean 'timeout'?",
    ),
    "fallback without a model": (HEAD + "steps:\n  - {id: a, fallback: [{«on»: [timeout]}], prompt: x}\n", "C201", ""),
    "unknown fallback": (HEAD + "steps:\n  - {id: a, fallback: [«n»], prompt: x}\n", "C215", ""),
    "model twice": (HEAD + "steps:\n  - {id: a, model: [m, «m»], prompt: x}\n", "C206", ""),
    "no model named": (HEAD + "  n: {provider: echo}\nsteps:\n  - {«id»: a, prompt: x}\n", "C201", ""),
    "unknown provider": (HEAD + "  n: {provider: «opnai»}\n" + A_STEP, "P451", "did you mean 'openai'?"),
    "no base_url": (HEAD + "  n: {provider: «openai_compatible», model: x}\n" + A_STEP, "P452", ""),
    "key sent elsewhere": (HEAD + "  n: {provider: openai, base_url: «'https://x.example/v1'»}\n" + A_STEP, "P452", ""),
    "somebody else's key": (
        HEAD
        + "  n: {provider: openai_compatible, base_url: 'https://x.example', api_key_env: «OPENAI_API_KEY»}\n"
        + A_STEP,
        "P453",
        "",
    ),
    "plain http": (HEAD + "  n: {provider: ollama, base_url: «'http://far.example'»}\n" + A_STEP, "P452", ""),
    "no name of a key": (HEAD + "  n: {provider: openai, api_key_env: «AWS_SECRET_ACCESS_KEY»}\n" + A_STEP, "P454", ""),
    "a key as a header": (HEAD + "  n: {provider: openai, headers: «{x-api-key: abc}»}\n" + A_STEP, "P456", ""),
    "a parameter of echo": (HEAD + "  n: {provider: openai, params: {«latency»: 1s}}\n" + A_STEP, "P458", ""),
    "a parameter that is not taken": (HEAD + "  n: {provider: anthropic, params: {«seed»: 1}}\n" + A_STEP, "P458", ""),
    "a stream of echo": (HEAD + "  n: {provider: echo, «stream»: true}\n" + A_STEP, "C207", "remove it"),
    "no stream of echo": (HEAD + "  n: {provider: echo, «stream»: false}\n" + A_STEP, "C207", "remove it"),
    "an address of echo": (
        HEAD + "  n: {provider: echo, «base_url»: 'http://127.0.0.1:1'}\n" + A_STEP,
        "C207",
        "remove it",
    ),
    "a key of echo": (HEAD + "  n: {provider: echo, «api_key_env»: MY_API_KEY}\n" + A_STEP, "C207", "remove it"),
    "headers of echo": (HEAD + "  n: {provider: echo, «headers»: {x-a: b}}\n" + A_STEP, "C207", "remove it"),
    "plain http of echo": (HEAD + "  n: {provider: echo, «allow_http»: true}\n" + A_STEP, "C207", "remove it"),
    "a schema_mode of echo": (HEAD + "  n: {provider: echo, «schema_mode»: prompt}\n" + A_STEP, "C207", "remove it"),
    "a stream of own code": (HEAD + "  n: {provider: 'json:dumps', «stream»: true}\n" + A_STEP, "C207", "remove it"),
    "an address of own code": (
        HEAD + "  n: {provider: 'json:dumps', «base_url»: 'https://x.example'}\n" + A_STEP,
        "C207",
        "remove it",
    ),
    "faults above all": (
        HEAD + "  n: {provider: echo, params: {«faults»: {timeout: 60%, refusal: 50%}}}\n" + A_STEP,
        "C204",
        "",
    ),
    "a shared gate": (
        HEAD
        + "  n: {provider: openai, model: g, limits: {rpm: 5}}\n  o: {provider: openai, model: g, «limits»: {rpm: 6}}\n"
        + A_STEP,
        "P459",
        "",
    ),
    "a budget that cannot be kept": (
        HEAD + "  «n»: {provider: openai, model: g}\nbudget: {tokens: 1k}\nsteps:\n  - {id: a, model: n, prompt: x}\n",
        "C229",
        "add params: {max_output_tokens: 2000}",
    ),
    "a budget without a price": (
        HEAD
        + "  «n»: {provider: openai, model: unheard-of, params: {max_output_tokens: 9}}\nbudget: {usd: 1}\n"
        + "steps:\n  - {id: a, model: n, prompt: x}\n",
        "C229",
        "add price: {input: 0.25, output: 2}",
    ),
    # secrets
    "a key in a prompt": (HEAD + "steps:\n  - {id: a, prompt: 'use «sk-proj-Ab3dEf6hIj9kLm2nOp5q» now'}\n", "P455", ""),
    "api_key": (HEAD + "  n: {provider: openai, «api_key»: abc}\n" + A_STEP, "P455", ""),
    # files
    "missing dataset": (HEAD.replace("data/rows.csv", "«data/row.csv»") + A_STEP, "D301", ""),
    "glob without files": (HEAD.replace("data/rows.csv", "«data/*.tsv»") + A_STEP, "D301", ""),
    "dataset outside": (HEAD.replace("data/rows.csv", "«/etc/passwd»") + A_STEP, "C228", ""),
    "dataset above the project": (HEAD.replace("data/rows.csv", "«../../../x.csv»") + A_STEP, "C228", ""),
    "glob above the project": (HEAD.replace("data/rows.csv", "«../../../*.csv»") + A_STEP, "C228", ""),
    "home folder": (HEAD.replace("data/rows.csv", "«~/rows.csv»") + A_STEP, "C228", ""),
    "unknown format": (HEAD.replace("data/rows.csv", "«p.xyz»") + A_STEP, "D303", ""),
    **{
        f"{encoding} for texts": (
            HEAD.replace("data/rows.csv", f"data/rows.csv, encoding: «{encoding}»") + A_STEP,
            "C204",
            "",
        )
        for encoding in ("rot13", "base64", "idna", "zlib", "undefined")
    },
    "unknown encoding": (HEAD.replace("data/rows.csv", "data/rows.csv, encoding: «utf-42»") + A_STEP, "C204", ""),
    "missing prompt file": (HEAD + "steps:\n  - {id: a, prompt_file: «gone.md»}\n", "D301", ""),
    "var in a path": (
        HEAD.replace("data/rows.csv", "'data/{{ «vars.day» }}.csv'") + A_STEP,
        "C214",
        "did you mean 'vars.days'?",
    ),
    "item in a path": (HEAD.replace("data/rows.csv", "'data/{{ «item.x» }}.csv'") + A_STEP, "C210", ""),
    "missing schema": (HEAD + "steps:\n  - {id: a, prompt: x, schema: «s.json»}\n", "D301", ""),
    "slip in a short schema": (
        HEAD + "steps:\n  - {id: a, prompt: x, schema: {a: «strng»}}\n",
        "C227",
        "did you mean 'string'?",
    ),
    "slip in a JSON Schema": (
        HEAD + "steps:\n  - {id: a, prompt: x, schema: {type: object, properties: {a: {«typ»: string}}}}\n",
        "C227",
        "did you mean 'type'?",
    ),
    # outputs
    "output of nothing": (HEAD + A_STEP + "outputs: [{from: «steps.b», path: output/x.csv}]\n", "C212", ""),
    "output outside": (HEAD + A_STEP + "outputs: [{from: steps.a, path: «../x.csv»}]\n", "C228", ""),
    "output of unknown format": (HEAD + A_STEP + "outputs: [{from: steps.a, path: «output/x»}]\n", "O522", ""),
    "output over the pipeline": (
        HEAD + A_STEP + "outputs: [{from: steps.a, format: text, path: «pipelines/p.yaml»}]\n",
        "O523",
        "",
    ),
    "two outputs of one name": (
        HEAD + A_STEP + "outputs: [{from: steps.a, path: output/x.md}, {from: steps.a, path: «output/x.md»}]\n",
        "O521",
        "",
    ),
    "slip in a column": (
        HEAD + TWO + "    prompt: x\noutputs: [{from: steps.one, path: output/x.csv, columns: {a: «item.idd»}}]\n",
        "C217",
        "did you mean 'item.id'?",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_once_at_its_place(case: str, tmp_path: Path) -> None:
    marked, code, hint = CASES[case]
    text, places = unmark(marked)
    found = problems(tmp_path, text, {"p.xyz": "x\n"})
    assert [(p.code, p.hint) for p in found] == [(code, hint)]
    assert place_of(found[0])[:2] == places[0][:2]
    if places[0][1] + places[0][2] <= len(text.split("\n")[places[0][0] - 1]) and "\n" not in found[0].message:
        assert place_of(found[0]) == places[0] or code in ("C240", "C202")


@pytest.mark.parametrize("said", ["openai/gpt-5.1-mini", "openia/gpt-5.1-mini"])
def test_how_to_declare_a_model_is_told_where_it_is_named_by_its_provider(said: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + f"steps:\n  - {{id: a, model: {said}, prompt: hi}}\n")
    assert "`models: {gpt-5.1-mini: {provider: openai, model: gpt-5.1-mini}}`" in problem.note
    assert "`model: gpt-5.1-mini`" in problem.note
    text = HEAD + "  gpt-5.1-mini: {provider: openai, model: gpt-5.1-mini}\n"
    load(tmp_path, text + "steps:\n  - {id: a, model: gpt-5.1-mini, prompt: hi}\n")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text, places = unmark(
        HEAD
        + "«typo»: 1\ndefaults: {timeout: {idle: «60»}}\nsteps:\n"
        + "  - {id: a, foreach: datasets.rows, prompt: '{{ «item.bdy» }} {{ «vars.x» }}', if: '«steps.zz»'}\n"
        + "  - {id: b, foreach: «datasets.none», prompt: '{{ item.anything }}', model: «mm»}\n"
        + "outputs: [{from: «steps.c», path: «/x.csv»}]\n"
    )
    assert [place_of(p) for p in problems(tmp_path, text)] == places


CONSEQUENCES = """\
version: 1
vars:
  «v»: {type: list, required: true}
datasets: {rows: {path: data/rows.csv}}
models: {m: {provider: echo}}
steps:
  - {id: a, foreach: datasets.rows, prompt: x, schema: {score: «integr»}}
  - {id: b, foreach: datasets.rows, prompt: '{{ steps.a.score }}', schema: «none.json»}
  - {id: c, foreach: steps.b.things, prompt: '{{ item.x }} {{ steps.b.y }} {{ parent.body }}', schema: «5»}
  - {id: d, foreach: «steps.bb», if: steps.a.score > 2, prompt: '{{ steps.b.y }} {{ parent.x }} {{ «who» }}'}
  - {id: e, foreach: datasets.rows, prompt: '{{ steps.d.x }} {{ steps.c | length }}'}
  - {id: f, foreach: {group: «steps.aa», by: output.scor}, prompt: '{{ item.rows }} {{ steps.a.score }}'}
  - {id: g, foreach: vars.v, prompt: '{{ item.x }} {{ steps.a | length }}'}
outputs: [{from: steps.d, path: output/x.csv, columns: {a: steps.a.score, b: item.x, c: parent.y}}]
"""


def test_nothing_is_told_that_only_follows_from_another_mistake(tmp_path: Path) -> None:
    text, places = unmark(CONSEQUENCES)
    assert [place_of(p)[:2] for p in problems(tmp_path, text)] == [(line, column) for line, column, _ in places]


def test_the_place_in_a_prompt_file_is_in_that_file(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - {id: a, foreach: datasets.rows, prompt_file: prompts/a.md}\n"
    (problem,) = problems(tmp_path, text, {"prompts/a.md": "# Title\r\n\r\nSay {{ item.bdy }}\r\n"})
    assert problem.place.file.endswith("prompts/a.md")
    assert place_of(problem) == (3, 8, 8)
    assert problem.where == "line 3 of the prompt"


def test_the_place_in_a_schema_file_is_in_that_file(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - {id: a, prompt: x, schema: s.json}\n"
    schema = '{"type": "object",\n "properties": {"a": {"type": "string"}},\n "required": ["b"]}\n'
    (problem,) = problems(tmp_path, text, {"s.json": schema})
    assert (problem.code, problem.place.line) == ("C227", 3)
    assert problem.place.file.endswith("s.json")
    (problem,) = problems(tmp_path, text, {"s.json": '{"type": "object",\n "a" 1}'})
    assert (problem.code, place_of(problem)[:2]) == ("C227", (2, 6))
    (problem,) = problems(tmp_path, text, {"s.json": '{"type": "object", "type": "array"}'})
    assert "stands twice" in problem.message


def test_a_key_in_place_of_its_variable_is_told_once(tmp_path: Path) -> None:
    key = "sk-proj-abcdefghijkl" + "mnopqrstuvwx1234567890"
    text = f"version: 1\nmodels: {{m: {{provider: openai, api_key_env: {key}}}}}\nsteps: [{{id: a, prompt: x}}]\n"
    assert [p.code for p in problems(tmp_path, text)] == ["P455"]


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    key = "sk-ant-api03-AbCd1234EfGh5678IjKl"
    (problem,) = problems(tmp_path, HEAD + f"  n: {{provider: openai, api_key: {key}}}\n" + A_STEP)
    assert key not in f"{problem.message} {problem.note} {problem.hint}"


@pytest.mark.parametrize(
    "word", ["sk-something-like-this-word", "task-1234567890123456789012", "risk-free", "sk-xxxxxxxxxxxxxxxxxxxx"]
)
def test_words_are_not_keys(word: str, tmp_path: Path) -> None:
    load(tmp_path, HEAD + f"steps:\n  - {{id: a, prompt: '{word}'}}\n")


def test_a_json_row_that_may_have_more_columns_only_warns(tmp_path: Path) -> None:
    text = (
        HEAD.replace("rows.csv", "rows.jsonl")
        + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '{{ item.bdy }}'}\n"
    )
    pipeline = load(tmp_path, text, {"data/rows.jsonl": '{"id": 1, "body": "x"}\n'})
    assert [(w.code, w.hint) for w in pipeline.warnings] == [("C217", "did you mean 'item.body'?")]
    guarded = text.replace("item.bdy", "item.bdy | default(1)")
    assert load(tmp_path, guarded, {"data/rows.jsonl": '{"id": 1, "body": "x"}\n'}).warnings == ()


USES = HEAD.replace("rows.csv", "rows.jsonl") + "steps:\n  - {id: a, foreach: datasets.rows, prompt: '%s'}\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{"id": 1}\n{"id": 2}\n', "in the 2 rows of dataset 'rows'"),
        ('{"id": 1}\n', "in the row of dataset 'rows'"),
        ("".join(f'{{"id": {n}}}\n' for n in range(60)), "in the first 50 rows of dataset 'rows'"),
        ('{"id": 1}\n{torn\n', "in the first row of dataset 'rows'"),
        (f'{{"id": "{"x" * 70_000}"}}\n' + '{"nope": 1}\n' * 50, "in the first row of dataset 'rows'"),
        ('{"id": 1}\n' * 1 + "".join(f'{{"id": {n}, "nope": 2}}\n' for n in range(49)), ""),
    ],
)
def test_a_column_that_no_row_at_hand_has_warns(rows: str, said: str, tmp_path: Path) -> None:
    files = {"data/rows.jsonl": rows}
    warnings = load(tmp_path, USES % "{{ item.nope }}", files).warnings
    assert [(w.code, w.place.line, said in w.message) for w in warnings] == ([("C217", 8, True)] if said else [])
    for guarded in ("{{ item.nope | default(1) }}", "{% if item.nope is defined %}{{ item.nope }}{% endif %}"):
        assert load(tmp_path, USES % guarded, files).warnings == ()
    chosen = (USES % "{{ item.nope }}").replace("prompt:", "if: item.nope is defined, prompt:")
    assert load(tmp_path, chosen, files).warnings == ()


def test_nothing_is_known_of_rows_that_are_not_there(tmp_path: Path) -> None:
    assert load(tmp_path, USES % "{{ item.nope }}", {"data/rows.jsonl": ""}).warnings == ()


def test_an_unused_dataset_warns(tmp_path: Path) -> None:
    assert [w.code for w in load(tmp_path, HEAD + A_STEP).warnings] == ["C230"]


def test_two_pipelines_of_one_name(tmp_path: Path) -> None:
    text, places = unmark(HEAD + "name: «same»\n" + A_STEP)
    other = {"sub/other.yml": "name: Same\nversion: 1\nsteps: []\n"}
    (problem,) = problems(tmp_path, text, other)
    assert (problem.code, place_of(problem)) == ("C225", places[0])
    assert "other.yml" in problem.message
    load(tmp_path, text, {"sub/other.yml": "name: other\nsteps: []\n", "sub/vars.yaml": "name: same\n"})


def test_a_file_whose_name_is_no_name(tmp_path: Path) -> None:
    path = write_project(tmp_path, HEAD + A_STEP, name="my pipeline.yaml")
    with pytest.raises(ConfigError, match="C226"):
        load_pipeline(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.yaml", tmp_path, tmp_path / "a\0b", tmp_path / ("x" * 5000)):
        with pytest.raises(ConfigError, match="Y112"):
            load_pipeline(path)


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    text = HEAD.replace("data/rows.csv", "'data/w[1].csv'") + "steps: [{id: a, foreach: datasets.rows, prompt: x}]\n"
    paths = load(tmp_path, text, {"data/w[1].csv": "id\n1\n", "data/w1.csv": "id\n2\n"}).datasets["rows"].paths
    assert [path.name for path in paths] == ["w[1].csv"]


def test_a_pipe_is_no_dataset(tmp_path: Path) -> None:
    path = write_project(tmp_path, HEAD.replace("data/rows.csv", "data/pipe.jsonl") + A_STEP)
    os.mkfifo(path.parent / "data/pipe.jsonl")
    with pytest.raises(ConfigError, match="is no regular file"):
        load_pipeline(path)


def test_symlinks_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("id,body\n1,x\n")
    project = tmp_path / "project"
    path = write_project(project, HEAD.replace("rows.csv", "link.csv") + A_STEP)
    (project / "pipelines/data/link.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(ConfigError, match="C228"):
        load_pipeline(path)
    assert load_pipeline(path, allow_read=[tmp_path]).datasets["rows"].paths == (tmp_path / "outside.csv",)
    (project / "pipelines/data/sub").symlink_to(tmp_path)
    path.write_text(HEAD.replace("data/rows.csv", "data/*/*.csv") + A_STEP)
    with pytest.raises(ConfigError, match="C228"):
        load_pipeline(path)


LINES = "  lines: {path: data/some.txt, format: lines}\n"
SOME = {"data/some.txt": "a\nb\n"}


def test_the_columns_of_lines_are_those_that_their_rows_have(tmp_path: Path) -> None:
    text = HEAD.replace("models:", LINES + "models:") + "steps:\n  - {id: a, foreach: datasets.lines, render: '%s'}\n"
    load(tmp_path, text % "{{ item.text }} {{ item.number }}", SOME)
    (problem,) = problems(tmp_path, text % "{{ item.line }}", SOME)
    assert (problem.code, problem.note) == ("C217", "columns: text, number")


@pytest.mark.parametrize(
    ("rows", "code", "part"),
    [
        ("id,body,tags\n1,a,b\n", "D306", "did you mean 'id'?"),
        ("id;body\n1;a\n", "D307", "pipelines/data/rows.csv:1"),
        ("id,body,tags\n1,a\n", "D307", "pipelines/data/rows.csv:2"),
        ("id,id\n1,a\n", "D307", "pipelines/data/rows.csv:1"),
    ],
)
def test_what_the_first_row_tells_is_told_before_a_run(
    rows: str, code: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        HEAD.replace("rows.csv}", "rows.csv, key: «idd»}") + "steps:\n  - {id: a, foreach: datasets.rows, render: x}\n"
    )
    text, (place,) = unmark(text)
    (problem,) = problems(tmp_path, text, {"data/rows.csv": rows})
    assert problem.code == code
    assert part in f"{problem.hint} {problem.place.file}:{problem.place.line}"
    assert code != "D306" or place_of(problem) == place


def test_a_step_with_a_broken_foreach_leaves_no_dataset_unused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, HEAD + "steps:\n  - {id: a, foreach: rows, render: x}\n")
    assert [p.code for p in caught.value.problems] == ["C204"]


@pytest.mark.parametrize("path", ["category", "output.category"])
def test_how_to_loop_over_a_list_is_shown_as_it_has_to_be_written(path: str, tmp_path: Path) -> None:
    text = HEAD + TWO + f"    prompt: '{{{{ steps.one.{path} }}}}'\n"
    (problem,) = problems(tmp_path, text)
    assert "{{ row.output.category }}" in problem.note


def test_a_folder_for_a_file_is_told_what_to_write(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD.replace("data/rows.csv", "data") + A_STEP)
    assert (problem.code, problem.note) == ("D301", "for files in it write a pattern, as in 'data/*.md'")


def test_a_fault_in_a_short_schema_stands_under_the_value(tmp_path: Path) -> None:
    text, places = unmark(HEAD + "steps:\n  - {id: a, model: m, prompt: x, schema: {a: «strng», b: «integer 5..1»}}\n")
    assert [place_of(p) for p in problems(tmp_path, text)] == places


@pytest.mark.parametrize(
    ("python", "hint"),
    [("«nomod:fn»", ""), ("«nomod.part:fn»", ""), ("«mien:fn»", "did you mean 'mine:fn'?")],
)
def test_a_module_that_is_not_there_is_told_at_its_name(python: str, hint: str, tmp_path: Path) -> None:
    text, (place,) = unmark(HEAD + f"steps:\n  - id: a\n    python: {python}\n")
    (problem,) = problems(tmp_path, text, {"mine.py": "raise SystemExit('imported')\n"})
    assert (problem.code, problem.hint, place_of(problem)) == ("C250", hint, place)


@pytest.mark.parametrize("python", ["mine:fn", "json.decoder:x", "sys:exit", "deep.mine:fn", "../top:fn"])
def test_a_module_is_found_without_running_it(python: str, tmp_path: Path) -> None:
    failing = "raise SystemExit('imported')\n"
    files = {"mine.py": failing, "deep/mine.py": failing, "../top.py": failing}
    text, (place,) = unmark(HEAD + f"steps:\n  - id: a\n    python: «{python.removeprefix('../')}»\n")
    (step,) = load(tmp_path, text, files).steps
    assert step.python_place is not None
    assert (step.python_place.line, step.python_place.column) == place[:2]


def test_the_module_of_a_provider_is_looked_for_too(tmp_path: Path) -> None:
    text, (place,) = unmark(HEAD.replace("echo", "«nomod:Mine»") + A_STEP)
    (_, problem) = load(tmp_path, text).warnings
    assert (problem.code, place_of(problem)) == ("C250", place)
