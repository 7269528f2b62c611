"""Several processes, one truth: they share a database, a state directory and a port, and need nothing else."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import Exchange, ScriptedUpstream, Step
from tests.whole.daemon import STOP_SECONDS, Daemon, free_port, model, upstream
from tests.whole.load import Load, check_totals
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request
from tests.whole.server import Server, wait_until

REPLACEMENTS = 4


@pytest.fixture
def server(servers: LoopThread) -> Iterator[Server]:
    """A database that no daemon owns."""
    made = Server(servers)
    yield made
    made.remove()


@pytest.fixture
def provider(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    """Whole answers at once, streams over one second."""
    scripted = ScriptedUpstream(servers)
    scripted.script = answer
    yield scripted
    scripted.stop()


def answer(exchange: Exchange) -> list[Step]:
    """By what was asked."""
    if json.loads(exchange.body or b"{}").get("stream") is True:
        return bodies.stream(bodies.chat_events(words=8), gap_seconds=0.1)
    return bodies.answer_by_path(exchange.path, exchange.body)


def first_of(servers: LoopThread, server: Server, provider: ScriptedUpstream, port: int = 0) -> Daemon:
    """The first process; others may listen on `port` too."""
    gateway = {"gateway": {"listen": [f"127.0.0.1:{port}"], "reuse_port": True}} if port else {}
    configuration: dict[str, Any] = gateway | {
        "database": {"url": server.url()},
        "upstreams": [upstream("oai", "openai", f"{provider.url}/v1")],
        "models": [model("plain", "oai")],
    }
    daemon = Daemon(servers, configuration, server.admin_dsn)
    daemon.port = port or daemon.port
    daemon.start()
    return daemon


def next_of(daemon: Daemon) -> Daemon:
    """One more on the same port, ready."""
    twin = daemon.sibling()
    twin.port = daemon.port
    twin.start()
    return twin


def test_a_rolling_restart_loses_nothing(servers: LoopThread, server: Server, provider: ScriptedUpstream) -> None:
    """Start a new one, SIGTERM the old one, four times, under load: every answer whole, and on record once.

    In the end one is killed: what it had promised is stored by the next that starts.
    """
    first = first_of(servers, server, provider, free_port())
    daemons = [first]
    ending: list[subprocess.Popen[bytes]] = []
    try:
        with Load(first, threads=8, pause_s=0.01, patience_s=10) as load:
            load.wait_for(20)
            for _ in range(REPLACEMENTS):
                daemons.append(next_of(first))
                old = daemons[-2].process
                assert old is not None
                old.send_signal(signal.SIGTERM)
                ending.append(old)
                load.wait_for(20)
        assert load.wrong == []
        assert [process.wait(STOP_SECONDS) for process in ending] == [0] * REPLACEMENTS
        with Load(first, threads=4, pause_s=0.0) as last:
            last.wait_for(20)
            daemons[-1].kill()
        daemons.append(next_of(first))
        completed = load.completed + last.completed
        wait_until(lambda: daemons[-1].metric("luntrex_ledger_spooled_total") == 0, 15, "the backlog drained")
        check_totals([daemons[-1]], completed, lambda holds: wait_until(holds, 15, "the ledger has everything"))
    finally:
        for daemon in reversed(daemons):
            daemon.remove()


def test_two_processes_tell_the_same(servers: LoopThread, server: Server, provider: ScriptedUpstream) -> None:
    """Both know every key, both store what they served, and each command line shows and steers all of it."""
    first = first_of(servers, server, provider)
    second = first.sibling()
    try:
        second.start()
        answers = [
            ask(daemon, post(daemon, "/v1/chat/completions", chat_request())).headers["x-request-id"]
            for daemon in (first, second, first)
        ]
        check_totals([first, second], answers, lambda holds: wait_until(holds, 15, "stored"))
        assert set(first.usage()) == set(second.usage()) == set(answers)
        made = json.loads(second.cli("keys", "create", "--account", first.account, "--name", "there", "--json").stdout)
        for daemon in (first, second):
            request = post(daemon, "/v1/chat/completions", chat_request(), key=made["key"])
            wait_until(lambda daemon=daemon, request=request: ask(daemon, request).status == 200, 2, "known everywhere")
        second.cli("upstreams", "maintenance", "oai", "on")
        second.cli("routes", "allow", "--account", first.account, "nothing")
        for daemon in (first, second):
            wait_until(lambda daemon=daemon: not daemon.checks()["no_maintenance"], 5, "followed everywhere")
            request = post(daemon, "/v1/chat/completions", chat_request())
            wait_until(lambda daemon=daemon, request=request: ask(daemon, request).status == 404, 5, "allowed nowhere")
    finally:
        second.remove()
        first.remove()
