"""Routing as an operator sees and steers it while a daemon runs: maintenance, `routes explain`, `requests show`."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import PROVIDER_SECRET, Daemon, get, running, upstream
from tests.whole.raw import Reply, ask, post
from tests.whole.scene import chat_request

WITHIN_S = 5.0


@pytest.fixture(scope="module")
def daemon(servers: LoopThread) -> Iterator[Daemon]:
    """A model with a target in the EU and one elsewhere, and one outside of every policy."""
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    url = f"{scripted.url}/v1"
    configuration = {
        "upstreams": [
            upstream("here", "openai", url), upstream("there", "openai", url, region="us"),
            upstream("loud", "openai", url, training="yes"),
            upstream("probed", "openai", url, probe={"every_s": 0.5, "timeout_s": 0.4}),
        ],
        "models": [
            {"name": "plain", "targets": [{"upstream": n, "model": "plain"} for n in ("here", "there", "loud")]}
        ],
    }  # fmt: skip
    with running(servers, configuration) as started:
        probe = scripted.wait()  # nobody has asked for anything
        assert (probe.method, probe.path, probe.body) == ("GET", "/v1/models", b"")
        assert probe.header("authorization") == f"Bearer {PROVIDER_SECRET}"
        assert started.metric("luntrex_upstream_probe") == 1
        yield started
    scripted.stop()


def asked(daemon: Daemon, *headers: str) -> Reply:
    """One request."""
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), *headers))


def explained(daemon: Daemon, *options: str) -> dict[str, Any]:
    """What the verb says."""
    arguments = ("routes", "explain", "--account", daemon.account, "--model", "plain", "--json", *options)
    said: dict[str, Any] = json.loads(daemon.cli(*arguments, check=False).stdout)
    return said


def shown(daemon: Daemon, reply: Reply) -> dict[str, Any]:
    """The record of a request, as the verb shows it, once it is stored."""
    request_id = reply.headers["x-request-id"]
    daemon.row(request_id)
    found: dict[str, Any] = json.loads(daemon.cli("requests", "show", request_id, "--json").stdout)
    return found


def test_maintenance_reaches_a_running_daemon(daemon: Daemon) -> None:
    """New requests go elsewhere within a second or two, /readyz and metrics tell it, explain says why; and back."""
    assert daemon.checks()["no_maintenance"]
    assert {each["upstream"]: each["standing"] for each in explained(daemon)["targets"]}["here"] == "ready"
    daemon.cli("upstreams", "maintenance", "here", "on", "--reason", "disks")
    deadline = time.monotonic() + WITHIN_S
    while daemon.checks()["no_maintenance"]:
        assert time.monotonic() < deadline, "the daemon did not notice"
        time.sleep(0.05)
    assert get(daemon.control_port, "/readyz")[0] == 200
    assert daemon.metric("luntrex_upstream_maintenance") == 1
    found = [shown(daemon, asked(daemon)) for _ in range(3)]
    assert {each["upstream"] for each in found} == {"there"}
    reasons = {each["upstream"]: each["code"] for each in found[0]["timeline"] if each["station"] == "route"}
    assert reasons == {"here": "maintenance", "loud": "training"}
    said = explained(daemon)
    assert said["health_of"] == f"127.0.0.1:{daemon.control_port}"
    assert next((each["upstream"], each["asked"]) for each in said["targets"]) == ("there", True)
    assert {each["upstream"]: each["reason"] for each in said["targets"] if not each["asked"]} == reasons
    refused = asked(daemon, "x-luntrex-policy: region=eu")
    assert (refused.status, refused.json()["error"]["code"]) == (503, "upstream_maintenance")
    assert refused.headers["retry-after"] == "30"
    assert explained(daemon, "--region", "eu")["code"] == "upstream_maintenance"
    listed = {each["name"]: each for each in json.loads(daemon.cli("upstreams", "list", "--json").stdout)}
    assert (listed["here"]["standing"], listed["here"]["maintenance"]["reason"]) == ("maintenance", "disks")
    assert listed["there"]["in_flight"] == 0
    daemon.cli("upstreams", "maintenance", "here", "off")
    deadline = time.monotonic() + WITHIN_S
    while asked(daemon, "x-luntrex-policy: region=eu").status != 200:
        assert time.monotonic() < deadline, "the maintenance does not end"
        time.sleep(0.05)


def test_a_request_is_shown_with_its_times(daemon: Daemon) -> None:
    """As JSON and as a table: ours, the upstream's, the rest; together as long as the request took."""
    reply = asked(daemon, "x-luntrex-policy: region=eu")
    found = shown(daemon, reply)
    assert found["request_id"] == reply.headers["x-request-id"]
    stations = [each["station"] for each in found["timeline"] if each["start_us"] is not None]
    assert stations[0] == "gateway"
    assert stations[-2:] == ["forward", "relay"]
    assert sum(each["took_us"] or 0 for each in found["timeline"]) <= found["duration_us"] + 1_000
    table = daemon.cli("requests", "show", reply.headers["x-request-id"]).stdout
    assert "the policy excludes its region" in table
    assert "until the client had a byte" in table
