"""Upstreams in maintenance: what runs goes on, what is new goes elsewhere, and with nobody left it is said so."""

import asyncio

from luntrex_proxy.core.health import Verdict
from luntrex_proxy.core.trail import read
from tests.fakes import entry, serving, upstream
from tests.gateway.wire import LAST_CHUNK, STREAM_BODY, ask, chunk, connected, post, reply, sse_head, upstream_server
from tests.upstreams.bodies import chat_events


async def test_streams_run_on_and_new_requests_go_elsewhere() -> None:
    """Also the weight of a thousand million keeps nothing there; metrics and conditions tell it."""
    go_on = asyncio.Event()
    events = chat_events(3)
    script = [sse_head(), chunk(events[0]), go_on, *map(chunk, events[1:]), LAST_CHUNK]
    async with upstream_server(script) as first, upstream_server([reply(200, b'{"from":"b"}')]) as second:
        models = [entry("m", ("a", "m"), ("b", "m"))]
        async with serving([upstream("a", first.url), upstream("b", second.url)], models) as gateway:
            routing = gateway.pipeline.routing
            async with connected(gateway.port) as client:
                await client.send(post(STREAM_BODY))
                await client.read_until(b"data:")
                routing.maintain({"a", "one that is gone"})
                assert (await ask(gateway.port, post())).json() == {"from": "b"}
                outcome = await gateway.outcome()
                assert (read(outcome.trail)[0].name, read(outcome.trail)[0].code) == ("a", "maintenance")
                assert (routing.health(), routing.maintenance()) == ({"a": 0, "b": 1}, {"a": 1, "b": 0})
                assert routing.in_flight()["a"] == 1
                go_on.set()
                assert (await client.reply()).body.endswith(b"data: [DONE]\n\n")
            assert [each.standing for each in routing.conditions()] == ["maintenance", "ready"]
            routing.maintain(())
            assert routing.health() == {"a": 1, "b": 1}
            first.script = [reply(200, b'{"from":"a"}')]
            assert (await ask(gateway.port, post())).json() == {"from": "a"}


async def test_with_nobody_left_the_client_is_told_to_come_back() -> None:
    """503 with a sentence of its own; of a breaker that is open beside it, the usual one with its wait."""
    async with upstream_server() as up:
        models = [entry("m", ("a", "m"), ("b", "m")), entry("alone", ("a", "m"))]
        async with serving([upstream("a", up.url), upstream("b", up.url)], models) as gateway:
            routing = gateway.pipeline.routing
            routing.maintain({"a", "b"})
            answer = await ask(gateway.port, post())
            assert (answer.status, answer.code) == (503, "upstream_maintenance")
            assert answer.headers["retry-after"] == "30"
            assert "maintenance" in answer.json()["error"]["message"]
            assert up.connections == 0
            routing.maintain({"a"})
            health = routing.upstreams["b"].health
            for number in range(health.rules.failures):
                health.note(Verdict.BAD, routing.upstreams["b"].origin.now, f"r{number}", "http_500")
            answer = await ask(gateway.port, post())
            assert (answer.status, answer.code) == (503, "no_upstream")
            assert 1 <= int(answer.headers["retry-after"]) <= 6
            assert (await ask(gateway.port, post(b'{"model":"alone"}'))).code == "upstream_maintenance"
