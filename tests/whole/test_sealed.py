"""Providers' keys set at run time, sealed in the database, used by a running daemon."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request

FIRST, SECOND = "provider-key-canary-one", "provider-key-canary-two"


@pytest.fixture
def sealed(servers: LoopThread) -> Iterator[Scene]:
    """A daemon that is not started: its upstream's key is a sealed secret nobody has set."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1", api_key={"sealed": "openai"})],
        "models": [model("plain", "oai")],
    }
    daemon = Daemon(servers, configuration)
    scene = Scene(daemon, scripted)
    scene.reset()
    yield scene
    daemon.remove()
    scripted.stop()


def sent_key(scene: Scene) -> str:
    """The key with which the provider is asked now."""
    scene.upstream.forget()
    assert ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request())).status == 200
    return dict(scene.upstream.exchanges[0].headers)["authorization"].removeprefix("Bearer ")


def within_seconds(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def ready_by_somebody_else(port: int) -> Iterator[None]:
    """Another daemon on this port, ready: in parallel runs that happened, and its word was taken for ours."""

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as client:
                    client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_set_used_changed_rotated_and_gone(sealed: Scene) -> None:
    """Unset: no start, one sentence. Set: used, a new one within seconds. Rotated: unchanged. Removed: no start."""
    daemon = sealed.daemon
    with pytest.raises(
        AssertionError, match="Upstream oai needs the secret openai, which is not set; run `luntrex-proxy"
    ):
        daemon.start()
    daemon.cli("secrets", "set", "openai", stdin=f"{FIRST}\n")
    daemon.start()
    assert sent_key(sealed) == FIRST
    daemon.cli("secrets", "set", "openai", stdin=SECOND)
    within_seconds(lambda: sent_key(sealed) == SECOND)
    for what in ("data-key", "wrapping-key", "data-key"):
        daemon.cli("secrets", "rotate", what)
    time.sleep(2.5)
    assert sent_key(sealed) == SECOND
    daemon.cli("secrets", "set", "openai", stdin=FIRST)
    within_seconds(lambda: sent_key(sealed) == FIRST)

    daemon.cli("secrets", "set", "openai", stdin="lx_not_a_providers")
    within_seconds(lambda: "luntrex.secrets_refused" in daemon.stderr.read_text())
    assert sent_key(sealed) == FIRST, "a secret that cannot be sent changes nothing that runs"
    daemon.cli("secrets", "set", "openai", stdin=SECOND)
    within_seconds(lambda: sent_key(sealed) == SECOND)

    listed = json.loads(daemon.cli("secrets", "list", "--json").stdout)
    assert [one["name"] for one in listed] == ["openai"]
    acts = [entry["act"] for entry in json.loads(daemon.cli("audit", "list", "--json").stdout)]
    assert acts.count("secret.set") == 5
    assert acts.count("data_key.rotated") == 2
    daemon.cli("audit", "verify")
    daemon.cli("secrets", "remove", "openai")
    time.sleep(1.5)
    assert sent_key(sealed) == SECOND
    assert daemon.stop() == 0
    with (
        ready_by_somebody_else(daemon.control_port),
        pytest.raises(AssertionError, match="needs the secret openai, which is not set"),
    ):
        daemon.start()
    said = daemon.stderr.read_text() + daemon.stdout.read_text()
    files = b"".join(path.read_bytes() for path in daemon.state.rglob("*") if path.is_file())
    for secret in (FIRST, SECOND):
        assert secret not in said
        assert secret.encode() not in files


def test_a_lost_wrapping_key_is_said_at_the_start(sealed: Scene) -> None:
    """Fails closed with a sentence; no new key hides the loss."""
    daemon = sealed.daemon
    daemon.cli("secrets", "set", "openai", stdin=FIRST)
    (daemon.state / "wrapping.key").rename(daemon.state / "kept")
    with pytest.raises(AssertionError, match="are sealed under the wrapping key file:"):
        daemon.start()
    assert not (daemon.state / "wrapping.key").exists()
    (daemon.state / "kept").rename(daemon.state / "wrapping.key")
    daemon.start()
    assert sent_key(sealed) == FIRST


def test_wrong_use(sealed: Scene) -> None:
    """One sentence each, and the secret is never in it."""
    daemon = sealed.daemon
    for arguments, stdin, status in (
        (("set", "bad name"), FIRST, 1), (("set", "a"), "", 1), (("remove", "a"), "", 1), (("seal",), "", 1),
        (("rotate", "data-key", "--lost"), "", 2), (("set",), "", 2), (("rotate", "x"), "", 2),
    ):  # fmt: skip
        done = daemon.cli("secrets", *arguments, check=False, stdin=stdin)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert FIRST not in done.stdout + done.stderr
