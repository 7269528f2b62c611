"""SIGKILL again and again under load, with the clients' own list of completed answers as the truth. No tests here.

An answer is complete when the client has its last byte (JSON) or its dialect's terminal event (a stream): what it saw
complete must be on record once, whatever happened to the daemon afterwards.
"""

import asyncio
import collections
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from tests.upstreams import bodies
from tests.upstreams.scripted import Exchange, Script
from tests.whole.daemon import Daemon
from tests.whole.scene import chat_request, message_request

_IN_START = 0.2  # of the kills, before the daemon is ready
_START_S, _WORK_S = 1.5, 0.7  # a kill comes within
_GONE_S = 0.05  # a client's wait when nobody listens
_DRAIN_S = 60.0
_ASKED = (
    ("/v1/chat/completions", chat_request(), b""),
    ("/v1/chat/completions", chat_request(stream=True), b"data: [DONE]\n\n"),
    ("/v1/messages", message_request(stream=True), b"event: message_stop\n"),
)


@dataclass
class Seen:
    """What the clients saw."""

    complete: list[str] = field(default_factory=list)  # request ids
    ends: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass
class Found:
    """What came of it."""

    kills: int
    seconds: float
    seen: Seen
    lost: list[str]
    doubled: list[str]
    rows: dict[str, int]  # by ending
    complaints: list[str]


def paced(exchange: Exchange) -> Script:
    """A good answer; a stream comes in three parts, so that a kill may fall between them."""
    if b'"stream": true' not in exchange.body:
        return bodies.answer_by_path(exchange.path, exchange.body)
    events = bodies.message_events() if exchange.path.endswith("messages") else bodies.chat_events()
    return bodies.stream(events, gap_seconds=0.004)


async def kill_under_load(
    daemon: Daemon, kills: int, clients: int, dice: random.Random, show: Callable[[int, Seen], None]
) -> Seen:
    """So many SIGKILLs at random moments; the daemon is started after each one and runs at the end."""
    seen = Seen()
    headers = {"Authorization": f"Bearer {daemon.key}", "anthropic-version": "2023-06-01"}
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        tasks = [asyncio.create_task(_client(session, daemon.port, seen, number)) for number in range(clients)]
        for number in range(kills):
            if dice.random() < _IN_START:
                await asyncio.to_thread(_kill_in_start, daemon, dice.uniform(0, _START_S))
            await asyncio.sleep(dice.uniform(0, _WORK_S))
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
            show(number + 1, seen)
        await asyncio.sleep(_WORK_S)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError(f"a client broke: {result!r}")
    return seen


def _kill_in_start(daemon: Daemon, delay_s: float) -> None:
    daemon.kill()
    daemon.spawn()
    time.sleep(delay_s)
    daemon.kill()
    daemon.start()


async def _client(session: aiohttp.ClientSession, port: int, seen: Seen, number: int) -> None:
    dice = random.Random(number)
    while True:
        path, body, mark = dice.choice(_ASKED)
        received, request_id = bytearray(), ""
        try:
            async with session.post(
                f"http://127.0.0.1:{port}{path}", data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                request_id = answer.headers["x-request-id"]
                if answer.status != 200:
                    seen.ends[f"status {answer.status}"] += 1
                    continue
                async for piece in answer.content.iter_any():
                    received += piece
                    if mark and mark in received:
                        break
            seen.complete.append(request_id)
            seen.ends["complete"] += 1
        except aiohttp.ClientConnectorError:
            seen.ends["nobody listened"] += 1
            await asyncio.sleep(_GONE_S)
        except (aiohttp.ClientError, ConnectionError):
            seen.ends["cut"] += 1
        await asyncio.sleep(dice.uniform(0, 0.01))


def settle_accounts(daemon: Daemon, seen: Seen, kills: int, seconds: float) -> Found:
    """Wait until all is stored, then compare with the clients' list."""
    complaints = []
    deadline = time.monotonic() + _DRAIN_S
    while daemon.metric("luntrex_ledger_spooled_total") or len(list((daemon.state / "spool").glob("*-*"))) > 1:
        if time.monotonic() > deadline:
            complaints.append("the spool did not drain")
            break
        time.sleep(0.2)
    rows = daemon.query("SELECT request_id::text AS id, ending FROM usage")
    endings = collections.defaultdict(list)
    for row in rows:
        endings[row["id"]].append(row["ending"])
    sums = "sum(input_tokens)::bigint AS i, sum(output_tokens)::bigint AS o"
    if daemon.query(f"SELECT count(*)::bigint AS n, {sums} FROM usage") != daemon.query(
        f"SELECT sum(requests)::bigint AS n, {sums} FROM usage_rollup"
    ):
        complaints.append("the hourly sums are not those of the rows")
    accepted, stored, spooled, quarantined, lost = (
        daemon.metric(f"luntrex_ledger_{name}_total")
        for name in ("accepted", "stored", "spooled", "quarantined", "lost")
    )
    if accepted != stored + spooled + quarantined or lost or quarantined:
        complaints.append(f"accepted {accepted}, stored {stored}, spooled {spooled}, quarantined {quarantined}")
    if b"Traceback" in (log := daemon.stderr.read_bytes()) or b"luntrex.bug" in log:
        complaints.append("the daemon met a bug of its own")
    return Found(
        kills=kills,
        seconds=seconds,
        seen=seen,
        lost=[request_id for request_id in seen.complete if endings.get(request_id) != ["complete"]],
        doubled=[request_id for request_id, each in endings.items() if len(each) > 1],
        rows=dict(collections.Counter(row["ending"] for row in rows)),
        complaints=complaints,
    )
