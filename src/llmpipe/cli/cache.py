"""`llmpipe cache`: how large the cache of answers is, and how to make it smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpipe.cli.parsing import (
    FAULT,
    OK,
    USAGE,
    CommandParser,
    UsageError,
    did_you_mean,
    epilog,
    examples,
    exit_codes,
    seconds,
    size,
)

if TYPE_CHECKING:
    from pathlib import Path

    from llmpipe.cli.console import Console
    from llmpipe.client.disk_cache import CacheStats, DiskCache

EPILOG = epilog(
    "actions:\n  stats    how many answers there are, their size and age (the default)\n"
    "  prune    remove the old ones, or the oldest above a size\n  clear    remove all of them",
    examples(
        ("llmpipe cache stats", "answers, size, age"),
        ("llmpipe cache prune --older-than 90d", "remove answers that were stored longer ago"),
        ("llmpipe cache prune --max-size 500MiB", "remove the oldest answers above this size"),
        ("llmpipe cache clear", "remove all: the next run asks and pays again"),
    ),
    "The cache is output/.cache in the project, shared by its pipelines; nothing is\never removed from it "
    "unless you ask. Results of runs do not need it.",
    exit_codes(OK, ("1", "the cache cannot be read or written"), USAGE, FAULT),
)
ACTIONS = ("stats", "prune", "clear")


def parser() -> CommandParser:
    """The parser of `llmpipe cache`."""
    made = CommandParser(
        "cache",
        arguments="[stats|prune|clear]",
        summary="How large the cache of answers is; make it smaller.",
        epilog=EPILOG,
    )
    made.add_argument("action", metavar="stats|prune|clear", nargs="?", default="stats", help="what to do")
    made.add_argument("--older-than", metavar="AGE", type=seconds, help="with prune: remove answers older than this")
    made.add_argument("--max-size", metavar="SIZE", type=size, help="with prune: keep at most this much, newest first")
    made.add_argument("--output", metavar="DIR", help="the folder that holds .cache (default: output in this project)")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Do one of the actions."""
    args = parser().read(words)
    if args.action not in ACTIONS:
        raise UsageError(f"there is no action {args.action!r}", hint=did_you_mean(args.action, ACTIONS))
    limited = args.older_than is not None or args.max_size is not None
    if args.action == "prune" and not limited:
        raise UsageError("prune needs --older-than AGE or --max-size SIZE")
    if args.action != "prune" and limited:
        raise UsageError("--older-than and --max-size go with prune")
    from llmpipe.cli.places import output_folder

    folder = output_folder(args.output) / ".cache"
    cache = _opened(folder, console, heals=args.action != "stats")
    removed = 0
    try:
        if cache is not None and args.action == "clear":
            removed = cache.clear()
        elif cache is not None and args.action == "prune":
            removed = cache.prune(older_than_s=args.older_than, max_bytes=args.max_size)
        left = cache.stats() if cache is not None else None
    finally:
        if cache is not None:
            cache.close()
    _print(folder, left, None if args.action == "stats" else removed, as_json=args.json, console=console)
    return 0


def _opened(folder: Path, console: Console, *, heals: bool) -> DiskCache | None:
    from llmpipe.client.disk_cache import DiskCache
    from llmpipe.errors import StorageError

    if not folder.is_dir():
        return None
    told: list[str] = []
    cache = DiskCache(folder, warn=told.append, heals=heals)
    if not cache.usable:
        cache.close()
        raise StorageError(told[-1])
    for line in told:
        console.err(line)
    return cache


def _print(folder: Path, left: CacheStats | None, removed: int | None, *, as_json: bool, console: Console) -> None:
    from llmpipe.report.figures import bytes_text, count, moment, plural

    if as_json:
        known = {name: getattr(left, name) if left else None for name in ("oldest", "newest")}
        answers, total = (left.entries, left.bytes) if left else (0, 0)
        document = {"folder": folder, "answers": answers, "bytes": total, **known}
        console.json(document if removed is None else {**document, "removed": removed})
        return
    if removed is not None:
        console.out(f"removed {plural(removed, 'answer')}")
    console.out(f"folder     {folder}")
    console.out(f"answers    {count(left.entries) if left else '0'}")
    console.out(f"size       {bytes_text(left.bytes if left else 0)}")
    if left is not None and left.entries:
        console.out(f"stored     {moment(left.oldest)} to {moment(left.newest)}")
