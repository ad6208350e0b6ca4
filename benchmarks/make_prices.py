"""Writes src/llmpipe/client/prices.json from the genai-prices package; `make lock setup` brings its newest version.

Kept are text models with a price for input and output, of the providers that llmpipe has rows for. Where a price
depends on the day, the one of the snapshot's day is taken; ids that are matched by other means than equality or their
beginning are left out, so that an unknown price stays unknown.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data, types

TARGET = Path(__file__).resolve().parent.parent / "src/llmpipe/client/prices.json"
SOURCES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "azure": "azure",
    "openrouter": "openrouter",
    "groq": "groq",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "together": "together",
}
ALIASES = {"openai_responses": "openai"}


def number(value: Decimal | None) -> str | None:
    """A price as a short decimal string; a string, so that no float rounds it."""
    return None if value is None else format(value.normalize(), "f")


def level(price: Any, above: int) -> Decimal | None:
    """The price per million tokens for an input longer than `above`."""
    if not isinstance(price, types.TieredPrices):
        return price  # type: ignore[no-any-return]
    fitting = [tier.price for tier in price.tiers if tier.start <= above]
    return fitting[-1] if fitting else price.base


def row(prices: types.ModelPrice) -> list[Any] | None:
    """[input, output, cached_input, cache_write, cache_write_1h, tiers] or None for what is no text model.

    A tier is [above, input, output, cached_input, cache_write, cache_write_1h].
    """
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    parts = [getattr(prices, name, None) for name in names]
    if parts[0] is None or parts[1] is None:
        return None
    starts = sorted({t.start for p in parts if isinstance(p, types.TieredPrices) for t in p.tiers})
    tiers = [[start, *(number(level(p, start)) for p in parts)] for start in starts]
    return [*(number(level(p, -1)) for p in parts), tiers]


def names(clause: Any) -> tuple[set[str], set[str]]:
    """The exact ids and the beginnings that a clause matches; what it says otherwise is left out."""
    if isinstance(clause, types.ClauseEquals):
        return {clause.equals.lower()}, set()
    if isinstance(clause, types.ClauseStartsWith):
        return set(), {clause.starts_with.lower()}
    exact: set[str] = set()
    starts: set[str] = set()
    for part in clause.or_ if isinstance(clause, types.ClauseOr) else ():
        more_exact, more_starts = names(part)
        exact |= more_exact
        starts |= more_starts
    return exact, starts


def entry(provider: types.Provider, day: dt.datetime) -> dict[str, dict[str, list[Any]]]:
    """The rows of a provider by exact id and by the beginning of an id."""
    found: dict[str, dict[str, list[Any]]] = {"exact": {}, "prefix": {}}
    for model in provider.models:
        prices = row(model.get_prices(day))
        if prices is None:
            continue
        exact, starts = names(model.match)
        for id in exact | {model.id.lower()}:
            found["exact"].setdefault(id, prices)
        for start in starts:
            found["prefix"].setdefault(start, prices)
    return {kind: dict(sorted(rows.items())) for kind, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as-of", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date())
    day = parser.parse_args().as_of
    moment = dt.datetime.combine(day, dt.time(12), dt.UTC)
    known = {provider.id: provider for provider in data.providers}
    providers = {name: entry(known[source], moment) for name, source in SOURCES.items()}
    head = {
        "as_of": day.isoformat(),
        "source": f"genai-prices {version('genai-prices')}",
        "same": ALIASES,
    }
    rows = ",\n".join(
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f'    "{kind}": {{\n{lines(table)}\n    }}' for kind, table in tables.items())
        + "\n  }"
        for name, tables in providers.items()
    )
    TARGET.write_text(json.dumps(head)[:-1] + ', "providers": {\n' + rows + "\n}}\n", encoding="utf-8")


def lines(table: dict[str, list[Any]]) -> str:
    """One model a line, so that a new snapshot reads as a diff of prices."""
    return ",\n".join(f"      {json.dumps(id)}: {json.dumps(prices)}" for id, prices in table.items())


if __name__ == "__main__":
    main()
