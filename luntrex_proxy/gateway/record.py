"""Station 9, record: one Outcome per request to every sink, exactly once. No other log or metric is on the way."""

from collections.abc import Callable

from luntrex_proxy.core.outcome import Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.ports import Outside

OTHER = "other"
NO_PRICE = Price(rates=None, model=OTHER, version="")


class Draft:
    """The outcome in the making: what each station has found out so far."""

    __slots__ = (
        "_elapsed_us", "_outside", "account_id", "answer", "attempts", "code", "ending", "events",
        "first_byte_us", "key_id", "model", "overhead_us", "price", "recorded", "request_bytes", "request_id",
        "response_bytes", "route", "started_us", "status", "streamed", "tokens", "upstream", "usage_source",
    )  # fmt: skip

    def __init__(self, request_id: str, now: float, outside: Outside, elapsed_us: Callable[[], int]) -> None:
        self._outside = outside
        self._elapsed_us = elapsed_us
        self.recorded = False
        self.request_id = request_id
        self.started_us = int(now * 1e6)
        self.account_id = 0
        self.key_id = ""
        self.route = "none"
        self.model = OTHER
        self.upstream = ""
        self.status = 0
        self.code = "internal_error"
        self.ending = Ending.REFUSED
        self.streamed = False
        self.usage_source = UsageSource.NONE
        self.tokens = Tokens()
        self.price = NO_PRICE
        self.answer: Answer | None = None  # not recorded: where the meter reads and the pipeline closes
        self.request_bytes = 0
        self.response_bytes = 0
        self.events = 0
        self.attempts = 0
        self.first_byte_us = 0
        self.overhead_us = 0

    def open(self) -> None:
        """Put the request on record before an upstream sees it. Raises LedgerFullError."""
        self.overhead_us = self._elapsed_us()
        self._outside.ledger.open(
            Opening(
                request_id=self.request_id,
                started_us=self.started_us,
                account_id=self.account_id,
                key_id=self.key_id,
                route=self.route,
                model=self.model,
                upstream=self.upstream,
                streamed=self.streamed,
                request_bytes=self.request_bytes,
            )
        )

    def settle(self) -> None:
        """Make the Outcome and give it to every sink; later calls do nothing."""
        if self.recorded:
            return
        self.recorded = True
        outcome = Outcome(
            request_id=self.request_id,
            started_us=self.started_us,
            account_id=self.account_id,
            key_id=self.key_id,
            route=self.route,
            model=self.model,
            upstream=self.upstream,
            status=self.status,
            code=self.code,
            ending=self.ending,
            streamed=self.streamed,
            usage_source=self.usage_source,
            **self.tokens.columns(),
            cost_pico=self.price.cost_pico(self.tokens),
            price_version=self.price.version,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            events=self.events,
            attempts=self.attempts,
            duration_us=self._elapsed_us(),
            first_byte_us=self.first_byte_us,
            overhead_us=self.overhead_us,
        )
        for sink in self._outside.sinks:
            try:
                sink(outcome)
            except Exception as bug:  # noqa: BLE001 -- a sink that breaks must not cost the client its answer
                self._outside.on_bug(bug)
        if self.account_id:
            self._outside.ledger.settle(outcome)
