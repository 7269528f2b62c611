"""The doors as an operator opens them: sockets passed by a service manager, two processes on one port, Unix."""

import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.upstreams.bodies import answer_by_path
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request

# What systemd does between fork and exec: sockets from 3 on, and the three variables.
PASSING = """
import os, sys
for place, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, 3 + place, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "gateway:control"}
os.execv(sys.executable, [sys.executable, "-m", "luntrex_proxy", "serve", "--config", sys.argv[2]])
"""


@pytest.fixture(scope="module")
def served(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers)
    server.script = lambda exchange: answer_by_path(exchange.path, exchange.body)
    yield server
    server.stop()


def configuration(served: ScriptedUpstream) -> dict[str, object]:
    return {"upstreams": [upstream("a", "openai", f"{served.url}/v1")], "models": [model("plain", "a")]}


def start_with_sockets(daemon: Daemon, sockets: list[socket.socket]) -> None:
    """Start the daemon as a service manager with two sockets does."""
    with daemon.stdout.open("ab") as out, daemon.stderr.open("ab") as err:
        high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 50) for one in sockets]  # clear of 3 and 4
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", PASSING, ",".join(map(str, high)), str(daemon.config)],
            cwd=daemon.directory, env=daemon.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            pass_fds=high,
        )  # fmt: skip
    for fd in high:
        os.close(fd)
    daemon._wait_ready()


def test_passed_sockets_survive_a_restart(servers: LoopThread, served: ScriptedUpstream) -> None:
    """Requests made while no process runs wait in the socket and are answered by the next one: none is refused."""
    with running(servers, configuration(served)) as daemon:
        daemon.stop()
        listening = [socket.create_server(("127.0.0.1", port)) for port in (daemon.port, daemon.control_port)]
        changed = yaml.safe_load(daemon.config.read_text())
        changed["gateway"]["listen"], changed["control"]["listen"] = ["systemd:gateway"], ["systemd:control"]
        daemon.config.write_text(yaml.safe_dump(changed))
        request = post(daemon, "/v1/chat/completions", chat_request())
        start_with_sockets(daemon, listening)
        assert ask(daemon, request).status == 200
        assert daemon.stop() == 0
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as waiting:
            waiting.sendall(request)
            start_with_sockets(daemon, listening)
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
        assert daemon.stop() == 0
        for one in listening:
            one.close()


def test_without_passed_sockets_it_says_what_to_do(servers: LoopThread, served: ScriptedUpstream) -> None:
    """One sentence and exit status 1."""
    with running(servers, configuration(served)) as daemon:
        daemon.stop()
        changed = yaml.safe_load(daemon.config.read_text())
        changed["gateway"]["listen"] = ["systemd"]
        daemon.config.write_text(yaml.safe_dump(changed))
        done = daemon.cli("serve", check=False)
        assert done.returncode == 1
        assert "systemd passed no such socket" in done.stderr
        changed["gateway"] = {"tls": {"cert_file": "/nowhere/c.pem", "key_file": "/nowhere/k.pem"}}
        daemon.config.write_text(yaml.safe_dump(changed))
        done = daemon.cli("serve", check=False)
        assert done.returncode == 1
        assert "The TLS file /nowhere/c.pem cannot be read: No such file or directory." in done.stderr


def test_two_processes_share_a_port(servers: LoopThread, served: ScriptedUpstream) -> None:
    """With reuse_port both get requests; without it the second start is refused with what to do."""
    with running(servers, configuration(served)) as one:
        one.stop()
        shared = yaml.safe_load(one.config.read_text())
        shared["gateway"]["reuse_port"] = True
        one.config.write_text(yaml.safe_dump(shared))
        one.start()
        with running(servers, configuration(served)) as two:
            two.stop()
            changed = yaml.safe_load(two.config.read_text())
            changed["gateway"]["listen"] = [f"127.0.0.1:{one.port}"]
            two.config.write_text(yaml.safe_dump(changed))
            done = two.cli("serve", check=False)
            assert done.returncode == 1
            assert "gateway.reuse_port" in done.stderr
            changed["gateway"]["reuse_port"] = True
            two.config.write_text(yaml.safe_dump(changed))
            two.start()
            for _ in range(60):
                connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
                connection.request("GET", "/livez")
                assert connection.getresponse().status == 200
                connection.close()
            # Each key is known to the process of its own database: 200 and 401 say who answered (more 401 are 429).
            answered = {ask(one, post(one, "/v1/chat/completions", chat_request())).status for _ in range(20)}
            assert answered == {200, 401}


def test_a_sidecar_on_unix_sockets(servers: LoopThread, served: ScriptedUpstream) -> None:
    """Both planes on sockets with their modes; no TCP port; files gone at the end."""
    with running(servers, configuration(served)) as daemon:
        daemon.stop()
        changed = yaml.safe_load(daemon.config.read_text())
        gateway = daemon.directory / "g.sock"
        changed["gateway"] = {"listen": [f"unix:{gateway}"], "unix_mode": "0600"}
        daemon.config.write_text(yaml.safe_dump(changed))
        daemon.start()
        assert gateway.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(gateway))
            client.sendall(post(daemon, "/v1/chat/completions", chat_request()))
            received = b""
            while data := client.recv(65536):
                received += data
        assert json.loads(received.partition(b"\r\n\r\n")[2])["choices"]
        assert daemon.stop() == 0
        assert not gateway.exists()
