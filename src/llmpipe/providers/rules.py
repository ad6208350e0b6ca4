"""Which words of a provider mean which error: the table, read from the top, first hit wins (facts 0.4, 0.5, A6, B2.2).

`codes` are compared with every code, type, status and reason that an error body holds, in lower case; `phrase` is
searched in its message, in lower case. A rule hits if one of the two does, at one of its `statuses` (none named: any).
A rule that is not `firm` may be overruled by the server's `x-should-retry`; a firm one may not, since no wait mends
what it is about.
"""

from __future__ import annotations

import re

from llmpipe.errors import (
    AccessDenied,
    BadReply,
    BadRequest,
    CallFailed,
    Conflict,
    ContentFiltered,
    ContextTooLong,
    KeyRefused,
    ModelUnknown,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RemoteFetchFailed,
    RequestTooLarge,
    SchemaRejected,
    ServerFault,
)
from llmpipe.frozen import frozen
from llmpipe.late import late


@frozen
class Rule:
    """One row of the table."""

    error: type[CallFailed]
    codes: frozenset[str] = frozenset()
    phrase: re.Pattern[str] | None = None
    statuses: frozenset[int] = frozenset()
    firm: bool = True


def _rule(
    error: type[CallFailed],
    codes: str = "",
    phrases: tuple[str, ...] = (),
    *,
    statuses: tuple[int, ...] = (),
    firm: bool = True,
) -> Rule:
    phrase = late("|".join(phrases)) if phrases else None
    return Rule(error, frozenset(codes.split()), phrase, frozenset(statuses), firm)


_CLIENT_SIDE = (200, *range(400, 500))  # a phrase in a 5xx says nothing about the request

RULES: tuple[Rule, ...] = (
    # OpenAI's five quota codes, Anthropic's spend caps and billing, the older OpenAI codes (facts 0.4, 0.5).
    _rule(
        QuotaExhausted,
        "insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded project_spend_limit_exceeded "
        "organization_usage_limit_exceeded billing_hard_limit_reached billing_not_active "
        "enforced_spend_limit_reached contract_spend_limit_reached billing_error insufficient_balance",
    ),
    _rule(
        QuotaExhausted,
        phrases=(
            r"you have reached your specified .{0,60}usage limits",
            r"credit balance is too low",
            r"insufficient (balance|credits?|funds)",
            r"monthly (spend|spending|usage) (limit|cap)",
            r"(spend|spending|billing hard) limit (has been |was )?(reached|exceeded)",
        ),
        statuses=_CLIENT_SIDE,
    ),
    # A quota per day: its retryDelay may not be slept on (facts A6, Gemini). Matches quotaId, which counts as a code.
    _rule(QuotaExhausted, phrases=(r"per_?(day|month)(per|-|$|\b)",), statuses=(429,)),
    # Anthropic's acceleration limit is a rate, whatever else the reply lacks (facts B2.5).
    _rule(RateLimited, "ramp_limit_exceeded", firm=False),
    _rule(
        ContextTooLong,
        "context_length_exceeded context_window_exceeded exceed_context_size_error string_above_max_length "
        "prompt_too_long max_context_length_exceeded contextwindowexceedederror input_too_long",
        (
            r"maximum context length",
            r"max(imum)? context (length|size|window)",
            r"context (length|size|window|limit).{0,40}(exceed|too (small|long)|overflow)",
            r"exceeds?.{0,60}context (length|size|window|limit)",
            r"prompt is too long",
            r"prompt too (long|large)",
            r"input is too long",
            r"input length .{0,60}exceed",
            r"input token count .{0,60}exceeds",
            r"exceeds the maximum number of (input )?tokens",
            r"too many (input )?tokens in (the )?(prompt|request|input)",
            r"reduce the length of (the|your) (messages|prompt|input)",
        ),
    ),
    # More tokens in one request than the account may send in a minute: no wait helps (OpenAI 429, Groq 413).
    _rule(
        RequestTooLarge,
        "request_too_large payload_too_large",
        (r"request too large", r"request payload size exceeds", r"request (entity|body) (is )?too large"),
    ),
    _rule(
        ContentFiltered,
        "content_filter content_policy_violation image_content_policy_violation responsibleaipolicyviolation "
        "content_filtered data_inspection_failed moderation_blocked invalid_prompt prohibited_content",
        (
            r"content (management|filtering) policy",
            r"violat\w* (of )?(our|the|openai's) (usage|content) polic",
            r"(flagged|blocked) (by|due to) .{0,30}(moderation|safety|content)",
            r"requires moderation",
            r"input was flagged",
        ),
        statuses=_CLIENT_SIDE,
    ),
    # 400s that are the network's fault, not the request's (facts A6).
    _rule(
        RemoteFetchFailed,
        "invalid_image_url url_fetch_error",
        (
            r"error while downloading",
            r"cannot fetch content",
            r"(failed|unable) to (download|fetch)",
            r"timeout while downloading",
            r"could not (download|fetch)",
        ),
        statuses=_CLIENT_SIDE,
        firm=False,
    ),
    _rule(
        ModelUnknown,
        "model_not_found model_not_available model_decommissioned model_deprecated invalid_model unknown_model "
        "deploymentnotfound modelnotfound not_found_error notfounderror",
        (
            r"models?\b.{0,150}(not found|(does )?not exist|is not available|no longer available)",
            r"(is )?not a valid model",
            r"(invalid|unknown|unrecognized) model",
            r"model.{0,80}(has been|was|is) (deprecated|retired|decommissioned)",
            r"try pulling it first",
            r"no endpoints found",
        ),
        statuses=(200, 400, 403, 404, 410, 422),
    ),
    _rule(
        SchemaRejected,
        "invalid_json_schema invalid_schema schema_too_complex",
        (
            r"invalid (json )?schema",
            r"schema is too complex",
            r"too many states for serving",
            r"response[_ ]?format",
            r"output_config(\.format|: extra inputs)",
            r"output_format",
            r"text\.format",
            r"response_?((json_?)?schema|mime_?type)",
            r"json[_ ]?schema",
            r"\bjson (mode|output)\b.{0,60}\b(not|un)",
            r"\bnot (support|enabled?).{0,40}\b(json (mode|output)|structured output|guided)",
            r"\bgrammar\b",
            r"guided_json",
            r"structured outputs?\b.{0,60}(not|un)",
        ),
        statuses=(200, 400, 404, 422),
    ),
    _rule(
        KeyRefused,
        "invalid_api_key authentication_error api_key_invalid unauthenticated invalid_authentication "
        "authenticationerror token_expired expired_api_key account_deactivated",
        (
            r"(incorrect|invalid|expired|bad) (api|x-api)[- ]key",
            r"api key (not valid|expired|is invalid|not found)",
            r"no connected db",
            r"reported as leaked",
            r"invalid (authentication|credentials)",
        ),
        statuses=(200, 400, 401, 403),
    ),
    _rule(
        AccessDenied,
        "permission_error permission_denied access_denied access_terminated organization_restricted "
        "unsupported_country_region_territory service_disabled api_key_service_blocked api_key_ip_address_blocked "
        "api_key_http_referrer_blocked consumer_suspended permissiondeniederror",
        (
            r"location is not supported",
            r"must be verified to",
            r"does not have (access|permission) to",
            r"not allowed to access model",
        ),
        statuses=(200, 400, 401, 403, 404),
    ),
    # The model's own words were no JSON: the next try may do better (Groq).
    _rule(BadReply, "json_validate_failed tool_use_failed", firm=False),
    # What the server calls itself. These may be overruled by x-should-retry.
    _rule(
        Overloaded,
        "overloaded_error overloaded engine_overloaded engine_overloaded_error server_overloaded unavailable "
        "unavailable_error service_unavailable slow_down service_tier_capacity_exceeded capacity_exceeded",
        (
            r"\boverloaded\b",
            r"\bslow down\b",
            r"server (is )?busy",
            r"loading model",
            r"maximum pending requests",
            r"no healthy upstream",
            r"(at|over|exceeded) capacity",
        ),
        statuses=(200, 429, *range(500, 600)),
        firm=False,
    ),
    _rule(
        RateLimited,
        "rate_limit_exceeded rate_limit_error rate_limited ratelimiterror too_many_requests resource_exhausted "
        "throttlingexception throttling throttled requests tokens",
        (r"rate limit", r"too many requests"),
        statuses=(200, 400, 403, 413, 429, 503),
        firm=False,
    ),
    _rule(Conflict, "conflict_error conflict aborted", firm=False),
    _rule(
        ServerFault,
        "server_error api_error internal internal_error internal_server_error internalservererror timeout_error "
        "deadline_exceeded upstream_error bad_gateway gateway_timeout processing_error",
        statuses=(200, 408, *range(500, 600)),
        firm=False,
    ),
    _rule(
        BadRequest,
        "invalid_request_error invalid_request bad_request badrequesterror invalid_argument failed_precondition "
        "out_of_range unsupported_parameter unsupported_value invalid_value missing_required_parameter",
        statuses=(200, 400, 422),
        firm=False,
    ),
)

# What a status means where the body says nothing (facts B2.2).
BY_STATUS: dict[int, type[CallFailed]] = {
    401: KeyRefused,
    402: QuotaExhausted,
    403: AccessDenied,
    404: ModelUnknown,
    405: ModelUnknown,
    407: AccessDenied,
    408: ServerFault,
    409: Conflict,
    410: ModelUnknown,
    413: RequestTooLarge,
    425: ServerFault,
    429: RateLimited,
    451: AccessDenied,
    498: Overloaded,
    499: ServerFault,
    503: Overloaded,
    529: Overloaded,
}


def by_status(status: int) -> type[CallFailed]:
    """The class of an error of which only the HTTP status is known; 200 stands for an error body after success."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 400 <= status < 500:
        return BadRequest
    return ServerFault if 200 <= status < 300 or 500 <= status < 600 else BadReply
