"""Numbers, times and tables as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.report import figures
from llmpipe.report.figures import Column, columns_of, shorten, table


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ("0", "$0"),
        ("1.205", "$1.20"),
        ("0.01", "$0.01"),
        ("0.0042", "$0.0042"),
        ("0.00001", "<$0.0001"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_money_never_rounds_a_cost_to_nothing(usd: str, shown: str) -> None:
    assert figures.money(Decimal(usd)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0s"), (9.96, "10.0s"), (59.4, "59s"), (59.6, "1m 0s"), (291, "4m 51s"), (7260, "2h 1m")],
)
def test_a_duration(seconds: float, shown: str) -> None:
    assert figures.lasted(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (12_345, "12.3k"), (999_949, "999.9k"), (999_950, "1M"), (1_400_000, "1.4M")],
)
def test_a_number_of_tokens(number: int, shown: str) -> None:
    assert figures.tokens(number) == shown


@pytest.mark.parametrize(("number", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB")])
def test_a_size(number: int, shown: str) -> None:
    assert figures.bytes_text(number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.003, "3ms"), (0.82, "0.8s"), (75.2, "1m 15s")])
def test_a_latency(seconds: float | None, shown: str) -> None:
    assert figures.latency(seconds) == shown


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"])), st.integers(0, 60))
def test_a_shortened_text_never_takes_more_columns_than_allowed(text: str, width: int) -> None:
    short = shorten(text, width)
    assert columns_of(short) <= width
    assert short == text or short.endswith("…") or width == 0


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert columns_of("日本") == 4
    assert columns_of("e\u0301") == 1
    assert shorten("日本語テキスト", 5) == "日本…"


def test_a_table_lines_up_and_leaves_out_spare_columns_where_it_is_narrow() -> None:
    columns = [
        Column("step", ["label", "日本"], "left"),
        Column("ok", ["1", "2,000"]),
        Column("p50", ["0.1s", "0.2s"], spare=1),
        Column("p95", ["0.3s", "0.4s"], spare=2),
    ]
    assert table(columns, width=80) == [
        "step      ok   p50   p95",
        "label      1  0.1s  0.3s",
        "日本   2,000  0.2s  0.4s",
    ]
    assert table(columns, width=19) == ["step      ok   p50", "label      1  0.1s", "日本   2,000  0.2s"]
    assert table(columns, width=1) == ["step      ok", "label      1", "日本   2,000"]
