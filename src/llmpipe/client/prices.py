"""What tokens cost: the price in the pipeline file, else a dated snapshot that ships with the package, else unknown.

An unknown price is None, never 0; what people run themselves has a price only if the pipeline file says so.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmpipe.frozen import frozen
from llmpipe.providers.rows import PROVIDERS
from llmpipe.types import Model, Price, Usage

MILLION = Decimal(1_000_000)
_WRITE, _WRITE_1H = Decimal("1.25"), Decimal(2)
_NOTHING = Price(Decimal(0), Decimal(0))


@frozen
class Tier:
    """The prices of a call whose input is longer than `above` tokens; they hold for all of its tokens."""

    above: int
    price: Price


def price_of(model: Model) -> Price | None:
    """The price of a model's tokens, or None if nobody knows. The pipeline file's own price wins.

    A provider that bills nothing costs nothing, whatever the file says.
    """
    if not bills(model.provider):
        return _NOTHING
    return _known(model)[0] if model.price is None else model.price


def bills(provider: str) -> bool:
    """False if the provider is llmpipe itself, which nobody pays."""
    row = PROVIDERS.get(provider)
    return row is None or row.bills


def is_free(model: Model) -> bool:
    """True if its price is known to be 0."""
    price = price_of(model)
    return price is not None and price.input == price.output == 0


def highest_price(model: Model) -> Price | None:
    """The price of the dearest tier, for upper bounds."""
    tiers = _tiers(model)
    return tiers[-1].price if tiers else price_of(model)


def cost_of(model: Model, usage: Usage) -> Decimal | None:
    """USD for `usage` of `model`; None if the price is unknown, or the provider did not say how much was used.

    The tier is chosen by the input of this call, as providers with tiers do.
    """
    return cost(usage, price_at(model, usage.input_tokens or 0))


def price_at(model: Model, input_tokens: int) -> Price | None:
    """The price of a call with so much input; None if nobody knows."""
    price = price_of(model)
    for tier in _tiers(model):
        if input_tokens > tier.above:
            price = tier.price
    return price


def cost(usage: Usage, price: Price | None) -> Decimal | None:
    """USD for `usage` at `price`; None if either is unknown.

    Tokens read from the provider's prompt cache cost `cached_input`, or the price of input where that is unknown
    (facts A5: cached tokens are part of the input); those written to it as `write_price` says. A free model costs 0
    whatever was used.
    """
    if price is None:
        return None
    if price.input == price.output == 0:
        return Decimal(0)
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    written = min(usage.cache_write_tokens or 0, usage.input_tokens - cached)
    for_1h = min(usage.cache_write_1h_tokens or 0, written)
    total = (usage.input_tokens - cached - written) * price.input + cached * cached_price
    total += (written - for_1h) * write_price(price) + for_1h * write_price(price, hour=True)
    return (total + usage.output_tokens * price.output) / MILLION


def write_price(price: Price, *, hour: bool = False) -> Decimal:
    """What a million tokens cost that are written to the provider's prompt cache, there to stay for an `hour` or less.

    Where it is unknown, as the providers charge that charge for it: 1.25 times the input, 2 times for an hour
    (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing).
    """
    usual = price.input * _WRITE if price.cache_write is None else price.cache_write
    if not hour:
        return usual
    return max(usual, price.input * _WRITE_1H) if price.cache_write_1h is None else price.cache_write_1h


def dearest_input(price: Price, *, asks_for_cache: bool) -> Decimal:
    """What a million tokens of input cost at most, if the provider writes them all to its cache."""
    if asks_for_cache:
        return max(price.input, write_price(price, hour=True))
    return price.input if price.cache_write is None else max(price.input, price.cache_write)


def as_of() -> str:
    """The day of the snapshot, as an ISO date."""
    return str(_snapshot()["as_of"])


@lru_cache(maxsize=1)
def _snapshot() -> dict[str, Any]:
    text = Path(__file__).with_name("prices.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return data


def _row(provider: str, model: str) -> list[Any] | None:
    """The row of a model (`_price` says what it has): by its exact id, without its date, by its beginning.

    The letters' case does not count. Of several listed beginnings the longest wins.
    """
    data = _snapshot()
    entry = data["providers"].get(data["same"].get(provider, provider))
    if entry is None:
        return None
    id = model.lower()
    starts = [start for start in entry["prefix"] if id.startswith(start)]
    longest = entry["prefix"][max(starts, key=len)] if starts else None
    found: list[Any] | None = entry["exact"].get(id) or _dated(entry["exact"], id) or longest
    return found


def _dated(exact: dict[str, list[Any]], id: str) -> list[Any] | None:
    """`gpt-5-mini-2025-08-07` is `gpt-5-mini`, `claude-x-20250929` is `claude-x`."""
    head = id.rstrip("0123456789-")
    tail = id[len(head) :]
    if sum(c.isdigit() for c in tail) != 8:
        return None
    return exact.get(head)


def _tiers(model: Model) -> tuple[Tier, ...]:
    return () if model.price is not None else _known(model)[1]


def _known(model: Model) -> tuple[Price | None, tuple[Tier, ...]]:
    return _listed(model.provider, model.model)


@lru_cache(maxsize=1024)
def _listed(provider: str, id: str) -> tuple[Price | None, tuple[Tier, ...]]:
    """What the snapshot knows: the price, and those of longer inputs."""
    row = _row(provider, id)
    if row is None:
        return None, ()
    return _price(row), tuple(Tier(int(above), _price(prices)) for above, *prices in row[5])


def _price(row: list[Any]) -> Price:
    """The price in a row that begins with input, output, cached_input, cache_write, cache_write_1h."""
    cached, write, write_1h = (None if value is None else Decimal(value) for value in row[2:5])
    return Price(Decimal(row[0]), Decimal(row[1]), cached, write, write_1h, as_of())
