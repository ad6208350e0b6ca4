"""What a YAML syntax error most likely means to the person who wrote the line."""

from __future__ import annotations

from llmpipe.config.nodes import SourceText
from llmpipe.errors import Place, Problem
from llmpipe.late import late

_VALUE = r"^(?P<head>\s*(?:- +)*(?:[\w.-]+:[ \t]+)?)"
_BRACES = late(_VALUE + r"(?P<value>\{[{%].*?)\s*$")
_QUOTED_START = late(_VALUE + r"""(?P<value>(?P<q>["'])(?:(?!(?P=q)).)*(?P=q)[ \t]*[^\s#,\]}:].*?)\s*$""")
_COLON = late(r"^(?P<head>\s*(?:- +)*[\w.-]+:[ \t]+)(?P<value>[^\s\"'|>{\[].*?:(?:[ \t].*?)?)\s*$")
_RESERVED = late(_VALUE + r"(?P<value>[@`%].*?)\s*$")
_BANG = late(_VALUE + r"(?P<value>[!*&].*?)\s*$")
_OPEN_QUOTE = late(_VALUE + r"""(?P<value>["'].*?)\s*$""")

_TRAPS = (
    (_BRACES, "Y109", "'{{' opens a YAML mapping here, not a template"),
    (_QUOTED_START, "Y109", "the text goes on after its closing quote"),
    (_RESERVED, "Y109", "a value cannot begin with this character"),
    (_COLON, "Y109", "': ' inside of unquoted text starts a new key"),
    (_BANG, "Y109", "'!', '*' and '&' have a meaning of their own at the start of a value"),
)
_DASH = late(r" *- +(?=[^ ])")
_SHIFTED = ("expected key", "'-' indicator", "mapping values are not allowed", "expected <block end>")
_NOTE = "wrap the whole value in single or double quotes, or write it as a block after '|'"

_ADVICE = {
    "block": "entries of one mapping or list begin in the same column",
    "',' or": "inside of { } and [ ], quote text that has one of , [ ] { } in it, and close every bracket",
}


def advise(source: SourceText, said: str, index: int, context: int | None) -> Problem:
    """The problem for a parser's error `said` at character `index`, with the advice that fits the line."""
    for spot in (index, context):
        if spot is not None:
            trap = _trap(source, spot)
            if trap is not None:
                return trap
    if any(words in said for words in _SHIFTED):
        shifted = _shifted(source, index)
        if shifted is not None:
            return shifted
    if context is not None and "',' or" in said and (cut := _cut_flow(source, context)):
        return cut
    place = source.place(index)
    if "\t" in said or ("cannot start any token" in said and source.text[index : index + 1] == "\t"):
        return Problem("Y103", "a tab cannot indent YAML", place, hint="use spaces")
    if ("quoted scalar" in said or "end of stream" in said) and context is not None and _open_quote(source, context):
        return Problem("Y103", "a quote that is never closed", source.place(context))
    return _plain(said, place)


def end_of_braces(text: str, start: int) -> int:
    """Behind the value that begins with the braces at `start`: the end of the line, or of the braces in a flow."""
    line_end = text.find("\n", start)
    line = text[start : line_end if line_end >= 0 else len(text)]
    depth = 0
    for offset, sign in enumerate(line):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            behind = line[offset + 1 :].lstrip()
            return start + (offset + 1 if behind[:1] in (",", "}", "]") else len(line))
    return start + len(line)


def _cut_flow(source: SourceText, index: int) -> Problem | None:
    """The problem of a line whose bracket is closed in a comment only."""
    line, start = _line_at(source, index)
    comment = _comment_in(line)
    if comment is None or not line.rstrip().endswith(("}", "]")):
        return None
    place = source.place(start + comment, start + len(line.rstrip()))
    message = "' #' begins a comment, so the bracket before it is not closed"
    return Problem("Y103", message, place, hint="quote the value before it", note=_NOTE)


def _comment_in(line: str) -> int | None:
    """Where the comment of a line begins, outside of quotes."""
    quote = ""
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and line[at - 1 : at] in ("", " ", "\t", "{", "[", ",", ":"):
            quote = sign
        elif sign == "#" and line[at - 1 : at] in (" ", "\t"):
            return at
    return None


def _shifted(source: SourceText, index: int) -> Problem | None:
    """The problem of a line that begins in a column in which nothing above it does."""
    line, start = _line_at(source, index)
    own, above = _indent(line), _open_indents(source.text[:start])
    if own in above or not above:
        return None
    near = [max((n for n in above if n < own), default=None), min((n for n in above if n > own), default=None)]
    wanted = " or ".join(str(n) for n in near if n is not None)
    place = source.place(start + own, start + len(line.rstrip()))
    return Problem(
        "Y103",
        "not YAML: the line is indented like none of those above it",
        place,
        hint=f"indent it by {wanted} spaces, not {own}",
        note=_ADVICE["block"],
    )


def _open_indents(text: str) -> set[int]:
    """The columns, from 0, in which the line below `text` may begin: those of the entries that are still open."""
    found: set[int] = set()
    limit = len(text)
    for line in reversed(text.split("\n")):
        entry = line.strip()
        if not entry or entry.startswith("#") or _indent(line) >= limit:
            continue
        limit = _indent(line)
        dash = _DASH.match(line)
        found |= {limit, dash.end()} if dash is not None else {limit}
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _plain(said: str, place: Place) -> Problem:
    if "control characters" in said or "special characters" in said:
        said = "a control character"
    note = next((advice for word, advice in _ADVICE.items() if word in said), "")
    return Problem("Y103", f"not YAML: {said}", place, note=note)


def _open_quote(source: SourceText, context: int) -> bool:
    return source.text[context : context + 1] in ("'", '"')


def _trap(source: SourceText, index: int) -> Problem | None:
    line, start = _line_at(source, index)
    for pattern, code, message in _TRAPS:
        match = pattern.match(line)
        if match is not None:
            place = source.place(start + match.start("value"), start + match.end("value"))
            return Problem(code, message, place, hint="quote this", note=_NOTE)
    return None


def _line_at(source: SourceText, index: int) -> tuple[str, int]:
    start = source.text.rfind("\n", 0, index) + 1
    end = source.text.find("\n", start)
    return source.text[start : end if end >= 0 else len(source.text)], start
