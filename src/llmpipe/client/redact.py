"""Takes secrets out of everything that is written down: by value, in every form in which a value may be quoted.

A value is looked for raw, URL-encoded, escaped as JSON and Python do, and in base64 (both alphabets, at each of the
three offsets at which it may stand in a longer text). Beside the known values, what looks like a key is taken out too,
for keys that were never ours: a provider that echoes another one, a proxy's own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from llmpipe.late import late

MASK = "[redacted]"
SHORTEST = 6  # a shorter value would take ordinary words out of the log
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
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """Know more values; those shorter than SHORTEST are left to the shapes."""
        new = {value for value in values if value and len(value) >= SHORTEST} - self._values
        if not new:
            return
        self._values |= new
        forms = {form for value in self._values for form in forms_of(value)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))

    def known(self, text: str) -> str:
        """`text` without the known values; what merely looks like a key stays."""
        # Looking for a form with `in` costs a thirtieth of an alternation that finds nothing.
        for form in self._forms:
            if form in text:
                return self._pattern.sub(MASK, text)
        return text

    def text(self, text: str) -> str:
        """`text` without secrets."""
        text = self.known(text)
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


def forms_of(value: str) -> set[str]:
    """Every spelling of a value that is looked for."""
    plain = {value, value.strip()}
    quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    quoted |= {re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), form) for form in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    escaped |= {json.dumps(form)[1:-1] for form in escaped} | {form.replace("/", "\\/") for form in escaped}
    hexed = {value.encode().hex(), value.encode().hex().upper()}
    return {form for form in plain | quoted | escaped | hexed | _base64_forms(value) if len(form) >= SHORTEST}


def _base64_forms(value: str) -> set[str]:
    """The characters of base64 that depend on the value alone, for each offset in a group of three bytes."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = set()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode().rstrip("=")
        first = (offset * 8 + 5) // 6
        last = (offset + len(raw)) * 8 // 6
        standard = encoded[first:last]
        if len(standard) >= 8:
            forms |= {standard, standard.replace("+", "-").replace("/", "_")}
    return forms
