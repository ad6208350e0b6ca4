"""What templates see of a group: its key, its number, and the rows that the ledger has of its members."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.config.pipeline import Pipeline, Scope
from llmpipe.config.rows_types import TEXT_FORMATS
from llmpipe.config.text_cells import TextRow
from llmpipe.engine.entries import entry
from llmpipe.engine.items import why_unmade
from llmpipe.engine.ledger_read import LedgerReader, from_json

_MEMBERS = (
    "SELECT items.key, items.data, results.output FROM items JOIN results ON results.item = items.id"
    " WHERE results.step = ? AND items.id IN (SELECT value FROM json_each(?)) ORDER BY items.ord"
)
Expand = Callable[[Any], Any]


def expander(pipeline: Pipeline, ledger: LedgerReader, steps: Mapping[str, int], scope: str) -> Expand | None:
    """What makes of the data of a scope's items what templates see of them; None if that is the same.

    `steps` are the ledger's numbers of the steps.
    """
    group = base_scope(pipeline, scope)
    if group.dataset is not None and pipeline.datasets[group.dataset].format in TEXT_FORMATS:
        return TextRow
    if group.kind != "group" or group.step is None:
        return None
    number = steps[group.step]
    inside = expander(pipeline, ledger, steps, pipeline.step(group.step).scope) or (lambda data: data)

    def expand(data: Any) -> dict[str, Any]:
        if why_unmade(data) is not None:
            return dict(data)
        found = ledger.rows(_MEMBERS, (number, json.dumps(data["members"])))
        rows = [entry(key, inside(from_json(item)), from_json(output)) for key, item, output in found]
        return {name: value for name, value in data.items() if name != "members"} | {"rows": rows}

    return expand


def base_scope(pipeline: Pipeline, id: str) -> Scope:
    """The scope whose items these are: itself, or the one around their samples and models."""
    scope = pipeline.scopes[id]
    while scope.kind in ("samples", "models") and scope.parent is not None:
        scope = pipeline.scopes[scope.parent]
    return scope
