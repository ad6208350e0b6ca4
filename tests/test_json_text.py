"""JSON as the standard library writes it, byte for byte."""

from __future__ import annotations

import json
import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.json_text import writer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.booleans(), st.booleans())
def test_it_writes_what_the_standard_library_writes(value: object, compact: bool, ascii: bool, sort: bool) -> None:
    separators = (",", ":") if compact else (", ", ": ")
    standard = json.dumps(value, ensure_ascii=ascii, separators=separators, sort_keys=sort)
    assert writer(compact=compact, ascii_only=ascii, sort_keys=sort)(value) == standard


def test_what_is_no_json_is_refused() -> None:
    write = writer(allow_nan=False, default=lambda value: dict(value))
    assert write({"a": MappingProxyType({"b": (1, 2)})}) == '{"a":{"b":[1,2]}}'
    with pytest.raises(ValueError, match="JSON compliant"):
        write(math.nan)
    with pytest.raises(TypeError):
        writer()(object())
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        write(circle)
