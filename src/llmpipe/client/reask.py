"""Asks again, with the validator's own words, until an answer holds: the one function for steps and notebooks alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llmpipe.client.aim import asking, asking_another
from llmpipe.client.call import Call, Handler
from llmpipe.client.output import OutputSpec, read_output
from llmpipe.client.prices import cost_of
from llmpipe.errors import CallFailed, InvalidOutput, RequestRefused, Truncated
from llmpipe.frozen import frozen
from llmpipe.types import LLMRequest, LLMResponse, Message, Model, Usage

if TYPE_CHECKING:
    from llmpipe.providers.table import Target

LARGER = 2  # times the room of an answer that was cut off


async def ask(
    handler: Handler, call: Call, spec: OutputSpec, *, resolve: Callable[[str], tuple[Model, Target]]
) -> LLMResponse:
    """The answer to `call` with its validated `output`; invalid ones are asked for again, at most `max_reasks` times.

    Each re-ask is a request of its own (own key, own retries, own total clock) that shows the model its reply and what
    is wrong with it. It goes to `spec.reask_model`, else to the model that answered, so after a fallback to that one:
    the first choice has just failed, and the conversation is not its own. Re-asks end early when the reply stays the
    same. The response counts the tokens and the cost of all tries.

    Raises NotJson, SchemaMismatch or CheckFailed, with every try in `details["tries"]`. An answer that is refused, cut,
    filtered or empty is another error, which is never parsed and never asked again unchanged (facts B2.6); with
    `spec.extend` one that was cut is asked for once with a larger limit.
    """
    talk = _Talk(handler, call, spec, resolve)
    while True:
        response = await talk.answer()
        await call.work.hold(len(response.text))  # of a response that no exchange has brought
        try:
            output, notes = await read_output(response, talk.answerer, spec)
        except InvalidOutput as err:
            talk.go_on(response, err)
        else:
            return talk.concluded(response, output, notes)


@frozen
class _Try:
    """One answer of the conversation, and what is wrong with it."""

    response: LLMResponse
    error: InvalidOutput


class _Talk:
    """The conversation about one item: the call that is next, the tries before it, and the answer that was cut."""

    def __init__(
        self, handler: Handler, call: Call, spec: OutputSpec, resolve: Callable[[str], tuple[Model, Target]]
    ) -> None:
        self._handler, self._call, self._spec, self._resolve = handler, call, spec, resolve
        self._tries: list[_Try] = []
        self._cut: Truncated | None = None
        self._cut_cost: Decimal | None = Decimal(0)

    @property
    def answerer(self) -> Call:
        """The call that was answered: a fallback's, where one stood in, or the one with the schema in its prompt."""
        return self._call.last

    async def answer(self) -> LLMResponse:
        """The next answer, whatever it holds. Raises CallFailed, with the tries before it."""
        try:
            return await self._handler(self._call)
        except CallFailed as err:
            longer = self._longer(err) if isinstance(err, Truncated) else None
            if not isinstance(err, Truncated) or longer is None:
                raise self._told(err) from None
            cut = err
        self._call = longer
        try:
            return await self._handler(longer)
        except RequestRefused as err:  # more than the model can write: the answer was cut, and stays so
            cut.attempts = err.attempts
            raise self._told(cut) from err
        except CallFailed as err:
            raise self._told(err) from None

    def go_on(self, response: LLMResponse, err: InvalidOutput) -> None:
        """Make the re-ask after an invalid answer. Raises the last error where there is to be none."""
        repeated = bool(self._tries) and self._tries[-1].response.text.strip() == response.text.strip()
        self._tries.append(_Try(response, err))
        if repeated or len(self._tries) > self._spec.max_reasks:
            raise self._final()
        self._call.work.release()
        asked = _again(self.answerer.asked, response.text, err)
        another = self._spec.reask_model
        if another is None:
            self._call = asking(self._call, asked)
        else:
            self._call = asking_another(self._call, asked, *self._resolve(another))

    def concluded(self, response: LLMResponse, output: Any, notes: tuple[str, ...]) -> LLMResponse:
        """The valid answer, with the tokens, money and seconds of everything before it."""
        extended = ("extended",) if self._cut is not None else ()
        notes = tuple(dict.fromkeys((*response.notes, *extended, *notes)))
        found = response.having(output=output, notes=notes)
        return self._summed(found, self._tries) if self._tries or self._cut is not None else found

    def _longer(self, err: Truncated) -> Call | None:
        """The same question with more room for the answer; None if that was tried, or is not to be."""
        call = self.answerer
        allowed = call.request.max_output_tokens or call.target.dialect.default_output_tokens
        if not self._spec.extend or self._cut is not None or allowed is None:
            return None
        self._cut = err
        self._cut_cost = cost_of(call.model, err.usage or Usage())
        return asking(self._call, replace(call.asked, max_output_tokens=allowed * LARGER))

    def _told(self, err: CallFailed) -> CallFailed:
        """An error of the conversation tells of the tries before it."""
        if self._tries:
            err.details = {"error": err.details, "tries": self._listed()}
            err.reasks = len(self._tries)
        return err

    def _final(self) -> InvalidOutput:
        """The last error, with all that was answered."""
        last = self._tries[-1]
        err = copy.copy(last.error)
        err.details = {"tries": self._listed()}
        err.raw = last.response.text
        err.usage = self._summed(last.response, self._tries[:-1]).usage
        err.billed = "yes"
        err.provider_request_id = last.response.provider_request_id
        err.attempts = tuple(self._call.attempts)
        err.request_id = self._call.request_id
        err.reasks = len(self._tries) - 1
        return err

    def _listed(self) -> list[dict[str, Any]]:
        return [_as_evidence(one.response, one.error) for one in self._tries]

    def _summed(self, response: LLMResponse, earlier: list[_Try]) -> LLMResponse:
        """`response` with the tokens, money and seconds of the tries before it, and of an answer that was cut."""
        usage, cost, latency = response.usage, response.cost_usd, response.latency_s
        for one in earlier:
            usage = one.response.usage + usage
            cost = _plus(cost, one.response.cost_usd)
            latency += one.response.latency_s
        if self._cut is not None:
            usage = (self._cut.usage or Usage()) + usage
            cost = _plus(cost, self._cut_cost)
            latency += self._cut.attempts[-1].latency_s if self._cut.attempts else 0.0
        cached = response.cached and self._cut is None and all(one.response.cached for one in earlier)
        return replace(response, usage=usage, cost_usd=cost, latency_s=latency, reasks=len(earlier), cached=cached)


def _again(asked: LLMRequest, reply: str, err: InvalidOutput) -> LLMRequest:
    prompt = (Message("user", asked.prompt),) if asked.prompt is not None else ()
    turns = (*asked.messages, *prompt, Message("assistant", reply), Message("user", err.details["say"]))
    return replace(asked, prompt=None, messages=turns)


def _as_evidence(response: LLMResponse, err: InvalidOutput) -> dict[str, Any]:
    cost = response.cost_usd
    found = {
        "reply": response.text,
        "reasoning": response.reasoning,
        "error_type": err.kind,
        "error": err.message,
        "violations": err.details.get("violations"),
        "model": response.answered_by,
        "usage": response.usage,
        "cost_usd": None if cost is None else float(cost),
        "cached": response.cached,
    }
    return {name: value for name, value in found.items() if value is not None}


def _plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other
