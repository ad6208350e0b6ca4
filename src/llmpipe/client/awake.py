"""How long the process has stood still: a suspended host or Ctrl-Z, during which nobody could read what came."""

from __future__ import annotations

from llmpipe.frozen import frozen

LOOK_S = 0.5  # between two looks, while clocks run
_SUSPENDED_S = 1.0  # less is a busy machine


@frozen
class Look:
    """What two clocks said at once: seconds that went by, and those that the process was at work in."""

    at: float
    cpu: float


class Awake:
    """Seconds in which the process stood still, found by looking at least every LOOK_S. Pure: the looks come in.

    Between two looks a process either waits, which ends in time for the next look, or works, for which it uses the
    processor. What is neither is time in which it was stopped; a loop that is merely busy loses none.
    """

    def __init__(self) -> None:
        self.lost = 0.0
        self._last: Look | None = None

    def look(self, look: Look) -> None:
        """Take a look."""
        last, self._last = self._last, look
        if last is None:
            return
        still = (look.at - last.at) - (look.cpu - last.cpu)
        if still > LOOK_S + _SUSPENDED_S:
            self.lost += still - LOOK_S

    def is_due(self, at: float) -> bool:
        """True if the last look is further back than a process that is at work would leave it."""
        return self._last is not None and at - self._last.at > LOOK_S + _SUSPENDED_S

    def pause(self) -> None:
        """Nobody looks until the next look; what lies between means nothing."""
        self._last = None
