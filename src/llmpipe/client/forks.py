"""Tells what lives on in the child of a fork that its threads, locks and connections are the parent's."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol


class Forked(Protocol):
    """Something that has to begin anew in the child of a fork."""

    def forked(self) -> None:
        """Called in the child, before anything else runs there: only the thread that forked is left."""


_KNOWN: weakref.WeakSet[Forked] = weakref.WeakSet()
_PARENTS: list[Any] = []  # what must not be closed here: an event loop, a database connection


def tell_of_forks(one: Forked) -> None:
    """Call `one.forked()` in the child of every fork from now on, as long as anyone knows `one`."""
    _KNOWN.add(one)


def leave_to_parent(*things: Any) -> None:
    """Keep what belongs to the parent from being collected in the child, which would close it for both."""
    _PARENTS.extend(things)


def _tell() -> None:
    for one in list(_KNOWN):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
