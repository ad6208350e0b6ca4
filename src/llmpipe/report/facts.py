"""What a pipeline file comes to once everything is resolved: for `validate -v`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Scope, Step, may_ask
from llmpipe.policy import Retry, Timeout, backoff_delay
from llmpipe.providers.table import Target, resolve
from llmpipe.report.figures import bytes_text, count, lasted, money, plural, said
from llmpipe.types import Model

_MOST_DROPPED = 20
Origin = Callable[[str], str]  # of a key variable: "environment", ".env" or ""


def headline(pipeline: Pipeline) -> str:
    """One line: the file is usable, and how much it holds."""
    parts = [plural(len(pipeline.steps), "step"), plural(len(pipeline.datasets), "dataset")]
    return f"{said(_shown(pipeline))}: ok ({', '.join([*parts, plural(len(pipeline.models), 'model')])})"


def _shown(pipeline: Pipeline) -> str:
    try:
        return str(pipeline.path.relative_to(pipeline.root))
    except ValueError:
        return str(pipeline.path)


def facts(pipeline: Pipeline, origin: Origin) -> list[str]:
    """The resolved facts, two columns in from the left."""
    lines = [f"name       {said(pipeline.name)}", f"project    {said(pipeline.root)}"]
    lines += [f"var        {said(name)} = {said(value, 60)}" for name, value in sorted(pipeline.vars.items())]
    for dataset in pipeline.datasets.values():
        files = "stdin" if dataset.stdin else plural(len(dataset.paths), "file")
        key = f"key {said(dataset.key)}" if dataset.key else "key made of the row's content"
        lines.append(f"dataset    {said(dataset.name)}: {dataset.format}, {files}, {key}")
    used = [name for step in pipeline.steps for name in _models_of(step, pipeline)]
    for name in dict.fromkeys(used):
        lines += _model(pipeline.models[name], origin)
    for step in (pipeline.step(id) for id in pipeline.order):
        lines += _step(step, pipeline)
    lines += _budget(pipeline)
    lines += [f"output     {said(o.path)} from step {said(o.step)}" for o in pipeline.outputs]
    return [f"  {line}" for line in lines]


def _models_of(step: Step, pipeline: Pipeline) -> list[str]:
    """The models that a step may ask, its choices first."""
    return [name for name in may_ask(step, pipeline.models) if name in pipeline.models]


def _fallback(step: Step, model: Model) -> tuple[str, ...]:
    return model.fallback if step.fallback is None else step.fallback


def _model(model: Model, origin: Origin) -> Iterator[str]:
    try:
        target = resolve(model)
    except ValueError as error:
        yield f"model      {said(model.name)}: {said(error)}"
        return
    yield f"model      {said(model.name)}: {said(model.label)}, {_sends(model, target)}, {_key(target, origin)}"
    limits = model.limits
    dials = [f"concurrency {limits.concurrency if limits.concurrency is not None else 'auto'}"]
    dials += [f"{n} {count(v) if v else 'off'}" for n, v in (("rpm", limits.rpm), ("tpm", limits.tpm)) if v is not None]
    yield f"             {', '.join(dials)}" + (
        f"; falls back to {', '.join(_with_words(model))}" if model.fallback else ""
    )


def _with_words(model: Model) -> Iterator[str]:
    for name in model.fallback:
        words = model.fallback_on.get(name)
        yield f"{name} (on {', '.join(words)})" if words else name


def _sends(model: Model, target: Target) -> str:
    if target.wire == "echo":
        return "answered here, nothing is sent"
    if target.wire == "own":
        return f"answered by code of the project, {said(target.provider)}"
    source = "base_url of the file" if model.base_url else f"the address of provider {target.provider}"
    return f"sends data to {said(target.origin)} ({source})"


def _key(target: Target, origin: Origin) -> str:
    if not target.api_key_envs:
        return "no key"
    named = " or ".join(target.api_key_envs)
    found = next((place for place in map(origin, target.api_key_envs) if place), "")
    where = {"environment": "set in the environment", "": "not set"}.get(found, f"set in {found}")
    return f"key in {named} ({where})"


def _step(step: Step, pipeline: Pipeline) -> Iterator[str]:
    asked = ", ".join(step.models) if step.kind == "model" else step.kind
    yield f"step       {said(step.id)}: {scope_text(pipeline.scopes[step.scope])}; {said(asked)}"
    after = list(dict.fromkeys([*(r.step for r in step.refs), *step.needs]))
    if after:
        yield f"             reads {said(', '.join(after))}"
    contract = step.min_success
    wanted = str(contract.count) if contract.count is not None else f"{100 * (contract.share or 0):g}%"
    yield f"             on_error {step.on_error}, min_success {wanted}, prompt up to {bytes_text(step.max_prompt)}"
    if step.kind != "model":
        return
    models = _models_of(step, pipeline)
    fallbacks = max((len(_fallback(step, pipeline.models[m])) for m in step.models if m in pipeline.models), default=0)
    yield f"             {bound_text(step, fallbacks)}"
    yield from _invalid(step)
    if step.schema is not None:
        for name in models:
            yield from _sent(step, pipeline.models[name])


def bound_text(step: Step, fallbacks: int) -> str:
    """How long one item may take at the most, waiting for a place not counted."""
    reasks = step.max_reasks if step.schema is not None or step.checks else 0
    one = call_bound(step.timeout, step.retry)
    if one is None:
        return "no time bound: neither timeout.attempt nor timeout.total is set"
    factors = [f"{plural(step.retry.max_retries, 'retry', 'retries')}"]
    factors += [plural(reasks, "re-ask")] if reasks else []
    factors += [plural(fallbacks, "fallback")] if fallbacks else []
    factors += ["1 extension"] if step.on_truncated == "extend" else []
    whole = one * (1 + reasks + (step.on_truncated == "extend")) * (1 + fallbacks)
    return f"an item takes at most {lasted(whole)} ({lasted(one)} a call, {', '.join(factors)}), queueing not counted"


def call_bound(timeout: Timeout, retry: Retry) -> float | None:
    """Seconds that one call with all its attempts takes at the most; None without a bound."""
    attempts = None
    if timeout.attempt is not None:
        waits = (max(backoff_delay(n, base=retry.base, cap=retry.cap), retry.retry_after_max)
                 for n in range(1, retry.max_retries + 1))  # fmt: skip
        attempts = timeout.attempt * (retry.max_retries + 1) + sum(waits)
    bounds = [b for b in (attempts, timeout.total) if b is not None]
    return min(bounds, default=None)


def _sent(step: Step, model: Model) -> Iterator[str]:
    from llmpipe.providers.asked import sent

    try:
        target = resolve(model)
    except ValueError:
        return
    assert step.schema is not None
    found = sent(step.schema.document, target)
    how = {
        "native": "sent natively",
        "json_object": "in the prompt, with JSON of any shape asked for",
        "prompt": "in the prompt",
        "not_sent": "not sent",
    }[found.how]
    yield f"             schema for {said(model.name)}: {how}; every answer is validated here in full"
    if found.how == "native":
        also = ", and whole in the prompt" if found.in_prompt else ""
        what = "whole" if not found.dropped else f"without {plural(len(found.dropped), 'keyword')}"
        yield f"               the copy that is sent: {what}{also}"
        for line in found.dropped[:_MOST_DROPPED]:
            yield f"                 {said(line, 200)}"
        if len(found.dropped) > _MOST_DROPPED:
            yield f"                 and {count(len(found.dropped) - _MOST_DROPPED)} more"
    if found.refused:
        yield f"               {said(target.provider)} cannot be asked for it natively: {said(found.refused, 200)}"


def _invalid(step: Step) -> Iterator[str]:
    """What is done about answers that do not hold, where it is more than failing."""
    has_contract = step.schema is not None or bool(step.checks)
    again = plural(step.max_reasks, "time") + (f" by {said(step.reask_model)}" if step.reask_model else "")
    parts = [f"asked for again up to {again}"] if step.max_reasks and has_contract else []
    parts += ["repaired"] if step.repair and step.schema is not None else []
    parts += ["coerced"] if step.coerce and step.schema is not None else []
    if parts:
        yield f"             an invalid answer is {', '.join(parts)}"
    if step.on_truncated == "extend":
        yield "             a cut answer is asked for once more, with twice the limit"


def scope_text(scope: Scope) -> str:
    """A scope in words."""
    size = f" of at most {scope.size}" if scope.size else ""
    by = f" by {said(scope.by.source)}" if scope.by else ""
    return {
        "root": "once",
        "dataset": f"for each row of {said(scope.dataset)}",
        "values": f"for each of vars.{said('.'.join(scope.path))}",
        "fanout": f"for each of steps.{said('.'.join([scope.step or '', *scope.path]))}",
        "split": f"for each piece of text{_below(scope)}",
        "samples": f"{plural(scope.count, 'sample')}{_below(scope)}",
        "models": f"for each model of {said(', '.join(scope.models))}{_below(scope)}",
        "group": f"for each group{size} of steps.{said(scope.step)}{by}",
    }[scope.kind]


def _below(scope: Scope) -> str:
    return f" below {said(scope.parent)}" if scope.parent and scope.parent != ROOT_SCOPE else ""


def _budget(pipeline: Pipeline) -> Iterator[str]:
    budget = pipeline.budget
    parts = [money(Decimal(budget.usd))] if budget.usd is not None else []
    parts += [f"{count(n)} {w}" for n, w in ((budget.tokens, "tokens"), (budget.calls, "calls")) if n is not None]
    parts += [lasted(budget.wall_s)] if budget.wall_s is not None else []
    yield f"budget     {', '.join(parts) if parts else 'none'}"
    most = pipeline.max_failures
    if most is not None:
        limits = [str(most.count)] if most.count is not None else []
        limits += [f"{100 * most.share:g}%"] if most.share is not None else []
        yield f"failures   the run stops early above {' or '.join(limits)}"
