"""Whether a call failed by itself or because nobody was answered: what its gates have seen since its first fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmpipe.client.gate import Gate


class Silence:
    """The gates at which a call met faults, each with the last call that had passed by then and is known of.

    An answer to a call that passed later shows that the provider works, and that the faults are the call's own; one to
    an earlier call speaks for the provider as it was before.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[Gate, int] = {}

    def fault(self, gate: Gate, number: int) -> bool:
        """The call, which had passed `gate` as this number, met a fault; True if others were answered since its first.

        Before the fault the provider worked, for which the highest number that was answered by then stands.
        """
        return gate.state.answered > self._since.setdefault(gate, max(number, gate.state.answered))

    def answered(self, gate: Gate) -> None:
        """The call was answered at `gate`, if not with what was asked for."""
        self._since.pop(gate, None)

    def share(self, other: Silence) -> None:
        """Take over what a call met that was made for this one too."""
        self._since |= other._since

    def __bool__(self) -> bool:
        return bool(self._since)

    @property
    def is_over(self) -> bool:
        """True once one of the gates has given an answer to another call."""
        return any(gate.state.answered > number for gate, number in self._since.items())

    @property
    def is_outage(self) -> bool:
        """True if every one of the gates counts as down."""
        return all(gate.is_down for gate in self._since)

    @property
    def is_unbroken(self) -> bool:
        """True if none of the gates has ever given an answer in this process."""
        return all(gate.state.answered == 0 for gate in self._since)

    def __str__(self) -> str:
        return "; ".join(gate.silence() for gate in self._since)
