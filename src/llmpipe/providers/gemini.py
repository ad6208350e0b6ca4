"""The wire of Gemini's generateContent (facts A1 - A6). A base URL that ends in /v1 asks that version, else v1beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from llmpipe.providers.answers import Answer, bad_reply, conclude, http_call, open_reply, refuse_unsupported
from llmpipe.providers.asked import Asked, asked
from llmpipe.providers.body import as_list, as_map, as_text, first_map
from llmpipe.providers.stream import Event, error_of
from llmpipe.providers.table import Target
from llmpipe.providers.usage import grown, reported, usage_of
from llmpipe.types import Finish, HttpCall, HttpReply, LLMRequest, LLMResponse, Usage

_ROLES = {"assistant": "model", "user": "user"}
_FILTERED = "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR ESCALATION".split()
FINISH: Mapping[str, Finish] = {"STOP": "stop", "MAX_TOKENS": "length", **dict.fromkeys(_FILTERED, "filtered")}


def encode(request: LLMRequest, target: Target, *, stream: bool = False) -> HttpCall:
    """The bytes of POST `{base}/{version}/models/{model}:generateContent`; the key never goes into the URL."""
    refuse_unsupported(request, target)
    ask = asked(request, target)
    body: dict[str, Any] = {
        "contents": [
            {"role": _ROLES[turn.role], "parts": [{"text": turn.content}]}
            for turn in ask.turns
            if turn.role != "system"
        ]
    }
    system = [{"text": turn.content} for turn in ask.turns if turn.role == "system"]
    if system:
        body["systemInstruction"] = {"parts": system}
    optional = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxOutputTokens": request.max_output_tokens,
        "seed": request.seed,
        "stopSequences": list(request.stop) or None,
        "thinkingConfig": _thinking(request.reasoning_effort),
        **_response(ask),
    }
    config = {name: value for name, value in optional.items() if value is not None}
    if config:
        body["generationConfig"] = config
    return http_call(target, body, request, stream=stream, url=_url(target, stream=stream))


def decode(reply: HttpReply, target: Target, request: LLMRequest | None = None) -> LLMResponse:
    """The answer in a reply, or the error that it amounts to (facts A4, A5); thoughts are not the answer."""
    data = open_reply(reply, target)
    feedback = as_map(data.get("promptFeedback"))
    if "candidates" not in data and not feedback and "usageMetadata" not in data:
        raise bad_reply("no 'candidates' in the reply", reply, target)
    candidate = first_map(data.get("candidates"))
    parts = [as_map(part) for part in as_list(as_map(candidate.get("content")).get("parts"))]
    finish, reason = _finish(candidate, feedback)
    answer = Answer(
        text="".join(as_text(part.get("text")) for part in parts if part.get("thought") is not True),
        finish=finish,
        reason=reason,
        usage=usage_in(data),
        model=as_text(data.get("modelVersion")),
        reasoning="".join(as_text(part.get("text")) for part in parts if part.get("thought") is True),
    )
    return conclude(answer, reply, target, request)


class Streamed:
    """Adds up the chunks of the first candidate. Nothing closes the stream but the finishReason of the last chunk."""

    def __init__(self) -> None:
        self.complete = self.done = False
        self._error: Mapping[str, Any] | None = None
        self._head: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[tuple[bool, list[str]]] = []

    def add(self, event: Event) -> None:
        """Take in the next chunk."""
        self._error = error_of(event)
        if self._error is not None:
            self.complete = self.done = True
            return
        data = as_map(event.data)
        for name in ("promptFeedback", "modelVersion", "responseId"):
            if data.get(name):
                self._head[name] = data[name]
        if data.get("usageMetadata"):
            self._head["usageMetadata"] = grown(self._head.get("usageMetadata"), data["usageMetadata"])
        candidate = first_map(data.get("candidates"))
        self._candidate |= {name: value for name, value in candidate.items() if name != "content"}
        for part in as_list(as_map(candidate.get("content")).get("parts")):
            self._add_part(as_map(part))
        self.complete = bool(self._candidate.get("finishReason") or self._head.get("promptFeedback"))

    def body(self) -> Mapping[str, Any]:
        """A response of what has come."""
        if self._error is not None:
            return {**self._error, "partial": "".join(text for _, texts in self._parts for text in texts)}
        if not self._candidate and not self._parts:
            return self._head
        parts = [{"text": "".join(texts), **({"thought": True} if thought else {})} for thought, texts in self._parts]
        return {**self._head, "candidates": [{**self._candidate, "content": {"role": "model", "parts": parts}}]}

    def _add_part(self, part: Mapping[str, Any]) -> None:
        thought = part.get("thought") is True
        if not self._parts or self._parts[-1][0] is not thought:
            self._parts.append((thought, []))
        self._parts[-1][1].append(as_text(part.get("text")))


def _url(target: Target, *, stream: bool) -> str:
    folder, _, query = target.url.partition("?")
    model = quote(target.model.removeprefix("models/"), safe="")
    asks = [query] if query else []
    if stream:
        asks.append("alt=sse")
    verb = "streamGenerateContent" if stream else "generateContent"
    return f"{folder}/{model}:{verb}" + (f"?{'&'.join(asks)}" if asks else "")


def _response(ask: Asked) -> dict[str, Any]:
    if ask.native is None:
        return {}
    schema = {"responseJsonSchema": ask.schema} if ask.native == "json_schema" else {}
    return {"responseMimeType": "application/json", **schema}


def _thinking(effort: str | None) -> dict[str, Any] | None:
    """`thinkingLevel` by the name of the effort; none is a budget of 0 (facts A2)."""
    if effort is None:
        return None
    return {"thinkingBudget": 0} if effort == "none" else {"thinkingLevel": effort.upper()}


def _finish(candidate: Mapping[str, Any], feedback: Mapping[str, Any]) -> tuple[Finish, str]:
    """A blocked prompt has no candidate, only a blockReason; no candidate at all is an empty answer (facts A4)."""
    if not candidate:
        block = as_text(feedback.get("blockReason"))
        return ("filtered", block) if block else ("stop", "no candidates")
    reason = as_text(candidate.get("finishReason"))
    if reason.startswith("IMAGE_"):
        return "filtered", reason
    return FINISH.get(reason, "incomplete"), reason


def usage_in(data: Mapping[str, Any]) -> Usage:
    """The usage in a body. Thoughts are billed as output; a field is absent when it is 0 (facts A5)."""
    usage = as_map(data.get("usageMetadata"))
    prompt, tools = reported(usage, "promptTokenCount"), reported(usage, "toolUsePromptTokenCount")
    said, thought = reported(usage, "candidatesTokenCount"), reported(usage, "thoughtsTokenCount")
    return usage_of(
        input=None if prompt is None else prompt + (tools or 0),
        output=None if said is None and thought is None else (said or 0) + (thought or 0),
        total=reported(usage, "totalTokenCount"),
        cached=reported(usage, "cachedContentTokenCount"),
        reasoning=thought,
    )
