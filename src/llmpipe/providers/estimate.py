"""How many tokens a text is, near enough for plans, budgets and echo; no tokenizer is loaded."""

from __future__ import annotations

import math
import string

from llmpipe.late import late
from llmpipe.types import LLMRequest

PER_TURN = 4  # role and separators


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is: four ASCII characters a token, other characters by their length in UTF-8.

    A letter of two bytes counts half a token, one of three bytes a whole one, an emoji one and a half; 0 for "".
    Real tokenizers differ by a third either way for prose, more for code and rare scripts.
    """
    if text.isascii():
        return math.ceil(len(text) / 4)
    plain = len(text.encode("ascii", "ignore"))
    longer = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return math.ceil(plain / 4 + longer / 2)


def least_tokens(text: str) -> int:
    """A number of tokens that `text` hardly can be below: a token each word, a quarter each character of three bytes.

    Tokenizers do not join words, so a server that counts fewer has not read the whole text.
    """
    words = len(text.split())
    if text.isascii():
        return words
    return max(words, sum(1 for c in text if c >= "\u0800") // 4)


_LETTERS = string.ascii_letters.encode()
_WORD = late(r"[A-Z]?[a-z]+|[A-Z]+")
_DIGITS = late(r"[0-9]+")
_GAP = late(r" +(?![A-Za-z ])|  +")  # a blank before a word is part of it
_UNBROKEN = late(r"[A-Za-z0-9+/=_-]{16,}")
_ASCII, _BEYOND = late(r"[\x00-\x7f]+"), late(r"[^\x00-\x7f]+")
# Tokens a character, where they are fewer than its bytes in UTF-8.
_SCRIPTS = (
    (late("[\u00c0-\u024f]+"), 1.5),  # Latin with marks
    (late("[\u0370-\u03ff]+"), 1.3),  # Greek
    (late("[\u0400-\u045f]+"), 0.8),  # Cyrillic of Slavic languages
    (late("[\u0460-\u052f]+"), 1.5),  # and of others
    (late("[\u0590-\u06ff]+"), 1.4),  # Hebrew, Arabic
    (late("[\u0900-\u097f]+"), 1.4),  # Devanagari
    (late("[\u0e00-\u0e7f]+"), 2.0),  # Thai
    (late("[\u1e00-\u1eff]+"), 2.2),  # Latin of Vietnamese
    (late("[\u2500-\u257f]+"), 1.5),  # lines of boxes
    (late("[\u3000-\u30ff]+"), 1.4),  # kana
    (late("[\u4e00-\u9fff]+"), 2.0),  # Han
    (late("[\uac00-\ud7a3]+"), 1.5),  # Hangul
)


def most_tokens(text: str) -> int:
    """A number of tokens that ordinary text of any script stays below, whoever counts them.

    A byte is a token at the most, a character has its script's share, a word of Latin letters one token and one for
    about each two letters, less the first. The shares are above what the tokenizers of OpenAI (cl100k, o200k), Claude
    2, DeepSeek and Mistral (32k and Tekken) make of prose in 50 languages, code, JSON, numbers, base64, hashes and
    emoji; for English it is 1.8 to 2.5 times the number of o200k.
    """
    plain = text if text.isascii() else "".join(_ASCII.findall(text))
    total = _most_of_ascii(plain) + len(_GAP.findall(text))
    if len(plain) < len(text):
        beyond = "".join(_BEYOND.findall(text))
        total += len(beyond.encode("utf-8", "surrogatepass"))
        for script, share in _SCRIPTS:
            found = "".join(script.findall(beyond))
            total += share * len(found) - len(found.encode())
    return math.ceil(total)


def _most_of_ascii(text: str) -> float:
    data = text.encode("ascii")
    letters = len(data) - len(data.translate(None, _LETTERS))
    total = len(data) - data.count(b" ") - 0.55 * letters + 0.55 * len(_WORD.findall(text))
    return total + sum(_more_if_random(run) for run in _UNBROKEN.findall(text))


def _more_if_random(run: str) -> float:
    """What letters take beyond a word's where they are no words: base64, hashes, sequences."""
    words = _WORD.findall(run)
    pieces = len(words) + len(_DIGITS.findall(run))
    is_mixed, is_endless = len(run) < 3 * pieces, pieces <= 2 and len(run) >= 40
    return 0.2 * sum(map(len, words)) if is_mixed or is_endless else 0.0


def estimate_input(request: LLMRequest) -> int:
    """About how many input tokens `request` is, turns and their separators; a schema is not counted."""
    return sum(estimate_tokens(turn.content) + PER_TURN for turn in request.turns())
