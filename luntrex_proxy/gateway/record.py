"""Station 9, record: one Outcome per request to every sink, exactly once. No other log or metric is on the way."""

from collections.abc import Callable

import msgspec

from luntrex_proxy.core.health import Health
from luntrex_proxy.core.outcome import ENDING_WORDS, USAGE_WORDS, Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.ports import Outside
from luntrex_proxy.gateway.request_id import new_request_id

OTHER = "other"
NO_TOKENS = Tokens()
NO_PRICE = Price(rates=None, model=OTHER, version="")


def begin(now: float, outside: Outside, elapsed_us: Callable[[], int]) -> "Draft":
    """The draft of a request that came at `now` (unix seconds)."""
    return Draft(outside, elapsed_us, new_request_id(now), int(now * 1e6))


class Draft(msgspec.Struct, eq=False):
    """The outcome in the making: what each station has found out so far. A struct: made in C, once per request."""

    outside: Outside
    elapsed_us: Callable[[], int]
    request_id: str
    started_us: int
    recorded: bool = False
    account_id: int = 0
    key_id: str = ""
    route: str = "none"
    model: str = OTHER
    upstream: str = ""
    status: int = 0
    code: str = "internal_error"
    ending: Ending = Ending.REFUSED
    streamed: bool = False
    usage_source: UsageSource = UsageSource.NONE
    tokens: Tokens = NO_TOKENS
    price: Price = NO_PRICE
    health: Health | None = None  # not recorded: who has to be told how the request ended
    answer: Answer | None = None  # not recorded: where the meter reads and the pipeline closes
    request_bytes: int = 0
    response_bytes: int = 0
    events: int = 0
    attempts: int = 0
    first_byte_us: int = 0
    overhead_us: int = 0

    def __repr__(self) -> str:
        return "Draft()"

    def open(self) -> None:
        """Put the request on record before an upstream sees it. Raises LedgerFullError."""
        self.overhead_us = self.elapsed_us()
        opening = Opening(
            self.request_id,
            self.started_us,
            self.account_id,
            self.key_id,
            self.route,
            self.model,
            self.upstream,
            self.streamed,
            self.request_bytes,
        )
        self.outside.ledger.open(opening)

    def settle(self) -> None:
        """Make the Outcome and give it to every sink; later calls do nothing."""
        if self.recorded:
            return
        self.recorded = True
        tokens = self.tokens
        # By position, in the order of the fields: by name it takes three times as long.
        outcome = Outcome(
            self.request_id,
            self.started_us,
            self.account_id,
            self.key_id,
            self.route,
            self.model,
            self.upstream,
            self.status,
            self.code,
            ENDING_WORDS[self.ending],
            self.streamed,
            USAGE_WORDS[self.usage_source],
            tokens.input,
            tokens.cached_input,
            tokens.cache_write_5m,
            tokens.cache_write_1h,
            tokens.input_audio,
            tokens.output,
            tokens.reasoning,
            tokens.output_audio,
            self.price.cost_pico(tokens),
            self.price.version,
            self.request_bytes,
            self.response_bytes,
            self.events,
            self.attempts,
            self.elapsed_us(),
            self.first_byte_us,
            self.overhead_us,
        )
        for sink in self.outside.sinks:
            try:
                sink(outcome)
            except Exception as bug:  # noqa: BLE001 -- a sink that breaks must not cost the client its answer
                self.outside.on_bug(bug)
        if self.account_id:
            self.outside.ledger.settle(outcome)
