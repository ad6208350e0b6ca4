"""A step that asks a model: makes the request of an item, and asks with the run's policy and the cell's journal."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

from llmpipe.client.large_replies import Share
from llmpipe.client.output import OutputSpec
from llmpipe.config.pipeline import Step
from llmpipe.engine.cell_journal import CellJournal
from llmpipe.engine.demands import Demands
from llmpipe.engine.items import Item, to_json
from llmpipe.engine.state import RunState
from llmpipe.errors import CallFailed
from llmpipe.frozen import frozen
from llmpipe.policy import CachePolicy, CallPolicy
from llmpipe.types import LLMRequest, LLMResponse, Message


@frozen
class Answer:
    """What came of asking: the output, the response that it came from, and the key of the request that brought it.

    `work` is the response's share of the room for large ones, to be released once all is written down.
    """

    output: Any
    response: LLMResponse
    request_key: str | None
    work: Share


class ModelStep:
    """One model step of one run."""

    def __init__(self, run: RunState, step: Step, demands: Demands) -> None:
        self._run, self._step, self._demands = run, step, demands
        self._policy = _call_policy(run, step)

    async def ask(self, item: Item, names: dict[str, Any], *, afresh: bool) -> Answer:
        """Ask for an item. `afresh`: neither the cache nor an earlier process may answer.

        Raises ItemError if the request cannot be made, CallFailed (with the request in `asked`).
        """
        request = self._request(item, names)
        journal = self._journal(item, request, afresh=afresh)
        policy = replace(self._policy, cache=replace(self._policy.cache, read=False)) if afresh else self._policy
        spec = OutputSpec(
            schema=self._step.schema,
            check=lambda output: self._demands.unmet(output, names),
            max_reasks=self._step.max_reasks,
            repair=self._step.repair,
            coerce=self._step.coerce,
            extend=self._step.on_truncated == "extend",
            reask_model=self._step.reask_model,
        )
        task = asyncio.current_task()
        assert task is not None
        work = self._run.client.share()
        self._run.at_work[task] = journal
        try:
            response = await self._run.client.acall(
                request, policy=policy, output=spec, journal=journal, order=item.order, work=work
            )
        except CallFailed as err:
            err.asked = request
            work.release()
            raise
        except BaseException:
            work.release()
            raise
        finally:
            self._run.at_work.pop(task, None)
        output = response.text if self._step.schema is None else response.output
        response = response.having(text="", output=None)  # beside the output they would be kept twice
        return Answer(output, response, journal.key, work)

    def choices(self, item: Item, response: LLMResponse) -> tuple[str, ...]:
        """Who may have answered without being a fallback, as "provider/model-id": the model, who is asked again."""
        models, another = self._run.pipeline.models, self._step.reask_model
        again = (models[another].label,) if another is not None and response.reasks else ()
        return ("", models[self._model_for(item)].label, *again)

    def _journal(self, item: Item, request: LLMRequest, *, afresh: bool) -> CellJournal:
        run = self._run
        return CellJournal(
            run.ledger,
            step=run.step_numbers[self._step.id],
            item=item.id,
            invocation=run.invocation,
            stopping=run.stopping,
            redactor=run.redactor,
            tally=run.tallies[self._step.id],
            recall=run.recall and not afresh,
            request=None if self._policy.cache.write else lambda: run.without_keys(_turns(request))[0],
        )

    def _request(self, item: Item, names: dict[str, Any]) -> LLMRequest:
        limit = self._step.max_prompt
        turns = [Message(m.role, m.content.render(names, max_bytes=limit)) for m in self._step.messages]
        self._demands.require_size("".join(turn.content for turn in turns))
        schema = self._step.schema
        return LLMRequest(
            model=self._model_for(item),
            messages=turns,
            schema=schema.document if schema else None,
            sample=self._variant(item, "samples"),
            **self._step.params,
        )

    def _model_for(self, item: Item) -> str:
        models = self._step.models
        return models[self._variant(item, "models")] if len(models) > 1 else models[0]

    def _variant(self, item: Item, kind: str) -> int:
        """Which of the inner items that this step itself opened (its samples, its models) the item is."""
        scopes = self._run.pipeline.scopes
        for around in item.enclosing():
            scope = scopes[around.scope]
            if scope.kind == kind and scope.step == self._step.id:
                return int(around.ord.rsplit(".", 1)[-1], 16)
        return 0


def _call_policy(run: RunState, step: Step) -> CallPolicy:
    mode = run.options.cache
    cache = CachePolicy(
        read=step.cache.read and mode == "use", write=step.cache.write and mode != "off", ttl_s=step.cache.ttl_s
    )
    return CallPolicy(
        timeout=step.timeout,
        retry=step.retry,
        cache=cache,
        fallback=step.fallback,
        fallback_on=step.fallback_on,
        offline=run.options.offline,
    )


def _turns(request: LLMRequest) -> str:
    return to_json([asdict(turn) for turn in request.turns()])
