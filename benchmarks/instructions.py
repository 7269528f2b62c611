"""What a request and an event take in instructions and Python calls: `python -m benchmarks.instructions`.

Times say little on a busy machine; counts are the same each time, but for some hundredths. The daemon runs under
valgrind, some fifty times slower, and is asked on connections that stay open, all at once; the difference between many
requests and few (or events of one paced stream) is what one of them takes. Another daemon counts its Python calls the
same way. Both are those of user code in answer to what sockets bring, which is all of the way of a request. The
kernel's are not seen, nor what is done beside the requests by the clock (records on their way to the database, and
chores): as much as that takes in the same time without requests is taken off.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.machine import Cores, PythonBuild
from benchmarks.questions import Question
from benchmarks.starting import NotInstalledError, Place, Proxy, start_ours, start_upstream

_CONNECTIONS = 16
_WARM, _FEW, _MANY = 20, 16, 48  # rounds of a request on each; in all as many as something is put off for, or twice
_IDLE_S = 5.0
_GAP_US = 20_000
_FEW_EVENTS, _MANY_EVENTS = 20, 220
_ANSWER_WAIT_S = 60.0
_TOLD_WAIT_S = 30.0
# What libuv's loop calls for sockets, for what was put off to the end of a turn, and for what is to be written.
_PARTS = ("uv__io_poll", "uv__run_idle", "uv__run_check")
_TOTALS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


def _hear(client: socket.socket) -> None:
    """A whole answer. Raises RuntimeError for one that is none."""
    data = b""
    while True:
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if body and (len(body) == int(length[1]) if length else data.endswith(b"\r\n0\r\n\r\n")):
            break
        read = client.recv(1 << 16)
        if not read:
            raise RuntimeError("the daemon closed the connection")
        data += read
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the daemon answered {data[:12].decode(errors='replace')}")


class Counted:
    """A daemon, and how to read what it has counted so far."""

    def __init__(self, proxy: Proxy, read: Callable[[], dict[str, int]]) -> None:
        self._target, self._read = proxy.target, read
        place = proxy.target.address, proxy.target.port
        self._clients = [socket.create_connection(place, _ANSWER_WAIT_S) for _ in range(_CONNECTIONS)]
        self._beside: dict[str, float] = {}  # counted in a second without requests

    def requests(self) -> dict[str, float]:
        """Of one JSON request."""
        request = Question().to(self._target)
        self._count([request], self._clients[:1])
        time.sleep(_IDLE_S)  # so slow a daemon needs that to hear of limits for the first time
        self._count([request] * _WARM, self._clients)
        time.sleep(1)
        idle = self._count([], [], _IDLE_S)
        self._beside = {name: count / _IDLE_S for name, count in idle.items()}
        few, many = (self._count([request] * count, self._clients) for count in (_FEW, _MANY))
        return _each(few, many, (_MANY - _FEW) * _CONNECTIONS)

    def events(self) -> dict[str, float]:
        """Of one event of a paced stream."""
        few, many = (
            self._count([Question(stream=True, events=count, gap_us=_GAP_US).to(self._target)], self._clients[:1])
            for count in (_FEW_EVENTS, _MANY_EVENTS)
        )
        return _each(few, many, _MANY_EVENTS - _FEW_EVENTS)

    def _count(self, requests: list[bytes], clients: list[socket.socket], wait_s: float = 0) -> dict[str, float]:
        before, begun_s = self._read(), time.monotonic()
        time.sleep(wait_s)
        for request in requests:
            for client in clients:
                client.sendall(request)
            for client in clients:
                _hear(client)
        after, took_s = self._read(), time.monotonic() - begun_s
        return {name: count - before.get(name, 0) - self._beside.get(name, 0) * took_s for name, count in after.items()}


def _each(few: dict[str, float], many: dict[str, float], more: int) -> dict[str, float]:
    return {name: (count - few.get(name, 0)) / more for name, count in many.items()}


def _under_valgrind(place: Place, limited: bool) -> Counted:
    """Instructions of the loop's thread."""
    dump = place.directory / "callgrind"
    options = [
        "--tool=callgrind",
        "--instr-atstart=no",
        *(f"--toggle-collect={part}" for part in _PARTS),
        f"--callgrind-out-file={dump}",
    ]
    proxy = start_ours(place, limited=limited, under=["valgrind", *options])
    pid = str(proxy.process.pid)
    subprocess.run(["callgrind_control", "--instr=on", pid], check=True, capture_output=True)
    counted = 0

    def read() -> dict[str, int]:
        nonlocal counted
        subprocess.run(["callgrind_control", "--dump", pid], check=True, capture_output=True)
        newest = max(dump.parent.glob("callgrind.*"), key=lambda file: int(file.suffix[1:]))
        found = _TOTALS.search(newest.read_text())
        counted += int(found[1]) if found else 0  # each dump begins at zero
        return {"instructions": counted}

    return Counted(proxy, read)


def _with_profile(place: Place, limited: bool) -> Counted:
    """Python calls of the loop's thread, by function."""
    told = place.directory / "calls"
    os.environ["BENCH_CALLS"] = str(told)
    proxy = start_ours(place, limited=limited, program="benchmarks.counted")

    def read() -> dict[str, int]:
        told.unlink(missing_ok=True)
        proxy.process.send_signal(signal.SIGUSR1)
        deadline_s = time.monotonic() + _TOLD_WAIT_S
        while not told.exists():
            if time.monotonic() > deadline_s:
                raise RuntimeError("the daemon did not tell its calls")
            time.sleep(0.01)
        return dict(json.loads(told.read_text()))

    return Counted(proxy, read)


def measure(*, limited: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Per request and per event: instructions, and calls by function. Raises NotInstalledError."""
    if not (shutil.which("valgrind") and shutil.which("callgrind_control")):
        raise NotInstalledError("valgrind is not installed: apt install valgrind")
    found: dict[str, dict[str, dict[str, float]]] = {"request": {}, "event": {}}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cores = Cores.of_this_machine()
        place = Place(stack, directory, cores, directory, start_upstream(stack, cores))
        for name, start in (("instructions", _under_valgrind), ("calls", _with_profile)):
            counted = start(place, limited)
            found["request"][name], found["event"][name] = counted.requests(), counted.events()
    return found


def main() -> None:
    """Count, and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--limited", action="store_true", help="account and key have limits and budgets")
    parser.add_argument("--functions", action="store_true", help="name the Python functions that are called")
    options = parser.parse_args()
    try:
        found = measure(limited=options.limited)
    except NotInstalledError as error:
        sys.exit(f"Not measured: {error}.")
    print(PythonBuild.of_this_process().said())
    for unit, counts in found.items():
        calls = {name: count for name, count in counts["calls"].items() if count >= 0.01}
        instructions = counts["instructions"]["instructions"]
        print(f"{unit}: {instructions:,.0f} instructions, {sum(calls.values()):.1f} Python calls")
        for name, count in sorted(calls.items(), key=lambda each: -each[1]) if options.functions else ():
            print(f"  {count:8.2f}  {name}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
