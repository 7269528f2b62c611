"""The one table of refusals: code, HTTP status, public sentence, whether a retry can help.

    Refusal            (Exception: carries a row, never any text of the request)
      400 .. 431       the request is at fault; the client must change something
      429, 503, 529    come back later
      502, 504         the upstream is at fault

Dialects only render a row (`core/wire/errors.py`). `field` comes from a fixed list of names, never from the request.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One refusal. Unless `retryable`, the answer carries `x-should-retry: false` where SDKs would retry the status."""

    code: str
    status: int
    sentence: str
    retryable: bool = False


_ROWS = (
    # The bytes were not HTTP as we accept it; the connection closes after each of these.
    Row("invalid_http", 400, "The request is not valid HTTP/1.1."),
    Row("header_too_large", 431, "The request headers are too large."),
    Row("uri_too_long", 414, "The request target is too long."),
    Row("expectation_failed", 417, "Only the expectation 100-continue is supported."),
    Row("upgrade_refused", 400, "Protocol upgrades, WebSocket included, are not supported here; use HTTP."),
    Row("request_timeout", 408, "The request did not arrive in time.", retryable=True),
    # Route and method.
    Row("unknown_url", 404, "Unknown request URL. Check the base URL and the path."),
    Row("method_not_allowed", 405, "This URL does not accept this method."),
    # Authentication.
    Row(
        "missing_api_key",
        401,
        "No API key was given. Send a luntrex key as 'Authorization: Bearer lx_...' or 'x-api-key: lx_...'.",
    ),
    Row("invalid_api_key", 401, "The API key is not valid."),
    Row("provider_api_key", 401, "This is a provider's key. Use a luntrex key: it starts with lx_."),
    Row("conflicting_api_keys", 401, "Two different API keys were given. Send one."),
    Row(
        "too_many_failures",
        429,
        "Too many wrong API keys came from this network. Send the right key, or wait.",
    ),
    Row("address_not_allowed", 403, "The API key may not be used from this network address."),
    Row("endpoint_not_allowed", 403, "The API key may not use this endpoint."),
    Row(
        "processing_restricted",
        403,
        "The owner of this API key asked that their data only be stored; it can be used again once they lift that.",
    ),
    Row("keys_unavailable", 503, "The key cannot be checked right now. Try again shortly.", retryable=True),
    # Body.
    Row("body_too_large", 413, "The request body is too large."),
    Row(
        "body_capacity", 503, "The gateway holds too many request bodies right now. Try again shortly.", retryable=True
    ),
    Row("encoded_body", 415, "Encoded request bodies are not accepted. Send plain JSON without content-encoding."),
    Row("not_json", 400, "The request body is not a JSON object."),
    Row(
        "ambiguous_json",
        400,
        "The request body is ambiguous JSON (a repeated or escaped top-level key, a BOM, or bad UTF-8).",
    ),
    Row("wrong_type", 400, "A field of the request has the wrong type."),
    Row("missing_model", 400, "The request names no model."),
    Row("field_not_allowed", 400, "This field needs state at the provider, or another model; both are off here."),
    # Access and routing.
    Row("model_not_found", 404, "The model does not exist here or the key may not use it."),
    Row(
        "price_unknown",
        403,
        "The price of this model is not known, and models without one are not served here; the operator can state it "
        "(price of the model).",
    ),
    Row(
        "policy_excludes",
        403,
        "The privacy policy excludes every upstream of this model for this attribute; the operator can state or widen "
        "it, the account consent to training.",
    ),
    Row(
        "policy_forbids",
        403,
        "The privacy policy does not allow this field: the provider would keep content longer or pass it on. Leave it "
        "out or ask for a wider policy.",
    ),
    Row(
        "bad_policy",
        400,
        "The header x-luntrex-policy must read like 'region=eu; retention=none; training=never', each part at most "
        "once.",
    ),
    Row(
        "subprocessor_unlisted",
        403,
        "The register of sub-processors has no complete and reviewed entry for any upstream of this model; the "
        "operator can complete it.",
    ),
    Row(
        "subprocessor_objected",
        403,
        "The account has objected to every sub-processor that could serve this model; it can withdraw the objection.",
    ),
    Row("no_upstream", 503, "No upstream can serve this model right now.", retryable=True),
    Row(
        "upstream_maintenance",
        503,
        "Every upstream of this model is in maintenance; try again once the operator has ended it.",
        retryable=True,
    ),
    # The upstream.
    Row("upstream_auth", 502, "The upstream refused the gateway's own credentials. The operator has to fix this."),
    Row("upstream_unreachable", 502, "The upstream could not be reached.", retryable=True),
    Row("upstream_closed", 502, "The upstream closed the connection without an answer.", retryable=True),
    Row("upstream_invalid", 502, "The upstream's answer was not valid.", retryable=True),
    Row("upstream_error", 502, "The upstream reported an error.", retryable=True),
    Row("upstream_cut", 502, "The upstream's answer ended too early.", retryable=True),
    Row("upstream_timeout", 504, "The upstream did not answer in time.", retryable=True),
    # Ourselves.
    Row("overloaded", 503, "The gateway is at its limit. Try again shortly.", retryable=True),
    Row("too_many_requests", 429, "Too many requests at once from this address. Try again shortly.", retryable=True),
    # Limits of accounts and keys (core/limits.py); the refusal says which.
    Row("requests_limited", 429, "As many requests were sent as may be. Wait as long as Retry-After says.", True),
    Row("tokens_limited", 429, "As many tokens were used as may be. Wait as long as Retry-After says.", True),
    Row("limit_unknown", 503, "What is left of a limit cannot be known now. Try again shortly.", retryable=True),
    Row("streams_limited", 429, "As many streams run as may at once. Let one end first.", True),
    # Budgets (core/budgets.py); the refusal says which, and when it begins anew. No SDK has to wait for that.
    Row("budget_spent", 429, "A budget does not cover this request."),
    Row("budget_unknown", 503, "What is left of a budget cannot be known now. Try again shortly.", retryable=True),
    Row("ledger_full", 503, "The gateway cannot record another request right now. Try again shortly.", retryable=True),
    Row("draining", 503, "The gateway is shutting down. Try again.", retryable=True),
    Row("key_revoked", 401, "The API key was revoked while it was in use."),
    Row("internal_error", 500, "The gateway failed to handle the request."),
)
REFUSALS: dict[str, Row] = {row.code: row for row in _ROWS}

# Request fields that a refusal may name. Anything else is not named.
FIELDS = frozenset(
    {
        "model", "stream", "stream_options", "store", "previous_response_id", "conversation",
        "background", "prompt", "messages", "input", "max_tokens", "tools", "container", "file_id", "mcp_servers",
        "modalities", "inference_geo", "prompt_cache_retention", "region", "retention", "training", "thread",
        "diagnostics", "fallbacks", "audio", "prompt_cache_options", "prompt_cache_breakpoint", "provider", "plugins",
        "models", "route", "preset",
    }
)  # fmt: skip


class Refusal(Exception):  # noqa: N818 -- it is an answer, not a programming error
    """An answer that is not the upstream's. Raised at a station, rendered once in the pipeline."""

    def __init__(
        self, code: str, field: str | None = None, retry_after_s: int | None = None, *, limit: str = ""
    ) -> None:
        super().__init__(code)
        self.row = REFUSALS[code]
        self.field = field if field in FIELDS else None
        self.limit = limit  # the one that was met, in fixed words and numbers
        self.retry_after_s = 1 if retry_after_s is None and self.row.status == 503 else retry_after_s
