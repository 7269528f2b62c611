"""Mutated requests and answers through a running gateway, judged by h11, which shares no code with ours.

What the upstream gets of a client's bytes, and what the client gets of an upstream's, must be what h11 reads in them.
"""

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import h11

from luntrex_proxy.core.access import Caller
from tests.fakes import KEY, Gateway, both_dialects, serving, until
from tests.gateway import request_families, test_strict_answers
from tests.gateway.request_families import CANARY, good
from tests.gateway.wire import CLOSE, Client, LoopUpstream, Request, Step, connected, post, reply, upstream_server

SMALL_BYTES = 3000
ROUNDS = 60  # of the loop, in which nothing happens any more: what is still running waits for its client
INSERTED = [b"\r", b"\n", b"\0", b":", b"\t", b" ", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n ", b",", b";", b"\x0b"]
METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"PRI", b"TRACE", b"get"]
LINES = [
    b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Content-Length: 0", b"Connection: close", b"Host: a",
    b"Transfer-Encoding: identity", b"Expect: 100-continue", b"Upgrade: h2c", b"Connection: upgrade", b"X: y",
    b"Connection: keep-alive", b"Content-Encoding: gzip", b"Content-Type: application/json", b"Retry-After: 5",
]  # fmt: skip
BLANK = re.compile(rb"\A(?:\r\n)+")
FRAMING_TRAILER = re.compile(
    rb"(\r\n0{1,8}\r\n(?:[^\r\n]+\r\n)*?)(Transfer-Encoding|Content-Length|Host)(?=:)", re.IGNORECASE
)
ANSWER = re.compile(
    rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z ]+\r\n((?:[A-Za-z-]+: [\x20-\x7e]*\r\n)*)\r\n"
)  # what we write, and nothing else
UPSTREAM_HEADERS = {"host", "user-agent", "authorization", "accept", "accept-encoding", "content-type",
                    "content-length", "openai-beta", "anthropic-version", "anthropic-beta", "x-api-key"}  # fmt: skip


@dataclass
class Finding:
    """A case that went wrong."""

    what: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.what}: {self.data[:600]!r}"


class _Everyone(dict[bytes, Caller]):
    """Any key is good: a changed key must not hide what else was changed."""

    def get(self, key: bytes, default: object = None) -> Caller:  # type: ignore[override]  # never None here
        """The one caller."""
        return next(iter(self.values()))


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with one to three changes, mostly one: more of them are refused for reasons of their own."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(12):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = bytes([rng.randrange(256)])
            case 2:
                del data[at : at + rng.randint(1, 4)]
            case 3 | 4:
                data[at:at] = rng.choice(INSERTED)
            case 5:  # the boundary of two messages shifts
                other = rng.choice(seeds)
                data += other[rng.randrange(len(other)) :] if rng.random() < 0.5 else other
            case 6:
                data = data[at:] + data[:at] if rng.random() < 0.2 else data[:at]
            case 7 | 8 | 9 | 10:  # header add, delete, replace
                lines = bytes(data).split(b"\r\n")
                where = rng.randrange(len(lines))
                lines[where : where + rng.randrange(2)] = rng.choice([[rng.choice(LINES)], []])
                data = bytearray(b"\r\n".join(lines))
            case _:
                data = bytearray(rng.choice(METHODS) + b" " + bytes(data).partition(b" ")[2])
    return bytes(data) or b"\r\n"


# Requests.


def rename_trailers(data: bytes) -> bytes:
    """The same with no trailer that speaks of framing: h11 judges those by their name, we drop them unread."""
    while (renamed := FRAMING_TRAILER.sub(rb"\1X\2", data)) != data:
        data = renamed
    return data


def read_requests(data: bytes) -> list[tuple[bytes, bytes]]:
    """Method and body of each request that h11 finds, up to the first doubt."""
    found: list[tuple[bytes, bytes]] = []
    data = rename_trailers(data)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10_000_000)
    try:
        while True:
            data = BLANK.sub(b"", data, count=1)  # RFC 9112 2.2, which h11 does not know
            if data:
                connection.receive_data(data)
            request = connection.next_event()
            if type(request) is not h11.Request:
                return found
            body = b""
            while type(event := connection.next_event()) is h11.Data:
                body += bytes(event.data)
            if type(event) is not h11.EndOfMessage:
                return found
            found.append((request.method, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return found
            data = connection.trailing_data[0]
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10_000_000)
    except h11.ProtocolError:
        return found


def is_whole(received: bytes, *, asks_for_heads: bool) -> bool:
    """Whether what the client got is a row of whole answers as we write them; those to HEAD have no body."""
    at = 0
    while at < len(received):
        head = ANSWER.match(received, at)
        if head is None:
            return False
        at = head.end()
        if head[1] == b"100":
            continue
        length = re.search(rb"Content-Length: ([0-9]+)\r\n", head[2])
        if length is None:
            return False
        if asks_for_heads and (at == len(received) or received.startswith(b"HTTP/1.1 ", at)):
            continue
        at += int(length[1])
    return at == len(received)


async def settle(gateway: Gateway) -> None:
    """Until the gateway has done what it can with what it got."""
    quiet = 0
    for _ in range(ROUNDS * 50):
        await asyncio.sleep(0)
        quiet = 0 if gateway.pipeline.inflight and quiet < ROUNDS // 2 else quiet + 1
        if quiet > 8 and not gateway.pipeline.inflight:
            return
        if gateway.pipeline.inflight:
            quiet += 1
            waiting = all(c.exchange is None or not c.exchange.body_complete for c in gateway.pipeline.connections)
            if waiting and quiet > ROUNDS:
                return


def drain(client: Client) -> bytes:
    """What has arrived by now."""
    received = b""
    try:
        while data := client.socket.recv(1 << 20):
            received += data
    except (BlockingIOError, ConnectionResetError):
        pass
    return received


def judge_request(gateway: Gateway, upstream: LoopUpstream, data: bytes, received: bytes) -> str:
    """What is wrong with the case, or nothing."""
    if gateway.bugs:
        bug = gateway.bugs.pop()
        gateway.bugs.clear()
        return f"the gateway broke: {bug!r}"
    expected = read_requests(data)
    bodies = iter(body for method, body in expected if method == b"POST")
    for request in upstream.requests:
        if request.body not in bodies:  # in order, each once
            return f"the upstream saw {request.body[:80]!r}"
        names = [name for name, _ in request.headers]
        if len(set(names)) != len(names) or not UPSTREAM_HEADERS.issuperset(names):
            return f"the upstream saw headers {names}"
    if sum(len(request.head) + len(request.body) for request in upstream.requests) != len(upstream.raw):
        return "the upstream saw bytes outside requests"
    if not is_whole(received, asks_for_heads=b"HEAD " in data):
        return f"the client saw {received[:300]!r}"
    return ""


def echo(request: Request) -> list[Step]:
    """A fixed answer."""
    return [reply(200, b"{}")]


async def fuzz_requests(count: int, seed: int, progress: Callable[[], object] = lambda: None) -> list[Finding]:
    """Send `count` mutated requests, some cut into several writes."""
    rng = random.Random(seed)
    cases = [case for family in request_families.FAMILIES.values() for case in family.values()]
    short = [(case.data.replace(KEY.encode(), b"k"), case.served) for case in cases if len(case.data) < SMALL_BYTES]
    seeds = [data for data, served in short for _ in range(6 if served else 1)]  # these are one step from refusal
    findings: list[Finding] = []
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        gateway.keys.callers = _Everyone(gateway.keys.callers)
        for number in range(count):
            data = mutate(rng, seeds)
            upstream.raw.clear()
            upstream.requests.clear()
            async with connected(gateway.port) as client:
                cut = rng.randrange(len(data)) if rng.random() < 0.3 else 0
                try:
                    if cut:
                        await client.send(data[:cut])
                        await asyncio.sleep(0)
                    await client.send(data[cut:])
                except OSError:
                    pass  # refused before its end
                await settle(gateway)
                received = drain(client)
            what = judge_request(gateway, upstream, data, received)
            if what:
                findings.append(Finding(what, data))
            if number % 100 == 0:
                await until(lambda: not gateway.pipeline.inflight, "a request never ended")
                async with connected(gateway.port) as client:
                    assert (await (await client.send(good())).reply()).status == 200
                for kept in (gateway.outcomes, gateway.ledger.opened, gateway.ledger.settled, gateway.timeline):
                    kept.clear()
            progress()
        await until(lambda: not gateway.pipeline.inflight, "a request never ended")
    return findings


# Answers.


def read_answer(data: bytes) -> bytes | None:
    """The body of the 200 that h11 finds before the upstream closes, or None."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=10_000_000)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(rename_trailers(data))
        connection.receive_data(b"")
        while type(event := connection.next_event()) is h11.InformationalResponse:
            pass
        if type(event) is not h11.Response or event.status_code != 200:
            return None
        body = b""
        while type(event := connection.next_event()) is h11.Data:
            body += bytes(event.data)
    except (h11.ProtocolError, RuntimeError):
        return None
    return body if type(event) is h11.EndOfMessage else None


async def fuzz_answers(count: int, seed: int, progress: Callable[[], object] = lambda: None) -> list[Finding]:
    """Have `count` mutated answers relayed; each connection closes after its answer."""
    rng = random.Random(seed)
    cases = (case for family in test_strict_answers.FAMILIES.values() for case in family.values())
    joined = (b"".join(step for step in case.steps if type(step) is bytes) for case in cases)
    seeds = [data for data in joined if 0 < len(data) < SMALL_BYTES]
    findings: list[Finding] = []
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url, first_byte_s=5)) as gateway,
        connected(gateway.port) as client,
    ):
        for _ in range(count):
            data = mutate(rng, seeds)
            cut = rng.randrange(len(data))
            upstream.script = [data[:cut], 0, data[cut:], CLOSE] if rng.random() < 0.3 else [data, CLOSE]
            answer = await (await client.send(post())).reply()
            body = answer.body
            what = ""
            if gateway.bugs:
                what = f"the gateway broke: {gateway.bugs.pop()!r}"
            elif not test_strict_answers.ALLOWED.issuperset(answer.headers):
                what = f"the client saw headers {list(answer.headers)}"
            elif client.received:
                what = f"more came: {client.received[:100]!r}"
            elif answer.status == 200 and body != read_answer(data):
                what = f"the client saw {body[:100]!r} and not {(read_answer(data) or b'nothing')[:100]!r}"
            elif CANARY.encode() in answer.head:
                what = "bytes of the upstream are in the head"
            if what:
                findings.append(Finding(what, data))
            gateway.bugs.clear()
            for kept in (gateway.outcomes, gateway.ledger.opened, gateway.ledger.settled, gateway.timeline):
                kept.clear()
            upstream.requests.clear()
            upstream.raw.clear()
            await until(lambda: not upstream.open)  # or the next request meets a connection about to close
            progress()
    return findings
