"""`serve` after things have happened: a rotation, a suspended account, a lost database, a closed terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.upstreams.simulated import SimulatedUpstream
from tests.whole.test_start import KEY, Serve, curl_lines, place

__all__ = ["place"]


@pytest.fixture
def demo(place: Path) -> Iterator[Serve]:
    serve = Serve(place, "--demo")
    yield serve
    serve.kill()


def wait_for(what: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def events(serve: Serve) -> list[dict[str, object]]:
    """What it logged so far."""
    return [json.loads(line) for line in serve.err.read_text().splitlines() if line.startswith("{")]


def run_rotate(serve: Serve) -> subprocess.CompletedProcess[str]:
    """The rotate command as it was printed."""
    command = re.findall(r"New key +(.*)", serve.printed)[0]
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)


def test_the_printed_rotate_command_works_again_and_again(demo: Serve) -> None:
    """After a rotation the next start prints the successor, not the key that is on its way out."""
    demo.start()
    demo.stop()
    for _ in range(2):
        demo.start()
        rotated = run_rotate(demo)
        assert rotated.returncode == 0, rotated.stderr
        assert len(KEY.findall(rotated.stdout)) >= 1
        demo.stop()


def test_a_suspended_account_does_not_stop_the_daemon(demo: Serve) -> None:
    """Suspending the demo's own account leaves a daemon that starts and makes no second key."""
    demo.start()
    demo.stop()
    environment = {**os.environ, "LUNTREX_STATE__DIRECTORY": str(demo.state / "demo")}
    command = [sys.executable, "-m", "luntrex_proxy", "accounts", "suspend", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    demo.start()
    assert "Key id" in demo.printed
    assert KEY.findall(demo.printed) == []


def test_a_lost_database_is_said_once_and_so_is_its_return(demo: Serve) -> None:
    """Postgres killed: one line when it is lost, one when it is back, and the daemon brings it back itself."""
    demo.start()
    before = demo.postgres_pids()
    for pid in before:
        subprocess.run(["kill", "-STOP", str(pid)], check=False)
    wait_for(lambda: any(event["event"] == "luntrex.database_lost" for event in events(demo)), 20)
    for pid in before:
        subprocess.run(["kill", "-CONT", str(pid)], check=False)
    wait_for(lambda: any(event["event"] == "luntrex.database_back" for event in events(demo)), 20)
    lost = [event for event in events(demo) if event["event"] == "luntrex.database_lost"]
    assert len(lost) == 1


def test_provider_keys_of_anthropic_alone_print_a_line_that_works(place: Path, simulator: SimulatedUpstream) -> None:
    """The curl line speaks the dialect of the provider there is."""
    base_url = simulator.url.removesuffix("/v1")
    stated = {"LUNTREX_POLICY__RETENTION__KIND": "unknown", "LUNTREX_POLICY__TRAINING": "unknown"}  # of other URLs
    serve = Serve(place, ANTHROPIC_API_KEY=simulator.secret, ANTHROPIC_BASE_URL=base_url, **stated)
    try:
        serve.start()
        serve.agree_to_training()
        line = curl_lines(serve.printed)
        assert "/v1/messages" in line
        line = line.replace("claude-haiku-4-5", "demo-claude")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
        assert "event: message_stop" in done.stdout
    finally:
        serve.kill()


def test_a_hangup_ends_a_demo(demo: Serve) -> None:
    """A demo ends with its terminal."""
    demo.start()
    assert demo.stop(signal.SIGHUP) == 0
