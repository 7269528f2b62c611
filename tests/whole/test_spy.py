"""The spy itself: it sees every way by which Python connects or looks up a name, and what a daemon may reach."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.spying import outside
from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import Daemon, clean_environment, model, upstream

NAME = "nobody.invalid"
PLACE = ("192.0.2.77", 9)  # documentation only: packets to it go nowhere
WAYS = {
    "socket": f"import socket; s = socket.socket(); s.settimeout(0.01); s.connect({PLACE})",
    "lookup": f"import socket; socket.getaddrinfo({NAME!r}, 1)",
    "old lookup": f"import socket; socket.gethostbyname({NAME!r})",
    "datagram": f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {PLACE})",
    **{
        f"{loop} {way}": f"import asyncio, uvloop\nasync def main():\n await asyncio.wait_for({call}, 0.05)\n"
        f"asyncio.Runner(loop_factory={loop}.new_event_loop).run(main())"
        for loop in ("asyncio", "uvloop")
        for way, call in (
            ("connection", f"asyncio.open_connection(*{PLACE})"),
            ("name", f"asyncio.open_connection({NAME!r}, 9)"),
            ("lookup", f"asyncio.get_running_loop().getaddrinfo({NAME!r}, 9)"),
        )
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_gets_around_it(way: str, tmp_path: Path) -> None:
    """Each way is noted by the process itself, whether it succeeds or not."""
    notes = tmp_path / "notes"
    environment = outside.spied(clean_environment(), notes)
    subprocess.run([sys.executable, "-c", WAYS[way]], env=environment, capture_output=True, check=False, timeout=30)
    expected = f"lookup {NAME}" if "name" in way or "lookup" in way else f"connect {PLACE[0]} {PLACE[1]}"
    assert expected in outside.notes_in(notes)
    assert outside.unexpected(outside.notes_in(notes), [{"place": "other.example:9"}])


def test_this_process_is_spied_on() -> None:
    """Also its uvloop; and what goes to this machine is not noted."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
    socket.getaddrinfo("localhost", 1)
    assert outside.taken() == []

    async def ask() -> None:
        with pytest.raises(OSError):
            await asyncio.get_running_loop().getaddrinfo(NAME, 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
    assert outside.taken() == [f"lookup {NAME}"]


@pytest.fixture
def abroad(servers: LoopThread) -> Iterator[Daemon]:
    """A daemon whose upstream is somewhere else."""
    there = upstream("there", "openai", f"https://{NAME}/v1")
    made = Daemon(servers, {"upstreams": [there], "models": [model("m", "there")]})
    yield made
    made.spied.unlink(missing_ok=True)
    made.remove()


def test_a_daemon_may_reach_what_its_configuration_names(abroad: Daemon) -> None:
    """`config check --egress` names it, and nothing else passes."""
    said = json.loads(abroad.cli("config", "check", "--egress", "--json").stdout)
    assert [one["place"] for one in said] == [f"{NAME}:443", "the system's resolver"]
    abroad.spied.write_text(f"lookup {NAME}\nconnect {NAME} 443\n")
    abroad.check_reached()
    for other in (f"connect {NAME} 80", "lookup telemetry.example", "connect 192.0.2.1 443"):
        abroad.spied.write_text(other + "\n")
        with pytest.raises(AssertionError, match="reached what its configuration does not name"):
            abroad.check_reached()


def test_a_running_daemon_is_spied_on(abroad: Daemon) -> None:
    """Its verbs as well: both have the spy's directory and a file for notes in their environment."""
    code = "import sitecustomize, sys; print(sitecustomize.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=abroad.environment, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == outside.HERE / "sitecustomize.py"
    assert abroad.environment["LUNTREX_TEST_SPY"] == str(abroad.spied)
    assert os.access(abroad.directory, os.W_OK)
