"""The faults that `echo` can be told to show: which, how often, and what each one is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from llmpipe.errors import CallFailed, CallTimeout, RateLimited, Refused, ServerFault, Truncated
from llmpipe.types import LLMRequest, Usage

# Faults of the transport are drawn anew at each attempt, so that a retry can succeed; the others belong to what was
# asked, so that the same request shows the same one until a re-ask changes the conversation.
TRANSPORT_FAULTS = ("rate_limit", "server_error", "timeout")
ANSWER_FAULTS = ("invalid_json", "schema_violation", "truncated", "refusal")
FAULTS = (*TRANSPORT_FAULTS, *ANSWER_FAULTS)
_RETRY_AFTER_S = 0.05


def share(*parts: object) -> float:
    """A number in [0, 1) that is drawn by `parts` alone: the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def fault_shares(faults: Mapping[str, float]) -> Mapping[str, float]:
    """`faults`, checked. Raises ValueError for an unknown name or a share outside 0 to 1."""
    for name, part in faults.items():
        if name not in FAULTS:
            raise ValueError(f"echo has no fault '{name}'; it has: {', '.join(FAULTS)}")
        if not 0 <= part <= 1:
            raise ValueError(f"the share of '{name}' must be between 0 and 1 (0% to 100%), not {part}")
    return MappingProxyType(dict(faults))


def drawn_fault(faults: Mapping[str, float], seed: str, attempt: int) -> str | None:
    """The fault that strikes the attempt (from 1) at what `seed` names, if one does."""
    shares = fault_shares(faults)
    return _drawn(shares, TRANSPORT_FAULTS, share(seed, "transport", attempt)) or _drawn(
        shares, ANSWER_FAULTS, share(seed, "answer")
    )


def fault_error(fault: str, request: LLMRequest, text: str, usage: Usage) -> CallFailed | None:
    """The error that a fault is; None for those that are a spoilt answer instead."""
    said = "echo was told to fail like this"
    if fault == "rate_limit":
        return RateLimited(f"rate limit ({said})", status=429, retry_after=_RETRY_AFTER_S)
    if fault == "server_error":
        return ServerFault(f"server error ({said})", status=500)
    if fault == "timeout":
        return CallTimeout(f"no answer in time ({said})", clock="attempt", billed="maybe")
    if fault == "refusal":
        return Refused(
            f"the model refused ({said})", status=200, raw="I cannot help with that.", usage=usage, billed="yes"
        )
    if fault == "truncated":
        cut = text[: max(1, len(text) // 2)]
        return Truncated(f"the answer was cut off ({said})", status=200, raw=cut, usage=usage, billed="yes")
    return None


def _drawn(shares: Mapping[str, float], names: tuple[str, ...], at: float) -> str | None:
    for name in names:
        at -= shares.get(name, 0.0)
        if at < 0:
            return name
    return None
