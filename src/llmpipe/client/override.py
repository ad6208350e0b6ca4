"""Calls a subclass's own `_provider_call`, whatever its shape, and makes of what comes what the layers know."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from llmpipe.client.call import Call, Handler
from llmpipe.errors import (
    BadReply,
    CallFailed,
    CallTimeout,
    ContentFiltered,
    EmptyAnswer,
    IncompleteAnswer,
    NetworkFault,
    Refused,
    ServerFault,
    Truncated,
)
from llmpipe.types import LLMResponse

CURRENT: contextvars.ContextVar[Call] = contextvars.ContextVar("llmpipe_call")

_ENDS: dict[str, type[CallFailed]] = {
    "length": Truncated,
    "refusal": Refused,
    "filtered": ContentFiltered,
    "incomplete": IncompleteAnswer,
}


def overridden(
    method: Callable[..., Any], *, what: str = "_provider_call", more: Callable[[Call], Mapping[str, Any]] | None = None
) -> Handler:
    """The innermost handler made of an overriding `_provider_call`.

    The method may be `async` or not (then each call runs in a thread of its own, so that clocks still end it); it is
    given the keyword arguments `timeout_s`, `attempt`, `force_error` and those of `more` as far as it takes them. It
    returns an LLMResponse or a text; `what` names it where it returns something else. Of its exceptions, those of
    llmpipe stay; TimeoutError is a CallTimeout, OSError a NetworkFault, RuntimeError a ServerFault (all three are
    retried); any other is a mistake in the method: CallFailed, not retried.
    """
    takes = _accepted(method)
    is_async = any(map(inspect.iscoroutinefunction, (method, getattr(method, "__call__", None))))  # noqa: B004

    async def handle(call: Call) -> LLMResponse:
        given = {
            "timeout_s": call.policy.timeout.attempt,
            "attempt": call.number,
            "force_error": bool(call.request.force_error),
            **(more(call) if more is not None else {}),
        }
        arguments = {name: value for name, value in given.items() if takes is None or name in takes}
        token = CURRENT.set(call)
        try:
            if is_async:
                answer = await method(call.request, **arguments)
            else:
                answer = await _in_thread(lambda: method(call.request, **arguments))
                if inspect.isawaitable(answer):
                    answer = await answer
        except CallFailed:
            raise
        except Exception as err:
            raise _classified(err) from err
        except BaseException as err:
            if ends_more(err):
                raise CallFailed(repr(err)) from err
            raise
        finally:
            CURRENT.reset(token)
        return _response(answer, call, what)

    return handle


def ends_more(err: BaseException) -> bool:
    """Whether an exception that a user's code raised would, let through, end more than the call it was made in."""
    if isinstance(err, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()  # else it was cancelled from outside
    return not isinstance(err, Exception | KeyboardInterrupt)


def _accepted(method: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(method).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def _classified(err: Exception) -> CallFailed:
    text = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    if isinstance(err, TimeoutError):
        return CallTimeout(text, billed="maybe")
    if isinstance(err, OSError):
        return NetworkFault(text, billed="maybe")
    if isinstance(err, RuntimeError) and not isinstance(err, (RecursionError, NotImplementedError)):
        return ServerFault(text)
    return CallFailed(text)


def _response(answer: Any, call: Call, what: str) -> LLMResponse:
    if isinstance(answer, str):
        answer = LLMResponse(text=answer, model=call.target.model, provider=call.target.provider)
    if not isinstance(answer, LLMResponse):
        kind = type(answer).__name__
        raise BadReply(f"{what} returned {kind}, not an LLMResponse or a text", should_retry=False)
    if answer.finish != "stop":
        raise _ENDS[answer.finish](
            f"the answer ended with finish={answer.finish!r}", raw=answer.text, usage=answer.usage, billed="yes"
        )
    if not answer.text.strip():
        raise EmptyAnswer("the answer is empty", usage=answer.usage, billed="yes")
    return answer


async def _in_thread(work: Callable[[], Any]) -> Any:
    """The result of `work`, run in a daemon thread: one that hangs holds up no other call and no exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, err: BaseException | None) -> None:
        if future.done():
            return
        if err is None:
            future.set_result(result)
        else:
            future.set_exception(err)

    def run() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(work)
        except StopIteration as err:
            failure = RuntimeError(f"StopIteration: {err}")  # a future cannot carry it
        except BaseException as err:  # noqa: BLE001 - handed over to the caller
            failure = err if isinstance(err, Exception) else CallFailed(repr(err))
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="llmpipe-provider-call", daemon=True).start()
    return await future
