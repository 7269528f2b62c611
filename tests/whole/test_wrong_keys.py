"""Wrong keys before a daemon with its defaults: the pause, the security log with exact counts, good keys untouched."""

import http.client
import json
import re
import time
from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole import calls
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request

WRONG = 400


@pytest.fixture(scope="module")
def attacked(servers: LoopThread) -> Iterator[Scene]:
    """A daemon with default limits."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    with running(servers, configuration) as daemon:
        scene = Scene(daemon, scripted)
        scene.reset()
        yield scene
    scripted.stop()


def flood(daemon: Daemon, keys: list[str]) -> list[int]:
    """The statuses of one request with each key, on one connection as long as it is kept."""
    statuses = []
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    for key in keys:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", b"", headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


def refused_lines(daemon: Daemon) -> list[dict[str, object]]:
    """The security log so far."""
    lines = [json.loads(line) for line in daemon.stderr.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "luntrex.keys_refused"]


def test_a_flood_of_wrong_keys_is_slowed_counted_and_felt_by_nobody(attacked: Scene) -> None:
    """Random, right-checksum, right-id and over-long keys: 401, then 429; good keys 200; log and metric exact."""
    daemon = attacked.daemon
    identity = daemon.key.split("_")[1]
    kinds = ["lx_" + "A" * 62, f"lx_{identity}_" + "B" * 49, "lx_" + "C" * 30_000, "sk-test", daemon.key[:-1] + "#"]
    keys = [kinds[n % len(kinds)] for n in range(WRONG)]
    statuses = flood(daemon, keys)
    assert set(statuses[:20]) == {401}
    assert set(statuses[25:]) == {429}
    assert attacked.upstream.exchanges == []
    good = ask(daemon, post(daemon, "/v1/chat/completions", chat_request()))
    assert good.status == 200

    deadline = time.monotonic() + 25
    while sum(int(str(line["count"])) for line in refused_lines(daemon)) < WRONG and time.monotonic() < deadline:
        time.sleep(0.2)
    lines = refused_lines(daemon)
    assert sum(int(str(line["count"])) for line in lines) == WRONG
    assert {line["network"] for line in lines} == {"127.0.0.0/24"}
    assert len(lines) <= 12
    denied = sum(daemon.metric(f'luntrex_denied_total{{reason="{code}"}}') for code in (
        "invalid_api_key", "provider_api_key", "too_many_failures"))  # fmt: skip
    assert denied == WRONG
    everything = daemon.stderr.read_text()
    for key in kinds:
        assert key[:40] not in everything
    assert not re.search(r"127\.0\.0\.1\D", "".join(map(json.dumps, lines)))


def test_the_sdks_make_sense_of_it(attacked: Scene) -> None:
    """While the network waits: RateLimitError in both SDKs for a wrong key, and a good key answers."""
    flood(attacked.daemon, ["lx_wrong"] * 25)
    client = calls.openai_client(attacked.daemon.url, "lx_wrong")
    with pytest.raises(openai.RateLimitError) as refused:
        client.models.list()
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    with pytest.raises(anthropic.RateLimitError, match="Too many wrong API keys"):
        calls.anthropic_client(attacked.daemon.url, "lx_wrong").models.list()
    assert [one.id for one in attacked.openai().models.list()] == ["plain"]
