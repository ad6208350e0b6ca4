"""Which values of key variables are masked: those that can be real keys."""

from __future__ import annotations

import pytest

from llmpipe.client.key_values import can_be_key, public_names
from llmpipe.types import Model


@pytest.mark.parametrize(
    ("value", "real"),
    [
        ("a1b2c3d4e5f", False),
        ("a1b2c3d4e5f6", True),
        ("  a1b2c3d4e5  ", False),
        ("  a1b2c3d4e5f6  ", True),
        ("", False),
        ("abcdefghijkl", False),
        ("ABCDEFGHIJKL", False),
        ("Abcdefghijkl", False),
        ("abcdefghijkL", True),
        ("abcdefghijk1", True),
        ("no-key-required", False),
        ("NO-KEY-REQUIRED", False),
        ("your_api_key_here", False),
        ("your.api key:here", False),
        ("your_api_key_there", True),
        ("sk-xxxxxxxxxxxx", False),
        ("sk-my-key-xxx", False),
        ("sk-my-key-xx", True),
        ("sk-my-key-xxy", True),
        ("sk-my-key-111", True),
        ("************", True),
    ],
)
def test_a_value_can_be_a_key(value: str, real: bool) -> None:
    assert can_be_key(value) is real


def test_what_a_pipeline_file_says_is_public_in_small_letters() -> None:
    models = [Model("Fast", "openai", "GPT-5", base_url="https://h.example/v1")]
    assert public_names(models, ["https://H.example:8443", "not an address"]) == {
        "fast", "openai", "gpt-5", "openai/gpt-5", "https://h.example:8443", "h.example:8443", "h.example",
        "not an address", "",
    }  # fmt: skip
    assert public_names([], []) == frozenset()
