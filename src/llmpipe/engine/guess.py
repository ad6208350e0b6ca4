"""How long a prompt will be about that cannot be rendered yet, and whether it will be needed at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmpipe.config.pipeline import ROOT_SCOPE, Pipeline, Step
from llmpipe.engine.context import walk
from llmpipe.engine.items import Item, to_json
from llmpipe.errors import ItemError
from llmpipe.late import late
from llmpipe.providers.asked import estimate_sent
from llmpipe.providers.estimate import estimate_tokens
from llmpipe.types import LLMRequest, Message

if TYPE_CHECKING:
    from llmpipe.providers.table import Target

_TAGS = late(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class PromptGuess:
    """The prompt of one step: its fixed text, the columns and the answers that it reads."""

    def __init__(self, pipeline: Pipeline, step: Step, target: Target) -> None:
        self._step = step
        self._home = {s.id: s.scope for s in pipeline.steps}
        self._own = {ref.step for ref in step.refs if ref.mode == "own"}
        self._vars = dict(pipeline.vars)
        reads = [read.path for turn in step.messages for read in turn.content.reads]
        self._data = [path for path in reads if path[0] in ("item", "parent", "key")]
        self._steps = _answers_read(reads)
        self.fixed = self._fixed(target)
        self.lacks = Counter(path[1] for path in self._steps)  # step -> how often its answers stand in the prompt

    def _fixed(self, target: Target) -> int:
        step = self._step
        turns = [Message(turn.role, _TAGS.sub("", turn.content.source)) for turn in step.messages]
        schema = step.schema.document if step.schema else None
        return estimate_sent(LLMRequest(model=step.models[0], messages=turns, schema=schema), target)

    def measure(self, item: Item) -> tuple[int, Counter[str]]:
        """About how many tokens of the prompt are known for an item, and the steps whose answers it lacks yet."""
        tokens = self.fixed + sum(_tokens(_data(path, item)) for path in self._data)
        pending: Counter[str] = Counter()
        for path in self._steps:
            home = item.within(self._home[path[1]]) if path[1] in self._own else None
            cell = home.cells.get(path[1]) if home is not None else None
            if cell is not None and cell.status == "succeeded":
                tokens += _tokens(walk(cell.output, path[2:]))
            else:
                pending[path[1]] += 1
        return tokens, pending

    def is_ruled_out(self, item: Item, expand: Callable[[Item], Any]) -> bool:
        """True if the step's `if` reads nothing that is not there yet, and is false."""
        when = self._step.when
        if when is None or any(read.path[0] == "steps" for read in when.reads):
            return False
        names: dict[str, Any] = {"item": expand(item), "key": item.key, "vars": self._vars}
        if item.parent is not None and item.parent.scope != ROOT_SCOPE:
            names["parent"] = expand(item.parent)
        try:
            return not when.test(names)
        except ItemError:
            return False


def _answers_read(reads: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The answers that a prompt reads: as often as whole ones are, else once, since fields are parts of one."""
    found = [path for path in reads if path[0] == "steps" and len(path) > 1]
    whole = [path for path in found if len(path) == 2]
    parts = {path[1]: path[:2] for path in found if path not in whole and path[:2] not in whole}
    return [*whole, *parts.values()]


def _data(path: tuple[str, ...], item: Item) -> Any:
    if path[0] == "key":
        return item.key
    at = item if path[0] == "item" else item.parent
    return None if at is None else walk(at.data, path[1:])


def _tokens(value: Any) -> int:
    return 0 if value is None else estimate_tokens(value if isinstance(value, str) else to_json(value))
