"""What the whole-daemon tests share: the server thread, the simulator, and one daemon per module."""

from collections.abc import Iterator

import pytest

from tests.llama.fixtures import llama_url
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.upstreams.simulated import SimulatedUpstream
from tests.whole.closing import close_clients
from tests.whole.daemon import free_port, model, running, upstream
from tests.whole.scene import Scene

__all__ = ["close_clients", "llama_url"]

QUICK = {"first_byte_s": 1, "idle_s": 0.6}  # so that tests of silent upstreams take little time
PATIENT = {"failures": 10_000, "error_requests": 10_000}  # one module has more faults than a breaker would stand


@pytest.fixture(scope="session")
def servers() -> Iterator[LoopThread]:
    """The thread all test servers run in."""
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.fixture(scope="session")
def simulator(servers: LoopThread) -> Iterator[SimulatedUpstream]:
    """The simulated provider without pacing."""
    simulated = SimulatedUpstream(servers)
    yield simulated
    simulated.stop()


@pytest.fixture(scope="module")
def module_scene(servers: LoopThread) -> Iterator[Scene]:
    """A daemon in front of a scripted upstream (both dialects), one per module."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        # Tests ask again and again whether a key works yet; the limit has a daemon of its own (test_wrong_keys.py).
        "gateway": {"limits": {"key_failures_per_minute": None}},
        "upstreams": [
            upstream("oai", "openai", f"{scripted.url}/v1", timeouts=QUICK, health=PATIENT),
            upstream("ant", "anthropic", f"{scripted.url}/v1", timeouts=QUICK, health=PATIENT),
            upstream("dead", "openai", f"http://127.0.0.1:{free_port()}/v1"),
            upstream("dead-ant", "anthropic", f"http://127.0.0.1:{free_port()}/v1"),
        ],
        "models": [
            model("plain", "oai"),
            model("alias", "oai", "the-upstream's-own-name"),
            model("claude", "ant"),
            model("claude-alias", "ant", "claude-there"),
            model("unreachable", "dead"),
            model("claude-unreachable", "dead-ant"),
        ],
    }
    with running(servers, configuration) as daemon:
        yield Scene(daemon, scripted)
    scripted.stop()


@pytest.fixture
def scene(module_scene: Scene) -> Scene:
    """The module's scene with nothing recorded yet and a good answer for everything."""
    module_scene.reset()
    return module_scene
