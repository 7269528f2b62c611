"""What stands in for the daemon's other rooms when the gateway runs inside a test: ports, and `serving` to join them.

Nothing of the gateway itself is replaced: pipeline, listener, sockets and upstream connections are the real ones.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from luntrex_proxy.core.access import Caller, KeysBusyError
from luntrex_proxy.core.buckets import Bucket, Limits
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Entry, Resolution, Target
from luntrex_proxy.core.leases import NEVER_US, Budgets, Purse
from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome
from luntrex_proxy.core.policy import NO_TRAINING, Policy
from luntrex_proxy.core.pricing import Price, Rates, fill_rates
from luntrex_proxy.gateway.http.listener import GatewayRunner
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.gateway.ports import Outside
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.gateway.upstreams import build_upstream
from luntrex_proxy.settings.model import GatewayLimits, GatewayTimeouts
from luntrex_proxy.settings.upstreams import Upstream, UpstreamTimeouts

KEY = "lx_" + "k" * 12 + "_" + "s" * 49
SECRET = "provider-secret"
PSEUDONYM_KEY = bytes(range(32))
PATIENCE_S = 5.0  # how long a test waits for what should happen at once
FIRST = 10**9  # a weight that makes a target the first one asked


class FakeKeyRing:
    """Live keys as a dictionary."""

    def __init__(self) -> None:
        self.callers: dict[bytes, Caller] = {KEY.encode(): Caller(account_id=7, key_id="k" * 12)}
        self.current = True
        self.unproven: dict[bytes, Caller] = {}
        self.busy = False
        self.raises: Exception | None = None
        self.generation = 0

    def find(self, key: bytes) -> Caller | None:
        """The caller of a key, or None."""
        if self.raises is not None:
            raise self.raises
        return self.callers.get(key)

    def hash_of(self, key: bytes) -> bytes:
        """The key itself: nothing is secret here."""
        return key

    def at(self, key_hash: bytes) -> Caller | None:
        """The caller of a key that was found before, or None."""
        return self.find(key_hash)

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown."""
        return self.current

    async def prove(self, key: bytes, network: str) -> Caller | None:
        """The caller of a key that must be proven first."""
        if self.busy:
            raise KeysBusyError
        await asyncio.sleep(0)
        caller = self.unproven.get(key)
        if caller is not None:
            self.callers[key] = caller
        return caller


class FakeLedger:
    """Keeps openings and outcomes; `timeline` has them in the order of all that the test notes."""

    def __init__(self, timeline: list[str]) -> None:
        self.opened: list[Opening] = []
        self.settled: list[Outcome] = []
        self.full = False
        self.disk_full = False  # which shows only when an opening is written
        self.is_slow = False  # nothing is written until the test says so
        self.unwritten: list[Callable[[], None]] = []
        self.open_raises: Exception | None = None
        self.settle_raises: Exception | None = None
        self._timeline = timeline

    def open(self, opening: Opening, then: Callable[[], None], failed: Callable[[], None]) -> None:
        """Append an opening."""
        if self.full:
            raise LedgerFullError
        if self.open_raises is not None:
            raise self.open_raises
        self._timeline.append("open")
        self.opened.append(opening)
        self._write(failed if self.disk_full else then)

    def settle(self, outcome: Outcome, then: Callable[[], None] | None = None) -> None:
        """Append an outcome."""
        if self.settle_raises is not None:
            raise self.settle_raises
        self._timeline.append("settle")
        self.settled.append(outcome)
        if then is not None:
            self._write(then)

    def _write(self, then: Callable[[], None]) -> None:
        if self.is_slow:
            self.unwritten.append(then)
        else:
            asyncio.get_running_loop().call_soon(then)

    def write(self) -> None:
        """Write what there is to write now."""
        unwritten, self.unwritten = self.unwritten, []
        for then in unwritten:
            then()


class FakePrices:
    """One price for every model: 3 pico-dollars per input token, 5 per output token."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.rates: Rates | None = fill_rates({"input": 3, "output": 5})

    def price(self, resolution: Resolution, candidate: Candidate, asked: str) -> Price:
        """The price; a model that only a wildcard names is recorded as `other`."""
        if self.raises is not None:
            raise self.raises
        return Price(self.rates, resolution.name or "other", "test-1")


async def _a_turn() -> None:
    """What runs a request awaits futures alone."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


class FakeLender:
    """Lends of `left`, by budget id; windows end at `ends_us`."""

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.ends_us = NEVER_US
        self.away = False
        self.is_late = False
        self.asked = 0
        self.most = 0  # what was asked for at most
        self.others = 0  # what requests that came meanwhile take of each loan

    async def lend(self, purses: Iterable[Purse], pico: int, at_us: int) -> bool:
        """Exactly what is needed."""
        self.asked += 1
        self.most = max(self.most, pico)
        await _a_turn()
        if self.is_late:
            raise TimeoutError
        for purse in () if self.away else purses:
            lease = purse.open(0, self.ends_us)
            more, left = max(0, pico - lease.free), self.left.get(purse.budget.budget_id, 0)
            if more <= left:
                lease.granted += more
                left -= more
            self.left[purse.budget.budget_id] = purse.left = left
            purse.known_s = 0.0
            lease.taken += min(more, self.others)
        return not self.away

    def wake(self) -> None:
        """Nothing is lent ahead."""


class FakeTeller:
    """Everybody is told at once; nobody else lets anything in."""

    def __init__(self) -> None:
        self.away = False
        self.is_late = False

    async def tell(self, buckets: Iterable[Bucket]) -> bool:
        """Nothing is untold then."""
        await _a_turn()
        if self.is_late:
            raise TimeoutError
        for bucket in () if self.away else buckets:
            bucket.count(now_ns := time.perf_counter_ns())
            told = max(0, bucket.untold)
            bucket.hear(told, bucket.level / bucket.period_ns + bucket.held - bucket.untold + told, 0, now_ns)
        return not self.away

    def wake(self) -> None:
        """There is nobody who sleeps."""


@dataclass
class Gateway:
    """A running gateway and all that a test may look at."""

    pipeline: Pipeline
    runner: GatewayRunner
    ticker: Ticker
    keys: FakeKeyRing
    ledger: FakeLedger
    prices: FakePrices
    limits: Limits  # of account 7 and its key
    budgets: Budgets  # likewise
    lender: FakeLender
    teller: FakeTeller
    timeline: list[str]
    outcomes: list[Outcome]  # what the sink was given
    port: int = 0
    bugs: list[BaseException] = field(default_factory=list)
    refused_keys: list[tuple[str, str]] = field(default_factory=list)  # client's network and code of each
    ready: bool = True
    sink_raises: Exception | None = None

    async def outcome(self, count: int = 1) -> Outcome:
        """The newest Outcome once there are `count`; the ledger has the same ones of known callers."""
        await until(lambda: len(self.outcomes) >= count, f"there are {len(self.outcomes)} outcomes, not {count}")
        assert len(self.outcomes) == count
        assert self.ledger.settled == [outcome for outcome in self.outcomes if outcome.account_id]
        return self.outcomes[-1]

    def sink(self, outcome: Outcome) -> None:
        """The one sink."""
        self.outcomes.append(outcome)
        if self.sink_raises is not None:
            raise self.sink_raises

    async def idle(self) -> None:
        """Wait until no request runs and no client is connected."""
        await until(lambda: not self.pipeline.inflight and not self.pipeline.connections, "the gateway is not idle")


async def until(condition: Callable[[], bool], complaint: str = "it did not happen") -> None:
    """Wait for something that happens elsewhere in this loop."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, complaint
        await asyncio.sleep(0.005)


def upstream(name: str, url: str, dialect: Dialect = Dialect.OPENAI, **more: Any) -> Upstream:
    """A configured upstream that keeps nothing; keyword arguments are its keys, times in seconds as `connect_s=...`.

    Its breaker stays closed unless `health` says otherwise: most tests let one upstream fail again and again.
    """
    times = {key: float(more.pop(key)) for key in UpstreamTimeouts.model_fields if key in more}
    more.setdefault("health", {"failures": 10_000, "error_requests": 10_000})
    ca_file: Path | None = more.pop("ca_file", None)
    privacy = {"region": "eu", "retention": "none", "training": "never"}
    return Upstream.model_validate(
        privacy
        | {"name": name, "dialect": dialect, "base_url": url, "api_key": SECRET, "timeouts": times, "ca_file": ca_file}
        | more
    )


def entry(name: str, *targets: tuple[str, str], dialect: Dialect = Dialect.OPENAI) -> Entry:
    """A model with targets (upstream, model there), asked in this order."""
    weights = (FIRST, 1) if len(targets) > 1 else (1,)
    return Entry(name, tuple(Target(to, dialect, model, w) for (to, model), w in zip(targets, weights, strict=True)))


def both_dialects(url: str, **more: Any) -> list[Upstream]:
    """Upstream `a` speaks OpenAI's dialect and `c` Anthropic's, at one place."""
    return [upstream("a", url, **more), upstream("c", url, Dialect.ANTHROPIC, **more)]


MODELS = (
    entry("m", ("a", "m")),
    entry("alias", ("a", "renamed")),
    entry("claude", ("c", "claude"), dialect=Dialect.ANTHROPIC),
    entry("nowhere", ("not-configured", "m")),
)


@contextlib.asynccontextmanager
async def serving(
    upstreams: Iterable[Upstream],
    models: Iterable[Entry] = MODELS,
    *,
    limits: dict[str, Any] | None = None,
    timeouts: dict[str, Any] | None = None,
    policy: Policy = NO_TRAINING,
) -> AsyncIterator[Gateway]:
    """A gateway on a loopback port in the running loop; at the end it drains, and what broke inside fails the test."""
    loop = asyncio.get_running_loop()
    ticker = Ticker(loop)
    timeline: list[str] = []
    keys, ledger, prices = FakeKeyRing(), FakeLedger(timeline), FakePrices()
    bugs: list[BaseException] = []
    refused_keys: list[tuple[str, str]] = []
    made: list[Gateway] = []
    bounds, budgets, lender, teller = Limits(), Budgets(), FakeLender(), FakeTeller()
    outside = Outside(
        keys=keys,
        prove=keys.prove,
        ledger=ledger,
        sinks=(lambda outcome: made[0].sink(outcome),),
        is_ready=lambda: made[0].ready,
        on_bug=bugs.append,
        on_key_refused=lambda network, code, _key_id: refused_keys.append((network, code)),
        lender=lender,
        teller=teller,
        limits=bounds,
        budgets=budgets,
    )
    running = {one.name: build_upstream(one, ticker, loop, PSEUDONYM_KEY) for one in upstreams}
    pipeline = Pipeline(
        outside,
        GatewayLimits.model_validate(limits or {}),
        GatewayTimeouts.model_validate({key: float(value) for key, value in (timeouts or {}).items()}),
        Routing(Catalogue(models), prices, running, policy),
    )
    runner = GatewayRunner(pipeline, ticker, 0.2)
    ports = keys, ledger, prices, bounds, budgets, lender, teller
    gateway = Gateway(pipeline, runner, ticker, *ports, timeline, [], bugs=bugs, refused_keys=refused_keys)
    made.append(gateway)
    ticker.start()
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        gateway.port = runner.addresses[0][1]
        yield gateway
    finally:
        await runner.cleanup()
        pipeline.routing.close()
        ticker.stop()
        await asyncio.sleep(0.01)  # transports that were aborted are told so in the loop's next rounds
    broken_by_the_test = (keys.raises, prices.raises, ledger.open_raises, ledger.settle_raises, gateway.sink_raises)
    assert not bugs or any(broken_by_the_test), f"the gateway broke: {bugs!r}"
