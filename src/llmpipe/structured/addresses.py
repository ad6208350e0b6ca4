"""Formats that are languages of their own: addresses, relative or in any script, templates, pointers, expressions.

uri, uri-reference: RFC 3986 · iri, iri-reference: RFC 3987 · uri-template: RFC 6570 · json-pointer: RFC 6901 ·
relative-json-pointer: as JSON Schema names it · idn-hostname: IDNA 2008 (RFC 5890), by the package idna ·
regex: what Python's `re` compiles, as everywhere in a schema.
"""

from __future__ import annotations

import re
import warnings

from llmpipe.late import late

_ASCII = r"A-Za-z0-9._~!$&'()*+,;=%\-"
_WIDE = _ASCII + "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U000dfffd\U000e1000-\U000efffd"
_PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"  # private use: in queries of IRIs alone
_BAD_PERCENT = late(r"%(?![0-9A-Fa-f]{2})")


def _address(letters: str, more: str = "") -> re.Pattern[str]:
    """A reference as in RFC 3986, with or without a scheme; `more` letters are for queries."""
    host = rf"(?:\[[0-9A-Fa-f:.]+\]|[{letters}]*)"
    authority = rf"//(?:[{letters}:]*@)?{host}(?::[0-9]*)?(?=[/?#]|\Z)"
    return late(
        rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)?(?:{authority}|(?!//))(?P<path>[{letters}:@/]*)"
        rf"(?:\?[{letters}:@/?{more}]*)?(?:\#[{letters}:@/?]*)?"
    )


_URI, _IRI = _address(_ASCII), _address(_WIDE, _PRIVATE)
_POINTER = late(r"(?:/(?:[^~/]|~[01])*)*")
_RELATIVE = late(r"(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)")
_VARIABLE = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*(?::[1-9][0-9]{0,3}|\*)?"
_TEMPLATE = late(
    rf"(?:[^\x00-\x20\"'%<>\\^`{{|}}\x7f]++|%[0-9A-Fa-f]{{2}}|\{{[+#./;?&=,!@|]?{_VARIABLE}(?:,{_VARIABLE})*\}})*"
)
_LONGEST_REGEX = 20_000
_COLON_FIRST = late(r"[^/]*:")


def is_uri(text: str) -> bool:
    """An address with its scheme: `https://example.org/a?b=c#d`, `urn:isbn:0451450523`."""
    found = _URI.fullmatch(text)
    return found is not None and found["scheme"] is not None and not _BAD_PERCENT.search(text)


def is_uri_reference(text: str) -> bool:
    """`../a?b=c`, `//example.org/x`, `#part`, or a whole address."""
    return _is_reference(_URI, text)


def is_iri(text: str) -> bool:
    """As an address with its scheme, in letters of any script: `https://example.org/ä`."""
    found = _IRI.fullmatch(text)
    return found is not None and found["scheme"] is not None and not _BAD_PERCENT.search(text)


def is_iri_reference(text: str) -> bool:
    """As `iri`, or relative."""
    return _is_reference(_IRI, text)


def _is_reference(kind: re.Pattern[str], text: str) -> bool:
    found = kind.fullmatch(text)
    if found is None or _BAD_PERCENT.search(text):
        return False
    return found["scheme"] is not None or not _COLON_FIRST.match(found["path"])


def is_uri_template(text: str) -> bool:
    """`/users/{id}{?page,size*}`."""
    return _TEMPLATE.fullmatch(text) is not None


def is_json_pointer(text: str) -> bool:
    """`/a/0/b~1c`, or empty."""
    return _POINTER.fullmatch(text) is not None


def is_relative_json_pointer(text: str) -> bool:
    """`0`, `1/a`, `2#`."""
    return _RELATIVE.fullmatch(text) is not None


def is_regex(text: str) -> bool:
    """Whether it compiles, and is of at most 20,000 characters: compiling takes about 2 us for each."""
    if len(text) > _LONGEST_REGEX:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def is_idn_hostname(text: str) -> bool:
    """`bücher.example`."""
    import idna

    if len(text) > 1000:
        return False
    try:
        idna.encode(text)
    except (idna.IDNAError, UnicodeError, ValueError):
        return False
    return True
