"""Accounts with targets of their own or few models, weights of 0, canaries, and what answers tell in headers."""

import json

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.accountroutes import AccountRoutes, OwnTarget
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry, Target
from tests.fakes import KEY, entry, serving, upstream
from tests.gateway.wire import LAST_CHUNK, STREAM_BODY, ask, chunk, get, post, reply, sse_head, upstream_server
from tests.upstreams.bodies import chat_body, chat_events

OTHER = "lx_" + "o" * 12 + "_" + "s" * 49


async def test_an_accounts_own_targets_serve_it_alone() -> None:
    """Its name there is spliced in, others go on as before, and it holds from one request to the next."""
    async with upstream_server() as shared, upstream_server([reply(200, b'{"from":"own"}')]) as own:
        configured = [upstream("a", shared.url), upstream("b", own.url)]
        async with serving(configured, [entry("m", ("a", "m")), entry("x", ("a", "x"))]) as gateway:
            gateway.keys.callers[OTHER.encode()] = Caller(account_id=8, key_id="o" * 12)
            routing = gateway.pipeline.routing
            routing.own = {7: AccountRoutes(("m", "y"), {"m": (OwnTarget("b", "mine"),), "y": (OwnTarget("b", "z"),)})}
            assert (await ask(gateway.port, post())).json() == {"from": "own"}
            assert json.loads(own.requests[-1].body)["model"] == "mine"
            assert (await gateway.outcome()).model == "m"
            assert (await ask(gateway.port, post(key=OTHER))).json() == {}
            assert (await ask(gateway.port, post(b'{"model":"y"}'))).json() == {"from": "own"}
            assert (await ask(gateway.port, post(b'{"model":"y"}', key=OTHER))).status == 404
            assert (await ask(gateway.port, post(b'{"model":"x"}'))).code == "model_not_found"
            listed = (await ask(gateway.port, get("/v1/models"))).json()["data"]
            assert [each["id"] for each in listed] == ["m", "y"]
            routing.own = {7: AccountRoutes(targets={"m": (OwnTarget("gone", "m"),)})}
            assert (await ask(gateway.port, post())).code == "no_upstream"
            routing.own = {}
            assert (await ask(gateway.port, post())).json() == {}


async def test_weight_0_is_asked_when_the_others_have_failed() -> None:
    """Never before, however often."""
    models = [Entry("m", (Target("a", Dialect.OPENAI, "m", 1), Target("b", Dialect.OPENAI, "m", 0)))]
    async with (
        upstream_server() as first,
        upstream_server([reply(200, b'{"from":"b"}')]) as spare,
        serving([upstream("a", first.url), upstream("b", spare.url)], models) as gateway,
    ):
        for _ in range(20):
            assert (await ask(gateway.port, post())).json() == {}
        assert not spare.requests
        first.script = [reply(429, b"{}")]
        assert (await ask(gateway.port, post())).json() == {"from": "b"}
        gateway.pipeline.routing.maintain({"a"})
        assert (await ask(gateway.port, post())).json() == {"from": "b"}


async def test_what_answers_tell_is_the_operators_choice() -> None:
    """Nothing by default; upstream and overhead always, the cost where it is known before the head goes out."""
    names = ("x-luntrex-upstream", "x-luntrex-overhead-us", "x-luntrex-cost-usd")
    body = chat_body()
    async with (
        upstream_server([reply(200, body)]) as up,
        serving([upstream("a", up.url)], [entry("m", ("a", "m"))]) as gateway,
    ):
        assert not set(names) & (await ask(gateway.port, post())).headers.keys()
        gateway.pipeline.told = frozenset({"upstream", "overhead", "cost"})
        answer = await ask(gateway.port, post())
        outcome = await gateway.outcome(2)
        assert answer.headers["x-luntrex-upstream"] == "a"
        assert int(answer.headers["x-luntrex-overhead-us"]) == outcome.overhead_us
        assert outcome.cost_pico > 0
        assert answer.headers["x-luntrex-cost-usd"] == f"0.{outcome.cost_pico:012d}"
        up.script = [sse_head(), *map(chunk, chat_events()), LAST_CHUNK]
        stream = await ask(gateway.port, post(STREAM_BODY))
        assert set(names) & stream.headers.keys() == set(names[:2])
        up.script = [reply(400, b'{"error":{"message":"no"}}')]
        refused = await ask(gateway.port, post())
        assert refused.status == 400
        assert set(names) & refused.headers.keys() == set(names[:2])
        gateway.pipeline.told = frozenset({"cost"})
        up.script = [reply(200, body)]
        assert set(names) & (await ask(gateway.port, post())).headers.keys() == {names[2]}
        assert set(names) & (await ask(gateway.port, post(key=KEY[:-1] + "x"))).headers.keys() == set()
        gateway.prices.rates = None
        assert names[2] not in (await ask(gateway.port, post())).headers, "it is not free, nobody knows its price"
