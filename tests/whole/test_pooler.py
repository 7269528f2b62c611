"""Behind pgbouncer in transaction mode: it works with database.direct_url, and says what is missing without."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from luntrex_proxy.settings.model import Database
from luntrex_proxy.store import accounts, limits
from luntrex_proxy.store.database import opened_pool
from luntrex_proxy.store.following import follow
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.limiting import LimitBook
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.pools import opened_pools
from tests.postgres import LOOKUP
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.load import Load, check_totals
from tests.whole.pooler import PROGRAM, Pooler
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request
from tests.whole.server import PASSWORD, Server, wait_until

PROMISED_S = 5.0
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (apt install pgbouncer)")


@pytest.fixture(scope="module")
def server(servers: LoopThread) -> Iterator[Server]:
    """One PostgreSQL for the module."""
    made = Server(servers)
    yield made
    made.remove()


@pytest.fixture
def pooler(server: Server) -> Iterator[Pooler]:
    """pgbouncer as it is installed, but for the pool mode."""
    made = Pooler(server)
    yield made
    made.stop()


@pytest.fixture
def lenient(server: Server) -> Iterator[Pooler]:
    """pgbouncer told to ignore the settings it does not know."""
    made = Pooler(server, lenient=True)
    yield made
    made.stop()


def configuration(scripted: ScriptedUpstream | None, **database: str) -> dict[str, Any]:
    """A daemon on this database."""
    url = "http://127.0.0.1:1/v1" if scripted is None else f"{scripted.url}/v1"
    return {"database": database, "upstreams": [upstream("oai", "openai", url)], "models": [model("plain", "oai")]}


def status(daemon: Daemon, key: str) -> int:
    """What a request with this key gets."""
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=key)).status


def test_two_daemons_share_a_pooler(servers: LoopThread, server: Server, pooler: Pooler) -> None:
    """Keys, revocation and ledger of two processes over the same two sessions; and the pooler may die."""
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    database = {"url": server.url(pooler.port), "direct_url": server.url()}
    try:
        with running(servers, configuration(scripted, **database), server.admin_dsn) as first:
            second = first.sibling()
            try:
                second.start()
                with Load(first) as load, Load(second) as other:
                    load.wait_for(10)
                    made = first.make_key("short")
                    for daemon in (first, second):
                        wait_until(lambda daemon=daemon: status(daemon, made["key"]) == 200, 2, "the new key works")
                    first.cli("keys", "revoke", made["id"])
                    for daemon in (first, second):
                        wait_until(lambda daemon=daemon: status(daemon, made["key"]) == 401, 1, "the key is refused")
                    other.wait_for(10)
                    assert not first.said("luntrex.ledger_stalled") + second.said("luntrex.ledger_stalled")
                    pooler.kill()
                    wait_until(lambda: not first.checks()["storing"], 15, "the dead pooler is noticed")
                    assert first.checks()["database"]
                    pooler.start()
                assert load.wrong + other.wrong == []
                completed = load.completed + other.completed
                check_totals([first, second], completed, lambda holds: wait_until(holds, 15, "the backlog drained"))
            finally:
                second.remove()
    finally:
        scripted.stop()


@pytest.mark.parametrize("kind", ["pooler", "lenient"])
def test_without_a_direct_url_it_says_what_is_missing(
    servers: LoopThread, server: Server, kind: str, request: pytest.FixtureRequest
) -> None:
    """Exit status 1 and one sentence that names the setting, whether pgbouncer refuses at once or only loses LISTEN."""
    pooler = request.getfixturevalue(kind)
    daemon = Daemon(servers, configuration(None, url=server.url(pooler.port)))
    try:
        assert daemon.spawn().wait(40) == 1
        said = daemon.stderr.read_text().strip()
        assert "connection pooler" in said
        assert "set database.direct_url" in said
        assert "\n" not in said
        assert PASSWORD not in said
    finally:
        daemon.remove()


def test_a_direct_url_to_elsewhere_is_refused(servers: LoopThread, server: Server) -> None:
    """A database where no revocation would ever be heard, though it answers."""
    server.sql("CREATE DATABASE elsewhere OWNER app")
    other = server.url().replace("/luntrex", "/elsewhere")
    daemon = Daemon(servers, configuration(None, url=server.url(), direct_url=other))
    try:
        assert daemon.spawn().wait(40) == 1
        assert "is not heard at database.direct_url" in daemon.stderr.read_text()
        assert (
            server.sql("SELECT count(*) AS n FROM pg_class WHERE relname = 'api_key'", database="elsewhere")[0]["n"]
            == 0
        )
    finally:
        daemon.remove()


async def test_a_limit_is_known_when_every_connection_falls_silent(
    servers: LoopThread, server: Server, pooler: Pooler
) -> None:
    """That which listens, and reads limits as well: the parts of a daemon, alone."""
    database = Database.model_validate({"url": server.url(pooler.port), "direct_url": server.url()})
    async with contextlib.AsyncExitStack() as stack:
        pools = await opened_pools(stack, server.url(pooler.port), database)
        await migrate(pools.direct)
        admin = await stack.enter_async_context(opened_pool(server.admin_dsn))
        account = await accounts.create(admin, "limited")
        book = LimitBook(pools.direct)
        ring = KeyRing(LOOKUP, books=[book])
        await ring.load(pools.direct)
        following = asyncio.ensure_future(follow(ring, pools.direct_dsn, pools.expire))
        try:
            for streams in (1, 2):
                heard_at = ring.contact
                while ring.contact == heard_at:
                    await asyncio.sleep(0.01)
                assert await asyncio.to_thread(server.proxy.forget) >= 1
                began_s = time.monotonic()
                await limits.of_account(admin, "limited", "", {"streams": streams})
                while book.limits.terms.get(account.account_id) != {"": {"streams": streams}}:
                    assert time.monotonic() - began_s < PROMISED_S, streams
                    await asyncio.sleep(0.01)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
