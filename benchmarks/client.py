"""The load client: closed loop, open loop and watched streams over raw sockets. It stamps and checks every answer.

Closed loop: each connection asks again as soon as its answer is whole; finds cost and ceiling. Open loop: requests
leave at a constant rate whatever the answers do, and latency counts from the moment a request *should* have left, so a
stalled proxy cannot hide its stall by slowing the client down (coordinated omission).

By hand, against any gateway: `python -m benchmarks.client PORT KEY --rate 200`.
"""

import argparse
import asyncio
import collections
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httptools
import uvloop

from benchmarks.questions import Question, Target, fidelity, stamp_in
from benchmarks.ticker import Ticker

_GRACE_S = 4.0
_MOST_CONNECTIONS = 1024
_PORTS_PER_ADDRESS = 4000
_OPENING_AT_ONCE = 100
_FIRST_EVENTS_PER_S = 500  # what the slowest way (a TLS handshake for each stream) reaches on a slow core
_NS_PER_S = 1_000_000_000
_TURN_NS = 50_000_000  # short beside the seconds for which a shared core is fast or slow, long beside an answer


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; not a number when there is nothing."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, math.ceil(percent / 100 * len(ranked)) - 1))]


@dataclass(slots=True)
class Tally:
    """What came of a load."""

    requests: int = 0
    events: int = 0
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    latencies_ns: list[int] = field(default_factory=list)
    first_bytes_ns: list[int] = field(default_factory=list)
    delays_ns: list[int] = field(default_factory=list)
    jitters_ns: list[int] = field(default_factory=list)
    fidelity: collections.Counter[str] = field(default_factory=collections.Counter)
    started_ns: int = 0
    ended_ns: int = 0

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / max(1e-9, (self.ended_ns - self.started_ns) / _NS_PER_S)

    @property
    def failed(self) -> int:
        """Answers that were not what they should be, and those that never came."""
        return sum(self.failures.values())


class Connection(asyncio.Protocol):
    """One connection, one question at a time. `watched`: events are stamped and the body is kept."""

    def __init__(self, on_done: Callable[["Connection", str], None], number: int = 0, *, watched: bool = False) -> None:
        self._on_done = on_done
        self._watched = watched
        self._busy = False
        self._lost = False
        self.number = number
        self.question: Question

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # clients get a full transport

    def ask(self, question: Question, request: bytes, intended_ns: int = 0) -> None:
        """Send a question. Its latency counts from `intended_ns` (0: from now)."""
        self.question = question
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._tail = b""
        self._ended = False
        self._busy = True
        self.events = self.first_ns = self.done_ns = 0
        self.arrivals: list[tuple[int, int]] = []
        self.sent_ns = time.monotonic_ns()
        self.intended_ns = intended_ns or self.sent_ns
        if self._lost:
            self._done("connection lost")
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._now_ns = time.monotonic_ns()
        if not self._busy:
            self._transport.abort()  # an answer to nothing: never to be taken for the next one's
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()
            self._done("bad HTTP")

    def on_body(self, body: bytes) -> None:
        if not self.first_ns:
            self.first_ns = self._now_ns
        if not self.question.stream or self._watched:
            self._parts.append(body)
        if self.question.stream:
            self._count(body)

    def _count(self, body: bytes) -> None:
        whole, separator, self._tail = (self._tail + body).rpartition(b"\n\n")
        if not separator:
            return
        self.events += whole.count(b'"delta"')
        self._ended = whole.endswith(b"[DONE]")
        if self._watched:
            for event in whole.split(b"\n\n"):
                if b'"content":"' in event:
                    self.arrivals.append((self._now_ns, stamp_in(event)))

    def on_message_complete(self) -> None:
        self.done_ns = self._now_ns
        status = self._parser.get_status_code()
        question = self.question
        if status != 200:
            self._done(f"status {status}")
        elif not question.stream:
            self._done("wrong body" if fidelity(question, self.body) == "lost" else "")
        elif not self._ended or self._tail:
            self._done("stream without its end")
        else:
            self._done("" if self.events >= question.events else "events missing")

    @property
    def body(self) -> bytes:
        """The answer's body, as far as it was kept."""
        return b"".join(self._parts)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._lost = True
        if self._busy:
            self._done("connection lost")

    def _done(self, failure: str) -> None:
        if self._busy:
            self._busy = False
            self._on_done(self, failure)

    def close(self) -> None:
        """Give the connection up, whatever is under way."""
        self._busy = False
        self._transport.abort()


async def _connect(target: Target, connection: Connection) -> Connection:
    """Connect. Thousands of connections come from several loopback addresses: one has only so many free ports."""
    place = connection.number // _PORTS_PER_ADDRESS
    local = (f"127.0.0.{1 + place}", 0) if place else None
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: connection, target.address, target.port, local_addr=local)
    return connection


async def closed_loop(
    target: Target,
    questions: Sequence[Question],
    *,
    connections: int,
    seconds: float,
    watched: bool = False,
    rest: Callable[[Callable[[], None]], None] | None = None,
) -> Tally:
    """Ask on every connection without a pause until the time is over; running answers are waited for.

    With `rest` it asks for a moment at a time: that is called while no request is under way, at first too, and what it
    is given goes on.
    """
    tally, everything = Tally(), asyncio.Event()
    requests = [question.to(target) for question in questions]
    opened: list[Connection] = []
    resting: list[Connection] = []  # until all have ended what they were at
    open_now = connections
    paced = questions[0].stream and questions[0].gap_us

    def ask(connection: Connection) -> None:
        which = connection.number % len(questions)
        connection.ask(questions[which], requests[which])

    def on_done(connection: Connection, failure: str) -> None:
        nonlocal open_now
        _enter(tally, connection, failure, watched=watched)
        now_ns = time.monotonic_ns()
        if failure or now_ns >= until_ns:
            open_now -= 1
        elif rest is not None and now_ns >= turn_ends_ns:
            resting.append(connection)
        else:
            ask(connection)
            return
        if not open_now:
            everything.set()
        elif rest is not None and len(resting) == open_now:
            rest(go_on)

    def go_on() -> None:
        nonlocal turn_ends_ns
        turn_ends_ns = time.monotonic_ns() + _TURN_NS
        rested = resting.copy()
        resting.clear()
        for connection in rested:
            ask(connection)

    tally.started_ns = time.monotonic_ns()
    until_ns = tally.started_ns + int(seconds * _NS_PER_S)
    turn_ends_ns = 0
    for number in range(connections):
        connection = Connection(on_done, number, watched=watched)
        opened.append(await _connect(target, connection))
        if rest is None:
            ask(connection)
        else:
            resting.append(connection)
        if paced and (watched or number % 8 == 7):
            await asyncio.sleep(0.002)  # spreads the phases of the streams; and no request waits behind others
    if rest is not None:
        rest(go_on)
    longest_s = max((question.events * question.gap_us / 1e6 for question in questions if question.stream), default=0)
    await _wait(everything, max(0.0, seconds) + longest_s + _GRACE_S)
    tally.ended_ns = time.monotonic_ns()
    tally.failures["no answer in time"] += open_now - len(resting)
    for connection in opened:
        connection.close()
    return tally


async def open_loop(target: Target, question: Question, *, rate: float, seconds: float) -> Tally:
    """Ask at a constant rate. A request for which no connection is free waits, and its latency has begun."""
    tally, everything = Tally(), asyncio.Event()
    loop = asyncio.get_running_loop()
    request = question.to(target)
    idle: list[Connection] = []
    waiting: collections.deque[int] = collections.deque()
    opening: set[asyncio.Task[None]] = set()
    opened: list[Connection] = []
    total = int(rate * seconds)
    left = total

    def on_done(connection: Connection, failure: str) -> None:
        nonlocal left
        _enter(tally, connection, failure)
        left -= 1
        if not left:
            everything.set()
        if failure:
            opened.remove(connection)
            connection.close()
        elif waiting:
            connection.ask(question, request, waiting.popleft())
        else:
            idle.append(connection)

    async def add() -> None:
        with contextlib.suppress(OSError):
            connection = await _connect(target, Connection(on_done))
            opened.append(connection)
            if waiting:
                connection.ask(question, request, waiting.popleft())
            else:
                idle.append(connection)

    def due(intended_ns: int) -> None:
        if idle:
            idle.pop().ask(question, request, intended_ns)
            return
        waiting.append(intended_ns)
        if len(opened) + len(opening) < _MOST_CONNECTIONS:
            task = loop.create_task(add())
            opening.add(task)
            task.add_done_callback(opening.discard)

    await asyncio.gather(*(add() for _ in range(8)))
    ticker = Ticker(rate, total, due)
    tally.started_ns = ticker.start()
    await _wait(ticker.done, seconds + _GRACE_S)
    ticker.stop()
    await _wait(everything, _GRACE_S)
    tally.ended_ns = time.monotonic_ns()
    tally.failures["no answer in time"] += left
    for connection in opened:
        connection.close()
    return tally


class HeldStreams:
    """Many open streams, held until closed."""

    def __init__(self, target: Target, question: Question) -> None:
        self._target, self._question = target, question
        self._opened: list[Connection] = []
        self.failures: collections.Counter[str] = collections.Counter()

    async def open(self, count: int) -> None:
        """Open so many streams and return when each has had its first event or has failed."""
        request = self._question.to(self._target)
        slots = asyncio.Semaphore(_OPENING_AT_ONCE)

        async def one(number: int) -> None:
            async with slots:
                try:
                    connection = await _connect(self._target, Connection(self._on_done, number))
                except OSError as error:
                    self.failures[type(error).__name__] += 1
                    return
                self._opened.append(connection)
                connection.ask(self._question, request)

        await asyncio.gather(*(one(number) for number in range(count)))
        deadline_s = time.monotonic() + self._question.gap_us / 1e6 + _GRACE_S + count / _FIRST_EVENTS_PER_S
        while time.monotonic() < deadline_s and not all(connection.first_ns for connection in self._opened):
            await asyncio.sleep(0.1)

    def _on_done(self, connection: Connection, failure: str) -> None:  # noqa: ARG002 -- the connection's callback
        self.failures[failure or "stream ended too early"] += 1

    @property
    def flowing(self) -> int:
        """How many have had an event and are open."""
        return sum(1 for connection in self._opened if connection.first_ns and not connection.done_ns)

    def close(self) -> None:
        """Let all of them go."""
        for connection in self._opened:
            connection.close()


def _enter(tally: Tally, connection: Connection, failure: str, *, watched: bool = False) -> None:
    tally.events += connection.events
    if failure:
        tally.failures[failure] += 1
        return
    tally.requests += 1
    tally.latencies_ns.append(connection.done_ns - connection.intended_ns)
    if not watched:
        return
    tally.first_bytes_ns.append(connection.first_ns - connection.intended_ns)
    tally.fidelity[fidelity(connection.question, connection.body)] += 1
    gap_ns = connection.question.gap_us * 1000
    tally.delays_ns += [arrived - stamp for arrived, stamp in connection.arrivals if stamp]
    for (arrived, stamp), (later, later_stamp) in zip(connection.arrivals, connection.arrivals[1:], strict=False):
        # A proxy that drops unknown fields drops the stamp too: then the agreed gap stands for the real one.
        gap_in = later_stamp - stamp if stamp and later_stamp else gap_ns
        tally.jitters_ns.append(abs(later - arrived - gap_in))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def main() -> None:
    """Measure one gateway by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("key")
    parser.add_argument("--model", default="bench")
    parser.add_argument("--rate", type=float, default=0, help="requests per second, open loop; 0: closed loop")
    parser.add_argument("--connections", type=int, default=32, help="for the closed loop")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    target = Target("gateway", options.port, {"Authorization": f"Bearer {options.key}"})
    question = Question(model=options.model)
    if options.rate:
        tally = uvloop.run(open_loop(target, question, rate=options.rate, seconds=options.seconds))
    else:
        run = closed_loop(target, [question], connections=options.connections, seconds=options.seconds)
        tally = uvloop.run(run)
    marks = "  ".join(f"p{mark:g} {percentile(tally.latencies_ns, mark) / 1e6:.2f} ms" for mark in (50, 99, 99.9, 100))
    print(f"{tally.requests} answers, {tally.per_second:.0f}/s, {marks}, failures: {dict(+tally.failures) or 'none'}")


if __name__ == "__main__":
    main()
