"""Station 8, meter: what was used. The upstream's own numbers; without them an estimate from counts, marked as such.

    reported    the upstream says it
    estimated   it was seen at work: its input as it said or from the request's size, its output as far as it came
    unknown     it was sent a request of which nothing came back: at most the input counts
    none        it did no work: nothing was sent, or it answered that it would not

Who leaves an upstream that works unseen (it thinks, or answers in one piece) pays for the time it had, up to the
longest answer the request allows. An upstream that breaks off is paid for what came: a broken one empties no budget.
Estimates come from counted events and bytes, never from reading text.
"""

from luntrex_proxy.core.outcome import REPORTED, UNUSED, ServedTokens, Tokens, UsageSource
from luntrex_proxy.core.wire.usage import at_service
from luntrex_proxy.gateway.answer import Answer

BYTES_PER_TOKEN = 4
UNSEEN_TOKENS_PER_S = 200  # what nearly no model is faster than
UNBILLED = frozenset({"models", "moderations", "messages.count_tokens"})
NO_OUTPUT = frozenset({"embeddings"})


def meter(
    route_name: str, answer: Answer | None, request_bytes: int, response_bytes: int, longest: int = 0
) -> tuple[Tokens, UsageSource]:
    """Tokens and where they come from. `answer` is None when no upstream was to see the request.

    `longest`: how many tokens an answer may have that was left before its end.
    """
    if answer is None or not answer.is_sent or route_name in UNBILLED or answer.status not in (0, 200):
        return Tokens(), UNUSED
    reader = answer.reader if answer.is_stream else None
    usage = answer.usage if reader is None else reader.usage
    if usage is not None and (reader is None or (reader.ended and not reader.usage_partial)):
        return usage, REPORTED
    if answer.is_refusal():
        return Tokens(), UNUSED
    if answer.is_nothing():
        return Tokens(), UsageSource.UNKNOWN
    said = usage or Tokens()
    if reader is not None:
        seen = max(reader.events, -(-reader.text_bytes // BYTES_PER_TOKEN))
    else:
        seen = -(-max(response_bytes, answer.gathered_bytes) // BYTES_PER_TOKEN)
    output = max(said.output, seen)
    if route_name in NO_OUTPUT:
        output = 0
    elif output < longest:
        output = min(longest, output + int(answer.silent_s()) * UNSEEN_TOKENS_PER_S)
    estimate = Tokens(
        input=said.input or -(-request_bytes // BYTES_PER_TOKEN),
        cached_input=said.cached_input,
        cache_write_5m=said.cache_write_5m,
        cache_write_1h=said.cache_write_1h,
        output=output,
        reasoning=said.reasoning,
    )
    service = said.service if isinstance(said, ServedTokens) else "" if reader is None else reader.service
    return at_service(estimate, service) or estimate, UsageSource.ESTIMATED if seen else UsageSource.UNKNOWN
