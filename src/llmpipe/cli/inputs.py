"""The flags by which run and validate name a pipeline file and its values, and what they make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmpipe.cli.parsing import CommandParser, UsageError, did_you_mean, pair

if TYPE_CHECKING:
    import argparse

    from llmpipe.config.environment import Environment
    from llmpipe.config.pipeline import Pipeline

MOST_VALUE_BYTES = 16 * 1024 * 1024


class Flag(NamedTuple):
    """One flag: its group in the help text, its spellings, and what argparse is told."""

    group: str
    names: tuple[str, ...]
    options: dict[str, Any]


VALUES: tuple[Flag, ...] = (
    Flag("values", ("--var",), {"metavar": "NAME=VALUE", "action": "append", "type": pair, "default": [],
        "help": "set a declared var; NAME=@FILE takes the file's text (without its last line break), "
                "NAME=@@x means the text @x; may be repeated"}),
    Flag("values", ("--vars-file",), {"metavar": "FILE", "action": "append", "default": [],
        "help": "set several vars from a YAML or JSON mapping; --var wins over it; may be repeated"}),
    Flag("values", ("--set",), {"metavar": "PATH=VALUE", "action": "append", "type": pair, "default": [], "dest": "sets",
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
    path = Path(word)
    if path.is_dir():
        raise UsageError(f"{word} is a folder; name a pipeline file", hint=_offer(_pipelines_in(path)))
    if path.exists():
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
    """Load a pipeline file with the values of the command line. Raises ConfigError with every problem."""
    from llmpipe.config.load import load_pipeline

    return load_pipeline(
        path,
        vars=values(args),
        overrides=dict(args.sets),
        allow_read=[Path(folder) for folder in args.allow_read],
    )


def values(args: argparse.Namespace) -> dict[str, Any]:
    """The vars of --vars-file and --var, the latter winning."""
    found: dict[str, Any] = {}
    for name in args.vars_file:
        found |= _vars_of(Path(name))
    for name, text in args.var:
        found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> str:
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    return _text_of(Path(text[1:]), f"--var {name}").removesuffix("\n").removesuffix("\r")


def _text_of(path: Path, flag: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_VALUE_BYTES + 1)
        if len(data) > MOST_VALUE_BYTES:
            raise UsageError(f"{flag}: {path} is larger than 16 MiB")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{flag}: {path} is not UTF-8 (byte {error.start})") from error


def _vars_of(path: Path) -> dict[str, Any]:
    from llmpipe.config.source import parse, read_text
    from llmpipe.errors import ConfigError

    node, problems = parse(read_text(path, file=str(path)))
    if problems:
        raise ConfigError(problems)
    if node is None or node.kind != "map":
        raise UsageError(f"--vars-file: {path} is not a mapping of names to values")
    return dict(node.plain())


def environment_of(pipeline: Pipeline) -> Environment:
    """The environment of the pipeline's project: the real one over its `.env`."""
    from llmpipe.config.environment import Environment

    return Environment.load(pipeline.root)
