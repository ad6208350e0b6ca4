"""How many tokens a text is, near enough for plans, budgets and echo; no tokenizer is loaded."""

from __future__ import annotations

import math

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


def estimate_input(request: LLMRequest) -> int:
    """About how many input tokens `request` is, turns and their separators; a schema is not counted."""
    return sum(estimate_tokens(turn.content) + PER_TURN for turn in request.turns())
