"""What the benchmarks need of the machine: processes, their cores, CPU time and memory, and how quiet it is."""

import contextlib
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READY_WAIT_S = 120.0
_STOP_WAIT_S = 20.0
OPEN_FILES = 65536


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what. The proxy has one of its own wherever there are two."""

    proxy: int
    upstream: int
    client: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first allowed core for the proxy, the next for the upstream, the next for the client; or shared."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[min(1, len(allowed) - 1)], allowed[min(2, len(allowed) - 1)])

    def said(self) -> str:
        """One line for the report."""
        if self.proxy == self.client:
            return "one core for everything: compare CPU times only"
        shared = "share" if self.upstream == self.client else f"have {self.upstream} and"
        return f"each proxy alone on core {self.proxy}, upstream and client {shared} core {self.client}"


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds: all of them to the nanosecond, those in user code to the clock tick (10 ms)."""

    total_s: float
    user_s: float

    @property
    def system_s(self) -> float:
        """Those in the kernel."""
        return max(0.0, self.total_s - self.user_s)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.total_s - other.total_s, self.user_s - other.user_s)


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def allow_open_files() -> int:
    """Raise this process's limit of open files (children inherit it) as far as it goes; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def start(
    stack: ExitStack,
    command: Sequence[str],
    core: int,
    *,
    log: IO[bytes] | None = None,
    more_environment: dict[str, str] | None = None,
    directory: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program on one core; it is ended, with everything it started, when `stack` closes."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdin=subprocess.DEVNULL,
        stdout=log if log is not None else subprocess.DEVNULL,
        stderr=log,
        env={**os.environ, **(more_environment or {})},
        cwd=directory,
    )
    stack.callback(stop, process)
    return process


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a program: politely, then for sure. What it had started goes too."""
    started = tree(process.pid)[1:]
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in started:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def wait_for(port: int, process: "subprocess.Popen[bytes]", name: str) -> None:
    """Return once something listens on `port`; raises RuntimeError when the program ends or takes too long."""
    deadline = time.monotonic() + _READY_WAIT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with status {process.returncode} instead of listening")
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not listen within {_READY_WAIT_S:.0f} s")


def tree(pid: int) -> list[int]:
    """A process and all its descendants, itself first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
            parents.setdefault(parent, []).append(int(entry.parent.name))
    found = [pid]
    for known in found:  # grows while it is walked
        found += parents.get(known, [])
    return found


def cpu_of(pids: Iterable[int]) -> Cpu:
    """CPU time of processes with all their threads, and of their children that have ended."""
    total_s = user_s = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user, ended_user, ended_system = int(fields[11]), int(fields[13]), int(fields[14])
            # clock_getcpuclockid(3) without the C library: the scheduler's clock of another process.
            total_s += time.clock_gettime(~pid << 3 | 2) + (ended_user + ended_system) / _TICKS_PER_S
            user_s += (user + ended_user) / _TICKS_PER_S
    return Cpu(total_s, user_s)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def cores_busy_s() -> float:
    """CPU seconds used so far on the cores we may use, by anybody; what a hypervisor took counts too."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in ours:
            ticks = [int(field) for field in fields[:8]]
            busy += sum(ticks) - ticks[3] - ticks[4]  # without idle and iowait
    return busy / _TICKS_PER_S


class OtherLoad:
    """How much of our cores others took while we measured. Make it before this process is pinned to one."""

    def __init__(self) -> None:
        self._cores = os.sched_getaffinity(0)
        self._busy_s, self._own_s, self._began_s = self._read()

    def _read(self) -> tuple[float, float, float]:
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cores)
        try:
            return cores_busy_s(), cpu_of(tree(os.getpid())).total_s, time.monotonic()
        finally:
            os.sched_setaffinity(0, mine)

    def share(self) -> float:
        """As a share of one core."""
        busy_s, own_s, now_s = self._read()
        return max(0.0, (busy_s - self._busy_s - own_s + self._own_s) / max(1e-9, now_s - self._began_s))


def cpu_model() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


@dataclass(frozen=True, slots=True)
class PythonBuild:
    """The Python that runs the proxy. A plain build (make without profile) costs the proxy 1.6 times the CPU."""

    version: str
    optimised: bool

    @classmethod
    def of_this_process(cls) -> "PythonBuild":
        """The one that runs now: the daemon is started with the same."""
        arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
        # Debian's and Ubuntu's packages are built with profile and LTO, but do it in their own makefile.
        packaged = sys.base_prefix == "/usr" and Path("/etc/debian_version").exists()
        return cls(platform.python_version(), "--enable-optimizations" in arguments or packaged)

    def said(self) -> str:
        """One line for the report."""
        if self.optimised:
            return f"Python {self.version}, optimised build"
        return (
            f"Python {self.version}, PLAIN BUILD: the proxy costs about 1.6 times as much as with an optimised one; "
            "use your distribution's python3 or build with --enable-optimizations"
        )
