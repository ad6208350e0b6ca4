"""What tokens cost: the price in the pipeline file, else a dated snapshot that ships with the package, else unknown.

An unknown price is None, never 0. Local providers are free by a row of the snapshot.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmpipe.frozen import frozen
from llmpipe.types import Model, Price, Usage

MILLION = Decimal(1_000_000)
_FREE: list[Any] = ["0", "0", None, []]


@frozen
class Tier:
    """The prices of a call whose input is longer than `above` tokens; they hold for all of its tokens."""

    above: int
    price: Price


def price_of(model: Model) -> Price | None:
    """The price of a model's tokens, or None if nobody knows. The pipeline file's own price wins."""
    return _known(model)[0] if model.price is None else model.price


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
    (facts A5: cached tokens are part of the input). A free model costs 0 whatever was used.
    """
    if price is None:
        return None
    if price.input == price.output == 0:
        return Decimal(0)
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    total = (usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output
    return total / MILLION


def as_of() -> str:
    """The day of the snapshot, as an ISO date."""
    return str(_snapshot()["as_of"])


@lru_cache(maxsize=1)
def _snapshot() -> dict[str, Any]:
    text = Path(__file__).with_name("prices.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return data


def _free_row(provider: str, base_url: str) -> list[Any] | None:
    """The row of what people run themselves; None where the same software is sold as a service, and for all others."""
    sold_at = _snapshot()["free"].get(provider)
    if sold_at is None:
        return None
    host = urlsplit(base_url).hostname or ""
    return None if any(host == name or host.endswith("." + name) for name in sold_at) else _FREE


def _row(provider: str, model: str) -> list[Any] | None:
    """The row [input, output, cached_input, tiers] of a model: by its exact id, without its date, by its beginning.

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
    return _listed(model.provider, model.model, model.base_url or "")


@lru_cache(maxsize=1024)
def _listed(provider: str, id: str, base_url: str) -> tuple[Price | None, tuple[Tier, ...]]:
    """What the snapshot knows: the price, and those of longer inputs."""
    row = _free_row(provider, base_url) or _row(provider, id)
    if row is None:
        return None, ()
    return _price(row), tuple(Tier(int(above), _price(prices)) for above, *prices in row[3])


def _price(row: list[Any]) -> Price:
    cached = None if row[2] is None else Decimal(row[2])
    return Price(Decimal(row[0]), Decimal(row[1]), cached, as_of())
