"""What a request and an event take in instructions and Python calls: `python -m benchmarks.instructions`.

Times say little on a busy machine; counts are the same each time, but for a few hundredths. The daemon runs under
valgrind, some fifty times slower, and is asked on one connection that stays open; the difference between many requests
and few (or events of one paced stream) is what one of them takes. Another daemon counts its Python calls the same way.
Both are those of user code in answer to what sockets bring, which is all of the way of a request. The kernel's are not
seen, nor what is done beside the requests by the clock: records on their way to the database, and chores.
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

_WARM, _FEW, _MANY = 300, 256, 768  # in rounds of what is put off until so many have come
_GAP_US = 20_000
_FEW_EVENTS, _MANY_EVENTS = 20, 220
_ANSWER_WAIT_S = 60.0
_TOLD_WAIT_S = 30.0
_ON_READ = "__pyx_f_6uvloop_4loop___uv_stream_on_read*"  # what uvloop calls with each read
_TOTALS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


def _ask(client: socket.socket, request: bytes) -> None:
    """One question and its whole answer. Raises RuntimeError for one that is none."""
    client.sendall(request)
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
        self._client = socket.create_connection((proxy.target.address, proxy.target.port), _ANSWER_WAIT_S)

    def requests(self) -> dict[str, float]:
        """Of one JSON request."""
        request = Question().to(self._target)
        self._ask_often(request, _WARM)
        few, many = (self._count([request] * count) for count in (_FEW, _MANY))
        return _each(few, many, _MANY - _FEW)

    def events(self) -> dict[str, float]:
        """Of one event of a paced stream."""
        few, many = (
            self._count([Question(stream=True, events=count, gap_us=_GAP_US).to(self._target)])
            for count in (_FEW_EVENTS, _MANY_EVENTS)
        )
        return _each(few, many, _MANY_EVENTS - _FEW_EVENTS)

    def _ask_often(self, request: bytes, times: int) -> None:
        for _ in range(times):
            _ask(self._client, request)

    def _count(self, requests: list[bytes]) -> dict[str, int]:
        before = self._read()
        for request in requests:
            _ask(self._client, request)
        return {name: count - before.get(name, 0) for name, count in self._read().items()}


def _each(few: dict[str, int], many: dict[str, int], more: int) -> dict[str, float]:
    return {name: (count - few.get(name, 0)) / more for name, count in many.items()}


def _under_valgrind(place: Place, limited: bool) -> Counted:
    """Instructions of the loop's thread."""
    dump = place.directory / "callgrind"
    options = ["--tool=callgrind", "--instr-atstart=no", f"--toggle-collect={_ON_READ}", f"--callgrind-out-file={dump}"]
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
