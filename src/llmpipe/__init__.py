"""llmpipe: make for LLM calls. What is public stands here; each name is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module

from llmpipe._version import __version__

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    from typing import Any

    from llmpipe.client.cache import Cache, SimpleMemoryCache
    from llmpipe.client.client import LLMClient
    from llmpipe.client.disk_cache import DiskCache
    from llmpipe.client.failures import persist_raw_failure
    from llmpipe.client.keys import make_cache_key
    from llmpipe.client.output import OutputSpec
    from llmpipe.errors import (
        AccessDenied,
        AccountError,
        BadReply,
        BadRequest,
        BudgetExceeded,
        CallFailed,
        CallTimeout,
        CertificateRefused,
        CheckFailed,
        ConfigError,
        Conflict,
        ContentFiltered,
        ContextTooLong,
        DataError,
        EmptyAnswer,
        IncompleteAnswer,
        InternalError,
        InvalidOutput,
        ItemError,
        KeyMissing,
        KeyRefused,
        LlmpipeError,
        LockHeld,
        ModelUnknown,
        NetworkFault,
        NotJson,
        NotRecorded,
        OutOfResources,
        Overloaded,
        PlainHttpRefused,
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
        SchemaMismatch,
        SchemaRejected,
        SchemaUnusable,
        ServerFault,
        StorageError,
        StreamCut,
        TemporaryFault,
        TotalTimeout,
        Truncated,
    )
    from llmpipe.policy import Budget, CachePolicy, CallPolicy, Limits, Retry, Timeout, add_jitter, backoff_delay
    from llmpipe.types import Attempt, LLMRequest, LLMResponse, Message, Model, Price, Usage

__all__ = [
    "AccessDenied",
    "AccountError",
    "Attempt",
    "BadReply",
    "BadRequest",
    "Budget",
    "BudgetExceeded",
    "Cache",
    "CachePolicy",
    "CallFailed",
    "CallPolicy",
    "CallTimeout",
    "CertificateRefused",
    "CheckFailed",
    "ConfigError",
    "Conflict",
    "ContentFiltered",
    "ContextTooLong",
    "DataError",
    "DiskCache",
    "EmptyAnswer",
    "IncompleteAnswer",
    "InternalError",
    "InvalidOutput",
    "ItemError",
    "KeyMissing",
    "KeyRefused",
    "LLMClient",
    "LLMRequest",
    "LLMResponse",
    "Limits",
    "LlmpipeError",
    "LockHeld",
    "Message",
    "Model",
    "ModelUnknown",
    "NetworkFault",
    "NotJson",
    "NotRecorded",
    "OutOfResources",
    "OutputSpec",
    "Overloaded",
    "PlainHttpRefused",
    "Price",
    "ProviderDown",
    "QuotaExhausted",
    "RateLimited",
    "RedirectRefused",
    "Refused",
    "RemoteFetchFailed",
    "ReplyTooLarge",
    "RequestRefused",
    "RequestTooLarge",
    "Retry",
    "RetryAfterTooLong",
    "RetryAllowanceSpent",
    "SchemaMismatch",
    "SchemaRejected",
    "SchemaUnusable",
    "ServerFault",
    "SimpleMemoryCache",
    "StorageError",
    "StreamCut",
    "TemporaryFault",
    "Timeout",
    "TotalTimeout",
    "Truncated",
    "Usage",
    "__version__",
    "add_jitter",
    "backoff_delay",
    "make_cache_key",
    "persist_raw_failure",
]

_HOMES = {
    "client.cache": ("Cache", "SimpleMemoryCache"),
    "client.client": ("LLMClient",),
    "client.disk_cache": ("DiskCache",),
    "client.failures": ("persist_raw_failure",),
    "client.keys": ("make_cache_key",),
    "client.output": ("OutputSpec",),
    "policy": ("Budget", "CachePolicy", "CallPolicy", "Limits", "Retry", "Timeout", "add_jitter", "backoff_delay"),
    "types": ("Attempt", "LLMRequest", "LLMResponse", "Message", "Model", "Price", "Usage"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}  # every other one is an error


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'llmpipe' has no attribute {name!r}")
    home = import_module(f"llmpipe.{_HOME_OF.get(name, 'errors')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
