"""Problems of pipeline files as people read them: each at its place, with the line, a caret and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from llmpipe.config.secrets import mask
from llmpipe.errors import Problem
from llmpipe.report.figures import columns_of
from llmpipe.report.plain import plain, plain_json

FORMS = ("text", "concise", "json", "github")
WIDTH = 80
_GZIP = b"\x1f\x8b"
_CONTEXT = 2  # lines of the file above the one that is meant
_MAX_BYTES = 16 * 1024 * 1024  # of a dataset; a pipeline file is much smaller


def render(problems: Sequence[Problem], form: str = "text") -> str:
    """The problems in one of FORMS, without a newline at the end; "" for none (an empty list for json)."""
    if form == "json":
        return plain_json(json.dumps([_as_data(p) for p in problems], ensure_ascii=False, indent=2))
    if form == "concise":
        return "\n".join(_concise(p) for p in problems)
    if form == "github":
        return "\n".join(_annotation(p) for p in problems)
    _lines_of.cache_clear()
    blocks = ["\n".join(_block(p)) for p in problems]
    return "\n\n".join([*blocks, *_totals(problems)])


def _block(problem: Problem) -> list[str]:
    place = problem.place
    head = _wrapped(f"{problem.severity}[{problem.code}]: {plain(mask(problem.message))}", indent="  ")
    lines = _lines_of(place.file)
    if not lines or place.line > len(lines):
        is_row = problem.code.startswith("D3") and problem.code != "D301"
        at = f":{place.line}:{place.column}" if is_row or (place.line, place.column) != (1, 1) else ""
        return [*head, f"  --> {plain(place.file)}{at}", *_advice(problem, "   ")]
    margin = " " * len(str(place.line))
    where = f"   ({plain(problem.where)})" if problem.where else ""
    head.append(f"{margin} --> {plain(place.file)}:{place.line}:{place.column}{where}")
    return [*head, f"{margin}  |", *_excerpt(problem, lines, len(margin)), *_note(problem, margin)]


def _excerpt(problem: Problem, lines: Sequence[str], digits: int) -> Iterable[str]:
    """The line that is meant below those that lead to it, and the caret."""
    place = problem.place
    room = WIDTH - digits - 4
    for number in range(max(1, place.line - _CONTEXT), place.line):
        yield _numbered(number, digits, _window(lines[number - 1], 0, room)[0])
    text, shift = _window(lines[place.line - 1], place.column - 1, room)
    yield _numbered(place.line, digits, text)
    column = max(0, place.column - 1 - shift)
    before, meant = text[:column], text[column : column + place.width]
    hint = plain(mask(problem.hint))
    caret = f"{' ' * digits}  | {' ' * columns_of(before)}{'^' * max(1, columns_of(meant))}"
    if hint and len(caret) + 1 + len(hint) > WIDTH:
        yield caret
        yield from _wrapped(hint, indent=f"{' ' * digits}  |   ", first=True)
    else:
        yield f"{caret} {hint}".rstrip()


def _numbered(number: int, digits: int, text: str) -> str:
    return f"{number:>{digits}}  | {text}".rstrip()


def _window(line: str, column: int, room: int) -> tuple[str, int]:
    """The part of a line around a column that fits, and how many characters are left out before it."""
    line = mask(line)
    clean = "".join(plain(c) or "?" for c in line) if not line.isascii() or not line.isprintable() else line
    if columns_of(clean) <= room:
        return clean, 0
    room //= 1 + (columns_of(clean) > len(clean))
    start = 0 if column < room - 20 else min(column - room // 2, len(clean) - room + 3)
    cut = clean[start + 3 if start else 0 : start + room - (3 if start + room < len(clean) else 0)]
    return f"{'...' if start else ''}{cut}{'...' if start + room < len(clean) else ''}", start


def _note(problem: Problem, margin: str) -> list[str]:
    if not problem.note:
        return []
    return [
        f"{margin}  |",
        *_wrapped(plain(mask(problem.note)), indent=f"{margin}    ", first=True, mark=f"{margin}  = "),
    ]


def _advice(problem: Problem, indent: str) -> list[str]:
    """Hint and note where no line of a file can be shown."""
    texts = [plain(mask(text)) for text in (problem.hint, problem.note) if text]
    return [line for text in texts for line in _wrapped(text, indent=f"{indent}  ", first=True, mark=f"{indent}= ")]


def _wrapped(text: str, *, indent: str, first: bool = False, mark: str | None = None) -> list[str]:
    import textwrap

    start = mark if mark is not None else indent if first else ""
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _totals(problems: Sequence[Problem]) -> list[str]:
    """One line for each file: how many errors and warnings."""
    lines = []
    for file in dict.fromkeys(p.place.file for p in problems):
        here = [p for p in problems if p.place.file == file]
        errors = sum(p.severity == "error" for p in here)
        counts = [_count(errors, "error"), _count(len(here) - errors, "warning")]
        said = " and ".join(c for c in counts if c)
        lines.append(f"{said} in {plain(file)}" + ("; nothing was sent" if errors else ""))
    return ["\n".join(lines)] if lines else []


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}" if number else ""


def _concise(problem: Problem) -> str:
    place = problem.place
    hint = f" ({problem.hint})" if problem.hint else ""
    said = plain(mask(f"{problem.message}{hint}"))
    return f"{plain(place.file)}:{place.line}:{place.column}: {problem.severity} {problem.code} {said}"


def _as_data(problem: Problem) -> dict[str, object]:
    place = problem.place
    return {
        "code": problem.code,
        "severity": problem.severity,
        "message": mask(problem.message),
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "width": place.width,
        "where": problem.where,
        "hint": mask(problem.hint),
        "note": mask(problem.note),
    }


def _annotation(problem: Problem) -> str:
    """A workflow command of GitHub Actions, with its own escapes."""
    place = problem.place
    text = "\n".join(t for t in (problem.message, problem.hint, problem.note) if t)
    fields = {
        "file": place.file,
        "line": place.line,
        "col": place.column,
        "endColumn": place.column + place.width,
        "title": f"llmpipe {problem.code}",
    }
    said = ",".join(f"{k}={_escaped(plain(v), in_field=True)}" for k, v in fields.items())
    return f"::{problem.severity} {said}::{_escaped(plain(mask(text), multiline=True))}"


def _escaped(text: str, *, in_field: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_field else text


@lru_cache(maxsize=32)
def _lines_of(file: str) -> tuple[str, ...]:
    """The lines of a file that a place names; none if it is no file that can be read."""
    try:
        path = Path(file)
        if not path.is_file():
            return ()
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except (OSError, ValueError):
        return ()
    if data.startswith(_GZIP):
        return ()
    text = data.decode("utf-8-sig", "replace")
    if path.name == ".env":  # its values are keys, whatever they look like
        text = re.sub(r"(?m)^((?:[^=\n]*=)?)(.*)$", lambda line: line[1] + "*" * len(line[2]), text)
    return tuple(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
