"""Station 8, meter: what was used. The upstream's own numbers; without them an estimate from counts, marked as such.

Estimates come from counted events and bytes, never from reading text.
"""

from luntrex_proxy.core.outcome import REPORTED, UNUSED, ServedTokens, Tokens, UsageSource
from luntrex_proxy.core.wire.usage import at_service
from luntrex_proxy.gateway.answer import Answer

BYTES_PER_TOKEN = 4
UNBILLED = frozenset({"models", "moderations", "messages.count_tokens"})


def meter(
    route_name: str, answer: Answer | None, request_bytes: int, response_bytes: int
) -> tuple[Tokens, UsageSource]:
    """Tokens and where they come from. `answer` is None when no upstream saw the request."""
    if answer is None or route_name in UNBILLED or answer.status not in (0, 200):
        return Tokens(), UNUSED
    reader = answer.reader if answer.is_stream else None
    usage = answer.usage if reader is None else reader.usage
    if usage is not None and (reader is None or (reader.ended and not reader.usage_partial)):
        return usage, REPORTED
    if not answer.relayed:
        return Tokens(), UsageSource.UNKNOWN  # it may have worked; nothing is known of how much
    said = usage or Tokens()
    output = reader.events if reader is not None else response_bytes // BYTES_PER_TOKEN
    estimate = Tokens(
        input=said.input or request_bytes // BYTES_PER_TOKEN,
        cached_input=said.cached_input,
        cache_write_5m=said.cache_write_5m,
        cache_write_1h=said.cache_write_1h,
        output=max(said.output, output),
        reasoning=said.reasoning,
    )
    service = said.service if isinstance(said, ServedTokens) else "" if reader is None else reader.service
    return at_service(estimate, service) or estimate, UsageSource.ESTIMATED
