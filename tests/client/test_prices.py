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


@pytest.mark.parametrize("provider", ["ollama", "vllm", "llamacpp", "lmstudio"])
def test_what_people_run_themselves_is_of_unknown_price_until_the_file_says_0(provider: str) -> None:
    assert cost_of(model(provider, "any"), Usage(10, 10)) is None
    assert cost_of(model(provider, "any", price=Price(D(0), D(0))), Usage()) == 0


@pytest.mark.parametrize("price", [None, Price(D(1), D(2))])
def test_echo_costs_nothing_whatever_the_file_says(price: Price | None) -> None:
    made = model("echo", "any", price=price)
    assert cost_of(made, Usage(1_000_000, 1_000_000)) == cost_of(made, Usage()) == 0
    assert highest_price(made) == Price(D(0), D(0))


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


WRITES = Usage(1_000_000, 0, cached_tokens=200_000, cache_write_tokens=500_000, cache_write_1h_tokens=100_000)


@pytest.mark.parametrize(
    ("price", "dollars"),
    [
        (Price(D(1), D(10)), "1.2"),  # 0.3 + 0.2 + 0.4 x 1.25 + 0.1 x 2
        (Price(D(1), D(10), D("0.1")), "1.02"),
        (Price(D(1), D(10), D("0.1"), D(3)), "1.82"),  # an hour costs no less than a while
        (Price(D(1), D(10), D("0.1"), D(1), D(7)), "1.42"),
        (Price(D(1), D(10), D("0.1"), D(0), D(0)), "0.32"),
    ],
)
def test_what_is_written_to_the_providers_cache_has_prices_of_its_own(price: Price, dollars: str) -> None:
    assert cost(WRITES, price) == D(dollars)


def test_the_snapshot_knows_what_cache_writes_cost() -> None:
    written = Usage(1_000_000, 0, cache_write_tokens=1_000_000)
    for_an_hour = Usage(1_000_000, 0, cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000)
    claude, gpt = model("anthropic", "claude-sonnet-4-5"), model("openai", "gpt-5.6-cyber")
    assert [cost_of(claude, u) for u in (written, for_an_hour)] == [D("7.5"), D(12)]  # its tier above 200,000 tokens
    assert [cost_of(gpt, u) for u in (written, for_an_hour)] == [D("15.625"), D(25)]


def test_cached_input_without_a_price_of_its_own_costs_as_input() -> None:
    assert cost(Usage(1_000_000, 0, cached_tokens=1_000_000), Price(D(1), D(10))) == 1


@pytest.mark.parametrize("usage", [Usage(), Usage(10, None), Usage(None, 10)])
def test_unknown_usage_has_no_cost(usage: Usage) -> None:
    assert cost(usage, Price(D(1), D(10))) is None


def test_every_provider_of_the_snapshot_has_a_row_and_its_prices_are_numbers() -> None:
    data = prices._snapshot()
    named = {*data["providers"], *data["same"]}
    assert named <= set(PROVIDERS)
    assert dt.date.fromisoformat(as_of()) > dt.date(2026, 1, 1)
    for entry in data["providers"].values():
        for row in [*entry["exact"].values(), *entry["prefix"].values()]:
            levels = [row[:5], *(tier[1:] for tier in row[5])]
            for level in levels:
                assert all(D(number) >= 0 for number in level if number is not None)
            assert [tier[0] for tier in row[5]] == sorted(tier[0] for tier in row[5])


def test_a_tier_begins_above_its_number_of_tokens_and_each_price_is_known_by_itself() -> None:
    pro = model("gemini", "gemini-2.5-pro")
    low, high = prices.price_at(pro, 200_000), prices.price_at(pro, 200_001)
    assert low == price_of(pro)
    assert high == highest_price(pro) != low
    assert cost_of(pro, Usage(None, 5)) is None
    assert prices.price_at(model("unheard", "x"), 10**9) is None
    mini = model("openai", "gpt-5-mini")
    assert highest_price(mini) == prices.price_at(mini, 10**9) == price_of(mini)


@pytest.mark.parametrize(
    ("price", "free"),
    [(Price(D(0), D(0)), True), (Price(D(0), D(1)), False), (Price(D(1), D(0)), False), (Price(D(1), D(1)), False)],
)
def test_a_model_is_free_if_both_its_prices_are_known_to_be_0(price: Price, free: bool) -> None:
    assert prices.is_free(model("openai", "gpt-5-mini", price=price)) is free
    assert cost(Usage(), price) == (0 if free else None)
    assert not prices.is_free(model("unheard", "x"))
    assert prices.is_free(model("echo", "x"))


def test_only_the_provider_of_llmpipe_itself_bills_nothing() -> None:
    assert [name for name in (*PROVIDERS, "unheard") if not prices.bills(name)] == ["echo"]


@pytest.mark.parametrize(
    ("price", "usual", "hour", "dearest", "dearest_cached"),
    [
        (Price(D(4), D(9)), "5", "8", "4", "8"),
        (Price(D(4), D(9), cache_write=D(3)), "3", "8", "4", "8"),
        (Price(D(4), D(9), cache_write=D(9)), "9", "9", "9", "9"),
        (Price(D(4), D(9), cache_write=D(9), cache_write_1h=D(1)), "9", "1", "9", "4"),
        (Price(D(4), D(9), cache_write=D(0)), "0", "8", "4", "8"),
        (Price(D(4), D(9), cache_write_1h=D(0)), "5", "0", "4", "4"),
    ],
)
def test_what_a_token_of_input_costs_at_most(
    price: Price, usual: str, hour: str, dearest: str, dearest_cached: str
) -> None:
    assert (prices.write_price(price), prices.write_price(price, hour=True)) == (D(usual), D(hour))
    assert prices.dearest_input(price, asks_for_cache=False) == D(dearest)
    assert prices.dearest_input(price, asks_for_cache=True) == D(dearest_cached)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(100, 0, cached_tokens=60, cache_write_tokens=70), "0.00006006"),  # 40 are written: 60 x 0.001, 40 x 1.5
        (Usage(100, 0, cache_write_tokens=30, cache_write_1h_tokens=50), "0.000145"),  # 70 x 1, 30 x 2.5 for an hour
        (Usage(100, 10, cached_tokens=0, cache_write_tokens=0), "0.0002"),
    ],
)
def test_no_token_of_input_is_counted_twice(usage: Usage, dollars: str) -> None:
    price = Price(D(1), D(10), D("0.001"), D("1.5"), D("2.5"))
    assert cost(usage, price) == D(dollars)


@pytest.mark.parametrize(
    ("id", "known"),
    [
        ("gpt-5-mini-20250807", True),
        ("gpt-5-mini-2025-08-07", True),
        ("gpt-5-mini-2025080", False),
        ("gpt-5-mini-202508077", False),
        ("gpt-5-mini-", False),
    ],
)
def test_a_model_with_a_date_of_eight_digits_costs_as_the_one_without(id: str, known: bool) -> None:
    plain = price_of(model("openai", "gpt-5-mini"))
    assert price_of(model("openai", id)) == (plain if known else None)
