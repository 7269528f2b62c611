"""The way of a request over the real spool: what comes in one turn of the loop is written, and told of, together."""

import asyncio
import os
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from luntrex_proxy.core.outcome import Ending, Opening, Outcome
from luntrex_proxy.gateway.http.exchange import Exchange
from luntrex_proxy.gateway.http.upstream import UpstreamConnection
from luntrex_proxy.store import spool as spool_module
from luntrex_proxy.store.spool import Spool
from tests import fakes
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.wire import (
    LAST_CHUNK,
    STREAM_BODY,
    Reply,
    ask,
    chunk,
    connected,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_events


class SpooledLedger(fakes.FakeLedger):
    """The spool, as the daemon has it; what was given to it is kept."""

    place = Path()

    def __init__(self, timeline: list[str]) -> None:
        super().__init__(timeline)
        self.spool = Spool(self.place / "spool", uuid.uuid4(), soon=self.soon)
        self.before_writing: Callable[[], object] = lambda: None
        self.is_stopped = False
        self.stopped: list[Callable[[], None]] = []

    def soon(self, then: Callable[[], None]) -> None:
        """At the end of the turn, or when the test goes on."""
        if self.is_stopped:
            self.stopped.append(then)
        else:
            asyncio.get_running_loop().call_soon(self._run, then)

    def go_on(self) -> None:
        self.is_stopped = False
        for then in self.stopped:
            self.soon(then)
        self.stopped.clear()

    def _run(self, then: Callable[[], None]) -> None:
        self.before_writing()
        then()

    def open(self, opening: Opening, then: Callable[[], None], failed: Callable[[], None]) -> None:
        """Append an opening."""
        self.spool.open(opening, then, failed)
        self.opened.append(opening)

    def settle(self, outcome: Outcome, then: Callable[[], None] | None = None) -> None:
        """Append an outcome."""
        self.settled.append(outcome)
        self.spool.settle(outcome, then)


@pytest.fixture(autouse=True)
def spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpooledLedger, "place", tmp_path)
    monkeypatch.setattr(fakes, "FakeLedger", SpooledLedger)


def ledger_of(gateway: Gateway) -> SpooledLedger:
    assert isinstance(gateway.ledger, SpooledLedger)
    return gateway.ledger


def tick(gateway: Gateway) -> None:
    """What the ticker does when its time comes."""
    gateway.ticker.now = now = asyncio.get_running_loop().time()
    for member in [member for member in gateway.ticker.members if member.deadline < now]:
        member.expire()


async def test_a_stream_that_ends_just_before_a_tick_ends_whole() -> None:
    """It has been running for longer than its silence may last, so a deadline of its client's connection has passed."""
    events = chat_events(3)
    steps = [sse_head(), *[chunk(each) for each in events[:-1]], 0.35, chunk(events[-1]), LAST_CHUNK]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts={"sse_keep_alive_s": 0.3}) as gateway,
        connected(gateway.port) as client,
    ):
        ledger = ledger_of(gateway)
        ledger.before_writing = lambda: ledger.settled and tick(gateway)
        assert DONE in (await (await client.send(post(STREAM_BODY))).reply()).body
        assert gateway.outcomes[-1].ending == Ending.COMPLETE


async def test_a_connection_that_a_request_has_taken_is_idle_no_more() -> None:
    """Its time in the pool ends just before the request is on record: it serves it all the same."""
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post())).reply()).status == 200
        (idle,) = [member for member in gateway.ticker.members if isinstance(member, UpstreamConnection)]
        idle.deadline = gateway.ticker.now - 1
        ledger_of(gateway).before_writing = partial(tick, gateway)
        assert (await (await client.send(post())).reply()).status == 200
        assert up.connections == 1


async def test_an_answer_that_cannot_be_let_go_is_not_followed_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two pipelined requests the first would be given the second's answer."""
    respond, failed = Exchange.respond, []

    def fail_once(self: Exchange, status: int, headers: bytes, body: bytes) -> None:
        if not failed:
            failed.append(status)
            raise ZeroDivisionError
        respond(self, status, headers, body)

    monkeypatch.setattr(Exchange, "respond", fail_once)
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(post() + post())
        assert await client.read(65536) == b""
        await gateway.idle()
        assert [type(bug) for bug in gateway.bugs] == [ZeroDivisionError]
        gateway.bugs.clear()
        assert (await ask(gateway.port, post())).status == 200


async def test_of_a_revoked_key_nothing_is_sent_that_waits_for_its_record() -> None:
    """Two of its requests in one turn: the end of the first writes the record of the second."""
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as one,
        connected(gateway.port) as other,
    ):
        await asyncio.gather(ask(gateway.port, post()), ask(gateway.port, post()))
        sent, ledger = len(up.raw), ledger_of(gateway)
        ledger.is_stopped = True
        for client in (one, other):
            await client.send(post())
        await until(lambda: len(ledger.opened) == 4)
        gateway.pipeline.cut_keys({"k" * 12})
        ledger.go_on()
        answers: list[Reply] = [await client.reply() for client in (one, other)]
        assert [answer.status for answer in answers] == [401, 401]
        await asyncio.sleep(0.05)  # in which nothing may come
        assert len(up.raw) == sent
        assert [(o.ending, o.usage_source) for o in gateway.outcomes[-2:]] == [(Ending.CUT, "none")] * 2
        assert ledger.spool.unsettled == 0


async def test_a_segment_that_cannot_be_looked_at_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stale mount or a failing disk says of it: records go to another one."""
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: broken.append(what["message"]))

    def refuse(_fd: int) -> None:
        raise OSError(116, "Stale file handle")

    shim: Any = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
    shim.fstat = refuse
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post())).reply()).status == 200
        spool = ledger_of(gateway).spool
        await until(lambda: not spool._syncer.dirty)
        monkeypatch.setattr(spool_module, "os", shim)
        assert (await (await client.send(post())).reply()).status == 200
        assert (spool.accepted, spool.unsettled) == (2, 0)
    assert not broken


async def test_a_disk_that_fills_up_amid_many_requests_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are refused, and each that was not has its answer and its one record."""
    failures = iter([False, True, False, False, True, True] * 1000)

    def write(fd: int, data: bytes) -> int:
        if next(failures):
            raise OSError(28, "no space")
        return os.write(fd, data)

    shim: Any = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
    shim.write = write
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        monkeypatch.setattr(spool_module, "os", shim)
        answers = await asyncio.gather(*(ask(gateway.port, post()) for _ in range(60)))
        monkeypatch.setattr(spool_module, "os", os)
        spool = ledger_of(gateway).spool
        spool.flush()
        assert spool.write_waiting()
        good = [answer for answer in answers if answer.status == 200]
        assert {answer.code for answer in answers if answer not in good} <= {"ledger_full"}
        assert len(up.requests) == len(good)
        assert spool.unsettled == 0
        assert spool.accepted + spool.unrecorded == len(gateway.outcomes) == 60
        assert spool.accepted >= len(good)
