"""Nothing of a malformed or failing request comes back in an answer or stays in a log.

The same probe is run against plain aiohttp and must find canaries there, so it is known to be able to fail.
"""

import asyncio
import contextlib
import gc
import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp import web

from luntrex_proxy.control.quiet import QuietRunner

C = b"CANARY7f3a"
NOT_HTTP = b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request is not valid HTTP."}'
REQUESTS = {
    "bad method": C + b" /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /" + C + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "not http": b"\x16\x03\x01" + C + b"\r\n\r\n",
    "bad version": b"GET / HTTP/9." + C + b"\r\nHost: a\r\n\r\n",
    "target with a space": b"GET /a b" + C + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \0" + C + b"\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nHost: a\r\n" + C + b"\r\n\r\n",
    "header name with a space": b"GET / HTTP/1.1\r\nHost: a\r\nX " + C + b": 1\r\n\r\n",
    "content-length of letters": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + C + b"\r\n\r\n",
    "two content-lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: "
    + C
    + b"\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + C + b"\r\n\r\n",
    "bad chunk size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + C + b"\r\n",
    "bad chunk later": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n" + C + b"\r\n",
    "long target": b"GET /" + C * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + C * 2000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + (C + b"\r\nX: ") * 2000 + b"\r\n\r\n",
    "unknown expectation": b"POST /livez HTTP/1.1\r\nHost: a\r\nExpect: " + C + b"\r\nContent-Length: 0\r\n\r\n",
    "unknown expectation, known method": b"GET /livez HTTP/1.1\r\nHost: a\r\nExpect: " + C + b"\r\n\r\n",
    "unknown path": b"GET /" + C + b"?" + C + b" HTTP/1.1\r\nHost: a\r\nReferer: " + C + b"\r\n\r\n",
    "wrong method": b"PUT /livez?" + C + b" HTTP/1.1\r\nHost: " + C + b"\r\nUser-Agent: " + C + b"\r\n\r\n",
    "absolute form": b"GET http://" + C + b"/livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown API": b"GET /api/v9/" + C + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown expectation of the API": b"GET /api/v1 HTTP/1.1\r\nHost: a\r\nExpect: " + C + b"\r\n\r\n",
    "bad host": b"GET /livez HTTP/1.1\r\nHost: " + C + b" @ b\r\n\r\n",
    "bad percent": b"GET /%zz%00" + C + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade, then garbage": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    + C
    + b" \0\r\n\r\n",
    "connect": b"CONNECT " + C + b":443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "good, then garbage": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + C + b"\0 /\r\n\r\n",
    "handler fails": b"POST /fails HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + C,
    "handler returns nothing": b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + C,
    "body ends early": b"POST /fails HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + C,
    "compressed garbage": b"POST /fails HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n"
    + C,
}


async def _fails(request: web.Request) -> web.Response:
    raise ValueError(await request.text())


async def _returns_nothing(request: web.Request) -> web.Response:
    return await request.text()  # type: ignore[return-value] # it is the mistake under test


def _application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", _ok)
    app.router.add_get("/livez", _ok)
    app.router.add_post("/fails", _fails)
    app.router.add_post("/nothing", _returns_nothing)
    return app


async def _ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that any logger says at any level, messages and tracebacks, and all that structlog prints."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(told))
    yield told
    structlog.reset_defaults()
    root.setLevel(before)
    root.removeHandler(handler)


async def _answers(runner: web.AppRunner) -> dict[str, bytes]:
    """What the server sends to each of REQUESTS, until it closes or is silent."""
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1):
                while data := await reader.read(65_536):
                    answer += data
        writer.close()
        return answer

    answers = dict(zip(REQUESTS, await asyncio.gather(*map(ask, REQUESTS.values())), strict=True))
    await runner.cleanup()
    gc.collect()
    return answers


async def test_no_answer_and_no_log_holds_a_piece_of_a_request(
    everything_logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """Thirty bad requests with a canary in each."""
    answers = await _answers(QuietRunner(_application(), shutdown_timeout_s=1))
    assert [name for name, answer in answers.items() if C in answer] == []
    printed = capfd.readouterr()
    told = everything_logged.getvalue() + printed.out + printed.err
    assert C.decode() not in told
    assert "luntrex.control_failed" in told
    assert "ValueError" in told


async def test_the_texts_are_fixed_and_carry_the_headers() -> None:
    """Malformed: 400 and close; failing handler: 500; both with the headers of every answer."""
    answers = await _answers(QuietRunner(_application(), shutdown_timeout_s=1))
    expected = {
        "bad method": (b"400", NOT_HTTP),
        "NUL in a header": (b"400", NOT_HTTP),
        "long target": (b"400", NOT_HTTP),
        "unknown expectation, known method": (b"417", b"Only the expectation 100-continue is supported.\n"),
        "unknown path": (b"404", b"There is no page at this address.\n"),
        "wrong method": (b"405", b"This page does not accept this method.\n"),
        "handler fails": (b"500", b"The server failed to handle the request.\n"),
        "handler returns nothing": (b"500", b"The server failed to handle the request.\n"),
        "unknown API": (
            b"404",
            b'{"type":"about:blank","title":"Not Found","status":404,"detail":"There is no page at this address."}',
        ),
        "unknown expectation of the API": (
            b"417",
            b'{"type":"about:blank","title":"Expectation Failed","status":417,'
            b'"detail":"Only the expectation 100-continue is supported."}',
        ),
    }
    for name, (status, text) in expected.items():
        head, _, body = answers[name].partition(b"\r\n\r\n")
        assert (name, head.split()[1], body) == (name, status, text)
        assert b"X-Content-Type-Options: nosniff" in head
        assert b"Server: luntrex-proxy\r\n" in head + b"\r\n"


async def test_the_probe_finds_the_leaks_of_plain_aiohttp(everything_logged: io.StringIO) -> None:
    """If aiohttp's own server passed, the test above would prove nothing."""
    answers = await _answers(web.AppRunner(_application()))
    assert [name for name, answer in answers.items() if C in answer] != []
    assert C.decode() in everything_logged.getvalue()
