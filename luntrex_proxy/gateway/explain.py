"""What would happen to a request, found out by the stations themselves: `authorise`, `judge` and what they use.

No rule is written down here a second time. Nothing is sent, counted or remembered.
"""

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import msgspec

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.budgets import dollars
from luntrex_proxy.core.call import ROUTES, Dialect, Route
from luntrex_proxy.core.catalogue import Choice, Names, shares
from luntrex_proxy.core.explanation import ACTIVE, Explanation, Question, Step, TargetSeen
from luntrex_proxy.core.health import STANDING_WORDS
from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.core.policy import ATTRIBUTES
from luntrex_proxy.core.pricing import PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION, Price
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.scope import covers
from luntrex_proxy.core.trail import SENTENCES
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.authorise import POLICY_HEADER, Permit, authorise
from luntrex_proxy.gateway.route import Judged, Routing, Target, judge, refusal_of

NOT_KNOWN = "not known"
_ENDPOINTS = {route.name: route for route in ROUTES}
_CHOICES = {
    Choice.WEIGHTED: "by weight",
    Choice.LEAST_BUSY: "by requests under way, for its weight",
    Choice.LATENCY: "by the expected wait for a first byte, for its weight",
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the request may do after one more of those who may narrow it has spoken."""

    who: str
    permit: Permit


def explain(
    question: Question, routing: Routing, limits: Limits, budgets: Budgets, *, health_known: bool
) -> Explanation:
    """The answer, as far as the request would get. `health_known`: the health in `routing` is a running process's."""
    route = question.route or _route_of(question.model, routing.names(question.caller.account_id))
    asking = _Asking(question, route, routing, (limits, budgets), health_known)
    caller = question.caller
    found = Explanation(caller.account_id, caller.key_id, question.model, route.name)
    try:
        asking.authenticate()
        asking.choose(asking.authorise())
    except Refusal as refusal:
        row = refusal.row
        asking.steps.append(Step("answer", good=False, says=f"refused: {row.status} {row.code}"))
        found = replace(found, code=row.code, status=row.status, sentence=row.sentence, named=refusal.field)
    return replace(found, steps=tuple(asking.steps), targets=tuple(asking.targets))


def _route_of(model: str, names: Names) -> Route:
    if names.resolve(model, Dialect.OPENAI) is None and names.resolve(model, Dialect.ANTHROPIC) is not None:
        return _ENDPOINTS["messages"]
    return _ENDPOINTS["chat.completions"]


class _Asking:
    def __init__(
        self, question: Question, route: Route, routing: Routing, allowed: tuple[Limits, Budgets], health_known: bool
    ) -> None:
        self.steps: list[Step] = []
        self.targets: list[TargetSeen] = []
        self._question = question
        self._route = route
        self._routing = routing
        self._limits, self._budgets = allowed
        self._health_known = health_known

    def _say(self, station: str, says: str, *, good: bool = True) -> None:
        self.steps.append(Step(station, good, says))

    def authenticate(self) -> None:
        question, scope = self._question, self._question.caller.scope
        if question.key_state != ACTIVE:
            self._say("authenticate", f"the key is {question.key_state}", good=False)
            raise Refusal("invalid_api_key")
        if question.caller.key_id:
            self._say("authenticate", "the key is active")
        if scope is None and not question.caller.key_id:
            return
        if scope is None:
            self._say("scope", "nothing limits the key to endpoints, models, regions or networks")
            return
        limited = [name for name in scope.__struct_fields__ if getattr(scope, name) is not None]
        if question.address is None and not scope.is_restricted:
            scope = msgspec.structs.replace(scope, networks=None)
        try:
            scope.check(self._route.name, question.address or "")
        except Refusal as refusal:
            self._say("scope", refusal.row.sentence.rstrip("."), good=False)
            raise
        self._say("scope", f"the key is limited in its {', '.join(limited)}; {self._route.name} is allowed")

    def authorise(self) -> list[_Layer]:
        question = self._question
        unlimited = msgspec.structs.replace(question.caller, scope=None)
        whose = "the installation's default policy" if question.caller.policy is None else "the account's policy"
        layers = [_Layer(whose, self._permit(unlimited, {}, "name", ""))]
        self._say_name(layers[0].permit)
        if question.caller.scope is not None:
            layers.append(
                _Layer(
                    "the key's regions", self._permit(question.caller, {}, "scope", "the key may not use this model")
                )
            )
        if question.policy:
            header = {POLICY_HEADER: question.policy.encode("latin-1", "replace")}
            layers.append(_Layer("the request's own policy", self._permit(question.caller, header, "policy", "")))
        self._say("policy", f"{whose}, with what its owner consented to: {_words(layers[0])}")
        for before, after in pairwise(layers):
            if after.permit.policy != before.permit.policy:
                self._say("policy", f"{after.who} narrow it to: {_words(after)}")
        self._say_limits(layers[-1].permit)
        return layers

    def _permit(self, caller: Caller, headers: dict[bytes, bytes], station: str, says: str) -> Permit:
        call = Call(self._route, "", b"", headers)
        routing = self._routing
        try:
            names = routing.names(caller.account_id)
            return authorise(caller, self._question.model, call, names, routing.policy)
        except Refusal as refusal:
            own = routing.own.get(caller.account_id)
            if station == "name" and own is not None and not own.allows(self._question.model):
                says = "the account may not use this model"
            self._say(station, says or refusal.row.sentence.rstrip("."), good=False)
            raise

    def _say_name(self, permit: Permit) -> None:
        resolution = permit.resolution
        how = "is a model" if resolution.name is not None else "is covered by a wildcard"
        own = self._routing.own.get(permit.caller.account_id)
        if own is not None and covers(own.targets, permit.model):
            how += ", with targets of the account's own"
        targets = len(self._routing.targets(resolution))
        self._say(
            "name", f"the name {how}: {targets} target{'s' * (targets != 1)}, chosen {_CHOICES[resolution.choice]}"
        )

    def _say_limits(self, permit: Permit) -> None:
        caller = permit.caller
        group = self._limits.applying(caller.account_id, caller.key_id, permit.model, time.perf_counter_ns())
        words, is_room = [], True
        for bucket in group.buckets:
            used = ceil(self._question.limits_used.get((bucket.ident, bucket.model, bucket.what.word), 0))
            is_room = is_room and used < bucket.amount
            words.append(f"{bucket.amount} {bucket.what.words} of {bucket.whose} ({used or 'none'} used)")
        self._say("limits", f"count: {', '.join(words)}" if words else "none counts", good=is_room)
        spent = self._question.budgets_used
        budgets = [
            (purse.budget, spent.get(purse.budget.budget_id, 0))
            for purse in self._budgets.applying(caller.account_id, caller.key_id, caller.person)
        ]
        words = [
            f"{budget.words} ({'nothing is left' if pico >= budget.amount_pico else f'${dollars(pico)} spent or lent'})"
            for budget, pico in budgets
        ]
        is_left = all(pico < budget.amount_pico for budget, pico in budgets)
        self._say("budgets", f"count: {', '.join(words)}" if words else "none counts", good=is_left)

    def choose(self, layers: list[_Layer]) -> None:
        permit, routing = layers[-1].permit, self._routing
        targets = routing.targets(permit.resolution)
        if not targets:
            raise Refusal("no_upstream")
        judged = sorted(judge(targets, permit, routing), key=lambda each: (-each.stage, each.standing))
        first = [each for each in judged if each.is_willing and each.standing == judged[0].standing]
        share = dict(zip([each.target for each in first], shares([each.target for each in first]), strict=True))
        weighted = permit.resolution.choice is Choice.WEIGHTED or len(first) == 1
        self.targets = [
            self._seen(each, layers, (share.get(each.target, 0.0) if weighted or each.target not in share else None))
            for each in judged
        ]
        if not first:
            raise refusal_of(judged, permit.policy)
        left = sum(not each.is_willing for each in judged)
        self._say("route", f"{len(judged) - left} of {len(judged)} targets may be asked")

    def _seen(self, judged: Judged, layers: list[_Layer], share: float | None) -> TargetSeen:
        target, permit = judged.target, layers[-1].permit
        region, retention, training = target.upstream.traits.words
        known = self._health_known or target.upstream.health.maintenance
        return TargetSeen(
            upstream=target.upstream.name,
            model=target.model_there(permit),
            weight=target.weight,
            share=share,
            region=region,
            retention=retention,
            training=training,
            price=_price_words(self._routing.prices.price(permit.resolution, target.candidate, permit.model)),
            reason=judged.reason,
            says=_why(judged, layers),
            standing=_standing(target, permit) if known else NOT_KNOWN,
            asked=judged.is_willing,
        )


def _words(layer: _Layer) -> str:
    return layer.permit.policy.words() or "anything"


def _standing(target: Target, permit: Permit) -> str:
    upstream = target.upstream
    return STANDING_WORDS[upstream.health.standing(upstream.origin.now, target.model_there(permit))]


def _why(judged: Judged, layers: list[_Layer]) -> str:
    if not judged.reason:
        return "" if judged.target.weight else "asked when the others have failed"
    says = SENTENCES[judged.reason]
    if judged.reason not in ATTRIBUTES:
        return says
    traits = judged.target.upstream.traits
    who = next(layer.who for layer in layers if not layer.permit.policy.admits(traits))
    attributes = layers[-1].permit.policy.excluded_by(traits)
    return f"excluded by {who}: {', '.join(attributes)}"


def _price_words(price: Price) -> str:
    rates = price.rates
    if rates is None:
        return "unknown"
    dollars = [rate / PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION for rate in (rates.input, rates.output)]
    return f"${dollars[0]:g} in, ${dollars[1]:g} out per million tokens ({price.version})"
