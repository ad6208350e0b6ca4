"""`llmpipe show`: a run on one screen, a step's items, or one item's whole story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpipe.cli.parsing import OK, USAGE, CommandParser, epilog, examples, exit_codes, whole
from llmpipe.cli.runs import mask_keys, pipeline_name

if TYPE_CHECKING:
    import argparse

    from llmpipe.cli.console import Console
    from llmpipe.engine.runs import RunInfo

EPILOG = epilog(
    examples(
        ("llmpipe show", "the last run on one screen"),
        ("llmpipe show 7f3a label --status failed", "the items of a step that failed, and why"),
        ("llmpipe show 7f3a label 2311", "one item: prompt, attempts, replies, validation, cost"),
        ("llmpipe show last label 2311 --json", "the same for a program"),
    ),
    exit_codes(OK, USAGE),
)
STATUSES = ("succeeded", "failed", "skipped", "unsent")


def parser() -> CommandParser:
    """The parser of `llmpipe show`."""
    made = CommandParser(
        "show",
        arguments="[RUN [STEP [KEY]]]",
        summary="Look at a run, at a step of it, or at one item's whole story.",
        epilog=EPILOG,
    )
    made.add_argument(
        "run", metavar="RUN", nargs="?", default="last", help="a run id, its beginning, or last (default)"
    )
    made.add_argument("step", metavar="STEP", nargs="?", help="list this step's items")
    made.add_argument("key", metavar="KEY", nargs="?", help="tell this item's story")
    made.add_argument("--pipeline", metavar="NAME", help="the pipeline whose run is meant (name or file)")
    made.add_argument("--status", choices=STATUSES, help="only items with this status")
    made.add_argument("--limit", metavar="N", type=whole(1), default=50, help="at most so many items (default: 50)")
    made.add_argument("--all", action="store_true", help="all items")
    made.add_argument("--output", metavar="DIR", help="where the runs are (default: output in this project)")
    made.add_argument("--json", action="store_true", help="print JSON; items as one object a line")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Print what was asked for."""
    args = parser().read(words)
    from llmpipe.cli.places import output_folder
    from llmpipe.engine.runs import find_run

    info = find_run(output_folder(args.output), args.run, pipeline_name(args.pipeline))
    mask_keys(console, info)
    if args.step is None:
        return _run(info, args, console)
    if args.key is None:
        return _step(info, args, console)
    return _item(info, args, console)


def _run(info: RunInfo, args: argparse.Namespace, console: Console) -> int:
    from llmpipe.cli.places import show_command
    from llmpipe.engine.runs import run_document
    from llmpipe.report.overview import overview

    document = run_document(info.folder) or {}
    if info.status == "crashed" and document.get("status") == "running":
        document["status"] = info.status  # its process died and could not say so
    if args.json:
        console.json(document)
    else:
        console.lines(overview(info, document, show=show_command(info.folder)))
    return 0


def _step(info: RunInfo, args: argparse.Namespace, console: Console) -> int:
    import itertools

    from llmpipe.cli.documents import document
    from llmpipe.engine.story import step_items
    from llmpipe.report.overview import item_line

    if args.status is None and _single(info, args.step):
        args.key = ""
        return _item(info, args, console)
    items = step_items(info, args.step, status=args.status, limit=None if args.all else args.limit + 1)
    shown = items if args.all else itertools.islice(items, args.limit)
    number = 0
    for row in shown:
        number += 1
        if args.json:
            console.json_text(document(row, indent=None))
        else:
            console.out(item_line(row))
    if not args.all and next(iter(items), None) is not None:
        console.err(f"these are the first {number}; --all lists every one, --status failed only the failures")
    if not number:
        console.err(f"no {args.status or ''} items in step {args.step}".replace("  ", " "))
    return 0


def _single(info: RunInfo, step: str) -> bool:
    """True for a step that runs once: its only item has no key, so the step's name is enough."""
    from llmpipe.engine.story import step_items

    return [row.key for row in step_items(info, step, limit=2)] == [""]


def _item(info: RunInfo, args: argparse.Namespace, console: Console) -> int:
    from llmpipe.engine.story import item_story
    from llmpipe.report.overview import story

    told = item_story(info, args.step, args.key)
    if args.json:
        console.json(told)
    else:
        console.lines(story(told))
    return 0
