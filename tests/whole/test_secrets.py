"""The pepper replaced under a daemon, lost and survived; and what `doctor` says in each state."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request
from tests.whole.test_keys import wait_for


@pytest.fixture
def own(servers: LoopThread) -> Iterator[Scene]:
    """A daemon of the test's own."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "gateway": {"limits": {"key_failures_per_minute": None}},
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    with running(servers, configuration) as daemon:
        scene = Scene(daemon, scripted)
        scene.reset()
        yield scene
    scripted.stop()


def works(scene: Scene, key: str) -> bool:
    return ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), key=key)).status == 200


def state(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scene.daemon.cli("secrets", "status", "--json").stdout)
    return found


def doctor(scene: Scene) -> dict[str, dict[str, str]]:
    done = scene.daemon.cli("doctor", "--json", check=False)
    findings = json.loads(done.stdout)
    assert done.returncode == any(finding["level"] == "bad" for finding in findings)
    return {finding["what"]: finding for finding in findings}


def test_a_rotation_without_a_flag_day(own: Scene) -> None:
    """Rotate, restart, use, finish: a used key moves without bcrypt, an unused one is proven later; both work."""
    daemon = own.daemon
    idle = daemon.make_key("idle")
    wait_for(own, idle["key"], 200)
    assert doctor(own)["pepper"]["level"] == "good"
    daemon.cli("secrets", "rotate", "pepper")
    assert (state(own)["lagging_processes"], state(own)["old_keys"]) == (1, 2)
    assert works(own, daemon.key)
    made_meanwhile = daemon.make_key("meanwhile")
    wait_for(own, made_meanwhile["key"], 200)  # by a daemon that has only the old pepper
    refused = daemon.cli("secrets", "rotate", "pepper", "--finish", check=False)
    assert (refused.returncode, "do not have the new pepper" in refused.stderr) == (1, True)

    assert daemon.stop() == 0
    daemon.start()
    assert works(own, daemon.key)
    while state(own)["present_keys"] != 2:
        pass
    assert doctor(own)["keys"]["text"].endswith("a pepper rotation is under way, 1 keys have only the old hash")
    refused = daemon.cli("secrets", "rotate", "pepper", "--finish", check=False)
    assert (refused.returncode, "1 of 3 keys were not used since the rotation" in refused.stderr) == (1, True)
    daemon.cli("secrets", "rotate", "pepper", "--finish", "--force")
    for _ in range(2):
        wait_for(own, idle["key"], 200)
        assert works(own, daemon.key)
        assert works(own, made_meanwhile["key"])
        assert daemon.stop() == 0
        daemon.start()
    assert state(own) == state(own) | {"rotating": False, "present_keys": 3, "unproven_keys": 0}


def test_a_lost_pepper(own: Scene) -> None:
    """The daemon refuses to start and says what to do; after `--lost` every key works again, proven by bcrypt once."""
    daemon = own.daemon
    keys = [daemon.key, daemon.make_key("second")["key"]]
    refused = daemon.cli("secrets", "rotate", "pepper", "--lost", check=False)
    assert (refused.returncode, "the pepper is not lost" in refused.stderr) == (1, True)
    assert daemon.stop() == 0
    (daemon.state / "pepper").unlink()
    found = doctor(own)
    assert found["pepper"]["level"] == "bad"
    with pytest.raises(AssertionError, match="secrets rotate pepper --lost"):
        daemon.start()
    daemon.cli("secrets", "rotate", "pepper", "--lost")
    found = doctor(own)
    assert "2 can only be told by bcrypt, each at its first use" in found["keys"]["text"]
    assert "keys per second, so " in found["keys"]["text"]
    daemon.start()
    for key in keys:
        assert works(own, key)
    forged = keys[0][:16] + keys[1][16:]
    assert not works(own, forged)


def test_wrong_use(own: Scene) -> None:
    """One sentence each, exit status 2."""
    for arguments in (("--finish", "--lost"), ("--force",)):
        done = own.daemon.cli("secrets", "rotate", "pepper", *arguments, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert own.daemon.cli("secrets", "rotate", "provider-key", check=False).returncode == 2
