"""Several daemons on one database, keys made beside them, and how long a change takes to reach every one of them."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from luntrex_proxy.store import accounts, apikeys, limits
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool, open_pool
from luntrex_proxy.store.pepper import load_pepper, open_lookup
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import Exchange, ScriptedUpstream, Step, chunk, sse_head
from tests.whole.daemon import Daemon, model, unique, upstream
from tests.whole.raw import RawClient, ask, post
from tests.whole.scene import chat_request
from tests.whole.server import Server

_LONG_S, _EVENT_S = 60, 0.05


class Fleet:
    """`count` daemons on a server of their own, an account per change, and a provider whose streams never end."""

    def __init__(self, servers: LoopThread, count: int, **more: Any) -> None:
        self.server = Server(servers)
        self.upstream = ScriptedUpstream(servers)
        self.upstream.script = answer
        self._servers = servers
        configuration = {
            "database": {"url": self.server.url()},
            "upstreams": [
                upstream("oai", "openai", f"{self.upstream.url}/v1"),
                upstream("ant", "anthropic", f"{self.upstream.url}/v1"),
            ],
            "models": [model("plain", "oai")],
        }
        self.daemons = [Daemon(servers, configuration | more, self.server.admin_dsn)]
        self.daemons[0].start()
        for _ in range(count - 1):
            self.daemons.append(self.daemons[0].sibling())
            self.daemons[-1].start()
        self.pool: Pool = servers.run(open_pool(self.server.admin_dsn))
        self.lookup = servers.run(open_lookup(self.pool, load_pepper(self.daemons[0].state)))

    def make_key(self) -> tuple[str, NewKey]:
        """A key in an account of its own (its name), once every daemon knows it."""
        account = unique("acct")

        async def make() -> NewKey:
            await accounts.create(self.pool, account)
            return await apikeys.create(self.pool, self.lookup, account, "k", bcrypt_cost=4)

        made = self._servers.run(make())
        deadline = time.monotonic() + 10
        for daemon in self.daemons:
            while status(daemon, made.key) != 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return account, made

    def revoke(self, account: str, made: NewKey) -> None:
        """Returns after the commit."""
        self._again(lambda: apikeys.revoke(self.pool, made.info.key_id))

    def suspend(self, account: str, made: NewKey) -> None:
        """Returns after the commit."""
        self._again(lambda: accounts.suspend(self.pool, account))

    def suspend_key(self, account: str, made: NewKey) -> None:
        """Returns after the commit."""
        self._again(lambda: apikeys.suspend(self.pool, made.info.key_id))

    def forbid(self, account: str, made: NewKey) -> None:
        """A policy no upstream here fits. Returns after the commit."""
        self._again(lambda: accounts.set_policy(self.pool, account, "region=us; retention=none; training=never"))

    def limit(self, account: str, made: NewKey) -> None:
        """One request a day. Returns after the commit."""
        self._again(lambda: limits.of_account(self.pool, account, "", {"requests/day": 1}))

    def _again(self, change: Callable[[], Any]) -> None:
        """Our own pool may have lost its connections to the fault."""
        try:
            self._servers.run(change())
        except Exception:
            self._servers.run(change())

    def listeners(self) -> list[int]:
        """The process ids of the sessions that listen."""
        found = self.server.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'luntrex-proxy keyring%'")
        return [row["pid"] for row in found]

    def remove(self) -> None:
        """End everything."""
        for daemon in self.daemons:
            daemon.kill()
        self._servers.run(self.pool.close())
        for daemon in reversed(self.daemons):
            daemon.remove()
        self.server.remove()
        self.upstream.stop()


class Watch:
    """One daemon and one key: a stream that runs, and a request again and again; when each was refused."""

    def __init__(self, daemon: Daemon, key: str) -> None:
        self.daemon, self.key = daemon, key
        self.cut_at = self.refused_at = 0.0
        self.ending = b""
        self._running = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._read, self._poll)]
        for thread in self._threads:
            thread.start()
        assert self._running.wait(10)

    def _read(self) -> None:
        with RawClient(self.daemon.port, _LONG_S) as client:
            client.send(post(self.daemon, "/v1/chat/completions", chat_request(stream=True), key=self.key))
            client.read_until(b"word0")
            self._running.set()
            self.ending = client.read_all()[-400:]
            self.cut_at = time.monotonic()

    def _poll(self) -> None:
        self._running.wait(10)
        deadline = time.monotonic() + _LONG_S
        while time.monotonic() < deadline:
            if status(self.daemon, self.key) != 200:
                self.refused_at = time.monotonic()
                return
            time.sleep(0.02)

    def wait(self) -> None:
        """Until both were refused."""
        for thread in self._threads:
            thread.join(_LONG_S + 10)
        assert self.refused_at, "the key is never refused"


def answer(exchange: Exchange) -> list[Step]:
    """A whole answer, or a stream that goes on for a minute."""
    if json.loads(exchange.body or b"{}").get("stream") is not True:
        return bodies.answer_by_path(exchange.path, exchange.body)
    words = (chunk(bodies.chat_delta(f"word{number} ")) for number in range(int(_LONG_S / _EVENT_S)))
    return [sse_head(), *(step for word in words for step in (word, _EVENT_S))]


def status(daemon: Daemon, key: str) -> int:
    """What a request with this key gets."""
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=key)).status


def refused_s(
    fleet: Fleet, change: Callable[[str, NewKey], None], before: Callable[[], object] = lambda: None
) -> float:
    """As `spread_s`, for changes that let running streams end."""
    account, made = fleet.make_key()
    before()
    change(account, made)
    changed_at = time.monotonic()
    for daemon in fleet.daemons:
        while status(daemon, made.key) == 200:
            assert time.monotonic() - changed_at < _LONG_S, "the change never arrives"
            time.sleep(0.02)
    return time.monotonic() - changed_at


def spread_s(fleet: Fleet, change: Callable[[str, NewKey], None], before: Callable[[], object] = lambda: None) -> float:
    """Seconds from the commit of a change until the last daemon refused the key and had cut its stream."""
    account, made = fleet.make_key()
    watches = [Watch(daemon, made.key) for daemon in fleet.daemons]
    before()
    change(account, made)
    changed_at = time.monotonic()
    for watch in watches:
        watch.wait()
        assert b'"error"' in watch.ending
        assert b"[DONE]" not in watch.ending
    return max(max(watch.cut_at, watch.refused_at) for watch in watches) - changed_at
