"""A database brought back from a backup while the daemon's spool knows more; retention in a running daemon."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, get, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request

OLD_DAY = """
CREATE TABLE {name} PARTITION OF usage FOR VALUES FROM ('{day} 00:00Z') TO ('{day} 24:00Z');
INSERT INTO usage SELECT account_id, '{day} 12:00Z', gen_random_uuid(), key_id, route, model, upstream, status, code,
    ending, streamed, usage_source, input_tokens, cached_input_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, cost_pico, price_version, request_bytes,
    response_bytes, events, attempts, duration_us, first_byte_us, overhead_us FROM usage LIMIT 1;
INSERT INTO usage_rollup SELECT account_id, '{day} 12:00Z', key_id, model, upstream, 1, errors, input_tokens,
    cached_input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, input_audio_tokens, output_tokens,
    reasoning_tokens, output_audio_tokens, cost_pico FROM usage_rollup LIMIT 1;
"""


@pytest.fixture
def scene(servers: LoopThread) -> Iterator[Scene]:
    """A daemon of this test's own."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
        "retention": {"usage_days": 30},
    }
    with running(servers, configuration) as daemon:
        made = Scene(daemon, scripted)
        made.reset()
        yield made
    scripted.stop()


def asked(scene: Scene) -> str:
    """A chat that ended well; its request id."""
    reply = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request()))
    assert reply.status == 200
    return reply.headers["x-request-id"]


def ids(daemon: Daemon) -> list[str]:
    """The ids of all stored requests."""
    return sorted(row["id"] for row in daemon.query("SELECT request_id::text AS id FROM usage"))


def check_sums(daemon: Daemon) -> None:
    """Hourly and daily sums are those of the rows."""
    columns = "sum(input_tokens)::bigint AS i, sum(output_tokens)::bigint AS o"
    rows = daemon.query(f"SELECT count(*)::bigint AS n, {columns} FROM usage")
    for table in ("usage_rollup", "usage_rollup_daily"):
        assert daemon.query(f"SELECT sum(requests)::bigint AS n, {columns} FROM {table}") == rows


def test_a_restored_database_is_brought_up_to_date_from_the_spool(scene: Scene) -> None:
    """Killed after a backup: what the spool still has comes back once; decisions since the backup are undone."""
    daemon = scene.daemon
    other = daemon.make_key("other")
    before = [asked(scene) for _ in range(3)]
    for request_id in before:
        daemon.row(request_id)
    file = str(daemon.directory / "backup")
    daemon.cli("db", "backup", file)
    daemon.cli("keys", "revoke", other["id"])
    since = [asked(scene) for _ in range(3)]
    for request_id in since:
        daemon.row(request_id)
    refused = daemon.cli("db", "restore", file, "--replace", check=False)
    assert (refused.returncode, "stop every one, then restore" in refused.stderr) == (1, True)
    daemon.kill()
    daemon.wait_no_postgres()
    assert daemon.cli("db", "restore", file, check=False).returncode == 1
    done = daemon.cli("db", "restore", file, "--replace")
    assert "revoke again those that must not" in done.stderr
    (act,) = json.loads(daemon.cli("audit", "list", "--act", "database.restored", "--json").stdout)
    assert act["facts"].keys() == {"made_at"}
    daemon.start()
    for request_id in since:
        daemon.row(request_id)
    assert ids(daemon) == sorted(before + since)
    check_sums(daemon)
    keys = {row["key_id"]: row["status"] for row in daemon.query("SELECT key_id, status FROM api_key")}
    assert keys[other["id"]] == "active"
    after = asked(scene)
    daemon.row(after)
    assert ids(daemon) == sorted([*before, *since, after])
    assert daemon.metric("luntrex_ledger_lost_total") == 0


def test_what_left_the_spool_is_as_old_as_the_backup(scene: Scene) -> None:
    """Stopped in peace after a backup, the spool is empty: requests since then are not in a restored database."""
    daemon = scene.daemon
    first = asked(scene)
    daemon.row(first)
    file = str(daemon.directory / "backup")
    daemon.cli("db", "backup", file)
    daemon.row(asked(scene))
    assert daemon.stop() == 0
    daemon.cli("db", "restore", file, "--replace")
    daemon.start()
    assert ids(daemon) == [first]
    check_sums(daemon)
    last = asked(scene)
    daemon.row(last)
    assert ids(daemon) == sorted([first, last])
    check_sums(daemon)


def test_the_daemon_drops_what_is_old(scene: Scene) -> None:
    """At its start and then every hour, with one line that says how much; the totals of the day stay."""
    daemon = scene.daemon
    kept = asked(scene)
    daemon.row(kept)
    day = "2020-02-03"
    for statement in OLD_DAY.format(name="usage_20200203", day=day).split(";"):
        daemon.query(statement)
    assert len(ids(daemon)) == 2
    assert daemon.stop() == 0
    daemon.start()
    deadline = time.monotonic() + 20
    while len(ids(daemon)) > 1 or "luntrex.retention_dropped" not in daemon.stderr.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ids(daemon) == [kept]
    line = next(line for line in daemon.stderr.read_text().splitlines() if "luntrex.retention_dropped" in line)
    assert '"days":1,"rows":1,"hourly_sums":1,"daily_sums":0,"positions":0' in line
    assert b"luntrex_ledger_expired_total 0" in get(daemon.control_port, "/metrics")[1]
