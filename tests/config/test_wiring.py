"""Every key of the schema changes what the loader makes of a file; a key that is accepted and ignored fails here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpipe.config import fields, keys
from llmpipe.config.load import load_pipeline
from tests.config.project import attempt, facts, problems, write_project

BASE: dict[str, Any] = {
    "version": 1,
    "vars": {"list": ["x", "y"], "plain": "v"},
    "datasets": {"rows": {"path": "data/rows.csv"}},
    "models": {
        "main": {"provider": "echo", "model": "demo"},
        "spare": {"provider": "echo", "model": "spare-model"},
        "real": {"provider": "openai", "model": "gpt", "price": {"input": 1, "output": 1}},
        "own": {"provider": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"},
    },
    "defaults": {"model": "main"},
    "steps": [
        {"id": "first", "foreach": "datasets.rows", "prompt": "{{ item.body }}"},
        {
            "id": "second",
            "foreach": "datasets.rows",
            "prompt": "x",
            "schema": {"a": "string", "b": "string"},
            "params": {"max_output_tokens": 100},
        },
        {"id": "step", "foreach": "datasets.rows", "prompt": "Say it", "check": "output != ''"},
        {"id": "again", "foreach": "datasets.rows", "messages": [{"role": "assistant", "content": "{{ item.body }}"}]},
        {"id": "grouped", "foreach": {"group": "steps.first"}, "prompt": "x"},
        {"id": "pieces", "foreach": {"split": "steps.first", "size": 900}, "prompt": "x"},
    ],
    "outputs": [{"from": "steps.first", "path": "output/first.tsv"}],
}
FILES = {
    "data/other.jsonl": '{"id": "7", "body": "b"}\n',
    "data/more.csv": "id\n1\n",
    "prompts/answer.md": "Another prompt\n",
    "common.yaml": "vars: {included: 3}\n",
    "report.py": "",
}
Doc = dict[str, Any]


def _step(doc: Doc, id: str) -> Doc:
    return next(step for step in doc["steps"] if step["id"] == id)


def _in_step(doc: Doc, key: str, value: Any) -> None:
    """The key in a step that it suits: what a step does is said once, `allow_skipped` needs nothing else."""
    step = _step(doc, "second" if key in ("repair", "coerce", "on_truncated") else "step")
    if key in ("prompt", "prompt_file", "messages", "render", "python"):
        del step["prompt"]
        if key in ("render", "python"):
            del step["check"]
    step[key] = value


def _replace_or_add(doc: Doc, key: str, value: Any) -> None:
    if isinstance(doc.get(key), dict):
        doc[key] |= value
    elif key == "steps":
        doc[key] = [*doc[key], *value]
    else:
        doc[key] = value


PLACES: dict[str, Callable[[Doc, str, Any], None]] = {
    "pipeline": _replace_or_add,
    "var_declaration": lambda d, k, v: d["vars"].update(n={"type": "integer", "default": 4} | {k: v}),
    "dataset": lambda d, k, v: d["datasets"]["rows"].update({k: v}),
    "model": lambda d, k, v: d["models"]["main" if k in ("provider", "model", "params") else "real"].update({k: v}),
    "limits": lambda d, k, v: d["models"]["main"].update(limits={k: v}),
    "price": lambda d, k, v: d["models"]["real"]["price"].update({k: v}),
    "params": lambda d, k, v: d["models"]["main"].update(params={k: v}),
    "faults": lambda d, k, v: d["models"]["main"].update(params={"faults": {k: v}}),
    "fallback": lambda d, k, v: d["models"]["main"].update(fallback=[{"model": "real"} | {k: v}]),
    "defaults": lambda d, k, v: d["defaults"].update({k: v}),
    "step": _in_step,
    "group": lambda d, k, v: _step(d, "grouped")["foreach"].update({k: v}),
    "split": lambda d, k, v: _step(d, "pieces")["foreach"].update({"text": "item.id"} | {k: v}),
    "message": lambda d, k, v: _step(d, "again")["messages"][0].update({k: v}),
    "timeout": lambda d, k, v: _step(d, "step").update(timeout={k: v}),
    "retry": lambda d, k, v: _step(d, "step").update(retry={k: v}),
    "cache_policy": lambda d, k, v: _step(d, "step").update(cache={k: v}),
    "budget": lambda d, k, v: d.update(budget={k: v}),
    "output": lambda d, k, v: d["outputs"][0].update({k: v}),
}
# Keys whose example cannot stand by itself in the base, with what has to stand beside it.
ADJUST: dict[tuple[str, str], Callable[[Doc], None]] = {
    ("dataset", "format"): lambda d: _columns_become(d, "item.body", "item.text"),
    ("model", "provider"): lambda d: d["models"]["main"].update(api_key_env="OPENAI_API_KEY"),
    ("model", "base_url"): lambda d: d["models"]["real"].update(api_key_env="MY_API_KEY"),
}
# What these keys do cannot be seen in a loaded pipeline: they decide whether it loads. Each has a test below.
GATES = {("pipeline", "version"), ("var_declaration", "enum"), ("var_declaration", "required")} | {
    ("var_declaration", "description"),
    ("var_declaration", "type"),
}
ALL = [(name, key) for name, key, _ in keys.rows()]


def _columns_become(doc: Doc, old: str, new: str) -> None:
    doc |= json.loads(json.dumps(doc).replace(old, new).replace("item.id", new))


def _base(name: str, key: str) -> Doc:
    """The base without what the key would repeat."""
    base = copy.deepcopy(BASE)
    if name == "split":
        _step(base, "pieces")["foreach"]["text"] = "item.id"
    if name == "fallback":
        base["models"]["main"]["fallback"] = ["real"]
    if (name, key) == ("step", "foreach"):
        del _step(base, "step")["foreach"]
    if (name, key) == ("dataset", "format"):
        _columns_become(base, "item.body", "item.id")
    return base


def _loaded(folder: Path, doc: Doc, **options: Any) -> Any:
    path = write_project(folder, json.dumps(doc), FILES)
    return facts(load_pipeline(path, **options))


@pytest.mark.parametrize(("name", "key"), [pair for pair in ALL if pair not in GATES])
def test_a_key_changes_the_pipeline(name: str, key: str, tmp_path: Path) -> None:
    definition = keys.definition(name)["properties"][key]
    doc = copy.deepcopy(BASE)
    PLACES[name](doc, key, copy.deepcopy(definition["examples"][0]))
    ADJUST.get((name, key), lambda d: None)(doc)
    assert _loaded(tmp_path, doc) != _loaded(tmp_path, _base(name, key))


def test_every_key_has_a_description_and_an_example_that_is_allowed() -> None:
    for name, key, definition in keys.rows():
        assert definition.get("description", "").endswith((".", "none.", "it.")), (name, key)
        assert definition.get("examples"), (name, key)


def test_the_loader_takes_every_key_of_the_schema_and_no_other(tmp_path: Path) -> None:
    fields.taken.clear()
    doc = copy.deepcopy(BASE)
    doc["vars"]["n"] = {"type": "integer", "default": 1}
    doc["defaults"]["cache"] = {"ttl": "1d"}
    doc["models"]["main"]["fallback"] = [{"model": "spare", "on": ["timeout"]}]
    _loaded(tmp_path, doc)
    assert fields.taken == set(ALL)
    with pytest.raises(KeyError, match="knows no key"):
        fields.Fields(None, "step", None).get("temperature")  # type: ignore[arg-type]


def test_the_version_has_to_be_there_and_known(tmp_path: Path) -> None:
    def codes(version: str) -> list[str]:
        text = f"{version}models: {{m: {{provider: echo}}}}\nsteps: [{{id: a, prompt: x}}]\n"
        return [p.code for p in problems(tmp_path, text)]

    assert codes("") == ["C201"]
    assert codes("version: 2\n") == ["C204"]


def test_a_declaration_decides_what_a_var_may_be(tmp_path: Path) -> None:
    def said(declaration: dict[str, Any], **given: Any) -> str:
        doc = copy.deepcopy(BASE)
        doc["vars"]["n"] = declaration
        (problem,) = problems(tmp_path, json.dumps(doc), FILES, vars=given)
        return f"{problem.code} {problem.message} {problem.hint} {problem.note}"

    assert "C221 var 'n' is required" in said({"type": "string", "required": True, "description": "ISO date"})
    assert "ISO date" in said({"type": "string", "required": True, "description": "ISO date"})
    assert "wants a whole number, not 'x'" in said({"type": "integer", "default": 1}, n="x")
    assert "wants one of 3, 4, not 5" in said({"type": "integer", "default": 3, "enum": [3, 4]}, n="5")


# What a model of each kind that has no server can be told; every other key of a model is refused there.
NO_SERVER = {"echo": {"provider", "model", "params", "limits", "fallback", "price"}}
NO_SERVER["json:dumps"] = NO_SERVER["echo"] | {"api_key_env"}


@pytest.mark.parametrize("provider", NO_SERVER)
def test_a_key_that_only_a_server_would_obey_is_refused_where_there_is_none(provider: str, tmp_path: Path) -> None:
    refused = {}
    for key, definition in keys.definition("model")["properties"].items():
        doc = copy.deepcopy(BASE)
        value = definition["examples"][0] if key != "params" else {"temperature": 0.5}
        doc["models"]["main"] = {"model": "x", key: value} | {"provider": provider}
        found = problems(tmp_path, json.dumps(doc)) if _refuses(tmp_path, doc) else ()
        refused |= {key: [problem.code for problem in found]} if found else {}
    assert refused == {
        key: ["C207"] for key in keys.definition("model")["properties"] if key not in NO_SERVER[provider]
    }


def _refuses(folder: Path, doc: Doc) -> bool:
    return any(p.severity == "error" for p in attempt(write_project(folder, json.dumps(doc), FILES)) or ())


def test_a_model_may_be_tried_out_on_echo_without_taking_its_server_away(tmp_path: Path) -> None:
    doc = copy.deepcopy(BASE)
    doc["models"]["main"] = {"provider": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "stream": True}
    doc["models"]["main"] |= {"model": "x"}
    path = write_project(tmp_path, json.dumps(doc), FILES)
    pipeline = load_pipeline(path, overrides={"models.main.provider": "echo"})
    assert [(w.code, w.message.split()[0]) for w in pipeline.warnings if w.code == "C207"] == [
        ("C207", "'base_url'"),
        ("C207", "'stream'"),
    ]
