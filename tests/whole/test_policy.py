"""The daemon keeps requests inside the privacy policy: recording upstreams outside of it never see a byte."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import CLOSE, ScriptedUpstream
from tests.whole import calls
from tests.whole.daemon import Daemon, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request


@pytest.fixture(scope="module")
def inside(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def outside(servers: LoopThread) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(servers)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(servers: LoopThread, inside: ScriptedUpstream, outside: ScriptedUpstream) -> Iterator[Daemon]:
    there = f"{outside.url}/v1"
    configuration = {
        # Training too: that an owner has to agree to it holds whatever the configuration says.
        "policy": {"regions": ["eu", "ch"], "retention": "none", "training": "yes"},
        "upstreams": [
            upstream("inside", "openai", f"{inside.url}/v1"),
            upstream("elsewhere", "openai", there, region="us"),
            upstream("keeps", "openai", there, retention={"kind": "abuse_monitoring", "days": 1}),
            upstream("trains", "openai", there, training="yes"),
            {"name": "unknown", "dialect": "openai", "base_url": there},
        ],
        "models": [
            {
                "name": "all",
                "targets": [{"upstream": name, "model": "m", "weight": 1_000} for name in
                            ("elsewhere", "keeps", "trains", "unknown")]
                + [{"upstream": "inside", "model": "m"}],
            },
            *({"name": name, "targets": [{"upstream": name, "model": "m"}]} for name in
              ("elsewhere", "keeps", "trains", "unknown")),
        ],
    }  # fmt: skip
    with running(servers, configuration) as started:
        yield started


def chat(daemon: Daemon, model: str, **more: Any) -> Any:
    client = calls.openai_client(daemon.url, daemon.key)
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **more)


def test_nothing_leaves_the_set(daemon: Daemon, inside: ScriptedUpstream, outside: ScriptedUpstream) -> None:
    """Alone, an upstream outside means 403 with the attribute; together, all requests go inside, or fail there."""
    for model, attribute in (
        ("elsewhere", "region"), ("keeps", "retention"), ("trains", "training"), ("unknown", "region"),
    ):  # fmt: skip
        with pytest.raises(openai.PermissionDeniedError) as refused:
            chat(daemon, model)
        assert refused.value.param == attribute
    inside.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    for _ in range(5):
        assert chat(daemon, "all").choices
    with pytest.raises(openai.PermissionDeniedError):
        chat(daemon, "all", extra_headers={"x-luntrex-policy": "region=ch"})
    with pytest.raises(openai.BadRequestError):
        chat(daemon, "all", extra_headers={"x-luntrex-policy": "region=mars!"})
    inside.script = [CLOSE]
    with pytest.raises(openai.APIStatusError):
        chat(daemon, "all")
    assert (outside.connections, bytes(outside.raw)) == (0, b"")


def test_pseudonyms_outlive_a_start(daemon: Daemon, inside: ScriptedUpstream) -> None:
    """The provider sees the same text for the same person after a restart, and never the person."""
    inside.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    inside.exchanges.clear()
    chat(daemon, "all", user="ada@example.org")
    daemon.stop()
    daemon.start()
    chat(daemon, "all", user="ada@example.org")
    first, second = (exchange.body for exchange in inside.exchanges)
    assert b"ada" not in first
    assert first == second


def test_start_tells_who_is_outside(daemon: Daemon) -> None:
    """Each upstream that the default policy leaves out is named at start, with what to write."""
    said = daemon.stderr.read_text()
    for name in ("elsewhere", "keeps", "unknown"):
        assert f"Upstream {name} is outside the default privacy policy" in said
    assert "Upstream trains may train on what it is sent" in said
    assert "Upstream inside " not in said


def test_an_account_may_have_a_policy_of_its_own(
    daemon: Daemon, inside: ScriptedUpstream, outside: ScriptedUpstream
) -> None:
    """Set from the command line it holds within a second, wider or narrower; taken back, the default holds again."""
    outside.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    daemon.cli("accounts", "policy", daemon.account, "retention=none; training=never")
    wait_until(lambda: status(daemon, "elsewhere") == 200)
    assert status(daemon, "keeps") == 403
    daemon.cli("accounts", "policy", daemon.account, "region=mars; retention=none; training=never")
    wait_until(lambda: status(daemon, "elsewhere") == 403)
    assert status(daemon, "all") == 403
    listed = daemon.cli("accounts", "list").stdout
    assert "region=mars; retention=none; training=never" in listed
    inside.script = outside.script
    daemon.cli("accounts", "policy", daemon.account, "--default")
    wait_until(lambda: status(daemon, "all") == 200)
    assert status(daemon, "elsewhere") == 403
    for arguments in (("region=eu",), (), ("retention=none; training=never", "--default")):
        assert daemon.cli("accounts", "policy", daemon.account, *arguments, check=False).returncode in (1, 2)


def test_an_owner_agrees_to_training_or_it_does_not_happen(
    daemon: Daemon, outside: ScriptedUpstream, inside: ScriptedUpstream
) -> None:
    """A policy that allows it, the configuration's or the account's own, is not enough: the consent is, until the
    second in which it is withdrawn."""
    outside.script = inside.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    asked = outside.connections
    assert status(daemon, "trains") == 403
    daemon.cli("accounts", "policy", daemon.account, "region=eu; retention=none; training=yes")
    wait_until(lambda: status(daemon, "all") == 200)
    assert status(daemon, "trains") == 403
    assert outside.connections == asked
    daemon.cli("consents", "give", daemon.account, "training")
    wait_until(lambda: status(daemon, "trains") == 200)
    assert "training" in daemon.cli("consents", "list", daemon.account, "--json").stdout
    daemon.cli("accounts", "policy", daemon.account, "--default")
    wait_until(lambda: status(daemon, "elsewhere") == 403)
    assert status(daemon, "trains") == 200
    daemon.cli("consents", "withdraw", daemon.account, "training")
    wait_until(lambda: status(daemon, "trains") == 403)
    assert daemon.cli("consents", "withdraw", daemon.account, "training", check=False).returncode == 1
    assert daemon.cli("consents", "give", daemon.account, "all", check=False).returncode == 2
    assert daemon.cli("consents", "give", daemon.account, "training", "--owner", "x@y.z", check=False).returncode == 1


def status(daemon: Daemon, model: str) -> int:
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(model))).status


def wait_until(condition: Callable[[], bool]) -> None:
    """Within the second that a change may take; the verb's own end is part of it."""
    deadline = time.monotonic() + 1.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
