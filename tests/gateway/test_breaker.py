"""Upstreams that fail are avoided, tried again by one request, and chosen by weight, load or speed."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Choice, Entry, Target
from luntrex_proxy.core.health import Speed
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.gateway.upstreams import UnusableUpstreamError, build_routing, build_upstream
from luntrex_proxy.settings.model import Gateway as SettingsOfGateway
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.policy import Policy as PolicySettings
from tests.fakes import PSEUDONYM_KEY, Gateway, entry, serving, until, upstream
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESPONSES,
    STREAM_BODY,
    LoopUpstream,
    Request,
    Step,
    ask,
    chunk,
    connected,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta

GOOD: list[Step] = [reply(200, chat_body())]
QUICK = {"failures": 3, "open_s": 0.3, "error_requests": 1000}
ONE = [entry("m", ("a", "m"))]
TWO = [entry("m", ("a", "m"), ("b", "m"))]


def health(gateway: Gateway) -> dict[str, float]:
    """As the metric shows it."""
    return gateway.pipeline.routing.health()


async def asked(gateway: Gateway, times: int) -> list[int]:
    """The statuses of so many requests, one after the other."""
    return [(await ask(gateway.port, post())).status for _ in range(times)]


CUT_STREAM: list[Step] = [sse_head(), chunk(chat_delta("a")), CLOSE]
FAILURES: dict[str, tuple[list[Step], bytes]] = {
    "5xx": ([reply(500, b"{}")], post()),
    "closed": ([CLOSE], post()),
    "cut body": ([reply(200, chat_body())[:-3], CLOSE], post()),
    "cut stream": (CUT_STREAM, post(STREAM_BODY)),
    "no terminator": ([sse_head(), chunk(chat_delta("a")), LAST_CHUNK], post(STREAM_BODY)),
    "html": ([reply(200, b"<html>", content_type="text/html")], post()),
    "server error with 200": ([reply(200, b'{"error":{"message":"m","type":"server_error"}}')], post()),
    "5xx with 200": ([reply(200, b'{"error":{"message":"m","code":502}}')], post()),
    "silence": ([HANG], post()),
    "our key": ([reply(401, b"{}")], post()),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_failures_open_the_breaker(case: str) -> None:
    """After three of them nothing is sent any more: a 503 at once that says when to come back."""
    script, request = FAILURES[case]
    more: dict[str, Any] = {"first_byte_s": 0.1} if case == "silence" else {}
    async with (
        upstream_server(script) as up,
        serving([upstream("a", up.url, health=QUICK | {"open_s": 5}, **more)], ONE) as gateway,
    ):
        assert health(gateway) == {"a": 1.0}
        for _ in range(3):
            await ask(gateway.port, request)
        await gateway.outcome(3)
        answer = await ask(gateway.port, request)
        assert (answer.status, answer.code) == (503, "no_upstream")
        assert int(answer.headers["retry-after"]) in (5, 6), "the clock of the choice is a coarse one"
        assert len(up.requests) == 3
        assert health(gateway) == {"a": 0.0}


@pytest.mark.parametrize("status", [400, 402, 403, 404, 409, 413, 422, 429])
async def test_a_clients_mistakes_do_not(status: int) -> None:
    """Thirty refusals later the upstream is asked as before."""
    async with (
        upstream_server([reply(status, b"{}")]) as up,
        serving([upstream("a", up.url, health=QUICK)], ONE) as gateway,
    ):
        await asked(gateway, 30)
        assert len(up.requests) == 30
        assert health(gateway) == {"a": 1.0}


def failed_response(code: str) -> list[Step]:
    """A stream of the responses grammar that ends so after its first event."""
    created = b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n'
    end = (
        b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"code":"%b","message":"m"}}}\n\n'
    )
    return [sse_head(), chunk(created), 0.01, chunk(end % code.encode()), LAST_CHUNK]


RESPONSE_POST = post(b'{"model":"m","stream":true,"input":"x"}', path=RESPONSES)
MISTAKES: dict[str, tuple[list[Step], bytes]] = {
    code: (failed_response(code), RESPONSE_POST)
    for code in ("invalid_prompt", "invalid_image", "image_content_policy_violation", "content_filter", "to_come")
} | {
    "400 with 200": ([reply(200, b'{"error":{"code":400,"message":"m"}}')], post()),
    "a word with 200": ([reply(200, b'{"error":{"code":"context_too_long","message":"m"}}')], post()),
    "no word with 200": ([reply(200, b'{"error":{"message":"m"}}')], post()),
    "a long one with 200": ([reply(200, b'{"error":{"message":"%b"}}' % (b"m" * 100_000))], post()),
    "as first event": ([sse_head(), chunk(b'data: {"error":{"message":"m"}}\n\n'), LAST_CHUNK], post(STREAM_BODY)),
}


@pytest.mark.parametrize("case", MISTAKES)
async def test_nor_do_they_inside_a_200(case: str) -> None:
    """An error that the upstream states itself is no failure of its own unless it says so."""
    script, request = MISTAKES[case]
    async with upstream_server(script) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        for _ in range(5):
            with contextlib.suppress(AssertionError):  # the connection breaks off under the long one
                await ask(gateway.port, request)
        await gateway.outcome(5)
        assert {outcome.code for outcome in gateway.outcomes} == {"upstream_error"}
        assert health(gateway) == {"a": 1.0}


async def test_a_servers_own_words_inside_a_stream_open_the_breaker() -> None:
    """response.failed with server_error is the upstream's failure."""
    script = failed_response("server_error")
    async with upstream_server(script) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        for _ in range(3):
            await ask(gateway.port, RESPONSE_POST)
        await gateway.outcome(3)
        assert health(gateway) == {"a": 0.0}


@pytest.mark.parametrize(("status", "counted"), [(401, 2), (407, 2), (402, 0), (403, 0), (400, 0), (500, 0)])
async def test_wrong_credentials_of_ours_are_counted_for_an_alert(status: int, counted: int) -> None:
    """The operator can see that an upstream refuses our key; other failures are not counted so."""
    async with (
        upstream_server([reply(status, b"{}")]) as up,
        serving([upstream("a", up.url, health=QUICK)], ONE) as gateway,
    ):
        await asked(gateway, 2)
        assert gateway.pipeline.routing.credentials_refused() == {"a": counted}


async def test_clients_that_leave_do_not() -> None:
    """Nothing is known of an answer that nobody waited for."""
    async with upstream_server([HANG]) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        for number in range(1, 7):
            async with connected(gateway.port) as client:
                await client.send(post())
                await up.wait(number)
            await gateway.idle()
        assert health(gateway) == {"a": 1.0}


async def test_half_open_lets_exactly_one_request_try() -> None:
    """Fifty at once: one reaches the upstream, the others are refused until its answer is there; then all may."""
    gate = asyncio.Event()
    async with upstream_server([CLOSE]) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        await asked(gateway, 3)
        up.script = [gate, *GOOD]
        await until(lambda: gateway.pipeline.routing.upstreams["a"].health.wait_s(gateway.ticker.now) == 0)
        many = [asyncio.ensure_future(ask(gateway.port, post())) for _ in range(50)]
        await up.wait(4)
        await gateway.outcome(3 + 49)
        assert len(up.requests) == 4
        assert health(gateway) == {"a": 0.5}
        gate.set()
        assert Counter([(await one).status for one in many]) == {200: 1, 503: 49}
        await gateway.idle()
        assert health(gateway) == {"a": 1.0}
        assert await asked(gateway, 5) == [200] * 5


@pytest.mark.parametrize("end", ["well", "cut"])
async def test_a_stream_that_probes_lets_the_others_in_once_it_has_begun(end: str) -> None:
    """Its end may be an hour away. When it is cut after all, that is a failure like any other."""
    gate = asyncio.Event()
    async with upstream_server([CLOSE]) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        await asked(gateway, 3)
        await until(lambda: gateway.pipeline.routing.upstreams["a"].health.wait_s(gateway.ticker.now) == 0)
        last = [chunk(chat_delta("", "stop")), chunk(DONE), LAST_CHUNK] if end == "well" else [CLOSE]
        up.script = [sse_head(), chunk(chat_delta("a")), gate, *last]
        async with connected(gateway.port) as client:
            await (await client.send(post(STREAM_BODY))).read_until(b"data:")
            up.script = GOOD
            assert await asked(gateway, 5) == [200] * 5
            assert health(gateway) == {"a": 1.0}
            gate.set()
            await client.read_until(b"[DONE]" if end == "well" else b"upstream_cut")
        await gateway.idle()
        known = gateway.pipeline.routing.upstreams["a"].health
        assert (known.value(gateway.ticker.now), known.streak) == (1.0, int(end == "cut"))


async def test_a_probe_that_its_client_gives_up_is_followed_by_another() -> None:
    """The breaker never waits for a request that is gone."""
    async with upstream_server([CLOSE]) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        await asked(gateway, 3)
        up.script = [HANG]
        await until(lambda: gateway.pipeline.routing.upstreams["a"].health.wait_s(gateway.ticker.now) == 0)
        async with connected(gateway.port) as client:
            await client.send(post())
            await up.wait(4)
        await gateway.idle()
        up.script = GOOD
        assert await asked(gateway, 3) == [200] * 3


async def test_an_open_breaker_costs_the_next_target_nothing() -> None:
    """With another target no client sees anything, and the broken one is left alone."""
    async with (
        upstream_server(GOOD) as good,
        serving([upstream("a", "http://127.0.0.1:9", health=QUICK), upstream("b", good.url)], TWO) as gateway,
    ):
        assert await asked(gateway, 10) == [200] * 10
        assert [outcome.attempts for outcome in gateway.outcomes][:4] == [2, 2, 2, 1]


async def test_retry_after_puts_others_first() -> None:
    """An upstream that asked for peace is passed over while another is there, and asked again later."""
    busy = reply(429, b"{}", "Retry-After: 1")
    async with (
        upstream_server([busy]) as a,
        upstream_server(GOOD) as b,
        serving([upstream("a", a.url), upstream("b", b.url)], TWO) as gateway,
    ):
        assert await asked(gateway, 8) == [200] * 8
        assert len(a.requests) == 1
        assert health(gateway) == {"a": 0.5, "b": 1.0}
        a.script = GOOD
        await until(lambda: health(gateway) == {"a": 1.0, "b": 1.0})
        assert await asked(gateway, 1) == [200]
        assert len(a.requests) == 2


async def test_the_only_target_is_asked_all_the_same() -> None:
    """Retry-After goes to the client, who knows how long it can wait; another one's request is not refused for it."""
    async with (
        upstream_server([reply(429, b"{}", "Retry-After: 30")]) as up,
        serving([upstream("a", up.url)], ONE) as gateway,
    ):
        for _ in range(3):
            assert (await ask(gateway.port, post())).headers["retry-after"] == "30"
        assert len(up.requests) == 3


async def test_who_wants_peace_is_asked_last_and_not_never() -> None:
    """Retry-After is a guess about others' requests: after a refusal elsewhere it is still worth a try."""
    async with (
        upstream_server([reply(429, b"{}", "Retry-After: 30")]) as a,
        upstream_server(GOOD) as b,
        serving([upstream("a", a.url), upstream("b", b.url)], TWO) as gateway,
    ):
        assert await asked(gateway, 1) == [200]
        a.script, b.script = GOOD, [reply(429, b"{}")]
        assert await asked(gateway, 3) == [200] * 3
        assert (len(a.requests), len(b.requests)) == (4, 4)


@pytest.mark.parametrize("wildcard", [False, True], ids=["exact", "wildcard"])
async def test_one_models_limit_is_not_the_others(wildcard: bool) -> None:
    """Retry-After for x puts the upstream last for x; m is asked there as before."""
    names = ["*"] if wildcard else ["x", "m"]
    models = [entry(name, ("a", name), ("b", name)) for name in names]

    def limited(request: Request) -> list[Step]:
        return [reply(429, b"{}", "Retry-After: 30")] if b'"x"' in request.body else GOOD

    async with (
        upstream_server(limited) as a,
        upstream_server(GOOD) as b,
        serving([upstream("a", a.url), upstream("b", b.url)], models) as gateway,
    ):
        for model in (b"x", b"x", b"m", b"x"):
            assert (await ask(gateway.port, post(b'{"model":"%b"}' % model))).status == 200
        assert [outcome.upstream for outcome in gateway.outcomes] == ["b", "b", "a", "b"]
        assert len(a.requests) == 2


async def test_outliers_come_last_but_never_most_of_them() -> None:
    """One of three that errs is passed over; when two of three do, errors are the rule and nobody is."""
    rules = {"failures": 1000, "error_requests": 4}
    names = "abc"
    weights = (10**12, 10**6, 1)
    model = Entry("m", tuple(Target(n, Dialect.OPENAI, "m", w) for n, w in zip(names, weights, strict=True)))
    async with upstream_server([reply(500, b"{}")]) as bad, upstream_server(GOOD) as good:
        ups = [upstream("a", bad.url, health=rules), upstream("b", good.url, health=rules), upstream("c", good.url)]
        async with serving(ups, [model]) as gateway:
            assert await asked(gateway, 4) == [500] * 4
            assert await asked(gateway, 10) == [200] * 10
            assert health(gateway) == {"a": 0.5, "b": 1.0, "c": 1.0}
            good.script = [reply(500, b"{}")]
            await asked(gateway, 10)
            assert health(gateway)["b"] == 0.5
            before = len(bad.requests)
            await asked(gateway, 5)
            assert len(bad.requests) == before + 5


# Choice.


def chosen(choice: Choice, *weights: int) -> list[Entry]:
    """Model `m` with equal targets a, b, ... unless weights say otherwise."""
    targets = (Target(name, Dialect.OPENAI, "m", weight) for name, weight in zip("abc", weights, strict=False))
    return [Entry("m", tuple(targets), None, choice)]


def by_upstream(gateway: Gateway) -> Counter[str]:
    """How many finished requests each had."""
    return Counter(outcome.upstream for outcome in gateway.outcomes)


async def shares(choice: Choice, slow: LoopUpstream, quick: LoopUpstream, *weights: int, times: int) -> Counter[str]:
    """Who served so many requests, ten at a time, where `a` is slow."""
    async with serving([upstream("a", slow.url), upstream("b", quick.url)], chosen(choice, *weights)) as gateway:
        todo = iter(range(times))

        async def client() -> None:
            for _ in todo:
                assert (await ask(gateway.port, post())).status == 200

        await asyncio.gather(*(client() for _ in range(10)))
        return by_upstream(gateway)


@pytest.mark.parametrize("choice", list(Choice))
async def test_load_and_speed_move_requests(choice: Choice) -> None:
    """A slow upstream keeps its share by weight alone, and loses it when load or speed decide."""
    async with upstream_server([0.05, *GOOD]) as slow, upstream_server(GOOD) as quick:
        served = await shares(choice, slow, quick, 1, 1, times=200)
        if choice is Choice.WEIGHTED:
            assert 60 < served["a"] < 140
        else:
            assert 0 < served["a"] < 60


def speed(gateway: Gateway, name: str) -> Speed:
    """What is known of it, for model `m`."""
    return gateway.pipeline.routing.upstreams[name].speeds.setdefault("m", Speed())


async def impatient(gateway: Gateway, wait_s: float) -> bool:
    """One request whose client waits no longer than that; whether it had its answer."""
    async with connected(gateway.port) as client:
        await client.send(post())
        try:
            return (await asyncio.wait_for(client.reply(), wait_s)).status == 200
        except TimeoutError:
            return False


@pytest.mark.parametrize("how", ["answers nothing", "is full"])
async def test_a_fast_upstream_that_hangs_is_left(how: str) -> None:
    """Clients that give up are a measurement too: it takes at least as long as they waited."""
    async with upstream_server(GOOD) as quick, upstream_server([0.02, *GOOD]) as slow:
        ups = [upstream("a", quick.url), upstream("b", slow.url)]
        async with serving(ups, chosen(Choice.LATENCY, 1, 1)) as gateway:
            await asked(gateway, 6)
            with contextlib.ExitStack() as stack:
                if how == "answers nothing":
                    quick.script = [HANG]
                else:
                    origin = gateway.pipeline.routing.upstreams["a"].origin
                    while (connection := origin.take()) is not None:
                        connection.abandon()
                    stack.enter_context(unreachable(origin))
                served = [await impatient(gateway, 0.5) for _ in range(12)]
            assert served.count(False) <= 2
            assert {outcome.code for outcome in gateway.outcomes} == {"ok", "client_gone"}


@contextlib.contextmanager
def unreachable(origin: Origin) -> Iterator[None]:
    """Its connections are never made."""
    host, origin._dialer = origin._dialer, Hung()  # type: ignore[assignment]  # as much of a dialer as is used
    try:
        yield
    finally:
        origin._dialer = host


class Hung:
    """A dialer of an address that swallows everything."""

    async def connect(self, make: Any) -> Any:
        """Never."""
        await asyncio.Event().wait()


async def test_who_fails_fast_is_not_fast() -> None:
    """A refusal says nothing about an answer's speed: what was expected stays, of a stranger the mean of the others."""
    async with upstream_server([reply(400, b"{}")]) as bad, upstream_server([0.03, *GOOD]) as good:
        ups = [upstream("a", bad.url), upstream("b", good.url)]
        async with serving(ups, chosen(Choice.LATENCY, 10**6, 1)) as gateway:
            speed(gateway, "b").note(0.03, asyncio.get_running_loop().time())
            await asked(gateway, 20)
            assert by_upstream(gateway)["a"] == 20
            assert 0.02 < speed(gateway, "a").expect_s(gateway.ticker.now) < 0.04


async def test_an_unmeasured_one_does_not_get_everything() -> None:
    """Forty at once, one known to take 50 ms and one nobody knows: it gets about its half."""
    async with upstream_server([0.05, *GOOD]) as known, upstream_server([0.5, *GOOD]) as unknown:
        ups = [upstream("a", known.url), upstream("b", unknown.url)]
        async with serving(ups, chosen(Choice.LATENCY, 1, 1)) as gateway:
            speed(gateway, "a").note(0.05, asyncio.get_running_loop().time())
            await asyncio.gather(*(ask(gateway.port, post()) for _ in range(40)))
            assert 15 <= len(unknown.requests) <= 25


async def test_a_head_without_an_event_is_no_measurement() -> None:
    """A head that comes at once says nothing of when the first token does."""
    end = [chunk(chat_delta("a", "stop")), chunk(DONE), LAST_CHUNK]
    async with upstream_server([sse_head(), 1.6, *end]) as slow, upstream_server([1.2, sse_head(), *end]) as quick:
        ups = [upstream("a", slow.url), upstream("b", quick.url)]
        async with serving(ups, chosen(Choice.LATENCY, 1, 1)) as gateway:
            for _ in range(2):  # the second goes to the one that the first did not measure, or to the faster one
                await asyncio.gather(*(ask(gateway.port, post(STREAM_BODY)) for _ in range(4)))
            now = asyncio.get_running_loop().time()
            await until(lambda: speed(gateway, "a").expect_s(now) > speed(gateway, "b").expect_s(now))
            assert 1.5 < speed(gateway, "a").expect_s(now) < 2.1


async def test_the_busy_one_waits() -> None:
    """With requests that never end, least_busy spreads exactly by weight."""
    async with upstream_server([HANG]) as a, upstream_server([HANG]) as b:
        ups = [upstream("a", a.url), upstream("b", b.url)]
        async with serving(ups, chosen(Choice.LEAST_BUSY, 3, 1)) as gateway:
            running = [asyncio.ensure_future(ask(gateway.port, post())) for _ in range(40)]
            await until(lambda: len(a.requests) + len(b.requests) == 40)
            assert (len(a.requests), len(b.requests)) in {(30, 10), (29, 11), (31, 9)}
            origins = [one.origin for one in gateway.pipeline.routing.upstreams.values()]
            assert sum(origin.busy for origin in origins) == 40
            gateway.pipeline.cut_all()
            await asyncio.gather(*running)
            await until(lambda: not any(origin.busy for origin in origins), "requests that are over still count")


async def test_busy_counts_survive_idle_connections_that_die() -> None:
    """Pooled connections are not busy, and dead ones are not pooled."""
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url)], ONE) as gateway:
        origin = gateway.pipeline.routing.upstreams["a"].origin
        await asyncio.gather(*(ask(gateway.port, post()) for _ in range(8)))
        assert origin.busy == 0
        for transport in list(up.open):
            transport.abort()
        await until(lambda: origin.open == 0)
        assert origin.busy == 0
        assert await asked(gateway, 1) == [200]


# Reload.


async def test_a_reload_keeps_health_and_pool_of_what_stays() -> None:
    """Same settings: same connections, same breaker. Another key: the breaker stays. Another place: all anew."""
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        loop = asyncio.get_running_loop()

        def reload(url: str, **more: Any) -> None:
            old = gateway.pipeline.routing
            built = build_upstream(
                upstream("a", url, **more), gateway.ticker, loop, PSEUDONYM_KEY, old=old.upstreams["a"]
            )
            gateway.pipeline.routing = Routing(old.catalogue, old.prices, {"a": built})
            old.close(gateway.pipeline.routing)

        await asked(gateway, 2)
        reload(up.url, health=QUICK, api_key="other")
        await asked(gateway, 2)
        assert up.connections == 1
        assert up.requests[-1].head.count(b"Bearer other") == 1
        up.script = [CLOSE]
        await asked(gateway, 3)
        assert health(gateway) == {"a": 0.0}
        reload(up.url, health=QUICK, connect_s=3)
        assert health(gateway) == {"a": 0.0}
        async with upstream_server(GOOD) as moved:
            reload(moved.url, health=QUICK)
            assert await asked(gateway, 1) == [200]


async def test_a_refused_reload_leaves_the_breaker_alone(tmp_path: Path) -> None:
    """Its rules change when the new configuration is put in force, not while it is built; speeds are kept."""
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url, health=QUICK)], ONE) as gateway:
        old = gateway.pipeline.routing
        known = old.upstreams["a"].health
        speed(gateway, "a").note(0.5, 10)

        def build(*more: Any) -> Routing:
            settings = Settings.model_construct(
                upstreams=(upstream("a", up.url, health=QUICK | {"failures": 1}), *more),
                models=(),
                gateway=SettingsOfGateway(),
                policy=PolicySettings(),
            )
            return build_routing(settings, gateway.ticker, asyncio.get_running_loop(), PSEUDONYM_KEY, old)

        (tmp_path / "junk.pem").write_text("junk")
        with pytest.raises(UnusableUpstreamError):
            build(upstream("b", "https://up.test", ca_file=tmp_path / "junk.pem"))
        built = build()
        assert known.rules.failures == 3
        assert built.upstreams["a"].health is known
        assert built.upstreams["a"].speeds["m"].expect_s(10) == 0.5
        built.take_over()
        assert known.rules.failures == 1


async def test_a_replaced_pool_is_closed() -> None:
    """Connections to an upstream that is gone from the configuration are closed, busy ones after their answer."""
    gate = asyncio.Event()
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url)], ONE) as gateway:
        await asyncio.gather(*(ask(gateway.port, post()) for _ in range(3)))
        up.script = [gate, *GOOD]
        running = asyncio.ensure_future(ask(gateway.port, post()))
        await up.wait(4)
        old = gateway.pipeline.routing
        gateway.pipeline.routing = Routing(old.catalogue, old.prices, {})
        old.close(gateway.pipeline.routing)
        await until(lambda: len(up.open) == 1)
        gate.set()
        assert (await running).status == 200
        await until(lambda: not up.open)


@pytest.mark.parametrize("said", [b"", b"X", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_an_upstream_that_closes_what_it_accepts_is_unreachable(said: bytes) -> None:
    """A load balancer without a backend: nothing was sent, so the next target is asked; it is no bug."""

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with serving([upstream("a", f"http://127.0.0.1:{port}/v1", health={"failures": 10_000})], ONE) as gateway:
            statuses = await asked(gateway, 40)
    finally:
        server.close()
    assert 500 not in statuses
