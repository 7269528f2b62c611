"""The load client tells the truth: it counts what came, notices what is wrong, and hides no stall."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest

from benchmarks import upstream
from benchmarks.client import HeldStreams, closed_loop, open_loop, percentile
from benchmarks.questions import Question, Target, fidelity

STREAM = Question(stream=True, events=12, gap_us=5_000, ask_usage=True)


@contextlib.asynccontextmanager
async def listening(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[Target]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield Target("direct", server.sockets[0].getsockname()[1])
    finally:
        server.close()


class Altering(upstream.Provider):
    """The pretend provider with something done to each write."""

    def __init__(self, alter: Callable[[bytes], bytes]) -> None:
        self._alter = alter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        write = transport.write
        altered = type("Altered", (), {"write": lambda _, data: write(self._alter(data))})()
        altered.is_closing = transport.is_closing
        super().connection_made(altered)


def test_percentiles_are_the_nearest_rank():
    """p50 of 1..100 is 50, p99 is 99, p99.9 and p100 the largest; of nothing there is none."""
    values = list(range(100, 0, -1))
    assert [percentile(values, mark) for mark in (50, 99, 99.9, 100)] == [50, 99, 100, 100]
    assert percentile([7], 50) == 7
    assert percentile([], 50) != percentile([], 50)


async def test_a_closed_loop_counts_requests():
    """Four connections ask again and again; each answer is checked, none fails."""
    async with listening(upstream.Provider) as target:
        tally = await closed_loop(target, [Question()], connections=4, seconds=0.1)
    assert tally.requests >= 4
    assert tally.failed == 0
    assert len(tally.latencies_ns) == tally.requests


async def test_it_asks_for_a_moment_at_a_time():
    """With `rest` nothing is asked before it says so, nothing is under way when it is called, and all goes on after."""
    asked, rests = [], []

    class Counting(upstream.Provider):
        def _answer(self, body: bytes) -> None:
            asked.append(body)
            super()._answer(body)

    def rest(go: Callable[[], None]) -> None:
        rests.append(len(asked))
        go()

    async with listening(Counting) as target:
        tally = await closed_loop(target, [Question()], connections=4, seconds=0.4, rest=rest)
    assert rests[0] == 0
    assert len(rests) > 2
    assert all(later - earlier >= 4 for earlier, later in pairwise(rests))
    assert tally.requests == len(asked) > rests[-1]
    assert tally.failed == 0


@pytest.mark.parametrize("gap_us", [0, 5_000])
async def test_watched_streams_are_whole_and_stamped(gap_us):
    """Every event arrives with its stamp and untouched, paced or as fast as it goes; delays are positive and short."""
    question = Question(stream=True, events=50, gap_us=gap_us, ask_usage=True)
    async with listening(upstream.Provider) as target:
        tally = await closed_loop(target, [question], connections=3, seconds=0, watched=True)
    assert (tally.requests, tally.failed, dict(tally.fidelity)) == (3, 0, {"bytes": 3})
    assert len(tally.delays_ns) == 150
    assert len(tally.jitters_ns) == 147
    assert all(0 < delay < 2e9 for delay in tally.delays_ns)


async def test_events_have_the_size_that_providers_send():
    """250 to 400 bytes, `usage: null` only for those who asked, the announced chunk length is the real one."""
    for asked in (False, True):
        sizes = {len(template) + 19 for template in upstream.event_templates(with_usage=asked)}
        assert min(sizes) >= 240
        assert max(sizes) <= 400
        assert all((b'"usage":null' in event) is asked for event in upstream.event_templates(with_usage=asked))


@pytest.mark.parametrize(
    ("alter", "question", "failure"),
    [
        (lambda data: data.replace(b"200 OK", b"502 No"), Question(), "status 502"),
        (lambda data: data.replace(b"x" * 400, b"y" * 400), Question(), "wrong body"),
        (lambda data: data.replace(b"HTTP/1.1", b"XTTP/1.1"), Question(), "bad HTTP"),
        (lambda data: data.replace(b'"delta"', b'"d3lta"'), STREAM, "events missing"),
        (lambda data: data.replace(b"[DONE]", b"[GONE]"), STREAM, "stream without its end"),
    ],
)
async def test_a_wrong_answer_is_a_failure(alter, question, failure):
    """A wrong status, body, framing, event count or end is counted as what it is, and not as an answer."""
    async with listening(lambda: Altering(alter)) as target:
        tally = await closed_loop(target, [question], connections=2, seconds=0)
    assert tally.requests == 0
    assert {what: count for what, count in tally.failures.items() if count} == {failure: 2}


async def test_a_rewritten_stream_is_told_from_an_untouched_one():
    """A field changed: `changed`. A text changed: `lost`. Nothing changed: `bytes`."""
    grades = {}
    for name, alter in {
        "bytes": lambda data: data,
        "changed": lambda data: data.replace(b'"fp_0123456789"', b'"fp_9876543210"'),
        "lost": lambda data: data.replace(b'" token"', b'" nekot"'),
    }.items():
        async with listening(lambda alter=alter: Altering(alter)) as target:
            tally = await closed_loop(target, [STREAM], connections=1, seconds=0, watched=True)
        grades[name] = next(iter(tally.fidelity))
    assert grades == {"bytes": "bytes", "changed": "changed", "lost": "lost"}
    assert fidelity(Question(), upstream.REPLY) == "bytes"


async def test_an_open_loop_does_not_hide_a_stall():
    """A server that stands still for 0.3 s makes every request of that time late, not only the one it held."""
    frozen_until_s = 0.0

    class Freezing(upstream.Provider):
        def data_received(self, data: bytes) -> None:
            wait_s = max(0.0, frozen_until_s - time.monotonic())
            asyncio.get_running_loop().call_later(wait_s, super().data_received, data)

    async with listening(Freezing) as target:
        frozen_until_s = time.monotonic() + 0.31  # the load begins within a few milliseconds
        tally = await open_loop(target, Question(), rate=200, seconds=0.5)
    late = [latency for latency in tally.latencies_ns if latency > 100_000_000]
    assert (tally.requests, tally.failed) == (100, 0)
    assert len(late) >= 20


async def test_an_open_loop_counts_what_was_never_answered(monkeypatch):
    """Requests without an answer are failures, not silence."""
    monkeypatch.setattr("benchmarks.client._GRACE_S", 0.2)
    async with listening(asyncio.Protocol) as target:
        tally = await open_loop(target, Question(), rate=100, seconds=0.1)
    assert tally.requests == 0
    assert tally.failures["no answer in time"] == 10


async def test_held_streams_flow_until_they_are_closed():
    """All of them have had an event and are open; afterwards none is."""
    async with listening(upstream.Provider) as target:
        streams = HeldStreams(target, Question(stream=True, events=100, gap_us=20_000))
        await streams.open(20)
        assert (streams.flowing, streams.failures.total()) == (20, 0)
        streams.close()


async def test_the_provider_reads_a_prompt_of_megabytes_in_pieces():
    """The plan of the stream is found behind 3 MiB of prompt."""
    question = Question(stream=True, events=5, gap_us=0, prompt_bytes=3 << 20)
    async with listening(upstream.Provider) as target:
        tally = await closed_loop(target, [question], connections=1, seconds=0)
    assert (tally.requests, tally.events, tally.failed) == (1, 6, 0)
