"""The policy keys of a step, over those of `defaults`, over what llmpipe does by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmpipe.config.fallbacks import Fallbacks, read_fallbacks
from llmpipe.config.fields import Fields, names, plain
from llmpipe.config.nodes import Node
from llmpipe.config.quantities import (
    dollars,
    fraction,
    is_off,
    optional_seconds,
    optional_whole,
    seconds,
    whole,
)
from llmpipe.policy import Budget, CachePolicy, Limits, MaxFailures, MinSuccess, Retry, Timeout

CLOCKS = ("connect", "first_token", "idle", "attempt", "total")


def read_timeout(fields: Fields, base: Timeout) -> Timeout:
    """The clocks, over those of `base`."""
    return replace(base, **{clock: fields.read(clock, optional_seconds, getattr(base, clock)) for clock in CLOCKS})


def read_retry(fields: Fields, base: Retry) -> Retry:
    """The patience, over that of `base`."""
    return Retry(
        max_retries=fields.read("max_retries", _int, base.max_retries),
        base=fields.read("base", seconds, base.base),
        cap=fields.read("cap", seconds, base.cap),
        jitter=fields.read("jitter", plain, base.jitter),
        retry_after_max=fields.read("retry_after_max", seconds, base.retry_after_max),
        retry_after_over=fields.read("retry_after_over", plain, base.retry_after_over),
    )


def read_cache(owner: Fields, base: CachePolicy) -> CachePolicy:
    """`cache` of a step or of the defaults, over `base`; `off` turns it off whatever `base` says."""
    node, fields = owner.get("cache"), owner.sub("cache", "cache_policy")
    if node is None:
        return base
    if node.kind == "str":
        return CachePolicy(read=False, write=False)
    return CachePolicy(
        read=fields.read("read", plain, base.read),
        write=fields.read("write", plain, base.write),
        ttl_s=fields.read("ttl", optional_seconds, base.ttl_s),
    )


def read_limits(fields: Fields) -> Limits:
    """What a gate lets through. `concurrency: auto` is None; rpm and tpm are 0 where they are turned off."""
    return Limits(
        concurrency=fields.read("concurrency", lambda n: None if n.value == "auto" else int(n.value), None),
        rpm=fields.read("rpm", lambda n: optional_whole(n) or 0, None),
        tpm=fields.read("tpm", lambda n: optional_whole(n) or 0, None),
    )


def read_budget(fields: Fields) -> Budget:
    """What a run may spend."""
    return Budget(
        usd=fields.read("usd", dollars, None),
        tokens=fields.read("tokens", optional_whole, None),
        calls=fields.read("calls", optional_whole, None),
        wall_s=fields.read("wall", optional_seconds, None),
    )


def min_success(node: Node) -> MinSuccess:
    """A percentage, or a count of successes; 0 or none asks for nothing."""
    if is_off(node):
        return MinSuccess(share=None, count=0)
    if node.kind == "str":
        return MinSuccess(share=fraction(node.value), count=None)
    return MinSuccess(share=None, count=int(node.value))


def max_failures(node: Node) -> MaxFailures | None:
    """A percentage, or a count of failures; 0 or none never stops a run."""
    if is_off(node):
        return None
    if node.kind == "str":
        return MaxFailures(share=fraction(node.value))
    return MaxFailures(count=int(node.value))


class Policies:
    """The keys that may stand in a step and in `defaults` alike."""

    def __init__(self, fields: Fields, base: Policies | None = None) -> None:
        self.timeout: Timeout = read_timeout(fields.sub("timeout", "timeout"), base.timeout if base else Timeout())
        self.retry: Retry = read_retry(fields.sub("retry", "retry"), base.retry if base else Retry())
        self.cache: CachePolicy = read_cache(fields, base.cache if base else CachePolicy())
        self.models: tuple[str, ...] = fields.read("model", names, base.models if base else ())
        self.fallback: Fallbacks | None = fields.read(
            "fallback", lambda n: read_fallbacks(n, fields.problems), base.fallback if base else None
        )
        self.max_reasks: int = fields.read("max_reasks", _int, base.max_reasks if base else 1)
        self.reask_model: str | None = fields.read("reask_model", plain, base.reask_model if base else None)
        self.repair: bool = fields.read("repair", plain, base.repair if base else False)
        self.coerce: bool = fields.read("coerce", plain, base.coerce if base else False)
        self.on_truncated: Any = fields.read("on_truncated", plain, base.on_truncated if base else "fail")
        self.on_error: Any = fields.read("on_error", plain, base.on_error if base else None)
        self.min_success: MinSuccess = fields.read(
            "min_success", min_success, base.min_success if base else MinSuccess()
        )
        self.max_prompt: int = fields.read("max_prompt", whole, base.max_prompt if base else 1024 * 1024)
        self.allow_skipped: bool = fields.read("allow_skipped", plain, base.allow_skipped if base else False)


def _int(node: Node) -> int:
    return int(node.value)
