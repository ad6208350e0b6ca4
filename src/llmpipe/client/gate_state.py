"""Every decision of a gate: who may pass now, and what the end of a call changes. Pure: time comes in, nothing waits.

unproven  one call at a time until the first answer, so that a wrong key fails once and not a thousand times
held      after a 429 nobody passes until the server's hint, or a wait that doubles, is over
ramping   after a hold one call, one more per answer, until the limit is reached again
closed    by an account error, for good
"""

from __future__ import annotations

import math

from llmpipe.client.breaker import DEFAULT_BREAKER, Breaker, BreakerPolicy, Pass
from llmpipe.client.limiter import Pace, Ramp
from llmpipe.errors import AccountError, CallFailed, TemporaryFault
from llmpipe.frozen import frozen
from llmpipe.policy import Limits, backoff_delay
from llmpipe.providers.limits import RateLimits, Window

HOLD_FIRST_S = 0.1
HOLD_CAP_S = 8.0
BURSTS_MOST = 10  # rejections in a row, with a hold between any two, before the provider counts as down
EMBEDDED_MOST = 1024


@frozen
class Ticket:
    """A call's place in the gate; given back through `GateState.ended`."""

    rank: int  # which number in flight it was, from 1
    tokens: int  # what was reserved of the token rate
    passed: Pass  # through the breaker
    epoch: int  # how many bursts of rejections there had been


@frozen
class Outcome:
    """How a call ended. `error` None and `answered` False: without a verdict (cancelled, or nothing was sent).

    `longest_hold`: a wait of more seconds that the server asks for is not heeded; None: any is. `own`: others were
    answered since the call's first fault, so that this one says little of the provider.
    """

    answered: bool = False
    error: CallFailed | None = None
    tokens: int | None = None  # actually used, if known
    longest_hold: float | None = None
    own: bool = False

    @property
    def hold_s(self) -> float | None:
        """The wait that the server asks for, and that is heeded; None if there is none."""
        asked = self.error.retry_after if self.error is not None else None
        return None if not asked or (self.longest_hold is not None and asked > self.longest_hold) else asked


class GateState:
    """The state of one gate. `limits`: as in the pipeline file; `embedded`: nothing leaves the process."""

    def __init__(self, limits: Limits, *, embedded: bool = False, breaker: BreakerPolicy = DEFAULT_BREAKER) -> None:
        self.ramp = Ramp(limits.concurrency or (EMBEDDED_MOST if embedded else None), limits.most)
        self.breaker = Breaker(breaker)
        self.requests = Pace(limits.rpm) if limits.rpm else None
        self.tokens = Pace(limits.tpm) if limits.tpm else None
        self.closed_by: CallFailed | None = None
        self.proven = embedded
        self.in_flight = 0
        self.rejections = 0
        self.held_until = 0.0
        self._paused_until = 0.0
        self._reads_headers = (limits.rpm is None, limits.tpm is None)
        self._epoch = 0
        self._bursts = 0  # in a row, without an answer between
        self._open = math.inf  # how many of the calls admitted since the last burst may be in flight
        self._fresh = 0  # how many of them are
        self.answered = 0  # the highest number of a call whose end showed the provider at work; 0: there was none
        self.tries = 0  # calls since then that met a fault or were turned away
        self.silent_since: float | None = None  # when the first call since then passed
        self.last_fault = ""

    @property
    def held_again_and_again(self) -> bool:
        """True if nothing but rejections came for a long while."""
        return self._bursts >= BURSTS_MOST

    def wait(self, now: float) -> float:
        """Seconds until the next call may pass: 0 = now, infinity = not before another one has ended."""
        if self.in_flight >= self.ramp.allowed or self._fresh >= self._open:
            return math.inf
        if self.in_flight and not self.proven:
            return math.inf
        ready = max(self.held_until, self._paused_until, self.breaker.ready_at())
        for pace in (self.requests, self.tokens):
            if pace is not None:
                ready = max(ready, pace.ready_at())
        return max(0.0, ready - now)

    def admit(self, now: float, tokens: int) -> Ticket:
        """Let a call pass that reserves so many tokens; only after `wait` said 0."""
        self.in_flight += 1
        self._fresh += 1
        if self.silent_since is None:
            self.silent_since = now
        if self.requests is not None:
            self.requests.take(now, 1)
        if self.tokens is not None:
            self.tokens.take(now, tokens)
        return Ticket(self.in_flight, tokens, self.breaker.passed(), self._epoch)

    def ended(self, ticket: Ticket, now: float, outcome: Outcome) -> str:
        """Take a call's place back and learn from its end. Returns what changed, in a few words for the log, or ""."""
        in_use = self.in_flight >= self.ramp.allowed
        self.in_flight -= 1
        if ticket.epoch == self._epoch:
            self._fresh -= 1
        if self.tokens is not None and outcome.tokens is not None:
            self.tokens.correct(outcome.tokens - ticket.tokens)
        error = outcome.error
        if outcome.answered or (error is not None and _shows_life(error)):
            return self._answered(ticket, in_use=in_use)
        if error is None or not error.sent or isinstance(error, AccountError):
            self.breaker.abandoned(now, ticket.passed)
            return self._closed(error) if isinstance(error, AccountError) else ""
        return self._failed(ticket, now, error, outcome)

    def learn(self, now: float, stated: RateLimits) -> str:
        """Take rates that the file leaves open from what a reply's headers state; wait a little where nothing is left.

        Windows longer than a minute are not paced: an even pace over a day would keep a short run waiting.
        """
        changes = []
        for index, (name, window) in enumerate((("requests", stated.requests), ("tokens", stated.tokens))):
            if window is None or not self._reads_headers[index]:
                continue
            rate = window.per_minute
            if rate and window.window_s <= 60 and _differs(getattr(self, name), rate):
                setattr(self, name, _renewed(getattr(self, name), rate))
                changes.append(f"{name} {rate:g} per minute, as the reply's headers state")
            self._pause_if_empty(now, window)
        return ", ".join(changes)

    def _pause_if_empty(self, now: float, window: Window) -> None:
        """The reset says when the whole window is free again; a fraction of it is free much sooner."""
        if window.remaining == 0 and window.reset_s:
            share = 10 * window.window_s / window.limit if window.limit else window.reset_s
            self._paused_until = max(self._paused_until, now + min(window.reset_s, max(1.0, share), 60.0))

    def _answered(self, ticket: Ticket, *, in_use: bool) -> str:
        self.proven = True
        self._alive(ticket)
        self._bursts = 0
        closes = self.breaker.answered(ticket.passed)
        if self._open < math.inf:
            self._open += 1
            if self._open >= self.ramp.allowed:
                self._open = math.inf
        else:
            self.ramp.answered(in_use=in_use)
        return "breaker closed" if closes else ""

    def _alive(self, ticket: Ticket) -> None:
        self.answered = max(self.answered, ticket.passed.number)
        self.tries, self.silent_since, self.last_fault = 0, None, ""

    def _closed(self, error: AccountError) -> str:
        if self.closed_by is not None:
            return ""
        self.closed_by = error
        return f"closed by {error.kind}"

    def _failed(self, ticket: Ticket, now: float, error: CallFailed, outcome: Outcome) -> str:
        if error.fault or error.hold:
            self.tries += 1
            self.last_fault = error.message
        else:
            self._alive(ticket)
        words = self._rejected(ticket, now, outcome.hold_s) if error.hold else ""
        if error.fault and outcome.own:
            self.breaker.abandoned(now, ticket.passed)
        elif error.fault:
            if self.breaker.fault(now, ticket.passed):
                words = f"breaker opened after {self.breaker.faults} faults in a row"
                self._ramp_again(now)
        else:
            self.breaker.answered(ticket.passed)
        return words

    def _rejected(self, ticket: Ticket, now: float, hint: float | None) -> str:
        self.rejections += 1
        if hint:
            self.held_until = max(self.held_until, now + hint)
        if ticket.epoch != self._epoch:
            return ""
        still = self._open == 1.0  # nothing was answered since the last hold: the provider takes no calls, however few
        changed = not still and self.ramp.rejected(ticket.rank)
        self._bursts += 1
        wait = hint or backoff_delay(self._bursts, base=HOLD_FIRST_S, cap=HOLD_CAP_S)
        self.held_until = max(self.held_until, now + wait)
        if self.held_again_and_again:
            self.breaker.give_up(now)
        self._ramp_again(now)
        return f"held for {wait:g} s" + (f", limit {self.ramp.allowed}" if changed else "")

    def _ramp_again(self, now: float) -> None:
        """Start a new epoch: of the calls admitted from now on one may be in flight, and one more per answer."""
        self._epoch += 1
        self._open, self._fresh = 1.0, 0


def _shows_life(error: CallFailed) -> bool:
    """True for an error that an account and a model which work may give: a verdict on the request or its answer."""
    return error.sent and not isinstance(error, AccountError | TemporaryFault)


def _differs(pace: Pace | None, rate: float) -> bool:
    return pace is None or abs(pace.per_minute - rate) > 0.01 * rate


def _renewed(pace: Pace | None, rate: float) -> Pace:
    """A pace of another rate that stands where the old one stood."""
    new = Pace(rate)
    if pace is not None:
        new.start_at(pace.ready_at())
    return new
