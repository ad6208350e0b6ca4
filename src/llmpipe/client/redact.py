"""Takes real keys out of everything that is written down: by value, in every form in which a value may be quoted.

A value is looked for in every spelling (client/spellings.py): raw, URL-encoded, escaped as JSON, Python and HTML do,
broken over lines, with characters between that nobody sees, in hexadecimal, in base64 (both alphabets, at each of the
three offsets at which it may stand in a longer text). Only what can be a real key is looked for (client/key_values.py),
and only where it is a whole token: data may hold the same letters within a longer name.

Data (rows, responses, results) loses such values and nothing else: `known`, `known_data`. Messages lose more: what a
cut has left of a value at the ends of a text, and what looks like a key, for keys that were never ours: a provider that
echoes another one, a proxy's own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from llmpipe.client.key_values import can_be_key
from llmpipe.client.spellings import (
    UNSEEN,
    UNSEEN_ESCAPED,
    encoded_forms,
    fragments,
    is_within_a_token,
    mixed,
    spread,
    whole_forms,
)
from llmpipe.late import late

MASK = "[redacted]"
_END = 400  # characters at the ends of a text in which what a cut has left of a value may begin
_LEAST_LEFT = 8  # characters of a value that was cut; fewer tell nobody anything
_UNSEEN = late(UNSEEN)
_UNSEEN_ESCAPED = late(rf"\\{UNSEEN_ESCAPED}")
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
    """Takes keys out of texts.

    `values` are those of key variables, by the variable's name where it is known; what cannot be a real key, or is one
    of the `public` names (in lower case), is left alone. `shapes`: messages also lose what looks like a key.
    """

    def __init__(
        self,
        values: Mapping[str, str] | Iterable[str] = (),
        *,
        shapes: bool = True,
        public: frozenset[str] = frozenset(),
    ) -> None:
        self._shapes = _SHAPES if shapes else ()
        self._public = public
        self._known: dict[str, _Key] = {}
        self._keys: tuple[_Key, ...] = ()
        self.add(values)

    def add(self, values: Mapping[str, str] | Iterable[str]) -> None:
        """Know more values."""
        named = values.items() if isinstance(values, Mapping) else (("", value) for value in values)
        fresh = [(name, value) for name, value in named if value not in self._known and self.is_masked(value)]
        self._known.update((value, _Key(name, value)) for name, value in fresh)
        if fresh:  # longer ones first: one may begin with another
            self._keys = tuple(sorted(self._known.values(), key=lambda key: -len(key.value)))

    def is_masked(self, value: str) -> bool:
        """Whether a value of a key variable is taken out of what is written."""
        return can_be_key(value) and value.strip().lower() not in self._public

    def known(self, text: str) -> str:
        """`text` without the known values, and the same object if it has none; what merely looks like a key stays."""
        for key in self._keys:
            text = key.masked(text)
        return text

    def known_data(self, value: Any) -> Any:
        """The same for a nest of mappings and lists; keys of mappings too, and numbers."""
        return _walked(value, self.known)

    def names(self, *texts: str) -> tuple[str, ...]:
        """The variables whose values the texts hold."""
        return tuple(key.name for key in self._keys if any(key.masked(text) is not text for text in texts))

    def places(self, text: str) -> list[str | None]:
        """Which value each mask of `known(text)` stands for: a digest of it, or None where the mask came as it is.

        Empty if some of them stand for another spelling of a value: then the text cannot be had back.
        """
        found: list[str | None] = []
        at = 0
        pieces = self.known(text).split(MASK)
        for before, after in itertools.pairwise(pieces):
            at += len(before)
            for value, digest in (*((key.value, key.digest) for key in self._keys), (MASK, None)):
                if text.startswith(value + after, at):
                    found.append(digest)
                    at += len(value)
                    break
            else:
                return []
        return found if self.restored(MASK.join(pieces), found) == text else []

    def restored(self, text: str, places: Sequence[str | None]) -> str:
        """The text that `known` masked, where the values are still the same; what they were replaced by never."""
        values = {key.digest: key.value for key in self._keys}
        pieces = text.split(MASK)
        if len(pieces) != len(places) + 1:
            return text
        masks = [values.get(place, MASK) if place is not None else MASK for place in places]
        return "".join(itertools.chain(*zip(pieces, [*masks, ""], strict=True)))

    def text(self, text: str) -> str:
        """A message without secrets."""
        text = self.known(text)
        for key in self._keys:
            if key.value[:_LEAST_LEFT] in text[-_END:] or key.value[-_LEAST_LEFT:] in text[:_END]:
                text = _without_ends(key.value, text)
        lower = text.lower() if self._shapes else ""
        for marks, pattern in self._shapes:
            for mark in marks:
                if mark in lower:
                    text = pattern.sub(_masked, text)
                    break
        return text

    def data(self, value: Any) -> Any:
        """The same for a nest of mappings and lists; keys of mappings too. Other values stay as they are."""
        return _walked(value, self.text)


class _Key:
    """One value, and what it may look like."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value
        self.digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        self._encoded = frozenset(encoded_forms(value))
        self._forms = tuple(sorted(whole_forms(value) | self._encoded, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))
        self._fragments = tuple(fragments(value))
        self._spread: re.Pattern[str] | None = None
        self._mixed: re.Pattern[str] | None = None
        self._has_mixed = True

    def masked(self, text: str) -> str:
        """`text` without the value in any spelling; the same object if it has none."""
        # Looking for a form with `in` costs a thirtieth of an alternation that finds nothing.
        for form in self._forms:
            if form in text:
                text = self._without(self._pattern, text)
                break
        if not text.isprintable() and _UNSEEN.search(text):
            seen = _UNSEEN.sub("", text)
            if any(form in seen for form in self._forms):
                self._spread = self._spread or spread(self._forms)
                text = self._without(self._spread, text)
        if "\\" in text or "\n" in text or "%" in text or "&" in text:
            hidden = "\\u" in text and _UNSEEN_ESCAPED.search(text)
            if hidden or any(fragment in text for fragment in self._fragments):
                text = self._mixed_out(text)
        return text

    def _mixed_out(self, text: str) -> str:
        if self._mixed is None and self._has_mixed:
            self._mixed = mixed(self.value)
            self._has_mixed = self._mixed is not None
        return text if self._mixed is None else self._without(self._mixed, text)

    def _without(self, pattern: re.Pattern[str], text: str) -> str:
        hits = 0

        def masked(found: re.Match[str]) -> str:
            nonlocal hits
            if found.group() not in self._encoded and is_within_a_token(self.value, found):
                return found.group()
            hits += 1
            return MASK

        without = pattern.sub(masked, text)
        return without if hits else text


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, bytes):
        return change(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return _walked_mapping(value, change)
    if isinstance(value, list | tuple | set | frozenset):
        return [_walked(entry, change) for entry in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if change(text := repr(value)) == text else MASK
    return value


def _walked_mapping(value: Mapping[Any, Any], change: Callable[[str], str]) -> dict[Any, Any]:
    """Names that become equal are numbered: no entry is lost."""
    found: dict[Any, Any] = {}
    for name, entry in value.items():
        masked = name if not isinstance(name, str) else change(name)
        number = 1
        while masked in found or (masked != name and masked in value):
            number += 1
            masked = f"{change(name)} {number}"
        found[masked] = _walked(entry, change)
    return found


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
