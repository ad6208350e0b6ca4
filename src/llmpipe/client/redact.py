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

MASK = "[redacted]"
SHORTEST = 6  # a shorter value would take ordinary words out of the log
_SHAPES = (
    r"(?i:\b(?:bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{12,}",
    r"\bsk-[A-Za-z0-9_-]{12,}",
    r"\bsk_(?:live|test)_[A-Za-z0-9]{12,}",
    r"\bgsk_[A-Za-z0-9]{16,}",
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bAIza[A-Za-z0-9_-]{20,}",
    r"\bAKIA[A-Z0-9]{12,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",
    r"(?i:[\"']?\b(?:x-api-key|x-goog-api-key|api[-_]key|apikey|authorization)\b[\"']?\s*[:=]\s*[\"']?)(?!\[redacted)[\w.~+/=-]{12,}",
    r"(?<=://)[^\s/:@\"']{1,100}:[^\s/@\"']{1,200}(?=@)",
)


class Redactor:
    """One compiled expression over all values known so far. Immutable but for `add`; safe to share."""

    def __init__(self, values: Iterable[str] = (), *, shapes: bool = True) -> None:
        self._values: set[str] = set()
        self._shapes = shapes
        self._pattern = re.compile("|".join(_SHAPES)) if shapes else None
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """Know more values; those shorter than SHORTEST are left to the shapes."""
        new = {value for value in values if value and len(value) >= SHORTEST} - self._values
        if not new:
            return
        self._values |= new
        forms = sorted({form for value in self._values for form in forms_of(value)}, key=len, reverse=True)
        parts = [re.escape(form) for form in forms]
        self._pattern = re.compile("|".join([*parts, *(_SHAPES if self._shapes else ())]))

    def text(self, text: str) -> str:
        """`text` without secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

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
