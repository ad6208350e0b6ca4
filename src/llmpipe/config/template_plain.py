"""Templates that need no Jinja: text with places for values (`{{ item.body }}`), and expressions that name one value.

Most prompts are no more than that. Read here, they cost 2 µs a rendering instead of 15, and a run with no other ones
does not import Jinja, 30 ms. All else, and all that goes wrong, is Jinja's: whoever gets None here asks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmpipe.config.template_values import as_data, as_text
from llmpipe.frozen import frozen
from llmpipe.late import late

_ROOTS = frozenset({"item", "key", "parent", "steps", "vars", "output"})
_PATH = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_PLACE = late(rf"\{{\{{[ \t\n]*({_PATH})[ \t\n]*\}}\}}")
_VALUE = late(rf"[ \t\n]*({_PATH})[ \t\n]*")


@frozen
class Plain:
    """A template as texts and paths in turn, a text first and last; of an expression the path alone.

    `places`: where in the source each path begins.
    """

    texts: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    places: tuple[int, ...]

    def render(self, scope: Mapping[str, Any]) -> str | None:
        """The text with the values of `scope`; None where Jinja would raise, or might."""
        found = [self.texts[0]]
        for path, text in zip(self.paths, self.texts[1:], strict=True):
            value: Any = scope
            try:
                for name in path:
                    if type(value) is not dict and not isinstance(value, Mapping):
                        return None
                    value = value[name]
                found.append(value if type(value) is str else as_text(value))
            except Exception:  # noqa: BLE001 - Jinja raises it again, with its place
                return None
            found.append(text)
        return "".join(found)

    def evaluate(self, scope: Mapping[str, Any]) -> tuple[Any] | None:
        """The value of an expression, as plain data; None where Jinja would raise, or might."""
        value: Any = scope
        try:
            for name in self.paths[0]:
                if not isinstance(value, Mapping):
                    return None
                value = value[name]
            return (as_data(value),)
        except Exception:  # noqa: BLE001 - as above
            return None


def plain_template(source: str) -> Plain | None:
    """`source` (line ends as LF) as a plain template; None if it has anything that Jinja has to read."""
    if "{%" in source or "{#" in source:
        return None
    text = source.removesuffix("\n")
    texts, paths, places = [], [], []
    at = 0
    for place in _PLACE.finditer(text):
        texts.append(text[at : place.start()])
        paths.append(tuple(place[1].split(".")))
        places.append(place.start(1))
        at = place.end()
    texts.append(text[at:])
    if any("{{" in part or part.endswith("{") for part in texts) or not all(path[0] in _ROOTS for path in paths):
        return None
    return Plain(tuple(texts), tuple(paths), tuple(places))


def plain_expression(source: str) -> Plain | None:
    """`source` as a path to one value; None if it is anything else."""
    found: re.Match[str] | None = _VALUE.fullmatch(source)
    path = tuple(found[1].split(".")) if found else ()
    return Plain((), (path,), (found.start(1),)) if found and path[0] in _ROOTS else None
