"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is most like `word`, or None if none is alike."""
    known = list(dict.fromkeys(names))
    folded = {name.lower().replace("-", "_"): name for name in known}
    same = folded.get(word.lower().replace("-", "_"))
    if same is not None:
        return same
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The hint beside the caret, or "" if nothing is alike."""
    name = nearest(word, names)
    return f"did you mean '{prefix}{name}'?" if name is not None else ""


def listed(names: Iterable[str], *, limit: int = 12) -> str:
    """Names in one line, the end left out where they are many; "none" if there are none."""
    known = list(names)
    shown = ", ".join(known[:limit])
    return (f"{shown}, ..." if len(known) > limit else shown) or "none"
