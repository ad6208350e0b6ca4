"""What had arrived of a reply when a clock cut it off: handed up on the very exception that ended the exchange."""

from __future__ import annotations

import asyncio
from typing import Any

_NAME = "llmpipe_arrived"


def note_arrived(cut: asyncio.CancelledError, *, sent: bool, status: int, raw: str | None) -> None:
    """Leave the evidence on `cut`. `status` 0: not even the head of the reply had come; `sent`: something was sent."""
    if status:
        cut.__dict__[_NAME] = {"status": status, "raw": raw or None}
    elif not sent:
        cut.__dict__[_NAME] = {"billed": "no"}


def arrived(error: BaseException | None) -> dict[str, Any]:
    """The evidence on `error`, or on what it was raised from, as keyword arguments of CallFailed; empty if none."""
    while error is not None:
        found = error.__dict__.get(_NAME)
        if found is not None:
            return dict(found)
        error = error.__cause__
    return {}
