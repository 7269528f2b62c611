"""Station 9, record: one Outcome per request to every sink, exactly once. No other log or metric is on the way."""

from collections.abc import Callable
from time import perf_counter_ns

from luntrex_proxy.core.buckets import Room
from luntrex_proxy.core.health import Health
from luntrex_proxy.core.leases import Hold
from luntrex_proxy.core.outcome import ENDING_WORDS, REFUSED, UNUSED, USAGE_WORDS, Opening, Outcome, Tokens
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.core.trail import WORTH_TELLING_US, join, waited
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.meter import BYTES_PER_TOKEN, UNBILLED
from luntrex_proxy.gateway.ports import Outside
from luntrex_proxy.gateway.request_id import new_request_id

OTHER = "other"
NO_TOKENS = Tokens()
NO_PRICE = Price(rates=None, model=OTHER, version="")


class Draft:
    """The outcome in the making: what each station has found out so far, and what is not recorded itself."""

    __slots__ = (
        "_arrived_ns", "_outside", "account_id", "answer", "attempts", "code", "cost_pico", "ending", "estimate",
        "events", "first_byte_us", "health", "hold", "key_id", "limit_headers", "longest", "model", "notes",
        "overhead_us", "price", "recorded", "released", "request_bytes", "request_id", "response_bytes", "room",
        "route", "started_us", "status", "streamed", "tokens", "upstream", "usage_source",
    )  # fmt: skip

    def __init__(self, now: float, arrived_ns: int, outside: Outside) -> None:
        """Of a request that came at `now` (unix seconds), which was `arrived_ns` on the performance counter."""
        self._outside = outside
        self._arrived_ns = arrived_ns
        self.recorded = False
        self.released = False  # its answer ends, and the connection is told, once it is on record
        self.health: Health | None = None  # who has to be told how the request ended
        self.answer: Answer | None = None  # where the meter reads and the pipeline closes
        self.room: Room | None = None  # what was taken of limits
        self.hold: Hold | None = None  # and of budgets
        self.limit_headers = b""  # what is left of them
        self.notes: list[str] | None = None  # what was unusual on the way: entries of core/trail.py
        self.price = NO_PRICE
        self.estimate: tuple[int, int] | None = None  # tokens of input and output, once somebody asked (estimate.py)
        self.longest = 0  # tokens its answer may have, of one that is left before its end
        self.cost_pico = 0
        self.tokens = NO_TOKENS
        self.request_id = new_request_id(now)
        self.started_us = int(now * 1e6)
        self.account_id = 0
        self.key_id = ""
        self.route = "none"
        self.model = OTHER
        self.upstream = ""
        self.status = 0
        self.code = "internal_error"
        self.ending = REFUSED
        self.streamed = False
        self.usage_source = UNUSED
        self.request_bytes = 0
        self.response_bytes = 0
        self.events = 0
        self.attempts = 0
        self.first_byte_us = 0
        self.overhead_us = 0

    def __repr__(self) -> str:
        return "Draft()"

    def note(self, entry: str) -> None:
        """Remember something unusual, in the words of core/trail.py."""
        if self.notes is None:
            self.notes = []
        self.notes.append(entry)

    def note_wait(self, station: str, start_us: int) -> None:
        """Remember that a station waited from `start_us` (microseconds since the head arrived) until now."""
        end_us = self.elapsed_us()
        if end_us - start_us >= WORTH_TELLING_US:
            self.note(waited(station, start_us, end_us))

    def open(self, then: Callable[[], None], failed: Callable[[], None]) -> None:
        """Put the request on record before an upstream sees it. Raises LedgerFullError. The rest as the ledger's."""
        self.overhead_us = (perf_counter_ns() - self._arrived_ns) // 1000
        input_tokens = 0 if self.route in UNBILLED else -(-self.request_bytes // BYTES_PER_TOKEN)
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
            input_tokens,
            self.price.input_cost_pico(input_tokens),
            self.price.version,
        )
        self._outside.ledger.open(opening, then, failed)

    def elapsed_us(self) -> int:
        """Microseconds since the head arrived."""
        return (perf_counter_ns() - self._arrived_ns) // 1000

    def settle(self, duration_us: int, then: Callable[[], None] | None = None) -> None:
        """Make the Outcome and give it to every sink; later calls do nothing. `then` as the ledger's."""
        if self.recorded:
            return
        self.recorded = True
        tokens, price = self.tokens, self.price
        if type(tokens) is not Tokens or tokens.input_audio or tokens.output_audio:
            price = price.of(tokens)
        self.cost_pico = cost_pico = price.cost_pico(tokens)
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
            cost_pico,
            price.version,
            self.request_bytes,
            self.response_bytes,
            self.events,
            self.attempts,
            duration_us,
            self.first_byte_us,
            self.overhead_us,
            "" if self.notes is None else join(self.notes),
        )
        outside = self._outside
        for sink in outside.sinks:
            try:
                sink(outcome)
            except Exception as bug:  # noqa: BLE001 -- a sink that breaks must not cost the client its answer
                outside.on_bug(bug)
        if self.account_id:
            outside.ledger.settle(outcome, then)
