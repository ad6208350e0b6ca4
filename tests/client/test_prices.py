"""Prices: from the file, else the snapshot, else unknown; and what usage costs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from llmpipe.client import prices
from llmpipe.client.prices import as_of, cost, cost_of, highest_price, price_of
from llmpipe.providers.table import PROVIDERS
from llmpipe.types import Model, Price, Usage

D = Decimal


def model(provider: str, id: str, **more: object) -> Model:
    return Model("m", provider, id, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("provider", "id", "input_price", "output_price"),
    [
        ("openai", "gpt-5-mini", "0.25", "2"),
        ("openai", "gpt-5-mini-2025-08-07", "0.25", "2"),
        ("openai_responses", "gpt-5-mini", "0.25", "2"),
        ("anthropic", "claude-sonnet-4-5", "3", "15"),
        ("anthropic", "claude-sonnet-4-5-20250929", "3", "15"),
        ("gemini", "gemini-2.5-pro", "1.25", "10"),
        ("openai", "GPT-5-mini", "0.25", "2"),
    ],
)
def test_listed_prices(provider: str, id: str, input_price: str, output_price: str) -> None:
    price = price_of(model(provider, id))
    assert price is not None
    assert (price.input, price.output) == (D(input_price), D(output_price))
    assert price.as_of == as_of()


@pytest.mark.parametrize(
    ("provider", "id"),
    [
        ("openai", "no-such-model"),
        ("openai", "gpt-5-mini-but-other"),
        ("openai_compatible", "gpt-5-mini"),
        ("unheard", "x"),
    ],
)
def test_an_unknown_price_is_none_and_never_0(provider: str, id: str) -> None:
    assert price_of(model(provider, id)) is None
    assert cost_of(model(provider, id), Usage(1, 1)) is None


@pytest.mark.parametrize("provider", ["echo", "ollama", "vllm", "llamacpp", "lmstudio"])
def test_what_runs_at_home_is_free_also_without_usage(provider: str) -> None:
    assert cost_of(model(provider, "any"), Usage()) == 0


def test_the_same_software_sold_as_a_service_is_not_free() -> None:
    assert price_of(model("ollama", "gpt-oss:120b", base_url="https://ollama.com")) is None
    assert price_of(model("ollama", "gpt-oss:120b", base_url="https://notollama.com")) is not None


def test_the_price_in_the_file_wins() -> None:
    own = Price(D(1), D(2))
    assert price_of(model("openai", "gpt-5-mini", price=own)) is own
    assert highest_price(model("gemini", "gemini-2.5-pro", price=own)) is own
    assert cost_of(model("gemini", "gemini-2.5-pro", price=own), Usage(1_000_000, 0)) == 1


def test_a_long_input_costs_its_tier_and_bounds_use_the_dearest() -> None:
    pro = model("gemini", "gemini-2.5-pro")
    assert cost_of(pro, Usage(100_000, 1_000)) == D("0.135")
    assert cost_of(pro, Usage(300_000, 1_000)) == D("0.765")
    dearest = highest_price(pro)
    assert dearest is not None
    assert dearest.input == D("2.5")


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(1_000_000, 0), "1"),
        (Usage(0, 1_000_000), "10"),
        (Usage(1_000_000, 100_000, cached_tokens=400_000), "1.64"),
        (Usage(100, 0, cached_tokens=500), "0.00001"),  # never more cached than there was
        (Usage(0, 0), "0"),
    ],
)
def test_cost(usage: Usage, dollars: str) -> None:
    assert cost(usage, Price(D(1), D(10), D("0.1"))) == D(dollars)


def test_cached_input_without_a_price_of_its_own_costs_as_input() -> None:
    assert cost(Usage(1_000_000, 0, cached_tokens=1_000_000), Price(D(1), D(10))) == 1


@pytest.mark.parametrize("usage", [Usage(), Usage(10, None), Usage(None, 10)])
def test_unknown_usage_has_no_cost(usage: Usage) -> None:
    assert cost(usage, Price(D(1), D(10))) is None


def test_every_provider_of_the_snapshot_has_a_row_and_its_prices_are_numbers() -> None:
    data = prices._snapshot()
    named = {*data["providers"], *data["free"], *data["same"]}
    assert named <= set(PROVIDERS)
    assert dt.date.fromisoformat(as_of()) > dt.date(2026, 1, 1)
    for entry in data["providers"].values():
        for row in [*entry["exact"].values(), *entry["prefix"].values()]:
            levels = [row[:3], *(tier[1:] for tier in row[3])]
            for level in levels:
                assert all(D(number) >= 0 for number in level if number is not None)
            assert [tier[0] for tier in row[3]] == sorted(tier[0] for tier in row[3])
