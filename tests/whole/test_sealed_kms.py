"""Providers' keys under AWS KMS in a running daemon: moved there under load, served without it, closed at start."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.kms import CREDENTIALS, REGION, FrontedKms, running_moto
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, upstream
from tests.whole.load import Load
from tests.whole.scene import Scene
from tests.whole.test_sealed import FIRST, SECOND, sent_key, within_seconds


@pytest.fixture
def kms(servers: LoopThread) -> Iterator[FrontedKms]:
    with running_moto() as port:
        front = FrontedKms(servers, port)
        yield front
        front.go_away()


@pytest.fixture
def sealed(servers: LoopThread) -> Iterator[Scene]:
    """A daemon, not started, whose provider's key is sealed under a wrapping.key."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1", api_key={"sealed": "openai"})],
        "models": [model("plain", "oai")],
    }
    daemon = Daemon(servers, configuration, **CREDENTIALS)
    daemon.cli("secrets", "set", "openai", stdin=FIRST)
    scene = Scene(daemon, scripted)
    scene.reset()
    yield scene
    daemon.remove()
    scripted.stop()


def configure(daemon: Daemon, kms: FrontedKms, key_id: str) -> None:
    """From the next start, and for every verb: the wrapping key is in KMS, as strict demands it."""
    whole = yaml.safe_load(daemon.config.read_text())
    whole["security"] = {"policy": "strict"}
    whole["sealing"] = {"kms": {"key_id": key_id, "region": REGION, "endpoint": kms.endpoint}}
    daemon.config.write_text(yaml.safe_dump(whole))


def test_moved_to_kms_under_load_and_served_without_it(sealed: Scene, kms: FrontedKms) -> None:
    """From a file to KMS, to another key, with new data keys: no request fails. KMS gone: served on, said, no start."""
    daemon = sealed.daemon
    configure(daemon, kms, kms.new_key())
    daemon.start()
    with Load(daemon) as load:
        load.wait_for(4)
        daemon.cli("secrets", "rotate", "wrapping-key")
        second = kms.new_key()
        configure(daemon, kms, second)
        for what in ("wrapping-key", "data-key"):
            daemon.cli("secrets", "rotate", what)
        daemon.cli("secrets", "set", "openai", stdin=SECOND)
        load.wait_for(10)
    assert load.wrong == []
    within_seconds(lambda: sent_key(sealed) == SECOND)
    (daemon.state / "wrapping.key").unlink()

    assert daemon.metric("luntrex_wrapping_key_up") == 1
    kms.go_away()
    assert sent_key(sealed) == SECOND
    refused = daemon.cli("secrets", "set", "other", stdin=FIRST, check=False)
    assert refused.returncode == 1
    assert "AWS KMS, which wraps the data keys, cannot be reached" in refused.stderr
    found = {one["what"]: one for one in json.loads(daemon.cli("doctor", "--json", check=False).stdout)}
    assert (found["secrets"]["level"], "cannot be reached" in found["secrets"]["text"]) == ("bad", True)
    assert daemon.stop() == 0
    with pytest.raises(
        AssertionError, match="AWS KMS, which wraps the data keys, cannot be reached; check the network"
    ):
        daemon.start()
    kms.come_back()
    daemon.start()
    assert sent_key(sealed) == SECOND
    for name in ("pepper", "audit.key"):
        assert json.loads((daemon.state / name).read_bytes())["by"] == f"kms:{second}", name
    assert "are plain files" not in daemon.stderr.read_text()
    assert daemon.stop() == 0
    daemon.cli("secrets", "seal", "--undo")
    with pytest.raises(AssertionError, match=r"pepper, audit\.key can be read by whoever has this machine's disks"):
        daemon.start()
    assert json.loads(daemon.cli("secrets", "seal", "--json").stdout)["files"][0]["name"] == "pepper"
    daemon.start()
    assert sent_key(sealed) == SECOND
    said = daemon.stderr.read_text() + daemon.stdout.read_text() + str(kms.asked)
    assert FIRST not in said
    assert SECOND not in said
