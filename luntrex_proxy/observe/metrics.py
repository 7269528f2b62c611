"""The metrics: what is counted, under which names and labels. Takes outcomes, and callables that are read at scrape.

Labels are bounded and never hold a key, an account, a request id or a client's text: routes, refusal codes and statuses
come from fixed tables, upstreams from the configuration, models from the catalogue and at most MODEL_LIMIT of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec.structs import astuple

from luntrex_proxy.core.call import ROUTE_NAMES
from luntrex_proxy.core.outcome import Ending, Outcome, Tokens
from luntrex_proxy.core.pricing import is_in_doubt
from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.observe.exposition import Counter, Histogram, header, label_set, samples

MODEL_LIMIT = 200
OTHER = "other"
_JOINED_LIMIT = 4096
_STATUSES = frozenset({0, 499, 520, 521, 522, 523, 524, 525, 526, 529, *(int(status) for status in HTTPStatus)})

# Up to ten minutes, because long answers are normal here.
_DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_BYTE_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OVERHEAD_BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)


class _Watchable(NamedTuple):
    """A value that somebody else owns: type, label (None: a single number) and help text."""

    kind: str
    label: str | None
    help_text: str


_WATCHABLE = {
    "luntrex_inflight_requests": _Watchable("gauge", None, "Requests being handled now."),
    "luntrex_ledger_accepted_total": _Watchable("counter", None, "Ledger events accepted into the spool."),
    "luntrex_ledger_stored_total": _Watchable("counter", None, "Ledger events stored in Postgres."),
    # Goes down when the backlog drains, so its type is gauge; the name is part of the public contract.
    "luntrex_ledger_spooled_total": _Watchable("gauge", None, "Ledger events in the spool and not in Postgres yet."),
    "luntrex_ledger_quarantined_total": _Watchable("counter", None, "Ledger events set aside as unreadable."),
    "luntrex_ledger_lost_total": _Watchable("counter", None, "Ledger events whose spool file somebody removed or cut."),
    "luntrex_ledger_expired_total": _Watchable(
        "counter", None, "Ledger events older than what retention keeps: they left no row."
    ),
    "luntrex_ledger_interrupted_total": _Watchable("counter", None, "Requests closed for processes that died."),
    "luntrex_ledger_unrecorded_total": _Watchable(
        "counter", None, "Refusals of ours not recorded, because the ledger was full. Nothing is owed for them."
    ),
    "luntrex_ledger_write_errors_total": _Watchable("counter", None, "Writes the spool's disk refused. Alert on any."),
    "luntrex_ledger_fsync_errors_total": _Watchable(
        "counter", None, "Syncs the spool's disk failed: records may be missing after a power cut. Alert on any."
    ),
    "luntrex_ledger_torn_tails_total": _Watchable("counter", None, "Half records at the end of a spool file."),
    "luntrex_ledger_cut_segments_total": _Watchable(
        "counter", None, "Spool files truncated or removed by somebody while they were written to. Alert on any."
    ),
    "luntrex_ledger_positions_refused_total": _Watchable(
        "counter", None, "Positions in the database that could not be: the spool was stored again. Nothing is double."
    ),
    "luntrex_ledger_damaged_total": _Watchable("counter", None, "Damaged stretches of spool files, set aside."),
    "luntrex_ledger_unreadable_directories": _Watchable("gauge", None, "Spool directories this user may not open."),
    "luntrex_ledger_failures_total": _Watchable("counter", "reason", "Failed tries to store records, by reason."),
    "luntrex_ledger_spool_bytes": _Watchable("gauge", None, "Bytes of the spool, to compare with ledger.max_bytes."),
    "luntrex_ledger_backlog_bytes": _Watchable("gauge", None, "Bytes of the spool still to be stored."),
    "luntrex_ledger_oldest_seconds": _Watchable("gauge", None, "Age of the oldest record not stored yet."),
    "luntrex_ledger_stalled": _Watchable("gauge", None, "1 while records cannot be stored and wait in the spool."),
    "luntrex_database_up": _Watchable("gauge", None, "1 while the key store answers; at 0 unknown keys get 503."),
    "luntrex_wrapping_key_up": _Watchable(
        "gauge", None, "1 while AWS KMS answers, or none is used; at 0 requests go on, and no secret can be set."
    ),
    "luntrex_revocation_lag_seconds": _Watchable("gauge", None, "How old the newest known state of the keys is."),
    "luntrex_upstream_health": _Watchable(
        "gauge", "upstream", "1 when the upstream is asked as usual, 0 when not, 0.5 between."
    ),
    "luntrex_upstream_maintenance": _Watchable("gauge", "upstream", "1 while the operator lets nothing new go there."),
    "luntrex_upstream_probe": _Watchable("gauge", "upstream", "0 while the probe of the upstream fails, else 1."),
    "luntrex_upstream_in_flight": _Watchable("gauge", "upstream", "Requests under way at the upstream now."),
    "luntrex_upstream_credentials_refused_total": _Watchable(
        "counter", "upstream", "Answers in which an upstream refused the key we have for it. Alert on any."
    ),
    "luntrex_subprocessors": _Watchable(
        "gauge", "state", "Remote places by what the register says of them; due_soon: a review comes up in 30 days."
    ),
    "luntrex_allowances_away": _Watchable(
        "gauge",
        None,
        "1 while nobody can say what is left of budgets and limits: each is open or closed then.",
    ),
    "luntrex_budget_unchecked_total": _Watchable(
        "counter", None, "Requests let in although nobody could say what is left: their budgets are open then."
    ),
    "luntrex_budget_unpriced_total": _Watchable(
        "counter", None, "Requests under a hard budget whose price nobody knows: it does not stop them. Alert on any."
    ),
    "luntrex_budget_alerts_total": _Watchable("counter", None, "Parts of budgets that were reached and told of."),
    "luntrex_debug_captures_lost_total": _Watchable(
        "counter", None, "Requests captured for their owner and not stored: the database refused them."
    ),
    "luntrex_retention_oldest_seconds": _Watchable("gauge", "class", "Age of the oldest row, by retention class."),
    "luntrex_retention_success_age_seconds": _Watchable("gauge", None, "Time since a run of retention was whole."),
    "luntrex_retention_overdue": _Watchable("gauge", None, "1 when that is more than 26 hours. Alert on it."),
    "luntrex_legal_due_seconds": _Watchable(
        "gauge", "clock", "Seconds until an answer, a notice or an erasure is due by law, the nearest of each clock."
    ),
    "luntrex_loop_lag_seconds": _Watchable("gauge", None, "Longest delay of the event loop in the last window."),
    "luntrex_overload_stage": _Watchable("gauge", None, "0 well, 1 no keep-alive, 2 refusing requests, 3 connections."),
    "luntrex_log_fields_unlisted_total": _Watchable("counter", None, "Log fields withheld: not on the allowlist."),
    "luntrex_log_requests_dropped_total": _Watchable("counter", None, "Request lines not written: stderr too slow."),
}
_Row = tuple[Any, ...]  # an outcome's fields, in their order
_FIELDS = Outcome.__struct_fields__
# Outcomes of one kind are counted in the same cells: from `route` to `ending` they say the same.
_KIND = slice(_FIELDS.index("route"), _FIELDS.index("ending") + 1)
_TOKENS = slice(_FIELDS.index("input_tokens"), _FIELDS.index("output_audio_tokens") + 1)
_VERSION = _FIELDS.index("price_version")
_duration, _first_byte, _overhead, _attempts = (
    itemgetter(_FIELDS.index(name)) for name in ("duration_us", "first_byte_us", "overhead_us", "attempts")
)
WATCHED_NAMES = frozenset(_WATCHABLE)
Reading = Callable[[], float | Mapping[str, float]]


class _Joined(NamedTuple):
    """The cells that outcomes of one kind count into, looked up once."""

    requests: list[int]
    ending: list[int]
    denied: list[int] | None
    tokens: list[list[int]]
    unpriced: list[int]


class Metrics:
    """Counts the outcomes it takes; `watch` adds values that others own; `render` is the text of a scrape."""

    def __init__(self, *, version: str, models: Iterable[str] = ()) -> None:
        self._build = f"luntrex_build_info{label_set(('version',), (version,))} 1\n"
        self.before_render: Callable[[], None] = lambda: None  # has it take what others still hold back
        self._watched: dict[str, Reading] = {}
        self._models: set[str] = {OTHER}
        self._joined: dict[_Row, _Joined] = {}
        self._requests = Counter(
            "luntrex_requests_total",
            "Requests by what the client was answered; status 0: it left before an answer.",
            ("route", "upstream", "model", "status"),
        )
        self._endings = Counter("luntrex_endings_total", "How requests ended.", ("ending",))
        self._denied = Counter("luntrex_denied_total", "Requests refused by the gateway itself.", ("reason",))
        self._tokens = Counter(
            "luntrex_tokens_total",
            "Tokens. Classes other than input and output are contained in one of those two: do not add them up.",
            ("class", "model"),
        )
        self._unpriced = Counter(
            "luntrex_unpriced_requests_total",
            "Requests with tokens that have no known price, or none at their service tier. Look at the prices on any.",
            ("model",),
        )
        self._duration = Histogram(
            "luntrex_request_duration_seconds", "From accept to the end.", _DURATION_BOUNDS_S, ("route",)
        )
        self._first_byte = Histogram(
            "luntrex_time_to_first_byte_seconds",
            "From accept to the first byte of the answer.",
            _FIRST_BYTE_BOUNDS_S,
            ("route",),
        )
        self._overhead = Histogram(
            "luntrex_overhead_seconds",
            "The gateway's share of the time until the upstream was asked.",
            _OVERHEAD_BOUNDS_S,
        )
        self._all_overhead = self._overhead.child()
        self._start_at_zero(models)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Count these."""
        kinds: defaultdict[_Row, list[_Row]] = defaultdict(list)
        for row in map(astuple, outcomes):
            kinds[row[_KIND]].append(row)
        # By route alone: of many models and upstreams there may be as many kinds as requests.
        routes: defaultdict[str, list[_Row]] = defaultdict(list)
        for kind, rows in kinds.items():
            self._count(kind, rows)
            routes[kind[0]] += rows
        for route, rows in routes.items():
            self._observe(route if route in ROUTE_NAMES else OTHER, rows)

    def _count(self, kind: _Row, rows: list[_Row]) -> None:
        joined = self._joined.get(kind) or self._join(kind)
        joined.requests[0] += len(rows)
        joined.ending[0] += len(rows)
        if joined.denied is not None:
            joined.denied[0] += len(rows)
        for cell, counts in zip(joined.tokens, zip(*[row[_TOKENS] for row in rows], strict=True), strict=True):
            cell[0] += sum(counts)
        doubtful = set(filter(is_in_doubt, {row[_VERSION] for row in rows}))
        if doubtful:
            joined.unpriced[0] += sum(row[_VERSION] in doubtful and any(row[_TOKENS]) for row in rows)

    def _observe(self, route: str, rows: list[_Row]) -> None:
        # Field by field instead of request by request: nothing is done in Python for each of them.
        self._duration.child(route).observe(map(_duration, rows))
        self._first_byte.child(route).observe(filter(None, map(_first_byte, rows)))
        self._all_overhead.observe(compress(map(_overhead, rows), map(_attempts, rows)))

    def watch(self, name: str, reading: Reading) -> None:
        """Read `name` (one of WATCHED_NAMES) from `reading` at each scrape; without it the metric has no sample."""
        if name not in _WATCHABLE:
            raise ValueError(f"{name} is not a metric that can be watched")
        self._watched[name] = reading

    def render(self) -> bytes:
        """The text of a scrape, Prometheus format 0.0.4 (exposition.CONTENT_TYPE)."""
        self.before_render()
        pieces = [header("luntrex_build_info", "gauge", "The running version."), self._build]
        families = (
            self._requests, self._endings, self._denied, self._tokens, self._unpriced, self._duration,
            self._first_byte, self._overhead,
        )  # fmt: skip
        for family in families:
            pieces.extend(family.render())
        for name, watchable in _WATCHABLE.items():
            reading = self._watched.get(name)
            if reading is not None:
                pieces.append(header(name, watchable.kind, watchable.help_text))
                pieces.extend(samples(name, watchable.label, reading()))
        return "".join(pieces).encode()

    def _start_at_zero(self, models: Iterable[str]) -> None:
        # A series that first appears at 1 loses its first increment in rate(). requests_total is the exception: which
        # of its combinations can occur is not known before they do.
        for route in ROUTE_NAMES:
            self._duration.child(route)
            self._first_byte.child(route)
        for ending in Ending:
            self._endings.cell(ending.value)
        for reason in REFUSALS:
            self._denied.cell(reason)
        for model in (*models, OTHER):
            self._token_cells(self._model_label(model))
            self._unpriced.cell(self._model_label(model))

    def _join(self, kind: _Row) -> _Joined:
        route, model, upstream, status, code, ending = kind
        # Models and statuses are the dimensions that others can stretch; both are folded below, this table is not.
        if len(self._joined) >= _JOINED_LIMIT:
            self._joined.clear()
        route = route if route in ROUTE_NAMES else OTHER
        model = self._model_label(model)
        shown_status = str(status) if status in _STATUSES else f"{status // 100}xx"
        reason = code if code in REFUSALS else OTHER
        joined = self._joined[kind] = _Joined(
            requests=self._requests.cell(route, upstream, model, shown_status),
            ending=self._endings.cell(ending),
            denied=self._denied.cell(reason) if ending == Ending.REFUSED else None,
            tokens=self._token_cells(model),
            unpriced=self._unpriced.cell(model),
        )
        return joined

    def _model_label(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) > MODEL_LIMIT:
                return OTHER
            self._models.add(model)
        return model

    def _token_cells(self, model: str) -> list[list[int]]:
        return [self._tokens.cell(name, model) for name in Tokens.__struct_fields__]
