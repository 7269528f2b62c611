"""The scripted server itself: it must record exactly what came and do exactly what its script says."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstreams import bodies
from tests.upstreams.certificates import Authority
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import CLOSE, HANG, RESET, ScriptedUpstream, chunk, reply, split_everywhere, sse_head
from tests.whole import calls
from tests.whole.raw import RawClient, Reply

REQUEST = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nX-Odd:  two  spaces \r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    running = LoopThread()
    yield running
    running.stop()


@pytest.fixture
def upstream(thread: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(thread)
    yield server
    server.stop()


def test_records_the_bytes_as_they_came(upstream: ScriptedUpstream) -> None:
    """Head and body are kept byte for byte, also when they arrive one byte at a time."""
    with RawClient(upstream.port) as client:
        for at in range(len(REQUEST)):
            client.send(REQUEST[at : at + 1])
        client.read_until(b"{}")
    exchange = upstream.wait()
    assert exchange.head + exchange.body == REQUEST
    assert (exchange.method, exchange.path, exchange.header("X-ODD")) == ("POST", "/v1/x", "two  spaces")


def test_chunked_requests_lose_only_their_framing(upstream: ScriptedUpstream) -> None:
    """A chunked body is put together; the raw bytes still show how it came."""
    sent = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    with RawClient(upstream.port) as client:
        client.send(sent).read_until(b"{}")
    assert upstream.wait().body == b"abcde"
    assert bytes(upstream.raw) == sent


def test_steps_happen_in_order(upstream: ScriptedUpstream) -> None:
    """Bytes, sleeps and events are taken one after the other, and the connection serves another request."""
    go = threading.Event()
    upstream.queue([sse_head(), chunk(b"a"), go, 0.02, chunk(b"b"), b"0\r\n\r\n"])
    with RawClient(upstream.port) as client:
        client.send(REQUEST).read_until(b"1\r\na\r\n")
        assert b"1\r\nb\r\n" not in client.received
        go.set()
        client.read_until(b"0\r\n\r\n")
        client.send(REQUEST).read_until(b"{}")
    assert upstream.connections == 1
    assert len(upstream.exchanges) == 2


def test_close_and_reset(upstream: ScriptedUpstream) -> None:
    """CLOSE is a FIN after the bytes, RESET a RST."""
    upstream.queue([b"half", CLOSE], [RESET])
    with RawClient(upstream.port) as client:
        assert client.send(REQUEST).read_all() == b"half"
    with RawClient(upstream.port) as client, pytest.raises(ConnectionResetError):
        client.send(REQUEST).read_until(b"never")


def test_notices_when_the_peer_leaves(upstream: ScriptedUpstream) -> None:
    """The peer's close is noticed at once, in the middle of a script."""
    upstream.script = [sse_head(), HANG]
    with RawClient(upstream.port) as client:
        client.send(REQUEST).read_until(b"\r\n\r\n")
        exchange = upstream.exchanges[0]
        assert not exchange.closed.is_set()
        left_at = client.leave()
    assert exchange.closed.wait(2)
    assert 0 <= exchange.closed_at - left_at < 0.5


def test_refuses_when_told(upstream: ScriptedUpstream) -> None:
    """A refused port refuses, and the same port serves again."""
    upstream.refuse()
    with pytest.raises(ConnectionRefusedError):
        RawClient(upstream.port)
    upstream.listen_again()
    with RawClient(upstream.port) as client:
        client.send(REQUEST).read_until(b"{}")


def test_tls_is_verified_against_the_test_authority(thread: LoopThread, tmp_path: Path) -> None:
    """A client that trusts the test CA accepts the right name and refuses the wrong one."""
    authority = Authority(tmp_path)
    good = ScriptedUpstream(thread, authority.server_context("127.0.0.1", "localhost"))
    wrong = ScriptedUpstream(thread, authority.server_context("elsewhere.invalid"))
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    connection = http.client.HTTPSConnection("127.0.0.1", good.port, context=context, timeout=5)
    connection.request("POST", "/", b"x")
    assert connection.getresponse().status == 200
    connection.close()
    refused = http.client.HTTPSConnection("127.0.0.1", wrong.port, context=context, timeout=5)
    with pytest.raises(ssl.SSLCertVerificationError):
        refused.request("POST", "/", b"x")
    refused.close()
    good.stop()
    wrong.stop()


async def test_the_sdks_read_the_canned_answers(upstream: ScriptedUpstream) -> None:
    """The canned bodies are what the SDKs expect, whole, streamed, and cut into single bytes."""
    upstream.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    client = calls.openai_client(f"{upstream.url}/v1", "k")
    claude = calls.anthropic_client(f"{upstream.url}/v1", "k")
    seen = [
        await call(who, "m")
        for who, call in [
            (client, calls.chat),
            (client, calls.chat_stream_usage),
            (client, calls.response),
            (client, calls.response_stream),
            (claude, calls.message),
            (claude, calls.message_stream),
        ]
    ]
    for one in seen:
        assert one.text
        assert one.tokens is not None
        assert (one.tokens.input, one.tokens.output) == (bodies.INPUT_TOKENS, bodies.OUTPUT_TOKENS)
    whole = b"".join(step for step in bodies.stream(bodies.chat_events()) if isinstance(step, bytes))
    upstream.script = split_everywhere(whole)
    assert (await calls.chat_stream(client, "m")).text == "word0 word1 word2 "


def test_reply_reads_back(upstream: ScriptedUpstream) -> None:
    """The raw client's view of a reply: status, headers, body."""
    upstream.script = [reply(429, b'{"a":1}', "Retry-After: 7"), CLOSE]
    with RawClient(upstream.port) as client:
        answer = Reply(client.send(REQUEST).read_all())
    assert (answer.status, answer.headers["retry-after"], answer.json()) == (429, "7", {"a": 1})
    assert json.loads(answer.body) == {"a": 1}
    assert time.monotonic() > upstream.wait().received_at
