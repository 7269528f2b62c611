"""Builds the parts of `serve`, joins ports to what implements them, starts them in order and drains them in reverse.

embedded Postgres -> pool, schema -> key ring -> ledger -> control plane -> gateway -> READY
at the end: not ready -> gateway drains -> control -> key ring -> ledger -> database
"""

import asyncio
import contextlib
import gc
import resource
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence

import structlog
import uvloop

from luntrex_proxy import __version__, chores, systemd
from luntrex_proxy.allowances import Allowances
from luntrex_proxy.control.alerts import Sender
from luntrex_proxy.control.application import check_aiohttp
from luntrex_proxy.control.mailing import Postman
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.explanation import Explanation, Question
from luntrex_proxy.core.health import Condition
from luntrex_proxy.gateway.explain import explain
from luntrex_proxy.gateway.http.listener import close_idle
from luntrex_proxy.gateway.overload import REFUSING, Overload, Sampler, memory_limit_of_cgroup
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.gateway.ports import Outside
from luntrex_proxy.gauges import Watched
from luntrex_proxy.observe import logs
from luntrex_proxy.observe.batches import Batches, Take
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.observe.probes import LoopLag
from luntrex_proxy.observe.refusedkeys import RefusedKeys
from luntrex_proxy.observe.requestlog import RequestLog
from luntrex_proxy.plan import Plan, Started, example_model, first_key, first_link
from luntrex_proxy.planes import NO_CONTROL, control_plane, gateway_plane
from luntrex_proxy.reload import Changeable, reload_when_asked
from luntrex_proxy.retaining import Retention
from luntrex_proxy.righting import Rights
from luntrex_proxy.routing import Operated
from luntrex_proxy.simulator.demo import simulated
from luntrex_proxy.store import secretfiles
from luntrex_proxy.store.attempts import AttemptBook
from luntrex_proxy.store.billing import ensure_role
from luntrex_proxy.store.capturing import CaptureBook
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.following import follow
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.pepper import Lookup, lookup_of
from luntrex_proxy.store.pools import opened_pools
from luntrex_proxy.store.proving import Prover
from luntrex_proxy.store.sealedsecrets import SecretBook
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.upkeep import KeyUpkeep
from luntrex_proxy.store.wrappings import Wrappings

# Objects of requests die by their counts; a collector run each 700 of them finds nothing and costs 5 us a request. Not
# more than this, because a run stops the loop: ten thousand objects are looked at in less than a millisecond.
GC_THRESHOLDS = (10_000, 20, 100)
_SHIP_AT_STOP_S = 10.0
_LAST_WORDS_S = 2.0  # for what is nice to have in the database

log = structlog.get_logger()


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


def _tell_bug(bug: BaseException) -> None:
    log.error("luntrex.bug", **logs.describe(bug))


class _Daemon:
    """The parts of one process while it runs."""

    def __init__(self, plan: Plan, dsn: str, embedded: EmbeddedPostgres | None, output: logs.Output) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._dsn = dsn
        self._embedded = embedded
        self._output = output
        self._boot_id = uuid.uuid4()  # of this process, wherever its counts are written down
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()  # a second signal
        self._ready = False
        self._bills_apart = True
        self._reload_wanted = asyncio.Event()
        self._inherited = systemd.listen_fds()
        self._overload = Overload()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes = Batches(_tell_bug)

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
            "database": self._keys.answers(),
            "ledger": self._spool.takes_requests,
            "storing": not self._shipper.trouble,
            "no_maintenance": not any(self._pipeline.routing.maintenance().values()),
            "allowances": not self._allowances.away,
        }

    def upstreams(self, models: Collection[str]) -> Sequence[Condition]:
        """How they are, and for which of these models they are paused."""
        return self._pipeline.routing.conditions(models)

    async def run(self, announce: Callable[[Started], None]) -> None:
        """Start everything, wait for the signal, end everything."""
        loop = asyncio.get_running_loop()
        logs.install_exception_guards(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        # A demo ends with its terminal; a daemon reads its configuration again.
        loop.add_signal_handler(signal.SIGHUP, self._stop if self._plan.demo else self._reload_wanted.set)
        async with contextlib.AsyncExitStack() as stack:
            started = await self._build(stack)
            gc.collect()
            gc.freeze()  # what lives as long as the process need not be looked at again
            gc.set_threshold(*GC_THRESHOLDS)
            self._ready = True
            systemd.ready("serving")
            log.info("luntrex.ready", version=__version__)
            if not self._bills_apart:
                log.warning("luntrex.no_billing_role", hint="The database user may make no roles.")
            announce(started)
            await self._stopping.wait()
            log.info("luntrex.stopping", inflight=self._pipeline.inflight)
            with contextlib.suppress(TimeoutError):  # load balancers read /readyz before the listeners close
                await asyncio.wait_for(self._hurry.wait(), self._pipeline.timeouts.ready_grace_s)
        for task in self._tasks:
            task.cancel()
        self._outcomes.hand_on()
        self._requests.tell_left_out(last=True)
        self._refused_keys.flush(last=True)

    # Parts, in the order of their start.

    async def _build(self, stack: contextlib.AsyncExitStack) -> Started:
        """Make and start every part; what `stack` ends it ends in reverse."""
        plan = self._plan
        if plan.demo:
            self._settings = await stack.enter_async_context(simulated(self._settings))
        lookup = await self._open_store(stack)
        direct = self._pools.direct
        key_id, key = await first_key(direct, lookup, plan.first_account)
        self._allowances = Allowances(direct, lambda: self._pools.pool, self._boot_id, self._settings.alerts)
        await self._allowances.begin()
        self._operated = Operated(direct, lambda: self._secrets.values, lookup.key)
        await self._operated.begin(self._settings)
        await stack.enter_async_context(self._kept_records())
        await stack.enter_async_context(self._allowances.shared())
        await stack.enter_async_context(self._kept_keys(lookup))
        self._build_pipeline()
        stack.push_async_callback(chores.store_last_captures, self._captures, _LAST_WORDS_S)
        services = Services(
            self._settings,
            direct,
            lookup,
            plan.state_directory,
            dsn=self._pools.direct_dsn,
            data_keys=self._secrets.data_keys,
            upstreams=self.upstreams,
            models=lambda: self._pipeline.routing.catalogue.entries,
            explain=self._explain,
            reloaded=lambda: self._changeable.current,
        )
        gateway_url, control_url = await self._open_planes(stack, services)
        stack.callback(systemd.stopping, "draining")
        self._start_chores()
        if services.sends_mail:
            self._start(chores.send_mail(Postman(services, time.time)))
        nobody, link = await first_link(services, control_url, wanted=plan.first_link)
        return Started(gateway_url, control_url, key, key_id, *example_model(self._settings), nobody, link)

    async def _open_store(self, stack: contextlib.AsyncExitStack) -> Lookup:
        """The database as this version needs it, and the secrets of the installation; the way to look keys up."""
        plan = self._plan
        self._pools = await opened_pools(stack, self._dsn, self._settings.database)
        direct = self._pools.direct
        migrated = await migrate(direct, post=self._embedded is not None)  # nobody else is on an embedded one
        if migrated.ahead:
            log.warning("luntrex.schema_ahead", migration=migrated.ahead[-1])
        await ensure_partitions(direct, chores.today())
        self._bills_apart = await ensure_role(direct)
        self._rights = Rights(
            direct,
            plan.state_directory,
            self._settings.retention.audit_days,
            lambda: self._spool.leave_segment(),  # noqa: PLW0108 -- it is made later
        )
        await self._rights.begin()
        self._wrappings = Wrappings(direct, plan.state_directory, self._settings.sealing)
        if self._settings.security.policy == "strict" and not plan.demo:
            secretfiles.require_kms(plan.state_directory)
        lookup = await lookup_of(direct, plan.state_directory, self._wrappings)
        self._secrets = SecretBook(direct, self._wrappings)
        await self._secrets.open()
        return lookup

    def _start_chores(self) -> None:
        """What runs beside the requests until the end."""
        direct, by_mail = self._pools.direct, self._settings.mail.host is not None
        self._start(
            chores.flush_log(self._outcomes, self._requests, self._refused_keys),
            chores.follow_secrets(self._secrets, lambda: self._keys.seen, self._changeable.renew_routing),
            chores.watch_keeper(self._secrets),
            *self._operated.loops(
                lambda: self._keys.seen,
                lambda: self._pipeline.routing,
                lambda: self._changeable.current or self._settings,
            ),
            self._allowances.raise_alerts(),
            chores.follow_captures(self._captures, direct, lambda: self._keys.seen, self._pipeline),
            chores.remove_check_leftovers(direct, self._plan.state_directory),
            chores.keep_attempts(self._attempts, direct, self._settings.alerts, by_mail=by_mail),
            chores.keep_child_reports(direct, self._plan.state_directory, self._settings.retention.audit_days),
            chores.anchor_audit(direct, self._plan.state_directory, self._wrappings),
            chores.feed_watchdog(asyncio.get_running_loop()),
            self._retention.keep(),
            self._rights.keep(),
            chores.tell_trouble(self._keys, self._shipper, self._watched.ledger_troubles),
        )
        if self._settings.alerts.webhook.url is not None:
            sender = Sender(direct, self._settings.alerts.webhook, lambda: self._secrets.values)
            self._start(chores.deliver_webhooks(sender))
        if self._plan.reload is not None:
            self._start(
                reload_when_asked(self._reload_wanted, self._plan.reload, self._changeable, lambda: self._accepting)
            )
        if self._embedded is not None:
            self._start(self._embedded.watch())

    @contextlib.asynccontextmanager
    async def _kept_records(self) -> AsyncIterator[None]:
        """Spool and shipper."""
        ledger = self._settings.ledger
        root = self._plan.state_directory / "spool"
        soon = asyncio.get_running_loop().call_soon
        self._spool = Spool(root, self._boot_id, ledger.segment_bytes, ledger.max_bytes, soon)
        self._shipper = Shipper(lambda: self._pools.pool, root, self._spool)
        self._shipper.start()
        try:
            yield
        finally:
            await self._shipper.drain(_SHIP_AT_STOP_S)
            self._spool.close()

    @contextlib.asynccontextmanager
    async def _kept_keys(self, lookup: Lookup) -> AsyncIterator[None]:
        """The key ring: all live keys before READY, current afterwards."""

        async def connected() -> None:
            # What happened to the old connection here happened to those there.
            await self._pools.expire()
            self._shipper.retry()

        self._keys = KeyRing(
            lookup,
            self._cut_keys,
            self._keys_in_use,
            books=self._allowances.books,
            max_staleness_s=self._settings.keys.max_staleness_s,
        )
        await self._keys.load(self._pools.direct)
        self._upkeep = KeyUpkeep(self._keys, self._pools.pool)
        tasks = [
            asyncio.ensure_future(follow(self._keys, self._pools.direct_dsn, connected)),
            asyncio.ensure_future(self._upkeep.run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._outcomes.hand_on()
            await self._upkeep.finish(_LAST_WORDS_S)

    def _build_pipeline(self) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        self._lag = LoopLag(loop)
        self._requests = RequestLog(self._output)
        self._refused_keys = RefusedKeys()
        self._attempts = AttemptBook(self._boot_id)
        self._metrics = Metrics(version=__version__, models=[m.name for m in settings.models if "*" not in m.name])
        takers: tuple[Take, ...] = (self._metrics.take, self._upkeep.take)
        if settings.logging.requests:
            takers += (self._requests.take,)
        self._outcomes.takers = takers
        self._metrics.before_render = self._outcomes.hand_on
        outside = Outside(
            keys=self._keys,
            prove=Prover(self._keys, lambda: self._pools.pool).prove,
            ledger=self._spool,
            sinks=(self._outcomes.__call__,),  # as a method: a call of an object takes ten times as long
            is_ready=lambda: self.ready,
            on_bug=_tell_bug,
            on_key_refused=self._key_refused,
            lender=self._allowances.lessee,
            teller=self._allowances.telling,
            limits=self._allowances.limits,
            budgets=self._allowances.budgets,
        )
        routing = self._operated.build(settings, None)
        self._pipeline = Pipeline(outside, settings.gateway.limits, settings.gateway.timeouts, routing)
        self._pipeline.overload = self._overload
        self._pipeline.told = frozenset(settings.gateway.response_headers)
        ledger, log_parts = (self._spool, self._shipper), (self._requests, self._output)
        self._watched = Watched(self._pipeline, self._overload, self._keys, *ledger, self._lag, *log_parts)
        self._watched.show_in(self._metrics)
        self._retention = Retention(
            self._pools.direct,
            self._plan.state_directory,
            settings.retention,
            sends_mail=settings.mail.host is not None,
        )
        self._retention.show_in(self._metrics)
        self._metrics.watch("luntrex_legal_due_seconds", self._rights.due_s)
        self._metrics.watch("luntrex_wrapping_key_up", lambda: int(self._secrets.keeper_answers))
        self._metrics.watch("luntrex_subprocessors", lambda: self._operated.vetting.counts)
        self._allowances.show_in(self._metrics)
        self._captures = CaptureBook(self._pools.direct)
        self._metrics.watch("luntrex_debug_captures_lost_total", lambda: self._captures.lost)

    def _explain(self, question: Question) -> Explanation:
        may = self._allowances
        return explain(question, self._pipeline.routing, may.limits, may.budgets, health_known=True)

    async def _open_planes(self, stack: contextlib.AsyncExitStack, services: Services) -> tuple[str, str]:
        """The addresses of gateway and control, "" for what is not wanted."""
        settings, inherited, control = self._settings, self._inherited, NO_CONTROL
        if self._plan.control:
            control = await stack.enter_async_context(control_plane(settings, self, self._metrics, services, inherited))
        limits, loop = settings.gateway.limits, asyncio.get_running_loop()
        memory_bytes = limits.memory_bytes or memory_limit_of_cgroup()
        sampler = Sampler(self._overload, loop, memory_bytes, self._overload_changed)
        for measured in (self._lag, sampler):
            measured.start()
            stack.callback(measured.stop)
        gateway = await stack.enter_async_context(
            gateway_plane(settings, self._pipeline, self._operated.ticker, inherited, listens=self._plan.gateway)
        )
        self._changeable = Changeable(
            settings, self._operated.build, self._pipeline, gateway.runner, gateway.entrance, sampler, control.tls
        )
        return gateway.url, control.url

    # Beside the requests.

    def _start(self, *coroutines: Coroutine[None, None, None]) -> None:
        for coroutine in coroutines:
            task = asyncio.ensure_future(coroutine)
            task.add_done_callback(_tell_its_end)
            self._tasks.add(task)

    def _key_refused(self, network: str, code: str, claimed: str) -> None:
        self._refused_keys.note(network, code)
        self._attempts.note(network, code, claimed)

    def _cut_keys(self, key_ids: set[str]) -> None:
        self._pipeline.cut_keys(key_ids)

    def _keys_in_use(self) -> dict[str, int]:
        return self._pipeline.keys_in_use()

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


def _tell_its_end(task: asyncio.Task[None]) -> None:
    """A loop beside the requests goes on to the end of the process; one that does not must be missed by somebody."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("luntrex.chore_ended", **logs.describe(error))
