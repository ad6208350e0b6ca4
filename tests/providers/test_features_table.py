"""The tables of docs/structured-output.md are what the code does."""

from __future__ import annotations

from llmpipe.providers.features_table import FEATURES, cell, tables
from llmpipe.structured.dialects import LIMITS
from tests.conftest import REPOSITORY


def test_the_document_is_current() -> None:
    page = (REPOSITORY / "docs" / "structured-output.md").read_text(encoding="utf-8")
    assert tables() in page, "put the output of python -m llmpipe.providers.features_table into it"


def test_the_table_says_what_providers_are_known_to_take() -> None:
    """A few cells against facts A3, so that code and table cannot be wrong together."""
    said = {f.label: [cell(f, name) for name in LIMITS] for f in FEATURES}
    assert said["an optional property"] == ["mapped back", "sent", "sent", "sent"]
    assert said["a list or another value at the root"][0] == "mapped back"
    assert said["`minimum`, `maximum`"] == ["sent", "in the description", "sent", "sent"]
    assert said["more than 24 optional properties"][1] == "by the prompt"
    assert said["more than 16 unions"][1] == "by the prompt"
    assert said["a recursive `$ref`"] == ["sent", "by the prompt", "sent", "sent"]
    assert said["`prefixItems` (a tuple)"] == ["by the prompt", "by the prompt", "sent", "sent"]
    assert said["`allOf`"][0] == "sent, folded in"
