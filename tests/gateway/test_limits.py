"""Limits on the way of a request: who is let in, who is refused and how; every end gives back what it took."""

import asyncio
import datetime
import json
import re
import time

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.buckets import Bucket
from luntrex_proxy.core.limits import Terms
from tests.fakes import KEY, Gateway, both_dialects, entry, serving
from tests.gateway.wire import (
    BODY,
    CLOSE,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    STREAM_BODY,
    Step,
    ask,
    chunk,
    connected,
    get,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import chat_delta, chat_events

KEY_ID, ACCOUNT = "k" * 12, 7
CLAUDE = b'{"model":"claude","max_tokens":5,"messages":[]}'
USAGE = reply(200, json.dumps({"usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}}).encode())


def limit(gateway: Gateway, terms: Terms, whose: int | str = KEY_ID) -> None:
    """The key (or account) is limited from now on."""
    gateway.limits.say(whose, terms, time.perf_counter_ns())


def bucket(gateway: Gateway, model: str = "m") -> Bucket:
    """The one bucket there is."""
    (found,) = gateway.limits.applying(ACCOUNT, KEY_ID, model, 0).buckets
    return found


async def test_requests_above_the_limit_are_refused() -> None:
    """429 with the limit's name, the headers SDKs read and how long to wait; nothing is sent, and it is on record."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.keys.callers[b"other"] = Caller(account_id=8, key_id="o" * 12)
        limit(gateway, {"": {"requests/minute": 2}})
        first, second = [await ask(gateway.port, post()) for _ in range(2)]
        assert (first.status, second.status) == (200, 200)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert [r.headers["x-ratelimit-remaining-requests"] for r in (first, second)] == ["1", "0"]
        assert first.headers["x-ratelimit-reset-requests"] == "30s"
        assert re.fullmatch(r"59\.\d{1,3}s|1m0s", second.headers["x-ratelimit-reset-requests"])
        refused = await ask(gateway.port, post())
        assert (refused.status, refused.headers["retry-after"]) == (429, "30")
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-should-retry" not in refused.headers
        error = refused.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert error["message"].endswith("The limit: 2 requests per minute of the key.")
        assert len(up.requests) == 2
        assert [each.code for each in gateway.outcomes] == ["ok", "ok", "requests_limited"]
        other = await ask(gateway.port, post(key="other"))
        assert (other.status, "x-ratelimit-limit-requests" in other.headers) == (200, False)


async def test_the_other_dialect_has_its_own_headers() -> None:
    """Times as RFC 3339 to the second, and Anthropic's form of the error; the account's limit is named as such."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"claude*": {"requests/minute": 1, "tokens/hour": 5_000}}, ACCOUNT)
        before = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
        answer = await ask(gateway.port, post(CLAUDE, path=MESSAGES))
        assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert int(answer.headers["anthropic-ratelimit-tokens-remaining"]) == 5_000 - 12 - 5
        reset = datetime.datetime.fromisoformat(answer.headers["anthropic-ratelimit-requests-reset"])
        assert datetime.timedelta(seconds=59) < reset - before < datetime.timedelta(seconds=65)
        refused = await ask(gateway.port, post(CLAUDE, path=MESSAGES))
        assert refused.status == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "1 requests per minute of the account for this model" in refused.json()["error"]["message"]
        assert (await ask(gateway.port, post())).status == 200


async def test_tokens_are_held_as_an_estimate_and_charged_as_they_were() -> None:
    """A quarter of the bytes and the longest answer are held while it runs; what the upstream reports stays."""
    go = asyncio.Event()
    async with upstream_server([go, USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"tokens/day": 1_000}})
        body = b'{"model":"m","max_tokens":300,"n":2,"messages":[]}'
        async with connected(gateway.port) as client:
            await client.send(post(body))
            await up.wait()
            assert bucket(gateway).held == -(-len(body) // 4) + 600
            refused = await ask(gateway.port, post(body))
            assert (refused.status, refused.json()["error"]["type"]) == (429, "tokens")
            assert "1000 tokens per day of the key" in refused.json()["error"]["message"]
            go.set()
            answer = await client.reply()
        assert (answer.headers["x-ratelimit-limit-tokens"], answer.status) == ("1000", 200)
        assert (bucket(gateway).held, bucket(gateway).remaining(0)) == (0, 1_000 - 42)
        assert gateway.outcomes[-1].tokens.output == 12


async def test_a_wait_too_long_for_sdks_says_so() -> None:
    """They would come back at once instead: x-should-retry tells them to stop."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"requests/hour": 1}})
        assert (await ask(gateway.port, post())).status == 200
        refused = await ask(gateway.port, post())
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("3600", "false")
        assert re.fullmatch(r"1h0m0s|59m59(\.\d+)?s", refused.headers["x-ratelimit-reset-requests"])


async def test_streams_are_limited_while_they_run() -> None:
    """A second one is refused, whole answers are not; when the first one's end is out, its place is free."""
    go = asyncio.Event()
    events = [chunk(event) for event in chat_events()]
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"streams": 1}})
        up.queue.append([sse_head(), events[0], go, *events[1:], LAST_CHUNK])
        async with connected(gateway.port) as client:
            await client.send(post(STREAM_BODY))
            await client.read_until(b"\r\n\r\n")
            refused = await ask(gateway.port, post(STREAM_BODY))
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"]["message"].endswith("The limit: 1 streams at once of the key.")
            assert (await ask(gateway.port, post())).status == 200
            go.set()
            await client.read_until(b"[DONE]")
            up.queue.append([sse_head(), *events, LAST_CHUNK])
            assert (await ask(gateway.port, post(STREAM_BODY))).status == 200


ENDS: dict[str, list[Step]] = {
    "an error": [reply(500, b"{}")],
    "no answer": [CLOSE],
    "cut inside the stream": [sse_head(), chunk(chat_delta("x")), CLOSE],
    "garbage": [b"garbage\r\n\r\n"],
    "a whole answer": [USAGE],
    "a stream": [sse_head(), *(chunk(event) for event in chat_events()), LAST_CHUNK],
}


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_gives_back_what_it_took(end: str) -> None:
    """However the upstream ends it, no stream and no estimate stays taken, and the request counts."""
    async with upstream_server(ENDS[end]) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"streams": 1, "tokens/day": 10**6, "requests/minute": 5}})
        await ask(gateway.port, post(STREAM_BODY))
        await gateway.idle()
        streams, tokens, requests = gateway.limits.applying(ACCOUNT, KEY_ID, "m", 0).buckets
        assert (streams.held, tokens.held, requests.remaining(0)) == (0, 0, 4)
        assert tokens.remaining(0) >= 10**6 - 600


@pytest.mark.parametrize("seen", [b"", b"\r\n\r\n"], ids=["before the answer", "inside the stream"])
async def test_who_leaves_gives_back_what_it_took(seen: bytes) -> None:
    """And pays for what may have run: what was sent, and what came."""
    script: list[Step] = [sse_head(), chunk(chat_delta("x")), HANG] if seen else [HANG]
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"streams": 1, "tokens/day": 10**6}})
        async with connected(gateway.port) as client:
            await client.send(post(STREAM_BODY))
            await up.wait()
            if seen:
                await client.read_until(seen)
        await gateway.idle()
        streams, tokens = gateway.limits.applying(ACCOUNT, KEY_ID, "m", 0).buckets
        used = 10**6 - tokens.remaining(0)
        assert (streams.held, tokens.held) == (0, 0)
        assert used == -(-len(STREAM_BODY) // 4) + bool(seen)


async def test_our_own_failures_give_back_what_was_taken() -> None:
    """A bug, a full ledger, no upstream: nothing stays taken."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"streams": 1, "tokens/day": 10**6}})
        gateway.ledger.full = True
        assert (await ask(gateway.port, post(STREAM_BODY))).code == "ledger_full"
        gateway.ledger.full = False
        gateway.prices.raises = ValueError("x")
        assert (await ask(gateway.port, post(STREAM_BODY))).status == 500
        assert (await ask(gateway.port, post(b'{"model":"nowhere","stream":true}'))).status == 503
        await gateway.idle()
        streams, tokens = gateway.limits.applying(ACCOUNT, KEY_ID, "m", 0).buckets
        assert (streams.held, tokens.held, tokens.remaining(0)) == (0, 0, 10**6)


async def test_the_very_next_request_follows_a_change() -> None:
    """On one connection, with the same bytes again and again: nothing that is remembered passes by a limit."""
    async with (
        upstream_server([USAGE]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):

        async def status() -> int:
            return (await (await client.send(post())).reply()).status

        assert [await status() for _ in range(5)] == [200] * 5
        limit(gateway, {"": {"requests/minute": 2}})
        assert [await status() for _ in range(4)] == [200, 200, 429, 429]
        limit(gateway, {"": {"requests/minute": 3}})
        assert [await status() for _ in range(2)] == [200, 429]
        limit(gateway, {"": {"requests/day": 1}}, ACCOUNT)
        limit(gateway, {})
        assert [await status() for _ in range(2)] == [200, 429]
        limit(gateway, {}, ACCOUNT)
        assert [await status() for _ in range(3)] == [200] * 3


async def test_nothing_else_is_taken_for_what_is_refused() -> None:
    """Requests that are wrong, of another model or not allowed count for no limit."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, {"": {"requests/day": 5}})
        for bad in (post(b"{"), post(b'{"model":"nope"}'), post(b'{"messages":[]}'), get("/v1/models")):
            assert (await ask(gateway.port, bad)).status in (200, 400, 404)
        assert bucket(gateway).remaining(0) == 5


async def test_an_upstreams_list_of_models_counts_as_a_request() -> None:
    """Where every name passes it is asked for; no endpoint goes around a limit."""
    wildcard = (entry("*", ("a", "*")),)
    async with upstream_server([reply(200, b'{"data":[]}')]) as up, serving(both_dialects(up.url), wildcard) as gateway:
        limit(gateway, {"": {"requests/day": 1, "tokens/day": 1}})
        assert (await ask(gateway.port, get("/v1/models"))).status == 200
        assert (await ask(gateway.port, get("/v1/models"))).status == 429
        assert (await ask(gateway.port, post())).status == 429


async def test_an_upstreams_own_limits_stay_its_own() -> None:
    """Its account is everybody's: the client sees ours."""
    theirs = (
        head(200, "Content-Type: application/json", "Content-Length: 2", "x-ratelimit-limit-requests: 9999") + b"{}"
    )
    async with upstream_server([theirs]) as up, serving(both_dialects(up.url)) as gateway:
        assert "x-ratelimit-limit-requests" not in (await ask(gateway.port, post())).headers
        limit(gateway, {"": {"requests/minute": 7}})
        assert (await ask(gateway.port, post(BODY, key=KEY))).headers["x-ratelimit-limit-requests"] == "7"


async def test_a_burst_that_is_not_heard_of_in_time_is_no_outage() -> None:
    """What is over a block is refused of an open limit too: nobody has said that the database is away."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        gateway.limits.say(KEY_ID, {"": {"requests/day": 40}}, time.perf_counter_ns(), is_open=True)
        assert (await ask(gateway.port, post())).status == 200
        gateway.teller.is_late = True
        assert (await ask(gateway.port, post())).status == 200
        for _ in range(2):
            answer = await ask(gateway.port, post())
            assert (answer.status, answer.code) == (503, "limit_unknown")
            assert "x-luntrex-allowance" not in answer.headers


@pytest.mark.parametrize("is_open", [False, True])
async def test_while_others_cannot_be_told(is_open: bool) -> None:
    """A block is let in, here two requests; then the limit says itself whether to go on, and so does the answer."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        gateway.limits.say(KEY_ID, {"": {"requests/day": 40}}, time.perf_counter_ns(), is_open=is_open)
        assert (await ask(gateway.port, post())).status == 200
        gateway.teller.away = True
        answers = [await ask(gateway.port, post()) for _ in range(4)]
        said = [answer.headers.get("x-luntrex-allowance") for answer in answers]
        if is_open:
            assert [answer.status for answer in answers] == [200] * 4
            assert said == [None, "open", "open", "open"]
        else:
            assert [answer.status for answer in answers] == [200, 503, 503, 503]
            assert (answers[1].code, said) == ("limit_unknown", [None, "closed", "closed", "closed"])
