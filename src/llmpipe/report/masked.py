"""How it is said that the value of a key variable was met in rows, responses or results, and masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llmpipe.engine.results import MaskedCount
from llmpipe.report.figures import plural, said


def masked_lines(found: Iterable[MaskedCount | Mapping[str, Any]]) -> list[str]:
    """One line for each variable and kind, of the counts of a report or those of `run.json`."""
    counts = (MaskedCount(**one) if isinstance(one, Mapping) else one for one in found)
    return [f"{plural(one.count, one.what)} contained the value of {said(one.variable, 60)}; masked" for one in counts]
