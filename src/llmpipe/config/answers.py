"""What a step does about answers that do not hold: its keys, and the refusal of those that would have no effect."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from llmpipe.config.fields import Fields
from llmpipe.config.loading import Loading
from llmpipe.config.models import check_model_names
from llmpipe.config.policies import Policies
from llmpipe.config.scopes import Draft
from llmpipe.types import Model

ANSWER_KEYS = ("max_reasks", "reask_model", "repair", "coerce", "on_truncated")
_FOR_SCHEMAS = ("repair", "coerce")
_FOR_CONTRACTS = ("max_reasks", "reask_model")


def check_answers(
    draft: Draft, policies: Policies, loading: Loading, *, models: Mapping[str, Model], names: Mapping[str, Any]
) -> None:
    """Note the keys of a model step that name what is not there, or that would be accepted and ignored.

    `names` are all the models that are declared, `models` those that can be used.
    """
    node = draft.node
    has_schema, has_check = "schema" in node.value, "check" in node.value
    useless = {key: "has no schema" for key in _FOR_SCHEMAS if not has_schema}
    if not has_schema and not has_check:
        useless |= dict.fromkeys(_FOR_CONTRACTS, "has neither a schema nor a check")
    elif policies.max_reasks == 0:
        useless["reask_model"] = "never asks again (max_reasks: 0)"
    for key, why in useless.items():
        if node.value.get(key) is not None and node.value[key].value is not False:
            message = f"'{key}' has no effect: step '{draft.id}' {why}"
            loading.problems.add("C207", message, node.key_place(key), hint="remove it")
    another = draft.fields.get("reask_model")
    if another is not None:
        check_model_names(another, names, loading)
    check_repair(draft.fields, loading)
    _check_room(draft, models, loading)


def check_repair(fields: Fields, loading: Loading) -> None:
    """`repair: true` needs a package that is not everywhere."""
    node = fields.get("repair")
    if node is not None and node.value is True and importlib.util.find_spec("json_repair") is None:
        note = "pip install --no-deps json-repair"
        loading.problems.add("C241", "`repair` needs the package json-repair", node, note=note)


def _check_room(draft: Draft, models: Mapping[str, Model], loading: Loading) -> None:
    """`on_truncated: extend` needs a limit to double."""
    node = draft.fields.get("on_truncated")
    if node is None or node.value != "extend":
        return
    params = draft.node.value.get("params")
    if params is not None and params.kind == "map" and "max_output_tokens" in params.value:
        return
    for name in draft.models:
        model = models.get(name)
        if model is not None and not _has_limit(model):
            message = f"'on_truncated: extend' has no effect: model '{name}' has no max_output_tokens to double"
            loading.problems.add("C207", message, node, hint="add params: {max_output_tokens: 2000}")


def _has_limit(model: Model) -> bool:
    from llmpipe.providers.rows import PROVIDERS

    row = PROVIDERS.get(model.provider)
    return "max_output_tokens" in model.params or (row is not None and row.dialect.default_output_tokens is not None)
