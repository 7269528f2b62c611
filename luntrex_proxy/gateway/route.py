"""Station 5, route: a permit becomes the ordered targets that may serve it, each with the request it would be sent."""

import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from luntrex_proxy.core.accountroutes import AccountCatalogue, AccountRoutes
from luntrex_proxy.core.call import CHAT, RESPONSES, Dialect, Route
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Choice, Names, Resolution, choose_order
from luntrex_proxy.core.health import STANDING_WORDS, Condition, Health, HealthRules, Speed, Standing
from luntrex_proxy.core.policy import NO_TRAINING, Policy, Traits, name_exclusion
from luntrex_proxy.core.pricing import Price, Rates
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.registry import Closed
from luntrex_proxy.core.retrying import Retries
from luntrex_proxy.core.trail import left_out
from luntrex_proxy.core.wire.endusers import EndUserIds
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.splice import CHANGEABLE, Changes, rewrite
from luntrex_proxy.core.wire.usage import is_billed
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.exchange import LENGTH_LINES, SMALL_BYTES
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.ports import Prices
from luntrex_proxy.gateway.probe import Probe
from luntrex_proxy.gateway.record import Draft

_JSON = b"Content-Type: application/json\r\n"
_changes_nothing = CHANGEABLE.isdisjoint  # of what is imported, each look at an attribute makes an object
_UNMEASURED_S = 0.001  # what is expected of targets while none of a model's was measured
_MAINTENANCE_RETRY_S = 30
_NOBODYS: Final[frozenset[str]] = frozenset()
# What leaves targets out, in its order: each is asked only of those that the one before let through.
_UNLISTED, _OBJECTED, _UNPRICED, _POLICY, _AVOIDED, _WILLING = range(6)

_MODEL_PATH = re.compile(rb"[A-Za-z0-9._:@-]+(?:/[A-Za-z0-9._:@-]+)*")


class Upstream:
    """One configured upstream as the way of a request uses it."""

    __slots__ = (
        "_begins", "_fixed_headers", "base_path", "dialect", "end_users", "health", "health_rules", "inject_usage",
        "name", "origin", "probe", "reached_by", "speeds", "store_false", "traits",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 -- one value per part, all by name
        self,
        *,
        name: str,
        dialect: Dialect,
        origin: Origin,
        reached_by: tuple[object, ...],
        health: Health,
        health_rules: HealthRules,
        speeds: dict[str, Speed],
        base_path: bytes,
        fixed_headers: bytes,
        inject_usage: bool,
        traits: Traits,
        store_false: bool,
        end_users: EndUserIds | None,
        probe: Probe | None = None,
    ) -> None:
        self.name = name
        self.dialect = dialect
        self.origin = origin
        self.reached_by = reached_by  # all settings that `origin` was made from; its place comes first
        self.health = health  # may be shared with the configuration before
        self.health_rules = health_rules  # of this configuration
        self.speeds = speeds  # by the upstream's model, as many as are configured; "" for all that wildcards matched
        self.base_path = base_path
        self.inject_usage = inject_usage
        self.traits = traits
        self.store_false = store_false
        self.end_users = end_users  # None: it sees them as the client sent them
        self.probe = probe
        self._fixed_headers = fixed_headers  # Host, credentials and constants, as complete lines
        self._begins: dict[Route, bytes] = {}  # of requests, up to what is the call's own

    def post(self, call: Call, body: bytes) -> bytes:
        """A whole request with a body, built from zero."""
        begin = self._begins.get(call.route)
        if begin is None:
            path = self.base_path + call.route.upstream_path
            begin = self._begins[call.route] = b"POST %b HTTP/1.1\r\n%b" % (path, self._fixed_headers)
        size = len(body)
        length = LENGTH_LINES[size] if size < SMALL_BYTES else b"Content-Length: %d\r\n\r\n" % size
        return b"".join((begin, call.passed, _JSON, length, body))

    def get(self, call: Call, model_id: str) -> bytes:
        """The same for a list of models, or for one of them. Raises Refusal for a name that is no path."""
        parts = [b"GET ", self.base_path, call.route.upstream_path]
        if model_id:
            name = model_id.encode()
            if _MODEL_PATH.fullmatch(name) is None or b".." in name or b"." in name.split(b"/"):
                raise Refusal("model_not_found")
            parts += (b"/", name)
        if call.page:
            parts += (b"?", call.page)
        parts += (b" HTTP/1.1\r\n", self._fixed_headers, call.passed, b"\r\n")
        return b"".join(parts)


class Target:
    """One upstream that may serve a model. An exact name has the same targets for all its requests."""

    __slots__ = (
        "_changes", "_changes_for_usage", "_keeps", "admitted_by", "candidate", "dearest", "price", "rates", "speed",
        "upstream", "weight",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, candidate: Candidate, speed: Speed | None = None, price: Price | None = None
    ) -> None:
        self.upstream = upstream
        self.candidate = candidate
        self.weight = candidate.weight
        self.speed = speed  # None: nobody wants to know
        self.price = price  # of an exact name, where the configuration says it; None: ask the price book each time
        self.rates: Rates | None = None  # the last that a budget went by, and
        self.dearest: tuple[int, int, int] | None = None  # the dearest of them; None: it depends on the request
        self.admitted_by: Policy | None = None  # the last one that did, or nobody asked
        self._keeps = candidate.model is None and not upstream.store_false  # what names nothing that may change
        self._changes = Changes(candidate.model, False, upstream.store_false, upstream.end_users)
        self._changes_for_usage = Changes(candidate.model, True, upstream.store_false, upstream.end_users)

    def model_there(self, permit: Permit) -> str:
        """What the upstream calls the model."""
        return self.candidate.model or permit.model

    def injects_usage(self, route: Route, fields: Fields) -> bool:
        """Whether the stream's usage has to be asked for on the client's behalf."""
        return route.grammar is CHAT and fields.stream and not fields.include_usage and self.upstream.inject_usage

    def request(self, permit: Permit, body: bytes) -> bytes:
        """The whole request: the client's body with the permitted changes spliced in, all else made here."""
        call, fields = permit.call, permit.fields
        if fields is None:
            return self.upstream.get(call, (self.candidate.model or call.model_id) if call.model_id else "")
        if fields.stream and self.injects_usage(call.route, fields):
            body = rewrite(call.route, body, fields, self._changes_for_usage, permit.caller.account_id)
        elif not self._keeps or call.route.grammar is RESPONSES or not _changes_nothing(fields.members):
            body = rewrite(call.route, body, fields, self._changes, permit.caller.account_id)
        return self.upstream.post(call, body)


class Routing:
    """The catalogue, prices, upstreams and default policy of one configuration; only `closed` and `own` ever change."""

    __slots__ = (
        "_named", "_own", "_targets", "catalogue", "closed", "has_own", "only_priced", "policy", "prices", "retries",
        "upstreams",
    )  # fmt: skip

    def __init__(
        self,
        catalogue: Catalogue,
        prices: Prices,
        upstreams: dict[str, Upstream],
        policy: Policy = NO_TRAINING,
        retries: Retries | None = None,
        *,
        only_priced: bool = False,
    ) -> None:
        self.only_priced = only_priced  # what has no known price is refused
        self.catalogue = catalogue
        self.prices = prices
        self.upstreams = upstreams
        self.policy = policy
        self.retries = retries or Retries()
        self.closed = Closed()  # what the register of sub-processors leaves out; another one whenever that changes
        self.has_own = False  # whether any account has something of its own: asked for each request
        self._own: Mapping[int, AccountRoutes] = {}
        self._named: dict[int, AccountCatalogue] = {}  # of accounts with something of their own that have asked
        self._targets: dict[Resolution, tuple[Target, ...]] = {}  # of exact names: as many as are configured

    @property
    def own(self) -> Mapping[int, AccountRoutes]:
        """What accounts have of their own, by account id."""
        return self._own

    @own.setter
    def own(self, routes: Mapping[int, AccountRoutes]) -> None:
        self._own, self.has_own = routes, bool(routes)
        self._named = {}
        self._targets = {}  # they are remembered by what names meant until now

    def names(self, account_id: int) -> Names:
        """What model names mean to an account."""
        if account_id not in self._own:
            return self.catalogue
        found = self._named.get(account_id)
        if found is None:
            dialects = {name: upstream.dialect for name, upstream in self.upstreams.items()}
            found = self._named[account_id] = AccountCatalogue(self.catalogue, self._own[account_id], dialects)
        return found

    def targets(self, resolution: Resolution) -> tuple[Target, ...]:
        """All targets of a model, in the configuration's order."""
        targets = self._targets.get(resolution)
        if targets is None:
            targets = tuple(
                Target(
                    self.upstreams[candidate.upstream],
                    candidate,
                    self._speed(resolution, candidate),
                    self._price(resolution, candidate),
                )
                for candidate in resolution.candidates
                if candidate.upstream in self.upstreams
            )
            if resolution.name is not None:
                self._targets[resolution] = targets
        return targets

    def _speed(self, resolution: Resolution, candidate: Candidate) -> Speed | None:
        if resolution.choice is not Choice.LATENCY:
            return None
        # A name that a wildcard matched has no place to remember its own.
        model = "" if resolution.name is None else candidate.model or resolution.name
        return self.upstreams[candidate.upstream].speeds.setdefault(model, Speed())

    def _price(self, resolution: Resolution, candidate: Candidate) -> Price | None:
        if resolution.name is None or resolution.rates is None:
            return None  # prices of the table can begin and end
        return self.prices.price(resolution, candidate, resolution.name)

    def take_over(self) -> None:
        """From now on this configuration is in force: change what it shares with the one before."""
        for upstream in self.upstreams.values():
            upstream.health.rules = upstream.health_rules
            if upstream.probe is None:
                upstream.health.forget_probes()

    def maintain(self, names: Collection[str]) -> None:
        """Let nothing new go to these upstreams, and to all others again."""
        for name, upstream in self.upstreams.items():
            if upstream.health.maintenance is not (name in names):
                upstream.health.maintenance = name in names

    def conditions(self, models: Collection[str] = ()) -> list[Condition]:
        """How all upstreams are, and for which of these models, by their names there, they are paused."""
        return [
            upstream.health.condition(name, upstream.origin.busy, upstream.origin.now, models)
            for name, upstream in self.upstreams.items()
        ]

    def probes(self) -> dict[str, float]:
        """For the metric: 0 for an upstream whose probe fails, 1 for others that are probed."""
        return {name: float(not each.health.failing) for name, each in self.upstreams.items() if each.probe is not None}

    def maintenance(self) -> dict[str, float]:
        """For the metric: 1 for an upstream in maintenance."""
        return {name: float(upstream.health.maintenance) for name, upstream in self.upstreams.items()}

    def in_flight(self) -> dict[str, float]:
        """For the metric: requests under way at each upstream."""
        return {name: float(upstream.origin.busy) for name, upstream in self.upstreams.items()}

    def health(self) -> dict[str, float]:
        """For the metric: 1 for an upstream that is asked as usual, 0 for one that is not, 0.5 between."""
        return {name: upstream.health.value(upstream.origin.now) for name, upstream in self.upstreams.items()}

    def credentials_refused(self) -> dict[str, float]:
        """For the metric: how often each upstream said that the key we have for it is wrong."""
        return {name: upstream.health.credentials_refused for name, upstream in self.upstreams.items()}

    def close(self, successor: "Routing | None" = None) -> None:
        """Close the idle connections to upstreams that `successor` does not use; what is under way ends by itself."""
        kept = () if successor is None else [upstream.origin for upstream in successor.upstreams.values()]
        for upstream in self.upstreams.values():
            if upstream.origin not in kept:
                upstream.origin.close()


def choose(permit: Permit, routing: Routing, draft: Draft) -> Sequence[Target]:
    """Targets in the order in which they are asked. Raises Refusal when there is none."""
    targets = routing.targets(permit.resolution)
    if not targets:
        raise Refusal("no_upstream")
    policy, closed = permit.policy, routing.closed
    careful = closed.everyone or closed.objections or routing.only_priced
    for target in targets:
        upstream = target.upstream
        if target.admitted_by is not policy:  # most callers have the same one
            if not policy.admits(upstream.traits):
                return _choose_among(judge(targets, permit, routing), permit, draft)
            target.admitted_by = policy
        if upstream.health.troubled or (careful and not _judge_one(target, permit, routing).is_willing):
            return _choose_among(judge(targets, permit, routing), permit, draft)
    return targets if len(targets) == 1 else _ordered(targets, permit.resolution.choice)


class Judged(NamedTuple):
    """A target, and why it is not asked or only after the others; "": it is as good as any."""

    target: Target
    reason: str  # a key of core/trail.py SENTENCES
    stage: int  # of those that leave targets out, in their order; _WILLING: it may be asked
    standing: Standing

    @property
    def is_willing(self) -> bool:
        """Whether it may be asked, be it after the others."""
        return self.stage == _WILLING


def judge(targets: Sequence[Target], permit: Permit, routing: Routing) -> list[Judged]:
    """What speaks against each target: what may not have the request is no matter of weight, health or fallback.

    At most half of those that may have it count as ejected: when most of them err, the errors are not an outlier's.
    """
    judged = [_judge_one(target, permit, routing) for target in targets]
    ejected = sum(each.standing is Standing.EJECTED for each in judged)
    if ejected * 2 > sum(each.stage > _POLICY for each in judged):
        judged = [
            each._replace(reason="", standing=Standing.READY) if each.standing is Standing.EJECTED else each
            for each in judged
        ]
    return judged


def _judge_one(target: Target, permit: Permit, routing: Routing) -> Judged:
    upstream, closed = target.upstream, routing.closed
    if upstream.name in closed.everyone:
        return Judged(target, "subprocessor_unlisted", _UNLISTED, Standing.READY)
    if upstream.name in closed.objections.get(permit.caller.account_id, _NOBODYS):
        return Judged(target, "subprocessor_objected", _OBJECTED, Standing.READY)
    if routing.only_priced and is_billed(permit.call.route) and not _is_priced(target, permit, routing):
        return Judged(target, "price_unknown", _UNPRICED, Standing.READY)
    excluded = permit.policy.excluded_by(upstream.traits)
    if excluded:
        return Judged(target, excluded[0], _POLICY, Standing.READY)
    standing = upstream.health.standing(upstream.origin.now, target.model_there(permit))
    stage = _AVOIDED if standing >= Standing.OPEN else _WILLING
    return Judged(target, "" if standing is Standing.READY else STANDING_WORDS[standing], stage, standing)


def _is_priced(target: Target, permit: Permit, routing: Routing) -> bool:
    return routing.prices.price(permit.resolution, target.candidate, permit.model).rates is not None


def refusal_of(judged: Sequence[Judged], policy: Policy) -> Refusal:
    """What is said when nobody may be asked: the last thing that left anybody out."""
    stage = max(each.stage for each in judged)
    last = [each for each in judged if each.stage == stage]
    if stage == _UNLISTED:
        return Refusal("subprocessor_unlisted")
    if stage == _OBJECTED:
        return Refusal("subprocessor_objected")
    if stage == _UNPRICED:
        return Refusal("price_unknown", "model")
    if stage == _POLICY:
        return Refusal("policy_excludes", name_exclusion(policy, [each.target.upstream.traits for each in last]))
    if all(each.standing is Standing.MAINTENANCE for each in last):
        return Refusal("upstream_maintenance", retry_after_s=_MAINTENANCE_RETRY_S)
    waits_s = [
        each.target.upstream.health.wait_s(each.target.upstream.origin.now)
        for each in last
        if each.standing is Standing.OPEN
    ]
    return Refusal("no_upstream", retry_after_s=max(1, math.ceil(min(waits_s))))


def _choose_among(judged: Sequence[Judged], permit: Permit, draft: Draft) -> Sequence[Target]:
    for each in judged:
        if each.reason:
            draft.note(left_out(each.target.upstream.name, each.reason))
    standings = {each.target: each.standing for each in judged if each.stage == _WILLING}
    if not standings:
        raise refusal_of(judged, permit.policy)
    willing = tuple(standings)
    if len(willing) > 1:
        willing = _ordered(willing, permit.resolution.choice)
    return sorted(willing, key=standings.__getitem__)


def expected_s(targets: Sequence[Target]) -> list[float]:
    """What a first byte of each is expected to take; of one that was never measured, the mean of the others."""
    expected = [
        0.0 if target.speed is None else target.speed.expect_s(target.upstream.origin.now) for target in targets
    ]
    measured = [wait_s for wait_s in expected if wait_s]
    unmeasured_s = sum(measured) / len(measured) if measured else _UNMEASURED_S
    return [wait_s or unmeasured_s for wait_s in expected]


def _ordered(targets: tuple[Target, ...], choice: Choice) -> tuple[Target, ...]:
    costs = None
    if choice is Choice.LEAST_BUSY:
        costs = [target.upstream.origin.busy + 1.0 for target in targets]
    elif choice is Choice.LATENCY:
        waits_s = expected_s(targets)
        costs = [wait_s * (target.upstream.origin.busy + 1) for wait_s, target in zip(waits_s, targets, strict=True)]
    return choose_order(targets, random.random(), costs)  # noqa: S311 -- spreads load, guards nothing
