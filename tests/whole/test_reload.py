"""SIGHUP while requests run: all of the new configuration or none of it, and nobody notices."""

import asyncio
import json
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from luntrex_proxy.settings.listeners import TlsFiles
from tests.gateway.doors import Certificates
from tests.upstreams.bodies import answer_by_path
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, free_port, model, running, upstream
from tests.whole.raw import Reply, ask, post
from tests.whole.scene import chat_request
from tests.whole.server import wait_until

BROKEN = [
    "gateway: [",
    "gateway: {limits: {body_bytes: lots}}",
    "upstreams: []",
    "upstreams: [{name: x, dialect: openai, base_url: 'https://h/v1', ca_file: /nowhere}]",
    "gateway: {tls: {cert_file: /nowhere, key_file: /nowhere}}",
    "",
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def served(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers)
    server.script = lambda exchange: answer_by_path(exchange.path, exchange.body)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(servers: LoopThread, served: ScriptedUpstream) -> Iterator[Daemon]:
    configuration = {"upstreams": [upstream("a", "openai", f"{served.url}/v1")], "models": [model("plain", "a")]}
    with running(servers, configuration) as started:
        yield started


def configured(daemon: Daemon) -> dict[str, Any]:
    """The configuration as it is now."""
    read: dict[str, Any] = yaml.safe_load(daemon.config.read_text())
    return read


def reload(daemon: Daemon, configuration: dict[str, Any] | str) -> dict[str, Any]:
    """Write, signal, and wait for the line that says what became of it."""
    before = daemon.stderr.stat().st_size
    daemon.config.write_text(configuration if isinstance(configuration, str) else yaml.safe_dump(configuration))
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with daemon.stderr.open("rb") as log:
            log.seek(before)
            for line in log.read().split(b"\n")[:-1]:  # request lines come all the time, and the last may be half there
                if b'"event":"luntrex.reload' in line:
                    said: dict[str, Any] = json.loads(line)
                    return said
        time.sleep(0.01)
    raise AssertionError("nothing was said about the reload")


def status(daemon: Daemon, name: str = "plain") -> int:
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(name))).status


def test_models_limits_and_timeouts_change_the_rest_is_named(daemon: Daemon) -> None:
    """A new model answers, a lower body limit refuses, and what needs a restart is said by its key."""
    good = configured(daemon)
    changed = configured(daemon)
    changed["models"].append(model("added", "a"))
    changed["gateway"] |= {"limits": {"header_bytes": 300}, "trusted_proxies": ["10.0.0.0/8"], "backlog": 99}
    changed["keys"] = {"max_staleness_s": 60}
    changed["prices"] = {"unknown": "zero", "service_tiers": {"priority": 200}}
    assert status(daemon, "added") == 404
    said = reload(daemon, changed)
    assert said["event"] == "luntrex.reloaded"
    assert said["hint"] == "These changes need a restart: gateway.backlog, keys.max_staleness_s."
    assert status(daemon, "added") == 200
    long = post(daemon, "/v1/chat/completions", chat_request(), "x-filler: " + "x" * 300)
    assert ask(daemon, long).status == 431
    assert reload(daemon, good)["hint"] == ""
    assert status(daemon, "added") == 404
    assert ask(daemon, long).status == 200


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_configuration_changes_nothing(daemon: Daemon, broken: str) -> None:
    """It is said, in words that name the place, and what served before serves on."""
    good = configured(daemon)
    said = reload(daemon, broken)
    assert said["event"] == "luntrex.reload_refused"
    assert status(daemon) == 200
    assert reload(daemon, good)["event"] == "luntrex.reloaded"
    assert status(daemon) == 200


def test_a_breakers_rules_change_with_a_reload_and_with_no_refused_one(daemon: Daemon, tmp_path: Path) -> None:
    """One failure opens it only once the configuration that says so is in force."""
    good = configured(daemon)
    changed = configured(daemon)
    changed["upstreams"].append(upstream("gone", "openai", f"http://127.0.0.1:{free_port()}/v1"))
    changed["models"].append(model("gone", "gone"))
    assert reload(daemon, changed)["event"] == "luntrex.reloaded"
    changed["upstreams"][-1]["health"] = {"failures": 1, "open_s": 60}
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    refused = changed | {
        "upstreams": [*changed["upstreams"], upstream("junk", "openai", "https://h.test/v1") | {"ca_file": str(junk)}]
    }
    assert reload(daemon, refused)["event"] == "luntrex.reload_refused"
    assert [status(daemon, "gone") for _ in range(2)] == [502, 502]
    assert reload(daemon, changed)["event"] == "luntrex.reloaded"
    assert [status(daemon, "gone") for _ in range(2)] == [502, 503]
    assert reload(daemon, good)["event"] == "luntrex.reloaded"


def test_an_accounts_own_target_that_the_configuration_loses_is_said(daemon: Daemon, served: ScriptedUpstream) -> None:
    """Nobody else serves the account in its place, and one line names the upstream that is gone."""
    good = configured(daemon)
    changed = configured(daemon)
    changed["upstreams"].append(upstream("lost", "openai", f"{served.url}/v1"))
    assert reload(daemon, changed)["event"] == "luntrex.reloaded"
    daemon.cli("routes", "set", "--account", daemon.account, "--model", "plain", "lost/theirs")
    wait_until(lambda: status(daemon) == 200 and b"theirs" in served.exchanges[-1].body, 5, "its own target serves it")
    assert not daemon.said("luntrex.own_target_lost")
    assert reload(daemon, good)["event"] == "luntrex.reloaded"
    assert [(line["upstream"], line["level"]) for line in daemon.said("luntrex.own_target_lost")] == [
        ("lost", "warning")
    ]
    wait_until(lambda: status(daemon) == 503, 5, "the account's own target is gone")
    daemon.cli("routes", "clear", "--account", daemon.account, "--model", "plain")
    wait_until(lambda: status(daemon) == 200, 5, "the configuration's targets serve it again")


async def test_reloads_under_load_fail_no_request(daemon: Daemon, served: ScriptedUpstream) -> None:
    """Two hundred reloads, every third of a broken file, while six clients ask without pause: every answer is good."""
    good = configured(daemon)
    other = configured(daemon)
    other["upstreams"].append(upstream("b", "openai", f"{served.url}/v1"))
    other["models"] = [model("plain", "b"), model("x", "a")]
    done = asyncio.Event()
    statuses: list[int] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        stream = number % 2 == 0
        request = post(daemon, "/v1/chat/completions", chat_request(stream=stream)).replace(
            b"Connection: close\r\n", b""
        )
        while not done.is_set():
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            reply = Reply(head)
            statuses.append(reply.status)
            if "content-length" in reply.headers:
                await reader.readexactly(int(reply.headers["content-length"]))
            else:
                whole = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
                assert b"[DONE]" in whole
            await asyncio.sleep(0.002)
        writer.close()

    clients = [asyncio.ensure_future(client(number)) for number in range(6)]
    said = []
    for turn in range(200):
        configuration = (good, other, BROKEN[turn % 3])[turn % 3]
        said.append((await asyncio.to_thread(reload, daemon, configuration))["event"])
    done.set()
    await asyncio.gather(*clients)
    await asyncio.to_thread(reload, daemon, good)
    assert said.count("luntrex.reload_refused") == 66
    assert set(statuses) == {200}
    assert len(statuses) > 200


def common_name(port: int, context: ssl.SSLContext) -> str:
    """The name in the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert secured.recv(100).startswith(b"HTTP/1.1 200")
        return dict(part[0] for part in secured.getpeercert()["subject"])["commonName"]


def test_certificates_are_read_again(servers: LoopThread, served: ScriptedUpstream, certificates: Certificates) -> None:
    """Both planes show the new pair after SIGHUP; a half-replaced pair is refused and the old one stays."""
    files = certificates.issue("pair", "one")
    tls = {"cert_file": str(files.cert_file), "key_file": str(files.key_file)}
    port, control = free_port(), free_port()
    configuration = {
        "gateway": {"listen": [f"127.0.0.1:{port}"], "tls": tls},
        "upstreams": [upstream("a", "openai", f"{served.url}/v1")],
        "models": [model("plain", "a")],
    }
    with running(servers, configuration) as daemon:
        changed = configured(daemon)
        context = certificates.client()
        assert common_name(port, context) == "one"
        certificates.issue("pair", "two")
        assert reload(daemon, changed)["event"] == "luntrex.reloaded"
        assert common_name(port, context) == "two"
        _break(files)
        said = reload(daemon, changed)
        assert said["event"] == "luntrex.reload_refused"
        assert "must belong to the certificate" in said["hint"][0]
        assert common_name(port, context) == "two"
        certificates.issue("pair", "three")
        assert reload(daemon, changed)["event"] == "luntrex.reloaded"
        assert common_name(port, context) == "three"
        changed["control"] = {"listen": [f"127.0.0.1:{control}"], "tls": tls}
        assert "control.tls" in reload(daemon, changed)["hint"]


def _break(files: TlsFiles) -> None:
    """A renewal that was interrupted between the two files."""
    files.key_file.write_text(files.key_file.with_name("ca.key").read_text())
