"""The words by which `on:` of a fallback names classes of errors, and which errors each word means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmpipe.errors import (
    AccessDenied,
    AccountError,
    BadReply,
    CallFailed,
    CallTimeout,
    CertificateRefused,
    Conflict,
    ContentFiltered,
    ContextTooLong,
    EmptyAnswer,
    IncompleteAnswer,
    KeyRefused,
    ModelUnknown,
    NetworkFault,
    Overloaded,
    ProviderDown,
    QuotaExhausted,
    RateLimited,
    RedirectRefused,
    Refused,
    RemoteFetchFailed,
    ReplyTooLarge,
    RequestRefused,
    RequestTooLarge,
    RetryAfterTooLong,
    RetryAllowanceSpent,
    SchemaRejected,
    ServerFault,
    StreamCut,
    TotalTimeout,
    Truncated,
)

# A provider that is down has had one of the faults that open the breaker; nobody says any more which.
ERROR_WORDS: Mapping[str, tuple[type[CallFailed], ...]] = MappingProxyType(
    {
        "account": (AccountError,),
        "key_refused": (KeyRefused,),
        "access_denied": (AccessDenied,),
        "quota": (QuotaExhausted,),
        "model_unknown": (ModelUnknown,),
        "schema_rejected": (SchemaRejected,),
        "redirect": (RedirectRefused,),
        "bad_request": (RequestRefused,),
        "context_length": (ContextTooLong, RequestTooLarge),
        "content_filter": (ContentFiltered,),
        "rate_limit": (RateLimited, RetryAfterTooLong, ProviderDown),
        "overloaded": (Overloaded, ProviderDown),
        "server_error": (ServerFault, RemoteFetchFailed, Conflict, ProviderDown),
        "network": (NetworkFault, CertificateRefused, StreamCut, ProviderDown),
        "timeout": (CallTimeout, TotalTimeout, ProviderDown),
        "bad_reply": (BadReply, ReplyTooLarge, ProviderDown),
        "empty": (EmptyAnswer,),
        "truncated": (Truncated,),
        "incomplete": (IncompleteAnswer,),
        "refused": (Refused,),
    }
)

# The client's own verdicts on what an attempt ended with; that error is their cause.
_VERDICTS = (RetryAfterTooLong, RetryAllowanceSpent, TotalTimeout)


def is_meant(error: CallFailed, words: tuple[str, ...]) -> bool:
    """Whether one of `words` means `error`, or the attempt's error that it is a verdict on."""
    classes = tuple(kind for word in words for kind in ERROR_WORDS[word])
    return isinstance(error, classes) or (isinstance(error, _VERDICTS) and isinstance(error.__cause__, classes))
