"""Makes numbers that fit bounds and multiples."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

_TRIES = 40


class NotMade(Exception):
    """This way no value comes out; another may be tried."""


def made_number(schema: Mapping[str, Any], rng: random.Random, *, whole: bool) -> int | float:
    """A number within the bounds and a multiple of what is asked. Raises NotMade."""
    step = schema.get("multipleOf", 1 if whole else None)
    low, high = _bounds(schema, step or 1)
    if low > high:
        raise NotMade
    if step is None:
        for digits in (1, 2, 4, 8):
            share = rng.random()
            value = round(low * (1 - share) + high * share, digits)  # their difference may be more than a float holds
            if _within(value, schema):
                return value
        return low / 2 + high / 2
    first, last = math.ceil(low / step), math.floor(high / step)
    for _ in range(_TRIES if first <= last else 0):
        times = rng.randint(first, last)
        value = times * step
        if whole and isinstance(value, float):
            value = int(value) if value.is_integer() else value
        if _within(value, schema) and (not whole or isinstance(value, int)):
            return value
    raise NotMade


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    lows = [schema[word] for word in ("minimum", "exclusiveMinimum") if word in schema]
    highs = [schema[word] for word in ("maximum", "exclusiveMaximum") if word in schema]
    reach = 100 * max(1, math.ceil(step))
    low = max(lows) if lows else (min(highs) - reach if highs and min(highs) < reach else 0)
    high = min(highs) if highs else low + reach
    return low, high


def _within(value: float, schema: Mapping[str, Any]) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)
