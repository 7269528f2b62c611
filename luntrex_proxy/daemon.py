"""Builds the parts of `serve`, joins ports to what implements them, starts them in order and drains them in reverse.

embedded Postgres -> pool, schema -> key ring -> ledger -> control plane -> gateway -> READY
at the end: not ready -> gateway drains -> control -> key ring -> ledger -> database
"""

import asyncio
import contextlib
import functools
import gc
import resource
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from luntrex_proxy import __version__, chores, systemd
from luntrex_proxy.console.application import add_console
from luntrex_proxy.control.application import check_aiohttp, start_control
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.wire.endusers import derive_key
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance, GatewayRunner, close_idle
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.overload import REFUSING, Overload, Sampler, memory_limit_of_cgroup
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.gateway.ports import Outside, Sink
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.gateway.upstreams import build_routing
from luntrex_proxy.observe import logs
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.observe.probes import LoopLag
from luntrex_proxy.observe.refusedkeys import RefusedKeys
from luntrex_proxy.observe.requestlog import RequestLog
from luntrex_proxy.reload import Changeable, reload_when_asked
from luntrex_proxy.settings.listeners import Tls as TlsSetting
from luntrex_proxy.settings.listeners import TlsFiles
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.simulator.demo import simulated
from luntrex_proxy.sockets.opening import Manner, Opened, open_listeners
from luntrex_proxy.sockets.tls import Tls
from luntrex_proxy.store import accounts, apikeys
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.following import check_listening, follow
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.pepper import Lookup, lookup_of
from luntrex_proxy.store.proving import Prover
from luntrex_proxy.store.sealedsecrets import SecretBook
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.upkeep import KeyUpkeep

# Objects of requests die by their counts; a collector run each 700 of them finds nothing and costs 5 us a request. Not
# more than this, because a run stops the loop: ten thousand objects are looked at in less than a millisecond.
GC_THRESHOLDS = (10_000, 20, 100)
_SHIP_AT_STOP_S = 10.0
_LAST_WORDS_S = 2.0  # for what is nice to have in the database
_DIRECT_CONNECTIONS = 2  # when a pooler is in between: for what needs a session, now and then
_FIRST_KEY = "first"
_WELL_KNOWN = {Dialect.OPENAI: "gpt-4o-mini", Dialect.ANTHROPIC: "claude-haiku-4-5"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `serve` was asked to do."""

    settings: Settings
    state_directory: Path
    gateway: bool = True
    control: bool = True
    demo: bool = False
    first_account: str = ""  # make this account and a key in it when the account does not exist yet
    reload: Callable[[], Settings] | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What the person who started `serve` needs to know."""

    gateway_url: str
    control_url: str
    key: str  # shown once: only at the start that made it
    key_id: str
    model: str  # one to try
    dialect: Dialect  # whose API that model speaks


def serve(plan: Plan, announce: Callable[[Started], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigError, StoreError, ListenError and the like with one sentence."""
    check_aiohttp()
    if not plan.demo:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload before there is anything to reload
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold prompts
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # the usual 1024 is for programs with select()
    output = logs.configure(level=plan.settings.logging.level)
    embedded = None
    try:
        url = plan.settings.database.url
        if url is None:
            embedded = EmbeddedPostgres(plan.state_directory)
            dsn = embedded.start()  # in the main thread: its parent-death signal is bound to the thread
        else:
            dsn = url.reveal()
        with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Daemon(plan, dsn, embedded, output).run(announce))
    finally:
        if embedded is not None:
            embedded.stop()
        output.writer.close()


class _Daemon:
    """The parts of one process while it runs."""

    def __init__(self, plan: Plan, dsn: str, embedded: EmbeddedPostgres | None, output: logs.Output) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._dsn = self._direct_dsn = dsn
        self._embedded = embedded
        self._output = output
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()  # a second signal
        self._ready = False
        self._reload_wanted = asyncio.Event()
        self._inherited = systemd.listen_fds()
        self._overload = Overload()
        self._tasks: set[asyncio.Task[None]] = set()

    # LiveState

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here: not while each would be refused because it cannot be recorded."""
        return self._accepting and self._spool.takes_requests

    @property
    def _accepting(self) -> bool:
        return self._ready and not self._stopping.is_set()

    def checks(self) -> Mapping[str, bool]:
        """Conditions by name. A lost database does not clear `ready`: known keys keep working."""
        return {
            "accepting": self._accepting,
            "database": self._keys.is_current(),
            "ledger": self._spool.takes_requests,
            "storing": not self._shipper.trouble,
        }

    async def run(self, announce: Callable[[Started], None]) -> None:
        """Start everything, wait for the signal, end everything."""
        loop = asyncio.get_running_loop()
        logs.install_exception_guards(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        # A demo ends with its terminal; a daemon reads its configuration again.
        loop.add_signal_handler(signal.SIGHUP, self._stop if self._plan.demo else self._reload_wanted.set)
        async with contextlib.AsyncExitStack() as stack:
            if self._plan.demo:
                self._settings = await stack.enter_async_context(simulated(self._settings))
            pool, direct = await self._open_pools(stack)
            migrated = await migrate(direct, post=self._embedded is not None)  # nobody else is on an embedded one
            if migrated.ahead:
                log.warning("luntrex.schema_ahead", migration=migrated.ahead[-1])
            await ensure_partitions(direct, chores.today())
            lookup = await lookup_of(direct, self._plan.state_directory)
            self._pseudonym_key = derive_key(lookup.key)
            key_id, key = await self._first_key(direct, lookup)
            self._secrets = SecretBook(direct, self._plan.state_directory, self._settings.sealing.key_file)
            await self._secrets.refresh()
            await stack.enter_async_context(self._kept_records(pool))
            await stack.enter_async_context(self._kept_keys(pool, direct, lookup))
            self._build_pipeline(loop, pool)
            services = Services(self._settings, direct, lookup, self._plan.state_directory)
            control_url = await stack.enter_async_context(self._control_plane(services))
            gateway_url = await stack.enter_async_context(self._gateway_plane())
            stack.callback(systemd.stopping, "draining")
            self._start(
                chores.flush_log(self._requests, self._refused_keys),
                chores.follow_secrets(self._secrets, lambda: self._keys.seen, self._changeable.renew_routing),
                chores.anchor_audit(direct, self._plan.state_directory),
                chores.feed_watchdog(loop),
                chores.keep_tables(direct, self._settings.retention),
                chores.tell_trouble(self._keys, self._shipper, self._ledger_troubles),
            )
            if self._plan.reload is not None:
                self._start(
                    reload_when_asked(self._reload_wanted, self._plan.reload, self._changeable, lambda: self._accepting)
                )
            if self._embedded is not None:
                self._start(self._embedded.watch())
            gc.collect()
            gc.freeze()  # what lives as long as the process need not be looked at again
            gc.set_threshold(*GC_THRESHOLDS)
            self._ready = True
            systemd.ready("serving")
            log.info("luntrex.ready", version=__version__)
            announce(Started(gateway_url, control_url, key, key_id, *self._example()))
            await self._stopping.wait()
            log.info("luntrex.stopping", inflight=self._pipeline.inflight)
            with contextlib.suppress(TimeoutError):  # load balancers read /readyz before the listeners close
                await asyncio.wait_for(self._hurry.wait(), self._pipeline.timeouts.ready_grace_s)
        for task in self._tasks:
            task.cancel()
        self._requests.flush(last=True)
        self._refused_keys.flush(last=True)

    # Parts, in the order of their start.

    async def _open_pools(self, stack: contextlib.AsyncExitStack) -> tuple[Pool, Pool]:
        """Connections for what is written all the time, and those around a pooler for everything else."""
        database = self._settings.database
        pooled = database.direct_url is not None
        pool = await stack.enter_async_context(opened_pool(self._dsn, max_size=database.pool_size, pooled=pooled))
        direct = pool
        if database.direct_url is not None:
            self._direct_dsn = database.direct_url.reveal()
            direct = await stack.enter_async_context(opened_pool(self._direct_dsn, max_size=_DIRECT_CONNECTIONS))
        await check_listening(pool, self._direct_dsn, has_direct_url=pooled)
        return pool, direct

    async def _first_key(self, pool: Pool, lookup: Lookup) -> tuple[str, str]:
        """With --demo or no configuration file: an account and a key, made once."""
        name = self._plan.first_account
        if not name:
            return "", ""
        if await accounts.find(pool, name) is None:
            await accounts.create(pool, name)
        known = await apikeys.current(pool, name)
        if known is not None:
            return known.key_id, ""
        made = await apikeys.create(pool, lookup, name, _FIRST_KEY)
        return made.info.key_id, made.key

    @contextlib.asynccontextmanager
    async def _kept_records(self, pool: Pool) -> AsyncIterator[None]:
        """Spool and shipper."""
        ledger = self._settings.ledger
        root = self._plan.state_directory / "spool"
        self._spool = Spool(root, uuid.uuid4(), ledger.segment_bytes, ledger.max_bytes)
        self._shipper = Shipper(lambda: pool, root, self._spool)
        self._shipper.start()
        try:
            yield
        finally:
            await self._shipper.drain(_SHIP_AT_STOP_S)
            self._spool.close()

    @contextlib.asynccontextmanager
    async def _kept_keys(self, pool: Pool, direct: Pool, lookup: Lookup) -> AsyncIterator[None]:
        """The key ring: all live keys before READY, current afterwards."""

        async def connected() -> None:
            await pool.expire_connections()  # what happened to the old connection here happened to those there
            self._shipper.retry()

        self._keys = KeyRing(lookup, self._cut_keys, max_staleness_s=self._settings.keys.max_staleness_s)
        await self._keys.load(direct)
        self._upkeep = KeyUpkeep(self._keys, pool)
        tasks = [
            asyncio.ensure_future(follow(self._keys, self._direct_dsn, connected)),
            asyncio.ensure_future(self._upkeep.run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._upkeep.finish(_LAST_WORDS_S)

    def _build_pipeline(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        settings = self._settings
        self._ticker = Ticker(loop)
        self._lag = LoopLag(loop)
        self._requests = RequestLog(self._output)
        self._refused_keys = RefusedKeys()
        self._metrics = Metrics(version=__version__, models=[m.name for m in settings.models if "*" not in m.name])
        # As methods: a call of an object costs the interpreter ten times as much.
        sinks: tuple[Sink, ...] = (self._metrics.__call__, self._upkeep.__call__)
        if settings.logging.requests:
            sinks += (self._requests.__call__,)
        outside = Outside(
            keys=self._keys,
            prove=Prover(self._keys, lambda: pool).prove,
            ledger=self._spool,
            sinks=sinks,
            is_ready=lambda: self.ready,
            on_bug=lambda bug: log.error("luntrex.bug", **logs.describe(bug)),
            on_key_refused=self._refused_keys.note,
        )
        routing = self._routing(settings, None)
        self._pipeline = Pipeline(outside, settings.gateway.limits, settings.gateway.timeouts, routing)
        self._pipeline.overload = self._overload
        self._watch_values()

    def _routing(self, settings: Settings, replaces: Routing | None) -> Routing:
        loop, sealed = asyncio.get_running_loop(), self._secrets.values
        return build_routing(settings, self._ticker, loop, self._pseudonym_key, replaces, sealed)

    def _watch_values(self) -> None:
        watch, shipper, spool = self._metrics.watch, self._shipper, self._spool
        watch("luntrex_inflight_requests", lambda: self._pipeline.inflight)
        watch("luntrex_overload_stage", lambda: self._overload.stage)
        watch("luntrex_ledger_accepted_total", lambda: shipper.accepted)
        watch("luntrex_ledger_stored_total", lambda: shipper.stored)
        watch("luntrex_ledger_spooled_total", lambda: shipper.spooled)
        watch("luntrex_ledger_expired_total", lambda: shipper.expired)
        watch("luntrex_ledger_interrupted_total", lambda: shipper.interrupted)
        watch("luntrex_ledger_unreadable_directories", lambda: shipper.unreadable_directories)
        watch("luntrex_ledger_failures_total", lambda: shipper.failures)
        watch("luntrex_ledger_spool_bytes", lambda: spool.size_bytes)
        watch("luntrex_ledger_backlog_bytes", lambda: shipper.backlog_bytes)
        watch("luntrex_ledger_oldest_seconds", lambda: shipper.oldest_s(time.time()))
        for trouble in self._ledger_troubles():
            watch(f"luntrex_ledger_{trouble}_total", functools.partial(self._count_of, trouble))
        watch("luntrex_ledger_stalled", lambda: int(bool(shipper.trouble)))
        watch("luntrex_database_up", lambda: int(self._keys.is_current()))
        watch("luntrex_revocation_lag_seconds", self._keys.lag_s)
        watch("luntrex_upstream_health", lambda: self._pipeline.routing.health())  # noqa: PLW0108 -- reloads replace it
        watch(
            "luntrex_upstream_credentials_refused_total",
            lambda: self._pipeline.routing.credentials_refused(),  # noqa: PLW0108 -- see above
        )
        watch("luntrex_loop_lag_seconds", self._lag.seconds)
        watch("luntrex_log_fields_unlisted_total", lambda: self._output.unlisted)
        watch("luntrex_log_requests_dropped_total", lambda: self._requests.dropped)

    def _count_of(self, trouble: str) -> int:
        return self._ledger_troubles()[trouble]

    def _ledger_troubles(self) -> dict[str, int]:
        """What must stay 0, counted since the start."""
        spool, shipper = self._spool, self._shipper
        return {
            "write_errors": spool.write_errors,
            "fsync_errors": spool.fsync_errors,
            "unrecorded": spool.unrecorded,
            "torn_tails": shipper.torn_tails,
            "damaged": shipper.damaged_stretches,
            "quarantined": shipper.quarantined,
            "lost": shipper.lost,
            "cut_segments": spool.cut_segments,
            "positions_refused": shipper.positions_refused,
        }

    @contextlib.asynccontextmanager
    async def _control_plane(self, services: Services) -> AsyncIterator[str]:
        control = self._settings.control
        self._control_tls = self._tls(control.tls) if self._plan.control else None
        if not self._plan.control:
            yield ""
            return
        manner = Manner(unix_mode=int(control.unix_mode, 8), guarded=control.tls is not None)
        add = functools.partial(add_console, services=services)
        running = await start_control(
            control.listen, self, self._metrics, manner, self._inherited, self._control_tls, add
        )
        try:
            yield _url(running.addresses[0], self._control_tls)
        finally:
            await running.stop()

    @contextlib.asynccontextmanager
    async def _gateway_plane(self) -> AsyncIterator[str]:
        loop, gateway = asyncio.get_running_loop(), self._settings.gateway
        entrance = Entrance(
            Clients(gateway.trusted_proxies, gateway.client_address),
            Addresses(gateway.limits.connections_per_address),
            self._overload,
            self._tls(gateway.tls) if self._plan.gateway else None,
        )
        memory_bytes = gateway.limits.memory_bytes or memory_limit_of_cgroup()
        sampler = Sampler(self._overload, loop, memory_bytes, self._overload_changed)
        runner = GatewayRunner(self._pipeline, self._ticker, gateway.timeouts.drain_s, entrance)
        self._pipeline.clients = entrance.clients
        self._changeable = Changeable(
            self._settings, self._routing, self._pipeline, runner, entrance, sampler, self._control_tls
        )
        self._ticker.start()
        self._lag.start()
        sampler.start()
        await runner.setup()
        opened = Opened()
        try:
            if self._plan.gateway:
                manner = Manner(
                    gateway.backlog, int(gateway.unix_mode, 8), gateway.reuse_port, guarded=gateway.tls is not None
                )
                opened = await open_listeners(runner, gateway.listen, manner, self._inherited)
            yield gateway.public_url or (_url(opened.addresses[0], entrance.tls) if opened.addresses else "")
        finally:
            opened.remove_files()  # first: while we listen, nobody else's file can have the number of ours
            await runner.cleanup()
            self._pipeline.routing.close()
            sampler.stop()
            self._lag.stop()
            self._ticker.stop()

    def _tls(self, setting: TlsSetting) -> Tls | None:
        handshake_s = self._settings.gateway.timeouts.tls_handshake_s
        return Tls(setting, handshake_s) if isinstance(setting, TlsFiles) else None

    # Beside the requests.

    def _start(self, *coroutines: Coroutine[None, None, None]) -> None:
        for coroutine in coroutines:
            self._tasks.add(asyncio.ensure_future(coroutine))

    def _cut_keys(self, key_ids: set[str]) -> None:
        self._pipeline.cut_keys(key_ids)

    def _overload_changed(self, stage: int, reason: str) -> None:
        log.warning("luntrex.overload", phase=stage, reason=reason)
        if stage >= REFUSING:
            close_idle(self._pipeline)

    def _stop(self) -> None:
        """The first signal drains; a second one cuts what still runs."""
        if self._stopping.is_set() and self._ready:
            self._hurry.set()
            self._pipeline.cut_all()
        self._stopping.set()

    def _example(self) -> tuple[str, Dialect]:
        """A model to try, and its dialect: a configured name, else a well-known one of a wildcard's provider."""
        dialects = {upstream.name: upstream.dialect for upstream in self._settings.upstreams}
        models = sorted(self._settings.models, key=lambda model: "*" in model.name)  # exact names first
        for model in models:
            dialect = dialects[model.targets[0].upstream]
            known = _WELL_KNOWN[dialect] if model.name == "*" else "MODEL"
            return model.name.replace("*", known), dialect
        return _WELL_KNOWN[Dialect.OPENAI], Dialect.OPENAI


def _url(address: str, tls: Tls | None) -> str:
    """What a client would use; a socket that systemd opened may have no other name than its own."""
    if address.startswith(("unix:", "systemd")):
        return address
    return f"{'http' if tls is None else 'https'}://{address}"
