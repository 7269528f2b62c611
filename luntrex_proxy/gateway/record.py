"""Station 9, record: one Outcome per request to every sink, exactly once. No other log or metric is on the way."""

from collections.abc import Callable

from luntrex_proxy.core.health import Health
from luntrex_proxy.core.outcome import Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.ports import Outside
from luntrex_proxy.gateway.request_id import new_request_id

OTHER = "other"
NO_TOKENS = Tokens()
NO_PRICE = Price(rates=None, model=OTHER, version="")


class Draft:
    """The outcome in the making: what each station has found out so far."""

    # Defaults of the class, not of each object: a request sets only what it finds out.
    recorded = False
    account_id = 0
    key_id = ""
    route = "none"
    model = OTHER
    upstream = ""
    status = 0
    code = "internal_error"
    ending = Ending.REFUSED
    streamed = False
    usage_source = UsageSource.NONE
    tokens = NO_TOKENS
    price = NO_PRICE
    health: Health | None = None  # not recorded: who has to be told how the request ended
    answer: Answer | None = None  # not recorded: where the meter reads and the pipeline closes
    request_bytes = 0
    response_bytes = 0
    events = 0
    attempts = 0
    first_byte_us = 0
    overhead_us = 0

    def __init__(self, now: float, outside: Outside, elapsed_us: Callable[[], int]) -> None:
        self._outside = outside
        self._elapsed_us = elapsed_us
        self.request_id = new_request_id(now)
        self.started_us = int(now * 1e6)

    def open(self) -> None:
        """Put the request on record before an upstream sees it. Raises LedgerFullError."""
        self.overhead_us = self._elapsed_us()
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
        self._outside.ledger.open(opening)

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
            self.ending,
            self.streamed,
            self.usage_source,
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
            self._elapsed_us(),
            self.first_byte_us,
            self.overhead_us,
        )
        for sink in self._outside.sinks:
            try:
                sink(outcome)
            except Exception as bug:  # noqa: BLE001 -- a sink that breaks must not cost the client its answer
                self._outside.on_bug(bug)
        if self.account_id:
            self._outside.ledger.settle(outcome)
