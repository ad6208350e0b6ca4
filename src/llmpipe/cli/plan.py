"""`llmpipe plan`: what a run would do, what is there already, what it would cost; nothing is sent or written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llmpipe.cli.inputs import Flag, add_flags, environment_of, load, pipeline_file
from llmpipe.cli.parsing import FAULT, CommandParser, epilog, examples, exit_codes
from llmpipe.cli.run import options, prepare, refusal, start_apart, understood
from llmpipe.cli.run_flags import FLAGS

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from llmpipe.cli.console import Console
    from llmpipe.engine.planned import PlanReport

_OTHERWISE = {
    "--allow-python": "take it that the run may call the project's code; a plan never does",
    "--concurrency": "as for run; changes nothing about a plan",
    "--lock": "as for run; a plan takes no lock",
    "--json": "print the plan as JSON, with every item that a model would be asked for, and why",
    "-q": "print nothing but what would stop a run",
    "-v": "list every item that a model would be asked for, and why",
}
EPILOG = epilog(
    examples(
        ("llmpipe plan pipelines/tickets.yaml", "what would run, what the cache holds, tokens and money per step"),
        ("llmpipe plan pipelines/tickets.yaml --limit 5 --max-cost 0.10", "of five rows, against ten cents"),
        ("llmpipe plan pipelines/tickets.yaml --resume auto", "which items last night's run leaves to be asked"),
        ("llmpipe plan -v pipelines/tickets.yaml", "and every item that a model would be asked for"),
    ),
    "Figures without a mark are exact: ~ is an estimate, ≤ at most, + at least;\n"
    "unknown is what depends on answers that are not there yet. A plan goes the run's\n"
    "own way through rows, templates and cache and stops where it would send; it\n"
    "calls no Python code of the pipeline, takes no lock, and writes nothing below\n"
    "output/.",
    exit_codes(
        ("0", "the plan stands, whatever it says"),
        ("2", "bad usage, configuration or input file, as for a run"),
        FAULT,
        ("6", "a run would certainly be stopped by its budget"),
    ),
)


def parser() -> CommandParser:
    """The parser of `llmpipe plan`: the flags of `run`, so that a line may be tried before it is run."""
    made = CommandParser(
        "plan",
        arguments="PIPELINE",
        summary="Say what a run would do: calls, tokens and money per step. Nothing is sent.",
        epilog=EPILOG,
    )
    made.add_argument("pipeline", metavar="PIPELINE", nargs="?", help="the pipeline file, as in pipelines/tickets.yaml")
    add_flags(made, [_flag(flag) for flag in FLAGS if flag.names[0] != "--dry-run"])
    return made


def _flag(flag: Flag) -> Flag:
    text = _OTHERWISE.get(flag.names[0])
    return flag if text is None else Flag(flag.group, flag.names, {**flag.options, "help": text})


def main(words: Sequence[str], console: Console) -> int:
    """Print the plan."""
    return planned(understood(words, parser(), "plan"), console)


def planned(args: argparse.Namespace, console: Console) -> int:
    """Print the plan of a run with these flags: what `run --dry-run` does too."""
    from llmpipe.errors import LlmpipeError

    try:
        return _planned(args, console)
    except LlmpipeError as error:
        if args.json:
            console.json(refusal(error, args))
        raise


def _planned(args: argparse.Namespace, console: Console) -> int:
    pipeline = load(pipeline_file(args.pipeline), args)
    if pipeline.warnings and not args.quiet:
        from llmpipe.report.problems import render

        console.err(render(pipeline.warnings, "text"))
    environment = environment_of(pipeline)
    prepare(console, pipeline, environment, args)
    from llmpipe.engine.rehearse import rehearsed

    with (
        _ended_cleanly(),
        start_apart(),
        _ticking(console, quiet=args.quiet) as tick,
        rehearsed(pipeline, options(args, ""), environment=environment, tick=tick) as plan,
    ):
        tick(0)
        _tell(plan, args, console)
        return plan.exit_code


def _tell(plan: PlanReport, args: argparse.Namespace, console: Console) -> None:
    from llmpipe.report.plan import plan_lines, warnings

    if args.json:
        console.json(_document(plan))
    elif not args.quiet:
        console.lines(plan_lines(plan, width=console.width(), verbose=args.verbose))
    if args.quiet:
        console.err(*warnings(plan))


def _document(plan: PlanReport) -> dict[str, Any]:
    """The whole plan; of each step all items that a model would be asked for."""
    import dataclasses

    found = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan) if f.name not in ("steps", "every_asked")}
    steps = []
    for step in plan.steps:
        document = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
        steps.append(document | {"asked": list(plan.every_asked(step.id)), "failed": step.failed})
    total = {
        name: _sum(plan, name) for name in ("calls", "input_tokens", "output_tokens", "cost_usd", "cost_known_usd")
    }
    total["unpriced"] = sorted({label for step in plan.steps for label in step.unpriced})
    return {"status": "planned", "exit_code": plan.exit_code, **found, "total": total, "steps": steps}


def _sum(plan: PlanReport, name: str) -> Any:
    from llmpipe.engine.planned import NOTHING

    return sum((getattr(step, name) for step in plan.steps), NOTHING)


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Within the block SIGTERM and a closed terminal end the process in order, so that its scratch folder goes too."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    except ValueError:  # not the main thread, where signals never arrive
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ticking(console: Console, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """What shows on a terminal how many rows were gone through; 0 takes it off the screen."""
    stream = console.err_stream if console.live() and not quiet else None
    shown = False

    def tick(rows: int) -> None:
        nonlocal shown
        if stream is None or not (rows or shown):
            return
        shown = bool(rows)
        stream.write(f"\r{f'{rows:,} rows' if rows else ''}\x1b[K")
        stream.flush()

    try:
        yield tick
    finally:
        tick(0)
