"""The `steps` of a file: each read on its own first, then against the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from llmpipe.config.answers import check_answers
from llmpipe.config.fallbacks import Fallbacks
from llmpipe.config.fields import Fields, items, names
from llmpipe.config.loading import Loading
from llmpipe.config.models import check_echo_params, check_model_names, read_params
from llmpipe.config.modules import check_module
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
from llmpipe.config.pipeline import ROOT_SCOPE, MessageTemplate, Step, StepRef
from llmpipe.config.policies import Policies
from llmpipe.config.prompt_traps import warn_path, warn_rowless
from llmpipe.config.references import Reader, References
from llmpipe.config.schemas import read_schema
from llmpipe.config.scopes import Draft, Scopes
from llmpipe.config.shapes import ANY, TEXT, Shape, of_schema
from llmpipe.config.templates import Expression, Template
from llmpipe.config.without_effect import refuse_useless
from llmpipe.frozen import frozen
from llmpipe.structured.schema import OutputSchema
from llmpipe.types import Model, Role

_KINDS = {"prompt": "model", "prompt_file": "model", "messages": "model", "render": "render", "python": "python"}


@dataclass(slots=True)
class Parts:
    """What a step says, compiled, with the node that each template comes from."""

    kind: str
    messages: list[tuple[Role, Template, Node, str]] = field(default_factory=list)
    render: tuple[Template, Node] | None = None
    when: tuple[Expression, Node] | None = None
    checks: list[tuple[Expression, Node]] = field(default_factory=list)
    schema: OutputSchema | None = None
    has_schema: bool = False  # whether the file names one, usable or not


@frozen
class Surroundings:
    """What steps are read against."""

    loading: Loading
    scopes: Scopes
    models: Mapping[str, Model]
    model_names: Mapping[str, Any]  # every declared name, usable or not
    defaults: Policies
    parts: Mapping[str, Parts]
    references: References


def read_drafts(pipeline: Fields, models: Mapping[str, Any], defaults: Policies, loading: Loading) -> dict[str, Draft]:
    """The steps by id; an id that stands twice is a problem."""
    found: dict[str, Draft] = {}
    section = pipeline.sub("defaults", "defaults")
    broken = section.node is not None and "model" in section.node.value and section.get("model") is None
    for node in items(pipeline.get("steps")):
        fields = Fields(node, "step", loading.problems)
        id = fields.get("id")
        if id is None or id.kind != "str":
            continue
        if id.value in found:
            note = f"the first '{id.value}' stands in line {found[id.value].node.place.line}"
            loading.problems.add("C206", f"the id '{id.value}' stands twice", id, note=note)
            continue
        samples = fields.read("samples", lambda n: int(n.value), 1)
        draft = Draft(id.value, node, fields, samples=samples)
        if kind_of(node) == "model" and not (broken and fields.get("model") is None):
            draft.models = _models(draft, models, defaults, loading)
        found[id.value] = draft
    return found


def kind_of(node: Node) -> str:
    """What a step does: ask a model, render a template, or call Python code."""
    return next((kind for key, kind in _KINDS.items() if node.kind == "map" and key in node.value), "model")


def _models(draft: Draft, models: Mapping[str, Any], defaults: Policies, loading: Loading) -> tuple[str, ...]:
    node = draft.fields.get("model")
    if node is not None:
        check_model_names(node, models, loading)
        return names(node)
    if defaults.models:
        return defaults.models
    if len(models) == 1:
        return tuple(models)
    if (
        loading.lacks_names
        or "model" in draft.node.value
        or not any(_KINDS.get(key) == "model" for key in draft.node.value)
    ):
        return ()  # that it does nothing, or that the file is wrong elsewhere, is told instead
    said = f"one of: {listed(models)}" if models else "declare one under `models`, for example {demo: {provider: echo}}"
    note = f"set `model` here or under `defaults`; {said}"
    loading.problems.add("C201", f"step '{draft.id}' names no model", draft.node.key_place("id"), note=note)
    return ()


def compile_parts(draft: Draft, loading: Loading) -> Parts:
    """The templates, expressions and schema of a step."""
    kind, fields = kind_of(draft.node), draft.fields
    parts = Parts(kind, has_schema="schema" in draft.node.value)
    refuse_useless(draft, kind, loading)
    _add(parts, "system", fields.get("system"), "the system prompt", loading)
    for node in items(fields.get("messages")):
        message = Fields(node, "message", loading.problems)
        content = message.get("content")
        _add(parts, message.text("role") or "user", content, "a message", loading)
    _add(parts, "user", fields.get("prompt"), "the prompt", loading)
    _add(parts, "user", _prompt_file(fields.get("prompt_file"), loading), "the prompt", loading)
    render, when = fields.get("render"), fields.get("if")
    if render is not None and (template := loading.template(render)):
        parts.render = (template, render)
    if when is not None and (expression := loading.expression(when)):
        parts.when = (expression, when)
    for node in items(fields.get("check")):
        if expression := loading.expression(node):
            parts.checks.append((expression, node))
    schema = fields.get("schema")
    parts.schema = read_schema(schema, loading) if schema is not None else None
    return parts


def _add(parts: Parts, role: str, node: Node | None, what: str, loading: Loading) -> None:
    if node is not None and node.kind == "str" and (template := loading.template(node)):
        parts.messages.append((role, template, node, what))  # type: ignore[arg-type]


def _prompt_file(node: Node | None, loading: Loading) -> Node | None:
    """The text of a prompt file as a node of its own."""
    path = loading.named_file(node) if node is not None else None
    source = loading.refused(node, lambda: loading.read(path)) if node is not None and path is not None else None
    if source is None or node is None:
        return None
    if not source.text.strip():
        loading.problems.add("C204", f"the prompt file '{node.value}' is empty", node)
        return None
    return Node("str", source.text, source, 0, len(source.text), style="fixed")


def shape_of(parts: Parts) -> Shape:
    """What is known about the output of a step."""
    if parts.schema is not None:
        return of_schema(parts.schema.document)
    return ANY if parts.kind == "python" or parts.has_schema else TEXT


def build_step(draft: Draft, around: Surroundings) -> Step:
    """The finished step; problems for whatever it names that is not there."""
    parts, fields = around.parts[draft.id], draft.fields
    policies = Policies(fields, around.defaults)
    scope = around.scopes.home(draft.id)
    runs_once = scope == ROOT_SCOPE
    needs = _needs(draft, around)
    _check_params(draft, around)
    if parts.kind == "model":
        check_answers(draft, policies, around.loading, models=around.models, names=around.model_names)
    fallback = policies.fallback
    if fallback is None and len(draft.models) > 1:
        fallback = Fallbacks()  # a comparison of models must not quietly become one of the same model
    return Step(
        id=draft.id,
        kind=parts.kind,  # type: ignore[arg-type]
        scope=scope,
        place=draft.node.place,
        messages=tuple(MessageTemplate(role, template) for role, template, _, _ in parts.messages),
        models=draft.models,
        params=read_params(fields.sub("params", "params")),
        fallback=None if fallback is None else _fallback(draft, fallback.names, around),
        fallback_on=MappingProxyType(dict(fallback.words) if fallback is not None else {}),
        render=parts.render[0] if parts.render else None,
        python=fields.text("python"),
        python_place=check_module(fields.get("python"), around.loading, what=f"step '{draft.id}'"),
        when=parts.when[0] if parts.when else None,
        checks=tuple(expression for expression, _ in parts.checks),
        schema=parts.schema,
        max_reasks=policies.max_reasks,
        reask_model=policies.reask_model if parts.kind == "model" else None,
        repair=policies.repair,
        coerce=policies.coerce,
        on_truncated=policies.on_truncated,
        refs=_refs(draft, parts, scope, needs, around),
        needs=needs,
        allow_skipped=policies.allow_skipped,
        on_error=policies.on_error or ("fail" if runs_once else "continue"),
        min_success=policies.min_success,
        timeout=policies.timeout,
        retry=policies.retry,
        cache=policies.cache,
        max_prompt=policies.max_prompt,
    )


def warn_of_prompts(around: Surroundings) -> None:
    """Warn of prompts that probably say something else than was meant, unless what is broken may have meant it."""
    if around.loading.problems.errors:
        return
    for draft in around.scopes.drafts.values():
        parts = around.parts[draft.id]
        if parts.kind == "model" and not warn_path(draft, around.loading):
            messages = [(template, node) for _, template, node, _ in parts.messages]
            warn_rowless(draft, messages, around.scopes.home(draft.id), around.scopes, around.references)


def _fallback(draft: Draft, fallback: tuple[str, ...], around: Surroundings) -> tuple[str, ...]:
    node = draft.fields.get("fallback")
    if node is not None:
        check_model_names(node, around.model_names, around.loading)
    if len(draft.models) != 1:
        return fallback
    if node is not None and draft.models[0] in fallback:
        around.loading.problems.add("C215", f"model '{draft.models[0]}' is its own fallback", node)
    return tuple(name for name in fallback if name != draft.models[0])


def _check_params(draft: Draft, around: Surroundings) -> None:
    node = draft.fields.get("params")
    if node is None or node.kind != "map":
        return
    from llmpipe.providers.rows import PROVIDERS

    params = read_params(Fields(node, "params", around.loading.problems))
    for name in draft.models:
        model = around.models.get(name)
        row = PROVIDERS.get(model.provider) if model is not None else None
        if row is None:
            continue
        check_echo_params(params, node, row.wire, around.loading)
        for param in sorted(row.dialect.unsupported & set(params)):
            note = "remove it, or send it as the provider spells it under `extra`"
            around.loading.problems.add("P458", f"'{row.name}' takes no '{param}'", node.key_place(param), note=note)


def _needs(draft: Draft, around: Surroundings) -> tuple[str, ...]:
    found = []
    for node in items(draft.fields.get("needs")):
        id = str(node.value).removeprefix("steps.")
        if id not in around.scopes.drafts:
            hint, note = did_you_mean(id, around.scopes.drafts), f"steps: {listed(around.scopes.drafts)}"
            around.loading.problems.add("C212", f"there is no step '{id}'", node, hint=hint, note=note)
        elif id == draft.id:
            around.loading.problems.add("C216", f"step '{id}' needs itself", node)
        else:
            found.append(id)
    return tuple(dict.fromkeys(found))


def _refs(draft: Draft, parts: Parts, scope: str, needs: tuple[str, ...], around: Surroundings) -> tuple[StepRef, ...]:
    """Every other step that this one uses, once each, in the order of the templates."""
    found: list[StepRef] = []
    readers = _readers(draft, parts, scope)
    for template, reader in readers:
        around.references.note_guards(template, reader)
    for template, reader in readers:
        found += around.references.follow(template, reader)
    foreach = draft.fields.get("foreach")
    if foreach is not None:
        found += _source_refs(draft, scope, foreach, around)
    if parts.kind == "python":
        found += [StepRef(id, around.scopes.mode(scope, id), draft.node.place) for id in needs]
    return tuple({ref.step: ref for ref in reversed(found)}.values())[::-1]


def _source_refs(draft: Draft, scope: str, foreach: Node, around: Surroundings) -> list[StepRef]:
    """A step over another's own scope uses that one's output, even if no template names it."""
    own = around.scopes.made[scope]
    while own.step == draft.id and own.parent is not None:
        own = around.scopes.made[own.parent]
    if own.kind == "fanout" and foreach.kind == "str" and str(foreach.value).count(".") > 1:
        around.references.check_fanout(own, foreach)
    _follow_scope(own.id, foreach, around)
    source = draft.source
    if source is None or source in around.scopes.sources(scope):
        return []
    return [StepRef(source, around.scopes.mode(scope, source), foreach.place)]


def _follow_scope(id: str, foreach: Node, around: Surroundings) -> None:
    """The expressions of a group or a split name what is known where they are evaluated."""
    scope = around.scopes.made[id]
    if foreach.kind != "map" or foreach.value.get("by" if scope.kind == "group" else "text") is None:
        return
    source = scope.step
    output = around.references.output_of(source) if source is not None else None
    if scope.kind == "group" and scope.by is not None and source is not None:
        home = around.scopes.home(source)
        node = foreach.value["by"]
        around.references.follow(scope.by, Reader("`by`", home, node, output=output, only_steps=frozenset()))
    if scope.kind == "split" and scope.split is not None:
        only = frozenset() if source is None else frozenset({source})
        reader = Reader("`text`", scope.parent or ROOT_SCOPE, foreach.value["text"], output=output, only_steps=only)
        around.references.follow(scope.split.text, reader)


def _readers(draft: Draft, parts: Parts, scope: str) -> list[tuple[Template | Expression, Reader]]:
    step = f"of step '{draft.id}'"
    found: list[tuple[Template | Expression, Reader]] = [
        (template, Reader(f"{what} {step}", scope, node, self_id=draft.id))
        for _, template, node, what in parts.messages
    ]
    if parts.render:
        found.append((parts.render[0], Reader(f"the template {step}", scope, parts.render[1], self_id=draft.id)))
    if parts.when:
        found.append((parts.when[0], Reader(f"`if` {step}", scope, parts.when[1], self_id=draft.id)))
    output = shape_of(parts)
    found += [(check, Reader(f"`check` {step}", scope, node, output, draft.id)) for check, node in parts.checks]
    return found
