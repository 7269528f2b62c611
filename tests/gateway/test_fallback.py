"""The retry law over real sockets: the next target gets a request only while no model can have run."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry, Target
from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.core.retrying import Retries
from luntrex_proxy.gateway.http.dial import Dialer
from luntrex_proxy.settings.upstreams import Upstream
from tests.fakes import FIRST, Gateway, serving, upstream
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESET,
    STREAM_BODY,
    LoopUpstream,
    Reply,
    Step,
    ask,
    chunk,
    connected,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import chat_body, chat_events

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
BODY = chat_body()
BUSY = b'{"error":{"message":"busy","type":"rate_limit_error","param":null,"code":"busy"}}'


def refusal(status: int, body: bytes = BUSY, *headers: str) -> bytes:
    """A complete error answer."""
    return head(status, "Content-Type: application/json", f"Content-Length: {len(body)}", *headers) + body


def closed_port() -> int:
    """A loopback port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def in_order(*names: str, dialect: Dialect = OPENAI) -> Entry:
    """Model `m` with targets that are asked in this order."""
    weights = [FIRST ** (len(names) - place) for place in range(len(names))]
    return Entry("m", tuple(Target(name, dialect, f"m-{name}", w) for name, w in zip(names, weights, strict=True)))


@asynccontextmanager
async def chain(
    *scripts: Any, dialect: Dialect = OPENAI, retries: Retries | None = None, **more: Any
) -> AsyncIterator[tuple[Gateway, list[LoopUpstream]]]:
    """A gateway before upstreams a, b, c, ... with these scripts; None is one that nobody listens for."""
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream_server(script)) for script in scripts]
        configured: list[Upstream] = []
        for name, script, up in zip("abcdef", scripts, ups, strict=False):
            url = up.url if script is not None else f"http://127.0.0.1:{closed_port()}"
            configured.append(upstream(name, url, dialect, **more))
        names = [one.name for one in configured]
        gateway = await stack.enter_async_context(serving(configured, [in_order(*names, dialect=dialect)]))
        if retries is not None:
            gateway.pipeline.routing.retries = retries
        yield gateway, ups


def asked(ups: list[LoopUpstream]) -> list[int]:
    """How many requests each upstream got."""
    return [len(up.requests) for up in ups]


# The next target may have it.


@pytest.mark.parametrize("status", [401, 402, 403, 407, 429, 503, 529])
async def test_a_whole_refusal_goes_to_the_next_target(status: int) -> None:
    """The same request, with the next target's model and once each; one opening, and the record names who answered."""
    async with chain([refusal(status)], [reply(200, BODY)]) as (gateway, ups):
        answer = await ask(gateway.port, post(b'{"model":"m","messages":["CANARY"]}'))
        assert (answer.status, answer.body) == (200, BODY)
        outcome = await gateway.outcome()
        assert (outcome.upstream, outcome.attempts, outcome.code) == ("b", 2, "ok")
        assert outcome.usage_source == UsageSource.REPORTED
        assert len(gateway.ledger.opened) == 1
        assert asked(ups) == [1, 1]
        assert [json.loads(up.requests[0].body) for up in ups] == [
            {"model": "m-a", "messages": ["CANARY"]},
            {"model": "m-b", "messages": ["CANARY"]},
        ]
        assert len(ups[0].open) == 1, "the refusing upstream's connection is as good as any"


@pytest.mark.parametrize("script", [None, [refusal(429)]], ids=["unreachable", "refused"])
async def test_a_stream_falls_back_too(script: Any) -> None:
    """The client sees one clean stream."""
    events = chat_events()
    good: list[Step] = [sse_head(), *map(chunk, events), LAST_CHUNK]
    async with chain(script, good) as (gateway, _):
        answer = await ask(gateway.port, post(STREAM_BODY))
        assert answer.status == 200
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await gateway.outcome()).upstream == "b"


OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


async def test_a_stream_that_begins_with_a_refusal_falls_back() -> None:
    """Anthropic says `overloaded_error` inside a 200: no model ran, the next target may have it."""
    first: list[Step] = [sse_head(), chunk(OVERLOADED), LAST_CHUNK]
    async with chain(first, [reply(200, b"{}")], dialect=ANTHROPIC) as (gateway, ups):
        await ask(gateway.port, post(STREAM_BODY, path=MESSAGES))
        await gateway.outcome()
        assert asked(ups) == [1, 1]


async def test_a_stream_that_begins_with_a_refusal_has_its_real_status() -> None:
    """With nobody else to ask, the SDK gets the 529 it retries on, with the upstream's words and wish."""
    sse = head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Retry-After: 3")
    async with chain([sse, chunk(OVERLOADED), LAST_CHUNK], dialect=ANTHROPIC) as (gateway, _):
        answer = await ask(gateway.port, post(STREAM_BODY, path=MESSAGES))
        assert (answer.status, answer.headers["retry-after"]) == (529, "3")
        assert answer.json()["error"] == {"type": "overloaded_error", "message": "Overloaded"}
        outcome = await gateway.outcome()
        assert (outcome.status, outcome.code, outcome.ending) == (529, "upstream_error", Ending.COMPLETE)


@pytest.mark.parametrize("error", [b'{"code":429,"message":"m"}', b'{"type":"rate_limit_error","message":"m"}'])
async def test_a_body_that_is_a_refusal_falls_back(error: bytes) -> None:
    """OpenRouter says 429 inside a 200 of JSON as well, to streams and to others."""
    for request in (post(), post(STREAM_BODY)):
        good: list[Step] = [reply(200, BODY)] if request == post() else [sse_head(), *map(chunk, chat_events())]
        async with chain([reply(200, b'{"error":%b,"user_id":"u"}' % error)], [*good, LAST_CHUNK]) as (gateway, ups):
            assert (await ask(gateway.port, request)).status == 200
            outcome = await gateway.outcome()
            assert (outcome.upstream, outcome.attempts, outcome.code) == ("b", 2, "ok")
            assert asked(ups) == [1, 1]


async def test_a_body_that_is_an_error_has_its_real_status() -> None:
    """The SDK raises what it would have raised without the 200, with the upstream's words and wish."""
    body = b'{"error":{"code":400,"message":"too long"},"user_id":"u"}'
    async with chain([reply(200, body, "Retry-After: 3")], [reply(200, BODY)]) as (gateway, ups):
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (400, body, "3")
        outcome = await gateway.outcome()
        assert (outcome.status, outcome.code, outcome.ending) == (400, "upstream_error", Ending.COMPLETE)
        assert asked(ups) == [1, 0]


async def test_an_error_after_a_first_event_is_not_a_refusal() -> None:
    """A model ran: the client gets the error event, nobody else gets the request."""
    start = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
    script: list[Step] = [sse_head(), chunk(start + OVERLOADED), LAST_CHUNK]
    async with chain(script, [reply(200, b"{}")], dialect=ANTHROPIC) as (gateway, ups):
        answer = await ask(gateway.port, post(STREAM_BODY, path=MESSAGES))
        assert answer.status == 200
        assert answer.body.endswith(OVERLOADED)
        assert asked(ups) == [1, 0]


# Nobody may have it.


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422, 500, 502, 504])
async def test_other_errors_are_handed_through(status: int) -> None:
    """A mistake would be one everywhere, and after a 500 the work may be done."""
    async with chain([refusal(status)], [reply(200, BODY)]) as (gateway, ups):
        assert (await ask(gateway.port, post())).status == status
        assert asked(ups) == [1, 0]


CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le"
CASES: dict[str, tuple[list[Step], int, str]] = {
    "closed without a byte": ([CLOSE], 502, "upstream_closed"),
    "reset without a byte": ([RESET], 502, "upstream_closed"),
    "cut inside the head": ([CUT_HEAD, CLOSE], 502, "upstream_closed"),
    "cut inside the body": ([reply(200, BODY)[:-5], CLOSE], 502, "upstream_cut"),
    "cut inside a refusal": ([refusal(429)[:-5], CLOSE], 429, "upstream_error"),
    "silent": ([HANG], 504, "upstream_timeout"),
    "garbage": ([b"SSH-2.0-x\r\n", HANG], 502, "upstream_invalid"),
    "html": ([reply(200, b"<html>", content_type="text/html")], 502, "upstream_invalid"),
    "an error with 200": ([reply(200, b'{"error":{"message":"m","code":"of its own"}}')], 502, "upstream_error"),
    "an error with 200 of a server": ([reply(200, b'{"error":{"message":"m","code":502}}')], 502, "upstream_error"),
}


@pytest.mark.parametrize("case", CASES)
async def test_after_a_byte_was_sent_it_is_never_sent_again(case: str) -> None:
    """Whatever comes instead of a whole refusal: one attempt, and the client is told that a model may have run."""
    script, status, code = CASES[case]
    async with chain(script, [reply(200, BODY)], first_byte_s=0.3) as (gateway, ups):
        answer = await ask(gateway.port, post())
        assert answer.status == status
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.attempts) == (code, 1)
        assert asked(ups) == [1, 0]
        ours = status in (502, 504) and not answer.body.startswith(b'{"error":{"message":"m"')
        assert answer.headers.get("x-luntrex-upstream-sent") == ("true" if ours else None)


async def test_what_was_never_sent_says_so() -> None:
    """No header when nobody could be reached, or our key was refused: no model ran."""
    async with chain(None) as (gateway, _):
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert "x-luntrex-upstream-sent" not in answer.headers
    async with chain([refusal(401)]) as (gateway, _):
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code) == (502, "upstream_auth")
        assert "x-luntrex-upstream-sent" not in answer.headers


# Bounds.


async def test_the_last_refusal_is_the_clients() -> None:
    """Its status, words and wish; the record says how many were asked."""
    scripts = [[refusal(429)], [refusal(503)], [refusal(529, BUSY.replace(b"busy", b"mine"), "Retry-After: 9")]]
    async with chain(*scripts) as (gateway, ups):
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (529, "mine", "9")
        outcome = await gateway.outcome()
        assert (outcome.attempts, outcome.upstream) == (3, "c")
        assert asked(ups) == [1, 1, 1]


async def test_a_refusal_says_more_than_that_nobody_else_was_there() -> None:
    """Refused, then unreachable: the refusal is the answer, and the upstream that gave it is on record."""
    async with chain([refusal(429, BUSY, "Retry-After: 2")], None) as (gateway, _):
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "busy", "2")
        outcome = await gateway.outcome()
        assert (outcome.upstream, outcome.attempts) == ("a", 2)


async def test_tries_are_capped() -> None:
    """Three upstreams at most, whether they refuse or can't be reached."""
    for script in (None, [refusal(429)]):
        async with chain(*[script] * 3, [reply(200, BODY)]) as (gateway, ups):
            assert (await ask(gateway.port, post())).status in (502, 429)
            assert (await gateway.outcome()).attempts == 3
            assert len(ups[3].requests) == 0


async def test_an_sdks_retry_is_not_multiplied() -> None:
    """A client that retries gets the refusal at once; an upstream that can't be reached is still replaced."""
    async with chain([refusal(429)], [reply(200, BODY)]) as (gateway, ups):
        assert (await ask(gateway.port, post(b'{"model":"m"}', "x-stainless-retry-count: 1"))).status == 429
        assert (await ask(gateway.port, post(b'{"model":"m"}', "x-stainless-retry-count: 0"))).status == 200
        assert asked(ups) == [2, 1]
    async with chain(None, [reply(200, BODY)]) as (gateway, _):
        assert (await ask(gateway.port, post(b'{"model":"m"}', "x-stainless-retry-count: 2"))).status == 200


async def test_the_budget_bounds_retries_but_not_reconnecting() -> None:
    """Spent, refusals are handed through; a target that can't be reached costs nothing and is always replaced."""
    async with chain([refusal(429)], [reply(200, BODY)], retries=Retries(3, 1, 4)) as (gateway, ups):
        answers = [(await ask(gateway.port, post())).status for _ in range(12)]
        assert sorted(answers) == [200] * 4 + [429] * 8
        assert asked(ups) == [12, 4]
    async with chain(None, [reply(200, BODY)], retries=Retries(3, 1, 4)) as (gateway, _):
        assert [(await ask(gateway.port, post())).status for _ in range(12)] == [200] * 12


async def test_a_client_that_leaves_between_two_targets_stops_it_all() -> None:
    """The second upstream's work ends too."""
    async with chain([refusal(429)], [HANG]) as (gateway, ups):
        async with connected(gateway.port) as client:
            await client.send(post())
            await ups[1].wait()
        await ups[1].wait_closed()
        outcome = await gateway.outcome()
        assert (outcome.ending, outcome.upstream, outcome.attempts) == (Ending.CLIENT_GONE, "b", 2)


async def test_a_target_whose_client_left_while_connecting_is_innocent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first target said counts for the first alone: no failure, no wrong key and no pause for the second."""
    dialling = asyncio.Event()

    async def slow(dialer: Dialer, make: Any) -> Any:
        dialling.set()
        await asyncio.Event().wait()

    for script in ([refusal(401)], [refusal(429, BUSY, "Retry-After: 60")]):
        async with chain(script, [reply(200, BODY)]) as (gateway, _):
            second = gateway.pipeline.routing.upstreams["b"]
            connect = Dialer.connect
            with monkeypatch.context() as patch:
                patch.setattr(
                    Dialer,
                    "connect",
                    lambda self, make, b=second.origin._dialer, real=connect: (slow if self is b else real)(self, make),
                )
                dialling.clear()
                async with connected(gateway.port) as client:
                    await client.send(post())
                    await dialling.wait()
                await gateway.outcome()
                await gateway.idle()
            health = second.health
            assert (health.streak, health.credentials_refused, health.troubled) == (0, 0, False)
            assert gateway.outcomes[0].ending == Ending.CLIENT_GONE


async def test_the_first_target_of_a_get_falls_back() -> None:
    """The models list of a wildcard goes the same way."""
    listing = b'{"object":"list","data":[]}'
    everything = Entry("*", (Target("a", OPENAI, "*", FIRST), Target("b", OPENAI, "*", 1)))
    async with (
        upstream_server([refusal(503)]) as a,
        upstream_server([reply(200, listing)]) as b,
        serving([upstream("a", a.url), upstream("b", b.url)], [everything]) as gateway,
    ):
        answer = await ask(gateway.port, post(b"", path="/v1/models", method="GET"))
        assert (answer.status, answer.body) == (200, listing)
        assert asked([a, b]) == [1, 1]


# Many, at every byte.

WHOLE = reply(200, BODY)


def cut_at(count: int, how: str) -> Callable[..., list[Step]]:
    """The first `count` bytes of a good answer, then the end."""
    return lambda _request: [WHOLE[:count], how] if count else [how]


@pytest.mark.parametrize("how", [CLOSE, RESET])
async def test_cut_at_every_byte_it_is_asked_once(how: str) -> None:
    """However much of an answer came before the upstream died: one attempt, and never a second upstream."""
    async with chain(None, [HANG], [reply(200, BODY)]) as (gateway, ups):
        cuts = range(len(WHOLE))

        async def one(count: int) -> Reply:
            return await ask(gateway.port, post())

        for begin in range(0, len(cuts), 32):
            batch = cuts[begin : begin + 32]
            ups[1].queue.extend(cut_at(count, how) for count in batch)
            for answer in await asyncio.gather(*map(one, batch)):
                assert answer.status == 502
                assert answer.headers["x-luntrex-upstream-sent"] == "true"
        await gateway.outcome(len(cuts))
        assert {outcome.attempts for outcome in gateway.outcomes} == {2}, "the dead one, and the one that was sent to"
        assert asked(ups) == [0, len(cuts), 0]


async def test_unreachable_targets_never_cost_a_request() -> None:
    """Two of three dead, in any order that falls: every one of 500 requests is answered, and sent once."""
    async with upstream_server([reply(200, BODY)]) as up:
        dead = [upstream(name, f"http://127.0.0.1:{closed_port()}") for name in "ab"]
        targets = tuple(Target(name, OPENAI, "m", 1) for name in "abc")
        async with serving([*dead, upstream("c", up.url)], [Entry("m", targets)]) as gateway:
            for _ in range(10):
                answers = await asyncio.gather(*(ask(gateway.port, post()) for _ in range(50)))
                assert {answer.status for answer in answers} == {200}
            assert len(up.requests) == 500
            assert {outcome.attempts for outcome in gateway.outcomes} == {1, 2, 3}
