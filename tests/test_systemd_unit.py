"""The unit file: systemd accepts it without a word, its sandbox is as tight as stated, its times fit the daemon's."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from luntrex_proxy.settings.model import GatewayTimeouts

UNITS = Path(__file__).parents[1] / "systemd"
UNIT = UNITS / "luntrex-proxy.service"
# What is left at 1.1: it has sockets and a network, and no list of addresses (providers' addresses change).
EXPOSURE_LIMIT = 1.1

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt-get install systemd)"
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The unit with a program that exists in ExecStart: systemd looks for it, and tests do not install ours in /opt."""
    text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    assert count == 1
    target = tmp_path / UNIT.name
    target.write_text(text)
    return target


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def _exposure(unit: Path) -> float:
    told = _analyze("security", "--offline=true", str(unit)).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert found, told
    return float(found[1])


@needs_systemd_analyze
def test_systemd_accepts_the_unit(copy: Path) -> None:
    """No error and no warning; an unknown directive would be one."""
    told = _analyze("verify", str(copy))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    copy.write_text(copy.read_text().replace("[Service]\n", "[Service]\nNoSuchDirective=yes\n"))
    assert "NoSuchDirective" in _analyze("verify", str(copy)).stderr


@needs_systemd_analyze
def test_the_sandbox_is_as_tight_as_stated(copy: Path) -> None:
    """systemd's own figure, from 0 (closed) to 10 (open)."""
    assert _exposure(copy) <= EXPOSURE_LIMIT


@needs_systemd_analyze
def test_the_example_drop_in_is_accepted_and_tightens(copy: Path) -> None:
    """With its address list the figure goes down, which also shows that systemd read it."""
    before = _exposure(copy)
    shutil.copytree(UNITS / "luntrex-proxy.service.d", copy.parent / "luntrex-proxy.service.d")
    told = _analyze("verify", str(copy))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    assert _exposure(copy) < before


def test_the_unit_and_the_daemon_agree() -> None:
    """What the daemon does on signals and at the end is what the unit expects."""
    lines = dict(line.partition("=")[::2] for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line))
    assert lines["ExecStart"] == "/opt/luntrex-proxy/bin/luntrex-proxy serve"
    assert lines["Type"] == "notify"
    assert lines["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert lines["KillMode"] == "mixed"
    assert lines["StateDirectory"] == "luntrex-proxy"
    stop = re.fullmatch(r"(\d+)min", lines["TimeoutStopSec"])
    assert stop is not None
    # The database's stop may take 30 s after the drain.
    assert int(stop[1]) * 60 > GatewayTimeouts().drain_s + 30
