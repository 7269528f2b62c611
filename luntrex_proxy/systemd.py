"""The service manager: readiness, watchdog, inherited sockets, by its plain protocol (sd_notify(3), sd_listen_fds(3)).

Away from systemd every call does nothing and says so in its result.
"""

import os
import socket
import time

_FIRST_FD = 3


def ready(status: str) -> bool:
    """Say that requests are served (also the end of a reload)."""
    return notify("READY=1", _status_line(status))


def reloading() -> bool:
    """Say that the configuration is being read again; `ready` ends it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping(status: str) -> bool:
    """Say that the process is on its way out."""
    return notify("STOPPING=1", _status_line(status))


def status(text: str) -> bool:
    """Set the line that `systemctl status` shows."""
    return notify(_status_line(text))


def watchdog() -> bool:
    """Say that the process is well. Call it on the loop, after looking: a thread would vouch for a hung loop."""
    return notify("WATCHDOG=1")


def notify(*lines: str) -> bool:
    """Send lines of state to the service manager; False when there is none or it does not take them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            channel.connect(address)
            channel.sendall("\n".join(lines).encode())
    except OSError:  # being served matters more than being seen
        return False
    return True


def watchdog_interval_s() -> float | None:
    """How often `watchdog` has to be called (half of what the unit allows), or None when the unit asks for none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) > 0 else None


def listen_fds() -> dict[str, list[int]]:
    """The sockets systemd opened for us, by FileDescriptorName; several may share one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = os.environ.get("LISTEN_FDS", "")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for index in range(int(count) if count.isdigit() else 0):
        name = (names[index] if index < len(names) else "") or "unknown"
        os.set_inheritable(_FIRST_FD + index, False)  # else the embedded Postgres keeps them open
        found.setdefault(name, []).append(_FIRST_FD + index)
    return found


def stdout_is_journal() -> bool:
    """Whether stdout goes to the journal, where a key must not be printed (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        there = os.fstat(1)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def _status_line(text: str) -> str:
    return "STATUS=" + " ".join(text.split())
