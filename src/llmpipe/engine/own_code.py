"""The pipeline's own Python code: found by "module:object", and refused unless the command line allows it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from llmpipe.config.pipeline import Pipeline, Step
from llmpipe.errors import ConfigError, Place, Problem
from llmpipe.types import Model

_NOTE = "pass --allow-python if you trust it"


def load_object(name: str, pipeline: Pipeline, place: Place, *, what: str) -> Any:
    """`module:object`, looked up in the project root and the pipeline's folder.

    Raises ConfigError (C250) if it cannot be loaded or cannot be called; `what` says who names it.
    """
    module_name, _, attribute = name.partition(":")
    for folder in (pipeline.root, pipeline.path.parent):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as err:
        message = f"{what} cannot load {name}: {type(err).__name__}: {err}"
        raise ConfigError([Problem("C250", message, place)]) from err
    if not callable(found):
        raise ConfigError([Problem("C250", f"{name} is not a function", place)])
    return found


def load_step(step: Step, pipeline: Pipeline) -> Any:
    """The function of a Python step. Raises ConfigError."""
    place = step.python_place or step.place
    return load_object(step.python or "", pipeline, place, what=f"step '{step.id}'")


def refuse_code(pipeline: Pipeline) -> None:
    """Raise ConfigError, naming every step and every model that would run code of the pipeline's own."""
    found = [
        Problem("C251", f"step '{step.id}' runs Python code", step.python_place or step.place, note=_NOTE)
        for step in pipeline.steps
        if step.kind == "python"
    ]
    for model in own_models(pipeline.models.values()):
        message = f"model '{model.name}' is answered by Python code ({model.provider})"
        found.append(Problem("C251", message, _place(model, pipeline), note=_NOTE))
    if found:
        raise ConfigError(found)


def own_models(models: Iterable[Model]) -> list[Model]:
    """Those whose provider is code."""
    from llmpipe.providers.table import is_own

    return [model for model in models if is_own(model.provider)]


def load_providers(pipeline: Pipeline, models: Iterable[Model]) -> Mapping[str, Any]:
    """The code of every provider among `models`, by its name. Raises ConfigError."""
    return {
        model.provider: load_object(model.provider, pipeline, _place(model, pipeline), what=f"model '{model.name}'")
        for model in own_models(models)
    }


def _place(model: Model, pipeline: Pipeline) -> Place:
    """Where the model names its provider; the head of the file for a model that is in none."""
    return pipeline.providers.get(model.name, Place(str(pipeline.path)))
