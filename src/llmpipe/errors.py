"""Every error that llmpipe raises: one tree, each class with its code, its verdict and its advice.

    LlmpipeError                     has a code, advice and the exit code of a run that it ends
    ├── ConfigError                  2   every problem of a pipeline file, at once (Y1xx, C2xx, P4xx, O5xx)
    ├── SchemaUnusable               2   C240, an output schema that cannot be used; carries every problem
    ├── DataError                    2   a dataset that cannot be read (D301 - D309)
    ├── ItemError                    1   one item that cannot be asked (D310 - D339)
    ├── KeyMissing (RuntimeError)    4   P401, found before the first call
    ├── LockHeld                    75   X920
    ├── StorageError                 1   X930 a full disk, a file system that cannot hold a ledger
    ├── InternalError                3   X901
    └── CallFailed (RuntimeError)        an error of a call; carries the attempts and the evidence
        ├── AccountError                 closes the gate: every further call would fail alike
        │   ├── KeyRefused           4   P402        ├── AccessDenied      4   P403
        │   ├── QuotaExhausted       1   P404        ├── ModelUnknown      1   P405
        │   ├── SchemaRejected       1   P406        ├── RedirectRefused   1   P407
        │   └── PlainHttpRefused     1   P408        └── CertificateRefused 1  P409
        ├── RequestRefused               this request can never succeed
        │   ├── BadRequest               P410        ├── ContextTooLong        P411
        │   ├── ContentFiltered          P412        └── RequestTooLarge       P413
        ├── TemporaryFault               the same request may succeed later
        │   ├── RateLimited              P420        ├── Overloaded            P421
        │   ├── ServerFault              P422        ├── RemoteFetchFailed     P423
        │   ├── Conflict                 P424        ├── NetworkFault          P430
        │   ├── CallTimeout              P431        ├── StreamCut             P433
        │   ├── BadReply                 P434        └── EmptyAnswer           P442
        ├── TotalTimeout                 P432   the clock over all attempts ran out
        ├── RetryAfterTooLong            P425   the server asks for a longer wait than allowed
        ├── ProviderDown            75   P426   the breaker of the gate is open
        ├── RetryAllowanceSpent          P427   the run's allowance of retries is used up
        ├── ReplyTooLarge                P435
        ├── Refused                      P440 ─┐
        ├── Truncated                    P441  ├ the model answered, but not with an answer
        ├── IncompleteAnswer             P443 ─┘
        ├── OutOfResources           1   X940   too few file descriptors, threads, or too little memory
        ├── NotRecorded                  P450
        ├── BudgetExceeded           6   P460
        └── InvalidOutput                an answer that does not hold what was asked for
            ├── NotJson                  O501
            ├── SchemaMismatch           O503
            └── CheckFailed              O504

The codes start with a letter so that none reads as an HTTP status. `llmpipe explain CODE` prints an entry of this tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from llmpipe.frozen import frozen

if TYPE_CHECKING:
    from llmpipe.client.budget import Shortfall
    from llmpipe.client.silence import Silence
    from llmpipe.types import Attempt, LLMRequest, Usage

Billed = Literal["no", "maybe", "yes"]


class LlmpipeError(Exception):
    """Base of every error of llmpipe."""

    code: ClassVar[str] = "X900"
    title: ClassVar[str] = "error"
    advice: str = ""
    exit_code: ClassVar[int] = 1

    def advising(self, advice: str) -> Self:
        """The error with advice that fits better than its class's."""
        self.advice = advice
        return self


@frozen
class Place:
    """A spot in a file: 1-based line and column, and how many characters the caret covers."""

    file: str
    line: int = 1
    column: int = 1
    width: int = 1


@frozen
class Problem:
    """One thing that is wrong with a pipeline file or what it names, with its place and the next step.

    `message` is one sentence without a full stop; `hint` stands beside the caret ("did you mean 'x'?");
    `note` is the line after `=`; `where` a remark behind the place ("line 2 of the prompt").
    """

    code: str
    message: str
    place: Place
    hint: str = ""
    note: str = ""
    where: str = ""
    severity: Literal["error", "warning"] = "error"


class ConfigError(LlmpipeError):
    """All problems of a pipeline file; nothing was sent."""

    code = "C200"
    title = "the pipeline file is not usable"
    advice = "Mend the places that are listed; `llmpipe validate` lists them again without running anything."
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0] if self.problems else None
        text = (
            f"{first.place.file}:{first.place.line}:{first.place.column}: {first.code} {first.message}" if first else ""
        )
        super().__init__(text if len(self.problems) < 2 else f"{text} (and {len(self.problems) - 1} more)")


class SchemaUnusable(LlmpipeError):
    """An output schema that cannot be used. `problems` holds each with its JSON pointer (lint.SchemaProblem)."""

    code = "C240"
    title = "the output schema is not usable"
    advice = "Mend the schema at the pointers that are listed."
    exit_code = 2

    def __init__(self, problems: Sequence[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class DataError(LlmpipeError):
    """A dataset that cannot be read, with the file, line and column (1-based; None for the whole file, or line)."""

    code = "D300"
    title = "a dataset cannot be read"
    advice = "Mend the file at the place that is named."
    exit_code = 2

    def __init__(
        self, message: str, *, file: str, line: int | None = None, column: int | None = None, code: str = "D300"
    ) -> None:
        self.file, self.line, self.column, self.message = file, line, column, message
        self.row_code = code
        super().__init__(f"{file}{f':{line}' if line else ''}: {code} {message}")

    def problem(self) -> Problem:
        """The same with its place, to be shown with the line that is meant."""
        place = Place(self.file, self.line or 1, self.column or 1)
        return Problem(self.row_code, self.message, place, note="mend or remove the row, then run again")


class ItemError(LlmpipeError):
    """One item that cannot be worked on; becomes a failure of that item. `item_code` is its own code."""

    code = "D310"
    title = "an item lacks what a template needs"
    advice = "Look at the item with `llmpipe show RUN STEP KEY`; mend the row or guard the reference in the template."

    def __init__(self, message: str, *, code: str = "D310") -> None:
        self.item_code = code
        super().__init__(message)


class KeyMissing(LlmpipeError, RuntimeError):
    """A provider's key is not in the environment; found before the first call, so `attempts` is always empty."""

    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None

    code = "P401"
    title = "an API key is missing"
    advice = "Set it in the environment or in the project's .env, or use `provider: echo` to try without a model."
    exit_code = 4


class LockHeld(LlmpipeError):
    """Another run of the same pipeline and output folder is at work."""

    code = "X920"
    title = "another run holds the lock"
    advice = "Wait for it, or pass --lock wait:10m or --lock skip."
    exit_code = 75


class StorageError(LlmpipeError):
    """The disk is full, or the file system cannot hold a ledger or a cache."""

    code = "X930"
    title = "a file could not be written"
    advice = "Free some space or choose another folder with --output, then continue with --resume."
    exit_code = 1


class InternalError(LlmpipeError):
    """A fault of llmpipe itself."""

    code = "X901"
    title = "a fault of llmpipe itself"
    advice = "Please report it with the traceback file that is named; the run can be continued with --resume."
    exit_code = 3


class CallFailed(LlmpipeError, RuntimeError):
    """An error of a call.

    Class attributes are the verdict: `retryable` (the same request may be sent again), `retry_limit` (at most so many
    times for this class, None = the policy's number), `account` (every further call through this gate would fail
    alike), `hold` (everybody behind the gate waits), `fallback` (another model may be asked), `fault` (counts against
    the breaker), `permanent` (the same request will fail again tomorrow; carried over by --resume auto).
    Instance attributes are the evidence.
    """

    code = "P400"
    title = "a call failed"
    advice = "See the failure file for the reply."
    retryable: ClassVar[bool] = False
    retry_limit: ClassVar[int | None] = None
    account: ClassVar[bool] = False
    hold: ClassVar[bool] = False
    fallback: ClassVar[bool] = False
    fault: ClassVar[bool] = False
    permanent: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        provider_code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        raw: str | None = None,
        usage: Usage | None = None,
        billed: Billed = "no",
        provider_request_id: str | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.provider_code = provider_code
        self.retry_after = retry_after  # seconds the server asked to wait; already validated (> 0, finite)
        self.should_retry = should_retry  # the x-should-retry verdict, if the server gave one
        self.raw = raw  # the body, as text, bounded
        self.usage = usage
        self.billed = billed
        self.provider_request_id = provider_request_id
        self.details = details
        self.attempts: tuple[Attempt, ...] = ()  # filled by the client before the error leaves it
        self.silence: Silence | None = None  # who was answered meanwhile, filled by the client likewise
        self.request_id: str | None = None
        self.asked: LLMRequest | None = None  # the request, filled by a run
        self.reasks = 0  # how often the answer had been asked for again, filled by client.reask
        self.sent = True  # False: stopped before anything was sent (closed gate, open breaker, budget, offline)

    @property
    def kind(self) -> str:
        """The class's name; `error_type` in logs and failure files."""
        return type(self).__name__


class AccountError(CallFailed):
    """Closes the gate: every further call with this key and model would fail alike."""

    account = True
    fallback = True


class KeyRefused(AccountError):
    code = "P402"
    title = "the provider refused the API key"
    advice = "Check that the key in the variable is complete, active and belongs to this provider; then --resume."
    exit_code = 4


class AccessDenied(AccountError):
    code = "P403"
    title = "the key may not use this model or endpoint"
    advice = "Give the key (or its project) access to the model, or name another model; then --resume."
    exit_code = 4


class QuotaExhausted(AccountError):
    code = "P404"
    title = "quota, credit or a spend limit is used up"
    advice = (
        "Waiting for seconds does not help: add credit, raise the limit, or wait until the quota renews; then --resume."
    )


class ModelUnknown(AccountError):
    code = "P405"
    title = "the provider does not know this model"
    advice = "Check the model id for a typing error, and that the account has it."


class SchemaRejected(AccountError):
    code = "P406"
    title = "the provider refused the output schema"
    advice = (
        "Remove `schema_mode` from the model, so that a schema which is refused goes into the prompt; or simplify it. "
        "If it was refused in the prompt too, look at `params.extra` and at the reply in the failure file."
    )


class RedirectRefused(AccountError):
    code = "P407"
    title = "the server answered with a redirect"
    advice = "Redirects are not followed, so that keys and prompts stay with the named host: correct base_url."


class PlainHttpRefused(AccountError):
    code = "P408"
    title = "plain http to another host"
    advice = "Use https, or set `allow_http: true` on the model if nobody can listen on the way."


class CertificateRefused(AccountError):
    code = "P409"
    title = "the server's TLS certificate was not accepted"
    advice = (
        "Check base_url, the clock of this machine and what intercepts its traffic; name a CA of your own in "
        "SSL_CERT_FILE; then --resume."
    )


class RequestRefused(CallFailed):
    """This very request can never succeed."""

    permanent = True


class BadRequest(RequestRefused):
    code = "P410"
    title = "the provider refused the request"
    advice = "The provider's words say which parameter it does not take; see the failure file."


class ContextTooLong(RequestRefused):
    code = "P411"
    title = "the prompt is longer than the model's context"
    advice = "Split the text with `foreach: {split: ...}`, or use a model with a longer context."
    fallback = True


class ContentFiltered(RequestRefused):
    code = "P412"
    title = "the provider's content filter blocked the request or the answer"
    advice = "Look at the item; reword the prompt or drop the item."


class RequestTooLarge(RequestRefused):
    code = "P413"
    title = "the request is larger than the provider takes"
    advice = "Split the text with `foreach: {split: ...}`."
    fallback = True


class TemporaryFault(CallFailed):
    """The same request may succeed later."""

    retryable = True
    fallback = True


class RateLimited(TemporaryFault):
    code = "P420"
    title = "too many requests"
    advice = "Lower `limits.rpm` / `tpm` / `concurrency` for the model, or run again later with --resume."
    hold = True


class Overloaded(TemporaryFault):
    code = "P421"
    title = "the provider is overloaded"
    advice = "Run again later with --resume, or name a `fallback` model."
    hold = True
    fault = True


class ServerFault(TemporaryFault):
    code = "P422"
    title = "the provider had a fault"
    advice = "Run again later with --resume; if it stays, the provider's status page may know."
    fault = True


class RemoteFetchFailed(TemporaryFault):
    code = "P423"
    title = "the provider could not fetch a linked file"
    advice = "Check that the linked address can be reached from the internet."
    retry_limit = 1


class Conflict(TemporaryFault):
    code = "P424"
    title = "the provider reports a conflict"
    advice = "Run again with --resume."
    retry_limit = 1


class RetryAfterTooLong(CallFailed):
    code = "P425"
    title = "the server asks for a longer wait than allowed"
    exit_code = 75
    advice = (
        "Run again later with --resume, or raise `retry.retry_after_max`, or set `retry.retry_after_over: backoff`."
    )
    fallback = True


class ProviderDown(CallFailed):
    code = "P426"
    title = "the provider stays down"
    advice = "Run again later with --resume."
    exit_code = 75
    fallback = True


class RetryAllowanceSpent(CallFailed):
    code = "P427"
    title = "the run's allowance of retries is used up"
    advice = "Too many calls fail: look at the causes first, then --resume."
    exit_code = 75
    fallback = True


class NetworkFault(TemporaryFault):
    code = "P430"
    title = "the connection failed"
    advice = "Check base_url, the network and the proxy settings; then --resume."
    fault = True


class CallTimeout(TemporaryFault):
    """`clock` says which clock ran out: connect, first_token, idle or attempt."""

    code = "P431"
    title = "the call timed out"
    advice = "Raise the clock that is named under `timeout`, or lower max_output_tokens."
    fault = True

    def __init__(self, message: str, *, clock: str = "attempt", **evidence: Any) -> None:
        super().__init__(message, **evidence)
        self.clock = clock


class TotalTimeout(CallFailed):
    code = "P432"
    title = "the total time for the call ran out"
    advice = "Raise `timeout.total`, or lower the waits (`retry.cap`, `retry.retry_after_max`)."
    fallback = True


class StreamCut(TemporaryFault):
    code = "P433"
    title = "the reply broke off"
    advice = "Run again with --resume; what had arrived is in the failure file."
    fault = True


class BadReply(TemporaryFault):
    code = "P434"
    title = "the reply is not what the provider's interface promises"
    advice = "Check base_url: a proxy or another service may be answering; the reply is in the failure file."
    fault = True


class ReplyTooLarge(CallFailed):
    code = "P435"
    title = "the reply is larger than allowed"
    advice = "Check base_url; a model's answer is never that large."


class Refused(CallFailed):
    code = "P440"
    title = "the model refused to answer"
    advice = "Look at the item; reword the prompt, or accept the failure with min_success."
    permanent = True


class Truncated(CallFailed):
    code = "P441"
    title = "the answer was cut off at the output limit"
    advice = "Raise params.max_output_tokens (reasoning counts in it), or ask for less."
    permanent = True


class EmptyAnswer(TemporaryFault):
    code = "P442"
    title = "the answer is empty"
    advice = "Raise params.max_output_tokens if the model reasons first; look at the failure file."
    retry_limit = 2


class IncompleteAnswer(CallFailed):
    code = "P443"
    title = "the answer ended for a reason that is not completion"
    advice = "The reason is in the failure file; llmpipe takes no answer for complete unless the provider says so."


class NotRecorded(CallFailed):
    code = "P450"
    title = "the answer is not in the cache or the recording"
    advice = "Run once without --offline / --replay, or record it."


class OutOfResources(CallFailed):
    """This process may open no more files or start no more threads, or there is no more memory: nothing was sent."""

    code = "X940"
    title = "a limit of this process is reached"
    advice = "Raise the limit (`ulimit -a` lists them) or lower limits.concurrency, then continue with --resume."


class BudgetExceeded(CallFailed):
    """`lack` says of which limit there is too little, and how much; None where it is not a matter of amounts."""

    lack: Shortfall | None = None
    code = "P460"
    title = "the budget has no room for the next call"
    advice = "Raise `budget` or pass --max-cost, then --resume: what was paid for is kept."
    exit_code = 6


class InvalidOutput(CallFailed):
    """An answer that arrived, was paid for, and does not hold what was asked for."""

    permanent = True


class NotJson(InvalidOutput):
    code = "O501"
    title = "the answer is not JSON"
    advice = "Ask for JSON only; raise max_reasks; use a model with native structured output."


class SchemaMismatch(InvalidOutput):
    code = "O503"
    title = "the answer does not fit the schema"
    advice = "See the paths that are named; describe the field better, relax the schema, or raise max_reasks."


class CheckFailed(InvalidOutput):
    code = "O504"
    title = "the answer does not pass a check"
    advice = "See the expression that is named; say it in the prompt, or raise max_reasks."


def every_class(base: type[LlmpipeError] = LlmpipeError) -> Iterator[type[LlmpipeError]]:
    """Yield `base` and every class below it, depth first."""
    yield base
    for child in base.__subclasses__():
        yield from every_class(child)
