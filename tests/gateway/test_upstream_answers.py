"""What becomes of an upstream's whole answers: errors keep their status, large bodies stream through, usage is seen."""

import json

import pytest

from luntrex_proxy.core.outcome import Ending, Tokens, UsageSource
from tests.fakes import SECRET, both_dialects, serving
from tests.gateway.wire import (
    CLOSE,
    LAST_CHUNK,
    STREAM_BODY,
    Request,
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
from tests.upstreams.bodies import DONE, chat_body, chat_delta, chat_usage, openai_error

JSON = "Content-Type: application/json"
TE = "Transfer-Encoding: chunked"
CANARY = b"CANARYcanary"
BODY = chat_body()


@pytest.mark.parametrize("status", [400, 404, 408, 409, 422, 429, 500, 503, 529])
async def test_an_upstreams_error_keeps_its_status_and_words(status: int) -> None:
    """An error before the first byte passes with its status, its body and when to come back."""
    body = openai_error("the words of the provider", code="their_code")
    for request in (post(), post(STREAM_BODY)):
        answer, connections = await answered([reply(status, body, "Retry-After: 7", "X-RateLimit-Limit: 3")], request)
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (status, body, "7")
        assert "x-ratelimit-limit" not in answer.headers
        assert connections == 1


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_our_own_credentials_refused_is_not_the_clients_fault(status: int) -> None:
    """The upstream's 401, 402 and 403 become 502 without its words."""
    answer, _ = await answered([reply(status, openai_error("CANARYcanary " + SECRET))])
    assert (answer.status, answer.code) == (502, "upstream_auth")
    assert answer.headers["x-should-retry"] == "false"
    assert CANARY not in answer.body


@pytest.mark.parametrize("body", [b"<html>CANARYcanary", b'{"x":"CANARYcanary"}', b"", b'{"error":[]}', b"\xff"])
async def test_an_error_in_no_known_form_gets_our_words(body: bytes) -> None:
    """An error body that SDKs can't read is replaced; the status stays."""
    answer, _ = await answered([reply(500, body)])
    assert (answer.status, answer.code) == (500, "upstream_error")
    assert CANARY not in answer.body


@pytest.mark.parametrize(
    "body", [b'{"detail":"too long"}', b'{"error":"too long"}', b'{"object":"error","message":"too long","code":40}']
)
async def test_an_error_in_another_form_keeps_its_meaning(body: bytes) -> None:
    """The caller reads the upstream's own sentence, in the dialect it speaks."""
    answer, _ = await answered([reply(400, body)])
    assert (answer.status, answer.code) == (400, "upstream_error")
    assert answer.json()["error"]["message"] == "too long"


async def test_a_large_error_is_not_gathered() -> None:
    """An error body beyond the bound is left: own words, and the connection closed."""
    answer, connections = await answered([reply(500, openai_error("x" * 300_000))])
    assert (answer.status, answer.code) == (500, "upstream_error")
    assert connections == 2


async def test_an_error_with_status_200_is_an_error() -> None:
    """SDKs would take it for an answer."""
    answer, _ = await answered([reply(200, b'{"error":{"message":"CANARYcanary"}}')])
    assert (answer.status, answer.code) == (502, "upstream_error")


async def test_an_error_as_first_event_is_a_real_status() -> None:
    """A stream that begins with an error never becomes a 200."""
    script: list[Step] = [sse_head(), chunk(b'data: {"error":{"message":"CANARYcanary"}}\n\n'), LAST_CHUNK]
    answer, _ = await answered(script, post(STREAM_BODY))
    assert (answer.status, answer.code) == (502, "upstream_error")


@pytest.mark.parametrize("size", [70_000, 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
async def test_a_large_answer_streams_through(framing: str, size: int) -> None:
    """Megabytes of embeddings pass byte for byte, and the usage at their end is found."""
    data = b'{"object":"list","data":[{"embedding":"%b"}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'
    body = data % (b"QUJD" * (size // 4))
    pieces = [body[at : at + 61_111] for at in range(0, len(body), 61_111)]
    scripts: dict[str, list[Step]] = {
        "length": [head(200, JSON, f"Content-Length: {len(body)}"), *pieces],
        "chunks": [head(200, JSON, TE), *map(chunk, pieces), LAST_CHUNK],
        "close": [head(200, JSON, "Connection: close"), *pieces, CLOSE],
    }
    request = post(b'{"model":"m","input":"x"}', path="/v1/embeddings")
    async with upstream_server(scripts[framing]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, request)).body == body
        outcome = await gateway.outcome()
        assert (outcome.tokens, outcome.usage_source) == (Tokens(input=5), UsageSource.REPORTED)
        assert (outcome.response_bytes, outcome.cost_pico) == (len(body), 15)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_large_answer_that_is_cut_looks_cut(framing: str) -> None:
    """JSON can't say that it broke off: the body stays incomplete and the connection ends."""
    first = head(200, JSON, "Content-Length: 500000") if framing == "length" else head(200, JSON, TE)
    begin, more = (
        piece if framing == "length" else chunk(piece) for piece in (b'{"a":"' + b"x" * 100_000, b"x" * 100_000)
    )
    async with upstream_server([first, begin, 0.1, more, CLOSE]) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            received = await (await client.send(post())).read_all()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert not received.endswith(LAST_CHUNK)
        assert len(received) < 300_000
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("upstream_cut", Ending.UPSTREAM_FAILED)


async def test_usage_asked_for_by_us_is_withheld() -> None:
    """The usage chunk that the client did not ask for is counted and not passed on."""

    def script(request: Request) -> list[Step]:
        assert json.loads(request.body)["stream_options"] == {"include_usage": True}
        return [sse_head(), chunk(chat_delta("a", "stop")), chunk(chat_usage()), chunk(DONE), LAST_CHUNK]

    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post(STREAM_BODY))).body == chat_delta("a", "stop") + DONE
        outcome = await gateway.outcome()
        assert (outcome.tokens.input, outcome.tokens.output, outcome.usage_source) == (21, 9, UsageSource.REPORTED)


async def test_only_listed_headers_come_back() -> None:
    """Of an upstream's headers the client gets the listed ones, and of these no value with control bytes."""
    leaks = ["Set-Cookie: a=CANARYcanary", "Server: CANARYcanary", "X-RateLimit-Remaining: 5", "CF-Ray: CANARYcanary",
             "Alt-Svc: h3", "X-Request-Id: CANARYcanary", "Connection: keep-alive, x-a", "Location: /CANARYcanary",
             "Retry-After: 5\x01CANARYcanary", "X-Should-Retry: \xe9"]  # fmt: skip
    answer, _ = await answered([reply(200, BODY, *leaks, "OpenAI-Processing-Ms: 12")])
    if answer.status == 200:
        assert answer.body == BODY
        assert answer.headers["openai-processing-ms"] == "12"
        assert set(answer.headers) == {
            "x-request-id", "request-id", "content-type", "openai-processing-ms", "content-length"
        }  # fmt: skip
    else:
        assert answer.code == "upstream_invalid"
    assert CANARY not in answer.head
