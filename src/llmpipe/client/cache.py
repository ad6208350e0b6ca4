"""What a cache of responses must offer, and the one that lives in memory."""

from __future__ import annotations

import time
from typing import Protocol


class Cache(Protocol):
    """Sealed answers by key (client/encoding.py), and claims by which buyers of the same answer wait for each other.

    No method raises for a fault of the storage: what cannot be read is a miss, what cannot be written is not kept.
    """

    async def get(self, key: str) -> bytes | None:
        """What was put under `key`, or None."""

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`; returns when a killed process would not lose it."""

    def claim(self, key: str, ttl_s: float) -> bool:
        """Whether the caller may now buy the answer; False while someone else's claim holds. It ends after `ttl_s`."""

    def holds(self, key: str) -> bool:
        """Whether what the caller has claimed is still for it to buy; if not, somebody else may have bought it."""

    def release(self, key: str) -> None:
        """Give a claim back; nothing happens if there is none."""

    def close(self) -> None:
        """Let go of what the cache holds open."""


class SimpleMemoryCache:
    """A cache that ends with the process, the default of a bare client; without `max_entries` nothing is evicted."""

    def __init__(self, max_entries: int | None = None) -> None:
        self._max = max_entries
        self._entries: dict[str, bytes] = {}
        self._claims: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> bytes | None:
        """What was put under `key`, or None."""
        return self._entries.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value`; beyond `max_entries`, the entry put first goes."""
        self._entries.pop(key, None)
        self._entries[key] = value
        while self._max is not None and len(self._entries) > self._max:
            del self._entries[next(iter(self._entries))]

    def claim(self, key: str, ttl_s: float) -> bool:
        """Whether the caller may now buy the answer: callers in several threads or event loops may share this cache."""
        now = time.monotonic()
        mine = now + ttl_s
        if self._claims.setdefault(key, mine) == mine:
            return True
        if self._claims[key] > now:
            return False
        self._claims[key] = mine
        return True

    def holds(self, key: str) -> bool:
        """Always: whoever could take over stands still together with the caller."""
        return True

    def release(self, key: str) -> None:
        """Give a claim back."""
        self._claims.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def close(self) -> None:
        """Nothing is held open."""
