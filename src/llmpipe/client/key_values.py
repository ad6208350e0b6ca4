"""Which values of key variables can be real keys: only these are masked, for data may hold a word for its own sake."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from llmpipe.late import late
from llmpipe.types import Model

SHORTEST = 12  # characters
_PARTS = late(r"[\W_]+")
# What people put into a variable for a server that wants some key, in any order, with any sign between the words.
_FILLERS = frozenset(
    "a an and any anything api apikey auth azure bearer change changeme compatible default demo dev development dummy"
    " empty example fake false foo bar baz for free gemini google groq here i in insert is key keys litellm llama"
    " llamacpp llm lm lmstudio local localhost me mine mistral mock my needed needs new no nokey none not nothing null"
    " ollama on openai optional or pass password placeholder please put replace required requires sample secret server"
    " set sk some studio stub super temp test tester testing tests the this to todo token true unset unused use used"
    " user value vllm what whatever with without your anthropic".split()
)


def can_be_key(value: str) -> bool:
    """Whether a value can be a real key: 12 characters or more, not one word, not made of words that stand for a key.

    One word is letters alone, all small, all large or with a capital first. Words that stand for a key are such as in
    `no-key-required` and `your_api_key_here`; one letter many times over (`sk-xxxx`) counts as such too.
    """
    value = value.strip()
    if len(value) < SHORTEST:
        return False
    if value.isalpha() and value in (value.lower(), value.upper(), value.capitalize()):
        return False
    parts = [part for part in _PARTS.split(value.lower()) if part]
    return not parts or not all(
        part in _FILLERS or (part.isalpha() and len(part) > 2 and len(set(part)) == 1) for part in parts
    )


def public_names(models: Iterable[Model], origins: Iterable[str]) -> frozenset[str]:
    """What a pipeline file says openly, and so is no secret though a key variable hold it: models, providers, hosts."""
    named = {name for model in models for name in (model.name, model.model, model.provider, model.label)}
    for origin in origins:
        parts = urlsplit(origin)
        named |= {origin, parts.netloc, parts.hostname or ""}
    return frozenset(name.lower() for name in named)
