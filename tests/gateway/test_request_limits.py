"""Requests at once, in all and by address; overload on the way of a request; a body's lowest rate."""

import asyncio
import contextlib
import time
from typing import Any

import pytest

from luntrex_proxy.gateway.http import client as client_module
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from tests.fakes import both_dialects, serving, until
from tests.gateway.doors import LOCAL, entered, port_of
from tests.gateway.wire import HANG, STREAM_BODY, ask, chunk, connected, post, reply, sse_head, upstream_server

FORWARDED = Clients(LOCAL, "x_forwarded_for")
SLOW = [sse_head(), chunk(b"data: {}\n\n"), HANG]


@contextlib.asynccontextmanager
async def behind(clients: Clients, **limits: Any) -> Any:
    """A gateway that believes `clients`, its port, and its upstream."""
    async with (
        upstream_server(SLOW) as up,
        serving(both_dialects(up.url), limits=limits) as gateway,
        entered(gateway, Entrance(clients, Addresses(None))) as opened,
    ):
        gateway.pipeline.clients = clients
        yield gateway, port_of(opened), up


def stream(*headers: str) -> bytes:
    return post(STREAM_BODY, *headers)


async def test_one_forwarded_client_has_its_share() -> None:
    """Two at once from one address, however it decorates the header; another one is served; places come free."""
    async with behind(FORWARDED, requests_per_address=2) as (gateway, port, up), contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        for client in running:
            await (await client.send(stream("X-Forwarded-For: 203.0.113.9"))).read_until(b"data: {}")
        for header in ("203.0.113.9", "198.51.100.1, 203.0.113.9", "203.0.113.9:99, 127.0.0.1"):
            answer = await ask(port, post(b'{"model":"m"}', f"X-Forwarded-For: {header}"))
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_requests", "1")
        up.script = [reply(200, b"{}")]
        for header in ("198.51.100.1", "2001:db8::1"):
            assert (await ask(port, post(b'{"model":"m"}', f"X-Forwarded-For: {header}"))).status == 200
        for client in running:
            client.close()
        await until(lambda: gateway.pipeline.inflight == 0)
        assert (await ask(port, post(b'{"model":"m"}', "X-Forwarded-For: 203.0.113.9"))).status == 200
        assert len(gateway.pipeline._addresses) == 0
        assert b"203.0.113" not in up.raw


@pytest.mark.parametrize("headers", [(), ("X-Forwarded-For: unknown",), ("X-Forwarded-For: 203.0.113.9, _hidden",)])
async def test_who_is_not_named_has_a_limit_too(headers: tuple[str, ...]) -> None:
    """A proxy's entry that is missing or unreadable is no way around the limit: all such requests share one."""
    async with behind(FORWARDED, requests_per_address=1) as (gateway, port, up), connected(port) as client:
        await (await client.send(stream(*headers))).read_until(b"data: {}")
        for more in (headers, (), ("X-Forwarded-For: \t,",)):
            assert (await ask(port, post(b'{"model":"m"}', *more))).code == "too_many_requests"
        up.script = [reply(200, b"{}")]
        assert (await ask(port, post(b'{"model":"m"}', "X-Forwarded-For: 203.0.113.9"))).status == 200
        client.close()
        await until(lambda: gateway.pipeline.inflight == 0)
        assert len(gateway.pipeline._addresses) == 0


async def test_an_untrusted_peer_cannot_name_its_address() -> None:
    """Its header is ignored, so it can neither escape a limit nor use up another's."""
    async with (
        behind(Clients(["192.0.2.1"], "x_forwarded_for"), requests_per_address=1) as (gateway, port, _),
        connected(port) as client,
    ):
        await (await client.send(stream("X-Forwarded-For: 203.0.113.9"))).read_until(b"data: {}")
        assert len(gateway.pipeline._addresses) == 0


async def test_requests_in_all_are_bounded() -> None:
    """The third gets 503 and when to come back; when one ends there is room."""
    async with behind(Clients(), requests=2) as (gateway, port, up), contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        for client in running:
            await (await client.send(stream())).read_until(b"data: {}")
        answer = await ask(port, post())
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", "1")
        running[0].close()
        await until(lambda: gateway.pipeline.inflight == 1)
        up.script = [reply(200, b"{}")]
        assert (await ask(port, post())).status == 200


async def test_overload_refuses_before_the_body_and_spares_what_runs() -> None:
    """Stage 1 closes after the answer; stage 2 answers 503 with the body unread; a stream runs on; then all is well."""
    async with behind(Clients()) as (gateway, port, up), connected(port) as running, connected(port) as kept:
        await (await running.send(stream())).read_until(b"data: {}")
        up.script = [reply(200, b"{}")]
        gateway.pipeline.overload.stage = 1
        answer = await (await kept.send(post())).reply()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        gateway.pipeline.overload.stage = 2
        before = len(up.requests)
        async with connected(port) as late:
            refused = await (await late.send(post(b"x" * 5_000_000)[:2000])).reply()
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "1")
        assert len(up.requests) == before
        assert gateway.pipeline.inflight == 1
        gateway.pipeline.overload.stage = 0
        again = await ask(port, post())
        assert (again.status, "connection" in again.headers) == (200, False)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_drips_is_ended(monkeypatch: pytest.MonkeyPatch, framing: str) -> None:
    """Never idle, yet far below the rate: 408 once the grace is over. One that keeps the rate is served."""
    monkeypatch.setattr(client_module, "_BODY_GRACE_S", 0.5)
    async with upstream_server() as up, serving(both_dialects(up.url), limits={"body_bytes_per_s": 100}) as gateway:
        for size, status in ((1, 408), (40, 200)):
            body = b'{"model":"m","x":"' + b"y" * (60 if size == 1 else 380) + b'"}'
            request = post(body)
            if framing == "chunked":
                request = request.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
            start = time.monotonic()
            async with connected(gateway.port) as client:
                await client.send(request[: -len(body)])
                answered = asyncio.ensure_future(client.reply())
                with contextlib.suppress(ConnectionError):
                    for place in range(0, len(body), size):
                        piece = body[place : place + size]
                        await client.send(chunk(piece) if framing == "chunked" else piece)
                        await asyncio.sleep(0.1)
                        if answered.done():
                            break
                    else:
                        if framing == "chunked":
                            await client.send(b"0\r\n\r\n")
                assert (await answered).status == status
            assert time.monotonic() - start < 5
