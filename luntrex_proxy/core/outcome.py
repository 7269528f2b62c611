"""What is kept of a request, and nothing else: ids, enums and numbers. No free text may become a field here.

The field list of `Outcome` is the documented allowlist of the ledger, the log line and the usage table
(design section 7); `tests/core/test_outcome.py` pins it.
"""

import enum
from typing import Literal

import msgspec


class Ending(enum.StrEnum):
    """How a request ended."""

    __hash__ = str.__hash__  # Enum's own is a call in Python, for every look into a table

    COMPLETE = "complete"  # the client was given a whole answer, the upstream's own error included
    REFUSED = "refused"  # by us, before an upstream was asked
    UPSTREAM_FAILED = "upstream_failed"  # unreachable, timed out, cut, garbage, or an error inside the stream
    CLIENT_GONE = "client_gone"
    CUT = "cut"  # by us: key revoked, drain deadline
    INTERRUPTED = "interrupted"  # this process died between open and settle; written at recovery


class UsageSource(enum.StrEnum):
    """Where the token counts come from."""

    __hash__ = str.__hash__

    REPORTED = "reported"  # the upstream's own numbers
    ESTIMATED = "estimated"  # counted events and bytes, never from reading text
    UNKNOWN = "unknown"  # an upstream worked but nothing is known of how much
    NONE = "none"  # no upstream worked


# A member read through its class takes twenty times as long: these are what nearly every request comes to.
COMPLETE, REFUSED, UPSTREAM_FAILED = Ending.COMPLETE, Ending.REFUSED, Ending.UPSTREAM_FAILED
REPORTED, UNUSED = UsageSource.REPORTED, UsageSource.NONE

# The same as plain words: an enum takes as long to write as ten of a record's numbers.
EndingWord = Literal["complete", "refused", "upstream_failed", "client_gone", "cut", "interrupted"]
UsageWord = Literal["reported", "estimated", "unknown", "none"]
ENDING_WORDS: dict[Ending, EndingWord] = {ending: ending.value for ending in Ending}
USAGE_WORDS: dict[UsageSource, UsageWord] = {source: source.value for source in UsageSource}


class Tokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Token counts by price class. The subsets are contained in `input` and `output`, never added to them."""

    input: int = 0  # all input, cached and cache-writing tokens included
    cached_input: int = 0  # subset of input: read from the provider's cache
    cache_write_5m: int = 0  # subset of input: written to the cache for 5 minutes (or the provider's only class)
    cache_write_1h: int = 0  # subset of input: written to the cache for 1 hour
    input_audio: int = 0  # subset of input
    output: int = 0  # all output, reasoning included
    reasoning: int = 0  # subset of output
    output_audio: int = 0  # subset of output

    def columns(self) -> dict[str, int]:
        """The counts under the names they have in records and tables."""
        return {f"{name}_tokens": getattr(self, name) for name in self.__struct_fields__}


class ServedTokens(Tokens, frozen=True, array_like=True, gc=False):
    """The same of an answer that says that it came at another service tier than the standard one."""

    service: str = ""  # a word of SERVICES


SERVICES = frozenset({"flex", "priority", "batch", "fast"})  # tiers with prices of their own; never another word


class Opening(msgspec.Struct, frozen=True, array_like=True, tag="open", gc=False):
    """Written before the upstream sees the request; without a matching `Outcome` it becomes `interrupted`."""

    request_id: str  # UUIDv7, the value of the x-request-id header
    started_us: int  # unix time
    account_id: int
    key_id: str
    route: str
    model: str  # the catalogue's name or "other", never the client's string
    upstream: str
    streamed: bool
    request_bytes: int
    input_tokens: int = 0  # by its size: what counts of it if nobody ever knows more
    cost_pico: int = 0  # of these, in pico-dollars
    price_version: str = ""


class Outcome(msgspec.Struct, frozen=True, array_like=True, tag="settle", gc=False):
    """The one record of a request; every sink (ledger, metrics, log line) gets this and nothing more."""

    request_id: str
    started_us: int
    account_id: int  # 0: the caller was never known; such outcomes are counted and logged but not in the ledger
    key_id: str
    route: str  # a name of core.call.ROUTE_NAMES
    model: str
    upstream: str  # configured name, "" when none was asked
    status: int  # the HTTP status the client was sent, 0 when the client left before one was
    code: str  # "ok", or a code of core.refusals
    ending: EndingWord
    streamed: bool
    usage_source: UsageWord
    input_tokens: int  # these eight as in `Tokens`; flat, so that a record is a line of a table
    cached_input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    cost_pico: int  # pico-dollars
    price_version: str
    request_bytes: int
    response_bytes: int
    events: int  # SSE events given to the client
    attempts: int  # upstreams asked
    duration_us: int
    first_byte_us: int  # from accept to the first answer byte sent, 0 when none was
    overhead_us: int  # our own share of the time until the request went upstream
    trail: str = ""  # what was unusual on the way: core/trail.py. New fields come last and have a default, as it has

    @property
    def tokens(self) -> Tokens:
        """The token counts together."""
        return Tokens(
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
            self.input_audio_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.output_audio_tokens,
        )


Record = Opening | Outcome
