"""What the model is told: the schema where it has to stand in the prompt, and what was wrong when it is asked again.

Only our own words, paths and shortened values: API error text never enters a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmpipe.structured.violations import Violation, shorten

MAX_MESSAGE = 4_000
MAX_LISTED = 10
_UNTOLD = frozenset(("$schema", "$id", "$comment"))


def prompt_instructions(document: Mapping[str, Any]) -> str:
    """The part of a prompt that asks for JSON by this schema, for providers that cannot be asked natively.

    Holds the word JSON, without which OpenAI's `json_object` mode answers 400 (facts A3).
    """
    told = {key: value for key, value in document.items() if key not in _UNTOLD}
    schema = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return (
        "Answer with one JSON value that is valid against the JSON Schema below, and with nothing else: "
        "no code fence, no comment, no text before or after it.\n\nJSON Schema:\n" + schema
    )


def reask_for_violations(violations: Sequence[Violation]) -> str:
    """What is said after an answer that does not fit its schema: each path, what was found, what is wanted."""
    lines = [f"- {shorten(f'{v.path}: {v.message}', 400)}{_wanted(v)}" for v in violations[:MAX_LISTED]]
    more = len(violations) - len(lines)
    if more > 0:
        lines.append(f"- and {more} more")
    return _bounded(
        "Your answer does not fit the JSON Schema that was asked for:\n"
        + "\n".join(lines)
        + "\n\nAnswer again with the whole corrected JSON value and nothing else. Keep what was right; invent nothing."
    )


def reask_for_json(reason: str) -> str:
    """What is said after an answer that is not JSON. `reason`: the message of NotJson."""
    return _bounded(
        f"{shorten(reason[:1].upper() + reason[1:], 400)}.\n\n"
        "Answer again with the one complete JSON value that was asked for and nothing else: "
        "no code fence, no comment, no text before or after it."
    )


def reask_for_check(message: str, *, is_json: bool = True) -> str:
    """What is said after an answer that does not pass a check of the pipeline. `message`: what the check says."""
    whole = "JSON value and nothing else" if is_json else "answer and nothing else"
    return _bounded(
        f"Your answer does not pass a check: {shorten(message, 1_000)}\n\n"
        f"Answer again with the whole corrected {whole}. Keep what was right; invent nothing."
    )


def _wanted(violation: Violation) -> str:
    if not violation.wanted or violation.wanted in violation.message:
        return ""
    return f" (wanted: {shorten(violation.wanted, 300)})"


def _bounded(text: str) -> str:
    return shorten(text, MAX_MESSAGE)
