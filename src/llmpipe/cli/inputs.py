"""The flags by which run and validate name a pipeline file and its values, and what they make of them."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from llmpipe.cli.parsing import CommandParser, UsageError, did_you_mean

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from typing import Any

    from llmpipe.config.environment import Environment
    from llmpipe.config.pipeline import Pipeline


class Flag:
    """One flag: its group in the help text, its spellings, and what argparse is told."""

    __slots__ = ("group", "names", "options")

    def __init__(self, group: str, names: tuple[str, ...], options: dict[str, Any]) -> None:
        self.group, self.names, self.options = group, names, options


VALUES: tuple[Flag, ...] = (
    Flag("values", ("--var",), {"metavar": "NAME=VALUE", "action": "append", "default": [],
        "help": "set a declared var; NAME=@FILE takes the file's text; may be repeated"}),
    Flag("values", ("--vars-file",), {"metavar": "FILE", "action": "append", "default": [],
        "help": "set several vars from a YAML or JSON mapping; --var wins over it; may be repeated"}),
    Flag("values", ("--set",), {"metavar": "PATH=VALUE", "action": "append", "default": [], "dest": "sets",
        "help": "override one key of the file for this time, as in models.fast.model=gpt-5; may be repeated"}),
    Flag("values", ("--allow-read",), {"metavar": "DIR", "action": "append", "default": [],
        "help": "let the pipeline read files below DIR, outside the project; may be repeated"}),
)  # fmt: skip


def add_flags(parser: CommandParser, flags: Sequence[Flag]) -> None:
    """Add a table of flags to a parser, in groups."""
    groups: dict[str, Any] = {}
    for flag in flags:
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        groups[flag.group].add_argument(*flag.names, **flag.options)


def pipeline_file(word: str) -> Path:
    """The path of a pipeline file. Raises UsageError with the nearest name if there is no such file."""
    from pathlib import Path

    path = Path(word)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except (OSError, ValueError) as error:
        raise UsageError(f"{word:.100} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if mode is not None and stat.S_ISDIR(mode):
        raise UsageError(f"{word} is a folder; name a pipeline file", hint=_offer(_pipelines_in(path)))
    if mode is not None:
        return path
    known = [*_pipelines_in(path.parent), *_pipelines_in(Path("pipelines"))]
    near = [name for name in known if Path(name).stem == path.stem or Path(name).name == path.name]
    hint = f"did you mean {near[0]!r}?" if near else did_you_mean(word, known) or _offer(known)
    raise UsageError(f"there is no file {word}", hint=hint)


def _pipelines_in(folder: Path) -> list[str]:
    try:
        return sorted(str(p) for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))[:200]
    except OSError:
        return []


def _offer(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names[:8])}" if names else ""


def load(path: Path, args: argparse.Namespace) -> Pipeline:
    """Load a pipeline file with the values of the command line. Raises ConfigError with every problem of both."""
    from pathlib import Path

    from llmpipe.config.load import load_pipeline
    from llmpipe.config.problems import Problems
    from llmpipe.config.vars import parse_assignments, parse_overrides
    from llmpipe.errors import ConfigError

    problems = Problems()
    given = parse_assignments(args.var, [Path(name) for name in args.vars_file], problems=problems)
    overrides = parse_overrides(args.sets, problems=problems)
    folders = [Path(folder) for folder in args.allow_read]
    try:
        pipeline = load_pipeline(path, vars=given, overrides=overrides, allow_read=folders)
    except ConfigError as error:
        if not problems.errors:
            raise
        # What could not be read may have been the value that is missing.
        problems.extend(p for p in error.problems if p.code != "C221")
    problems.check()
    return pipeline


def environment_of(pipeline: Pipeline) -> Environment:
    """The environment of the pipeline's project: the real one over its `.env`."""
    from llmpipe.config.environment import Environment

    return Environment.load(pipeline.root)
