"""Takes secrets out of everything that is written down: by value, in every form in which a value may be quoted.

A value is looked for in every spelling (client/spellings.py): raw, URL-encoded, escaped as JSON, Python and HTML do,
broken over lines, in hexadecimal, in base64 (both alphabets, at each of the three offsets at which it may stand in a
longer text). Where a text was cut, what is left of a value at its ends goes too. Beside the known values, what looks
like a key is taken out, for keys that were never ours: a provider that echoes another one, a proxy's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmpipe.client.spellings import fragments, mixed, whole_forms
from llmpipe.late import late

MASK = "[redacted]"
SHORTEST = 6  # a shorter value would take ordinary words out of results
SHORTEST_ALONE = 4  # such a value is taken out of errors and logs where it stands by itself
_END = 400  # characters at the ends of a text in which what a cut has left of a value may begin
_LEAST_LEFT = 8  # characters of a value that was cut; fewer tell nobody anything
# What people put into a variable for a server that wants some key; taken out, it would cost words of every answer.
_PLACEHOLDERS = frozenset(
    "none null test dummy empty fake local unused anything placeholder ollama lm-studio lmstudio not-needed not-used "
    "no-key no-key-required sk-no-key-required dummy-key fake-key test-key api-key your-api-key changeme".split()
)
# What has to be in a text (in lower case) before an expression is worth trying, and the expression. A part named `head`
# stays, so that a line of JSON stays one.
_SHAPES = tuple(
    (marks, late(pattern))
    for marks, pattern in (
        (("bearer", "basic"), r"(?i:\b(?P<head>bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{12,}"),
        (("sk-", "sk_"), r"\b(?:sk-[A-Za-z0-9_-]{12,}|sk_(?:live|test)_[A-Za-z0-9]{12,})"),
        (("gsk_", "hf_"), r"\b(?:gsk|hf)_[A-Za-z0-9]{16,}"),
        (("aiza", "akia"), r"\b(?:AIza[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{12,})"),
        (("gh", "github_pat_"), r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
        (("xox",), r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
        (("eyj",), r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
        (
            ("api-key", "api_key", "apikey", "authorization"),
            r"(?P<head>(?i:\b(?:(?:x-|x-goog-)?api[-_]?key|authorization))\\*[\"']?\s*[:=]\s*\\*[\"']?)[\w.~+/=-]{12,}",
        ),
        (("@",), r"(?<=://)[^\s/:@\"']{1,100}:[^\s/@\"']{1,200}(?=@)"),
    )
)


class Redactor:
    """Takes secrets out of texts. `values` are the known ones; `shapes`: also what looks like a key."""

    def __init__(self, values: Iterable[str] = (), *, shapes: bool = True) -> None:
        self._values: set[str] = set()
        self._shapes = _SHAPES if shapes else ()
        self._forms: tuple[str, ...] = ()
        self._pattern = re.compile("(?!)")
        self._alone: re.Pattern[str] | None = None
        self._fragments: tuple[tuple[str, str], ...] = ()  # (fragment, the value that it is of)
        self._ends: tuple[tuple[str, str, str], ...] = ()  # a value, and what its beginning and its end begin with
        self._mixed: dict[str, re.Pattern[str] | None] = {}
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """Know more values; of short ones see SHORTEST, and words that stand for a key are no secrets."""
        given = {value for value in values if value and value.strip().lower() not in _PLACEHOLDERS}
        new = {value for value in given if len(value) >= SHORTEST_ALONE} - self._values
        if not new:
            return
        self._values |= new
        long = [value for value in self._values if len(value) >= SHORTEST]
        forms = {form for value in long for form in whole_forms(value) if len(form) >= SHORTEST}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)) or "(?!)")
        self._fragments = tuple((fragment, value) for value in long for fragment in fragments(value))
        self._ends = tuple((value, value[:_LEAST_LEFT], value[-_LEAST_LEFT:]) for value in long)
        short = "|".join(re.escape(value) for value in self._values if len(value) < SHORTEST)
        self._alone = re.compile(rf"(?<![\w-])(?:{short})(?![\w-])") if short else None

    def known(self, text: str) -> str:
        """`text` without the known values; what merely looks like a key stays."""
        # Looking for a form with `in` costs a thirtieth of an alternation that finds nothing.
        for form in self._forms:
            if form in text:
                text = self._pattern.sub(MASK, text)
                break
        return self._thoroughly(text) if "\\u" in text or "%" in text or "&" in text else text

    def _thoroughly(self, text: str) -> str:
        """`text` without the values in mixed spellings."""
        for value in dict.fromkeys(value for fragment, value in self._fragments if fragment in text):
            if value not in self._mixed:
                self._mixed[value] = mixed(value)
            pattern = self._mixed[value]
            text = text if pattern is None else pattern.sub(MASK, text)
        return text

    def text(self, text: str) -> str:
        """`text` without secrets."""
        text = self.known(text)
        if "\\" in text or "\n" in text:
            text = self._thoroughly(text)
        for value, first, last in self._ends:
            if first in text[-_END:] or last in text[:_END]:
                text = _without_ends(value, text)
        if self._alone is not None:
            text = self._alone.sub(MASK, text)
        lower = text.lower() if self._shapes else ""
        for marks, pattern in self._shapes:
            for mark in marks:
                if mark in lower:
                    text = pattern.sub(_masked, text)
                    break
        return text

    def data(self, value: Any) -> Any:
        """The same for a nest of mappings and lists; keys of mappings too. Other values stay as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "replace"))
        if isinstance(value, Mapping):
            return {self.data(key): self.data(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.data(entry) for entry in value]
        return value


def _masked(found: re.Match[str]) -> str:
    head = found.groupdict().get("head")
    if head is None:
        return MASK
    return head + (" " if head[-1].isalpha() else "") + MASK


def _without_ends(value: str, text: str) -> str:
    """`text` without what is left of a value where it was cut: its beginning at the end, its end at the beginning."""
    for spelt in dict.fromkeys((value, json.dumps(value)[1:-1])):
        bare = text.rstrip(" .\u2026\"'")
        for size in range(len(spelt) - 1, _LEAST_LEFT - 1, -1):
            if bare.endswith(spelt[:size]):
                text = bare[:-size] + MASK + text[len(bare) :]
                break
        for size in range(len(spelt) - 1, _LEAST_LEFT - 1, -1):
            if text.startswith(spelt[-size:]):
                text = MASK + text[size:]
                break
    return text
