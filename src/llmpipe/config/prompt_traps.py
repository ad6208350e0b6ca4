"""Warns of prompts that probably say something else than was meant: the name of a file, or nothing of the row."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from llmpipe.config.fields import items
from llmpipe.config.loading import Loading
from llmpipe.config.near import listed, nearest
from llmpipe.config.nodes import Node
from llmpipe.config.paths import PathRefused
from llmpipe.config.pipeline import ROOT_SCOPE
from llmpipe.config.references import References
from llmpipe.config.scopes import Draft, Scopes
from llmpipe.config.templates import Template
from llmpipe.late import late

_PATH = late(
    r"(?:@|file:(?://)?)?(?P<path>(?:\{\{ *vars\.[^{}]*\}\}|[\w.~/\\+-])+"
    r"\.(?:md|markdown|txt|text|j2|jinja2?|prompt|tmpl|tpl))"
)
# What stands for a value in Python, in shells, in other templates and in instructions to fill something in.
_SLOT = late(
    r"(?<![{$%\w])(?:\$?\{(?P<brace>\w+)\}|\$(?P<dollar>[a-z_]\w*)|<(?P<angle>\w+)>|%\((?P<percent>\w+)\)s|\[(?P<square>\w+)\])"
)


def warn_path(draft: Draft, loading: Loading) -> bool:
    """Warn of a prompt that is a path; whether it is one."""
    found = [(key, draft.fields.get(key)) for key in ("prompt", "system")]
    found += [("content", m.value.get("content")) for m in items(draft.fields.get("messages")) if m.kind == "map"]
    hits = [(key, node) for key, node in found if node is not None and node.kind == "str" and _is_path(node, loading)]
    for key, node in hits:
        message = f"the text of '{key}' is the name of a file, and is sent as it is"
        if key == "prompt":
            hint = f"did you mean `prompt_file: {_named(node, loading)}`?"
            loading.problems.warn("C233", message, node, hint=hint)
        else:
            note = "only `prompt_file` reads a file; for other texts write it here, or pass --var NAME=@FILE"
            loading.problems.warn("C233", message, node, note=note)
    return bool(hits)


def _named(node: Node, loading: Loading) -> str:
    """The file that is meant, as `prompt_file` names it: from the folder of the pipeline file."""
    found = _PATH.fullmatch(node.value.strip())
    text: str = found["path"] if found is not None else node.value.strip()
    folder = loading.folder(node)
    if not _is_file(folder, text, loading) and _is_file(loading.root, text, loading):
        return Path(os.path.relpath(loading.root / text, folder)).as_posix()
    return text


def _is_path(node: Node, loading: Loading) -> bool:
    """Whether a text names a file that is there, or could name nothing but a file."""
    text = node.value.strip()
    if _PATH.fullmatch(text):
        return True
    if "\n" in text or len(text) > 200 or not {"/", "."} & set(text):
        return False
    return any(_is_file(folder, text, loading) for folder in (loading.folder(node), loading.root))


def _is_file(folder: Path, text: str, loading: Loading) -> bool:
    try:
        loading.fence.file(folder, text)
    except PathRefused:
        return False
    return True


def warn_rowless(
    draft: Draft, messages: Iterable[tuple[Template, Node]], scope: str, scopes: Scopes, references: References
) -> None:
    """Warn of a step over items whose messages hold nothing of the item, nor of what other steps made of it."""
    told = list(messages)
    if draft.fields.get("foreach") is None or scopes.is_unknown(scope) or not told:
        return
    if any(_is_of_item(read.path, scope, scopes) for template, _ in told for read in template.reads):
        return
    columns = references.item_of(scope).names()
    node, offset, width, column = _slot(told, columns)
    place = node.locate_offset(offset, width) if width else node.place
    known = f"the item has: {listed(columns)}" if columns else ""
    first = column or next(iter(columns), "")
    hint = f"did you mean '{{{{ item.{first} }}}}'?" if column else ""
    note = "; ".join(part for part in (known, f"write {{{{ item{'.' + first if first else ''} }}}}") if part)
    message = f"the prompt of step '{draft.id}' uses nothing of its item, so that each one is asked the same"
    scopes.loading.problems.warn("C234", message, place, hint=hint, note="" if column else note)


def _is_of_item(path: tuple[str, ...], scope: str, scopes: Scopes) -> bool:
    if path[0] != "steps":
        return path[0] in ("item", "key", "parent")
    if len(path) < 2 or path[1] not in scopes.drafts:
        return True  # told as an error
    return scopes.mode(scope, path[1]) == "below" or (
        scopes.mode(scope, path[1]) == "own" and scopes.home(path[1]) != ROOT_SCOPE
    )


def _slot(messages: list[tuple[Template, Node]], columns: Iterable[str]) -> tuple[Node, int, int, str]:
    """What stands in the messages in place of a value: node, offset, width, and the column that is meant."""
    names = list(columns)
    guess: tuple[Node, int, int, str] | None = None
    for _, node in messages:
        for found in _SLOT.finditer(node.value):
            word = next(group for group in found.groups() if group is not None)
            column = word if word in names else nearest(word, names) or ""
            if column or word in ("item", "row", "text", "input"):
                guess = guess or (node, found.start(), found.end() - found.start(), column or _only(names))
    return guess or (messages[-1][1], 0, 0, "")


def _only(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ""
