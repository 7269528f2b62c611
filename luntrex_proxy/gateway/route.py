"""Station 5, route: a permit becomes the ordered targets that may serve it, each with the request it would be sent."""

import math
import random
import re
from collections.abc import Sequence

from luntrex_proxy.core.call import CHAT, Route
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Choice, Resolution, choose_order
from luntrex_proxy.core.health import Health, HealthRules, Speed, Standing
from luntrex_proxy.core.policy import NO_TRAINING, Policy, Traits, name_exclusion
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.registry import Closed
from luntrex_proxy.core.retrying import Retries
from luntrex_proxy.core.wire.endusers import EndUserIds
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.splice import Changes, rewrite
from luntrex_proxy.core.wire.usage import is_billed
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.exchange import LENGTH_LINES, SMALL_BYTES
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.ports import Prices

_JSON = b"Content-Type: application/json\r\n"
_UNMEASURED_S = 0.001  # what is expected of targets while none of a model's was measured

_MODEL_PATH = re.compile(rb"[A-Za-z0-9._:@-]+(?:/[A-Za-z0-9._:@-]+)*")


class Upstream:
    """One configured upstream as the way of a request uses it."""

    __slots__ = (
        "_begins", "_fixed_headers", "base_path", "end_users", "health", "health_rules", "inject_usage", "name",
        "origin", "reached_by", "speeds", "store_false", "traits",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 -- one value per part, all by name
        self,
        *,
        name: str,
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
    ) -> None:
        self.name = name
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

    __slots__ = ("_changes", "_changes_for_usage", "candidate", "speed", "upstream", "weight")

    def __init__(self, upstream: Upstream, candidate: Candidate, speed: Speed | None = None) -> None:
        self.upstream = upstream
        self.candidate = candidate
        self.weight = candidate.weight
        self.speed = speed  # None: nobody wants to know
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
        changes = self._changes_for_usage if fields.stream and self.injects_usage(call.route, fields) else self._changes
        return self.upstream.post(call, rewrite(call.route, body, fields, changes, permit.caller.account_id))


class Routing:
    """The catalogue, prices, upstreams and default policy of one configuration; only replaced, but for `closed`."""

    __slots__ = ("_targets", "catalogue", "closed", "only_priced", "policy", "prices", "retries", "upstreams")

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
        self._targets: dict[Resolution, tuple[Target, ...]] = {}  # of exact names: as many as are configured

    def targets(self, resolution: Resolution) -> tuple[Target, ...]:
        """All targets of a model, in the configuration's order."""
        targets = self._targets.get(resolution)
        if targets is None:
            targets = tuple(
                Target(self.upstreams[candidate.upstream], candidate, self._speed(resolution, candidate))
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

    def take_over(self) -> None:
        """From now on this configuration is in force: change what it shares with the one before."""
        for upstream in self.upstreams.values():
            upstream.health.rules = upstream.health_rules

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


def choose(permit: Permit, routing: Routing) -> Sequence[Target]:
    """Targets in the order in which they are asked. Raises Refusal when there is none."""
    targets = routing.targets(permit.resolution)
    if not targets:
        raise Refusal("no_upstream")
    # Before anything else is asked of them: no weight, health or fallback brings back what is left out here.
    closed = routing.closed
    if closed.everyone or closed.objections:
        targets = _open(targets, closed, permit.caller.account_id)
    if routing.only_priced and is_billed(permit.call.route):
        targets = _priced(targets, permit, routing.prices)
    policy = permit.policy
    if len(targets) == 1:  # as nearly all models have
        upstream = targets[0].upstream
        if policy.admits(upstream.traits) and not upstream.health.troubled:
            return targets
    for target in targets:
        if not policy.admits(target.upstream.traits):
            targets = _admitted(targets, policy)
            break
    if len(targets) > 1:
        targets = _ordered(targets, permit.resolution.choice)
    for target in targets:
        if target.upstream.health.troubled:
            return _willing(targets, permit)
    return targets


def expected_s(targets: Sequence[Target]) -> list[float]:
    """What a first byte of each is expected to take; of one that was never measured, the mean of the others."""
    expected = [
        0.0 if target.speed is None else target.speed.expect_s(target.upstream.origin.now) for target in targets
    ]
    measured = [wait_s for wait_s in expected if wait_s]
    unmeasured_s = sum(measured) / len(measured) if measured else _UNMEASURED_S
    return [wait_s or unmeasured_s for wait_s in expected]


def _open(targets: tuple[Target, ...], closed: Closed, account_id: int) -> tuple[Target, ...]:
    vetted = tuple(target for target in targets if target.upstream.name not in closed.everyone)
    if not vetted:
        raise Refusal("subprocessor_unlisted")
    refused = closed.objections.get(account_id)
    if refused is None:
        return vetted
    wanted = tuple(target for target in vetted if target.upstream.name not in refused)
    if not wanted:
        raise Refusal("subprocessor_objected")
    return wanted


def _priced(targets: tuple[Target, ...], permit: Permit, prices: Prices) -> tuple[Target, ...]:
    priced = tuple(
        target
        for target in targets
        if prices.price(permit.resolution, target.candidate, permit.model).rates is not None
    )
    if not priced:
        raise Refusal("price_unknown", "model")
    return priced


def _admitted(targets: tuple[Target, ...], policy: Policy) -> tuple[Target, ...]:
    admitted = tuple(target for target in targets if policy.admits(target.upstream.traits))
    if not admitted:
        raise Refusal("policy_excludes", name_exclusion(policy, [target.upstream.traits for target in targets]))
    return admitted


def _ordered(targets: tuple[Target, ...], choice: Choice) -> tuple[Target, ...]:
    costs = None
    if choice is Choice.LEAST_BUSY:
        costs = [target.upstream.origin.busy + 1.0 for target in targets]
    elif choice is Choice.LATENCY:
        waits_s = expected_s(targets)
        costs = [wait_s * (target.upstream.origin.busy + 1) for wait_s, target in zip(waits_s, targets, strict=True)]
    return choose_order(targets, random.random(), costs)  # noqa: S311 -- spreads load, guards nothing


def _willing(targets: tuple[Target, ...], permit: Permit) -> Sequence[Target]:
    """Those that may be asked, the best first, in their order otherwise.

    At most half of a model's targets count as ejected: when most of them err, the errors are not an outlier's.
    """
    standings = {
        target: target.upstream.health.standing(target.upstream.origin.now, target.model_there(permit))
        for target in targets
    }
    ejected = sum(standing is Standing.EJECTED for standing in standings.values())
    if ejected * 2 > len(targets):
        standings = {
            target: Standing.READY if standing is Standing.EJECTED else standing
            for target, standing in standings.items()
        }
    willing = [target for target in targets if standings[target] is not Standing.OPEN]
    if not willing:
        wait_s = min(target.upstream.health.wait_s(target.upstream.origin.now) for target in targets)
        raise Refusal("no_upstream", retry_after_s=max(1, math.ceil(wait_s)))
    return sorted(willing, key=standings.__getitem__)
