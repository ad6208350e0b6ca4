"""`llmpipe runs`: the runs that there are, and their removal."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpipe.cli.parsing import OK, USAGE, CommandParser, UsageError, epilog, examples, exit_codes, seconds, whole

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from llmpipe.cli.console import Console
    from llmpipe.engine.runs import RunInfo

LIST_EPILOG = epilog(
    "other forms:\n  llmpipe runs rm RUN ...             remove runs\n"
    "  llmpipe runs gc --keep 10           remove all but the newest",
    examples(
        ("llmpipe runs", "the runs of all pipelines, newest first"),
        ("llmpipe runs tickets --limit 5", "the last five of one pipeline"),
        ("llmpipe runs --json", "the same for a program"),
    ),
    exit_codes(OK, USAGE),
)
RM_EPILOG = epilog(
    examples(("llmpipe runs rm 7f3a", "remove a run: results, failures, log; never the cache, never `outputs`")),
    exit_codes(OK, USAGE, ("75", "the run is at work")),
)
GC_EPILOG = epilog(
    examples(
        ("llmpipe runs gc --keep 10", "keep the newest ten of each pipeline"),
        ("llmpipe runs gc --older-than 30d --keep 3", "remove what is older than 30 days, but keep three"),
        ("llmpipe runs gc --keep 10 --dry-run", "only say what would be removed"),
    ),
    "The newest run and the newest successful one of each pipeline always stay,\nas does a run that is at work.",
    exit_codes(OK, USAGE),
)
GOOD = ("complete", "partial")


def main(words: Sequence[str], console: Console) -> int:
    """List, remove or collect runs."""
    match list(words):
        case ["rm", *rest]:
            return _remove(rest, console)
        case ["gc", *rest]:
            return _collect(rest, console)
        case ["list", *rest]:
            return _list(rest, console)
        case rest:
            return _list(rest, console)


def _common(parser: CommandParser) -> CommandParser:
    parser.add_argument("--output", metavar="DIR", help="where the runs are (default: output in this project)")
    return parser


def _list_parser() -> CommandParser:
    made = _common(
        CommandParser("runs", arguments="[PIPELINE]", summary="List earlier runs, newest first.", epilog=LIST_EPILOG)
    )
    made.add_argument("pipeline", metavar="PIPELINE", nargs="?", help="only the runs of this pipeline (name or file)")
    made.add_argument("--limit", metavar="N", type=whole(1), default=20, help="at most so many (default: 20)")
    made.add_argument("--all", action="store_true", help="all of them")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def all_runs(output: Path, pipeline: str | None = None) -> list[RunInfo]:
    """The runs below `output`, of one pipeline or of all, newest first. Raises UsageError for an unknown pipeline."""
    from llmpipe.engine.runs import list_runs

    try:
        folders = sorted(
            f for f in output.iterdir() if f.is_dir() and not f.is_symlink() and not f.name.startswith(".")
        )
    except OSError:
        folders = []
    if pipeline is not None:
        folders = [f for f in folders if f.name == pipeline]
    found = [info for folder in folders for info in list_runs(folder)]
    return sorted(found, key=lambda info: info.order, reverse=True)


def mask_keys(console: Console, info: RunInfo) -> None:
    """Print nothing with the value of a key that the run used, or that any provider would use here."""
    from llmpipe.client.redact import Redactor
    from llmpipe.config.environment import Environment
    from llmpipe.engine.runs import run_document
    from llmpipe.errors import ConfigError
    from llmpipe.providers.rows import PROVIDERS

    try:
        environment = Environment.load(info.folder.parent.parent.parent)
    except ConfigError:  # a faulty .env is no reason to show nothing
        environment = Environment.load()
    models = (run_document(info.folder) or {}).get("models", {}).values()
    names = {model.get("key") for model in models} | {name for row in PROVIDERS.values() for name in row.key_vars}
    for name in names - {None}:
        environment.secret(name)
    public = {str(model.get(field)).lower() for model in models for field in ("provider", "model", "origin")}
    redactor = Redactor(environment.handed_out, public=frozenset(public))
    console.redact, console.without_keys = redactor.text, redactor.known


def pipeline_name(word: str | None) -> str | None:
    """A pipeline's name from what was typed: a name, or the path of a file whose stem or `name` it is."""
    if word is None or not word.endswith((".yaml", ".yml")):
        return word
    from pathlib import Path

    path = Path(word)
    if path.is_file():
        from llmpipe.config.source import parse
        from llmpipe.config.text_files import read_text

        node, _problems = parse(read_text(path, file=word))
        plain = node.plain() if node is not None and node.kind == "map" else {}
        if isinstance(plain.get("name"), str):
            return str(plain["name"])
    return path.stem


def _list(words: Sequence[str], console: Console) -> int:
    args = _list_parser().read(words)
    from llmpipe.cli.places import output_folder

    output = output_folder(args.output)
    found = all_runs(output, pipeline_name(args.pipeline))
    shown = found if args.all else found[: args.limit]
    if args.json:
        console.json([_document(info) for info in shown])
        return 0
    if not found:
        console.err(f"there are no runs in {output}" + (f" of {args.pipeline}" if args.pipeline else ""))
        return 0
    console.lines(_table(shown))
    if len(shown) < len(found):
        console.err(f"and {len(found) - len(shown)} older; --all lists them")
    return 0


def _document(info: RunInfo) -> dict[str, object]:
    from dataclasses import fields

    return {field.name: getattr(info, field.name) for field in fields(info) if field.name != "fingerprint"}


def _table(runs: Sequence[RunInfo]) -> list[str]:
    from llmpipe.report.figures import Column, cost, count, lasted, moment, said, table

    return table(
        [
            Column("run", [said(r.run_id) for r in runs], "left"),
            Column("pipeline", [said(r.pipeline) for r in runs], "left", widest=24),
            Column("started", [moment(r.started_at) for r in runs], "left"),
            Column("took", ["-" if r.duration_s is None else lasted(r.duration_s) for r in runs]),
            Column("status", [said(r.status) for r in runs], "left"),
            Column("exit", ["-" if r.exit_code is None else str(r.exit_code) for r in runs]),
            Column("ok", [count(r.succeeded) for r in runs]),
            Column("failed", [count(r.failed) for r in runs]),
            Column("unsent", [count(r.unsent) for r in runs]),
            Column("cost", [cost(r.cost_usd, r.cost_known_usd) for r in runs]),
            *(
                [Column("maybe billed", [count(r.maybe_billed) for r in runs])]
                if any(r.maybe_billed for r in runs)
                else []
            ),
        ],
        width=200,
    )


def _remove(words: Sequence[str], console: Console) -> int:
    made = _common(
        CommandParser("runs rm", arguments="RUN ...", summary="Remove runs with all their files.", epilog=RM_EPILOG)
    )
    made.add_argument("run", metavar="RUN", nargs="+", help="a run id or the beginning of one")
    made.add_argument("--pipeline", metavar="NAME", help="the pipeline, where the same id is in several")
    args = made.read(words)
    from llmpipe.cli.places import output_folder
    from llmpipe.engine.runs import find_run, remove_run

    output = output_folder(args.output)
    found = [find_run(output, run, pipeline_name(args.pipeline)) for run in args.run]
    for info in {info.folder: info for info in found}.values():
        remove_run(info)
        console.err(f"removed {info.folder}")
    return 0


def _collect(words: Sequence[str], console: Console) -> int:
    made = _common(CommandParser("runs gc", summary="Remove old runs.", epilog=GC_EPILOG))
    made.add_argument("--keep", metavar="N", type=whole(0), help="keep the newest N of each pipeline")
    made.add_argument("--older-than", metavar="AGE", type=seconds, help="remove only what is older, as in 30d")
    made.add_argument("--pipeline", metavar="NAME", help="only the runs of this pipeline")
    made.add_argument("--dry-run", action="store_true", help="remove nothing, only say what would be")
    args = made.read(words)
    if args.keep is None and args.older_than is None:
        raise UsageError("say what to keep: --keep N, --older-than AGE, or both")
    from llmpipe.cli.places import output_folder

    runs = all_runs(output_folder(args.output), pipeline_name(args.pipeline))
    return _drop(superfluous(runs, keep=args.keep or 0, before=_limit(args)), args, console)


def _limit(args: argparse.Namespace) -> float:
    """Runs that began before may go; without an age, no clock has a say."""
    return math.inf if args.older_than is None else time.time() - args.older_than


def superfluous(runs: Sequence[RunInfo], *, keep: int, before: float) -> list[RunInfo]:
    """The runs, newest first, that may go: beyond the newest `keep` of their pipeline and started before `before`."""
    going: list[RunInfo] = []
    for name in dict.fromkeys(r.pipeline for r in runs):
        own = [r for r in runs if r.pipeline == name]
        good = next((r for r in own if r.status in GOOD), None)
        going += [r for r in own[max(keep, 1) :] if r is not good and r.started_at < before and r.status != "running"]
    return going


def _drop(runs: Sequence[RunInfo], args: argparse.Namespace, console: Console) -> int:
    from llmpipe.engine.runs import remove_run
    from llmpipe.errors import LockHeld

    removed = 0
    for info in runs:
        if args.dry_run:
            console.out(f"would remove {info.folder}")
            continue
        try:
            remove_run(info)
        except LockHeld:
            continue  # it came to life again: a resume is at work in it
        removed += 1
    if not args.dry_run:
        console.err(f"removed {removed} {'run' if removed == 1 else 'runs'}")
    elif not runs:
        console.err("nothing would be removed")
    return 0
