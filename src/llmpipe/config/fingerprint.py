"""What a run's results depend on, as digests: the step graph, templates, schemas, vars and models; never policy.

A budget, a retry, a timeout, a limit, the cache, `on_error`, `min_success` or an output may change between a run and
its resumption; what is in here may not, unless the steps concerned are redone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from llmpipe.config.modules import project_files
from llmpipe.config.pipeline import Pipeline, Scope, Step, may_ask
from llmpipe.config.templates import Expression, Template
from llmpipe.frozen import frozen
from llmpipe.types import Model

VERSION = 1


@frozen
class Fingerprint:
    """`whole` names the pipeline's meaning; `steps` each step's own, without the steps that it uses; `parts` the
    digest of each part of a step ("prompt", "model fast", "vars.team" ...), so that a change can be named."""

    whole: str
    steps: Mapping[str, str]
    parts: Mapping[str, Mapping[str, str]]


def fingerprint(pipeline: Pipeline) -> Fingerprint:
    """The fingerprint of a pipeline."""
    parts = {
        step.id: {name: _digest(value) for name, value in _parts(step, pipeline).items()} for step in pipeline.steps
    }
    steps = {id: _digest(part) for id, part in parts.items()}
    return Fingerprint(_digest([VERSION, pipeline.name, steps]), steps, parts)


def changes(old: Fingerprint, new: Fingerprint) -> tuple[str, ...]:
    """What differs, in words: "step 'label': prompt", "step 'x' is new". Empty if nothing does."""
    found = [f"step '{id}' was removed" for id in old.steps if id not in new.steps]
    for id, digest in new.steps.items():
        if id not in old.steps:
            found.append(f"step '{id}' is new")
        elif old.steps[id] != digest:
            before, after = old.parts.get(id, {}), new.parts[id]
            names = [n for n in dict.fromkeys([*after, *before]) if before.get(n) != after.get(n)]
            found.append(f"step '{id}': {', '.join(names) or 'its definition'}")
    if not found and old.whole != new.whole:
        found.append("the pipeline's name, or the order of its steps")
    return tuple(found)


def to_json(value: Fingerprint) -> dict[str, Any]:
    """A fingerprint as it stands in run.json."""
    return {"whole": value.whole, "steps": dict(value.steps), "parts": {id: dict(p) for id, p in value.parts.items()}}


def from_json(value: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint that `to_json` wrote. Raises KeyError for anything else."""
    return Fingerprint(value["whole"], dict(value["steps"]), {id: dict(p) for id, p in value["parts"].items()})


def _parts(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": step.kind,
        "foreach": _scope(step.scope, pipeline),
        "references": sorted((ref.step, ref.mode) for ref in step.refs),
        "allow_skipped": step.allow_skipped,
    }
    templates: list[Template | Expression] = []
    roles = [message.role for message in step.messages]
    for role in dict.fromkeys(roles):
        name = {"system": "system", "user": "prompt", "assistant": "messages"}[role]
        found[name] = [[i, m.content.source] for i, m in enumerate(step.messages) if m.role == role]
    templates += [m.content for m in step.messages]
    for name, part in (("render", step.render), ("if", step.when)):
        if part is not None:
            found[name] = part.source
            templates.append(part)
    if step.checks:
        found["check"] = [check.source for check in step.checks]
        templates += step.checks
    if step.python is not None:
        found["python"] = [step.python, _code(step.python, pipeline)]
    if step.schema is not None:
        found["schema"] = step.schema.document
    read = [name for name, is_so in (("repair", step.repair), ("coerce", step.coerce)) if is_so]
    if read:
        found["reading"] = read
    if step.params:
        found["params"] = step.params
    return found | _models(step, pipeline) | _vars(templates, step, pipeline)


def _code(reference: str, pipeline: Pipeline) -> str | None:
    """The digest of the project's files that a Python step runs; None where there is none."""
    files = project_files(reference.partition(":")[0], (pipeline.path.parent, pipeline.root))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return digests[0] if len(digests) == 1 else _digest(digests) if digests else None


def _models(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    names = may_ask(step, pipeline.models)
    found: dict[str, Any] = {f"model {name}": _model(pipeline.models[name]) for name in names}
    if names:
        found["model"] = [pipeline.models[name].label for name in step.models]
    return found


def _model(model: Model) -> Any:
    """The identity and parameters of a model; neither its name in the file, nor its limits, price or key variable."""
    return [model.provider, model.model, model.base_url, model.params, model.headers, model.schema_mode]


def _vars(templates: list[Template | Expression], step: Step, pipeline: Pipeline) -> dict[str, Any]:
    """The vars that the step's templates read; all of them where one may read any."""
    paths = [read.path for t in templates for read in t.reads if read.path[0] == "vars"]
    everything = step.kind == "python" or any(len(path) == 1 for path in paths)
    names = pipeline.vars if everything else [name for name in pipeline.vars if any(path[1] == name for path in paths)]
    return {f"vars.{name}": pipeline.vars[name] for name in names}


def _scope(id: str, pipeline: Pipeline) -> Any:
    found, at = [], pipeline.scopes[id]
    while True:
        found.append(_scope_parts(at, pipeline))
        if at.parent is None:
            return found
        at = pipeline.scopes[at.parent]


def _scope_parts(scope: Scope, pipeline: Pipeline) -> Any:
    """The datasets' contents are compared item by item, so only what makes items of them counts here."""
    dataset = pipeline.datasets[scope.dataset] if scope.dataset is not None else None
    split = scope.split
    return [
        scope.kind,
        scope.step,
        scope.path,
        scope.by.source if scope.by is not None else None,
        scope.size,
        scope.count,
        [split.text.source, split.by, split.size, split.overlap] if split is not None else None,
        [pipeline.models[name].label for name in scope.models],
        [dataset.name, dataset.format, dataset.key, dataset.encoding] if dataset is not None else None,
    ]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, frozenset)):
        return list(value)
    return str(value)
