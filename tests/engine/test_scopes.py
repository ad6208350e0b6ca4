# ruff: noqa: E501 - a pipeline step reads best on one line
"""Scopes at work: what each step sees, and in which order results stand."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable

import pytest

from llmpipe.config.environment import Environment
from llmpipe.engine.items import Item
from llmpipe.engine.options import RunOptions
from llmpipe.engine.results import RunReport
from llmpipe.engine.run import run_pipeline
from llmpipe.engine.runs import find_run
from llmpipe.engine.story import item_story
from llmpipe.errors import ConfigError
from tests.engine.answers import Answers
from tests.engine.conftest import Project

Counts = Callable[[RunReport], dict[str, tuple[int, int, int, int, int]]]


def head(server: Answers, extra: str = "") -> str:
    return f"""\
version: 1
models:
  m: {{provider: openai_compatible, base_url: "{server.url}", model: demo}}
{extra}defaults: {{model: m}}
datasets: {{d: {{path: d.jsonl, key: id}}}}
steps:
"""


def test_results_stand_in_input_order_however_long_each_takes(project: Project, counts: Counts) -> None:
    rows = [{"id": f"r{n}", "n": n} for n in range(40)]
    project.rows("d.jsonl", rows)
    with Answers(lambda prompt: prompt.upper(), delay_s=0.01) as server:
        report = project.run(
            head(server)
            + """\
  - {id: one, foreach: datasets.d, prompt: "a {{ item.n }}"}
  - {id: two, foreach: datasets.d, prompt: "b {{ steps.one }}"}
"""
        )
    assert report.exit_code == 0
    assert report.status == "complete"
    assert counts(report) == {"one": (40, 40, 0, 0, 0), "two": (40, 40, 0, 0, 0)}
    assert project.results(report, "two") == [{"key": f"r{n}", "output": f"B A {n}"} for n in range(40)]


def test_a_row_goes_on_without_waiting_for_the_others(project: Project) -> None:
    """The second step of the first row is asked before the first step of the last row is."""
    project.rows("d.jsonl", [{"id": str(n)} for n in range(30)])
    with Answers(delay_s=0.01) as server:
        project.run(
            head(server)
            + """\
  - {id: one, foreach: datasets.d, prompt: "one {{ item.id }}"}
  - {id: two, foreach: datasets.d, prompt: "two {{ item.id }} {{ steps.one | length }}"}
""",
            concurrency=3,
        )
        order = [prompt.split()[:2] for prompt in server.prompts]
    assert order.index(["two", "0"]) < order.index(["one", "29"])


def test_a_list_in_an_output_fans_out_with_parent_and_comes_back_per_item(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", [{"id": "a", "parts": 3}, {"id": "b", "parts": 0}, {"id": "c", "parts": 1}])

    def reply(prompt: str) -> object:
        kind, _, rest = prompt.partition(" ")
        if kind == "list":
            id, n = rest.split()
            return {"parts": [{"text": f"{id}{i}"} for i in range(int(n))]}
        return f"<{rest}>"

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - id: list
    foreach: datasets.d
    prompt: "list {{ item.id }} {{ item.parts }}"
    schema: {parts: [{text: string}]}
  - {id: part, foreach: steps.list.parts, prompt: "part {{ parent.id }}/{{ item.text }}"}
  - id: sum
    foreach: datasets.d
    render: "{{ item.id }}:{% for p in steps.part %}{{ p.item.text }}={{ p.output }};{% endfor %}{{ steps.part | length }}"
  - {id: all, render: "{{ steps.part | length }} {{ steps.sum | length }}{% for p in steps.part %} {{ p.key }}{% endfor %}"}
"""
        )
    assert counts(report) == {
        "list": (3, 3, 0, 0, 0), "part": (4, 4, 0, 0, 0), "sum": (3, 3, 0, 0, 0), "all": (1, 1, 0, 0, 0),
    }  # fmt: skip
    assert [line["key"] for line in project.results(report, "part")] == ["a/0", "a/1", "a/2", "c/0"]
    assert project.outputs(report, "sum") == ["a:a0=<a/a0>;a1=<a/a1>;a2=<a/a2>;3", "b:0", "c:c0=<c/c0>;1"]
    assert project.outputs(report, "all") == ["4 3 a/0 a/1 a/2 c/0"]


def test_lists_in_lists_fan_out_again(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "b"}])

    def reply(prompt: str) -> object:
        if prompt.startswith("chapters"):
            return {"chapters": [{"pages": [1, 2]}, {"pages": [3]}]}
        return {"lines": [f"{prompt}-x", f"{prompt}-y"]} if prompt.startswith("page") else prompt

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - id: book
    foreach: datasets.d
    prompt: "chapters of {{ item.id }}"
    schema: {chapters: [{pages: "list[integer]"}]}
  - {id: chapter, foreach: steps.book.chapters, prompt: "page {{ item.pages | length }}", schema: {lines: "list[string]"}}
  - {id: line, foreach: steps.chapter.lines, render: "{{ item }}"}
  - {id: count, foreach: datasets.d, render: "{{ steps.line | length }} lines in {{ steps.chapter | length }} chapters"}
"""
        )
    assert [line["key"] for line in project.results(report, "line")][:4] == ["a/0/0", "a/0/1", "a/1/0", "a/1/1"]
    assert project.outputs(report, "count") == ["4 lines in 2 chapters"] * 2


def test_a_missing_list_is_a_failure_and_an_empty_one_is_no_items(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "b"}])

    def reply(prompt: str) -> object:
        return {"parts": []} if prompt.endswith("a") else {"other": 1}

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - {id: list, foreach: datasets.d, prompt: "{{ item.id }}", schema: {type: object}, max_reasks: 0}
  - {id: part, foreach: steps.list.parts, prompt: "{{ item }}"}
"""
        )
    assert counts(report) == {"list": (2, 1, 1, 0, 0), "part": (0, 0, 0, 0, 0)}
    assert report.exit_code == 1
    assert "parts" in report.causes[0].example_error


def test_groups_by_an_expression_and_in_batches(project: Project) -> None:
    rows = [{"id": f"r{n}", "kind": "bug" if n % 3 else "idea"} for n in range(10)]
    project.rows("d.jsonl", rows)
    with Answers(lambda prompt: {"kind": prompt}) as server:
        report = project.run(
            head(server)
            + """\
  - {id: label, foreach: datasets.d, prompt: "{{ item.kind }}", schema: {kind: string}}
  - {id: by, foreach: {group: steps.label, by: output.kind}, render: "{{ item.key }} {{ item.rows | length }}"}
  - {id: size, foreach: {group: steps.label, size: 4}, render: "{% for r in item.rows %}{{ r.key }} {% endfor %}"}
  - {id: both, foreach: {group: steps.label, by: output.kind, size: 4}, render: "{{ item.key }} {{ item.rows | length }}"}
"""
        )
    assert project.results(report, "by") == [{"key": "idea", "output": "idea 4"}, {"key": "bug", "output": "bug 6"}]
    assert project.outputs(report, "size") == ["r0 r1 r2 r3 ", "r4 r5 r6 r7 ", "r8 r9 "]
    assert project.outputs(report, "both") == ["idea 4", "bug 4", "bug 2"]


def test_samples_and_models_open_inner_scopes(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "b"}])
    with Answers() as server:
        extra = f'  n: {{provider: openai_compatible, base_url: "{server.url}", model: other}}\n'
        report = project.run(
            head(server, extra)
            + """\
  - {id: many, foreach: datasets.d, samples: 3, prompt: "s {{ item.id }}"}
  - {id: both, foreach: datasets.d, model: [m, n], prompt: "m {{ item.id }}"}
  - {id: best, foreach: datasets.d, render: "{{ steps.many | length }}{% for e in steps.both %} {{ e.key }}{% endfor %}"}
"""
        )
        asked = server.asked
    assert asked == {"s a": 3, "s b": 3, "m a": 2, "m b": 2}
    assert [line["key"] for line in project.results(report, "many")] == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert project.outputs(report, "best") == ["3 a/m a/n", "3 b/m b/n"]


def test_a_list_in_vars_is_a_scope(project: Project) -> None:
    with Answers() as server:
        report = project.run(
            f"""\
version: 1
vars: {{cities: [Rome, Oslo, Rome]}}
models: {{m: {{provider: openai_compatible, base_url: "{server.url}", model: demo}}}}
steps:
  - {{id: visit, foreach: vars.cities, model: m, prompt: "go to {{{{ item }}}}"}}
"""
        )
    assert project.results(report, "visit") == [
        {"key": "Rome", "output": "re: go to Rome"},
        {"key": "Oslo", "output": "re: go to Oslo"},
        {"key": "#2", "output": "re: go to Rome"},
    ]


def test_a_long_text_is_split_with_its_offsets(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "text": "abcdefghij"}, {"id": "b", "text": ""}])
    with Answers(lambda prompt: prompt) as server:
        report = project.run(
            head(server)
            + """\
  - id: piece
    foreach: {split: datasets.d, text: item.text, by: characters, size: 4, overlap: 1}
    prompt: "{{ parent.id }} {{ item.start }}-{{ item.end }} {{ item.text }}"
  - {id: whole, foreach: datasets.d, render: "{{ steps.piece | length }}"}
"""
        )
    outputs = project.outputs(report, "piece")
    assert outputs[0] == "a 0-4 abcd"
    assert outputs[-1].startswith("a ")
    assert outputs[-1].endswith("j")
    assert project.outputs(report, "whole")[1] == "0"


def test_an_item_whose_source_failed_is_skipped_with_the_reason(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "bad"}, {"id": "c"}])

    def reply(prompt: str) -> object:
        return (400, {"error": {"message": "no", "type": "invalid_request_error"}}) if "bad" in prompt else prompt

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - {id: one, foreach: datasets.d, prompt: "{{ item.id }}", min_success: 50%}
  - {id: two, foreach: datasets.d, render: "{{ steps.one }}!"}
  - {id: three, foreach: datasets.d, render: "{{ steps.two }}!"}
  - {id: anyway, foreach: datasets.d, allow_skipped: true, render: "{{ steps.two or 'none' }}"}
"""
        )
    assert counts(report)["two"] == (3, 2, 0, 1, 0)
    assert counts(report)["three"] == (3, 2, 0, 1, 0)
    assert project.outputs(report, "anyway") == ["a!", "none", "c!"]
    assert report.status == "partial"
    assert report.exit_code == 0


def test_an_if_that_is_false_skips_and_its_readers_are_skipped(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", [{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    with Answers() as server:
        report = project.run(
            head(server)
            + """\
  - {id: one, foreach: datasets.d, if: item.n > 1, prompt: "{{ item.id }}"}
  - {id: two, foreach: datasets.d, prompt: "{{ steps.one }}"}
  - {id: list, render: "{{ steps.one | length }} {{ steps.one.skipped }}"}
"""
        )
        assert server.total == 2
    assert counts(report) == {"one": (2, 1, 0, 1, 0), "two": (2, 1, 0, 1, 0), "list": (1, 1, 0, 0, 0)}
    assert project.outputs(report, "list") == ["1 1"]


def test_a_list_is_read_only_if_its_source_kept_its_contract(project: Project, counts: Counts) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "bad"}])

    def reply(prompt: str) -> object:
        return (400, {"error": {"message": "no", "type": "invalid_request_error"}}) if "bad" in prompt else prompt

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - {id: one, foreach: datasets.d, prompt: "{{ item.id }}"}
  - {id: all, render: "{{ steps.one | length }}"}
"""
        )
    assert report.exit_code == 1
    assert counts(report)["all"] == (1, 0, 0, 1, 0)


def test_steps_in_a_scope_below_may_use_what_was_made_of_their_list(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}])

    def reply(prompt: str) -> object:
        return {"parts": ["x", "y"]} if prompt.startswith("list") else prompt

    with Answers(reply) as server:
        report = project.run(
            head(server)
            + """\
  - {id: list, foreach: datasets.d, prompt: "list", schema: {parts: "list[string]"}}
  - {id: part, foreach: steps.list.parts, render: "{{ item }}"}
  - {id: sum, foreach: datasets.d, render: "{% for p in steps.part %}{{ p.output }}{% endfor %}"}
  - {id: again, foreach: steps.list.parts, render: "{{ item }} of {{ steps.sum }}"}
"""
        )
    assert project.outputs(report, "again") == ["x of xy", "y of xy"]


def test_python_steps_run_only_when_allowed(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a"}, {"id": "b"}])
    project.write(
        "own_code.py", "def shout(item, steps):\n    return {'loud': item['id'].upper(), 'was': steps['one']}\n"
    )
    text = """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: one, foreach: datasets.d, render: "{{ item.id }}"}
  - {id: two, foreach: datasets.d, needs: [one], python: "own_code:shout"}
"""
    report = project.run(text, allow_python=True)
    assert project.outputs(report, "two")[0]["loud"] == "A"


def test_published_columns_may_name_other_steps_lists_below_and_whole_lists(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "parts": ["=x", "y"]}, {"id": "b", "parts": []}])
    report = project.run(
        """\
version: 1
vars: {three: [1, 2, 3]}
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: intro, render: "hi"}
  - {id: each, foreach: vars.three, render: "{{ item }}"}
  - {id: one, foreach: datasets.d, if: item.id == "a", render: "{{ item.id }}1"}
  - {id: piece, foreach: {split: datasets.d, text: item.id, by: characters, size: 10}, render: "{{ item.text }}"}
  - {id: two, foreach: datasets.d, render: "{{ item.parts | first | default('-') }}"}
outputs:
  - from: steps.two
    path: output/two.csv
    columns: {id: item.id, out: output, one: steps.one is defined, pieces: steps.piece | length, all: steps.each | length, i: steps.intro}
  - {from: steps.piece, path: output/piece.jsonl, columns: {key: key, text: output, id: parent.id, two: steps.two}}
"""
    )
    assert report.exit_code == 0, report.reason
    published = (project.root / "output" / "two.csv").read_text()
    assert published == "id,out,one,pieces,all,i\na,=x,true,1,3,hi\nb,-,false,1,3,hi\n"
    lines = [json.loads(line) for line in (project.root / "output" / "piece.jsonl").read_text().splitlines()]
    assert lines[0] == {"key": "a/0", "text": "a", "id": "a", "two": "=x"}


def test_a_group_shows_its_rows_wherever_it_is_seen_and_nothing_of_the_ledger(project: Project) -> None:
    project.rows("d.jsonl", [{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    report = project.run("""\
        version: 1
        models: {m: {provider: echo}, n: {provider: echo}}
        datasets: {d: {path: d.jsonl, key: id}}
        steps:
          - {id: one, foreach: datasets.d, render: "{{ item.n }}"}
          - {id: all, foreach: {group: steps.one}, render: "{{ item | tojson }}"}
          - {id: many, foreach: {group: steps.one}, model: [m, n], samples: 2, prompt: "{{ item.rows | length }}"}
          - {id: outer, foreach: {group: steps.all}, render: "{{ item.rows[0].item.rows[1].key }}"}
          - {id: list, render: "{% for row in steps.all %}{{ row.item | tojson }}{% endfor %}"}
          - {id: inner, render: "{% for row in steps.many %}{{ row.item.rows | length }}{% endfor %}"}
        outputs:
          - {from: steps.many, path: output/o.jsonl, columns: {n: item.rows | length, k: "item.rows[1].key"}}
        """)
    assert report.exit_code == 0, report.causes
    (seen,) = [json.loads(text) for text in project.outputs(report, "all")]
    assert sorted(seen) == ["key", "number", "rows"]
    assert [row["key"] for row in seen["rows"]] == ["a", "b"]
    assert project.outputs(report, "many") == ["echo: 2"] * 4
    assert project.outputs(report, "outer") == ["b"]
    assert json.loads(project.outputs(report, "list")[0]) == seen
    assert project.outputs(report, "inner") == ["2222"]
    published = (project.root / "output/o.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in published] == [{"n": 2, "k": "b"}] * 4
    info = find_run(project.root / "output", report.run_id, None)
    for step, key in (("all", "0"), ("many", "0/m/1"), ("outer", "0")):
        shown = item_story(info, step, key).item
        assert {**shown, "rows": len(shown["rows"])} == {"key": 0, "number": 0, "rows": 1 if step == "outer" else 2}
    assert item_story(info, "all", "0").item["rows"] == ["a", "b"]
    assert item_story(info, "one", "a").item == {"id": "a", "n": 1}
    assert item_story(info, "list", "").item == {}


def test_items_that_fanned_out_are_gone_with_their_row(project: Project) -> None:
    """Not only once somebody looks for cycles: memory would grow with the rows until then."""
    project.rows("d.jsonl", [{"id": f"r{n}"} for n in range(700)])
    pipeline = project.load("""\
        version: 1
        models: {e: {provider: echo}}
        defaults: {model: e}
        datasets: {d: {path: d.jsonl, key: id}}
        steps:
          - {id: piece, foreach: {split: datasets.d, text: item.id, size: 1}, render: "{{ item.text }}"}
          - {id: again, foreach: datasets.d, samples: 2, prompt: "{{ item.id }}"}
          - {id: all, foreach: datasets.d, render: "{{ steps.piece | length }}"}
        """)
    gc.collect()
    gc.disable()
    try:
        report = run_pipeline(pipeline, RunOptions(), environment=Environment({}), progress=project.seen)
        left = sum(isinstance(thing, Item) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert report.exit_code == 0, report.reason
    assert left < 50


def documents(project: Project) -> None:
    project.rows(
        "d.jsonl",
        [
            {"id": "a", "name": "x", "body": "one two three", "tags": ["p", "q"]},
            {"id": "b", "name": "y", "body": "four", "tags": ["p"]},
            {"id": "c", "name": "x", "body": "five six", "tags": []},
        ],
    )


PIECES = "{split: datasets.d, text: item.body, by: characters, size: 4}"


def test_pieces_are_grouped_by_a_field_of_their_document(project: Project, counts: Counts) -> None:
    documents(project)
    text = """\
  - {id: piece, foreach: %s, prompt: "{{ item.text }}"}
  - {id: digest, foreach: {group: steps.piece, by: parent.name}, prompt: "{{ item.key }} {{ item.rows | map(attribute='output') | join }}"}
  - {id: both, foreach: {group: steps.piece, by: "[parent.name, item.number == 1]", size: 2}, render: "{{ item.rows | map(attribute='key') | join(' ') }}"}
"""
    with Answers(lambda prompt: f"<{prompt}>") as server:
        report = project.run(head(server) + text % PIECES)
        asked = server.total
        again = project.run(resume="auto")
        rows = [json.loads(line) for line in (project.root / "pipelines/d.jsonl").read_text().splitlines()]
        rows[1]["name"] = "x"
        project.rows("d.jsonl", rows)
        moved = project.run(resume="auto")
    assert report.exit_code == again.exit_code == moved.exit_code == 0
    assert project.results(report, "digest") == [
        {"key": "x", "output": "<x <one ><two ><thre><e><five>< six>>"},
        {"key": "y", "output": "<y <four>>"},
    ]
    assert [r["output"] for r in project.results(report, "both")] == ["a/0 c/0", "a/1 a/2", "a/3 c/1", "b/0"]
    assert project.results(again, "digest") == project.results(report, "digest")
    assert asked + 1 == server.total  # only the digest of the group that has grown
    assert project.outputs(moved, "digest") == ["<x <one ><two ><thre><e><four><five>< six>>"]


def test_fan_outs_and_samples_are_grouped_by_what_encloses_them(project: Project) -> None:
    documents(project)
    report = project.run(
        """\
version: 1
models: {m: {provider: echo}}
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: read, foreach: datasets.d, python: "tags_of:tags"}
  - {id: tag, foreach: steps.read.tags, render: "{{ item }}"}
  - {id: by_name, foreach: {group: steps.tag, by: parent.name}, render: "{{ item.key }} {{ item.rows | map(attribute='item') | join }}"}
  - {id: sample, foreach: datasets.d, samples: 2, prompt: "{{ item.id }}"}
  - {id: by_sample, foreach: {group: steps.sample, by: parent.name}, render: "{{ item.key }} {{ item.rows | length }}"}
  - {id: again, foreach: {split: steps.tag, text: "parent.body", by: characters, size: 8}, render: "{{ item.text }}"}
"""
        if project.write("tags_of.py", "def tags(item):\n    return {'tags': item['tags']}\n")
        else "",
        allow_python=True,
    )
    assert report.exit_code == 0
    assert project.outputs(report, "by_name") == ["x pq", "y p"]
    assert project.outputs(report, "by_sample") == ["x 4", "y 2"]
    assert project.outputs(report, "again") == ["one two ", "three", "one two ", "three", "four"]


def test_a_parent_that_there_cannot_be_is_refused_with_what_there_is(project: Project) -> None:
    documents(project)
    text = (
        "version: 1\ndatasets: {d: {path: d.jsonl, key: id}}\nsteps:\n  - {id: one, foreach: datasets.d, render: a}\n"
    )
    for by, words in (("parent.name", "known here: key, item, output, vars"), ("itm.name", "'itm' is not defined")):
        project.write("x.yaml", text + f"  - {{id: two, foreach: {{group: steps.one, by: {by}}}, render: b}}\n")
        with pytest.raises(ConfigError) as caught:
            project.load()
        (problem,) = caught.value.problems
        assert problem.code == "C210"
        known = problem.note.partition("known here: ")[2].split(", ")
        assert words in problem.message or {"item", "key", "output", "vars"} <= {name.strip("'") for name in known}


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("parent.body.split()[1]", "1 is not defined"),
        ('(parent.body ~ "x") | int', "is not a number"),
        ("(item.number | float) * 1e300 * 1e300 if parent.name == 'y' else 2", "JSON"),
    ],
)
def test_a_row_for_which_by_fails_is_a_failure_of_its_own(
    project: Project, counts: Counts, by: str, words: str
) -> None:
    documents(project)
    text = """\
  - {id: piece, foreach: %s, prompt: "{{ item.text }}"}
  - id: digest
    foreach: {group: steps.piece, by: '%s'}
    samples: 2
    prompt: "{{ item.key }} {{ item.rows | length }}"
    min_success: 10%%
  - {id: after, foreach: steps.digest, render: "{{ steps.digest }}", min_success: 0}
"""
    by = by.replace("'", "''")
    with Answers() as server:
        report = project.run(head(server) + text % (PIECES, by))
        asked = server.total
        retried = project.run(retry_failed="last")
    items, ok, failed, skipped, unsent = counts(report)["digest"]
    assert items == ok + failed + skipped + unsent
    assert failed >= 2
    assert unsent == 0
    assert report.exit_code == (0 if ok else 1)
    assert server.total == asked
    assert counts(retried)["digest"] == counts(report)["digest"]
    rows = [json.loads(p.read_text()) for p in (report.folder / "failures" / "digest").iterdir()]
    assert [row["error"] for row in rows if words not in row["error"]] == []
    assert {row["payload"]["key"].partition("/")[0] for row in rows} <= {"a", "b", "c"}
    assert report.status in ("partial", "failed")


def test_columns_see_the_group_that_a_row_lies_in(project: Project) -> None:
    documents(project)
    project.write("names_of.py", "def names(item):\n    return {'names': [row['key'] for row in item['rows']]}\n")
    report = project.run(
        """\
version: 1
datasets: {d: {path: d.jsonl, key: id}}
steps:
  - {id: one, foreach: datasets.d, render: "{{ item.id }}"}
  - {id: group, foreach: {group: steps.one, by: item.name}, python: "names_of:names"}
  - {id: each, foreach: steps.group.names, render: "{{ item }} {{ parent.key }} {{ parent.rows | length }}"}
outputs: [{from: steps.each, path: output/e.csv, columns: {name: item, group: parent.key, of: parent.rows | length}}]
""",
        allow_python=True,
    )
    assert report.exit_code == 0
    assert project.outputs(report, "each") == ["a x 2", "c x 2", "b y 1"]
    assert (project.root / "output/e.csv").read_text() == "name,group,of\na,x,2\nc,x,2\nb,y,1\n"


@pytest.mark.parametrize(
    ("file", "text"), [("d.csv", "id,text\na,abcdef\n"), ("d.tsv", "id\ttext\na\tabcdef\n"), ("d.txt", "abcdef\n")]
)
def test_a_text_of_a_table_is_split_as_any_other(project: Project, file: str, text: str) -> None:
    project.write(file, text)
    lines = f"""\
version: 1
datasets: {{d: {{path: {file}}}}}
steps:
  - id: piece
    foreach: {{split: datasets.d, by: characters, size: 4}}
    render: "{{{{ item.start }}}} {{{{ item.text }}}} of {{{{ parent.text }}}}"
"""
    report = project.run(lines.replace("d.txt}", "d.txt, format: lines}"))
    assert project.outputs(report, "piece") == ["0 abcd of abcdef", "4 ef of abcdef"]
