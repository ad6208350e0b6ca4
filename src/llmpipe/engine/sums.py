"""What is counted while a run is only gone through: exchanges that would be made, answers that are there, failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from llmpipe.client.rehearsal import Asking
from llmpipe.types import LLMResponse, Price


@dataclass(slots=True)
class Asked:
    """Exchanges that would be made with one model at one price."""

    calls: int = 0
    input_tokens: int = 0
    output_limit: int = 0  # sum over the calls that have one
    unlimited: int = 0  # calls that have none


@dataclass(slots=True)
class Seen:
    """What answers of one model that were there have taken; only those of which the provider said it."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class Held:
    """The sum of what exchanges take at least and may take at most, against a budget."""

    least_tokens: int = 0
    least_usd: Decimal = Decimal(0)
    most_tokens: int = 0
    most_usd: Decimal = Decimal(0)
    largest_tokens: int = 0  # of one exchange
    largest_usd: Decimal = Decimal(0)
    refused: str = ""


@dataclass(slots=True)
class Failing:
    """Items that would fail, or have failed for good, with one code."""

    count: int
    key: str
    error: str


@dataclass(slots=True)
class StepSum:
    """What was counted of one step, beside what the ledger says.

    Every item that is gone through ends with a result, or as one of `asked` + `shared` (a model would be asked),
    `code` (Python code, which a plan does not call) and `open` (it builds on one of these).
    """

    asked: dict[tuple[str, Price | None], Asked] = field(default_factory=dict)  # by model's name and price
    seen: dict[str, Seen] = field(default_factory=dict)  # by "provider/model-id"
    cached: int = 0
    recalled: int = 0
    shared: int = 0
    repeated: int = 0  # of the calls: an equal one is made before, and they may come to be one
    code: int = 0
    open: int = 0
    ruled_out: int = 0  # of open: its `if` is false already
    open_tokens: int = 0  # of the prompts of open items, as far as they are known
    pending: Counter[str] = field(default_factory=Counter)  # step -> how many of its answers these prompts lack
    failing: dict[str, Failing] = field(default_factory=dict)
    held: Held = field(default_factory=Held)

    @property
    def calls(self) -> int:
        """Exchanges that would be made."""
        return sum(one.calls for one in self.asked.values())

    def ask(self, asking: Asking) -> None:
        """One exchange more."""
        if asking.shared:
            self.shared += 1
            return
        one = self.asked.setdefault((asking.model, asking.price), Asked())
        one.calls += 1
        self.repeated += asking.repeated
        one.input_tokens += asking.input_tokens
        one.output_limit += asking.output_limit or 0
        one.unlimited += asking.output_limit is None
        bounds, held = asking.bounds, self.held
        if bounds is not None:
            held.least_tokens += bounds.least_tokens
            held.least_usd += bounds.least_usd or 0
            held.most_tokens += bounds.most_tokens
            held.most_usd += bounds.most_usd or 0
            held.largest_tokens = max(held.largest_tokens, bounds.most_tokens)
            held.largest_usd = max(held.largest_usd, bounds.most_usd or Decimal(0))
            held.refused = held.refused or bounds.refused

    def see(self, response: LLMResponse) -> None:
        """One answer that is there."""
        self.cached += response.cached
        self.recalled += not response.cached
        usage = response.usage
        if usage.input_tokens is not None and usage.output_tokens is not None and not response.reasks:
            seen = self.seen.setdefault(response.answered_by, Seen())
            seen.answers += 1
            seen.input_tokens += usage.input_tokens
            seen.output_tokens += usage.output_tokens
