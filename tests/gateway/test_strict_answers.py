"""Every family of hostile answers: what the client really gets, and that the next request of another client is safe."""

# ruff: noqa: E501 -- a table: one case a line

import asyncio
import gzip
import json
import re
from dataclasses import dataclass, field

import pytest

from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import Gateway, both_dialects, serving
from tests.gateway.request_families import BAD_CODINGS, BAD_LENGTHS, BAD_NAMES, BAD_TRAILERS, CONTROLS
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    STREAM_BODY,
    LoopUpstream,
    Step,
    chunk,
    connected,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta

CANARY = "CANARYcanary"
BODY = chat_body()
JSON = "Content-Type: application/json"
LENGTH = f"Content-Length: {len(BODY)}"
TE = "Transfer-Encoding: chunked"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </CANARYcanary>\r\nSet-Cookie: CANARYcanary\r\n\r\n"
INVALID, CLOSED, CUT = "upstream_invalid", "upstream_closed", "upstream_cut"
# All that a client ever sees of names; the values of the last ones are an upstream's.
SENT = "x-luntrex-upstream-sent: true"
ALLOWED = {"x-request-id", "request-id", "x-luntrex-upstream-sent", "content-length", "connection", "transfer-encoding", "cache-control",
           "x-accel-buffering", "content-type", "retry-after", "retry-after-ms", "x-should-retry",
           "openai-processing-ms"}  # fmt: skip
REQUEST_ID = re.compile(rb"(?<=request-id: )[^\r]+")


@dataclass(frozen=True)
class Case:
    """What an upstream sends and what the client must get: the body with 200, or one of the refusals."""

    steps: list[Step]
    codes: tuple[str, ...] = (INVALID,)  # empty: 200
    body: bytes = BODY
    request: bytes = field(default_factory=post)


def bad(*steps: Step, codes: tuple[str, ...] = (INVALID,)) -> Case:
    """Refused, whatever the upstream does after it."""
    return Case([*steps, 0.02, CLOSE], codes)


def odd(*steps: Step) -> Case:
    """Refused although it is framed well: the connection stays open, and may be used again."""
    return Case([*steps])


def fine(*steps: Step, body: bytes = BODY) -> Case:
    """Served."""
    return Case([*steps], (), body)


def line(value: bytes) -> Case:
    """A good answer with one more header line of any bytes."""
    return bad(reply(200, BODY, "X-Here: x").replace(b"X-Here: x", value))


def start(value: bytes) -> bytes:
    """A good answer with another first line."""
    return reply(200, BODY).replace(b"HTTP/1.1 200 Answer", value, 1)


def framed(*lines: str, body: bytes = BODY) -> bytes:
    """An answer framed by these lines alone."""
    return head(200, JSON, *[one.encode().decode("latin-1") for one in lines]) + body


def in_chunks(wire: bytes) -> bytes:
    """A chunked answer with exactly these bytes behind its head."""
    return head(200, JSON, TE) + wire


SIZE = b"%x" % len(BODY)
CHUNK = BODY + b"\r\n"
BAD_SIZES = {
    "not hex": b"xyz\r\n", "minus": b"-1\r\n", "0x": b"0x" + SIZE + b"\r\n", "space first": b" " + SIZE + b"\r\n",
    "plus": b"+" + SIZE + b"\r\n", "underscore": b"1_3\r\n", "empty": b"\r\n", "overflow": b"F" * 17 + b"\r\n",
    "overflow by zeros": b"1" + b"0" * 16 + b"\r\n", "wraps": b"1" + b"0" * 14 + SIZE + b"\r\n", "LF": SIZE + b"\n",
    "CR": SIZE + b"\r", "CR CR LF": SIZE + b"\r\r\n", "NUL": SIZE + b"\0\r\n", "comma": SIZE + b",1\r\n",
    "LF in extension": SIZE + b";a\nb\r\n", "CR in extension": SIZE + b";a\rb\r\n", "NUL in extension":
    SIZE + b";a\0b\r\n", "endless extension": SIZE + b";" + b"e" * 200_000, "space after": SIZE + b" \r\n",
    "tab after": SIZE + b"\t\r\n", "bad extension": SIZE + b";(\r\n",
}  # fmt: skip
VALID_200 = reply(200, b'{"canary":"CANARYcanary"}')

FAMILIES: dict[str, dict[str, Case]] = {
    "length": {
        **{name: bad(framed(f"Content-Length: {value.replace('19', str(len(BODY)))}")) for name, value in BAD_LENGTHS.items()
           if name not in ("leading zero", "five digits", "trailing space", "trailing tab", "2^32 as 20 digits", "many digits")},
        "many digits": bad(framed("Content-Length: " + "9" * 400)),
        "two": bad(framed(LENGTH, "Content-Length: 3")),
        "same twice": bad(framed(LENGTH, LENGTH)),
        "space before colon": bad(framed(f"Content-Length : {len(BODY)}")),
        "with coding": bad(framed(LENGTH, TE, body=chunk(BODY) + LAST_CHUNK)),
        "after coding": bad(framed(TE, LENGTH, body=chunk(BODY) + LAST_CHUNK)),
    },
    "coding": {
        **{name: bad(framed(f"Transfer-Encoding: {value}", body=chunk(BODY) + LAST_CHUNK))
           for name, value in BAD_CODINGS.items() if name not in ("trailing space", "trailing tab")},
        "two lines": bad(framed(TE, TE, body=chunk(BODY) + LAST_CHUNK)),
        "two different": bad(framed(TE, "Transfer-Encoding: identity", body=chunk(BODY) + LAST_CHUNK)),
        "on HTTP/1.0": bad(in_chunks(chunk(BODY) + LAST_CHUNK).replace(b"1.1", b"1.0", 1)),
    },
    "chunk sizes": {name: bad(in_chunks(wire + CHUNK + LAST_CHUNK)) for name, wire in BAD_SIZES.items()} | {
        "LF after data": bad(in_chunks(SIZE + b"\r\n" + BODY + b"\n" + LAST_CHUNK)),
        "too short": bad(in_chunks(b"%x\r\n" % (len(BODY) - 1) + CHUNK + LAST_CHUNK)),
        "LF for the last line": bad(in_chunks(chunk(BODY) + b"0\n\n")),
        "capitals": fine(in_chunks(chunk(BODY).upper()[:2] + chunk(BODY)[2:] + LAST_CHUNK)),
    },
    "trailers": {
        **{name: bad(in_chunks(chunk(BODY) + b"0\r\n" + wire + b"\r\n")) for name, wire in BAD_TRAILERS.items()
           if name in ("NUL", "NUL in value", "LF", "CR", "no colon", "no name", "space before colon", "a request")},
        **{f"says {name}": fine(in_chunks(chunk(BODY) + f"0\r\n{name}: CANARYcanary\r\n\r\n".encode()))
           for name in ("Retry-After", "Set-Cookie", "Content-Type", "X-Sum", "Location", "Content-Encoding")},
        "says Content-Length": Case([in_chunks(chunk(BODY) + b"0\r\nContent-Length: 5\r\n\r\n"), CLOSE], (INVALID, "")),
        "endless": bad(in_chunks(chunk(BODY) + b"0\r\nX: " + b"x" * 300_000)),
    },
    "lines": {
        **{f"{byte:02x} in a value": line(b"Retry-After: 1%c2" % byte) for byte in CONTROLS},
        **{f"{byte:02x} in a name": line(b"X%cY: a" % byte) for byte in CONTROLS},
        **{name: line(value.encode("latin-1")) for name, value in BAD_NAMES.items() if name not in ("obs-text in a value",)},
        "CR in a value": line(b"X: a\rRetry-After: 9"), "LF in a value": line(b"X: a\nRetry-After: 9"),
        "fold": line(b"X: a\r\n CANARYcanary"), "fold by tab": line(b"X: a\r\n\tCANARYcanary"),
        "space before colon": line(b"Retry-After : 9"), "CR CR LF": line(b"X: a\r"),
        "space first": bad(head(200, " X: y", JSON, LENGTH) + BODY),
        "endless": bad(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),
        "very many": bad(head(200, JSON, LENGTH, *[f"X-{n}: {n}" for n in range(20_000)]) + BODY),
        "LF ends the head": bad(reply(200, BODY).replace(b"\r\n\r\n", b"\n\n", 1), codes=(INVALID, CLOSED)),
        "LF ends a line": bad(reply(200, BODY).replace(b"\r\n", b"\n", 1)),
        "obs-text is not copied": fine(reply(200, BODY, "Retry-After: \xe9CANARYcanary")),
        "cookies, place, server": fine(reply(200, BODY, *[f"{name}: CANARYcanary" for name in (
            "Set-Cookie", "Location", "Server", "Via", "Access-Control-Allow-Origin", "Strict-Transport-Security", "Alt-Svc",
            "WWW-Authenticate", "Content-Security-Policy", "X-Request-Id", "X-RateLimit-Limit", "Refresh", "Link")])),
        "hop by hop": fine(reply(200, BODY, "Connection: keep-alive, content-type", "Keep-Alive: CANARYcanary")),
        "long value": fine(reply(200, BODY, "OpenAI-Processing-Ms: " + "9" * 5000)),
    },
    "status lines": {
        **{name: bad(start(value)) for name, value in {
            "HTTP/2": b"HTTP/2 200 OK", "HTTP/2.0": b"HTTP/2.0 200 OK", "HTTP/9.9": b"HTTP/9.9 200 OK", "HTTP/1.2":
            b"HTTP/1.2 200 OK", "HTTP/0.9": b"HTTP/0.9 200 OK", "RTSP": b"RTSP/1.0 200 OK", "ICE": b"ICE/1.0 200 OK",
            "lower case": b"http/1.1 200 OK", "four digits": b"HTTP/1.1 2000 OK", "two digits": b"HTTP/1.1 20 OK", "no code":
            b"HTTP/1.1 OK", "999": b"HTTP/1.1 999 OK", "000": b"HTTP/1.1 000 OK", "600": b"HTTP/1.1 600 OK", "signed":
            b"HTTP/1.1 +20 OK", "CR in the reason": b"HTTP/1.1 200 O\rK", "LF in the reason": b"HTTP/1.1 200 O\nK: a",
            "NUL in the reason": b"HTTP/1.1 200 O\0K", "DEL in the reason": b"HTTP/1.1 200 O\x7fK", "two spaces":
            b"HTTP/1.1  200 OK", "tab": b"HTTP/1.1\t200 OK", "blank line first": b"\r\nHTTP/1.1 200 OK", "space first":
            b" HTTP/1.1 200 OK", "junk after code": b"HTTP/1.1 200OK", "hex": b"HTTP/1.1 0xC8 OK"}.items()},
        "no reason": fine(start(b"HTTP/1.1 200 ")), "no space": fine(start(b"HTTP/1.1 200")),
        "long reason": fine(start(b"HTTP/1.1 200 " + b"CANARYcanary " * 500)),
        "obs-text reason": fine(start(b"HTTP/1.1 200 \xe9")), "odd reason": fine(start(b'HTTP/1.1 200 <a href="x">')),
    },
    "statuses": {
        "204": odd(head(204)), "204 with a length": odd(head(204, "Content-Length: 5") + b"HTTP/"), "204 with an answer": odd(
            head(204, f"Content-Length: {len(VALID_200)}") + VALID_200), "205": odd(head(205, "Content-Length: 0")),
        "304": odd(head(304, LENGTH)), "304 with a body": odd(head(304, LENGTH) + BODY), "206": odd(reply(206, BODY)),
        **{f"{status} to the metadata service": odd(head(
            status, "Location: http://169.254.169.254/latest/", "Content-Length: 0")) for status in (300, 301, 302, 303, 307, 308)},
        "101": odd(head(101, "Connection: Upgrade", "Upgrade: websocket") + CANARY.encode()), "101 bare": odd(head(101)),
        "101 h2c": odd(head(101, "Connection: Upgrade", "Upgrade: h2c") + b"\0\0\0\4\0\0\0\0\0"),
        "Upgrade without 101": fine(reply(200, BODY, "Connection: keep-alive", "Upgrade: h2c")),
        "Connection: Upgrade without 101": Case([reply(200, BODY, "Connection: Upgrade", "Upgrade: foo"), CLOSE], (INVALID, CUT, "")),
        "some 1xx": fine(EARLY * 5 + reply(200, BODY)), "1xx flood": odd(EARLY * 500),
        "1xx flood in small reads": odd(*[EARLY, 0.001] * 30), "1xx with a length": odd(
            b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + reply(200, BODY)),
        "1xx with a coding": odd(b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST_CHUNK + reply(200, BODY)),
        "endless 1xx": odd(b"HTTP/1.1 103 Early\r\nX: " + b"x" * 300_000),
        "gzip": odd(reply(200, gzip.compress(BODY), "Content-Encoding: gzip")),
        "bomb": odd(reply(200, gzip.compress(b"0" * 5_000_000), "Content-Encoding: gzip")),
        "br": odd(reply(200, BODY, "Content-Encoding: br")), "two encodings": odd(
            reply(200, BODY, "Content-Encoding: identity", "Content-Encoding: gzip")),
        "identity": fine(reply(200, BODY, "Content-Encoding: identity")),
        "HTML": odd(reply(200, b"<html>CANARYcanary", content_type="text/html")),
        "two content types": odd(reply(200, BODY, "Content-Type: text/html")),
    },
    "ends": {
        "close at once": bad(codes=(CLOSED,)), "reset at once": Case([RESET], (CLOSED,)),
        **{f"closed after {at} bytes": bad(reply(200, BODY)[:at], codes=(CLOSED, CUT)) for at in range(1, 60, 5)},
        "half a body": bad(reply(200, BODY)[:-9], codes=(CUT,)),
        "half a chunk": bad(in_chunks(chunk(BODY)[:-9]), codes=(CUT,)),
        "no last chunk": bad(in_chunks(chunk(BODY)), codes=(CUT,)),
        "half a last chunk": bad(in_chunks(chunk(BODY) + b"0\r\n"), codes=(CUT,)),
        "only 1xx": bad(EARLY, codes=(CLOSED,)),
        "until close": fine(head(200, JSON), BODY[:20], 0.02, BODY[20:], CLOSE),
        "1.0 until close": fine(head(200, JSON).replace(b"1.1", b"1.0"), BODY, CLOSE),
        "1.0 with a length": fine(reply(200, BODY).replace(b"1.1", b"1.0", 1)),
        "1.0 keep-alive": fine(reply(200, BODY, "Connection: keep-alive").replace(b"1.1", b"1.0", 1)),
        "until close, reset": Case([head(200, JSON) + BODY[:9], 0.05, RESET], (CUT,)),
        "garbage": bad(b"\0\1\2\3" * 50), "another protocol": bad(b"SSH-2.0-OpenSSH_9.2\r\n"), "TLS alert": bad(b"\x15\3\1\0\2\2\x28"),
        "HTTP/0.9 body": bad(b"<html>CANARYcanary</html>"),
    },
    "more than one": {
        "second answer": fine(reply(200, BODY) + VALID_200),
        "second after chunks": fine(in_chunks(chunk(BODY) + LAST_CHUNK) + VALID_200), "extra byte": fine(reply(200, BODY) + b"x"),
        "NUL": fine(reply(200, BODY) + b"\0"), "half a head": fine(reply(200, BODY) + b"HTTP/1.1 200 OK\r\nX: "),
        "a 1xx after it": fine(reply(200, BODY) + EARLY), "blank lines": fine(reply(200, BODY) + b"\r\n\r\n"),
        "ten thousand": fine(reply(200, BODY) + VALID_200 * 10_000), "two for a 304": bad(head(304, LENGTH) + VALID_200),
        "longer than it says": fine(head(200, JSON, "Content-Length: 2") + b"{}" + VALID_200, body=b"{}"),
    },
    "streams": {
        # An answer that turns bad in the very read that ends its stream may be either; nothing has been sent yet.
        name: Case([sse_head(), chunk(chat_delta("a", "stop") + DONE) + wire], (INVALID, "") if wire[:2] in (b"zz", b"0\r") else (), chat_delta("a", "stop") + DONE, post(STREAM_BODY))
        for name, wire in {
            "honest": LAST_CHUNK, "second answer": LAST_CHUNK + VALID_200, "no last chunk": b"", "bad size": b"zz\r\n",
            "endless trailer": b"0\r\nX: " + b"x" * 300_000, "more events": chunk(chat_delta("CANARYcanary")) + LAST_CHUNK,
            "trailers": b"0\r\nSet-Cookie: CANARYcanary\r\n\r\n"}.items()
    },
}  # fmt: skip
MINIMUM = {"length": 15, "coding": 20, "chunk sizes": 20, "trailers": 8, "lines": 40, "status lines": 20, "statuses": 20,
           "ends": 15, "more than one": 8, "streams": 5}  # fmt: skip


def refusal_bytes(code: str) -> bytes:
    """The 502 to the last byte, without its request id."""
    error = {"message": REFUSALS[code].sentence, "type": "server_error", "param": None, "code": code}
    body = json.dumps({"error": error}, separators=(",", ":")).encode()
    lines = ["HTTP/1.1 502 Bad Gateway", "x-request-id: ", "request-id: ", JSON, SENT, f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


async def check(gateway: Gateway, upstream: LoopUpstream, case: Case) -> None:
    """One client asks and gets what the table says; then two other clients ask and get theirs."""
    upstream.script = case.steps
    asked = len(upstream.requests)
    async with connected(gateway.port) as client, connected(gateway.port) as other:
        answer = await (await client.send(case.request)).reply()
        assert CANARY.encode() not in answer.head + answer.body, "upstream bytes reached the client"
        assert answer.headers.keys() <= ALLOWED, f"headers {answer.headers.keys() - ALLOWED}"
        if answer.status == 200:
            assert not case.codes or "" in case.codes, f"200 with {answer.body[:40]!r}"
            assert answer.body == case.body
        else:
            code = answer.code
            assert code in case.codes, f"{answer.status} {code}"
            assert REQUEST_ID.sub(b"", answer.head + b"\r\n\r\n" + answer.body) == refusal_bytes(code)
        assert len(upstream.requests) == asked + 1, "the request was sent again"
        upstream.script = [reply(200, b'{"after":1}')]
        for one in (other, other, client):
            after = await (await one.send(post())).reply()
            assert (after.status, after.body) == (200, b'{"after":1}'), "the next request suffered"
        await asyncio.sleep(0)
        assert client.received == other.received == b"", "bytes nobody asked for"


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_family_of_answers(family: str) -> None:
    """A bad answer becomes one fixed 502 or is cut back to what was honest; nothing else crosses, nothing is reused."""
    wrong: list[str] = []
    async with upstream_server() as upstream, serving(both_dialects(upstream.url, idle_s=1, first_byte_s=1)) as gateway:
        for name, case in FAMILIES[family].items():
            try:
                await check(gateway, upstream, case)
            except AssertionError as error:
                wrong.append(f"{name}: {str(error).splitlines()[0] if str(error) else 'AssertionError'}")
            wrong.extend(f"{name}: {bug!r}" for bug in gateway.bugs)
            gateway.bugs.clear()
    assert not wrong, "\n".join(wrong)


def test_the_table_is_whole() -> None:
    """Every family is there with its least number of cases."""
    assert {name: len(cases) for name, cases in FAMILIES.items() if len(cases) < MINIMUM[name]} == {}
    assert FAMILIES.keys() == MINIMUM.keys()


FLOODS: dict[str, bytes] = {
    "header": b"HTTP/1.1 200 OK\r\nX: ", "headers": b"HTTP/1.1 200 OK\r\n", "1xx": b"", "reason": b"HTTP/1.1 200 ",
    "extension": head(200, JSON, TE) + SIZE + b";", "trailer": head(200, JSON, TE) + chunk(BODY) + b"0\r\nX: ",
    "one-byte chunks of an error": head(500, JSON, TE), "size": head(200, JSON, TE),
}  # fmt: skip
UNITS = {"headers": b"X: y\r\n" * 10_000, "1xx": EARLY * 700, "one-byte chunks of an error": chunk(b"x") * 10_000,
         "size": b"0" * 65536}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
async def test_no_flood_fills_memory(name: str) -> None:
    """Whatever part of an answer has no end, the connection breaks after a bound, and the client has its 502."""
    script: list[Step] = [FLOODS[name], *[UNITS.get(name, b"x" * 65536)] * 400, HANG]
    async with upstream_server(script) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            answer = await (await client.send(post())).reply()
            assert answer.status in (500, 502)
        await upstream.wait_closed()
        assert upstream.written_bytes < 10 * 1024 * 1024
