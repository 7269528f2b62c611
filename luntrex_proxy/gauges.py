"""What of the running parts is read at each scrape, by the name it has there."""

import functools
import time
from dataclasses import dataclass

from luntrex_proxy.gateway.overload import Overload
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.observe.logs import Output
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.observe.probes import LoopLag
from luntrex_proxy.observe.requestlog import RequestLog
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts that are looked at."""

    pipeline: Pipeline
    overload: Overload
    keys: KeyRing
    spool: Spool
    shipper: Shipper
    lag: LoopLag
    requests: RequestLog
    output: Output

    def show_in(self, metrics: Metrics) -> None:
        """Have each scrape read them; a lambda where a reload replaces the part."""
        watch, pipeline = metrics.watch, self.pipeline
        watch("luntrex_inflight_requests", lambda: pipeline.inflight)
        watch("luntrex_overload_stage", lambda: self.overload.stage)
        watch("luntrex_database_up", lambda: int(self.keys.answers()))
        watch("luntrex_revocation_lag_seconds", self.keys.lag_s)
        watch("luntrex_upstream_health", lambda: pipeline.routing.health())  # noqa: PLW0108 -- reloads replace it
        watch("luntrex_upstream_maintenance", lambda: pipeline.routing.maintenance())  # noqa: PLW0108 -- see above
        watch("luntrex_upstream_probe", lambda: pipeline.routing.probes())  # noqa: PLW0108 -- see above
        watch("luntrex_upstream_in_flight", lambda: pipeline.routing.in_flight())  # noqa: PLW0108 -- see above
        watch(
            "luntrex_upstream_credentials_refused_total",
            lambda: pipeline.routing.credentials_refused(),  # noqa: PLW0108 -- see above
        )
        watch("luntrex_loop_lag_seconds", self.lag.seconds)
        watch("luntrex_log_fields_unlisted_total", lambda: self.output.unlisted)
        watch("luntrex_log_requests_dropped_total", lambda: self.requests.dropped)
        self._show_ledger(metrics)

    def _show_ledger(self, metrics: Metrics) -> None:
        watch, shipper, spool = metrics.watch, self.shipper, self.spool
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
        watch("luntrex_ledger_stalled", lambda: int(bool(shipper.trouble)))
        for trouble in self.ledger_troubles():
            watch(f"luntrex_ledger_{trouble}_total", functools.partial(self._count_of, trouble))

    def _count_of(self, trouble: str) -> int:
        return self.ledger_troubles()[trouble]

    def ledger_troubles(self) -> dict[str, int]:
        """What must stay 0, counted since the start."""
        spool, shipper = self.spool, self.shipper
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
