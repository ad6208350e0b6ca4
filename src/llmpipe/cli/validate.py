"""`llmpipe validate`: everything that is wrong with pipeline files, and with -v what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmpipe.cli.inputs import VALUES, add_flags, environment_of, load, pipeline_file
from llmpipe.cli.parsing import FAULT, CommandParser, epilog, examples, exit_codes

if TYPE_CHECKING:
    import argparse

    from llmpipe.cli.console import Console
    from llmpipe.config.pipeline import Pipeline
    from llmpipe.errors import Problem

EPILOG = epilog(
    examples(
        ("llmpipe validate pipelines/*.yaml", "every problem of every file, each at its place"),
        ("llmpipe validate -v pipelines/tickets.yaml", "and what it comes to: scopes, models, addresses, time bounds"),
        ("llmpipe validate --format github pipelines/*.yaml", "annotations for a workflow on GitHub"),
    ),
    exit_codes(("0", "every file is usable (warnings may be listed)"), ("2", "a file is not usable"), FAULT),
    "Nothing is sent, and no key is needed.",
)
FORMATS = ("text", "concise", "json", "github")


def parser() -> CommandParser:
    """The parser of `llmpipe validate`."""
    made = CommandParser(
        "validate",
        arguments="PIPELINE ...",
        summary="Say everything that is wrong with pipeline files; nothing is sent.",
        epilog=EPILOG,
    )
    made.add_argument("pipelines", metavar="PIPELINE", nargs="+", help="pipeline files")
    made.add_argument("--format", choices=FORMATS, default="text", help="how problems are printed (default: text)")
    made.add_argument("-v", "--verbose", action="store_true", help="print what each file comes to")
    add_flags(made, VALUES)
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Check each file; 2 if one of them is not usable."""
    args = parser().read(words)
    paths = [pipeline_file(word) for word in args.pipelines]
    problems: list[Problem] = []
    broken = 0
    for path in paths:
        found, pipeline = _check(path, args)
        problems += found
        failed = pipeline is None
        broken += failed
        if args.format in ("text", "concise"):
            console.lines(_told(found, args.format))
            if pipeline is not None:
                console.lines(_good(pipeline, args))
    if args.format in ("json", "github"):
        _machine(problems, args.format, console)
    if args.format == "text" and len(paths) > 1:
        console.out(f"{len(paths)} files, {broken} not usable; nothing was sent")
    return 2 if broken else 0


def _check(path: Any, args: argparse.Namespace) -> tuple[tuple[Problem, ...], Pipeline | None]:
    from llmpipe.errors import ConfigError

    try:
        pipeline = load(path, args)
    except ConfigError as error:
        return error.problems, None
    return tuple(pipeline.warnings), pipeline


def _told(problems: Sequence[Problem], form: str) -> list[str]:
    from llmpipe.report.problems import render

    return [render(problems, form)] if problems else []


def _machine(problems: Sequence[Problem], form: str, console: Console) -> None:
    from llmpipe.report.problems import render

    text = render(problems, form)
    if form == "json":
        console.json_text(text)
    elif text:
        console.out(text)


def _good(pipeline: Pipeline, args: argparse.Namespace) -> list[str]:
    from llmpipe.report.facts import facts, headline

    lines = [headline(pipeline)]
    if args.verbose:
        lines += facts(pipeline, environment_of(pipeline).origin)
    return lines
