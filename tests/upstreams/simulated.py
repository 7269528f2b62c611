"""The product's own simulator, run in the tests' server thread."""

from luntrex_proxy.simulator import Simulator, start_simulator
from tests.upstreams.loop_thread import LoopThread

SECRET = "provider-secret-of-the-simulator"


class SimulatedUpstream:
    """A simulator with unpaced tokens; `url` ends with /v1."""

    def __init__(self, thread: LoopThread, token_gap_seconds: float = 0.0) -> None:
        self._thread = thread
        self._simulator: Simulator = thread.run(start_simulator(secret=SECRET, token_gap_seconds=token_gap_seconds))
        self.url = self._simulator.url
        self.secret = SECRET

    def stop(self) -> None:
        """Stop the simulator."""
        self._thread.run(self._simulator.stop())
