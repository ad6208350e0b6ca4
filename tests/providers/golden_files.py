"""Reads the golden files: what is asked, the bytes that it becomes, the reply, and what the reply means.

NAME.case.json      model, request, whether it is streamed, the URL and headers, and what is expected of the reply
NAME.request.json   the body that is sent
NAME.reply.json     the body that comes back; NAME.reply.txt where it is a stream
endings.json        replies that are no answer, by the cells of facts A4        errors.json   error bodies
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmpipe.providers.table import Target, resolve
from llmpipe.types import HttpReply, LLMRequest, Model

GOLDEN = Path(__file__).parent / "golden"
WIRES = ("openai_chat", "openai_responses", "anthropic", "gemini", "ollama")


def cases(suffix: str) -> list[str]:
    """The names ("wire/NAME") of the cases that have a file with this suffix."""
    found = sorted(GOLDEN.glob(f"*/*{suffix}"))
    assert found, suffix
    return [f"{path.parent.name}/{path.name.removesuffix(suffix)}" for path in found]


def load(name: str) -> Any:
    """A golden file as JSON."""
    return json.loads((GOLDEN / name).read_text("utf-8"))


def target_of(model: dict[str, Any]) -> Target:
    """The target of a model that is written as in a pipeline file."""
    return resolve(Model(name="m", **model))


def request_of(fields: dict[str, Any]) -> LLMRequest:
    """The request of a case."""
    return LLMRequest(model="m", **fields)


def reply_of(status: int, headers: dict[str, str], body: Any) -> HttpReply:
    """A reply whose body is a text as it stands, or a document as JSON."""
    raw = body if isinstance(body, str) else json.dumps(body)
    return HttpReply(status, headers, raw.encode("utf-8"))
