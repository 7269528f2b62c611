"""Heads that can be read in two ways: a fixed text, a closed connection, nothing echoed, nothing upstream."""

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
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: " + CANARY.encode() + b"\r\n\r\n"


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


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
TE = "Transfer-Encoding: chunked"

BAD_LENGTHS = {
    "empty": "", "sign": f"+{len(BODY)}", "minus": "-1", "hex": "0x1b", "underscore": "2_7", "list": "27, 27",
    "list of two": "27, 0", "leading zero": "027", "inner space": "2 7", "float": "27.0", "exponent": "27e0",
    "word": "x", "trailing junk": "27;", "trailing space": "27 ", "tab": "2\t7",
    "2^64": str(2**64), "2^64 + 27": str(2**64 + 27), "2^63": str(2**63), "quoted": '"27"', "full-width": "\xb2\xb7",
    "many digits": "9" * 400,
}  # fmt: skip
BAD_CODINGS = {
    "list": "gzip, chunked", "twice": "chunked, chunked", "identity": "identity", "identity, chunked":
    "identity, chunked", "empty element": ",chunked", "trailing comma": "chunked,", "xchunked": "xchunked",
    "suffix": "chunkedx", "number": "chunked123", "quoted": '"chunked"', "parameter": "chunked;a=b", "empty": "",
    "gzip": "gzip", "space inside": "chun ked", "vertical tab": "\x0bchunked", "form feed": "chunked\x0c",
    "dash": "chunk-ed", "trailing tab": "chunked\t", "cow": "cow", "not last": "chunked, gzip",
}  # fmt: skip
BAD_HOSTS = {
    "none": (), "two": (HOST, HOST), "two different": (HOST, "Host: other"), "empty": ("Host:",),
    "list": ("Host: a, b",), "space": ("Host: a b",), "userinfo": ("Host: a@b",), "path": ("Host: a/b",),
    "query": ("Host: a?b",), "port junk": ("Host: a:b",), "no port": ("Host: a:",), "two ports": ("Host: a:1:2",),
    "long port": ("Host: a:123456",), "zone": ("Host: [fe80::1%25eth0]",), "open bracket": ("Host: [::1",),
    "obs-text": ("Host: \xe9vil",), "percent": ("Host: a%2eb",), "star": ("Host: *",), "url": ("Host: http://a",),
    "backslash": ("Host: a\\b",), "quoted": ('Host: "a"',), "comma host": ("Host: a,",),
}  # fmt: skip
BAD_TARGETS = {
    "absolute": "http://evil.test/v1/chat/completions", "absolute https": "https://evil.test/", "authority":
    "evil.test:443", "star": "*", "two slashes": "//evil.test/v1/chat/completions", "no slash": "v1/chat/completions",
    "fragment": "/v1/chat/completions#x", "empty": "", "query only": "?x", "space inside": "/v1/chat completions",
    "obs-text": "/v1/\xe9", "delete": "/v1/\x7f", "tab inside": "/v1/chat\tcompletions", "backslash first": "\\v1",
    "scheme without host": "http:", "file": "file:///etc/passwd",
}  # fmt: skip
BAD_VERSIONS = {
    "0.9": "HTTP/0.9", "2.0": "HTTP/2.0", "9.9": "HTTP/9.9", "1.2": "HTTP/1.2", "1": "HTTP/1", "1.": "HTTP/1.",
    "two digits": "HTTP/1.10", "1.01": "HTTP/1.01", "lower case": "http/1.1", "comma": "HTTP/1,1", "none": "",
    "word": "HTTP/x.y", "trailing space": "HTTP/1.1 ", "sip": "SIP/1.1", "ice": "ICE/1.0", "rtsp": "RTSP/1.0",
    "rtsp 1.1": "RTSP/1.1",
}  # fmt: skip
BAD_LINES = {
    "folded by space": f"X-Fold: a\r\n {CANARY}", "folded by tab": f"X-Fold: a\r\n\t{CANARY}",
    "fold of nothing": "X-Fold:\r\n\tchunked", "space before colon": "X-Space : a",
    "tab before colon": "X-Tab\t: a", "space before name": " X-First: a", "no colon": "X-NoColon", "no name": ": a",
    "space in name": "X Y: a", "NUL in value": "X-Nul: a\x00b", "NUL in name": "X\x00Y: a",
    "bell in value": "X-Bel: a\x07b", "escape": "X-Esc: \x1b[2J", "delete": "X-Del: \x7f", "obs-text": "X-Obs: \xe9",
    "vertical tab": "X-VT: \x0b", "backspace": "X-BS: a\x08", "unit separator": "X-US: \x1f", "bare CR": "X-CR: a\rb",
    "bare LF": f"X-LF: a\nX-More: {CANARY}", "bare CR before colon": "X\r: a", "CR CR LF": "X-CC: a\r",
    "parenthesis in name": "X(Y): a", "bracket in name": "X[Y]: a", "quote in name": 'X"Y: a', "slash in name":
    "X/Y: a", "at in name": "X@Y: a", "umlaut in name": "X\xe4: a", "length with space": "Content-Length : 0",
    "coding with space": "Transfer-Encoding : chunked", "second Authorization": f"Authorization: Bearer {CANARY}",
    "same Authorization twice": AUTH, "second Content-Type": "Content-Type: a\r\nContent-Type: b",
    "second Expect": "Expect: 100-continue\r\nExpect: 100-continue", "second x-api-key": "x-api-key: a\r\nx-api-key: b",
}  # fmt: skip

CASES: dict[str, bytes] = {
    "CL and TE": with_framing(LENGTH, TE, body=CHUNKED + SMUGGLED),
    "TE and CL": with_framing(TE, "Content-Length: 4", body=CHUNKED + SMUGGLED),
    "CL 0 and TE": with_framing("Content-Length: 0", TE, body=CHUNKED + SMUGGLED),
    "two lengths": with_framing(LENGTH, "Content-Length: 0", body=BODY + SMUGGLED),
    "the same length twice": with_framing(LENGTH, LENGTH, body=BODY),
    "two codings": with_framing(TE, TE, body=CHUNKED),
    "coding and identity": with_framing(TE, "Transfer-Encoding: identity", body=CHUNKED),
    "1.0 with a coding": raw(LINE.replace("1.1", "1.0"), HOST, AUTH, TE, f"X-Mark: {CANARY}", body=CHUNKED),
    "1.0 with both": raw(LINE.replace("1.1", "1.0"), HOST, AUTH, TE, LENGTH, body=CHUNKED),
    "LF in the request line": with_start(LINE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n", 1),
    "CR in the request line": with_start(LINE).replace(b" HTTP/1.1\r\n", b"\r HTTP/1.1\r\n", 1),
    "CR for CRLF": with_start(LINE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r", 1),
    "NUL in the method": with_start("PO\x00ST / HTTP/1.1"),
    "NUL in the target": with_start("POST /v1/\x00 HTTP/1.1"),
    "lower-case method": with_start(LINE.replace("POST", "post")),
    "unknown method": with_start(LINE.replace("POST", "BREW")),
    "space before the method": with_start(" " + LINE),
    "tabs between": with_start(LINE.replace(" ", "\t")),
    "two spaces after the method": with_start(LINE.replace("POST ", "POST  ")),
    "two spaces before the version": with_start(LINE.replace(" HTTP", "  HTTP")),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "TLS hello": bytes.fromhex("1603010200010001fc0303") + b"\r\n\r\n" + SMUGGLED,
    "only blank lines": b"\r\n\r\n\r\n\r\n" + SMUGGLED,
    **{f"length {name}": with_framing(f"Content-Length: {value}") for name, value in BAD_LENGTHS.items()},
    **{
        f"coding {name}": with_framing(f"Transfer-Encoding: {value}", body=CHUNKED)
        for name, value in BAD_CODINGS.items()
    },
    **{f"host {name}": with_host(*lines) for name, lines in BAD_HOSTS.items()},
    **{f"target {name}": with_start(f"POST {target} HTTP/1.1") for name, target in BAD_TARGETS.items()},
    **{f"version {name}": with_start(LINE.replace("HTTP/1.1", v)) for name, v in BAD_VERSIONS.items()},
    **{f"line {name}": with_line(line) for name, line in BAD_LINES.items()},
}
UPGRADES = {
    "websocket": with_line("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " + CANARY),
    "h2c": with_line("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"),
    "unknown protocol": with_line("Connection: keep-alive, upgrade\r\nUpgrade: foo"),
    "upgrade without a protocol": with_line("Connection: upgrade"),
    "CONNECT to a host": with_start("CONNECT evil.test:443 HTTP/1.1"),
    "CONNECT to a path": with_start("CONNECT /v1/chat/completions HTTP/1.1"),
}
EXPECTATIONS = ("100-continued", "200-ok", "100-continue, 200-ok", "", CANARY)


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


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
async def test_what_can_be_read_in_two_ways_is_refused(data: bytes) -> None:
    """An ambiguous or malformed head gets the fixed 400 and ends the connection; no byte goes upstream."""
    await refused(data, "invalid_http")


@pytest.mark.parametrize("data", UPGRADES.values(), ids=UPGRADES.keys())
async def test_upgrades_are_refused(data: bytes) -> None:
    """Whatever asks for another protocol is refused, and what follows it is not read."""
    await refused(data + SMUGGLED, "upgrade_refused")


@pytest.mark.parametrize("value", EXPECTATIONS)
async def test_unknown_expectations_are_refused(value: str) -> None:
    """Only `100-continue` is an expectation that can be met."""
    await refused(with_line(f"Expect: {value}"), "expectation_failed")


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
