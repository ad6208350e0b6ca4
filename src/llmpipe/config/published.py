"""The `outputs` of a file: what is written where when a whole run ends well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmpipe.config.fields import Fields, items, plain
from llmpipe.config.loading import Loading
from llmpipe.config.nodes import Node
from llmpipe.config.output_paths import Taken, folded
from llmpipe.config.paths import display, inside
from llmpipe.config.pipeline import Published
from llmpipe.config.project import other_pipelines
from llmpipe.config.references import Reader, References
from llmpipe.config.scopes import Scopes
from llmpipe.config.templates import Expression

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".md": "text",
    ".txt": "text",
    ".html": "text",
    ".rst": "text",
}


def read_outputs(
    pipeline: Fields, scopes: Scopes, references: References, loading: Loading, *, name: str
) -> tuple[Published, ...]:
    """Every output that can be written; the others have left a problem. `name` is the pipeline's."""
    found: dict[str, Published] = {}
    own = next(iter(loading.files))
    names = (name, *(other for _, other in other_pipelines(loading.root, own)))
    taken = Taken(loading.root, own, names, loading.files.keys() | loading.inputs, loading.patterns)
    for node in items(pipeline.get("outputs")):
        published = _read(node, scopes, references, loading, taken)
        if published is None:
            continue
        path = Fields(node, "output", loading.problems).get("path")
        spelling = folded(str(published.path))
        for other, earlier in found.items():
            if spelling == other:
                loading.problems.add("O521", f"two outputs write '{display(earlier.path)}'", path or node)
            elif spelling.startswith(f"{other}/") or other.startswith(f"{spelling}/"):
                message = f"'{display(earlier.path)}' of another output and this path cannot both be files"
                loading.problems.add("O521", message, path or node)
        found[spelling] = published
    return tuple(found.values())


def _read(node: Node, scopes: Scopes, references: References, loading: Loading, taken: Taken) -> Published | None:
    fields = Fields(node, "output", loading.problems)
    source, path_node = fields.get("from"), fields.get("path")
    wanted, columns = fields.text("format"), fields.get("columns")
    if source is None or path_node is None:
        return None
    step = str(source.value).removeprefix("steps.")
    known = scopes.known(step, source)
    path = _path(path_node, loading, taken)
    if path is None or not known:
        return None
    format = wanted or _FORMATS.get(path.suffix.lower())
    if format is None:
        note = f"set `format`, or end the name in {', '.join(_FORMATS)}"
        loading.problems.add("O522", f"cannot tell the format of '{path.name}' by its name", path_node, note=note)
        return None
    if format == "text" and columns is not None:
        loading.problems.add(
            "O522", "a text has no columns", node.key_place("columns"), note="set `format: csv`, or remove `columns`"
        )
    if format not in ("csv", "tsv") and fields.get("escape_formulas") is not None:
        message = f"'escape_formulas' has no effect on {format}: spreadsheets compute the cells of csv and tsv"
        loading.problems.add("C207", message, node.key_place("escape_formulas"), hint="remove it")
    escape = bool(fields.read("escape_formulas", plain, False))
    expressions = _columns(columns, step, scopes, references, loading)
    return Published(step, path, format, expressions, path_node.place, escape)  # type: ignore[arg-type]


def _path(node: Node, loading: Loading, taken: Taken) -> Path | None:
    text = loading.fill(node)
    path = loading.refused(node, lambda: inside(loading.root, text)) if text is not None else None
    if text is None or path is None:
        return None
    if reason := taken.reason(path, text):
        note = "give it another path, as in output/labels.csv"
        loading.problems.add("O523", f"results cannot be written to '{text}': {reason}", node, note=note)
        return None
    return path


def _columns(
    node: Node | None, step: str, scopes: Scopes, references: References, loading: Loading
) -> Mapping[str, Expression]:
    if node is None or node.kind != "map":
        return {}
    found = {}
    for name, child in node.value.items():
        if not name:  # readers make one up
            loading.problems.add("C204", "a column has an empty name", node.key_place(name), hint="give it one")
        expression = loading.expression(child) if child.kind == "str" else None
        if expression is not None:
            reader = Reader(f"column '{name}'", scopes.home(step), child, output=references.output_of(step))
            references.follow(expression, reader)
            found[name] = expression
    return found
