"""The one reading of numbers in data: what JSON Schema calls one value is one value, and no digit is lost.

3   3.0   3e0   30e-1     →  3          0.10   1e-1   →  0.1
-0  -0.0  0e5             →  0          1e22          →  10000000000000000000000
0.1234567890123456789     →  refused: a float would round it
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

MAX_DIGITS = 4300  # what Python itself reads of a whole number
_SHOWN = 40


class UnkeptNumber(ValueError):
    """A number that would be another one after reading: `text` is how it was written, `fault` what is wrong."""

    def __init__(self, text: str, why: str, advice: str = "") -> None:
        self.text, self.advice = text, advice
        self.fault = f"the number {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'} {why}"
        super().__init__(f"{self.fault}; {advice}" if advice else self.fault)


def read_number(text: str) -> int | float:
    """The value of a number with a point or an exponent: an int wherever it is whole. Raises UnkeptNumber."""
    value = float(text)
    if repr(value) == text:
        return whole_if_whole(value)
    exact = _exact(text, value)
    return int(exact) if exact == exact.to_integral_value() else _kept(text, value, exact)


def read_float(text: str) -> float:
    """The same where the document's own form of a number matters, as in a schema that is sent: 3.0 stays 3.0.

    Raises UnkeptNumber.
    """
    value = float(text)
    return value if repr(value) == text else _kept(text, value, _exact(text, value))


def whole_if_whole(value: float) -> int | float:
    """A float as an int where it is whole, by its shortest decimal form: 1e23 is 10 ** 23."""
    return int(Decimal(repr(value))) if value.is_integer() else value


def one_form(value: Any) -> Any:
    """A computed value with its whole floats as ints, as data has them from the start."""
    if type(value) is float:
        return whole_if_whole(value)
    if isinstance(value, dict):
        return {name: one_form(part) for name, part in value.items()}
    return [one_form(part) for part in value] if isinstance(value, list) else value


def _exact(text: str, value: float) -> Decimal:
    if math.isinf(value):
        raise UnkeptNumber(text, "is too large")
    if len(text) > MAX_DIGITS:
        raise UnkeptNumber(text, f"has more than {MAX_DIGITS:,} digits")
    if value == 0:
        if text.lower().partition("e")[0].strip("+-0."):
            raise UnkeptNumber(text, "is too small to be told from 0")
        return Decimal(0)  # whose exponent may be beyond what Decimal takes
    return Decimal(text)


def _kept(text: str, value: float, exact: Decimal) -> float:
    if exact != Decimal(repr(value)):
        why = f"has more digits than a number keeps (it would become {value!r})"
        raise UnkeptNumber(text, why, "write it as a text, in quotes")
    return value
