"""A pipeline file in, a Pipeline out: read, checked against the schema, resolved; every problem told at once.

bytes ─source─▶ nodes ─include, --set─▶ nodes ─structure─▶ vars, datasets, models, steps ─references─▶ Pipeline
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmpipe.config.answers import check_repair
from llmpipe.config.cut_texts import warn_cut_texts
from llmpipe.config.datasets import read_datasets, row_shape
from llmpipe.config.fields import Fields
from llmpipe.config.fingerprint import Fingerprint, changes, fingerprint
from llmpipe.config.include import apply_overrides, merge_includes
from llmpipe.config.loading import Loading
from llmpipe.config.models import check_model_names, provider_places, read_models
from llmpipe.config.nodes import Node
from llmpipe.config.order import sort_steps
from llmpipe.config.paths import Fence, allowed, project_root
from llmpipe.config.pipeline import Dataset, Pipeline
from llmpipe.config.policies import Policies, max_failures, read_budget
from llmpipe.config.problems import Problems
from llmpipe.config.project import check_name
from llmpipe.config.published import read_outputs
from llmpipe.config.references import References
from llmpipe.config.scopes import Draft, Scopes
from llmpipe.config.secrets import refuse_secrets
from llmpipe.config.source import parse
from llmpipe.config.spending import check_budget
from llmpipe.config.steps import Surroundings, build_step, compile_parts, read_drafts, shape_of, warn_of_prompts
from llmpipe.config.structure import check_shape
from llmpipe.config.vars import Given, parse_assignments, parse_overrides, read_vars
from llmpipe.errors import ConfigError, Place, Problem
from llmpipe.types import EMPTY, Model

__all__ = [
    "Fingerprint",
    "changes",
    "fingerprint",
    "load_pipeline",
    "parse_assignments",
    "parse_overrides",
    "project_root",
]


def load_pipeline(
    path: Path,
    *,
    vars: Mapping[str, Any] = EMPTY,
    overrides: Mapping[str, str] = EMPTY,
    allow_read: Sequence[Path] = (),
    stdin_allowed: bool = True,
) -> Pipeline:
    """The pipeline of a file, resolved: nothing is left to be looked up but keys and data.

    `vars` are values for declared vars (texts are read as their types ask; see `parse_assignments`), `overrides` are
    dotted paths with YAML values (see `parse_overrides`), `allow_read` further folders that files may be read from.
    Raises ConfigError with every problem of the file and of what it names, and nothing else.
    """
    path = Path(path)
    try:
        real = path.resolve()
        root = project_root(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError([Problem("Y112", f"cannot read '{path}': {error}", Place(str(path)))]) from None
    loading = Loading(root, Fence(root, allowed(allow_read)), Problems())
    if isinstance(vars, Given):
        loading.inputs.update(vars.files)
    try:
        document = _document(real, overrides, loading)
        pipeline = _resolve(document, vars, loading, overrides=overrides, stdin_allowed=stdin_allowed)
    except ConfigError as error:
        loading.problems.extend(error.problems)
        raise ConfigError([*loading.problems.errors, *loading.problems.warnings]) from None
    loading.problems.check()
    return pipeline


def _document(path: Path, overrides: Mapping[str, str], loading: Loading) -> Node:
    """The whole document; what has not the right shape in it is spoilt. Raises ConfigError if it is no mapping."""
    document, problems = parse(loading.read(path))
    loading.problems.extend(problems)
    if document is None:
        loading.problems.check()
    assert document is not None
    if document.kind == "map":
        document = merge_includes(document, loading)
        document = apply_overrides(document, overrides, loading)
    warn_cut_texts(document, loading.problems)
    check_shape(document, loading.problems)
    refuse_secrets(document, loading.problems)
    if document.kind != "map":
        loading.problems.check()
    return document


def _resolve(
    document: Node, given: Mapping[str, Any], loading: Loading, *, overrides: Mapping[str, str], stdin_allowed: bool
) -> Pipeline:
    fields = Fields(document, "pipeline", loading.problems)
    fields.get("version")
    name = check_name(fields, loading)
    loading.vars = read_vars(fields, given, loading.problems)
    datasets = read_datasets(fields, loading)
    _check_stdin(datasets, loading, stdin_allowed)
    models = read_models(fields, loading)
    defaults = _defaults(fields, loading)
    drafts = read_drafts(fields, dict(fields.each("models")), defaults, loading)
    scopes = Scopes(drafts, dict(fields.each("datasets")), loading)
    around = _surroundings(fields, drafts, scopes, loading, datasets=datasets, models=models, defaults=defaults)
    steps = {id: build_step(draft, around) for id, draft in drafts.items()}
    order = sort_steps(steps, scopes, loading.problems)
    outputs = read_outputs(fields, scopes, around.references, loading, name=name)
    budget = read_budget(fields.sub("budget", "budget"))
    check_budget(budget, fields, steps, models, loading.problems)
    _warn_unused(fields, scopes, loading)
    warn_of_prompts(around)
    loading.problems.check()
    return Pipeline(
        name=name,
        path=next(iter(loading.files)),
        root=loading.root,
        description=str(fields.text("description", "")),
        vars=MappingProxyType(dict(loading.vars)),
        datasets=MappingProxyType(datasets),
        models=MappingProxyType(models),
        providers=MappingProxyType(provider_places(fields)),
        steps=tuple(steps.values()),
        order=order,
        scopes=MappingProxyType(dict(scopes.made)),
        budget=budget,
        max_failures=fields.read("max_failures", max_failures, None),
        outputs=outputs,
        sources=loading.sources(),
        overrides=MappingProxyType(dict(overrides)),
        warnings=loading.problems.warnings,
    )


def _defaults(fields: Fields, loading: Loading) -> Policies:
    section = fields.sub("defaults", "defaults")
    known = dict(fields.each("models"))
    for key in ("model", "fallback", "reask_model"):
        node = section.get(key)
        if node is not None:
            check_model_names(node, known, loading)
    check_repair(section, loading)
    return Policies(section)


def _surroundings(
    fields: Fields,
    drafts: Mapping[str, Draft],
    scopes: Scopes,
    loading: Loading,
    *,
    datasets: Mapping[str, Dataset],
    models: Mapping[str, Model],
    defaults: Policies,
) -> Surroundings:
    parts = {id: compile_parts(draft, loading) for id, draft in drafts.items()}
    for id in drafts:
        scopes.home(id)
    nodes = dict(fields.each("datasets"))
    used = {s.dataset for s in scopes.made.values() if s.dataset is not None}
    rows = {name: row_shape(d, nodes[name], loading) for name, d in datasets.items() if name in used}
    outputs = {id: shape_of(part) for id, part in parts.items()}
    return Surroundings(
        loading=loading,
        scopes=scopes,
        models=models,
        model_names=dict(fields.each("models")),
        defaults=defaults,
        parts=parts,
        references=References(scopes, loading, rows, outputs),
    )


def _check_stdin(datasets: Mapping[str, Dataset], loading: Loading, stdin_allowed: bool) -> None:
    readers = [d for d in datasets.values() if d.stdin]
    for dataset in readers[1:]:
        loading.problems.add("D304", f"'{readers[0].name}' and '{dataset.name}' both read stdin", dataset.place)
    if readers and not stdin_allowed:
        loading.problems.add(
            "D304", f"dataset '{readers[0].name}' reads stdin, which is not available here", readers[0].place
        )


def _warn_unused(fields: Fields, scopes: Scopes, loading: Loading) -> None:
    """A dataset or a model that nothing uses is no error, but seldom meant."""
    if loading.problems.errors:
        return  # what is broken may have meant to use it
    used = {s.dataset for s in scopes.made.values()}
    section = fields.get("datasets")
    for name, node in fields.each("datasets"):
        is_own = fields.node is not None and node.source is fields.node.source
        if name not in used and section is not None and is_own:
            loading.problems.warn("C230", f"no step runs over dataset '{name}'", section.key_place(name))
