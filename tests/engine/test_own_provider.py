"""Models that are answered by the project's own code: only where that is allowed, and within every layer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

import pytest

from llmpipe import LLMClient, LLMRequest, Model
from llmpipe.errors import ConfigError, KeyMissing, ModelUnknown
from llmpipe.policy import Retry
from tests.engine.conftest import Project

KEY = "own-canary-8812/77+x"
PIPELINE = """
    version: 1
    name: x
    datasets: {d: {path: d.jsonl, key: id}}
    models:
      house: {provider: "own_code_CASE:OBJECT", model: tiny, api_key_env: HOUSE_API_KEY, params: {temperature: 0.5}}
    defaults: {model: house, retry: {max_retries: 2, base: 1ms, cap: 2ms}}
    steps:
      - {id: a, foreach: datasets.d, prompt: "{{ item.id }}", min_success: 1}
    """
CODE = """
import json
import llmpipe

seen = []

def answer(request, *, model, key, attempt, timeout_s):
    text = request.turns()[-1].content
    seen.append((text, model, key, attempt, timeout_s, request.temperature))
    if text == "flaky" and attempt < 3:
        raise RuntimeError("not yet")
    if text == "broken":
        raise ValueError(f"no answer with {key}")
    if text == "limited" and attempt == 1:
        raise llmpipe.RateLimited("slow down", retry_after=0.01)
    if text == "leaky":
        return f"my key is {key}"
    return f"{model}: {text}"

async def waiting(request):
    return "async " + request.prompt if request.prompt else "async"

class Made:
    def __init__(self):
        self.count = 0

    def __call__(self, request, **given):
        self.count += 1
        return f"{self.count} {sorted(given)}"
"""


@pytest.fixture
def code(project: Project) -> Iterator[str]:
    """The name of a module of the project; forgotten afterwards."""
    name = f"own_code_{project.root.parent.name}".replace("-", "_").replace(".", "_")
    project.root.mkdir(exist_ok=True)
    (project.root / f"{name}.py").write_text(CODE)
    path = list(sys.path)
    yield name
    sys.modules.pop(name, None)
    sys.path[:] = path


def pipeline(code: str, what: str) -> str:
    return PIPELINE.replace("own_code_CASE:OBJECT", f"{code}:{what}")


def test_every_layer_stays_around_it(project: Project, code: str) -> None:
    project.variables["HOUSE_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": i} for i in ("fine", "flaky", "broken", "limited", "leaky")])
    report = project.run(pipeline(code, "answer"), allow_python=True)
    assert report.exit_code == 0
    (step,) = report.steps
    assert (step.succeeded, step.failed, step.retries) == (4, 1, 3)
    outputs = {row["key"]: row["output"] for row in project.results(report, "a")}
    assert outputs["fine"] == "tiny: fine"
    assert outputs["leaky"] == "my key is [redacted]"
    seen = sys.modules[code].seen
    assert ("fine", "tiny", KEY, 1, 120.0, 0.5) in seen
    (failure,) = (report.folder / "failures" / "a").iterdir()
    assert json.loads(failure.read_text())["code"] == "P400"
    files = [p for p in project.root.rglob("*") if p.is_file()]
    assert [p for p in files if KEY.encode() in p.read_bytes()] == []
    count = len(seen)
    again = project.run(allow_python=True)
    assert again.steps[0].cached == 4
    assert len(seen) == count + 1  # what failed


@pytest.mark.parametrize(("what", "expected"), [("waiting", "async"), ("Made", "['attempt', 'force_error', 'key'")])
def test_any_object_that_can_be_called(project: Project, code: str, what: str, expected: str) -> None:
    project.variables["HOUSE_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": "one"}])
    report = project.run(pipeline(code, what), allow_python=True)
    assert expected in project.outputs(report, "a")[0]


def test_without_permission_nothing_is_imported(project: Project, code: str) -> None:
    project.variables["HOUSE_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": "one"}])
    with pytest.raises(ConfigError) as caught:
        project.run(pipeline(code, "answer"))
    (problem,) = caught.value.problems
    assert problem.code == "C251"
    assert "'house'" in problem.message
    assert code not in sys.modules


def test_code_of_a_step_is_told_of_at_its_name(project: Project, code: str) -> None:
    text = f"version: 1\nsteps:\n  - id: a\n    python: {code}:%s\n"
    for name, allowed in (("answer", False), ("nothing", True)):
        with pytest.raises(ConfigError) as caught:
            project.run(text % name, allow_python=allowed)
        (problem,) = caught.value.problems
        assert (problem.code, problem.place.line) == ("C250" if allowed else "C251", 4)
    assert not list(project.root.glob("output/*/*/run.json"))


@pytest.mark.parametrize(("what", "says"), [("nothing", "AttributeError"), ("seen", "is not a function")])
def test_code_that_cannot_be_called_is_told_before_anything_is_sent(
    project: Project, code: str, what: str, says: str
) -> None:
    project.variables["HOUSE_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": "one"}])
    with pytest.raises(ConfigError, match="C250") as caught:
        project.run(pipeline(code, what), allow_python=True)
    assert says in str(caught.value)


@pytest.mark.parametrize(("what", "allowed", "wrong"), [("answer", False, "C251"), ("nothing", True, "C250")])
def test_code_of_a_model_is_told_of_where_the_model_names_it(
    project: Project, code: str, what: str, allowed: bool, wrong: str
) -> None:
    project.variables["HOUSE_API_KEY"] = KEY
    project.rows("d.jsonl", [{"id": "one"}])
    with pytest.raises(ConfigError) as caught:
        project.run(pipeline(code, what), allow_python=allowed)
    (problem,) = caught.value.problems
    (path,) = (project.root / "pipelines").glob("*.yaml")
    line = path.read_text().split("\n")[problem.place.line - 1]
    assert problem.code == wrong
    assert line[problem.place.column - 1 :][: problem.place.width] == f'"{code}:{what}"'


def test_its_key_is_missing_like_any_other(project: Project, code: str) -> None:
    project.rows("d.jsonl", [{"id": "one"}])
    with pytest.raises(KeyMissing, match="HOUSE_API_KEY"):
        project.run(pipeline(code, "answer"), allow_python=True)


@pytest.mark.parametrize(
    "line", ["base_url: http://127.0.0.1:1", "stream: true", "headers: {x-a: b}", "allow_http: true"]
)
def test_what_it_would_ignore_is_refused(project: Project, code: str, line: str) -> None:
    project.rows("d.jsonl", [{"id": "one"}])
    with pytest.raises(ConfigError, match=rf"C207 '{line.partition(':')[0]}' of model '\w+' has no effect"):
        project.load(pipeline(code, "answer").replace("model: tiny", f"model: tiny, {line}"))


def test_a_client_answers_by_code_it_was_given_and_by_no_other() -> None:
    models = {"m": Model("m", "house:answer", "tiny")}

    async def answer(request: LLMRequest, *, attempt: int) -> str:
        if attempt == 1:
            raise OSError("no network")
        return f"said {request.prompt}"

    async def ask(client: LLMClient) -> str:
        async with client:
            return str(await client.acall(LLMRequest(model="m", prompt="hi")))

    given = LLMClient(models, providers={"house:answer": answer}, retry=Retry(base=0.001))
    assert asyncio.run(ask(given)) == "said hi"
    with pytest.raises(ModelUnknown, match="providers="):
        asyncio.run(ask(LLMClient(models)))


def test_the_schema_is_part_of_what_is_asked() -> None:
    asked = []

    def answer(request: LLMRequest) -> str:
        asked.append(dict(request.schema or {}))
        return json.dumps({"a": 1})

    models = {"m": Model("m", "house:answer", "tiny")}
    with LLMClient(models, providers={"house:answer": answer}) as client:
        for kind in ("integer", "number"):
            schema = {"type": "object", "properties": {"a": {"type": kind}}}
            assert client.call(LLMRequest(model="m", prompt="x", schema=schema)).output == {"a": 1}
    assert len(asked) == 2
