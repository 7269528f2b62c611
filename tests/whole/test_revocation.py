"""Revocation everywhere: four processes on one database, in every state of the connection that tells them.

The bounds are those of the promise, from the commit: 1 s while connected, 5 s when the connection is dead or hung,
keys.max_staleness_s without a database. Running streams end within the same.
"""

import contextlib
import time
from contextlib import AbstractContextManager

from tests.upstreams.loop_thread import LoopThread
from tests.whole.fleet import Fleet, Watch, refused_s, spread_s
from tests.whole.server import wait_until

CONNECTED_S, DISCONNECTED_S = 1.0, 5.0
STALE_S = 8


def frozen_listeners(fleet: Fleet) -> AbstractContextManager[None]:
    """SIGSTOP for the server's side of every listening connection."""
    listeners = fleet.listeners()
    assert len(listeners) == len(fleet.daemons)
    return fleet.server.frozen(listeners)


def test_every_process_refuses_within_the_bounds(servers: LoopThread) -> None:
    """One test, so that the four processes are started once."""
    fleet = Fleet(servers, 4, keys={"max_staleness_s": STALE_S})
    try:
        check_with_a_database(fleet)
        check_without_a_database(fleet)
    finally:
        fleet.remove()


def check_with_a_database(fleet: Fleet) -> None:
    """Each state of the listening connections in turn."""
    server, proxy = fleet.server, fleet.server.proxy

    def restart() -> None:
        server.stop()
        server.start()

    assert spread_s(fleet, fleet.revoke) <= CONNECTED_S, "connected"
    assert spread_s(fleet, fleet.suspend) <= CONNECTED_S, "an account suspended"
    assert spread_s(fleet, fleet.suspend_key) <= CONNECTED_S, "a key suspended"
    assert refused_s(fleet, fleet.forbid) <= CONNECTED_S, "a policy changed"
    assert refused_s(fleet, fleet.limit) <= CONNECTED_S, "limited"
    killed = "application_name LIKE 'luntrex-proxy keyring%'"
    assert spread_s(fleet, fleet.revoke, lambda: server.end_sessions(killed)) <= DISCONNECTED_S, "killed"
    assert spread_s(fleet, fleet.suspend, lambda: server.end_sessions(killed)) <= DISCONNECTED_S, "killed, suspended"
    with contextlib.ExitStack() as stack:
        assert spread_s(fleet, fleet.revoke, lambda: stack.enter_context(frozen_listeners(fleet))) <= DISCONNECTED_S, (
            "hung"
        )
    assert spread_s(fleet, fleet.revoke, restart) <= DISCONNECTED_S, "restarted"
    assert spread_s(fleet, fleet.revoke, proxy.forget) <= DISCONNECTED_S, "network silent"
    assert refused_s(fleet, fleet.limit, proxy.forget) <= DISCONNECTED_S, "network silent, limited"
    assert spread_s(fleet, fleet.revoke, lambda: proxy.forget_after(2)) <= DISCONNECTED_S, "silent between two answers"
    assert spread_s(fleet, fleet.revoke, proxy.cut) <= DISCONNECTED_S, "cut"


def check_without_a_database(fleet: Fleet) -> None:
    """Nothing is known any more: requests get 503, streams are cut, and the metric says how old what is known is."""
    _, made = fleet.make_key()
    watches = [Watch(daemon, made.key) for daemon in fleet.daemons]
    stopping_at = time.monotonic()
    fleet.server.stop()
    try:
        stopped_at = time.monotonic()
        for watch in watches:
            wait_until(lambda watch=watch: watch.daemon.metric("luntrex_database_up") == 0, 7, "noticed")
            asked_at = time.monotonic()
            lag_s = watch.daemon.metric("luntrex_revocation_lag_seconds")
            # Not less than the time without a database, and not more than that, its shutdown and one heartbeat.
            assert asked_at - stopped_at <= lag_s <= time.monotonic() - stopping_at + 1.5
        for watch in watches:
            watch.wait()
            assert stopping_at + STALE_S - 1.5 <= watch.refused_at <= stopped_at + STALE_S + 1
            assert watch.cut_at - stopped_at <= STALE_S + DISCONNECTED_S
    finally:
        fleet.server.start()
    for watch in watches:
        wait_until(lambda watch=watch: watch.daemon.checks()["database"], 10, "back")
