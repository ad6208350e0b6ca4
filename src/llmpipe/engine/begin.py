"""What a run and a plan begin with alike: the state, and how much of what earlier processes left is trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmpipe.config.fingerprint import Fingerprint
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine import prepare, proven
from llmpipe.engine.bounds import reserve_unknown
from llmpipe.engine.choose import Choice
from llmpipe.engine.flow import Flow
from llmpipe.engine.ledger import Ledger
from llmpipe.engine.masking import has_masked_rows, redactor_for
from llmpipe.engine.options import RunOptions
from llmpipe.engine.plan import plan_passes
from llmpipe.engine.state import RunState
from llmpipe.engine.unchanged import is_unchanged

if TYPE_CHECKING:
    from llmpipe.client.client import LLMClient
    from llmpipe.client.redact import Redactor
    from llmpipe.config.environment import Environment

S = TypeVar("S", bound=RunState)
F = TypeVar("F", bound=Flow)


async def begin_state(
    kind: type[S], pipeline: Pipeline, options: RunOptions, choice: Choice, print_: Fingerprint, *, folder: Path,
    ledger: Ledger, invocation: int, client: Callable[[], LLMClient], environment: Environment, redactor: Redactor,
    note: Callable[[str], None],
) -> S:  # fmt: skip
    """The state of an invocation over `ledger`, in which everything has its number.

    `client` makes the client, which counts what the ledger says was spent: once all that is known of it stands there.
    """
    steps, scopes = await prepare.number_things(ledger, pipeline, redactor.text)
    await reserve_unknown(ledger, pipeline, options, steps)
    return kind(
        pipeline=pipeline,
        options=options,
        folder=folder,
        ledger=ledger,
        client=client(),
        invocation=invocation,
        step_numbers=steps,
        scope_numbers=scopes,
        redactor=redactor,
        values_redactor=redactor_for(pipeline.models, environment.handed_out, shapes=False),
        note=note,
        definitions={id: bytes.fromhex(text) for id, text in print_.steps.items()},
        fixed=choice.fixed,
        tallies=prepare.initial_tallies(ledger, pipeline, steps, scopes),
        recall=choice.continued is not None,
    )


def begin_flow(kind: type[F], run: RunState, choice: Choice, print_: Fingerprint) -> F:
    """The passes of the steps that are wanted, with what the ledger has already taken for what it is."""
    flow = kind(run, plan_passes(run.pipeline, choice.wanted), continued=choice.has_results)
    flow.trusted = proven.begin(run.ledger, print_.whole, has_results=choice.has_results)
    if choice.has_results:
        _trust_files(run, choice, flow)
    return flow


def _trust_files(run: RunState, choice: Choice, flow: Flow) -> None:
    """Use the ledger's rows where they are those of the files, or where steps that are not run again worked on them."""
    noted = {name for (name,) in run.ledger.rows("SELECT name FROM datasets")}
    for scope in run.pipeline.scopes.values():
        if scope.dataset not in noted:
            continue
        same = is_unchanged(run.ledger, run.pipeline.datasets[scope.dataset or ""])
        if same and has_masked_rows(run.ledger, run.scope_numbers[scope.id]):
            continue
        if same or choice.fixed:
            flow.sources.complete.add(scope.id)
        if not same and choice.fixed:
            run.note(
                f"the files of dataset {scope.dataset} are not as they were; this run uses the rows of the earlier one"
            )
