"""HTTPS upstreams: the certificate and its name are verified, and an own CA file is all that is trusted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstreams import bodies
from tests.upstreams.certificates import Authority
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole import calls
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request


@pytest.fixture(scope="module")
def good(servers: LoopThread, authority: Authority) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers, authority.server_context("localhost", "127.0.0.1"))
    server.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def misnamed(servers: LoopThread, authority: Authority) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers, authority.server_context("elsewhere.invalid"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def no_tls(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority(tmp_path_factory.mktemp("other-ca")).ca_file


@pytest.fixture(scope="module")
def daemon(
    servers: LoopThread,
    good: ScriptedUpstream,
    misnamed: ScriptedUpstream,
    no_tls: ScriptedUpstream,
    authority: Authority,
    other_ca: Path,
) -> Iterator[Daemon]:
    ca = str(authority.ca_file)
    configuration = {
        "upstreams": [
            upstream("good", "openai", f"https://localhost:{good.port}/v1", ca_file=ca),
            upstream("by-address", "openai", f"https://127.0.0.1:{good.port}/v1", ca_file=ca),
            upstream("misnamed", "openai", f"https://localhost:{misnamed.port}/v1", ca_file=ca),
            upstream("other-ca", "openai", f"https://localhost:{good.port}/v1", ca_file=str(other_ca)),
            upstream("system-ca", "openai", f"https://localhost:{good.port}/v1"),
            upstream(
                "plain-port", "openai", f"https://localhost:{no_tls.port}/v1", ca_file=ca, timeouts={"connect_s": 1}
            ),
        ],
        "models": [
            model(name, name) for name in ("good", "by-address", "misnamed", "other-ca", "system-ca", "plain-port")
        ],
    }
    with running(servers, configuration) as started:
        yield started


@pytest.mark.parametrize("name", ["good", "by-address"])
async def test_a_verified_upstream_serves(daemon: Daemon, name: str) -> None:
    """JSON and streams work over TLS with an own CA, by name and by address."""
    client = calls.openai_client(daemon.url, daemon.key)
    whole, streamed = await calls.chat(client, name), await calls.chat_stream_usage(client, name)
    assert whole.text == "Hello there"
    assert streamed.text == "word0 word1 word2 "
    assert daemon.row(streamed.request_id)["upstream"] == name


@pytest.mark.parametrize("name", ["misnamed", "other-ca", "system-ca", "plain-port"])
def test_an_unverified_upstream_is_never_spoken_to(
    daemon: Daemon, misnamed: ScriptedUpstream, good: ScriptedUpstream, name: str
) -> None:
    """A wrong name, an unknown authority or no TLS at all is 502, and the request never leaves the gateway."""
    before = len(good.exchanges) + len(misnamed.exchanges)
    answer = ask(daemon, post(daemon, "/v1/chat/completions", chat_request(name)))
    assert answer.status == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert len(good.exchanges) + len(misnamed.exchanges) == before
