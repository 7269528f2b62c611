"""Revocation everywhere: four processes on one database, in every state of the connection that tells them.

The bounds are those of the promise, from the commit: 1 s while connected, 5 s when the connection is dead or hung,
keys.max_staleness_s without a database. Running streams end within the same.
"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.whole.fleet import Fleet, Watch, spread_s
from tests.whole.server import wait_until

CONNECTED_S, DISCONNECTED_S = 1.0, 5.0
STALE_S = 8


@pytest.fixture(scope="module")
def fleet(servers: LoopThread) -> Iterator[Fleet]:
    """Four processes."""
    made = Fleet(servers, 4, keys={"max_staleness_s": STALE_S})
    yield made
    made.remove()


def frozen_listeners(fleet: Fleet) -> AbstractContextManager[None]:
    """SIGSTOP for the server's side of every listening connection."""
    listeners = fleet.listeners()
    assert len(listeners) == len(fleet.daemons)
    return fleet.server.frozen(listeners)


def test_every_process_refuses_within_the_bounds(fleet: Fleet) -> None:
    """One test, so that the four processes are started once: each state of the listener in turn."""
    server, proxy = fleet.server, fleet.server.proxy

    def restart() -> None:
        server.stop()
        server.start()

    assert spread_s(fleet, fleet.revoke) <= CONNECTED_S, "connected"
    assert spread_s(fleet, fleet.suspend) <= CONNECTED_S, "an account suspended"
    killed = "application_name LIKE 'luntrex-proxy keyring%'"
    assert spread_s(fleet, fleet.revoke, lambda: server.end_sessions(killed)) <= DISCONNECTED_S, "killed"
    assert spread_s(fleet, fleet.suspend, lambda: server.end_sessions(killed)) <= DISCONNECTED_S, "killed, suspended"
    with contextlib.ExitStack() as stack:
        assert spread_s(fleet, fleet.revoke, lambda: stack.enter_context(frozen_listeners(fleet))) <= DISCONNECTED_S, (
            "hung"
        )
    assert spread_s(fleet, fleet.revoke, restart) <= DISCONNECTED_S, "restarted"
    assert spread_s(fleet, fleet.revoke, proxy.forget) <= DISCONNECTED_S, "network silent"
    assert spread_s(fleet, fleet.revoke, lambda: proxy.forget_after(2)) <= DISCONNECTED_S, "silent between two answers"
    assert spread_s(fleet, fleet.revoke, proxy.cut) <= DISCONNECTED_S, "cut"


def test_without_a_database_keys_end_at_max_staleness(fleet: Fleet) -> None:
    """Nothing is known any more: requests get 503, streams are cut, and the metric says how old what is known is."""
    _, made = fleet.make_key()
    watches = [Watch(daemon, made.key) for daemon in fleet.daemons]
    fleet.server.stop()
    try:
        stopped_at = time.monotonic()
        for watch in watches:
            wait_until(lambda watch=watch: watch.daemon.metric("luntrex_database_up") == 0, 7, "noticed")
            gone_s = time.monotonic() - stopped_at
            assert abs(watch.daemon.metric("luntrex_revocation_lag_seconds") - gone_s) < 1.5
        for watch in watches:
            watch.wait()
            assert STALE_S - 1.5 <= watch.refused_at - stopped_at <= STALE_S + 1
            assert watch.cut_at - stopped_at <= STALE_S + DISCONNECTED_S
    finally:
        fleet.server.start()
    for watch in watches:
        wait_until(lambda watch=watch: watch.daemon.checks()["database"], 10, "back")
