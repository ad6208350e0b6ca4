"""`llmpipe schema`: the JSON Schema of pipeline files, and the expansion of a short schema."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmpipe.cli.parsing import OK, USAGE, CommandParser, UsageError, epilog, examples, exit_codes

if TYPE_CHECKING:
    from llmpipe.cli.console import Console

EPILOG = epilog(
    examples(
        ("llmpipe schema > schemas/pipeline.schema.json", "for editors, named in the first line of pipeline files"),
        ("llmpipe schema expand review.yaml", "a short schema as the JSON Schema that it stands for"),
        ("echo '{idea: string, score: integer 1..5}' | llmpipe schema expand -", "the same, from stdin"),
    ),
    exit_codes(OK, USAGE),
)


def parser() -> CommandParser:
    """The parser of `llmpipe schema`."""
    made = CommandParser(
        "schema",
        arguments="[expand FILE|-]",
        summary="Print the JSON Schema of pipeline files. `llmpipe schema expand FILE` prints\n"
        "the JSON Schema that a short schema stands for, as in\n{category: enum[bug, idea], note?: string}.",
        epilog=EPILOG,
    )
    made.add_argument("action", nargs="?", choices=("expand",), help="what to do instead of printing the schema")
    made.add_argument("file", nargs="?", metavar="FILE", help="with expand: a YAML or JSON file, or - for stdin")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Print one JSON Schema."""
    args = parser().read(words)
    if args.action is None:
        console.out(pipeline_schema().rstrip("\n"))
        return 0
    if args.file is None:
        raise UsageError("expand needs a file, or - for stdin")
    console.json(_expanded(args.file))
    return 0


def pipeline_schema() -> str:
    """The text of pipeline.schema.json."""
    from importlib.resources import files

    return files("llmpipe.config").joinpath("pipeline.schema.json").read_text(encoding="utf-8")


def _expanded(name: str) -> dict[str, Any]:
    from pathlib import Path

    from llmpipe.config.schemas import place_in
    from llmpipe.config.source import parse
    from llmpipe.config.text_files import MAX_BYTES, decode, read_text
    from llmpipe.errors import ConfigError, Problem, SchemaUnusable
    from llmpipe.structured.short_form import expand, is_short_form

    if name == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        source = decode(sys.stdin.buffer.read(MAX_BYTES + 1), file="<stdin>")
    else:
        source = read_text(Path(name), file=name)
    node, problems = parse(source)
    if problems:
        raise ConfigError(problems)
    if node is None or node.kind != "map":
        raise UsageError(f"{name} does not hold a mapping of field names to types")
    try:
        plain = node.plain()
        return expand(plain) if is_short_form(plain) else plain
    except SchemaUnusable as error:
        places = [place_in(node, problem.pointer, in_value=True) for problem in error.problems]
        raise ConfigError(
            [Problem("C227", p.message, at, hint=p.hint) for p, at in zip(error.problems, places, strict=True)]
        ) from error
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
