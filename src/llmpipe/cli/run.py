"""`llmpipe run`: load, run, and tell how it went."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmpipe.cli.console import Console, OutputLost
from llmpipe.cli.inputs import VALUES, Flag, add_flags, environment_of, load, pipeline_file
from llmpipe.cli.parsing import CommandParser, UsageError, dollars, epilog, examples, exit_codes, lock, whole

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from llmpipe.config.environment import Environment
    from llmpipe.config.pipeline import Pipeline
    from llmpipe.engine.options import RunOptions
    from llmpipe.engine.results import RunReport
    from llmpipe.errors import LlmpipeError
    from llmpipe.report.progress import Display

# What `llmpipe run` takes. To take a flag away, remove its line here and its use in `options`.
FLAGS: tuple[Flag, ...] = (
    *VALUES,
    Flag("values", ("--allow-python",), {"action": "store_true",
        "help": "let `python:` steps call the project's code"}),
    Flag("what runs", ("--limit",), {"metavar": "N", "type": whole(1),
        "help": "only the first N rows of each dataset; publishes no outputs"}),
    Flag("what runs", ("--key",), {"metavar": "K", "help": "only the row with this key; publishes no outputs"}),
    Flag("what runs", ("--only",), {"metavar": "STEP",
        "help": "only this step, on an earlier run's results; publishes no outputs"}),
    Flag("what runs", ("--from",), {"metavar": "STEP", "dest": "from_step",
        "help": "this step and all that depend on it, on an earlier run's results"}),
    Flag("what runs", ("--base",), {"metavar": "RUN",
        "help": "the run that --only and --from build on (default: the last finished one)"}),
    Flag("going on", ("--resume",), {"metavar": "RUN|auto", "nargs": "?", "const": "last",
        "help": "go on with an unfinished run (default: the last); auto: go on, or start a run that carries over "
                "what has not changed"}),
    Flag("going on", ("--accept-changes",), {"action": "store_true",
        "help": "with --resume or --retry-failed: go on although the pipeline "
                "has changed; the steps concerned are redone"}),
    Flag("going on", ("--retry-failed",), {"metavar": "RUN", "nargs": "?", "const": "last",
        "help": "run the failed items of a run again, in place (default: the last run)"}),
    Flag("answers", ("--no-cache",), {"action": "store_true", "help": "neither read nor write cached answers"}),
    Flag("answers", ("--refresh",), {"action": "store_true", "help": "ask again, and put the answers into the cache"}),
    Flag("answers", ("--offline",), {"action": "store_true",
        "help": "send nothing: what is not in the cache is a failure"}),
    Flag("limits", ("--max-cost",), {"metavar": "USD", "type": dollars,
        "help": "stop before more than this is spent (exit code 6); can be resumed"}),
    Flag("limits", ("--concurrency",), {"metavar": "N", "type": whole(1),
        "help": "at most N calls in flight, whatever the file says"}),
    Flag("limits", ("--lock",), {"metavar": "HOW", "type": lock, "default": "fail",
        "help": "if another run of this pipeline is at work: fail (default, exit code 75), skip (exit code 0), "
                "wait:10m"}),
    Flag("output", ("--output",), {"metavar": "DIR",
        "help": "keep runs and cache in DIR (default: output in the project)"}),
    Flag("output", ("--json",), {"action": "store_true", "help": "print the run's report as JSON on stdout"}),
    Flag("output", ("-q", "--quiet"), {"action": "store_true",
        "help": "for cron: print nothing if all went well, else at most 30 lines"}),
    Flag("output", ("-v", "--verbose"), {"action": "store_true", "help": "print the table of steps on success too"}),
)  # fmt: skip

EPILOG = epilog(
    examples(
        ("llmpipe run pipelines/tickets.yaml", "run it; the results are below output/tickets/latest"),
        ("llmpipe run pipelines/tickets.yaml --limit 5 --max-cost 0.10", "try it on five rows for ten cents at most"),
        ("llmpipe run pipelines/tickets.yaml --var day=2026-11-10", "with a value for a var"),
        ("llmpipe run pipelines/tickets.yaml --resume", "go on after Ctrl-C, a crash or a full disk"),
        ("llmpipe run pipelines/tickets.yaml --quiet --resume auto --lock skip", "the line for cron"),
    ),
    exit_codes(
        ("0", "contract met: complete, or partial within min_success"),
        ("1", "a step failed, more items failed than allowed, quota or model"),
        ("", "unknown, bad row found late, disk full; can be resumed"),
        ("2", "bad usage, configuration or input file; nothing was sent"),
        ("3", "a fault of llmpipe itself; the traceback's file is named"),
        ("4", "a key is missing (nothing was sent) or refused"),
        ("6", "stopped by its own budget or deadline; can be resumed"),
        ("75", "temporary: the provider stayed down, or another run holds the lock"),
        ("130, 143", "interrupted; can be resumed"),
    ),
    "Everything for people goes to stderr; stdout stays empty without --json.",
)

_APART = (
    ("resume", "retry_failed"),
    ("only", "from_step"),
    ("resume", "only"),
    ("resume", "from_step"),
    ("retry_failed", "only"),
    ("retry_failed", "from_step"),
    ("no_cache", "refresh"),
    ("no_cache", "offline"),
    ("refresh", "offline"),
    ("quiet", "verbose"),
)


def parser() -> CommandParser:
    """The parser of `llmpipe run`."""
    made = CommandParser(
        "run", arguments="PIPELINE", summary="Run a pipeline: every step, through one reliable client.", epilog=EPILOG
    )
    made.add_argument("pipeline", metavar="PIPELINE", nargs="?", help="the pipeline file, as in pipelines/tickets.yaml")
    add_flags(made, FLAGS)
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Run the pipeline; the exit code is the run's."""
    args = _understood(words)
    from llmpipe.errors import LlmpipeError

    try:
        return _main(args, words, console)
    except LlmpipeError as error:
        if args.json:
            console.json(_refusal(error, args))
        raise


def _main(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    path = pipeline_file(args.pipeline)
    pipeline = load(path, args)
    if pipeline.warnings and not args.quiet:
        from llmpipe.report.problems import render

        console.err(render(pipeline.warnings, "text"))
    environment = environment_of(pipeline)
    _prepare(console, pipeline, environment, args)
    report = _run(pipeline, environment, args, words, console)
    if report is None:
        return 0
    _tell(report, args, console)
    return report.exit_code


def _refusal(error: LlmpipeError, args: argparse.Namespace) -> dict[str, Any]:
    """What --json prints where there was no run."""
    found: dict[str, Any] = {"pipeline_path": args.pipeline, "status": "refused", "exit_code": error.exit_code}
    found |= {"code": error.code, "reason": str(error)}
    problems = getattr(error, "problems", None)
    return found if problems is None else {**found, "problems": problems}


def _understood(words: Sequence[str]) -> argparse.Namespace:
    args = parser().read(words)
    for name in ("resume", "retry_failed"):
        # `run --resume pipelines/x.yaml`: the file is the pipeline, not a run's name.
        value = getattr(args, name)
        if args.pipeline is None and value and value.endswith((".yaml", ".yml")):
            args.pipeline = value
            setattr(args, name, "last")
    if args.pipeline is None:
        raise UsageError("name a pipeline file, as in: llmpipe run pipelines/hello.yaml")
    for one, other in _APART:
        if getattr(args, one) and getattr(args, other):
            raise UsageError(f"{_flag(one)} and {_flag(other)} exclude each other")
    if args.base and not (args.only or args.from_step):
        raise UsageError("--base needs --only STEP or --from STEP")
    if args.accept_changes and not (args.resume or args.retry_failed):
        raise UsageError("--accept-changes needs --resume or --retry-failed")
    return args


def _flag(dest: str) -> str:
    return "--from" if dest == "from_step" else "--" + dest.replace("_", "-")


def _prepare(console: Console, pipeline: Pipeline, environment: Environment, args: argparse.Namespace) -> None:
    """Let a crash write below the run's output, without the values of keys."""
    from llmpipe.client.redact import Redactor
    from llmpipe.providers.table import resolve

    for name in {name for model in pipeline.models.values() for name in resolve(model).api_key_envs}:
        environment.secret(name)  # so that a key pasted into the command line is known as one
    console.crash_folder = _output(args) or pipeline.root / "output"
    console.redact = lambda text: Redactor(environment.resolved).text(text)


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
    import shlex
    from dataclasses import replace

    from loguru import logger

    from llmpipe.engine.run import run_pipeline
    from llmpipe.errors import LockHeld

    with suppress(ValueError):
        logger.remove(0)  # loguru's own sink would mix every line of the log into what people read
    command = console.redact("llmpipe run " + shlex.join(words))
    display = _display(args, console)
    try:
        report = run_pipeline(pipeline, options(args, command), environment=environment, progress=display)
        return replace(
            report,
            notes=tuple(note for note in report.notes if note not in display.told),
            next_command=report.next_command and console.redact(report.next_command + _same_flags(args)),
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


def _same_flags(args: argparse.Namespace) -> str:
    """The flags that make the pipeline what it is: a command that goes on with the run needs them too."""
    import shlex

    words = [word for name in ("var", "vars_file", "allow_read") for value in getattr(args, name)
             for word in (_flag(name), value)]  # fmt: skip
    words += [word for value in args.sets for word in ("--set", value)]
    words += ["--output", args.output] if args.output else []
    words += ["--allow-python"] if args.allow_python else []
    return f" {shlex.join(words)}" if words else ""


def _display(args: argparse.Namespace, console: Console) -> Display:
    from llmpipe.report import progress
    from llmpipe.report.frame import ASCII, UNICODE

    stream = console.err_stream
    if args.quiet or stream is None:
        return progress.Silent()
    encoding = stream.encoding or "utf-8"
    try:
        write = progress.writer(stream.fileno(), encoding)
    except (OSError, ValueError):
        return progress.Silent()
    if console.live():
        glyphs = UNICODE if encoding.lower().replace("-", "") == "utf8" else ASCII
        return progress.Shown(progress.Live(size=console.size, glyphs=glyphs), write)
    return progress.Shown(progress.Lines(), write)


def _tell(report: RunReport, args: argparse.Namespace, console: Console) -> None:
    from llmpipe.cli.places import show_command
    from llmpipe.report.summary import Look, after, cron

    show = show_command(report.folder)
    if args.quiet:
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

    return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
