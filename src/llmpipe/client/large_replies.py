"""Bounds on the bytes of large replies: of all that come in, and of those that are worked on.

    body comes in ── Room of READING_BYTES ──► whole ── Room of WORKING_BYTES ──► decoded, validated, written down

A reply is once its bytes while it comes in, and several times as much while it is worked on; so many may come in at
once, and few are worked on. Small replies, nearly all, never wait.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cache

from llmpipe.client.clock import paused

SMALL_BYTES = 64 * 1024
READING_BYTES = 64 * 1024 * 1024
WORKING_BYTES = 4 * 1024 * 1024
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 128 * 1024


class Room:
    """So many bytes for all shares together; the one that came first may always have more, so that all come to an end.

    The others wait in the order in which they asked.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self._shares: dict[Share, None] = {}  # in the order in which they came
        self._waiting: list[tuple[asyncio.Future[None], Share, int]] = []

    def grant(self, share: Share, count: int) -> bool:
        """Give `share` so many bytes more, if it may have them now."""
        if self._waiting or not self._fits(share, count):
            return False
        self._give(share, count)
        return True

    async def wait(self, share: Share, count: int) -> None:
        """Wait until `share` has been given so many bytes more."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shares.setdefault(share)
        self._waiting.append((place, share, count))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            self._waiting = [entry for entry in self._waiting if entry[0] is not place]
            self._admit()
            raise

    def leave(self, share: Share) -> None:
        """Have everything back that `share` was given."""
        if share in self._shares:
            del self._shares[share]
            self.held -= share.held
            share.held = 0
            self._admit()

    def _fits(self, share: Share, count: int) -> bool:
        return self.held + count <= self.size or next(iter(self._shares), share) is share

    def _give(self, share: Share, count: int) -> None:
        self._shares.setdefault(share)
        self.held += count
        share.held += count

    def _admit(self) -> None:
        """Let pass who may: the first of all shares wherever it waits, the others in order."""
        while self._waiting:
            first = next(iter(self._shares))
            place, share, count = next((entry for entry in self._waiting if entry[1] is first), self._waiting[0])
            if not self._fits(share, count):
                return
            self._waiting = [entry for entry in self._waiting if entry[0] is not place]
            if not place.done():
                self._give(share, count)
                place.set_result(None)


class Share:
    """What one call holds of a room. Release it whatever comes."""

    __slots__ = ("_room", "held")

    def __init__(self, room: Room) -> None:
        self._room = room
        self.held = 0

    async def hold(self, size: int) -> None:
        """Hold room for a reply of `size` bytes so far, as soon as there is any; meanwhile the task's clocks stand."""
        more = size - SMALL_BYTES - self.held
        if more <= 0:
            return
        give_back_large_blocks()
        if not self._room.grant(self, more):
            with paused():
                await self._room.wait(self, more)

    def release(self) -> None:
        """Give everything back."""
        self._room.leave(self)


@cache
def give_back_large_blocks() -> None:
    """Have the C library return each large block to the system when it is freed, as it does to begin with.

    glibc takes the size of the largest block that was ever freed for its new idea of what is large: after one reply of
    8 MB all others come from heaps that keep what they have, a third more in all (mallopt(3), M_MMAP_THRESHOLD).
    """
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def unbounded() -> Share:
    """A share for a call that is alone."""
    return Share(Room(WORKING_BYTES))
