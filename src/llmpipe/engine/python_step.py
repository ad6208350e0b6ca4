"""A step that calls the pipeline's own Python code: found once, called per item, bounded in time, checked."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.client.clock import Clock
from llmpipe.client.override import ends_more
from llmpipe.config.pipeline import Pipeline, Step
from llmpipe.config.templates import Entries
from llmpipe.engine.entries import ListEntries
from llmpipe.engine.items import is_storable
from llmpipe.engine.own_code import load_step
from llmpipe.errors import ItemError, OutOfResources
from llmpipe.json_numbers import read_number
from llmpipe.local_faults import out_of_resources

_SIDE_BY_SIDE = 8  # calls at once: threads, so that a slow function holds nobody up


class PythonStep:
    """`module:function`, looked up in the pipeline's folder and the project root.

    The function is called with those of `item`, `steps`, `vars`, `key`, `parent` that it has parameters for, copies of
    its own to do with as it likes. It may be `async`. It returns what JSON can say; anything else, and any exception,
    is a failure of the item. It has the shorter of the clocks `attempt` and `total`.
    """

    def __init__(self, step: Step, pipeline: Pipeline) -> None:
        self._step = step
        self._function = load_step(step, pipeline)
        accepted = inspect.signature(self._function).parameters
        self._takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
        self._names = frozenset(accepted)
        self._seconds = min((s for s in (step.timeout.attempt, step.timeout.total) if s is not None), default=None)
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def __call__(self, names: dict[str, Any]) -> Any:
        """The function's output. Raises ItemError."""
        given = {k: _copy(v) for k, v in names.items() if self._takes_all or k in self._names}
        async with self._slots:
            try:
                with Clock(self._seconds):
                    output = await self._call(given)
            except TimeoutError as err:
                raise ItemError(f"{self._step.python} took longer than {self._seconds:g} s", code="D332") from err
            except _Left as err:
                raise ItemError(f"{self._step.python} raised {err}", code="D330") from err
            except OutOfResources:
                raise
            except Exception as err:
                raise ItemError(f"{self._step.python} raised {type(err).__name__}: {err}", code="D330") from err
        return _plain(output, self._step)

    async def _call(self, given: dict[str, Any]) -> Any:
        if not inspect.iscoroutinefunction(self._function):
            return await _in_thread(lambda: self._function(**given))
        try:
            return await self._function(**given)
        except BaseException as err:
            if ends_more(err):
                raise _Left(repr(err)) from err
            raise


class _Left(Exception):
    """An exception that a task or a future cannot carry: it would end the run, or a loop."""


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run in a daemon thread: one that never comes back cannot keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def body() -> None:
        result, error = None, None
        try:
            result = context.run(work)
        except BaseException as err:  # noqa: BLE001 - handed to whoever waits
            error = err if isinstance(err, Exception) and not isinstance(err, StopIteration) else _Left(repr(err))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=body, name="python-step", daemon=True).start()
    except RuntimeError as err:
        raise out_of_resources(err) or err from None
    return await future


def _copy(value: Any) -> Any:
    """What code may change without others seeing it. Long lists stay: their entries are read anew for each walk."""
    if isinstance(value, ListEntries):
        return ListEntries([_copy(e) for e in value], failed=value.failed, skipped=value.skipped)
    if isinstance(value, Entries):
        return value
    if isinstance(value, Mapping) and any(isinstance(below, Entries) for below in value.values()):
        return {name: _copy(below) for name, below in value.items()}
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))


def _plain(output: Any, step: Step) -> Any:
    try:
        text = json.dumps(output, allow_nan=False)
        plain = json.loads(text, object_pairs_hook=_unique, parse_float=read_number)
        if "\\ud" in text and not is_storable(plain):
            raise ValueError("a text has half of a surrogate pair, which is no character")
        return plain
    except (TypeError, ValueError, RecursionError) as err:
        raise ItemError(f"{step.python} returned what JSON cannot hold: {err}", code="D331") from err


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names were all different as JSON: 1 and "1" are one name."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("two of its keys are the same name")
    return made
