"""Revocations through several processes, in every state of the connection that tells them: seconds until the last one
has refused the key and cut its stream.

    python -m tests.long.revocation [--rounds 50] [--processes 4] [--states connected "listener hung"]

Exits 1 when a bound of the promise is broken.
"""

import argparse
import contextlib
import functools
import statistics
import sys
from collections.abc import Callable, Iterator

from tests.upstreams.loop_thread import LoopThread
from tests.whole.fleet import Fleet, spread_s

KILLED = "application_name LIKE 'luntrex-proxy keyring%'"
State = Callable[[Fleet, contextlib.ExitStack, int], object]
# What happens right before the commit, and the bound in seconds.
STATES: dict[str, tuple[State, float]] = {
    "connected": (lambda fleet, stack, number: None, 1.0),
    "listener killed": (lambda fleet, stack, number: fleet.server.end_sessions(KILLED), 5.0),
    "listener hung": (lambda fleet, stack, number: stack.enter_context(fleet.server.frozen(fleet.listeners())), 5.0),
    "database restarted": (lambda fleet, stack, number: restart(fleet), 5.0),
    "network silent": (lambda fleet, stack, number: fleet.server.proxy.forget(), 5.0),
    "silent between answers": (lambda fleet, stack, number: fleet.server.proxy.forget_after(1 + number % 6), 5.0),
    "connections reset": (lambda fleet, stack, number: fleet.server.proxy.cut(), 5.0),
}


def restart(fleet: Fleet) -> None:
    """The commit comes right after."""
    fleet.server.stop()
    fleet.server.start()


@contextlib.contextmanager
def started(processes: int) -> Iterator[Fleet]:
    """The daemons, their database and provider."""
    servers = LoopThread()
    fleet = Fleet(servers, processes)
    try:
        yield fleet
    finally:
        fleet.remove()
        servers.stop()


def main() -> int:
    """Print one line per state; whether all bounds held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--states", nargs="*", default=list(STATES))
    parser.add_argument("--processes", type=int, default=4)
    asked = parser.parse_args()
    held = True
    with started(asked.processes) as fleet:
        for name, (state, bound_s) in STATES.items():
            if name not in asked.states:
                continue
            took_s = []
            for number in range(asked.rounds):
                with contextlib.ExitStack() as stack:
                    change = fleet.suspend if number % 4 == 3 else fleet.revoke
                    took_s.append(spread_s(fleet, change, functools.partial(state, fleet, stack, number)))
            held = held and max(took_s) <= bound_s
            print(
                f"{name:24} rounds {len(took_s)}  p50 {statistics.median(took_s):.3f} s  max {max(took_s):.3f} s  "
                f"bound {bound_s} s",
                flush=True,
            )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
