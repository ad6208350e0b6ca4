"""A pipeline as frozen objects: what the loader makes of a file, and all that the other rooms ever see of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from llmpipe.config.templates import Expression, Template
from llmpipe.errors import Place
from llmpipe.frozen import frozen
from llmpipe.policy import Budget, CachePolicy, MaxFailures, MinSuccess, Retry, Timeout
from llmpipe.structured.schema import OutputSchema
from llmpipe.types import EMPTY, Model, Role

ROOT_SCOPE = "root"

DatasetFormat = Literal["jsonl", "json", "csv", "tsv", "yaml", "lines", "files"]
ScopeKind = Literal["root", "dataset", "values", "fanout", "split", "samples", "models", "group"]
RefMode = Literal["own", "below", "whole"]


@frozen
class Dataset:
    """Rows from files. `paths` are absolute and sorted; empty for stdin (`-`)."""

    name: str
    paths: tuple[Path, ...]
    format: DatasetFormat
    key: str | None  # the column that names a row; None: a key made of the row's content
    place: Place
    stdin: bool = False
    encoding: str = "utf-8"
    root: Path | None = None  # the project root, from which the paths of `files` count
    types: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # column → string, integer, number or boolean


@frozen
class Split:
    """How a long text is cut into overlapping pieces; sizes in the unit `by`."""

    text: Expression
    by: Literal["characters", "lines", "tokens"]
    size: int
    overlap: int


@frozen
class Scope:
    """A set of items that steps share.

    root: one item · dataset: a row each · values: an element each of the `vars` list at `path` ·
    fanout: an element each of the list at `path` in `step`'s output, below the items of `parent` ·
    split: a piece of text each, below the items of `parent` · samples: `count` items below each item of `parent` ·
    models: one item per model below each item of `parent` (both opened by `step`, whose `item` is that of the parent) ·
    group: batches of `step`'s outputs, child of root.
    """

    id: str
    kind: ScopeKind
    parent: str | None
    dataset: str | None = None
    step: str | None = None
    path: tuple[str, ...] = ()
    by: Expression | None = None
    size: int | None = None
    split: Split | None = None
    count: int = 1
    models: tuple[str, ...] = ()


@frozen
class StepRef:
    """A use of another step: `own` its output for this item or an enclosing one, `below` the list below this item,
    `whole` the whole list, once that step is done."""

    step: str
    mode: RefMode
    place: Place


@frozen
class MessageTemplate:
    """One turn of the conversation, to be rendered."""

    role: Role
    content: Template


@frozen
class Step:
    """One entry under `steps`: asks a model, renders a template, or calls Python code."""

    id: str
    kind: Literal["model", "render", "python"]
    scope: str  # id of the scope whose items this step runs over
    place: Place
    messages: tuple[MessageTemplate, ...] = ()  # model: system, messages and prompt, in order
    models: tuple[str, ...] = ()  # model: the choice (several open a `models` scope)
    params: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # model: over the model's own params
    fallback: tuple[str, ...] | None = None  # model: None = the model's own
    fallback_on: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: EMPTY)  # as in CallPolicy
    render: Template | None = None
    python: str | None = None  # "module:function"
    python_place: Place | None = None  # where that stands
    when: Expression | None = None  # `if`
    checks: tuple[Expression, ...] = ()
    schema: OutputSchema | None = None
    max_reasks: int = 1
    reask_model: str | None = None  # model: None = the one that answered
    repair: bool = False
    coerce: bool = False
    on_truncated: Literal["fail", "extend"] = "fail"
    refs: tuple[StepRef, ...] = ()  # every other step it uses, its scope's source excluded
    needs: tuple[str, ...] = ()
    allow_skipped: bool = False
    on_error: Literal["fail", "continue"] = "continue"
    min_success: MinSuccess = MinSuccess()
    timeout: Timeout = Timeout()
    retry: Retry = Retry()
    cache: CachePolicy = CachePolicy()
    max_prompt: int = 1024 * 1024  # bytes of UTF-8


def may_ask(step: Step, models: Mapping[str, Model]) -> tuple[str, ...]:
    """Every model that a step may come to ask: its choices, who is asked again, and the fallbacks of these."""
    first = [*step.models, *([step.reask_model] if step.reask_model is not None else ())]
    own = [name for one in first if one in models for name in models[one].fallback]
    return tuple(dict.fromkeys([*first, *(own if step.fallback is None else step.fallback)]))


@frozen
class Published:
    """One entry of `outputs`: a file made of a step's results when a whole run ends with exit 0."""

    step: str
    path: Path  # absolute, inside the project root
    format: Literal["csv", "tsv", "jsonl", "json", "text"]
    columns: Mapping[str, Expression]  # empty: key and output
    place: Place  # of its `path`
    escape_formulas: bool = False  # csv, tsv: an apostrophe before text that a spreadsheet would compute


@frozen
class SourceFile:
    """A file that made the pipeline what it is (YAML, include, prompt, schema), with its sha256."""

    path: Path
    sha256: str


@frozen
class Pipeline:
    """One pipeline file, resolved. `steps` stand in the order of the file, `order` has each after those it uses."""

    name: str
    path: Path
    root: Path  # the project root
    description: str
    vars: Mapping[str, Any]
    datasets: Mapping[str, Dataset]
    models: Mapping[str, Model]
    steps: tuple[Step, ...]
    order: tuple[str, ...]
    scopes: Mapping[str, Scope]
    budget: Budget = Budget()
    max_failures: MaxFailures | None = None  # None: failures of `on_error: continue` steps never stop a run early
    outputs: tuple[Published, ...] = ()
    sources: tuple[SourceFile, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # --set
    providers: Mapping[str, Place] = field(default_factory=lambda: EMPTY)  # where each model names its provider
    warnings: tuple[Any, ...] = ()  # Problems that do not stop a run

    def step(self, id: str) -> Step:
        """The step of that id. Raises KeyError."""
        return self._by_id()[id]

    def _by_id(self) -> dict[str, Step]:
        return {s.id: s for s in self.steps}
