"""The pipelines of a project by name: results go into a folder of that name, so no two may share one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llmpipe.config.fields import Fields
from llmpipe.config.keys import definition
from llmpipe.config.loading import Loading
from llmpipe.config.paths import display
from llmpipe.late import late

_NAME = late(rb"(?m)^name:[ \t]*[\"']?([^\s#\"']+)")
_STEPS = late(rb"(?m)^[\"']?steps[\"']?[ \t]*:")
_HEAD_BYTES = 256 * 1024
_MAX_FILES = 500
_MAX_DEPTH = 3


def check_name(fields: Fields, loading: Loading) -> str:
    """The pipeline's name; problems if it cannot be one, or another file of the project has it too."""
    path = next(iter(loading.files))
    node = fields.get("name")
    name = str(node.value) if node is not None else path.stem
    rule = definition("pipeline")["properties"]["name"]
    at = node if node is not None else loading.files[path].place(0)
    if not re.search(rule["pattern"], name):
        note = f"a name is {rule['x-wants']}; it becomes a folder under output/"
        loading.problems.add("C226", f"'{name}' cannot be the name of a pipeline", at, hint="set `name`", note=note)
        return name
    if path.is_relative_to(loading.root / "pipelines"):
        for other, taken in other_pipelines(loading.root, path):
            if taken.lower() == name.lower():
                message = f"'{display(other)}' is named '{taken}' too"
                note = "both would write to one folder under output/; a file's name is its stem, or what `name` says"
                loading.problems.add("C225", message, at, hint="set another `name`", note=note)
    return name


def other_pipelines(root: Path, own: Path) -> Iterator[tuple[Path, str]]:
    """The other pipelines of a project with their names, told by a look at the text, not by loading them."""
    for path in sorted(_yaml_files(root / "pipelines", _MAX_DEPTH))[:_MAX_FILES]:
        if path.resolve() == own:
            continue
        try:
            with path.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
        except OSError:
            continue
        if _STEPS.search(head):
            match = _NAME.search(head)
            yield path, match[1].decode("utf-8", "replace") if match else path.stem


def _yaml_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.suffix in (".yaml", ".yml") and entry.is_file():
            yield entry
        elif depth > 0 and entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _yaml_files(entry, depth - 1)
