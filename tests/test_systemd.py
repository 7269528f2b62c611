"""The service manager's protocol: what is sent, where, and what is inherited."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from luntrex_proxy import systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of systemd's, named by a path or in the abstract namespace."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@luntrex-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(name.replace("@", "\0"))
        channel.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield channel


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    """The words systemd knows; a status stays one line whatever is in it."""
    sent = [
        systemd.ready("serving\nWATCHDOG=trigger"), systemd.status("x"), systemd.watchdog(), systemd.stopping("drain")
    ]  # fmt: skip
    assert sent == [True] * 4
    assert manager.recv(500) == b"READY=1\nSTATUS=serving WATCHDOG=trigger"
    assert manager.recv(500) == b"STATUS=x"
    assert manager.recv(500) == b"WATCHDOG=1"
    assert manager.recv(500) == b"STOPPING=1\nSTATUS=drain"


def test_reloading_carries_the_monotonic_time(manager: socket.socket) -> None:
    """systemd orders reload and ready by it."""
    before = time.monotonic_ns() // 1000
    assert systemd.reloading()
    word, stamp = manager.recv(500).decode().split("\n")
    assert word == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("address", [None, "", "relative", "/nonexistent/socket", "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, or with a manager that went away."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert systemd.ready("serving") is False


@pytest.mark.parametrize(
    ("microseconds", "pid", "interval_s"),
    [
        ("30000000", "own", 15.0), ("30000000", None, 15.0), ("30000000", "1", None),
        (None, None, None), ("0", None, None), ("x", None, None),
    ],
)  # fmt: skip
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    microseconds: str | None, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only by the process it was meant for."""
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_s() == interval_s


def test_inherited_sockets_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and repeated names keep every socket; none is passed on to children; another pid's are not ours."""
    kept: dict[int, bool] = {}
    monkeypatch.setattr(systemd.os, "set_inheritable", kept.__setitem__)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "4")
    monkeypatch.setenv("LISTEN_FDNAMES", "gateway:control:gateway")
    assert systemd.listen_fds() == {"gateway": [3, 5], "control": [4], "unknown": [6]}
    assert kept == {3: False, 4: False, 5: False, 6: False}
    monkeypatch.setenv("LISTEN_PID", "1")
    assert systemd.listen_fds() == {}
    monkeypatch.delenv("LISTEN_PID")
    assert systemd.listen_fds() == {}
