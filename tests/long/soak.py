"""Ten minutes of everything at once against the real daemon, and whether it is the same afterwards. Run by hand:

    python -m tests.long.soak [--seconds 600] [--workers 40] [--json FILE]

Clients of all dialects, whole and streamed; aborts, slow readers, bad requests; an upstream that cuts, stalls, sends
HTML, 429 and 503; a SIGHUP every ten seconds. Every five seconds the daemon's memory, files, threads and requests in
flight are read; the table shows their slopes after the warm-up. Status 1 when something grew or was lost.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    Exchange,
    ScriptedUpstream,
    chunk,
    head,
    reply,
    sse_head,
)
from tests.whole.daemon import Daemon, get, model, upstream
from tests.whole.raw import dechunk

SAMPLE_S = 5.0
RELOAD_S = 10.0
WARM_UP_SHARE = 0.3  # of the run: pools, allocators and the database reach their size
PATIENCE_S = 30.0
TERMINATORS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed")
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses",
         "messages": "/v1/messages"}  # fmt: skip
# How often each fault of the upstream and each manner of the client comes, out of the sum.
FAULTS = {
    "none": 60,
    "cut": 6,
    "reset": 4,
    "stall": 2,
    "html": 4,
    "error": 4,
    "429": 5,
    "503": 5,
    "frame": 4,
    "slow": 6,
}
GOOD = ("none", "slow")  # these go to an upstream of their own, whose breaker the others must not open
UPSTREAMS = {"oai": "openai", "ant": "anthropic", "oai-bad": "openai", "ant-bad": "anthropic"}
HEALTH = {"oai-bad": {"failures": 1_000_000}}  # asked however often it fails; the breaker of `ant-bad` opens
MODELS = {"plain": "oai", "claude": "ant", "plain-bad": "oai-bad", "claude-bad": "ant-bad"}
MANNERS = {"reads": 70, "aborts": 10, "resets": 6, "halves": 3, "slow": 5, "bad": 6}


@dataclass
class Sample:
    """The daemon at one moment."""

    at_s: float
    rss_kib: int
    files: int
    threads: int
    inflight: float
    requests: int


@dataclass
class Seen:
    """What the clients saw."""

    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    requests: int = 0


def events_of(path: str) -> list[bytes]:
    """A whole stream in the dialect of a path."""
    if path.endswith("messages"):
        return bodies.message_events(12)
    return bodies.response_events(12) if path.endswith("responses") else bodies.chat_events(12)


def script(exchange: Exchange) -> list[Any]:
    """What the upstream does; the request's `pad` says which fault."""
    asked = json.loads(exchange.body or b"{}")
    fault, streamed = asked.get("pad", "none"), asked.get("stream") is True
    if fault in ("429", "503"):
        return [reply(int(fault), bodies.openai_error("come back"), "Retry-After: 1")]
    if fault == "html":
        return [reply(200, b"<html>please wait</html>", content_type="text/html")]
    if fault == "error":
        return [reply(200, bodies.openai_error("it broke", "server_error"))]
    ends = {"cut": [CLOSE], "reset": [RESET], "stall": [HANG], "frame": [b"400\r\ndata: {", CLOSE]}
    if streamed:
        events = events_of(exchange.path)
        if fault in ends:
            return [sse_head(), *map(chunk, events[:4]), *ends[fault]]
        gap = [0.02] if fault == "slow" else []
        return [sse_head(), *[step for one in events for step in (chunk(one), *gap)], LAST_CHUNK]
    if fault in ends:
        return [head(200, "Content-Type: application/json", "Content-Length: 5000") + b'{"a":', *ends[fault]]
    return bodies.answer_by_path(exchange.path, exchange.body)


async def one_request(daemon: Daemon, dice: random.Random, seen: Seen) -> None:
    """A random request in a random manner; what is not allowed is noted in `seen.wrong`."""
    dialect = dice.choice(list(PATHS))
    fault = dice.choices(list(FAULTS), list(FAULTS.values()))[0]
    manner = dice.choices(list(MANNERS), list(MANNERS.values()))[0]
    streamed = dice.random() < 0.6
    size = dice.choice((10, 10, 10, 2_000, 60_000, 400_000))
    name = ("claude" if dialect == "messages" else "plain") + ("" if fault in GOOD else "-bad")
    body: dict[str, Any] = {"model": name, "stream": streamed, "pad": fault, "max_tokens": 9, "text": "x" * size}
    payload = json.dumps(body).encode()
    key = daemon.key
    if manner == "bad":
        payload, key = dice.choice([(payload[:-2], key), (b"\xff" + payload, key), (payload, "lx_wrong")])
    request = (
        f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    ).encode() + payload
    seen.requests += 1
    async with asyncio.timeout(PATIENCE_S):
        received = await converse(daemon.port, request, manner, dice)
    if manner in ("reads", "slow", "bad"):
        note(seen, received, fault if manner != "bad" else "bad", streamed)
    else:
        seen.answers["left"] += 1


async def converse(port: int, request: bytes, manner: str, dice: random.Random) -> bytes:
    """Send, then read or leave; everything received."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    received = bytearray()
    try:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        with contextlib.suppress(ConnectionError):
            if manner in ("aborts", "resets", "halves") and dice.random() < 0.3:
                await loop.sock_sendall(sock, request[: dice.randrange(len(request))])
            else:
                await loop.sock_sendall(sock, request)
            if manner in ("aborts", "resets", "halves"):
                await asyncio.sleep(dice.random() / 10)
                if manner == "resets":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if manner != "halves":
                    return b""
                sock.shutdown(socket.SHUT_WR)
            while data := await loop.sock_recv(sock, 64 if manner == "slow" else 65536):
                received += data
                if manner == "slow":
                    await asyncio.sleep(0.005)
    finally:
        sock.close()
    return bytes(received)


def note(seen: Seen, received: bytes, fault: str, streamed: bool) -> None:
    """Count the answer, and say what should never be."""
    top, _, rest = received.partition(b"\r\n\r\n")
    status = int(top.split(b" ")[1]) if top.startswith(b"HTTP/1.1 ") else 0
    seen.answers[f"{fault}: {status}"] += 1
    body, ended = dechunk(rest) if b"chunked" in top else (rest, True)
    whole = any(mark in body for mark in TERMINATORS)
    if fault in GOOD and (status != 200 or (streamed and not (whole and ended))):
        seen.wrong.append(f"{fault}: {status}, no whole answer: {body[-100:]!r}")
    elif fault == "bad" and status not in (400, 401, 429):  # 429: so many without a key come from one network
        seen.wrong.append(f"bad request got {status}")
    elif fault not in (*GOOD, "bad") and status == 200 and (whole or b'"error"' not in body or not ended):
        seen.wrong.append(f"{fault}: looks whole, or has no error event: {body[-100:]!r}")


async def worker(daemon: Daemon, until: float, number: int, seen: Seen) -> None:
    """One client after the other."""
    dice = random.Random(number)
    while time.monotonic() < until:
        try:
            await one_request(daemon, dice, seen)
        except (TimeoutError, OSError) as error:
            seen.wrong.append(f"{type(error).__name__} of a client")
            await asyncio.sleep(0.5)


def look(daemon: Daemon, began: float, seen: Seen) -> Sample:
    """The daemon now."""
    process = psutil.Process(daemon.pid)
    return Sample(
        at_s=time.monotonic() - began,
        rss_kib=process.memory_info().rss // 1024,
        files=process.num_fds(),
        threads=process.num_threads(),
        inflight=daemon.metric("luntrex_inflight_requests"),
        requests=seen.requests,
    )


async def watch(daemon: Daemon, seconds: float, seen: Seen, samples: list[Sample], progress: Progress) -> None:
    """Look every `SAMPLE_S`, reload every `RELOAD_S`."""
    bar = progress.add_task("soak", total=seconds)
    began = time.monotonic()
    reloaded = began
    while (now := time.monotonic()) < began + seconds:
        samples.append(await asyncio.to_thread(look, daemon, began, seen))
        last = samples[-1]
        about = f"{seen.requests:,} requests, {last.rss_kib // 1024} MiB, {last.files} files, {len(seen.wrong)} wrong"
        progress.update(bar, completed=now - began, description=about)
        if now - reloaded > RELOAD_S:
            os.kill(daemon.pid, signal.SIGHUP)
            reloaded = now
        await asyncio.sleep(SAMPLE_S)
    progress.update(bar, completed=seconds)


async def soak(daemon: Daemon, seconds: float, workers: int, console: Console) -> tuple[list[Sample], Seen]:
    """The run itself."""
    seen, samples = Seen(), list[Sample]()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        until = time.monotonic() + seconds
        clients = [worker(daemon, until, number, seen) for number in range(workers)]
        await asyncio.gather(watch(daemon, seconds, seen, samples, progress), *clients)
    return samples, seen


def slope_per_hour(samples: list[Sample], name: str) -> float:
    """How a value grew after the warm-up, per hour, by least squares."""
    late = [one for one in samples if one.at_s >= samples[-1].at_s * WARM_UP_SHARE]
    if len(late) < 3:
        return 0.0
    return statistics.linear_regression([one.at_s for one in late], [getattr(one, name) for one in late]).slope * 3600


def show(console: Console, samples: list[Sample], seen: Seen) -> None:
    """The tables."""
    table = Table("value", "first", "after warm-up", "last", "highest", "slope per hour")
    warm = next(one for one in samples if one.at_s >= samples[-1].at_s * WARM_UP_SHARE)
    for name in ("rss_kib", "files", "threads", "inflight"):
        values = [getattr(one, name) for one in samples]
        numbers = (values[0], getattr(warm, name), values[-1], max(values), slope_per_hour(samples, name))
        table.add_row(name, *(f"{number:,.0f}" for number in numbers))
    console.print(table)
    answers = Table("upstream's fault: status", "answers")
    for kind, count in sorted(seen.answers.items()):
        answers.add_row(kind, f"{count:,}")
    console.print(answers)
    for wrong, count in collections.Counter(seen.wrong).most_common(10):
        console.print(f"WRONG {count} x {wrong}", markup=False)


def settled(daemon: Daemon, console: Console) -> list[str]:
    """What is left when all clients have gone; complaints."""
    time.sleep(20)  # pooled upstream connections end after 15 s
    after = look(daemon, time.monotonic(), Seen())
    console.print(
        f"at rest: {after.rss_kib:,} KiB, {after.files} files, {after.threads} threads, {after.inflight:.0f} in flight"
    )
    accepted, stored = daemon.metric("luntrex_ledger_accepted_total"), daemon.metric("luntrex_ledger_stored_total")
    spooled = daemon.metric("luntrex_ledger_spooled_total") + daemon.metric("luntrex_ledger_quarantined_total")
    console.print(f"ledger: {accepted:.0f} accepted = {stored:.0f} stored + {spooled:.0f} spooled or quarantined")
    log = daemon.stderr.read_bytes()
    checks = {
        "requests are still in flight": after.inflight > 0,
        "the ledger does not add up": accepted != stored + spooled,
        "the ledger lost something": daemon.metric("luntrex_ledger_lost_total") > 0,
        "the daemon met a bug of its own": b"luntrex.bug" in log or b"Traceback" in log,
    }
    return [complaint for complaint, true in checks.items() if true]


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    console, servers = Console(), LoopThread()
    scripted = ScriptedUpstream(servers)
    scripted.script = script
    timeouts = {"first_byte_s": 3, "idle_s": 2}
    daemon = Daemon(servers, {
        "upstreams": [
                upstream(name, dialect, f"{scripted.url}/v1", timeouts=timeouts, health=HEALTH.get(name, {}))
                for name, dialect in UPSTREAMS.items()
            ],
            "models": [model(name, to) for name, to in MODELS.items()],
    })  # fmt: skip
    try:
        daemon.start()
        before = look(daemon, time.monotonic(), Seen())
        scripted.exchanges = collections.deque(maxlen=10)  # type: ignore[assignment] -- it must not grow for ten minutes
        scripted.raw = Forgetful()
        samples, seen = asyncio.run(soak(daemon, chosen.seconds, chosen.workers, console))
        show(console, samples, seen)
        complaints = settled(daemon, console) + sorted(set(seen.wrong))[:5]
        at_rest = look(daemon, time.monotonic(), seen)
        if at_rest.files > before.files + 8 or at_rest.threads > before.threads + 4:
            complaints.append(f"files {before.files} -> {at_rest.files}, threads {before.threads} -> {at_rest.threads}")
        if get(daemon.control_port, "/readyz")[0] != 200:
            complaints.append("the daemon is not ready any more")
        if chosen.json:
            rows = [vars(one) for one in samples]
            chosen.json.write_text(json.dumps({"samples": rows, "answers": seen.answers, "complaints": complaints}))
        console.print("\n".join(complaints) or "nothing grew, nothing was lost", markup=False)
        return 1 if complaints else 0
    finally:
        daemon.remove()
        scripted.stop()
        servers.stop()


class Forgetful(bytearray):
    """The scripted upstream's record of all bytes, which nobody reads here."""

    def __iadd__(self, data: Any) -> "Forgetful":  # type: ignore[override] -- forgets
        return self


if __name__ == "__main__":
    sys.exit(main())
