"""`llmpipe run`: load, run, and tell how it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from llmpipe.cli.console import Console, OutputLost
from llmpipe.cli.inputs import environment_of, load, pipeline_file
from llmpipe.cli.parsing import CommandParser, UsageError
from llmpipe.cli.run_flags import APART, parser

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from typing import Any

    from llmpipe.config.environment import Environment
    from llmpipe.config.pipeline import Pipeline
    from llmpipe.engine.options import RunOptions
    from llmpipe.engine.results import RunReport
    from llmpipe.errors import LlmpipeError
    from llmpipe.report.progress import Display


def main(words: Sequence[str], console: Console) -> int:
    """Run the pipeline; the exit code is the run's."""
    args = understood(words, parser(), "run")
    if args.dry_run:
        from llmpipe.cli.plan import planned

        return planned(args, console)
    from llmpipe.errors import LlmpipeError

    try:
        return _main(args, words, console)
    except LlmpipeError as error:
        if args.json:
            console.json(refusal(error, args))
        raise


def _main(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    path = pipeline_file(args.pipeline)
    pipeline = load(path, args)
    if pipeline.warnings and not args.quiet:
        from llmpipe.report.problems import render

        console.err(render(pipeline.warnings, "text"))
    environment = environment_of(pipeline)
    prepare(console, pipeline, environment, args)
    report = _run(pipeline, environment, args, words, console)
    if report is None:
        return 0
    _tell(report, args, words, console)
    return report.exit_code


def refusal(error: LlmpipeError, args: argparse.Namespace) -> dict[str, Any]:
    """What --json prints where there was no run."""
    found: dict[str, Any] = {"pipeline_path": args.pipeline, "status": "refused", "exit_code": error.exit_code}
    found |= {"code": error.code, "reason": str(error)}
    problems = getattr(error, "problems", None)
    return found if problems is None else {**found, "problems": problems}


def understood(words: Sequence[str], parser: CommandParser, command: str) -> argparse.Namespace:
    """What was typed behind `command`. Raises UsageError for what does not go together."""
    args = parser.read(words)
    for name in ("resume", "retry_failed"):
        # `run --resume pipelines/x.yaml`: the file is the pipeline, not a run's name.
        value = getattr(args, name)
        if args.pipeline is None and value and value.endswith((".yaml", ".yml")):
            args.pipeline = value
            setattr(args, name, "last")
    if args.pipeline is None:
        raise UsageError(f"name a pipeline file, as in: llmpipe {command} pipelines/hello.yaml")
    for one, other in APART:
        if getattr(args, one) and getattr(args, other):
            raise UsageError(f"{_flag(one)} and {_flag(other)} exclude each other")
    if args.base and not (args.only or args.from_step):
        raise UsageError("--base needs --only STEP or --from STEP")
    if args.accept_changes and not (args.resume or args.retry_failed):
        raise UsageError("--accept-changes needs --resume or --retry-failed")
    return args


def _flag(dest: str) -> str:
    return "--from" if dest == "from_step" else "--" + dest.replace("_", "-")


def prepare(console: Console, pipeline: Pipeline, environment: Environment, args: argparse.Namespace) -> None:
    """Let a crash write below the run's output, and print nothing with the value of a key."""
    from llmpipe.engine.masking import redactor_for
    from llmpipe.providers.table import resolve

    for name in {name for model in pipeline.models.values() for name in resolve(model).api_key_envs}:
        environment.secret(name)  # so that a key pasted into the command line is known as one
    console.crash_folder = _output(args) or pipeline.root / "output"
    redactor = redactor_for(pipeline.models, environment.handed_out)
    console.redact, console.without_keys = redactor.text, redactor.known


def _output(args: argparse.Namespace) -> Path | None:
    from pathlib import Path

    return Path(args.output).absolute() if args.output else None


def options(args: argparse.Namespace, command: str) -> RunOptions:
    """The flags as the engine takes them."""
    from pathlib import Path

    from llmpipe.engine.options import RunOptions

    return RunOptions(
        vars={name: value for name, _, value in (given.partition("=") for given in args.var)},
        limit=args.limit,
        key=args.key,
        only=args.only,
        from_step=args.from_step,
        base=args.base,
        resume=args.resume,
        accept_changes=args.accept_changes,
        retry_failed=args.retry_failed,
        cache="off" if args.no_cache else "refresh" if args.refresh else "use",
        offline=args.offline,
        max_cost=args.max_cost,
        concurrency=args.concurrency,
        output_dir=_output(args),
        lock=args.lock,
        allow_python=args.allow_python,
        allow_read=tuple(Path(folder).absolute() for folder in args.allow_read),
        command=command,
    )


def _run(
    pipeline: Pipeline, environment: Environment, args: argparse.Namespace, words: Sequence[str], console: Console
) -> RunReport | None:
    """The run's report; None if another run is at work and --lock skip was given."""
    import sys
    from dataclasses import replace

    from llmpipe.engine.run import run_pipeline
    from llmpipe.errors import LockHeld
    from llmpipe.shell_text import joined

    if args.allow_python or "loguru" in sys.modules:
        from loguru import logger

        with suppress(ValueError):
            logger.remove(0)  # loguru's own sink would mix every line of the log into what people read
    command = console.redact("llmpipe run " + joined(words))
    display = _display(args, console)
    try:
        with start_apart():
            report = run_pipeline(pipeline, options(args, command), environment=environment, progress=display)
        return replace(
            report,
            notes=tuple(note for note in report.notes if note not in display.told),
            next_command=report.next_command
            and console.redact(report.next_command + _same_flags(args, report.next_flags)),
        )
    except LockHeld as held:
        if args.lock != "skip":
            raise
        if not args.quiet:
            console.err(f"skipped: {held}")
        if args.json:
            console.json({"pipeline": pipeline.name, "status": "skipped", "exit_code": 0, "reason": str(held)})
        return None
    finally:
        display.close()


@contextmanager
def start_apart() -> Iterator[None]:
    """What the start has made stays to the end, and the search for cycles need not look at it again."""
    import gc

    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _same_flags(args: argparse.Namespace, raised: tuple[str, ...]) -> str:
    """The flags that make the pipeline what it is: a command that goes on with the run needs them too.

    `raised` are limits that it needs instead of those that were given.
    """
    from llmpipe.shell_text import joined

    replaced = {value.partition("=")[0] for value in raised}

    words = [word for name in ("var", "vars_file", "allow_read") for value in getattr(args, name)
             for word in (_flag(name), value)]  # fmt: skip
    words += [word for value in args.sets if value.partition("=")[0] not in replaced for word in ("--set", value)]
    for name in ("limit", "key", "max_cost", "output"):
        is_given = getattr(args, name) is not None and _flag(name) not in replaced
        words += [_flag(name), str(getattr(args, name))] if is_given else []
    words += raised
    words += ["--allow-python"] if args.allow_python else []
    return f" {joined(words)}" if words else ""


def _display(args: argparse.Namespace, console: Console) -> Display:
    from llmpipe.report import progress
    from llmpipe.report.frame import ASCII, UNICODE

    stream = console.err_stream
    if args.quiet or stream is None:
        return progress.Silent()
    encoding = stream.encoding or "utf-8"
    try:
        raw = progress.writer(stream.fileno(), encoding)
    except (OSError, ValueError):
        return progress.Silent()

    def write(text: str) -> None:
        raw(console.without_keys(text))

    if console.live():
        glyphs = UNICODE if encoding.lower().replace("-", "") == "utf8" else ASCII
        return progress.Shown(progress.Live(size=console.size, glyphs=glyphs), write)
    return progress.Shown(progress.Lines(), write)


def _tell(report: RunReport, args: argparse.Namespace, words: Sequence[str], console: Console) -> None:
    from llmpipe.cli.places import show_command
    from llmpipe.report.summary import Look, after, cron

    show = show_command(report.folder)
    if report.crash is not None:
        from llmpipe.cli.crash import report_crash

        report_crash(console, words, report.crash)
    if report.problem is not None:
        from llmpipe.report.problems import render

        console.err(render([report.problem], "text"))
    elif args.quiet:
        console.err(*cron(report, Look(show=show)))
    else:
        look = Look(console.width(), args.verbose, console.colour(console.err_stream), show)
        console.err(*after(report, look))
    if args.json:
        try:
            console.json(_report_document(report))
            console.flush()
        except OutputLost as lost:
            if report.exit_code == 0:
                raise
            console.err(f"error[X930]: the report could not be written to standard output: {lost}")
            console.abandon()


def _report_document(report: RunReport) -> dict[str, Any]:
    import dataclasses

    return {field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name != "crash"}
