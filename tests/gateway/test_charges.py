"""What a request costs whose usage never came: on record, and charged to its budget, is the same."""

import asyncio
import socket
from dataclasses import replace

import pytest

from luntrex_proxy.core.catalogue import Catalogue
from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.core.pricing import fill_rates
from luntrex_proxy.gateway.route import Routing
from tests.fakes import Gateway, both_dialects, entry, serving
from tests.gateway.test_budgets import lease, say
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESET,
    RESPONSES,
    STREAM_BODY,
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
from tests.upstreams.bodies import INPUT_TOKENS, chat_delta, chat_events, event, message_events, response_events

LONG_TEXT = "x" * 38 + "\n"  # ten tokens in one event, as some providers send them
JSON = "Content-Type: application/json"
CHAT = b'{"model":"m","stream":true,"max_tokens":300,"messages":[]}'
STREAMS: dict[str, tuple[bytes, str, list[bytes], int]] = {  # body, path, events, input tokens that were said
    "chat": (CHAT, "/v1/chat/completions", [chat_delta(LONG_TEXT)] * 4, 0),
    "responses": (
        b'{"model":"m","stream":true,"max_output_tokens":300,"input":"x"}',
        RESPONSES,
        [
            response_events()[0],
            *[event("response.output_text.delta", item_id="m", delta=LONG_TEXT, logprobs=[], obfuscation="aBc")] * 4,
        ],
        0,
    ),
    "messages": (
        b'{"model":"claude","stream":true,"max_tokens":300,"messages":[]}',
        MESSAGES,
        [
            *message_events()[:3],
            *[event("content_block_delta", index=0, delta={"type": "text_delta", "text": LONG_TEXT})] * 4,
        ],
        INPUT_TOKENS,
    ),
}  # fmt: skip


def size(body: bytes) -> int:
    """The input tokens of a request of which nobody says them."""
    return -(-len(body) // 4)


def charged(gateway: Gateway) -> Outcome:
    """The one record; its budget was charged that and nothing else."""
    (outcome,) = gateway.outcomes
    assert (lease(gateway).used, lease(gateway).held) == (outcome.cost_pico, 0)
    assert outcome.cost_pico == outcome.input_tokens * 3 + outcome.output_tokens * 5  # what tests/fakes.py asks
    return outcome


@pytest.mark.parametrize("dialect", STREAMS)
async def test_who_leaves_a_stream_pays_for_what_came(dialect: str) -> None:
    """Its input as it was said, or by its size; of its output all that came, where an event has many tokens too."""
    body, path, events, input_tokens = STREAMS[dialect]
    async with (
        upstream_server([sse_head(), *map(chunk, events), HANG]) as up,
        serving(both_dialects(up.url)) as gateway,
    ):
        say(gateway, 10**9)
        async with connected(gateway.port) as client:
            await client.send(post(body, path=path))
            for _ in range(4):
                await client.read_until(b"xxx\\n")
        await gateway.idle()
        outcome = charged(gateway)
        assert outcome.usage_source == "estimated"
        assert (outcome.input_tokens, outcome.output_tokens) == (input_tokens or size(body), 40)


@pytest.mark.parametrize(
    ("silent_s", "streamed", "output"),
    [(0.9, True, 1), (1.5, True, 201), (60, True, 300), (0.9, False, 0), (1.5, False, 200), (60, False, 300)],
)
async def test_who_leaves_pays_for_what_may_have_been_made_unseen(silent_s: float, streamed: bool, output: int) -> None:
    """A model that thinks, or answers in one piece, works unseen: for the time it had, up to the longest answer."""
    body = CHAT if streamed else CHAT.replace(b"true", b"false")
    script: list[Step] = [sse_head(), chunk(chat_delta("x")), HANG] if streamed else [HANG]
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        async with connected(gateway.port) as client:
            await client.send(post(body))
            await up.wait()
            if streamed:
                await client.read_until(b'"x"')
            gateway.ticker.stop()
            gateway.ticker.now += silent_s
        await gateway.idle()
        outcome = charged(gateway)
        assert outcome.usage_source == ("estimated" if streamed else "unknown")
        assert (outcome.input_tokens, outcome.output_tokens) == (size(body), output)


ERROR = b'{"error":{"message":"m","type":"server_error"}}'
FREE: dict[str, tuple[list[Step], str]] = {
    "closed": ([CLOSE], "unknown"),
    "reset": ([RESET], "unknown"),
    "garbage": ([b"garbage\r\n\r\n"], "unknown"),
    "half a head": ([b"HTTP/1.1 200 O", CLOSE], "unknown"),
    "a page": ([reply(200, b"<html>" * 1000, content_type="text/html")], "unknown"),
    "refused": ([reply(429, ERROR)], "none"),
    "broken": ([reply(500, ERROR)], "none"),
    "an error with status 200": ([reply(200, ERROR)], "none"),
    "an error for a first event": ([sse_head(), chunk(b"data: %b\n\n" % ERROR), LAST_CHUNK], "none"),
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("end", FREE)
async def test_an_upstream_that_does_nothing_costs_nothing(end: str, streamed: bool) -> None:
    """A broken upstream empties no budget, however often it is asked."""
    script, source = FREE[end]
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**5)
        for _ in range(3):
            up.queue.append(script)
            await ask(gateway.port, post(STREAM_BODY if streamed else STREAM_BODY.replace(b"true", b"false")))
        await gateway.idle()
        if end == "an error for a first event" and not streamed:
            source = "unknown"  # it is no JSON
        assert {(each.usage_source, each.input_tokens, each.cost_pico) for each in gateway.outcomes} == {(source, 0, 0)}
        assert (lease(gateway).used, lease(gateway).held) == (0, 0)


async def test_an_upstream_that_is_not_there_costs_nothing() -> None:
    """Nothing was sent."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with serving(both_dialects(f"http://127.0.0.1:{nobody.getsockname()[1]}")) as gateway:
            say(gateway, 10**9)
            assert (await ask(gateway.port, post())).code == "upstream_unreachable"
            await gateway.idle()
            assert (charged(gateway).cost_pico, charged(gateway).usage_source) == (0, "none")


PART = b'{"choices":[{"message":{"content":"' + b"x" * 365
BROKEN: dict[str, tuple[list[Step], int, str]] = {
    "silence": ([HANG], 0, "unknown"),
    "a head alone": ([head(200, JSON, "Content-Length: 900"), CLOSE], 0, "unknown"),
    "half a body": ([head(200, JSON, "Content-Length: 900") + PART, CLOSE], 100, "estimated"),
    "a stream without an event": ([sse_head(), CLOSE], 0, "unknown"),
    "half a stream": ([sse_head(), *[chunk(chat_delta(LONG_TEXT))] * 3, CLOSE], 30, "estimated"),
    "a stream that stalls": ([sse_head(), *[chunk(chat_delta(LONG_TEXT))] * 3, HANG], 30, "estimated"),
    "an error within": ([sse_head(), chunk(chat_delta("x")), chunk(b"data: %b\n\n" % ERROR), HANG], 1, "estimated"),
    "no usage": ([sse_head(), *map(chunk, [*chat_events()[:-2], b"data: [DONE]\n\n"]), HANG], 5, "estimated"),
}  # fmt: skip


@pytest.mark.parametrize("end", BROKEN)
async def test_an_upstream_that_breaks_off_is_paid_for_what_came(end: str) -> None:
    """It had the request, so its input counts; of the output what was seen, not what was held for it."""
    script, output, source = BROKEN[end]
    body = STREAM_BODY if "body" not in end and "head" not in end else STREAM_BODY.replace(b"true", b"false")
    async with (
        upstream_server(script) as up,
        serving(both_dialects(up.url, idle_s=0.3, first_byte_s=0.3)) as gateway,
    ):
        say(gateway, 10**9)
        await ask(gateway.port, post(body))
        await gateway.idle()
        outcome = charged(gateway)
        assert (outcome.input_tokens, outcome.output_tokens) == (size(body), output)
        assert outcome.usage_source == source


async def test_who_is_cut_by_us_pays_for_what_came() -> None:
    """A key that is revoked: its stream was at work until then."""
    async with (
        upstream_server([sse_head(), *[chunk(chat_delta(LONG_TEXT))] * 3, HANG]) as up,
        serving(both_dialects(up.url)) as gateway,
    ):
        say(gateway, 10**9)
        async with connected(gateway.port) as client:
            await client.send(post(CHAT))
            for _ in range(3):
                await client.read_until(b"xxx\\n")
            gateway.ticker.stop()
            gateway.ticker.now += 1
            gateway.pipeline.cut_keys({"k" * 12})
            await asyncio.wait_for(client.read_all(), 10)
        await gateway.idle()
        outcome = charged(gateway)
        assert (outcome.code, outcome.output_tokens, outcome.usage_source) == ("key_revoked", 230, "estimated")


async def test_embeddings_have_no_output() -> None:
    """However long they are."""
    answer = reply(200, b'{"data":[%b1]}' % (b"1," * 1000))
    async with upstream_server([answer]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        await ask(gateway.port, post(b'{"model":"m","input":"x"}', path="/v1/embeddings"))
        await gateway.idle()
        assert (charged(gateway).output_tokens, charged(gateway).usage_source) == (0, "estimated")


@pytest.mark.parametrize(("path", "billed"), [("/v1/chat/completions", True), ("/v1/moderations", False)])
async def test_a_request_costs_its_input_once_it_is_sent(path: str, billed: bool) -> None:
    """Whoever finds its opening without an end, after a death of the process, knows that much."""
    body = b'{"model":"m","input":"x"}'
    async with upstream_server([reply(200, b"{}")]) as up, serving(both_dialects(up.url)) as gateway:
        await ask(gateway.port, post(body, path=path))
        opening = gateway.ledger.opened[0]
        input_tokens = size(body) if billed else 0
        assert (opening.input_tokens, opening.cost_pico) == (input_tokens, input_tokens * 3)
        assert opening.price_version == (await gateway.outcome()).price_version != ""


async def test_a_price_holds_from_the_request_that_comes_after_it() -> None:
    """One of the configuration with the configuration that says it, one of the table whenever it begins."""
    answer = b'{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1}}'
    cheap, dear = fill_rates({"input": 3, "output": 5}), fill_rates({"input": 30, "output": 50})
    listed, own = entry("m", ("a", "m")), replace(entry("own", ("a", "own")), rates=cheap)
    bodies = [b'{"model":"m","messages":[]}', b'{"model":"own","messages":[]}']
    async with (
        upstream_server([reply(200, answer)]) as up,
        serving(both_dialects(up.url), (listed, own)) as gateway,
    ):
        say(gateway, 10**9)

        async def costs() -> list[int]:
            del gateway.outcomes[:], gateway.ledger.settled[:]
            for body in bodies:
                assert (await ask(gateway.port, post(body))).status == 200
            await gateway.outcome(2)
            return [outcome.cost_pico for outcome in gateway.outcomes]

        assert await costs() == [35, 35]
        gateway.prices.rates = dear
        assert await costs() == [350, 35]
        old = gateway.pipeline.routing
        gateway.pipeline.routing = Routing(Catalogue((listed, own)), gateway.prices, old.upstreams, old.policy)
        assert await costs() == [350, 350]
