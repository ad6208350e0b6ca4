"""The page of errors is the one that the code makes, and what it says of endings is what the wires do."""

from __future__ import annotations

import json

import pytest

from llmpipe.client.errors_table import errors_page
from llmpipe.errors import CallFailed, ContentFiltered, IncompleteAnswer, Refused, Truncated, every_class
from llmpipe.providers.rules import RULES
from llmpipe.providers.table import resolve
from llmpipe.providers.wires import decode
from llmpipe.types import HttpReply, Model
from tests.conftest import REPOSITORY
from tests.faults import replies

KINDS = {"length": Truncated, "refusal": Refused, "filtered": ContentFiltered, "unknown": IncompleteAnswer}


def test_the_committed_page_is_current() -> None:
    assert (REPOSITORY / "docs/errors.md").read_text(encoding="utf-8") == errors_page()


def test_every_class_of_the_package_and_every_code_of_a_rule_stands_in_it() -> None:
    page = errors_page()
    for kind in every_class(CallFailed):
        if kind.__module__ == "llmpipe.errors" and "code" in vars(kind):
            assert f"| {kind.code} | `{kind.__name__}` | {kind.title} |" in page
    for rule in RULES:
        for code in rule.codes:
            assert f"`{code}`" in page


@pytest.mark.parametrize("wire", replies.WIRES)
@pytest.mark.parametrize("how", KINDS)
def test_an_ending_is_of_the_class_that_the_page_names(wire: str, how: str) -> None:
    if (wire, how) in {("ollama", "refusal"), ("ollama", "filtered"), ("anthropic", "filtered"), ("gemini", "refusal")}:
        return  # not among the words of that wire
    target = resolve(Model("m", {"openai_chat": "openai"}.get(wire, wire), "test"))
    with pytest.raises(KINDS[how]):
        decode(HttpReply(200, {}, json.dumps(replies.ended(wire, how)).encode()), target)
