"""What becomes of an upstream's answers: errors, large bodies, usage; and how many connections it takes."""

import asyncio
import gzip
import json
import socket
from pathlib import Path

import pytest

from luntrex_proxy.core.outcome import Ending, Tokens, UsageSource
from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import MODELS, SECRET, both_dialects, entry, serving, until, upstream
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    STREAM_BODY,
    Reply,
    Request,
    Script,
    Step,
    ask,
    chunk,
    connected,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta, chat_events, chat_usage, openai_error, stream
from tests.upstreams.certificates import Authority
from tests.upstreams.scripted import split_everywhere


async def test_a_pooled_connection_is_used_again() -> None:
    """Requests one after the other share a connection, requests at the same time do not, and all of them are kept."""
    gate = asyncio.Event()
    async with upstream_server([gate, reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        together = [asyncio.ensure_future(ask(gateway.port, post())) for _ in range(4)]
        await up.wait(4)
        assert up.connections == 4
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*together)] == [200] * 4
        for _ in range(6):
            assert (await ask(gateway.port, post())).status == 200
        assert up.connections == 4


async def test_a_connection_that_died_while_idle_is_replaced() -> None:
    """The upstream closes an idle connection: the next request goes over a new one, and is sent once."""
    async with upstream_server([reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        for how in ("close", "abort", "close"):
            assert (await ask(gateway.port, post())).status == 200
            for transport in list(up.open):
                getattr(transport, how)()
            await until(lambda: not up.open)
            await asyncio.sleep(0.02)
        assert (await ask(gateway.port, post())).status == 200
        assert up.connections == len(up.requests) == 4


async def test_a_request_is_never_sent_twice() -> None:
    """A pooled connection that dies under a request: 502, because the upstream may already work on it."""
    async with upstream_server([reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post())).status == 200
        up.script = [CLOSE]
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code) == (502, "upstream_closed")
        assert len(up.requests) == 2


