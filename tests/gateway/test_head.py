"""Heads: their bounds, what is odd but clear, and what goes upstream. `test_strict_requests` has the bad ones."""

import pytest

from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import KEY, both_dialects, serving
from tests.gateway.wire import BODY, connected, post, upstream_server

CANARY = "CANARYcanary"
LINE = "POST /v1/chat/completions HTTP/1.1"
HOST = "Host: gateway.test"
AUTH = f"Authorization: Bearer {KEY}"
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def raw(*lines: str, body: bytes = BODY, encoding: str = "latin-1") -> bytes:
    """A head of exactly these lines."""
    return "\r\n".join((*lines, "", "")).encode(encoding) + body


def with_line(line: str) -> bytes:
    """A good chat request with one more header line."""
    return raw(LINE, HOST, AUTH, LENGTH, f"X-Mark: {CANARY}", line)


def with_framing(*lines: str, body: bytes = BODY) -> bytes:
    """A chat request framed by these lines alone."""
    return raw(LINE, HOST, AUTH, f"X-Mark: {CANARY}", *lines, body=body)


def with_host(*lines: str) -> bytes:
    """A chat request with these Host lines."""
    return raw(LINE, *lines, AUTH, LENGTH, f"X-Mark: {CANARY}")


def with_start(line: str) -> bytes:
    """A request with this first line and everything else good."""
    return raw(line, HOST, AUTH, LENGTH, f"X-Mark: {CANARY}")


async def refused(data: bytes, code: str, **limits: int) -> None:
    """Send `data`; it must be refused with `code` in one answer on a connection that then closes."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url), limits=limits) as gateway:
        async with connected(gateway.port) as client:
            await client.send(data)
            answer = await client.reply()
            assert await client.read_all() == b"", "the connection stayed open, or something followed the answer"
        row = REFUSALS[code]
        assert (answer.status, answer.json()["error"]["message"]) == (row.status, row.sentence)
        assert answer.headers["connection"] == "close"
        assert CANARY.encode() not in answer.head + answer.body
        assert (upstream.connections, bytes(upstream.raw)) == (0, b"")
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending, outcome.account_id) == (code, Ending.REFUSED, 0)
        assert answer.headers["x-request-id"] == answer.headers["request-id"] == outcome.request_id


async def test_too_many_header_lines_are_refused() -> None:
    """The number of header lines is bounded, repeated names counted each time."""
    await refused(with_line("\r\n".join(["X-Same: a"] * 100)), "header_too_large")


@pytest.mark.parametrize("finished", [True, False])
async def test_too_many_header_bytes_are_refused(finished: bool) -> None:
    """The size of a head is bounded, whether its end is in sight or not."""
    data = with_line(f"X-Long: {CANARY * 500}")
    await refused(data if finished else data[: data.index(BODY) - 4], "header_too_large", header_bytes=4096)


async def test_a_long_target_is_refused() -> None:
    """A target has its own bound below the head's."""
    await refused(with_start(f"POST /v1/{CANARY * 800} HTTP/1.1"), "uri_too_long")


async def test_a_head_without_any_crlf_times_out() -> None:
    """Lines that end with LF alone never make a head; the connection ends with the deadline."""
    data = with_start(LINE).replace(b"\r\n", b"\n")
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), timeouts={"header_s": 0.2}) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(data)
        assert (await client.reply()).status == 408
        assert await client.read_all() == b""
        assert upstream.connections == 0


ACCEPTED = {
    "no space after the colon": with_line("X-Tight:a"),
    "tab after the colon": with_line("X-Tab:\ta"),
    "empty value": with_line("X-Empty:"),
    "upgrade that nobody asked to apply": with_line("Upgrade: h2c"),
    "trailer announcement": with_line("Trailer: X-Sum\r\nTE: trailers"),
    "coding in capitals": with_framing("TRANSFER-ENCODING: Chunked", body=CHUNKED),
    "underscored name": with_line("Transfer_Encoding: chunked"),
    "IPv6 host": with_host("Host: [::1]:8080"),
    "blank line first": b"\r\n" + post(),
    "query": with_start("POST /v1/chat/completions?key=" + CANARY + " HTTP/1.1"),
    "cookies twice": with_line("Cookie: a\r\nCookie: b"),
    "connection names our headers": with_line("Connection: authorization, host, content-length"),
    "space after the key": raw(LINE, HOST, f"x-api-key: {KEY} \t", LENGTH),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_what_is_odd_but_clear_is_served(data: bytes) -> None:
    """Strictness does not refuse what has one meaning only; none of it goes upstream."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            assert (await (await client.send(data)).reply()).status == 200
        request = await upstream.wait()
        assert request.line == "POST /v1/chat/completions HTTP/1.1"
        assert request.body == BODY
        assert CANARY.encode() not in bytes(upstream.raw)


async def test_the_upstream_request_is_built_from_zero() -> None:
    """Of the client's headers only the listed ones go upstream; its network, software and person stay here."""
    private = ["Cookie", "Referer", "Origin", "User-Agent", "Forwarded", "X-Forwarded-For", "X-Real-IP", "Via",
               "Proxy-Authorization", "Accept-Language", "X-Stainless-Lang", "Accept-Encoding", "Accept",
               "OpenAI-Organization", "X-Custom", "api-key"]  # fmt: skip
    lines = [f"{name}: {CANARY}" for name in private]
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            request = post(BODY, *lines, "OpenAI-Beta: kept", "Connection: openai-beta", f"Idempotency-Key: {CANARY}")
            assert (await (await client.send(request)).reply()).status == 200
        names = [name for name, _ in (await upstream.wait()).headers]
        assert CANARY.encode() not in bytes(upstream.raw)
        assert KEY.encode() not in bytes(upstream.raw)
        assert sorted(names) == sorted(
            ["host", "user-agent", "authorization", "accept", "accept-encoding", "content-type", "content-length",
             "openai-beta"]
        )  # fmt: skip
        headers = dict(upstream.requests[0].headers)
        assert headers["host"] == f"127.0.0.1:{upstream.port}"
        assert headers["accept-encoding"] == "identity"
