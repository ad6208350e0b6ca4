"""What all wires share: opening a reply, and judging an answer by how it ended before anybody reads it (facts A4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmpipe.errors import (
    BadReply,
    BadRequest,
    CallFailed,
    ContentFiltered,
    EmptyAnswer,
    IncompleteAnswer,
    Refused,
    Truncated,
)
from llmpipe.frozen import frozen
from llmpipe.providers.body import NotJsonBody, clean, dump_json, merged, read_json
from llmpipe.providers.classify import classify, has_error, raw_text, request_id_of
from llmpipe.providers.limits import limit_headers
from llmpipe.providers.table import Target, refused_fields
from llmpipe.structured.reasoning import apart
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Usage


@frozen
class Answer:
    """What a reply says, in no provider's shape. `reason` is the provider's own word for how it ended.

    `completion` is the length of the answer as the provider itself counts it, where a limit binds it.
    """

    text: str
    finish: Finish
    reason: str
    usage: Usage
    model: str = ""
    reasoning: str | None = None
    refusal: str = ""
    completion: int | None = None


def http_call(
    target: Target,
    body: Mapping[str, Any],
    request: LLMRequest,
    *,
    stream: bool,
    url: str = "",
    extra: Mapping[str, Any] | None = None,
) -> HttpCall:
    """`body` with the request's `extra` (or the one given here) laid over it, as a call.

    Raises BadRequest, with `sent` False, for what JSON cannot hold and for fields that are llmpipe's own.
    """
    extra = request.extra if extra is None else extra
    own = refused_fields(extra)
    if own:
        raise unsendable(f"extra may not set {', '.join(own)}: llmpipe sends these itself", target)
    try:
        content = dump_json(merged(body, extra))
    except ValueError as err:
        raise unsendable(str(err), target) from None
    streamed = "application/x-ndjson" if target.wire == "ollama" else "text/event-stream"
    return HttpCall(
        url=url or target.url,
        body=content,
        headers={
            "accept": streamed if stream else "application/json",
            "content-type": "application/json",
            **target.headers,
        },
        auth_header=target.dialect.auth_header if target.api_key_envs else None,
        auth_prefix=target.dialect.auth_prefix,
    )


def refuse_unsupported(request: LLMRequest, target: Target) -> None:
    """Raises BadRequest, with `sent` False, for parameters that the provider has no field for (facts A2)."""
    wrong = [name for name in sorted(target.dialect.unsupported) if getattr(request, name) not in (None, ())]
    if wrong:
        raise unsendable(f"{target.provider} has no {' and no '.join(wrong)}", target)


def unsendable(why: str, target: Target) -> BadRequest:
    """A BadRequest about a request that was not sent."""
    error = BadRequest(f"{target.label} cannot be asked this: {why}")
    error.sent = False
    return error


def open_reply(reply: HttpReply, target: Target) -> Mapping[str, Any]:
    """The body of a reply that is an answer. Raises the CallFailed that any other reply is."""
    if not 200 <= reply.status < 300:
        raise classify(reply, target)
    try:
        data = read_json(reply.body)
    except NotJsonBody as err:
        raise bad_reply(f"HTTP {reply.status} with a body that is {_shape(reply, err)}", reply, target) from None
    if has_error(data):
        raise classify(reply, target, data=data)
    if not isinstance(data, Mapping):
        raise bad_reply(f"HTTP {reply.status} with a JSON {type(data).__name__} where an object belongs", reply, target)
    return data


def bad_reply(why: str, reply: HttpReply, target: Target) -> BadReply:
    """A BadReply with the reply as evidence."""
    return BadReply(
        f"{why} from {target.label}",
        status=reply.status,
        raw=raw_text(reply),
        billed="maybe",
        provider_request_id=request_id_of(reply),
    )


def conclude(answer: Answer, reply: HttpReply, target: Target, request: LLMRequest | None) -> LLMResponse:
    """The response that `answer` is, or the error: refused, filtered, truncated, incomplete or empty (facts A4).

    Decided by the way it ended, before the text is looked at; an unknown reason is not completion. What was thought is
    no part of the answer, wherever it stood.
    """
    thought = apart(answer.text)
    if thought is not None:
        reasoning = "\n\n".join(part for part in (answer.reasoning, thought[0]) if part)
        answer = replace(answer, text=thought[1], reasoning=reasoning)
    if answer.text and answer.usage.output_tokens == 0:  # a text has tokens: they were not counted
        answer = replace(answer, usage=replace(answer.usage, output_tokens=None))
    kind, why = _verdict(answer, target, request)
    if kind is not None:
        raise kind(
            f"{target.label}: {why}",
            status=reply.status,
            provider_code=clean(answer.reason, 100) or None,
            raw=raw_text(reply),
            usage=answer.usage,
            billed="yes" if answer.usage != Usage() else "maybe",
            provider_request_id=request_id_of(reply),
        )
    return LLMResponse(
        text=answer.text,
        model=clean(answer.model, 200) or target.model,
        provider=target.provider,
        usage=answer.usage,
        reasoning=answer.reasoning or None,
        provider_request_id=request_id_of(reply),
        answered_by=target.label,
        rate_limits=limit_headers(reply.headers),
        notes=() if thought is None else ("think_stripped",),
    )


def _verdict(answer: Answer, target: Target, request: LLMRequest | None) -> tuple[type[CallFailed] | None, str]:
    reason, spent = clean(answer.reason, 100) or "no reason", _spent(answer.usage)
    verdicts: dict[Finish, tuple[type[CallFailed], str]] = {
        "refusal": (Refused, f"the model refused: {clean(answer.refusal) or reason}"),
        "filtered": (ContentFiltered, f"the provider's filter stopped the answer ({reason})"),
        "length": (Truncated, f"the answer was cut off ({reason}){spent}"),
        "incomplete": (IncompleteAnswer, f"the answer ended with {reason}, which is not completion"),
    }
    if answer.finish in verdicts:
        return verdicts[answer.finish]
    if _full(answer, target, request):
        return Truncated, f"the answer is as long as it was allowed to be{spent}"
    if not answer.text.strip():
        return EmptyAnswer, f"the answer is empty ({reason}){spent}"
    return None, ""


def _full(answer: Answer, target: Target, request: LLMRequest | None) -> bool:
    allowed = request.max_output_tokens if request is not None else None
    length = answer.completion
    return target.dialect.cut_when_full and allowed is not None and length is not None and length >= allowed


def _spent(usage: Usage) -> str:
    if usage.output_tokens is None:
        return ""
    reasoned = f", {usage.reasoning_tokens} of them reasoning" if usage.reasoning_tokens else ""
    return f" after {usage.output_tokens} output tokens{reasoned}"


def _shape(reply: HttpReply, err: NotJsonBody) -> str:
    head = reply.body[:200].lstrip().lower()
    if not head:
        return "empty"
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "a web page, not an answer"
    if head.startswith((b"data:", b"event:", b":")):
        return "a stream, though none was asked for"
    return str(err)
