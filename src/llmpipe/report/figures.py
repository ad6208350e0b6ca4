"""Numbers, times, money and tables as people read them, in a given number of columns."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from llmpipe.report.plain import plain
from llmpipe.shell_text import quoted


def count(number: int) -> str:
    """5000 -> "5,000"."""
    return f"{number:,}"


def tokens(number: int) -> str:
    """850 -> "850", 12_345 -> "12.3k", 1_400_000 -> "1.4M"."""
    steps = ((1000, 1, ""), (999_950, 10**3, "k"), (999_950_000, 10**6, "M"), (math.inf, 10**9, "G"))
    unit, sign = next((unit, sign) for below, unit, sign in steps if number < below)
    return f"{number / unit:.1f}".removesuffix(".0") + sign


def money(usd: Decimal) -> str:
    """Dollars with cents; four digits below a cent, so that a small cost never reads as none."""
    if usd == 0:
        return "$0"
    if abs(usd) >= Decimal("0.01"):
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if abs(usd) >= Decimal("0.0001") else "<$0.0001"


def cost(whole: Decimal | None, known: Decimal) -> str:
    """What something cost; where a part of it is not known, the known part as a lower bound, and never $0."""
    if whole is not None:
        return money(whole)
    return f"at least {money(known)}" if known else "unknown"


def bytes_text(number: int) -> str:
    """1536 -> "1.5 KiB"."""
    size, unit = float(number), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, bigger
    return f"{size:.1f} {unit}" if unit != "B" else f"{number} B"


def lasted(seconds: float) -> str:
    """0.42 -> "0.4s", 291 -> "4m 51s", 7260 -> "2h 1m"."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"


def latency(seconds: float | None) -> str:
    """A percentile: "-" where nothing was measured."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f}ms" if seconds < 0.0995 else lasted(seconds)


def clock(seconds: float) -> str:
    """102 -> "00:01:42"."""
    whole = max(int(seconds), 0)
    return f"{whole // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"


def moment(epoch: float | None) -> str:
    """Seconds since the epoch -> "2026-11-10 03:15:00" in local time; "-" for None."""
    if epoch is None:
        return "-"
    return datetime.fromtimestamp(epoch, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, word: str, many: str | None = None) -> str:
    """ "1 item", "2 items"."""
    return f"{count(number)} {word if number == 1 else many or word + 's'}"


def columns_of(text: str) -> int:
    """How many terminal columns a text takes: wide characters two, combining marks and joiners none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, with "…" where it was cut."""
    if columns_of(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += columns_of(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def fill(text: str, width: int, *, right: bool = False) -> str:
    """The text padded with spaces to `width` columns."""
    space = " " * max(width - columns_of(text), 0)
    return space + text if right else text + space


def said(text: object, width: int = 300) -> str:
    """Text from a row, a reply or a file name: harmless, on one line, at most `width` columns."""
    return shorten(plain(text), width)


class Column(NamedTuple):
    """A column of a table: `spare` columns are left out, highest first, where the width does not suffice."""

    title: str
    cells: Sequence[str]
    align: Literal["left", "right"] = "right"
    spare: int = 0
    widest: int = 40


def table(columns: Iterable[Column], *, width: int) -> list[str]:
    """The lines of a table, title line first, no line wider than `width` while there are spare columns."""
    kept = list(columns)
    while True:
        widths = [min(max(columns_of(t) for t in (c.title, *c.cells)), c.widest) for c in kept]
        spare = max((c.spare for c in kept), default=0)
        if sum(widths) + 2 * (len(kept) - 1) <= width or not spare:
            break
        kept = [c for c in kept if c.spare != spare]
    rows = zip(*((c.title, *c.cells) for c in kept), strict=True)
    return [_row(row, kept, widths) for row in rows]


def _row(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = (
        fill(shorten(cell, width), width, right=column.align == "right")
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return "  ".join(parts).rstrip()


def item_command(show: str, run: str, step: str, key: str) -> str:
    """The command that tells an item's story; the list of failures where the key cannot be typed."""
    words = [show, quoted(said(run)), quoted(said(step))]
    if not key:
        return " ".join(words)
    typed = said(key, 100) == key and not key.startswith("-")
    return " ".join([*words, quoted(key) if typed else "--status failed"])
