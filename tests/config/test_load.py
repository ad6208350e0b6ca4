"""What a file that loads comes to: scopes, references, policies, vars, includes, overrides."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpipe.config.load import project_root
from llmpipe.config.pipeline import Step
from llmpipe.config.quantities import parse_duration, parse_quantity
from llmpipe.config.vars import parse_assignments, parse_overrides
from llmpipe.errors import ConfigError
from llmpipe.policy import Budget, CachePolicy, Limits, MaxFailures, MinSuccess, Retry, Timeout
from tests.config.project import attempt, load, place_of, problems, write_project

HEAD = (
    "version: 1\ndatasets: {rows: {path: data/rows.csv, key: id}}\nmodels: {m: {provider: echo}, n: {provider: echo}}\n"
)
HEAD += "defaults: {model: m}\n"
GRAPH = (
    HEAD
    + """
vars: {days: [mon, tue]}
steps:
  - {id: last, prompt: "{{ steps.label | length }} {{ steps.deep | length }}"}
  - {id: label, foreach: datasets.rows, prompt: "{{ item.body }}", schema: {claims: [{parts: [{t: string}]}]}}
  - {id: answer, foreach: steps.label, prompt: "{{ item.body }}"}
  - id: verify
    foreach: steps.label.claims
    prompt: "{{ parent.body }} {{ steps.label.claims | length }} {{ steps.answer }}"
  - {id: deep, foreach: steps.label.claims, prompt: x, schema: {list: ["string"]}}
  - id: deeper
    foreach: steps.deep.list
    prompt: "{{ item }} {{ parent.parts | length }} {{ steps.deep.list | length }}"
  - {id: roundup, foreach: datasets.rows, prompt: "{% for c in steps.verify %}{{ c.output }}{% endfor %}"}
  - id: grouped
    foreach: {group: steps.label, by: item.id, size: 2}
    prompt: "{{ item.rows | length }} {{ steps.label.failed }}"
  - {id: daily, foreach: vars.days, prompt: "{{ item }} {{ key }}"}
  - id: pieces
    foreach: {split: datasets.rows, text: item.body, by: lines, size: 2k, overlap: 10}
    prompt: "{{ item.text }} {{ parent.id }}"
  - {id: sampled, foreach: datasets.rows, samples: 3, model: [m, n], prompt: "{{ item.body }} {{ parent.body }}"}
  - {id: judged, foreach: steps.sampled, prompt: "{{ steps.sampled }} {{ item.body }}"}
  - {id: voted, foreach: datasets.rows, prompt: "{{ steps.sampled | length }}"}
  - {id: coded, foreach: datasets.rows, python: "json:dumps", needs: [label, daily]}
"""
)


def refs(step: Step) -> dict[str, str]:
    return {ref.step: ref.mode for ref in step.refs}


def test_scopes_and_references(tmp_path: Path) -> None:
    p = load(tmp_path, GRAPH)
    scope = {s.id: s.scope for s in p.steps}
    kinds = {id: [p.scopes[s].kind for s in _chain(p, scope[id])] for id in scope}
    assert kinds["last"] == ["root"]
    assert scope["label"] == scope["answer"] == scope["roundup"] == "dataset:rows"
    assert scope["verify"] == scope["deep"] == "fanout:label.claims"
    assert kinds["deeper"] == ["fanout", "fanout", "dataset", "root"]
    assert kinds["grouped"] == ["group", "root"]
    assert kinds["daily"] == ["values", "root"]
    assert kinds["pieces"] == ["split", "dataset", "root"]
    assert kinds["sampled"] == ["samples", "models", "dataset", "root"]
    assert scope["judged"] == scope["sampled"]
    assert refs(p.step("last")) == {"label": "whole", "deep": "whole"}
    assert refs(p.step("answer")) == {"label": "own"}
    assert refs(p.step("verify")) == {"label": "own", "answer": "own"}
    assert refs(p.step("deeper")) == {"deep": "own"}
    assert refs(p.step("roundup")) == {"verify": "below"}
    assert refs(p.step("grouped")) == {"label": "whole"}
    assert refs(p.step("judged")) == {"sampled": "own"}
    assert refs(p.step("voted")) == {"sampled": "below"}
    assert refs(p.step("coded")) == {"label": "own", "daily": "whole"}


def _chain(p: Any, scope: str | None) -> list[str]:
    found = []
    while scope is not None:
        found.append(scope)
        scope = p.scopes[scope].parent
    return found


def test_the_order_keeps_uses_before_users(tmp_path: Path) -> None:
    p = load(tmp_path, GRAPH)
    at = {id: n for n, id in enumerate(p.order)}
    assert sorted(at) == sorted(s.id for s in p.steps)
    for step in p.steps:
        for used in (*(r.step for r in step.refs), *step.needs):
            assert at[used] < at[step.id]
    assert at["label"] == 0
    assert at["last"] > at["deep"]


def test_what_the_scopes_hold(tmp_path: Path) -> None:
    p = load(tmp_path, GRAPH)
    split = p.scopes[p.step("pieces").scope].split
    assert split is not None
    assert (split.by, split.size, split.overlap, split.text.source) == ("lines", 2000, 10, "item.body")
    group = p.scopes[p.step("grouped").scope]
    assert (group.step, group.size, group.by and group.by.source) == ("label", 2, "item.id")
    samples = p.scopes["samples:sampled"]
    assert (samples.count, samples.step, p.scopes[samples.parent or ""].models) == (3, "sampled", ("m", "n"))
    assert p.step("sampled").fallback == ()
    assert p.step("judged").fallback is None


POLICIES = (
    HEAD.replace("{model: m}", "{model: m, timeout: {idle: 20s, total: 1h30m}, retry: {cap: 30s}, cache: {ttl: 7d}}")
    + """
budget: {usd: 2.10, tokens: 3_000_000, calls: 10k, wall: 1h}
max_failures: 10%
steps:
  - id: a
    prompt: x
    check: output != ""
    timeout: {idle: none, attempt: 0}
    retry: {max_retries: 0, base: 250ms, jitter: none}
    cache: {write: false}
    min_success: 3
    max_prompt: 64KiB
    fallback: n
  - {id: b, foreach: datasets.rows, prompt: y, cache: off, min_success: 98%, on_error: fail}
  - {id: c, foreach: datasets.rows, prompt: y, min_success: none}
"""
)


def test_policies_of_a_step_stand_over_the_defaults(tmp_path: Path) -> None:
    p = load(tmp_path, POLICIES)
    a, b, c = p.steps
    assert a.timeout == Timeout(connect=5, first_token=None, idle=None, attempt=None, total=5400)
    assert b.timeout == Timeout(idle=20, total=5400)
    assert a.retry == Retry(max_retries=0, base=0.25, cap=30, jitter="none")
    assert b.retry == Retry(cap=30)
    assert a.cache == CachePolicy(read=True, write=False, ttl_s=7 * 86400)
    assert b.cache == CachePolicy(read=False, write=False)
    assert c.cache == CachePolicy(ttl_s=7 * 86400)
    assert (a.min_success, b.min_success) == (MinSuccess(None, 3), MinSuccess(0.98, None))
    assert c.min_success.met(0, 5)
    assert (a.on_error, b.on_error, c.on_error) == ("fail", "fail", "continue")
    assert (a.max_prompt, a.fallback, b.fallback) == (65536, ("n",), None)
    assert p.budget == Budget(usd=Decimal("2.10"), tokens=3_000_000, calls=10_000, wall_s=3600)
    assert p.max_failures == MaxFailures(share=0.1)


def test_models(tmp_path: Path) -> None:
    text = """
version: 1
vars: {id: gpt-5-mini, port: 8001}
models:
  one: {provider: openai, model: "{{ vars.id }}", limits: {concurrency: 4, rpm: none, tpm: 200k}}
  two: {provider: vllm, base_url: "http://127.0.0.1:{{ vars.port }}/v1", price: {input: 0.10, output: 0}}
  gpt-5.1: {provider: openai, params: {stop: END, temperature: 1e-3, max_output_tokens: 2k, extra: {no: on}}}
  e: {provider: echo, params: {latency: 50ms, faults: {rate_limit: 2.5%}}}
steps: [{id: a, model: one, prompt: x}]
"""
    models = load(tmp_path, text).models
    assert models["one"].model == "gpt-5-mini"
    assert models["one"].limits == Limits(concurrency=4, rpm=0, tpm=200_000)
    assert models["two"].base_url == "http://127.0.0.1:8001/v1"
    price = models["two"].price
    assert price is not None
    assert (price.input, price.output, price.cached_input) == (Decimal("0.10"), Decimal(0), None)
    assert models["gpt-5.1"].model == "gpt-5.1"
    assert models["gpt-5.1"].params == {
        "stop": ("END",),
        "temperature": 0.001,
        "max_output_tokens": 2000,
        "extra": {"no": "on"},
    }
    assert models["e"].params == {"latency_s": 0.05, "faults": {"rate_limit": 0.025}}


def test_datasets(tmp_path: Path) -> None:
    text = """
version: 1
vars: {day: mon}
datasets:
  globbed: {path: ["docs/**/*.md", "docs/a.md"]}
  dated: {path: "data/{{ vars.day }}.jsonl.gz"}
  piped: {path: "-", format: lines}
models: {m: {provider: echo}}
steps: [{id: a, prompt: x}]
"""
    files = {"docs/b.md": "b", "docs/a.md": "a", "docs/sub/c.md": "c", "data/mon.jsonl.gz": ""}
    found = load(tmp_path, text, files).datasets
    folder = tmp_path / "pipelines/docs"
    assert found["globbed"].paths == (folder / "a.md", folder / "b.md", folder / "sub/c.md")
    assert (found["globbed"].format, found["dated"].format) == ("files", "jsonl")
    assert (found["piped"].stdin, found["piped"].paths, found["piped"].format) == (True, (), "lines")
    assert "D304" in [p.code for p in problems(tmp_path, text, files, stdin_allowed=False)]


def test_the_only_model_need_not_be_named(tmp_path: Path) -> None:
    p = load(tmp_path, "version: 1\nmodels: {m: {provider: echo}}\nsteps: [{id: a, prompt: x}]\n")
    assert (p.name, p.step("a").models, p.root) == ("p", ("m",), tmp_path)


def test_messages_stand_in_order(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - id: a\n    system: S\n    messages:\n"
    text += "      - {role: user, content: one}\n      - {role: assistant, content: two}\n"
    text += "      - {role: user, content: three}\n"
    step = load(tmp_path, text).step("a")
    turns = [(m.role, m.content.source) for m in step.messages]
    assert turns == [("system", "S"), ("user", "one"), ("assistant", "two"), ("user", "three")]


# vars


VARS = """
version: 1
vars:
  team: Support
  size: 3
  rate: {type: number, default: 0.5}
  loud: false
  days: [mon]
  deep: {type: object, default: {a: 1}}
  free:
models: {m: {provider: echo}}
steps: [{id: a, prompt: "{{ vars.team }} {{ vars.deep.a }} {{ vars.free }}"}]
"""


def test_given_vars_take_the_declared_types(tmp_path: Path) -> None:
    (tmp_path / "team.txt").write_text("Ops\nand more\n")
    (tmp_path / "v.yaml").write_text("size: 9\nloud: true\n")
    given = parse_assignments(
        [f"team=@{tmp_path / 'team.txt'}", "size=4", "rate=1e-1", 'days=["a", "b"]', "deep={a: 2}", "free=x=y"],
        [tmp_path / "v.yaml"],
    )
    assert load(tmp_path, VARS, vars=given).vars == {
        "team": "Ops\nand more",
        "size": 4,
        "rate": 0.1,
        "loud": True,
        "days": ["a", "b"],
        "deep": {"a": 2},
        "free": "x=y",
    }
    assert load(tmp_path, VARS).vars["team"] == "Support"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("teem=x", "C220 the pipeline declares no var 'teem', which --var gives did you mean 'team'?"),
        ("size=many", "C222 --var size wants a whole number, not 'many'"),
        ("size=1.5", "C222 --var size wants a whole number, not 1.5"),
        ("size=true", "C222 --var size wants a whole number, not true"),
        ("loud=yes", "C222 --var loud wants true or false, not 'yes' write true"),
        ("loud=Off", "C222 --var loud wants true or false, not 'Off' write false"),
        ("size=null", "C222 --var size wants a whole number, not null"),
        ("size={a: [true]}", 'C222 --var size wants a whole number, not {"a": [true]}'),
        ("loud=maybe", "C222 --var loud wants true or false, not 'maybe'"),
        ("loud=1", "C222 --var loud wants true or false, not 1 write true"),
        ("days=mon", "C222 --var days wants a list, not 'mon'"),
        ("deep=[", "C222 --var deep wants a mapping, not '['"),
        ("rate={{{", "C222 --var rate wants a number, not '{{{'"),
    ],
)
def test_a_var_of_the_wrong_kind(given: str, said: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, VARS, vars=parse_assignments([given]))
    assert f"{problem.code} {problem.message} {problem.hint}".strip() == said


def test_a_wrong_value_in_a_file_of_vars_is_told_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("# vars\nteam: Ops\nsize:   many\nteem: x\nloud: yes\n")
    given = parse_assignments([], [tmp_path / "v.yaml"])
    told = problems(tmp_path, VARS, vars=given)
    assert [(p.code, p.message, place_of(p)) for p in told] == [
        ("C222", "var 'size' wants a whole number, not 'many'", (3, 9, 4)),
        ("C220", "the pipeline declares no var 'teem', which a file of vars gives", (4, 1, 4)),
        ("C222", "var 'loud' wants true or false, not 'yes'", (5, 7, 3)),
    ]
    assert {Path(p.place.file).name for p in told} == {"v.yaml"}
    (tmp_path / "w.yaml").write_text("size: many\n")
    (problem,) = problems(tmp_path, VARS, vars=parse_assignments(["size=all"], [tmp_path / "w.yaml"]))
    assert (problem.message, problem.place.file) == ("--var size wants a whole number, not 'all'", "the command line")


def test_a_value_that_begins_with_an_at_sign() -> None:
    assert parse_assignments(["team=@@bob", "b=@@"]) == {"team": "@bob", "b": "@"}
    with pytest.raises(ConfigError) as caught:
        parse_assignments(["team=@bob"])
    assert "@@" in caught.value.problems[0].note


@pytest.mark.parametrize("given", [["team"], ["=x"], ["team=@/nowhere/at/all"]])
def test_an_assignment_that_is_none(given: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_assignments(given)


def test_a_file_of_vars_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="C220"):
        parse_assignments([], [tmp_path / "v.yaml"])
    (tmp_path / "v.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match="Y104"):
        parse_assignments([], [tmp_path / "v.yaml"])


# include and --set


def test_included_entries_stand_below_the_file_s_own(tmp_path: Path) -> None:
    text = "version: 1\ninclude: [shared/one.yaml, shared/two.yaml]\nvars: {a: mine}\n"
    text += "defaults: {timeout: {idle: 1s}}\nsteps: [{id: s, foreach: datasets.d, prompt: '{{ item.x }}'}]\n"
    files = {
        "shared/one.yaml": "vars: {a: other, b: 1}\ndefaults: {model: m, timeout: {idle: 9s, total: 8s}}\n",
        "shared/two.yaml": "models: {m: {provider: echo}}\ndatasets: {d: {path: d.csv}}\n",
        "shared/d.csv": "x\n1\n",
    }
    p = load(tmp_path, text, files)
    assert p.vars == {"a": "mine", "b": 1}
    assert p.step("s").models == ("m",)
    assert (p.step("s").timeout.idle, p.step("s").timeout.total) == (1, 8)
    assert p.datasets["d"].paths == (tmp_path / "pipelines/shared/d.csv",)
    assert {s.path.name for s in p.sources} == {"p.yaml", "one.yaml", "two.yaml"}


@pytest.mark.parametrize(
    ("one", "two", "code", "file"),
    [
        ("vars: {a: 1}\n", "vars: {a: 2}\n", "C223", "two.yaml"),
        ("steps: []\n", "", "C223", "p.yaml"),
        ("budget: {usd: 1}\n", "vars: {}\n", "C203", "one.yaml"),
        ("models: {m: {provider: nobody}}\n", "vars: {}\n", "P451", "one.yaml"),
        ("vars: {a: b: c}\n", "vars: {}\n", "Y103", "one.yaml"),
        ("- a\n", "vars: {}\n", "C202", "one.yaml"),
    ],
)
def test_an_included_file_with_a_fault(one: str, two: str, code: str, file: str, tmp_path: Path) -> None:
    text = "version: 1\ninclude: [one.yaml, two.yaml]\nmodels: {q: {provider: echo}}\n"
    text += "steps: [{id: s, model: q, prompt: x}]\n"
    found = problems(tmp_path, text, {"one.yaml": one, "two.yaml": two or "vars: {}\n"})
    assert [(p.code, Path(p.place.file).name) for p in found] == [(code, file)]


STEP = "steps: [{id: s, prompt: 'x {{ vars.a }}'}]\n"


def test_included_files_include_others_below_their_own_entries(tmp_path: Path) -> None:
    text = f"version: 1\ninclude: [sub/one.yaml, sub/two.yaml]\n{STEP}"
    files = {
        "sub/one.yaml": "include: ../base.yaml\nvars: {b: one}\n",
        "sub/two.yaml": "include: [../base.yaml]\nvars: {c: two}\n",
        "base.yaml": "include: deep/d.yaml\nmodels: {m: {provider: echo}}\nvars: {a: base}\n",
        "deep/d.yaml": "vars: {a: deep, d: deep}\ndatasets: {r: {path: ../data/rows.csv}}\ndefaults: {max_reasks: 7}\n",
    }
    p = load(tmp_path, text, files)
    assert p.vars == {"a": "base", "b": "one", "c": "two", "d": "deep"}
    assert (p.step("s").max_reasks, list(p.models)) == (7, ["m"])
    assert {s.path.name for s in p.sources} == {"p.yaml", "one.yaml", "two.yaml", "base.yaml", "d.yaml"}
    assert p.warnings == ()


@pytest.mark.parametrize(
    ("files", "message", "note"),
    [
        (
            {"a.yaml": "include: b.yaml\n", "b.yaml": "include: a.yaml\n"},
            "'a.yaml' includes itself",
            "a.yaml -> {}b.yaml -> {}a.yaml",
        ),
        ({"a.yaml": "include: p.yaml\n"}, "'p.yaml' includes itself", "p.yaml -> {}a.yaml -> {}p.yaml"),
        ({"a.yaml": "include: a.yaml\n"}, "'a.yaml' is this file", ""),
        ({"a.yaml": "include: [b.yaml, ./b.yaml]\n", "b.yaml": "vars: {}\n"}, "'./b.yaml' is included twice", ""),
        (
            {"a.yaml": "include: '{{ vars.x }}.yaml'\n"},
            "the name of an included file takes no vars",
            "vars may stand in the included files themselves, and are known only when these are read",
        ),
        (
            {"a.yaml": "include: 1.yaml\n"} | {f"{n}.yaml": f"include: {n + 1}.yaml\n" for n in range(1, 400)},
            "files include one another more than 20 levels deep",
            "",
        ),
    ],
)
def test_includes_that_end_nowhere(files: dict[str, str], message: str, note: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f"version: 1\ninclude: a.yaml\n{STEP}", files)
    folder = problem.place.file.removesuffix(Path(problem.place.file).name)
    assert (problem.code, problem.message) == ("C223", message)
    assert problem.note == (note and (folder if " -> " in note else "") + note.format(folder, folder))


def test_nothing_that_a_broken_included_file_may_declare_is_missed(tmp_path: Path) -> None:
    text = "version: 1\ninclude: a.yaml\nsteps: [{id: s, foreach: datasets.d, prompt: '{{ vars.a }} {{ itm }}'}]\n"
    assert [p.code for p in problems(tmp_path, text, {"a.yaml": "vars: {a: b: c}\n"})] == ["Y103", "C210"]


def test_files_that_many_ways_lead_to_are_read_once(tmp_path: Path) -> None:
    files = {f"{side}{n}.yaml": f"include: [l{n + 1}.yaml, r{n + 1}.yaml]\n" for n in range(18) for side in "lr"}
    files |= {"l18.yaml": "models: {m: {provider: echo}}\n", "r18.yaml": "vars: {a: 1}\n"}
    assert load(tmp_path, f"version: 1\ninclude: l0.yaml\n{STEP}", files).vars == {"a": 1}


def test_a_file_does_not_include_itself(tmp_path: Path) -> None:
    text = "version: 1\ninclude: p.yaml\nmodels: {q: {provider: echo}}\nsteps: [{id: s, prompt: x}]\n"
    assert [p.code for p in problems(tmp_path, text)] == ["C223"]


def test_values_can_be_set_from_outside(tmp_path: Path) -> None:
    overrides = parse_overrides(
        [
            "models.m.model=big",
            "steps.a.retry.max_retries=7",
            "budget.calls=5",
            "steps.b.prompt=no",
            "datasets.rows.key=body",
        ]
    )
    text = HEAD + "steps:\n  - {id: a, prompt: x}\n  - {id: b, foreach: datasets.rows, prompt: y}\n"
    p = load(tmp_path, text, overrides=overrides)
    assert p.models["m"].model == "big"
    assert p.step("a").retry.max_retries == 7
    assert p.budget.calls == 5
    assert p.step("b").messages[0].content.source == "no"
    assert p.datasets["rows"].key == "body"
    assert p.overrides == overrides


def test_an_entry_of_a_list_is_set_by_its_number(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - {id: a, messages: [{role: system, content: s}, {role: user, content: u}]}\n"
    text += "outputs: [{from: steps.a, path: output/a.txt}, {from: steps.a, path: output/b.txt}]\n"
    overrides = parse_overrides(["steps.a.messages.1.content=new", "outputs.1.path=output/c.txt"])
    p = load(tmp_path, text, overrides=overrides)
    assert [m.content.source for m in p.step("a").messages] == ["s", "new"]
    assert [output.path.name for output in p.outputs] == ["a.txt", "c.txt"]


@pytest.mark.parametrize(
    ("override", "code", "hint"),
    [
        ("models.mm.model=x", "C224", "did you mean 'm'?"),
        ("steps.aa.model=x", "C224", "did you mean 'a'?"),
        ("steps.a=x", "C224", ""),
        ("models.m.modle=x", "C203", "did you mean 'model'?"),
        ("budget.calls=-1", "C204", ""),
        ("steps.a.retry.max_retries=x", "C202", ""),
        ("steps.a.prompt.x=1", "C224", ""),
        ("steps.a.timeout.idle=[", "Y103", ""),
        ("steps.0.prompt=x", "C224", ""),
        ("outputs.1.path=x", "C224", ""),
        ("outputs.path=x", "C224", ""),
        ("defaults.model=*x", "Y106", "quote this if it is text"),
        ("defaults.model=5", "C204", ""),
        ("steps.a.model=[[]]", "C202", ""),
    ],
)
def test_a_setting_that_cannot_be_made(override: str, code: str, hint: str, tmp_path: Path) -> None:
    text = HEAD + "steps: [{id: a, prompt: x}]\n"
    text += "outputs: [{from: steps.a, path: output/a.txt}]\n"
    found = problems(tmp_path, text, overrides=parse_overrides([override]))
    assert [(p.code, p.hint) for p in found] == [(code, hint)]
    assert found[0].place.file.startswith(f"--set {override.split('=')[0]}")


# where a project begins


def test_the_project_root(tmp_path: Path) -> None:
    inner = tmp_path / "a/pipelines/b/pipelines/c"
    inner.mkdir(parents=True)
    assert project_root(inner / "p.yaml") == tmp_path / "a/pipelines/b"
    plain = tmp_path / "x/y"
    plain.mkdir(parents=True)
    assert project_root(plain / "p.yaml") == plain
    (tmp_path / ".git").mkdir()
    assert project_root(plain / "p.yaml") == tmp_path
    (tmp_path / "x/pyproject.toml").write_text("")
    assert project_root(plain / "p.yaml") == tmp_path / "x"
    (tmp_path / "link.yaml").symlink_to(inner / "p.yaml")
    assert project_root(tmp_path / "link.yaml") == tmp_path / "a/pipelines/b"


# quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("1h30m", 5400), ("1m500ms", 60.5)],
)
def test_durations(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "s", "5x", "1e3s", "5s "])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("3_000_000", 3_000_000), ("200k", 200_000), ("1.5M", 1_500_000), ("64KiB", 65536)]
)
def test_quantities(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "k", "1.2345k", "-1", "1e3", "1 k"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_quantity(text)


# whatever the bytes are

FRAGMENTS = """\
version: 1
steps:
  - id: a
    prompt: '{{ item.x }}'
    foreach: steps.a
    foreach: steps.a.b
    foreach: {group: steps.a, by: output}
    schema: {a: string}
    schema: {$ref: '#'}
    if: steps.a
models:
  m: {provider: echo}
datasets: {rows: {path: data/rows.csv}}
vars: {a: 1}
defaults:
  retry: {max_retries: 1}
budget: {usd: 1}
include: p.yaml
outputs: [{from: steps.a, path: o.csv}]
null
|
""".splitlines(keepends=True)
PIECES = st.sampled_from([*FRAGMENTS, *"{}[]-:'\"#x \t\0é&*<!", "- ", ": ", "&a ", "*a ", "<<: ", "    foreach: "])


@given(st.lists(PIECES, max_size=14).map("".join) | st.binary(max_size=120).map(lambda b: b.decode("latin-1")))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_raises_anything_but_what_is_wrong_with_it(tmp_path: Path, text: str) -> None:
    path = write_project(tmp_path, text)
    found = attempt(path, vars={"a": "2"}, overrides={"steps.a.prompt": "x"})
    assert found is None or any(p.severity == "error" for p in found)


WORKING = GRAPH.splitlines(keepends=True)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_a_damage_is_refused_or_loads(tmp_path: Path, data: st.DataObject) -> None:
    text = "".join(WORKING)
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 12))
    text = (
        text[:at]
        + data.draw(st.sampled_from(["", "x", "{", "]", ":", " ", "'", "\n", "steps", "-1"]))
        + text[at + length :]
    )
    assert attempt(write_project(tmp_path, text)) != ()


def test_a_fallback_says_what_it_is_for(tmp_path: Path) -> None:
    text = """
version: 1
models:
  m: {provider: echo, fallback: [n, {model: o, on: [rate_limit, overloaded]}]}
  n: {provider: echo, fallback: {model: m, on: [timeout]}}
  o: {provider: echo}
defaults: {model: m, fallback: [{model: n, on: [refused]}, o]}
steps:
  - {id: a, prompt: x}
  - {id: b, prompt: x, fallback: [o]}
  - {id: c, prompt: x, model: n}
"""
    p = load(tmp_path, text)
    m, n = p.models["m"], p.models["n"]
    assert (m.fallback, m.fallback_on) == (("n", "o"), {"o": ("rate_limit", "overloaded")})
    assert (n.fallback, n.fallback_on) == (("m",), {"m": ("timeout",)})
    a, b, c = p.steps
    assert (a.fallback, a.fallback_on) == (("n", "o"), {"n": ("refused",)})
    assert (b.fallback, b.fallback_on) == (("o",), {})
    assert c.fallback == ("o",)


def test_the_words_of_a_fallback_are_those_that_the_client_knows() -> None:
    from llmpipe.config import keys
    from llmpipe.error_words import ERROR_WORDS

    assert keys.definition("fallback")["properties"]["on"]["items"]["enum"] == list(ERROR_WORDS)
