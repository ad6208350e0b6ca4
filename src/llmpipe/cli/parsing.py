"""Argument parsing with errors that help: exit code 2, the command's usage, "did you mean"."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeAlias

    from _typeshed import SupportsWrite


class UsageError(Exception):
    """A command line that cannot be understood; `usage` is the command's usage line, `hint` the next thing to try."""

    def __init__(self, message: str, *, hint: str = "", usage: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.usage = usage


class HelpShown(Exception):
    """`--help` was asked for; the text is the message."""


class CommandParser(argparse.ArgumentParser):
    """One command's parser. Raises UsageError and HelpShown instead of printing and exiting."""

    def __init__(self, command: str, *, arguments: str = "", summary: str, epilog: str) -> None:
        super().__init__(
            prog=f"llmpipe {command}",
            usage=" ".join(["%(prog)s [flags]", *([arguments] if arguments else ())]),
            description=summary,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=HelpText,
            add_help=False,
        )
        self.command = command
        self._optionals.title = "flags"
        self._positionals.title = "arguments"

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words behind the command's name."""
        if not any(a.dest == "help" for a in self._actions):
            self.add_argument("-h", "--help", action="help", help="show this text")
        found, unknown = self.parse_known_args(list(words))
        if unknown:
            self._unknown(unknown[0])
        return found

    def _unknown(self, word: str) -> NoReturn:
        if word.startswith("-") and word != "-":
            flag = word.split("=", 1)[0]
            raise UsageError(f"unknown flag {flag}", hint=did_you_mean(flag, self.flags()), usage=self._usage_line())
        raise UsageError(f"unexpected argument {word!r}", usage=self._usage_line())

    def flags(self) -> tuple[str, ...]:
        """Every spelling of every flag."""
        return tuple(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Called by argparse for whatever it does not understand."""
        words = message.replace("the following arguments are required:", "missing:").replace("argument ", "", 1)
        raise UsageError(words, usage=self._usage_line())

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Called by argparse for --help."""
        raise HelpShown(self.format_help().rstrip("\n"))

    def _usage_line(self) -> str:
        return " ".join(self.format_usage().split())


class HelpText(argparse.RawDescriptionHelpFormatter):
    """Help in 80 columns whatever the terminal, so that it reads the same everywhere."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" for the nearest known word, or ""."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def examples(*pairs: tuple[str, str]) -> str:
    """The examples of a help text, each command with what it does."""
    lines = [f"  {command}\n      {meaning}" for command, meaning in pairs]
    return "\n".join(["examples:", *lines])


def exit_codes(*pairs: tuple[str, str]) -> str:
    """The exit codes of a help text."""
    return "\n".join(["exit codes:", *(f"  {number:<8} {meaning}" for number, meaning in pairs)])


OK = ("0", "done")
USAGE = ("2", "a command line, file or run that cannot be used; nothing was done")
FAULT = ("3", "a fault of llmpipe itself; the traceback's file is named")


def epilog(*parts: str) -> str:
    """The end of a help text, paragraphs apart."""
    return "\n\n".join(parts)


Converter: TypeAlias = "Callable[[str], Any]"


def whole(minimum: int) -> Converter:
    """A flag's whole number, at least `minimum`; `3_000` and `3,000` are numbers too."""

    def convert(text: str) -> int:
        try:
            number = int(text.replace(",", "").replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text} is below {minimum}")
        return number

    return convert


def dollars(text: str) -> Any:
    """A flag's amount of money in USD, above zero."""
    from decimal import Decimal, InvalidOperation

    try:
        amount = Decimal(text.removeprefix("$").replace("_", ""))
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in dollars") from None
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0; --offline sends nothing at all")
    return amount


def seconds(text: str) -> float:
    """A flag's duration: 500ms, 30s, 10m, 2h, 7d, 1h30m."""
    from llmpipe.config.quantities import parse_duration

    try:
        return parse_duration(text.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int:
    """A flag's size in bytes: 500MiB, 2GiB, 800M."""
    from llmpipe.config.quantities import parse_quantity

    try:
        return parse_quantity(text.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MiB or 2GiB") from None


def lock(text: str) -> str | float:
    """The value of --lock: fail, skip or wait:DURATION (then the seconds)."""
    if text in ("fail", "skip"):
        return text
    if text.startswith("wait:"):
        return seconds(text.removeprefix("wait:"))
    raise argparse.ArgumentTypeError(f"{text!r} is not fail, skip or wait:DURATION, as in wait:10m")
