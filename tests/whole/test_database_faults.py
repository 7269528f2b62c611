"""Database trouble is invisible to callers, visible to operators, and over by itself: one fault per test.

Known keys keep working and no request waits; an unknown key gets 503 while the key store is out of reach and 401
otherwise; /readyz, metrics and log tell the truth; afterwards the ledger is the client's own list.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import bcrypt
import pytest

from luntrex_proxy.core.apikeys import RANDOM_BYTES, bcrypt_input, make_key
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.load import Load, check_totals
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import chat_request
from tests.whole.server import PASSWORD, USER, Server, wait_until

RECOVERY_S = 15.0
NOTICED_S = 12.0  # 5 s without the database make the keys old; storing is given up after 10 s at the latest


class Stage:
    """A daemon on a server that may be harmed."""

    def __init__(self, server: Server, daemon: Daemon) -> None:
        self.server, self.daemon = server, daemon

    def ask_unknown(self) -> Reply:
        """What a well-formed key gets that nobody made."""
        key = make_key(os.urandom(RANDOM_BYTES))[1].decode()
        return ask(self.daemon, post(self.daemon, "/v1/chat/completions", chat_request(), key=key))

    def unproven_key(self) -> str:
        """A key whose hash was made with a pepper nobody has: bcrypt must tell, and for that its row must be read."""
        key_id, key = make_key(os.urandom(RANDOM_BYTES))
        brought = (
            "WITH next AS (UPDATE change_version SET version = version + 1 RETURNING version)"
            " INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version)"
            " SELECT $1, account_id, $1, $2, $3, $4, next.version FROM next, account LIMIT 1"
        )
        hashed = bcrypt.hashpw(bcrypt_input(key), bcrypt.gensalt(4)).decode()
        self.server.sql(brought, key_id, hashed, os.urandom(32), bytes(16), database="luntrex")
        time.sleep(2)  # it is polled for each second
        return key.decode()

    def is_well(self) -> bool:
        """Whether the daemon says so itself, everywhere it can."""
        return (
            all(self.daemon.checks().values())
            and self.daemon.metric("luntrex_database_up") == 1
            and self.daemon.metric("luntrex_ledger_stalled") == 0
            and self.daemon.metric("luntrex_revocation_lag_seconds") < 5
            and self.daemon.metric("luntrex_ledger_spooled_total") < 100
        )


@pytest.fixture(scope="module")
def stage(servers: LoopThread) -> Iterator[Stage]:
    """One server and one daemon for all faults of this process."""
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    server = Server(servers, small_disk=True)
    configuration = {
        "database": {"url": server.url()},
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    try:
        with running(servers, configuration, server.admin_dsn) as daemon:
            yield Stage(server, daemon)
    finally:
        server.remove()
        scripted.stop()


# The faults. Each holds inside its `with`.


@contextlib.contextmanager
def stopped(stage: Stage) -> Iterator[None]:
    """A fast shutdown, and a start much later."""
    stage.server.stop()
    try:
        yield
    finally:
        stage.server.start()


@contextlib.contextmanager
def restarted(stage: Stage) -> Iterator[None]:
    """A restart, over before the fault is looked at."""
    stage.server.stop()
    stage.server.start()
    yield


@contextlib.contextmanager
def hung(stage: Stage) -> Iterator[None]:
    """SIGSTOP for the whole server."""
    with stage.server.frozen():
        yield


@contextlib.contextmanager
def disk_full(stage: Stage) -> Iterator[None]:
    """Not a byte left where the data directory is."""
    if not stage.server.small_disk:
        pytest.skip("a small file system for the data directory needs root's right to mount")
    with stage.server.full():
        yield


@contextlib.contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    """What a demoted primary or a full managed database does, for running sessions too."""
    stage.server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    stage.server.sql("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        stage.server.sql("ALTER SYSTEM RESET default_transaction_read_only")
        stage.server.sql("SELECT pg_reload_conf()")


@contextlib.contextmanager
def password_changed(stage: Stage) -> Iterator[None]:
    """The password of database.url is wrong from now on."""
    stage.server.sql(f"ALTER ROLE {USER} PASSWORD 'another one'")
    stage.server.end_sessions()
    try:
        yield
    finally:
        stage.server.sql(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")


@contextlib.contextmanager
def schema_ahead(stage: Stage) -> Iterator[None]:
    """A newer release has expanded the schema."""
    row = "INSERT INTO schema_migration (version, name, sha256, took_ms) VALUES (9999, 'pre_newer', '', 1)"
    stage.server.sql(row, database="luntrex")
    stage.server.end_sessions()
    try:
        yield
    finally:
        stage.server.sql("DELETE FROM schema_migration WHERE version = 9999", database="luntrex")


@contextlib.contextmanager
def refused(stage: Stage) -> Iterator[None]:
    """The machine is there, nobody listens."""
    stage.server.proxy.refuse()
    stage.server.proxy.cut()
    try:
        yield
    finally:
        stage.server.proxy.listen_again()


@contextlib.contextmanager
def silent(stage: Stage) -> Iterator[None]:
    """The network drops every packet, also those of new connections."""
    stage.server.proxy.silent = True
    try:
        yield
    finally:
        stage.server.proxy.silent = False


@contextlib.contextmanager
def forgotten(stage: Stage) -> Iterator[None]:
    """A firewall lost its table: present connections stay silent for ever, new ones are well."""
    assert stage.server.proxy.forget() >= 2
    yield


@contextlib.contextmanager
def reset_again_and_again(stage: Stage) -> Iterator[None]:
    """Every connection dies within a tenth of a second, at any point of what goes over it."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        stage.server.proxy.cut()
        time.sleep(0.07)
    yield


@contextlib.contextmanager
def delayed(stage: Stage, delay_s: float) -> Iterator[None]:
    """Each piece takes so much longer, in both directions."""
    stage.server.proxy.delay_s = delay_s
    try:
        yield
    finally:
        stage.server.proxy.delay_s = 0.0


@dataclass(frozen=True)
class Fault:
    """One fault, and what it must be seen to hurt while it lasts. None: it may or may not be seen."""

    start: Callable[[Stage], AbstractContextManager[None]]
    keys: bool | None
    ledger: bool | None
    reason: str = ""  # what the log says keeps records from being stored


FAULTS = {
    "stopped": Fault(stopped, True, True, "unreachable"),
    "restarted": Fault(restarted, None, None),
    "hung": Fault(hung, True, True),
    "disk full": Fault(disk_full, None, True, "disk_full"),
    "out of connections": Fault(lambda stage: stage.server.no_connection_left(), True, True, "out_of_connections"),
    "read-only": Fault(read_only, False, True, "read_only"),
    "usage locked": Fault(lambda stage: stage.server.locked("usage"), False, True),
    "keys locked": Fault(lambda stage: stage.server.locked("api_key"), False, False),
    "slow": Fault(lambda stage: delayed(stage, 0.1), False, False),
    "very slow": Fault(lambda stage: delayed(stage, 3.0), True, True),
    "password changed": Fault(password_changed, True, True, "access"),
    "schema ahead": Fault(schema_ahead, None, None),
    "refused": Fault(refused, True, True, "unreachable"),
    "silent": Fault(silent, True, True),
    "forgotten": Fault(forgotten, None, None),
    "reset again and again": Fault(reset_again_and_again, None, None),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_invisible_to_callers_and_ends_by_itself(stage: Stage, fault: Fault) -> None:
    """From before the fault until after it, with clients that ask all the time."""
    daemon = stage.daemon
    wait_until(stage.is_well, RECOVERY_S, "well at the beginning")
    told_before = told(daemon)
    lost_before, stalled_before = said(daemon, "luntrex.database_lost"), len(reasons(daemon))
    with Load(daemon) as load:
        load.wait_for(2)
        with fault.start(stage):
            begun = time.monotonic()
            if fault.keys:
                wait_until(lambda: not daemon.checks()["database"], NOTICED_S, "keys out of reach")
                assert daemon.metric("luntrex_database_up") == 0
                assert daemon.metric("luntrex_revocation_lag_seconds") >= 5
                unknown = stage.ask_unknown()
                assert (unknown.status, unknown.headers.get("retry-after", "").isdigit()) == (503, True)
                wait_until(lambda: said(daemon, "luntrex.database_lost") > lost_before, 3, "the loss is said")
            if fault.ledger:
                wait_until(lambda: not daemon.checks()["storing"], NOTICED_S, "records not stored")
                assert daemon.metric("luntrex_ledger_stalled") == 1
                assert daemon.metric("luntrex_ledger_spooled_total") > 0
                wait_until(
                    lambda: fault.reason in reasons(daemon)[stalled_before:] or not fault.reason, 6, "the reason"
                )
            if fault.keys is False:
                time.sleep(max(0.0, begun + 6 - time.monotonic()))
                assert daemon.checks()["database"]
                assert stage.ask_unknown().status == 401
            if fault.ledger is False:
                assert daemon.checks()["storing"]
            assert daemon.probe("/readyz") == 200  # known keys work: traffic should come here
            load.wait_for(4)
        wait_until(stage.is_well, RECOVERY_S, f"well again: {daemon.checks()}")
        assert stage.ask_unknown().status == 401
    assert load.wrong == []
    check_totals([daemon], load.completed, lambda holds: wait_until(holds, RECOVERY_S, "the backlog drained"))
    wait_until(
        lambda: said(daemon, "luntrex.database_lost") == said(daemon, "luntrex.database_back"), 3, "the end is said"
    )
    # Once when it begins and once when it ends, of each of the two; what fails may change its name on the way.
    assert told(daemon) - told_before <= 2 + 2 * 3


def said(daemon: Daemon, event: str) -> int:
    """How often its log says this."""
    return len(daemon.said(event))


def reasons(daemon: Daemon) -> list[str]:
    """What its log named as keeping records from being stored, one word per time."""
    return [line["reason"] for line in daemon.said("luntrex.ledger_stalled")]


def told(daemon: Daemon) -> int:
    """How many lines its log has that are not about one request."""
    lines = [line for line in daemon.stderr.read_text().rpartition("\n")[0].splitlines() if line]
    return len(lines) - len(daemon.said("luntrex.request"))


# At the start.


@contextlib.contextmanager
def read_only_and_a_day_missing(stage: Stage) -> Iterator[None]:
    """A database that cannot be written, and a table to be made. (Without one a read-only database is no obstacle.)"""
    day = datetime.fromtimestamp(time.time(), UTC) + timedelta(days=7)
    name = f"usage_{day:%Y%m%d}"
    stage.server.sql(f"DROP TABLE IF EXISTS {name}", database="luntrex")
    with read_only(stage):
        yield


@dataclass(frozen=True)
class Start:
    """A fault a daemon is started in: its one sentence holds `words`."""

    fault: Callable[[Stage], AbstractContextManager[None]]
    words: str


STARTS = {
    "absent": Start(refused, "cannot be reached (ConnectionRefusedError); start it or correct database.url"),
    "hung": Start(hung, "cannot be reached (TimeoutError); start it or correct database.url"),
    "read-only": Start(read_only_and_a_day_missing, "use a primary server"),
    "out of connections": Start(lambda stage: stage.server.no_connection_left(), "has no free connection"),
    "locked": Start(lambda stage: stage.server.locked("api_key"), "try again"),
    "password": Start(password_changed, "refused the user or the password"),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_a_daemon_started_into_a_fault_says_one_sentence(stage: Stage, start: Start) -> None:
    """Exit status 1 in bounded time, one sentence that says what to do."""
    wait_until(stage.is_well, RECOVERY_S, "well at the beginning")
    twin = stage.daemon.sibling()
    try:
        with start.fault(stage):
            assert twin.spawn().wait(40) == 1
            lines = [line for line in twin.stderr.read_text().splitlines() if line]
            assert len(lines) == 1
            assert start.words in lines[0]
            assert PASSWORD not in lines[0]
    finally:
        twin.remove()


def test_a_daemon_started_on_a_newer_schema_works_and_says_so(stage: Stage) -> None:
    """A newer release has expanded the schema, and this one is started again: a rollback."""
    twin = stage.daemon.sibling()
    try:
        with schema_ahead(stage):
            twin.start()
            assert [line["migration"] for line in twin.said("luntrex.schema_ahead")] == ["9999_pre_newer"]
            assert ask(twin, post(twin, "/v1/chat/completions", chat_request())).status == 200
            wait_until(lambda: twin.metric("luntrex_ledger_stored_total") == 1, RECOVERY_S, "stored")
    finally:
        twin.remove()


def test_a_stop_during_a_fault_is_bounded_and_loses_nothing(stage: Stage) -> None:
    """SIGTERM while the database hangs: the process ends well; what it could not store the next one stores."""
    twin = stage.daemon.sibling()
    request = post(twin, "/v1/chat/completions", chat_request())
    try:
        twin.start()
        with hung(stage):
            answered = [ask(twin, request).headers["x-request-id"] for _ in range(3)]
            assert twin.stop() == 0
        twin.start()
        check_totals([twin], answered, lambda holds: wait_until(holds, RECOVERY_S, "stored by the next one"))
    finally:
        twin.remove()


@pytest.mark.parametrize("fault", [hung, silent], ids=lambda fault: fault.__name__)
def test_a_key_that_bcrypt_must_prove_does_not_wait_for_the_database(
    stage: Stage, fault: Callable[[Stage], AbstractContextManager[None]]
) -> None:
    """It gets 503 soon while its row cannot be read, each time it asks, and 200 afterwards."""
    wait_until(stage.is_well, RECOVERY_S, "well at the beginning")
    request = post(stage.daemon, "/v1/chat/completions", chat_request(), key=stage.unproven_key())
    with fault(stage):
        for _ in range(2):
            with RawClient(stage.daemon.port, timeout_seconds=8) as client:
                assert Reply(client.send(request).read_all()).status == 503
    wait_until(lambda: ask(stage.daemon, request).status == 200, RECOVERY_S, "proven")
