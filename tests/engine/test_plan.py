"""What runs when: passes, nodes, and what each waits for."""

from __future__ import annotations

from llmpipe.config.pipeline import Pipeline
from llmpipe.engine.plan import ItemPlan, plan_passes
from tests.engine.conftest import Project

MODELS = "version: 1\nmodels: {m: {provider: echo}}\ndefaults: {model: m}\n"


def shape(plan: ItemPlan) -> list[object]:
    """A plan as nested lists of names."""
    return [node.step or [node.scope, *shape(node.inner)] for node in plan.nodes if node.step or node.inner]


def passes(pipeline: Pipeline) -> list[tuple[str, list[str], list[object]]]:
    return [(p.scope, sorted(p.waits_for), shape(p.plan)) for p in plan_passes(pipeline)]


def with_rows(project: Project, steps: str) -> Pipeline:
    project.rows("d.jsonl", [{"id": "a", "body": "x"}])
    return project.load(f"{MODELS}datasets: {{d: {{path: d.jsonl, key: id}}}}\nsteps:\n{steps}")


def test_steps_of_one_scope_flow_in_one_pass(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: one, foreach: datasets.d, prompt: "{{ item.body }}"}
  - {id: two, foreach: datasets.d, prompt: "{{ steps.one }}"}
  - {id: three, foreach: steps.two, prompt: "{{ steps.two }} {{ steps.one }}"}
""",
    )
    assert passes(pipeline) == [("dataset:d", [], ["one", "two", "three"])]
    assert plan_passes(pipeline)[0].plan.is_chain


def test_steps_that_do_not_build_on_each_other_need_not_wait(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: left, foreach: datasets.d, prompt: "{{ item.body }}"}
  - {id: right, foreach: datasets.d, prompt: "{{ item.body }}"}
""",
    )
    plan = plan_passes(pipeline)[0].plan
    assert not plan.is_chain
    assert [node.after for node in plan.nodes] == [(), ()]


def test_a_whole_list_is_waited_for(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: one, foreach: datasets.d, prompt: "{{ item.body }}"}
  - {id: all, prompt: "{% for e in steps.one %}{{ e.output }}{% endfor %}"}
  - {id: back, foreach: datasets.d, prompt: "{{ steps.all }} {{ steps.one }}"}
""",
    )
    assert passes(pipeline) == [
        ("dataset:d", [], ["one"]),
        ("root", ["one"], ["all"]),
        ("dataset:d", ["all", "one"], ["back"]),
    ]


def test_a_list_below_an_item_is_part_of_its_pass_and_may_feed_the_scope_below_again(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: list, foreach: datasets.d, prompt: "{{ item.body }}", schema: {parts: "list[string]"}}
  - {id: part, foreach: steps.list.parts, prompt: "{{ item }}"}
  - {id: sum, foreach: datasets.d, prompt: "{% for p in steps.part %}{{ p.output }}{% endfor %}"}
  - {id: again, foreach: steps.list.parts, prompt: "{{ item }} {{ steps.sum }}"}
""",
    )
    below = "fanout:list.parts"
    assert passes(pipeline) == [("dataset:d", [], ["list", [below, "part"], "sum", [below, "again"]])]


def test_needs_between_unrelated_scopes_waits_for_the_whole_step(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: first, prompt: "hello"}
  - {id: second, foreach: datasets.d, needs: [first], prompt: "{{ item.body }}"}
""",
    )
    assert ("dataset:d", ["first"], ["second"]) in passes(pipeline)


def test_only_the_wanted_steps_are_planned(project: Project) -> None:
    pipeline = with_rows(
        project,
        """\
  - {id: one, foreach: datasets.d, prompt: "{{ item.body }}"}
  - {id: two, foreach: datasets.d, prompt: "{{ steps.one }}"}
""",
    )
    planned = plan_passes(pipeline, frozenset({"one"}))
    assert [sorted(p.steps) for p in planned] == [["one"]]
