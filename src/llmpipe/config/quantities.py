"""Durations, counts, sizes, shares and amounts: from the words of the file to numbers, once.

The schema's patterns have let the words through already; what they let through, these functions read.
"""

from __future__ import annotations

from decimal import Decimal

from llmpipe.config.nodes import Node
from llmpipe.late import late

_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_DURATION = late(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_FACTORS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY = late(r"([0-9][0-9_]*(?:\.[0-9]+)?)([kKMG]|[KMG]iB)?\Z")


def is_off(node: Node) -> bool:
    """Whether the dial is turned off: 0 or none."""
    return node.value in ("none", 0)


def parse_duration(text: str) -> float:
    """Seconds of "500ms", "30s", "1h30m", "7d". Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"not a duration: {text!r}; write it like 500ms, 30s, 10m, 2h or 7d")
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in parts))


def parse_quantity(text: str) -> int:
    """The number of "3_000_000", "200k", "2M" or "64KiB". Raises ValueError."""
    match = _QUANTITY.match(text)
    number = Decimal(match[1].replace("_", "")) * _FACTORS.get(match[2] or "", 1) if match else None
    if number is None or number != int(number):
        raise ValueError(f"not a whole number: {text!r}")
    return int(number)


def seconds(node: Node) -> float:
    """A duration in seconds; 0 stands for itself."""
    return 0.0 if node.value == 0 else parse_duration(node.value)


def optional_seconds(node: Node) -> float | None:
    """A duration in seconds, None if it is turned off (a duration of no length turns it off, too)."""
    return None if is_off(node) else parse_duration(node.value) or None


def whole(node: Node) -> int:
    """A count or a size. Raises ValueError for a fraction such as 1.0001k."""
    return int(node.value) if node.kind != "str" else parse_quantity(node.value)


def optional_whole(node: Node) -> int | None:
    """A count, None if it is turned off."""
    return None if is_off(node) else whole(node)


def fraction(text: str) -> float:
    """The share (0..1) of a percentage."""
    return float(Decimal(text.removesuffix("%")) / 100)


def dollars(node: Node) -> Decimal | None:
    """An amount exactly as it was written; None if there is no bound. An amount of 0 is a bound."""
    return None if node.value == "none" else Decimal(node.raw)
