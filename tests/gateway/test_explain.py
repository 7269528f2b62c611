"""`routes explain` against the way itself: over many configurations both say the same of every request."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.accountroutes import AccountRoutes, OwnTarget
from luntrex_proxy.core.attempts import Attempts
from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TRAINING_BIT
from luntrex_proxy.core.explanation import Explanation, Question
from luntrex_proxy.core.health import Verdict
from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.registry import Closed
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.core.trail import read
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.authenticate import Door
from luntrex_proxy.gateway.authorise import POLICY_HEADER, authorise
from luntrex_proxy.gateway.explain import explain
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.record import Draft
from luntrex_proxy.gateway.route import Routing, choose
from luntrex_proxy.gateway.upstreams import sketch_routing
from luntrex_proxy.settings.model import Settings

ENDPOINTS = {route.name: route for route in ROUTES}
DRAWS = 400
_upstreams = st.lists(
    st.fixed_dictionaries(
        {
            "dialect": st.sampled_from(["openai", "openai", "anthropic"]),
            "region": st.sampled_from(["eu", "us", None]),
            "retention": st.sampled_from(["none", "unknown", {"kind": "abuse_monitoring", "days": 7}]),
            "training": st.sampled_from(["never", "never", "unless_opted_out", "unknown"]),
            "condition": st.sampled_from(["", "", "maintenance", "open", "paused", "ejected", "failing"]),
        }
    ),
    min_size=1,
    max_size=4,
)
_models = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["m", "m-*", "*", "x"]),
            "targets": st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=4),
            "choice": st.sampled_from(["weighted", "weighted", "least_busy", "latency"]),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda model: model["name"],
)
_policies = st.sampled_from(
    ["region=eu; retention=none; training=never", "retention=unknown; training=unknown", "retention=none; training=yes"]
)
_scopes = st.builds(
    Scope,
    endpoints=st.sampled_from([None, None, frozenset({"messages"})]),
    models=st.sampled_from([None, ("m",), ("m*",), ("x",)]),
    regions=st.sampled_from([None, None, frozenset({"eu"}), frozenset({"us"})]),
)
_headers = st.sampled_from(["", "", "region=eu", "retention=none", "training=never; region=us,eu", "rubbish"])


@dataclass(frozen=True)
class World:
    """A generated configuration, how its upstreams are, and one request."""

    routing: Routing
    question: Question


@st.composite
def worlds(draw: Any, loop: asyncio.AbstractEventLoop) -> World:
    """What may be configured and asked."""
    upstreams = [
        {"name": f"u{at}", "base_url": "http://127.0.0.1:1", **each} for at, each in enumerate(draw(_upstreams))
    ]
    conditions = {each["name"]: each.pop("condition") for each in upstreams}
    models = [
        {**model, "targets": [
            {"upstream": f"u{at % len(upstreams)}", "model": "*" if "*" in model["name"] else "there", "weight": weight}
            for at, weight in model["targets"]
        ]}
        for model in draw(_models)
    ]  # fmt: skip
    routing = sketch_routing(Settings.model_validate({"upstreams": upstreams, "models": models}), Ticker(loop), loop)
    for name, condition in conditions.items():
        _make(routing, name, condition)
    names = [each["name"] for each in upstreams]
    few = st.frozensets(st.sampled_from(names), max_size=1)
    routing.closed = Closed(draw(few), draw(st.one_of(st.just({}), st.fixed_dictionaries({7: few}))))
    own = st.tuples(st.sampled_from([*names, "gone"]), st.integers(1, 5)).map(
        lambda to: OwnTarget(to[0], "mine", to[1])
    )
    routing.own = {7: AccountRoutes(
        draw(st.sampled_from([None, None, ("m", "x"), ("m*",)])),
        draw(st.dictionaries(st.sampled_from(["m", "m-*", "new"]), st.lists(own, min_size=1, max_size=3).map(tuple),
                             max_size=2)),
    )} if draw(st.booleans()) else {}  # fmt: skip
    routing.only_priced = draw(st.sampled_from([False, False, True]))
    caller = Caller(
        7, "k" * 12, policy=draw(st.one_of(st.none(), _policies.map(read_policy))),
        scope=draw(st.one_of(st.none(), _scopes)),
        consents=draw(st.sampled_from([0, TRAINING_BIT, TRAINING_BIT | PROVIDER_RETENTION_BIT])),
    )  # fmt: skip
    route = ENDPOINTS[draw(st.sampled_from(["chat.completions", "messages", "embeddings"]))]
    return World(
        routing, Question(caller, draw(st.sampled_from(["m", "m-1", "x", "zz", "new"])), route, draw(_headers))
    )


def _make(routing: Routing, name: str, condition: str) -> None:
    upstream = routing.upstreams[name]
    health, now = upstream.health, upstream.origin.now
    if condition == "maintenance":
        health.maintenance = True
    elif condition == "failing":
        health.probed(now, passed=False, fails=1, passes=1)
    elif condition == "paused":
        for model in ("there", "m-1", "zz"):
            health.pause(model, 30, now)
    elif condition == "open":
        for number in range(5):
            health.note(Verdict.BAD, now, f"r{number}", "http_500")
    elif condition == "ejected":
        for number in range(20):
            health.note(Verdict.BAD if number % 2 else Verdict.GOOD, now, f"r{number}", "http_500")


def really(world: World) -> tuple[str, str | None, list[tuple[str, str]], Draft]:
    """What the stations do with it: a refusal and its field, or the targets in the order in which they are asked."""
    question, routing = world.question, world.routing
    route: Route = question.route  # type: ignore[assignment]  # each of these has one
    headers = {POLICY_HEADER: question.policy.encode()} if question.policy else {}
    call, draft = Call(route, "", b"", headers), Draft(0.0, 0, None)  # type: ignore[arg-type]  # it is never settled
    door = Door(None, None, Attempts(None), lambda *_: None)  # type: ignore[arg-type]  # its keys are not asked
    try:
        if question.caller.scope is not None:
            door.check_scope(question.caller, question.caller.scope, route, "")
        permit = authorise(question.caller, question.model, call, routing.names(7), routing.policy)
        targets = choose(permit, routing, draft)
    except Refusal as refusal:
        return refusal.row.code, refusal.field, [], draft
    return "", None, [(target.upstream.name, target.model_there(permit)) for target in targets], draft


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """For the clock only."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_explain_says_what_happens(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same refusal with the same field; the same targets; who is left out for the same reason; honest shares."""
    draws = iter(())  # type: Iterator[float]
    monkeypatch.setattr(random, "random", lambda: next(draws))

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(worlds(loop))
    def agree(world: World) -> None:
        nonlocal draws
        said = explain(world.question, world.routing, Limits(), Budgets(), health_known=True)
        draws = iter([0.5])
        code, field, targets, draft = really(world)
        assert (said.code, said.named) == (code, field)
        assert all(step.good for step in said.steps) is not bool(code)
        if code and code not in _AT_ROUTE:
            assert not said.targets
            return
        reasons = [(step.name, step.code) for step in read(";".join(draft.notes or ()))]
        assert sorted(reasons) == sorted((each.upstream, each.reason) for each in said.targets if each.reason)
        if code:
            return
        assert sorted(targets) == sorted((each.upstream, each.model) for each in said.targets if each.asked)
        _check_shares(world, said)

    def _check_shares(world: World, said: Explanation) -> None:
        nonlocal draws
        draws = iter([at / DRAWS for at in range(DRAWS)])
        first = Counter(really(world)[2][0][0] for _ in range(DRAWS))
        expected: Counter[str] = Counter()
        for each in said.targets:
            if each.share is None:
                assert world.routing  # by load or speed: anybody of the best
                return
            expected[each.upstream] += each.share  # type: ignore[assignment]  # of 1
        for name in first | expected:
            assert abs(first[name] / DRAWS - expected[name]) < 0.02, (name, first, expected)

    agree()


_AT_ROUTE = {
    "price_unknown",
    "policy_excludes",
    "subprocessor_unlisted",
    "subprocessor_objected",
    "no_upstream",
    "upstream_maintenance",
}
