"""An attack on a key seen from outside: blocked, counted exactly, listed, told to a webhook once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.control.test_alerts import SECRET
from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import Daemon, free_port
from tests.whole.server import Server, wait_until
from tests.whole.test_wrong_keys import flood


@pytest.fixture
def received(servers: LoopThread) -> Iterator[tuple[int, list[Any]]]:
    """A webhook's port, and the messages that came."""
    came: list[Any] = []

    async def serve(request: web.Request) -> web.Response:
        came.append(await request.json())
        return web.Response()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/hook", serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    port = free_port()
    runner = servers.run(start())
    yield port, came
    servers.run(runner.cleanup())


def test_a_flood_becomes_rows_and_one_message(servers: LoopThread, received: tuple[int, list[Any]]) -> None:
    """130 wrong keys with one id before each of two processes: all counted, the key's and the network's alert once."""
    server, (port, came) = Server(servers), received
    daemons: list[Daemon] = []
    try:
        configuration = {
            "database": {"url": server.url()},
            "alerts": {"webhook": {"url": f"http://127.0.0.1:{port}/hook", "secret": SECRET}},
            "upstreams": [{"name": "a", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}],
        }
        daemons.append(Daemon(servers, configuration, server.admin_dsn))
        daemons[0].start()
        daemons.append(daemons[0].sibling())
        daemons[1].start()
        key_id = daemons[0].key.split("_")[1]
        wrong = f"lx_{key_id}_{'B' * 49}"
        for daemon in daemons:
            assert set(flood(daemon, [wrong] * 130)) == {401, 429}
            assert flood(daemon, [daemon.key]) == [400], "a good key is not blocked: it lacks a body only"

        def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(daemons[0].cli("attempts", "list", "--json").stdout)
            return found

        def told() -> set[str]:
            return {alert["kind"] for message in came for alert in message["data"]["alerts"]}

        wait_until(lambda: sum(row["count"] for row in listed()) == 260, 15, "all are counted")
        wait_until(lambda: told() == {"key", "network"}, 15, "both are told")
        rows = listed()
        assert {(row["key_id"], row["account"], row["network"]) for row in rows} == {(key_id, "tests", "127.0.0.0/24")}
        assert {row["code"] for row in rows} == {"invalid_api_key", "too_many_failures"}
        alerts = [(alert["kind"], alert["subject"]) for message in came for alert in message["data"]["alerts"]]
        assert sorted(alerts) == [("key", key_id), ("network", "127.0.0.0/24")]
        said = [line for daemon in daemons for line in daemon.said("luntrex.attempts")]
        assert len(said) == 2
        everything = "".join(daemon.stderr.read_text() for daemon in daemons) + json.dumps([came, rows])
        assert "BBBBBBBB" not in everything
        assert "127.0.0.1/" not in everything
        refused = daemons[0].cli("attempts", "list", "--account", "nobody", check=False)
        assert (refused.returncode, "There is no account" in refused.stderr) == (1, True)
    finally:
        for daemon in daemons:
            daemon.remove()
        server.remove()
