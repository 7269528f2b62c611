"""Every family of ambiguous, malformed or merely odd requests: what the client and a recording upstream really get."""

import json
import re
from typing import Any

import pytest

from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.request_families import CANARY, FAMILIES, MINIMUM, Case, good
from tests.gateway.wire import Client, LoopUpstream, Reply, Request, Step, connected, reply, upstream_server

REQUEST_ID = re.compile(rb"(?<=request-id: )[^\r]+")
REASONS = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
           413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 417: "Expectation Failed",
           431: "Request Header Fields Too Large"}  # fmt: skip


def echo(request: Request) -> list[Step]:
    """An answer that says which request it belongs to."""
    return [reply(200, b'{"n":%d}' % json.loads(request.body)["n"])]


def refusal_bytes(code: str, *, closes: bool) -> bytes:
    """A refusal to the last byte, without its request id."""
    row = REFUSALS[code]
    body = json.dumps(
        {"error": {"message": row.sentence, "type": "invalid_request_error", "param": None,
                   "code": "invalid_api_key" if row.status == 401 else code}},
        separators=(",", ":"), ensure_ascii=False,
    ).encode()  # fmt: skip
    lines = [f"HTTP/1.1 {row.status} {REASONS[row.status]}", "x-request-id: ", "request-id: ",
             "Content-Type: application/json", *(["Connection: close"] if closes else []),
             f"Content-Length: {len(body)}"]  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode() + body


async def answers_of(client: Client, case: Case) -> list[Reply]:
    """What comes back, as many answers as there must be; each must be whole."""
    count = case.local + case.served + bool(case.code) + bool(case.first)
    return [await client.reply(bodyless=case.head_only) for _ in range(count)]


async def check(gateway: Gateway, upstream: LoopUpstream, case: Case, plain: bytes) -> None:
    """Send the case on a connection of its own; both sides and what follows must be as the table says."""
    upstream.raw.clear()
    upstream.requests.clear()
    async with connected(gateway.port) as client:
        await client.send(case.data)
        answers = await answers_of(client, case)
        assert [answer.status for answer in answers[: case.local + case.served]] == [200] * (case.local + case.served)
        if case.served > 2:
            assert [answer.json()["n"] for answer in answers[: case.served]] == list(range(1, case.served + 1)), "order"
        if case.first:
            assert answers[0].code == case.first
        last = answers[-1]
        closes = last.headers.get("connection") == "close"
        if case.code:
            got = REQUEST_ID.sub(b"", last.head + b"\r\n\r\n" + last.body)
            assert got == refusal_bytes(case.code, closes=closes)
        assert closes is case.closes or case.closes is None
        assert closes or case.code not in ("invalid_http", "upgrade_refused"), "the connection stayed open"
        heard = b"".join(answer.head + answer.body for answer in answers)
        assert CANARY.encode() not in heard, "the request was echoed"
        seen = bytes(upstream.raw)
        if case.served == 1:
            assert seen == plain, "the upstream saw something else than the request"
        assert len(upstream.requests) == case.served
        assert CANARY.encode() not in seen, "the request leaked upstream"
        if closes:
            assert await client.read_all() == b"", "something followed the last answer"
        else:
            assert client.received == b"", "more answers than requests"
            assert (await (await client.send(good(77))).reply()).json() == {"n": 77}, "the next request suffered"
    await until(lambda: not gateway.pipeline.inflight)
    if case.code and closes:
        outcome = gateway.outcomes[-1]
        assert (outcome.code, outcome.ending) == (case.code, Ending.REFUSED), "the record says something else"
        assert last.headers["x-request-id"] == last.headers["request-id"] == outcome.request_id


async def run(cases: dict[str, Case]) -> list[str]:
    """The names of the cases that fail, with why."""
    wrong: list[str] = []
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            assert (await (await client.send(good())).reply()).json() == {"n": 1}
        plain = bytes(upstream.raw)
        for name, case in cases.items():
            try:
                await check(gateway, upstream, case, plain)
            except AssertionError as error:
                wrong.append(f"{name}: {str(error).splitlines()[0] if str(error) else 'AssertionError'}")
            wrong.extend(f"{name}: {bug!r}" for bug in gateway.bugs)
            gateway.bugs.clear()
    return wrong


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_family_of_requests(family: str) -> None:
    """Refused: the fixed text and the end, nothing echoed, nothing upstream. Served: upstream sees the usual bytes."""
    wrong = await run(FAMILIES[family])
    assert not wrong, "\n".join(wrong)


def test_the_table_is_whole() -> None:
    """Every family of the security reference is there with its least number of cases."""
    assert {name: len(cases) for name, cases in FAMILIES.items() if len(cases) < MINIMUM[name]} == {}
    assert FAMILIES.keys() == MINIMUM.keys()


PIECEWISE: dict[str, Any] = {name: FAMILIES[name] for name in ("chunk sizes", "chunk extensions", "trailers")}


@pytest.mark.parametrize("family", PIECEWISE)
async def test_where_reads_are_cut_changes_nothing(family: str) -> None:
    """A chunked body that is cut behind its head, and in the middle, is judged as if it came whole."""
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        for name, case in PIECEWISE[family].items():
            if len(case.data) > 5000:
                continue
            head_end = case.data.index(b"\r\n\r\n") + 4
            async with connected(gateway.port) as client:
                await client.send(case.data[:head_end])
                await until(lambda: bool(gateway.outcomes or gateway.pipeline.inflight), name)
                for at in range(head_end, len(case.data)):
                    await client.send(case.data[at : at + 1])
                answer = await client.reply()
                assert (answer.status == 200) == bool(case.served), name
                if case.code:
                    assert answer.status == REFUSALS[case.code].status, name
                    assert await client.read_all() == b"", name
            await until(lambda: not gateway.pipeline.inflight)
            gateway.outcomes.clear()
