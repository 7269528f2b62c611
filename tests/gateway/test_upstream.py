"""The upstream's side: whatever an upstream sends, the client gets a truthful answer and the pool stays clean."""

import asyncio
import gzip
import json

import pytest

from luntrex_proxy.core.outcome import Ending, Tokens, UsageSource
from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import both_dialects, serving, until
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    STREAM_BODY,
    Step,
    answered,
    ask,
    chunk,
    connected,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta, chat_events, stream
from tests.upstreams.scripted import split_everywhere

JSON = "Content-Type: application/json"
SSE = "Content-Type: text/event-stream"
BODY = chat_body()
LENGTH = f"Content-Length: {len(BODY)}"
TE = "Transfer-Encoding: chunked"
CANARY = b"CANARYcanary"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
SECOND = reply(200, b'{"canary":"CANARYcanary"}')


GOOD: dict[str, tuple[list[Step], bool]] = {  # script, whether the connection can be used again
    "length": ([reply(200, BODY)], True),
    "byte by byte": (split_everywhere(reply(200, BODY)), True),
    "chunked": ([head(200, JSON, TE) + chunk(BODY[:9]) + chunk(BODY[9:]) + LAST_CHUNK], True),
    "chunked byte by byte": (split_everywhere(head(200, JSON, TE) + chunk(BODY) + LAST_CHUNK), True),
    "until close": ([head(200, JSON), BODY[:20], 0.05, BODY[20:], CLOSE], False),
    "1.0 until close": ([head(200, JSON).replace(b"1.1", b"1.0"), BODY, CLOSE], False),
    "connection: close": ([reply(200, BODY, "Connection: close")], False),
    "100 first": ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, reply(200, BODY)], True),
    "103 in the same read": ([EARLY + reply(200, BODY)], True),
    "some 1xx": ([EARLY * 5, 0.05, EARLY + reply(200, BODY)], True),
    "trailers": ([head(200, JSON, TE) + chunk(BODY) + b"0\r\nX-Sum: CANARYcanary\r\nRetry-After: 9\r\n\r\n"], True),
    "identity": ([reply(200, BODY, "Content-Encoding: identity")], True),
    "content type in capitals": ([reply(200, BODY, content_type="APPLICATION/JSON; charset=utf-8")], True),
}


@pytest.mark.parametrize(("script", "pooled"), GOOD.values(), ids=GOOD.keys())
async def test_every_honest_framing_is_understood(script: list[Step], pooled: bool) -> None:
    """The body arrives byte for byte, and the connection is used again exactly when that is safe."""
    answer, connections = await answered(script)
    assert (answer.status, answer.body) == (200, BODY)
    assert CANARY not in answer.head
    assert "retry-after" not in answer.headers
    assert connections == (1 if pooled else 2)


EXTRA: dict[str, list[Step]] = {
    "extra bytes": [reply(200, BODY) + b"x"],
    "a second answer": [reply(200, BODY) + SECOND],
    "a second answer later": [reply(200, BODY), 0.03, SECOND],
    "a second answer after chunks": [head(200, JSON, TE) + chunk(BODY) + LAST_CHUNK + SECOND],
    "half a second head": [reply(200, BODY) + b"HTTP/1.1 200 OK\r\nX: "],
    "NUL": [reply(200, BODY) + b"\0"],
}


@pytest.mark.parametrize("script", EXTRA.values(), ids=EXTRA.keys())
async def test_bytes_after_an_answer_are_nobodys(script: list[Step]) -> None:
    """What follows an answer never reaches a client, and the connection is not used again."""
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            answer = await (await client.send(post())).reply()
            assert (answer.status, answer.body) == (200, BODY)
            await asyncio.sleep(0.1)
            up.script = [reply(200, b'{"after":1}')]
            assert (await (await client.send(post())).reply()).json() == {"after": 1}
        assert up.connections == 2


def status_line(line: bytes) -> list[Step]:
    """A good answer with another first line."""
    return [reply(200, BODY).replace(b"HTTP/1.1 200 Answer", line, 1), CLOSE]


INVALID: dict[str, list[Step]] = {
    "CL and TE": [head(200, JSON, LENGTH, TE) + chunk(BODY) + LAST_CHUNK],
    "TE and CL": [head(200, JSON, TE, LENGTH) + chunk(BODY) + LAST_CHUNK],
    "two lengths": [head(200, JSON, LENGTH, "Content-Length: 3") + BODY],
    "the same length twice": [head(200, JSON, LENGTH, LENGTH) + BODY],
    "list of lengths": [head(200, JSON, f"Content-Length: {len(BODY)}, 3") + BODY],
    "chunk extensions": [head(200, JSON, TE) + b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY)],
    "signed length": [head(200, JSON, f"Content-Length: +{len(BODY)}") + BODY],
    "negative length": [head(200, JSON, "Content-Length: -1") + BODY],
    "hex length": [head(200, JSON, "Content-Length: 0x10") + BODY],
    "empty length": [head(200, JSON, "Content-Length:") + BODY, CLOSE],
    "overflowing length": [head(200, JSON, f"Content-Length: {2**64 + len(BODY)}") + BODY],
    "gzip, chunked": [head(200, JSON, "Transfer-Encoding: gzip, chunked") + chunk(BODY) + LAST_CHUNK],
    "chunked twice": [head(200, JSON, TE, TE) + chunk(BODY) + LAST_CHUNK],
    "xchunked": [head(200, JSON, "Transfer-Encoding: xchunked") + BODY, CLOSE],
    "empty coding": [head(200, JSON, "Transfer-Encoding:") + BODY, CLOSE],
    "gzip": [reply(200, gzip.compress(BODY), "Content-Encoding: gzip")],
    "bad chunk size": [head(200, JSON, TE) + b"zz\r\n" + BODY],
    "no chunk end": [head(200, JSON, TE) + b"5\r\nhelloXX5\r\n"],
    "NUL in a header": [reply(200, BODY, "X-A: a\0b")],
    "CR in a header": [reply(200, BODY, "X-A: a\rRetry-After: 5")],
    "folded header": [reply(200, BODY, "X-A: a\r\n b")],
    "no colon": [reply(200, BODY, "XA")],
    "CR in the reason": status_line(b"HTTP/1.1 200 O\rK"),
    "not HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n", HANG],
    "garbage": [b"\0\1\2\3" * 50, HANG],
    "HTTP/2.0": status_line(b"HTTP/2.0 200 OK"),
    "HTTP/9.9": status_line(b"HTTP/9.9 200 OK"),
    "RTSP": status_line(b"RTSP/1.0 200 OK"),
    "ICE": status_line(b"ICE/1.0 200 OK"),
    "four digits": status_line(b"HTTP/1.1 2000 OK"),
    "two digits": status_line(b"HTTP/1.1 20 OK"),
    "status 999": status_line(b"HTTP/1.1 999 Odd"),
    "1xx flood": [EARLY * 500, HANG],
    "1xx flood in small reads": [*[EARLY, 0.001] * 40, HANG],
    "switching protocols": [head(101, "Connection: Upgrade", "Upgrade: websocket") + CANARY, HANG],
    "101 without upgrade": [head(101) + CANARY, HANG],
    "huge header": [head(200, JSON, LENGTH, "X-Long: " + "x" * 200_000) + BODY],
    "endless header": [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, b"x" * 70_000, HANG],
    "many headers": [head(200, JSON, LENGTH, *[f"X-{n}: {n}" for n in range(200_000)]) + BODY],
    "204": [head(204)],
    "204 with a body": [head(204, "Content-Length: 5") + b"HTTP/", CLOSE],
    "304": [head(304, LENGTH)],
    "redirect": [head(302, "Location: http://169.254.169.254/", "Content-Length: 0")],
    "201": [reply(201, BODY)],
    "206": [reply(206, BODY)],
    "HTML": [reply(200, b"<html>CANARYcanary</html>", content_type="text/html")],
    "no content type": [head(200, LENGTH) + BODY],
    "a stream nobody asked for": stream(chat_events(1)),
    "two content types": [reply(200, BODY, "Content-Type: text/html")],
}


@pytest.mark.parametrize("script", INVALID.values(), ids=INVALID.keys())
async def test_what_is_not_a_valid_answer_becomes_502(script: list[Step]) -> None:
    """Ambiguous, malformed or foreign answers become one fixed 502; nothing of them reaches the client or the pool."""
    answer, _ = await answered(script)
    assert (answer.status, answer.code) == (502, "upstream_invalid")
    assert answer.json()["error"]["message"] == REFUSALS["upstream_invalid"].sentence
    assert CANARY not in answer.head + answer.body


NO_STREAM: dict[str, list[Step]] = {
    "JSON": [reply(200, BODY)],
    "HTML": [reply(200, b"<html>", content_type="text/html")],
    "gzip": [head(200, SSE, TE, "Content-Encoding: gzip") + chunk(gzip.compress(DONE)) + LAST_CHUNK],
}


@pytest.mark.parametrize("script", NO_STREAM.values(), ids=NO_STREAM.keys())
async def test_a_stream_that_is_none_becomes_502(script: list[Step]) -> None:
    """SDKs would take anything but events for an empty stream."""
    answer, _ = await answered(script, post(STREAM_BODY))
    assert (answer.status, answer.code) == (502, "upstream_invalid")


@pytest.mark.parametrize("name", ["redirect", "HTML", "204"])
async def test_what_is_not_an_answer_is_not_charged(name: str) -> None:
    """Nobody pays for a redirect or a page: no tokens are made up for them."""
    async with upstream_server(INVALID[name]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post(b'{"model":"m","pad":"%b"}' % (b"x" * 1000)))).status == 502
        outcome = await gateway.outcome()
        assert (outcome.tokens, outcome.cost_pico) == (Tokens(), 0)
        assert outcome.usage_source in (UsageSource.NONE, UsageSource.UNKNOWN)


EARLY_ENDS: dict[str, tuple[list[Step], int, str]] = {
    "close at once": ([CLOSE], 502, "upstream_closed"),
    "reset at once": ([RESET], 502, "upstream_closed"),
    "half a head": ([reply(200, BODY)[:20], CLOSE], 502, "upstream_closed"),
    "only a 1xx": ([EARLY, CLOSE], 502, "upstream_closed"),
    "head only": ([head(200, JSON, LENGTH), CLOSE], 502, "upstream_cut"),
    "half a body": ([reply(200, BODY)[:-9], CLOSE], 502, "upstream_cut"),
    "half a body, reset": ([reply(200, BODY)[:-9], 0.05, RESET], 502, "upstream_cut"),
    "chunks without end": ([head(200, JSON, TE) + chunk(BODY), CLOSE], 502, "upstream_cut"),
    "reset in a body until close": ([head(200, JSON) + BODY[:9], 0.05, RESET], 502, "upstream_cut"),
    "silence": ([HANG], 504, "upstream_timeout"),
    "silence in a head": ([reply(200, BODY)[:20], HANG], 504, "upstream_timeout"),
    "silence after a 1xx": ([EARLY, HANG], 504, "upstream_timeout"),
    "silence in a body": ([reply(200, BODY)[:-9], HANG], 504, "upstream_timeout"),
}


@pytest.mark.parametrize(("script", "status", "code"), EARLY_ENDS.values(), ids=EARLY_ENDS.keys())
async def test_an_answer_that_ends_early_is_a_real_status(script: list[Step], status: int, code: str) -> None:
    """Before the first byte to the client every failure keeps a status of its own; the request is never sent again."""
    async with upstream_server(script) as up, serving(both_dialects(up.url, first_byte_s=0.3, idle_s=0.3)) as gateway:
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code) == (status, code)
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == (code, Ending.UPSTREAM_FAILED)
        assert outcome.usage_source == (UsageSource.ESTIMATED if outcome.output_tokens else UsageSource.UNKNOWN)
        assert len(up.requests) == 1
        await until(lambda: not up.open, "the upstream connection was left open")


async def test_a_thinking_model_is_waited_for_after_a_1xx() -> None:
    """An informational head does not replace the long wait for the answer by the short one between its pieces."""
    script: list[Step] = [b"HTTP/1.1 102 Processing\r\n\r\n", 1.0, reply(200, BODY)]
    async with upstream_server(script) as up, serving(both_dialects(up.url, first_byte_s=5, idle_s=0.2)) as gateway:
        assert (await ask(gateway.port, post())).status == 200


async def test_silence_in_a_stream_ends_in_an_error_event() -> None:
    """After the first event only the stream can tell: an error event, a proper end, no terminator."""
    script: list[Step] = [sse_head(), chunk(chat_delta("a")), HANG]
    async with upstream_server(script) as up, serving(both_dialects(up.url, idle_s=0.3)) as gateway:
        answer = await ask(gateway.port, post(STREAM_BODY))
        *events, last = answer.body.removesuffix(b"\n\n").split(b"\n\n")
        assert [event + b"\n\n" for event in events] == [chat_delta("a")]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
        outcome = await gateway.outcome()
        assert (outcome.status, outcome.code, outcome.ending) == (200, "upstream_timeout", Ending.UPSTREAM_FAILED)
        await up.wait_closed()


async def test_a_stream_that_ends_early_is_cut_cleanly() -> None:
    """Garbage, a close or a reset inside a stream: whole events, then the error event, and the connection is gone."""
    ends: list[list[Step]] = [[CLOSE], [0.05, RESET], [b"zz\r\n", HANG], [LAST_CHUNK], [chunk(b"data: {"), LAST_CHUNK]]
    for end in ends:
        answer, connections = await answered([sse_head(), chunk(chat_delta("a")), *end], post(STREAM_BODY))
        assert answer.body.startswith(chat_delta("a"))
        assert answer.body.endswith(b"\n\n")
        assert b'"error"' in answer.body
        assert b"[DONE]" not in answer.body
        assert connections <= 2


ENDLESS: dict[str, bytes] = {
    "trailer": head(200, JSON, TE) + chunk(BODY) + b"0\r\nX-Endless: ",
    "trailer after the terminal event": sse_head() + chunk(chat_delta("a", "stop") + DONE) + b"0\r\nX-Endless: ",
    "1xx headers": b"HTTP/1.1 103 Early Hints\r\nX: ",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_nothing_of_an_upstream_is_gathered_without_bound(name: str) -> None:
    """A trailer or head without an end breaks the connection long before it fills memory."""
    script: list[Step] = [ENDLESS[name], *[b"x" * 65536] * 400, HANG]
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post(STREAM_BODY if "terminal" in name else b'{"model":"m"}'))
            await up.wait_closed()
        assert up.written_bytes < 10 * 1024 * 1024
