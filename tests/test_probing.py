"""Probes of upstreams: what is asked and what is not, what passes, and what it does to routing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from luntrex_proxy import probing
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.registry import Closed
from luntrex_proxy.probing import Probing
from tests.fakes import SECRET, Gateway, entry, serving, until, upstream
from tests.gateway.wire import BODY, HANG, Request, Step, ask, post, reply, upstream_server
from tests.upstreams.certificates import Authority

PROBE = {"every_s": 0.05, "timeout_s": 0.04, "fails": 2, "passes": 2}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_LOOK_EVERY_S", 0.01)


@contextlib.asynccontextmanager
async def followed(gateway: Gateway) -> AsyncIterator[None]:
    """Its upstreams are probed."""
    task = asyncio.ensure_future(Probing(lambda: gateway.pipeline.routing).follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_upstream_whose_probe_fails_comes_last() -> None:
    """It is asked after the others, still asked when it is alone, and first again once its probe passes."""
    status = 503

    def answer(request: Request) -> list[Step]:
        assert request.body == b"" or request.line.startswith("POST")
        return [reply(status if request.line.startswith("GET") else 200, b'{"from":"a"}')]

    other = reply(200, b'{"from":"b"}')
    models = [entry("m", ("a", "m"), ("b", "m")), entry("alone", ("a", "m"))]
    async with upstream_server(answer) as first, upstream_server([other]) as second:
        configured = [upstream("a", first.url, probe=PROBE), upstream("b", second.url)]
        async with serving(configured, models) as gateway, followed(gateway):
            with structlog.testing.capture_logs() as said:
                routing = gateway.pipeline.routing
                await until(lambda: routing.probes() == {"a": 0})
                assert (await ask(gateway.port, post())).json() == {"from": "b"}
                assert (await ask(gateway.port, post(b'{"model":"alone"}'))).json() == {"from": "a"}
                (condition, _) = routing.conditions()
                assert (condition.standing, condition.last_error) == ("probe_fails", "probe_http_503")
                status = 429
                await until(lambda: routing.probes() == {"a": 1})
                assert (await ask(gateway.port, post())).json() == {"from": "a"}
                routing.upstreams["a"].probe = None
                routing.upstreams["a"].health.failing = True
                routing.take_over()
                assert routing.health()["a"] == 1, "nobody would ever find it well"
    assert [each["event"] for each in said] == ["luntrex.probe_fails", "luntrex.probe_passes"]
    (probe, *_) = (request for request in first.requests if request.line.startswith("GET"))
    assert probe.line == "GET /v1/models HTTP/1.1"
    assert dict(probe.headers)["authorization"] == f"Bearer {SECRET}"
    assert not [request for request in second.requests if request.line.startswith("GET")]


@pytest.mark.parametrize(
    ("script", "more", "error"),
    [
        ([reply(200, b"{}")], {}, ""),
        ([reply(204, b"")], {"path": "/health"}, ""),
        ([reply(401, b"{}")], {}, "probe_http_401"),
        ([reply(301, b"")], {}, "probe_http_301"),
        ([HANG], {}, "probe_timeout"),
        ([b"no http\r\n\r\n"], {}, "probe_unreachable"),
    ],
)
async def test_what_passes(script: list[Step], more: dict[str, Any], error: str) -> None:
    """2xx and 429; our key refused counts as such as well. In Anthropic's dialect its version is said."""
    async with upstream_server(script) as up:
        one = upstream("a", up.url, Dialect.ANTHROPIC, probe=PROBE | more)
        async with serving([one], [entry("m", ("a", "m"), dialect=Dialect.ANTHROPIC)]) as gateway:
            health = gateway.pipeline.routing.upstreams["a"].health
            async with followed(gateway):
                await until(lambda: len(up.requests) >= 2 and health.last_error == error)
            assert up.requests[0].line == f"GET {more.get('path', '/v1/models')} HTTP/1.1"
            headers = dict(up.requests[0].headers)
            assert (headers["x-api-key"], headers["anthropic-version"]) == (SECRET, "2023-06-01")
            assert bool(health.credentials_refused) is (error == "probe_http_401")


async def test_a_probe_under_way_says_nothing_once_a_reload_has_ended_it() -> None:
    """It would put the upstream behind the others until somebody probed it again, which nobody does."""
    probe = PROBE | {"every_s": 9, "timeout_s": 0.3, "fails": 1}
    async with upstream_server([HANG]) as up:
        configured = [upstream("a", up.url, probe=probe)]
        async with serving(configured, [entry("m", ("a", "m"))]) as gateway:
            routing, probes = gateway.pipeline.routing, Probing(lambda: gateway.pipeline.routing)
            task = asyncio.ensure_future(probes.follow())
            await until(lambda: bool(up.requests))
            routing.upstreams["a"].probe = None
            routing.take_over()
            await until(lambda: all(each.done() for each in probes._running.values()))
            assert routing.health()["a"] == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_certificates_are_verified(tmp_path: Path) -> None:
    """As those of requests are: by the upstream's own ca_file, or by the system's."""
    authority = Authority(tmp_path)
    async with upstream_server(tls=authority.server_context("127.0.0.1")) as up:
        url = up.url.replace("http:", "https:")
        names = [upstream("a", url, probe=PROBE, ca_file=authority.ca_file), upstream("b", url, probe=PROBE)]
        async with serving(names, [entry("m", ("a", "m"))]) as gateway, followed(gateway):
            await until(lambda: gateway.pipeline.routing.probes() == {"a": 1, "b": 0} and len(up.requests) > 1)
            assert gateway.pipeline.routing.upstreams["b"].health.last_error == "probe_unreachable"


async def test_nothing_goes_where_nothing_may_go() -> None:
    """What the register of sub-processors closes gets no probe either; nobody without `probe` gets one."""
    async with upstream_server() as up:
        names = [upstream("a", up.url, probe=PROBE), upstream("b", up.url), upstream("c", up.url, probe=PROBE)]
        async with serving(names, [entry("m", ("b", "m"))]) as gateway, followed(gateway):
            gateway.pipeline.routing.closed = Closed(frozenset({"a"}))
            await until(lambda: len(up.requests) >= 4)
            assert "a" not in {name for name, health in gateway.pipeline.routing.probes().items() if not health}
            assert (await ask(gateway.port, post(BODY))).status == 200
        assert sum(request.line.startswith("POST") for request in up.requests) == 1
