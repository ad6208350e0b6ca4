"""What `llmpipe run` takes: one table of flags, the help text, and which flags exclude each other."""

from __future__ import annotations

from llmpipe.cli.inputs import VALUES, Flag, add_flags
from llmpipe.cli.parsing import CommandParser, dollars, epilog, examples, exit_codes, lock, whole

# To take a flag away, remove its line here and its use in run.options.
FLAGS: tuple[Flag, ...] = (
    *VALUES,
    Flag("values", ("--allow-python",), {"action": "store_true",
        "help": "let `python:` steps call the project's code"}),
    Flag("what runs", ("--limit",), {"metavar": "N", "type": whole(1),
        "help": "only the first N rows of each dataset; publishes no outputs"}),
    Flag("what runs", ("--key",), {"metavar": "K",
        "help": "only the row with this key; publishes no outputs, but with --retry-failed if the run is then whole"}),
    Flag("what runs", ("--only",), {"metavar": "STEP",
        "help": "only this step, on an earlier run's results; publishes no outputs"}),
    Flag("what runs", ("--from",), {"metavar": "STEP", "dest": "from_step",
        "help": "this step and all that depend on it, on an earlier run's results"}),
    Flag("what runs", ("--base",), {"metavar": "RUN",
        "help": "the run that --only and --from build on (default: the last finished one)"}),
    Flag("what runs", ("--dry-run",), {"action": "store_true",
        "help": "run nothing; say what would run, as llmpipe plan does"}),
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

APART = (
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
