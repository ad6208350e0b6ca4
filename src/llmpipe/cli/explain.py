"""`llmpipe explain CODE`: what a code means and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmpipe.cli.parsing import OK, CommandParser, UsageError, did_you_mean, epilog, examples, exit_codes

if TYPE_CHECKING:
    from llmpipe.cli.console import Console
    from llmpipe.errors import LlmpipeError

EPILOG = epilog(
    examples(
        ("llmpipe explain P431", "what a call that timed out means, and what to do"),
        ("llmpipe explain", "the list of all codes"),
        ("llmpipe explain --json", "the same for a program"),
    ),
    "Y1xx the YAML itself; C2xx schema and references; D3xx data and items;\nP4xx keys, providers, calls; "
    "O5xx outputs; X9xx llmpipe and its surroundings.",
    exit_codes(OK, ("2", "there is no such code")),
)


class Entry(NamedTuple):
    """A code as it is explained; `name` is the error's class or "", `exit_code` that of a run it ends, or None."""

    code: str
    title: str
    advice: str
    name: str = ""
    retried: str = ""
    words: tuple[str, ...] = ()
    exit_code: int | None = None


def parser() -> CommandParser:
    """The parser of `llmpipe explain`."""
    made = CommandParser(
        "explain", arguments="[CODE]", summary="Explain an error code, or list all of them.", epilog=EPILOG
    )
    made.add_argument("code", metavar="CODE", nargs="?", help="the code, as in P431; left out: all codes")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Print one entry or all."""
    args = parser().read(words)
    entries = every_entry()
    if args.code is None:
        if args.json:
            console.json([_document(e) for e in entries.values()])
        else:
            console.lines(f"{e.code}  {e.title}" for e in entries.values())
        return 0
    entry = _wanted(args.code, entries)
    if args.json:
        console.json(_document(entry))
    else:
        console.lines(_text(entry))
    return 0


def _wanted(word: str, entries: dict[str, Entry]) -> Entry:
    code = word.strip().strip("[]:").upper()
    if code in entries:
        return entries[code]
    for entry in entries.values():
        if entry.name.lower() == word.strip().lower():
            return entry
    hint = did_you_mean(code, entries) or "llmpipe explain lists all codes"
    raise UsageError(f"there is no code {word!r}", hint=hint)


def _document(entry: Entry) -> dict[str, object]:
    return entry._asdict()


def _text(entry: Entry) -> list[str]:
    import textwrap

    lines = [f"{entry.code}: {entry.title}", ""]
    lines += textwrap.wrap(entry.advice, 78) if entry.advice else ["The message itself says what to do."]
    facts = []
    if entry.name:
        facts.append(f"in logs and failure files as error_type {entry.name}")
    if entry.retried:
        facts.append(entry.retried)
    if entry.words:
        facts.append(f"a fallback is asked after it with `on: [{entry.words[0]}]`" + _others(entry.words[1:]))
    if entry.exit_code is not None:
        facts.append(f"a run that it ends has exit code {entry.exit_code}")
    return [*lines, *(["", *facts] if facts else [])]


def _others(words: tuple[str, ...]) -> str:
    return f" (or {', '.join(words)})" if words else ""


def every_entry() -> dict[str, Entry]:
    """All codes in order: the classes of errors, and the problems of files."""
    import llmpipe.engine.run  # noqa: F401 - defines the classes of a run
    from llmpipe.cli.codes import TEXTS
    from llmpipe.errors import every_class

    entries = {code: Entry(code, title, advice, exit_code=_ends(code)) for code, (title, advice) in TEXTS.items()}
    for kind in every_class():
        if "code" in vars(kind) and kind.code not in entries:
            entries[kind.code] = _of_class(kind)
    order = "YCDPOX"
    return dict(sorted(entries.items(), key=lambda pair: (order.index(pair[0][0]), pair[0])))


def _ends(code: str) -> int | None:
    """The exit code of a problem that is found before anything is sent; None for what happens to one item."""
    return 2 if code[0] in "YCOP" or "D300" <= code <= "D309" else None


def _of_class(kind: type[LlmpipeError]) -> Entry:
    from llmpipe.error_words import ERROR_WORDS
    from llmpipe.errors import CallFailed

    retried = ""
    words: tuple[str, ...] = ()
    ends: int | None = kind.exit_code
    if issubclass(kind, CallFailed):
        if kind.retryable:
            retried = "retried" + (f", {kind.retry_limit} times at most" if kind.retry_limit else "")
            retried += "; every call of the gate waits meanwhile" if kind.hold else ""
        elif kind.account:
            retried = "not retried: every call with this key and model would fail alike"
        else:
            retried = "not retried"
        ends = kind.exit_code if kind.account or kind.exit_code != 1 else None
        words = tuple(w for w, classes in ERROR_WORDS.items() if issubclass(kind, classes))
    return Entry(kind.code, kind.title, kind.advice, kind.__name__, retried, words, ends)
