"""Output that holds, as a user meets it: pipelines against servers of every wire that answer well, badly or not."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

from llmpipe.engine.results import RunReport, StepCounts
from llmpipe.engine.runs import find_run
from llmpipe.engine.story import item_story
from llmpipe.report.overview import story
from llmpipe.report.summary import Look, after
from tests.engine.conftest import Project
from tests.engine.speaking import PROVIDERS, Asked, Speaking
from tests.faults.replies import ended

WIRES = list(PROVIDERS)
KEYS = {"A_TEST_KEY": "k-1"}
ROWS = [{"id": f"r{n}", "body": f"text {n}"} for n in range(8)]
GOOD = '{"category": "bug", "score": 3, "tags": ["a"]}'
SHORT = "{category: enum[bug, idea], score: integer 1..5, tags: list[string], note?: string}"


def pipeline(server: Speaking, provider: str = "openai", *, schema: str = SHORT, step: str = "", more: str = "") -> str:
    return (
        "version: 1\n"
        "datasets: {rows: {path: rows.jsonl, key: id}}\n"
        f"models:\n  m: {server.model(provider, more=', params: {max_output_tokens: 100}')}\n"
        f"  strong: {server.model(provider, id='strong', more=', params: {max_output_tokens: 100}')}\n"
        "defaults: {model: m, timeout: {attempt: 10s}, retry: {max_retries: 0}}\n"
        f"{more}"
        "steps:\n  - id: label\n    foreach: datasets.rows\n    prompt: 'Label {{ item.id }}: {{ item.body }}'\n"
        f"{f'    schema: {schema}' if schema else ''}\n" + "".join(f"    {line}\n" for line in step.splitlines())
    )


@pytest.fixture
def rows(project: Project) -> Project:
    project.rows("rows.jsonl", ROWS)
    project.variables = KEYS
    return project


def counts(report: RunReport) -> StepCounts:
    return next(s for s in report.steps if s.id == "label")


def run_json(report: RunReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.folder / "run.json").read_text())
    return found


def refusing(asked: Asked) -> Any:
    """Refuses every schema that is asked for natively."""
    words = "The schema is too complex: too many states for serving."
    return (400, {"error": {"message": words, "code": "invalid_json_schema"}}) if asked.schema else GOOD


def test_a_schema_that_the_provider_refuses_stands_in_the_prompt_and_the_record_says_so(rows: Project) -> None:
    with Speaking(refusing) as server:
        report = rows.run(pipeline(server))
        assert (report.exit_code, counts(report).succeeded, server.total) == (0, 8, 9)
        again = rows.run(pipeline(server))
        assert (counts(again).cached, counts(again).schema_in_prompt, server.total) == (8, 8, 10)
    assert (counts(report).schema_in_prompt, counts(report).calls, counts(report).retries) == (8, 9, 0)
    assert run_json(report)["totals"]["schema_in_prompt"] == 8
    told = run_json(report)["schemas"]["label"]["m"]
    assert (told["how"], told["in_prompt"]) == ("prompt", True)
    assert "too many states" in told["refused"]
    (note,) = report.notes
    assert "openai/m" in note
    assert "in the prompt" in " ".join(after(report))
    info = find_run(rows.root / "output", report.run_id, None)
    first = item_story(info, "label", "r0")
    assert "schema_in_prompt" in first.notes
    assert [(a.outcome, a.code) for a in first.attempts] == [("SchemaRejected", "P406"), ("ok", None)]
    shown = "\n".join(story(first))
    assert "schema_in_prompt" in shown
    assert "SchemaRejected" in shown or "P406" in shown


def test_a_schema_fixed_as_native_that_is_refused_stops_the_run(rows: Project) -> None:
    with Speaking(refusing) as server:
        text = pipeline(server).replace(
            "provider: openai, model: m,", "provider: openai, model: m, schema_mode: native,"
        )
        report = rows.run(text)
    assert (report.exit_code, server.total, counts(report).failed, counts(report).unsent) == (1, 1, 1, 7)


def failure(report: RunReport) -> dict[str, Any]:
    path = next((report.folder / "failures" / "label").glob("*.json"))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def ledger(report: RunReport, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{report.folder / 'run.db'}?mode=ro", uri=True) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


def row_of(asked: Asked) -> str:
    return next(text for text in asked.texts if "Label " in text).split("Label ")[1].split(":")[0]


def by_row(special: Callable[[str, Asked], Any]) -> Callable[[Asked], Any]:
    def say(asked: Asked) -> Any:
        found = special(row_of(asked), asked)
        return GOOD if found is None else found

    return say


# -- one schema, five wires --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", WIRES)
def test_one_schema_holds_on_every_wire(provider: str, rows: Project) -> None:
    """The server fills in whatever it was asked for, nulls that only strictness asks for among it."""

    def say(asked: Asked) -> str:
        sent = asked.schema
        assert sent is not None, asked.body
        value: dict[str, Any] = {"category": "idea", "score": 4, "tags": ["x"]}
        if "note" in sent["required"]:
            value["note"] = None
        return json.dumps(value)

    with Speaking(say) as server:
        report = rows.run(pipeline(server, provider))
        assert (counts(report).succeeded, counts(report).reasks, server.total) == (8, 0, 8)
        assert rows.outputs(report, "label") == [{"category": "idea", "score": 4, "tags": ["x"]}] * 8
        told = run_json(report)["schemas"]["label"]["m"]
        assert told["how"] == "native"
        expected = {"anthropic": ["$.score: minimum", "$.score: maximum"]}.get(provider)
        assert told.get("dropped") == expected
        again = rows.run()  # the cached answers are led back in the same way
        assert server.total == 8
        assert rows.outputs(again, "label") == rows.outputs(report, "label")


@pytest.mark.parametrize("provider", WIRES)
def test_a_bad_answer_is_asked_for_again_on_every_wire(provider: str, rows: Project) -> None:
    def special(row: str, asked: Asked) -> Any:
        if asked.is_reask:
            assert '"score": 9' in "".join(asked.texts)
            assert "$.score" in asked.texts[-1]
            assert "5" in asked.texts[-1]
            return None
        return GOOD.replace("3", "9") if row == "r3" else None

    with Speaking(by_row(special)) as server:
        report = rows.run(pipeline(server, provider))
    assert (counts(report).succeeded, counts(report).reasks, server.total) == (8, 1, 9)
    assert (counts(report).validated, counts(report).first_try) == (8, 7)


@pytest.mark.parametrize("how", ["length", "refusal", "filtered", "unknown"])
@pytest.mark.parametrize("provider", WIRES)
def test_how_an_answer_ended_comes_before_what_it_says(provider: str, how: str, rows: Project) -> None:
    """The text would be valid: it is neither parsed nor asked for again."""
    with Speaking(lambda asked: ended(asked.wire, how, GOOD)) as server:
        report = rows.run(pipeline(server, provider, step="max_reasks: 3"), limit=1)
        assert server.total == 1
    assert (counts(report).failed, counts(report).reasks) == (1, 0)
    code = {
        "length": "P441",
        "refusal": {"gemini": "P412", "ollama": "P443"}.get(provider, "P440"),
        "filtered": {"anthropic": "P440", "ollama": "P443"}.get(provider, "P412"),
        "unknown": "P443",
    }[how]
    assert report.causes[0].code == code
    assert GOOD.replace('"', '\\"') in failure(report)["raw"]


@pytest.mark.parametrize("provider", WIRES)
def test_an_empty_answer_is_a_class_of_its_own(provider: str, rows: Project) -> None:
    with Speaking(lambda asked: ended(asked.wire, "empty")) as server:
        report = rows.run(pipeline(server, provider), limit=1)
    assert (report.causes[0].code, server.total) == ("P442", 1)


# -- what is wrong with an answer, and what is done --------------------------------------------------------------------

BROKEN = [
    ("no json at all", "O501"),
    (GOOD + GOOD, "O501"),
    (GOOD[:-5], "O501"),
    ('{"category": "bug"}', "O503"),
    (GOOD.replace('"bug"', '"Bug"'), "O503"),
    (GOOD.replace("3", '"3"'), "O503"),
    (GOOD.replace("3", "3.5"), "O503"),
    (GOOD.replace("]", '], "more": 1'), "O503"),
]


@pytest.mark.parametrize(("text", "code"), BROKEN)
def test_nothing_is_filled_in_or_bent(text: str, code: str, rows: Project) -> None:
    with Speaking(lambda asked: text) as server:
        report = rows.run(pipeline(server, step="max_reasks: 0"), limit=1)
    assert (report.causes[0].code, counts(report).failed) == (code, 1)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (f"```json\n{GOOD}\n```", "fences_stripped"),
        (f"Here it is:\n{GOOD}\nAnything else?", "prose_stripped"),
        (f"<think>3 or 4?</think>{GOOD}", "think_stripped"),
    ],
)
def test_what_stands_around_one_value_is_taken_away_and_marked(text: str, note: str, rows: Project) -> None:
    with Speaking(lambda asked: text) as server:
        report = rows.run(pipeline(server), limit=1)
    assert rows.outputs(report, "label") == [json.loads(GOOD)]
    assert ledger(report, "SELECT notes FROM results") == [(note,)]


def test_reasoning_is_kept_apart_in_the_ledger(rows: Project) -> None:
    with Speaking(lambda asked: "<think>hm, hm</think>Yes.") as server:
        report = rows.run(pipeline(server, schema=""), limit=1)
    assert rows.outputs(report, "label") == ["Yes."]
    ((reply,),) = ledger(report, "SELECT reply FROM attempts")
    assert json.loads(reply)["reasoning"] == "hm, hm"
    told = item_story(find_run(rows.root / "output", report.run_id, None), "label", "r0")
    assert (told.attempts[0].reasoning, told.notes) == ("hm, hm", ("think_stripped",))
    shown = "\n".join(story(told))
    assert "think_stripped" in shown.splitlines()[0]
    assert "thought:\n    hm, hm" in shown


def test_a_failure_tells_every_try_and_what_it_cost(rows: Project) -> None:
    texts = [GOOD.replace("3", "9"), GOOD.replace("3", "8"), "none"]
    with Speaking(lambda asked: texts[asked.number]) as server:
        report = rows.run(pipeline(server, step="max_reasks: 2"), limit=1)
    assert (counts(report).failed, counts(report).reasks, server.total) == (1, 2, 3)
    tries = failure(report)["details"]["tries"]
    assert [t["reply"] for t in tries] == texts
    assert [t["error_type"] for t in tries] == ["SchemaMismatch", "SchemaMismatch", "NotJson"]
    assert all(t["cost_usd"] == 15e-6 for t in tries)
    assert ledger(report, "SELECT COUNT(*), SUM(reply IS NOT NULL), SUM(cost_usd) FROM attempts") == [
        (3, 3, pytest.approx(45e-6))
    ]


def test_it_stops_asking_when_the_reply_stays_the_same(rows: Project) -> None:
    with Speaking(lambda asked: GOOD.replace("3", "9")) as server:
        report = rows.run(pipeline(server, step="max_reasks: 10"), limit=1)
    assert (server.total, counts(report).reasks) == (2, 1)


def test_a_check_sees_output_item_and_steps(rows: Project) -> None:
    """The words for people and for the model name the expression."""
    step = (
        "check:\n"
        "  - output.category == ('idea' if item.id == 'r1' else 'bug')\n"
        "  - output.score <= steps.first.top\n"
        "max_reasks: 1"
    )

    def say(asked: Asked) -> str:
        if "top" in json.dumps(asked.schema):
            return '{"top": 4}'
        if asked.is_reask:
            if row_of(asked) == "r1":
                assert "`output.category == (" in asked.texts[-1]
                assert 'output.category is "bug"' in asked.texts[-1]
            return GOOD.replace("bug", "idea")
        return GOOD.replace("3", "5") if row_of(asked) == "r2" else GOOD

    first = (
        "steps:\n  - {id: first, foreach: datasets.rows, prompt: 'Label {{ item.id }}: x', schema: {top: integer}}\n"
    )
    with Speaking(say) as server:
        text = pipeline(server, step=step).replace("steps:\n", first)
        report = rows.run(text, limit=3)
    assert (counts(report).succeeded, counts(report).failed, counts(report).reasks) == (2, 1, 2)
    assert [o["category"] for o in rows.outputs(report, "label")] == ["bug", "idea"]
    assert (report.causes[0].code, report.causes[0].example_key) == ("O504", "r2")
    assert (
        "the check `output.score <= steps.first.top` does not hold: output.score is 5"
        in failure(report)["details"]["tries"][0]["error"]
    )


# -- the keys ----------------------------------------------------------------------------------------------------------


def test_repair_mends_and_marks(rows: Project) -> None:
    with Speaking(lambda asked: GOOD.replace('"', "'")) as server:
        plain = rows.run(pipeline(server, step="max_reasks: 0"), limit=1)
        mended = rows.run(pipeline(server, step="max_reasks: 0\nrepair: true"), limit=1)
        assert server.total == 1  # the answer was kept, and is only read in another way
    assert plain.causes[0].code == "O501"
    assert rows.outputs(mended, "label") == [json.loads(GOOD)]
    assert (counts(mended).mended, counts(mended).first_try, counts(mended).validated) == (1, 0, 1)
    assert ledger(mended, "SELECT notes FROM results") == [("repaired",)]


def test_coerce_turns_texts_and_marks(rows: Project) -> None:
    with Speaking(lambda asked: GOOD.replace("3", '"3"')) as server:
        report = rows.run(pipeline(server, step="max_reasks: 0\ncoerce: true"), limit=1)
    assert rows.outputs(report, "label") == [json.loads(GOOD)]
    assert ledger(report, "SELECT notes FROM results") == [("coerced:$.score",)]
    assert counts(report).mended == 1


@pytest.mark.parametrize("provider", WIRES)
def test_extend_asks_once_with_twice_the_limit(provider: str, rows: Project) -> None:
    def say(asked: Asked) -> Any:
        return ended(asked.wire, "length", GOOD[:20]) if asked.number == 0 else GOOD

    with Speaking(say) as server:
        report = rows.run(pipeline(server, provider, step="on_truncated: extend"), limit=1)
        limits = ["200" in json.dumps(asked.body) for asked in server.asked]
    assert (counts(report).succeeded, counts(report).reasks, limits) == (1, 0, [False, True])
    assert ledger(report, "SELECT notes FROM results") == [("extended",)]
    assert ledger(report, "SELECT outcome FROM attempts ORDER BY id") == [("Truncated",), ("ok",)]


def test_another_model_may_be_asked_again(rows: Project) -> None:
    with Speaking(lambda asked: GOOD if asked.model == "strong" else "none") as server:
        report = rows.run(pipeline(server, step="reask_model: strong"), limit=2)
        assert sorted(asked.model for asked in server.asked) == ["m", "m", "strong", "strong"]
    assert (counts(report).succeeded, counts(report).fallbacks, counts(report).reasks) == (2, 0, 2)
    assert set(run_json(report)["schemas"]["label"]) == {"m", "strong"}


def test_after_a_fallback_the_model_that_answered_is_asked_again(rows: Project) -> None:
    def say(asked: Asked) -> Any:
        if asked.model == "m":
            return 500, {"error": {"message": "down", "type": "server_error"}}
        return GOOD if asked.is_reask else "none"

    with Speaking(say) as server:
        report = rows.run(pipeline(server, step="fallback: [strong]"), limit=1)
        assert [asked.model for asked in server.asked] == ["m", "strong", "strong"]
    assert (counts(report).succeeded, counts(report).fallbacks, counts(report).reasks) == (1, 1, 1)


def test_an_answer_of_a_fallback_is_led_back_by_the_rules_of_the_fallback(rows: Project) -> None:
    def say(asked: Asked) -> Any:
        if asked.wire == "anthropic":
            return 500, {"type": "error", "error": {"type": "api_error", "message": "down"}}
        assert "note" in asked.schema["required"]
        return GOOD[:-1] + ', "note": null}'

    with Speaking(say) as server:
        text = pipeline(server, "anthropic", step="fallback: [other]")
        report = rows.run(text.replace("defaults:", f"  other: {server.model('openai')}\ndefaults:", 1), limit=1)
    assert rows.outputs(report, "label") == [json.loads(GOOD)]
    assert counts(report).fallbacks == 1


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_budget_bounds_reasks_and_nothing_is_paid_twice(rows: Project) -> None:
    with Speaking(lambda asked: GOOD if asked.is_reask else "none") as server:
        text = pipeline(server, more="budget: {calls: 1}\n")
        stopped = rows.run(text, limit=1)
        assert (stopped.exit_code, counts(stopped).unsent, server.total) == (6, 1, 1)
        done = rows.run(text.replace("calls: 1", "calls: 5"), limit=1, resume=stopped.run_id)
        assert (done.exit_code, counts(done).succeeded, server.total) == (0, 1, 2)
        assert server.asked[1].is_reask


def test_a_server_that_breaks_every_fifth_answer(project: Project) -> None:
    project.rows("rows.jsonl", [{"id": f"r{n}", "body": "x"} for n in range(100)])
    project.variables = KEYS
    bad = [text for text, _ in BROKEN]

    def special(row: str, asked: Asked) -> Any:
        number = int(row[1:])
        return None if asked.is_reask or number % 5 else bad[number // 5 % len(bad)]

    with Speaking(by_row(special)) as server:
        report = project.run(pipeline(server, step="max_reasks: 2"))
        assert server.total == 120
    step = counts(report)
    assert (step.succeeded, step.validated, step.first_try, step.reasks) == (100, 100, 80, 20)
    totals = run_json(report)["totals"]
    assert (totals["validated"], totals["first_try"], totals["reasks"]) == (100, 80, 20)
    assert any("80% of 100 valid at the first try, 20 re-asks" in line for line in after(report, Look()))


SLOW = {
    "uniqueItems": (
        {"type": "array", "uniqueItems": True, "items": {"type": "object"}},
        json.dumps([{"n": {"of": [n, str(n)]}} for n in range(3_000)]),
        json.dumps([{"n": {"of": [n % 2_999, ""]}} for n in range(3_000)]),
    ),
    "pattern": (
        {"type": "array", "items": {"type": "string", "pattern": "(a+)+$"}},
        json.dumps(["a" * 5_000] * 3),
        json.dumps(["a" * 5_000 + "!"] * 3),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_schema_that_can_be_slow_cannot_hang_a_run(name: str, rows: Project) -> None:
    schema, good, bad = SLOW[name]
    with Speaking(by_row(lambda row, asked: bad if row == "r3" else good)) as server:
        started = time.perf_counter()
        report = rows.run(pipeline(server, schema=json.dumps(schema), step="max_reasks: 0"))
        assert time.perf_counter() - started < 200
    failed = [cause.example_key for cause in report.causes]
    assert (counts(report).succeeded, counts(report).failed, failed) == (7, 1, ["r3"])


# -- answers that were kept --------------------------------------------------------------------------------------------


def changed(text: str, schema: dict[str, Any]) -> str:
    return text.replace("SCHEMA", json.dumps(schema))


LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "why": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}


def test_what_is_not_sent_of_a_schema_may_change_for_free(rows: Project) -> None:
    """Kept answers are held against today's schema: asked again is only what no longer fits."""

    def special(row: str, asked: Asked) -> str:
        if asked.is_reask:
            return '{"label": "a", "why": "so"}'
        return '{"label": "a", "why": null}' if row in ("r1", "r2") else '{"label": "b", "why": "so"}'

    stricter = LABEL | {"dependentSchemas": {"label": {"required": ["why"]}}}
    with Speaking(by_row(special)) as server:
        text = pipeline(server, schema="SCHEMA")
        rows.run(changed(text, LABEL))
        assert server.total == 8
        report = rows.run(changed(text, stricter))
        assert server.total == 10
        assert sorted(row_of(asked) for asked in server.asked[8:]) == ["r1", "r2"]
        assert (counts(report).succeeded, counts(report).reasks, counts(report).first_try) == (8, 2, 6)
        rows.run(changed(text, LABEL | {"required": ["label", "why"]}))
        assert [asked.is_reask for asked in server.asked[10:]].count(
            False
        ) == 8  # this change is sent, so all are asked


def test_a_check_may_change_for_free(rows: Project) -> None:
    with Speaking(
        by_row(lambda row, asked: GOOD.replace("3", "4") if row == "r1" or asked.is_reask else None)
    ) as server:
        rows.run(pipeline(server))
        report = rows.run(pipeline(server, step="check: output.score == 4"))
        assert (server.total, counts(report).reasks, counts(report).succeeded) == (15, 7, 8)
