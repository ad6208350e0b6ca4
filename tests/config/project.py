"""A project in a folder of its own, and pipelines whose expected mistakes are marked in the text itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from llmpipe.config.load import load_pipeline
from llmpipe.config.pipeline import Pipeline, SourceFile
from llmpipe.errors import ConfigError, Place, Problem

ROWS = "id,body,tags\n1,first,a\n2,second,b\n"
_MARK = re.compile("«(.*?)»")


def write_project(folder: Path, text: str, files: Mapping[str, str] | None = None, *, name: str = "p.yaml") -> Path:
    """`pipelines/<name>` with `data/rows.csv` and other files beside it; returns the path of the pipeline."""
    pipelines = folder / "pipelines"
    for path, content in {"data/rows.csv": ROWS, name: text, **(files or {})}.items():
        target = pipelines / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8", newline="")
    return pipelines / name


def load(folder: Path, text: str, files: Mapping[str, str] | None = None, **options: Any) -> Pipeline:
    return load_pipeline(write_project(folder, text, files), **options)


def problems(folder: Path, text: str, files: Mapping[str, str] | None = None, **options: Any) -> tuple[Problem, ...]:
    """The errors of a pipeline that must not load."""
    try:
        load(folder, text, files, **options)
    except ConfigError as error:
        return tuple(p for p in error.problems if p.severity == "error")
    raise AssertionError("the pipeline was accepted")


def attempt(path: Path, **options: Any) -> tuple[Problem, ...] | None:
    """None if the file loads, else what is wrong with it."""
    try:
        load_pipeline(path, **options)
    except ConfigError as error:
        return error.problems
    return None


def unmark(text: str) -> tuple[str, list[tuple[int, int, int]]]:
    """A text without its «marks», and (line, column, width) of each."""
    places = []
    while match := _MARK.search(text):
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
        places.append((line, column, len(match[1])))
        text = text[: match.start()] + match[1] + text[match.end() :]
    return text, places


def place_of(problem: Problem) -> tuple[int, int, int]:
    return problem.place.line, problem.place.column, problem.place.width


def facts(value: Any) -> Any:
    """What a pipeline says, without where it stands in the file."""
    if isinstance(value, Place | SourceFile):
        return None
    if is_dataclass(value):
        return {f.name: facts(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: facts(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [facts(v) for v in value]
    document = getattr(value, "document", None)
    return facts(document) if document is not None else repr(value)
