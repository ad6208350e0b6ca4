"""The way in: finds the command, runs it, and turns whatever happens into a message and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from llmpipe.cli.commands import COMMANDS, overview
from llmpipe.cli.console import Console, OutputClosed, OutputLost, reserve_descriptors
from llmpipe.cli.utf8 import require_utf8_names
from llmpipe.interrupts import Interrupted, interruptible

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    from llmpipe.errors import LlmpipeError

INTERRUPTED = 130
# Looking for cycles every 20,000 objects and not every 700: a command makes few, and looking took a tenth of its start
# and a fifth of a run.
SELDOM = (20_000, 50, 100)
# Why the system does not take a path that was typed.
_REFUSED = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises."""
    reserve_descriptors()
    if argv is None:
        require_utf8_names()
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(sys.stdout, sys.stderr, variable=_variable)
    with interruptible(until_exit=argv is None):
        code = _guarded(console, words)
        try:
            console.flush()
        except OutputClosed:
            console.abandon()
        except OutputLost as lost:
            code = _lost(console, lost, code)
        except KeyboardInterrupt:
            console.abandon()
            code = INTERRUPTED
    return code


def _guarded(console: Console, words: list[str]) -> int:
    """Run the command; every exception becomes a message and an exit code."""
    try:
        return _dispatch(console, words)
    except KeyboardInterrupt as interrupt:
        console.err("interrupted")
        return interrupt.exit_code if isinstance(interrupt, Interrupted) else INTERRUPTED
    except OutputClosed:
        console.abandon()
        return 0
    except OutputLost as lost:
        return _lost(console, lost, 0)
    except Exception as error:  # noqa: BLE001 - the last net: a traceback goes to a file, one message to the person
        return _failed(console, words, error)


def _lost(console: Console, lost: OutputLost, code: int) -> int:
    console.err(f"error[X930]: standard output could not be written: {lost}")
    console.abandon()
    return code or 1


def _dispatch(console: Console, words: list[str]) -> int:
    match words:
        case []:
            console.err(overview())
            return 2
        case ["-h" | "--help" | "help"]:
            console.out(overview())
            return 0
        case ["-V" | "--version"]:
            from llmpipe._version import __version__

            console.out(f"llmpipe {__version__}")
            return 0
        case ["help", name, *_]:
            return _command(console, name, ["--help"])
        case [name, *rest]:
            return _command(console, name, rest)
    return 2


def _command(console: Console, name: str, words: list[str]) -> int:
    module = next((module for known, module, _summary in COMMANDS if known == name), None)
    if module is None:
        return _unknown(console, name)
    if not _is_somewhere():
        console.err(f"llmpipe {name}: the working directory is gone", "  change into a folder that exists")
        return 2
    from llmpipe.cli.parsing import HelpShown, UsageError

    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        command = import_module(f"llmpipe.cli.{module}")
        return int(command.main(words, console))
    except HelpShown as text:
        console.out(str(text))
        return 0
    except UsageError as error:
        console.err(f"llmpipe {name}: {error}", *([f"  {error.hint}"] if error.hint else ()))
        console.err(*([error.usage] if error.usage else ()), f"more: llmpipe {name} --help")
        return 2
    finally:
        gc.set_threshold(*before)


def _is_somewhere() -> bool:
    """Whether the working directory still exists; every path that is shown is relative to it."""
    from pathlib import Path

    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _unknown(console: Console, name: str) -> int:
    from llmpipe.cli.parsing import did_you_mean
    from llmpipe.report.figures import said

    if name.endswith((".yaml", ".yml")):
        hint = f"did you mean 'llmpipe run {said(name, 100)}'?"
    else:
        hint = did_you_mean(name, [known for known, _module, _summary in COMMANDS])
    kind = "flag" if name.startswith("-") else "command"
    console.err(f"llmpipe: unknown {kind} {said(name, 60)!r}", *([f"  {hint}"] if hint else ()), "more: llmpipe --help")
    return 2


def _failed(console: Console, words: list[str], error: Exception) -> int:
    from llmpipe.errors import ConfigError, InternalError, LlmpipeError
    from llmpipe.local_faults import local_fault

    if isinstance(error, ConfigError):
        from llmpipe.report.problems import render

        console.err(render(error.problems, "text"))
        return error.exit_code
    known = local_fault(error) or error
    if isinstance(known, LlmpipeError) and not isinstance(known, InternalError):
        console.err(*told(known))
        return known.exit_code
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
        from llmpipe.report.figures import said

        console.err(f"error[X930]: {said(os.fsdecode(error.filename), 120)}: {error.strerror}", "  Name another path.")
        return 2
    from llmpipe.cli.crash import report_crash

    return report_crash(console, words, error)


def told(error: LlmpipeError) -> list[str]:
    """An error of ours: what happened, a line for each, and what to do."""
    from llmpipe.report.figures import said

    code = getattr(error, "row_code", None) or getattr(error, "item_code", None) or error.code
    text = str(error).replace(f" {code} ", " ", 1)
    happened = [f"error[{code}]: {said(line, 2000)}" for line in (text or error.title).splitlines()]
    return [*happened, *([f"  {error.advice}"] if error.advice else ())]


def _variable(name: str) -> str | None:
    from llmpipe.config.environment import variable

    return variable(name)
