"""Warns of unquoted texts and expressions that a ` #` cuts: YAML takes the rest of the line for a comment.

Comments behind values are usual (`model: fast  # the cheap one`), so each kind of value has its own sign that the rest
belonged to it: behind a prompt hardly anybody comments; behind an expression the rest reads as an expression too;
behind a var there is a sentence before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmpipe.config.nodes import Node
from llmpipe.config.problems import Problems
from llmpipe.late import late

_COMMENT = late(r"[ \t]+(#[^\r\n]*)")
_NAME = r"\b(?:item|output|steps|vars|parent|row|key)\b"
_REST = late(
    rf"(?=.*{_NAME})(?=.*(?:[=!<>]=|[<>|~]))|(?=.*{_NAME}\.\w)(?=.*\b(?:and|or)\b)"
    rf"|#[ \t]*[-+*/%]+[ \t]*{_NAME}|\{{\{{|\}}\}}"
)
_WORDS = 4  # of a var's text, from which on it is a sentence
_NOTE = "write it in quotes, or as a block after '|'"

Belongs = Callable[[str, str], bool]  # (the value, the comment behind it)


def warn_cut_texts(document: Node, problems: Problems) -> None:
    """Warn of each text of a pipeline that probably goes on in the comment behind it."""
    for what, node, belongs in _texts(document):
        if node.kind not in ("str", "null") or node.style is not None or node.source.path is None:
            continue
        found = _COMMENT.match(node.source.text, node.end)
        if found is None or not (belongs(node.value or "", found[1])):
            continue
        comment = found[1].rstrip()
        shown = comment if len(comment) <= 40 else f"{comment[:39]}…"
        place = node.source.place(found.start(1), found.start(1) + len(comment))
        problems.warn("Y113", f"{what} ends before the comment '{shown}'", place, hint="quote the value", note=_NOTE)


def _always(_value: str, _comment: str) -> bool:
    return True


def _is_code(value: str, comment: str) -> bool:
    return not value or any(value.count(quote) % 2 for quote in "'\"") or bool(_REST.match(comment))


def _is_sentence(value: str, _comment: str) -> bool:
    return len(value.split()) >= _WORDS


def _texts(document: Node) -> Iterator[tuple[str, Node, Belongs]]:
    """Every text and expression of a pipeline, with its name, and what makes a comment a part of it."""
    for step in _entries(_child(document, "steps")):
        for key, what in (("prompt", "the prompt"), ("system", "the system prompt"), ("render", "the template")):
            yield from ((what, node, _always) for node in _entries(_child(step, key)))
        for message in _entries(_child(step, "messages")):
            yield from (("the message", node, _always) for node in _entries(_child(message, "content")))
        for key in ("if", "check"):
            yield from ((f"`{key}`", node, _is_code) for node in _entries(_child(step, key)))
        for key in ("by", "text"):
            yield from ((f"`{key}`", node, _is_code) for node in _entries(_child(_child(step, "foreach"), key)))
    for output in _entries(_child(document, "outputs")):
        yield from (("the column", node, _is_code) for node in _values(_child(output, "columns")))
    for var in _values(_child(document, "vars")):
        default = _child(var, "default")
        yield from (("the var", node, _is_sentence) for node in (default or var,))


def _child(node: Node | None, key: str) -> Node | None:
    found: Node | None = node.value.get(key) if node is not None and node.kind == "map" else None
    return found


def _entries(node: Node | None) -> list[Node]:
    """The elements of a list; of anything else, itself."""
    return [] if node is None else list(node.value) if node.kind == "list" else [node]


def _values(node: Node | None) -> list[Node]:
    return list(node.value.values()) if node is not None and node.kind == "map" else []
