"""The first that a process does: until the command's own handlers stand, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it, as SIGTERM does
    from llmpipe.cli.main import main as command

    return command()
