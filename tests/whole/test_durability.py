"""kill -9 at the worst moments: what a client saw complete is on record after the restart, once."""

import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import HANG, LAST_CHUNK, ScriptedUpstream, chunk, reply, sse_head
from tests.whole.daemon import Daemon, get, model, running, upstream
from tests.whole.killing import kill_under_load, paced, settle_accounts
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request

VERSION = "anthropic-version: 2026-10-21"


@pytest.fixture(scope="module")
def killed_scene(servers: LoopThread) -> Iterator[Scene]:
    """A daemon nobody else uses, because it is going to be killed again and again."""
    scripted = ScriptedUpstream(servers)
    with running(servers, own_configuration(scripted)) as daemon:
        yield Scene(daemon, scripted)
    scripted.stop()


@pytest.fixture
def own_scene(killed_scene: Scene) -> Scene:
    """The module's scene, its daemon running."""
    killed_scene.reset()
    daemon = killed_scene.daemon
    if daemon.process is None or daemon.process.poll() is not None:
        daemon.start()
    return killed_scene


def chat_stream(scene: Scene) -> str:
    """A streamed chat, left at the moment `[DONE]` was read; its request id."""
    return _until(scene, post(scene.daemon, "/v1/chat/completions", chat_request(stream=True)), b"data: [DONE]\n\n")


def message_stream(scene: Scene) -> str:
    """A streamed message, left at the moment `message_stop` was read; its request id."""
    mark = b"event: message_stop\n"
    return _until(scene, post(scene.daemon, "/v1/messages", message_request(stream=True), VERSION), mark)


def response_stream(scene: Scene) -> str:
    """A streamed response, left at the moment `response.completed` was read; its request id."""
    body = b'{"model":"plain","stream":true,"input":"hi"}'
    return _until(scene, post(scene.daemon, "/v1/responses", body), b"event: response.completed\n")


def chat_whole(scene: Scene) -> str:
    """A JSON chat, left when its last byte was read; its request id."""
    return _until(scene, post(scene.daemon, "/v1/chat/completions", chat_request()), bodies.chat_body()[-40:])


def big_chat(scene: Scene) -> str:
    """A JSON chat of 300 KB, which streams through, left when its last byte was read; its request id."""
    scene.answer(reply(200, bodies.chat_body("x" * 300_000)))
    return _until(scene, post(scene.daemon, "/v1/chat/completions", chat_request()), bodies.chat_body()[-40:])


def _until(scene: Scene, request: bytes, mark: bytes) -> str:
    with RawClient(scene.daemon.port) as client:
        received = client.send(request).read_until(mark)
        return Reply(received).headers["x-request-id"]


def freeze(pids: list[int]) -> list[int]:
    """Stop these processes of ours where they are; those that were stopped."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def thaw(pids: list[int]) -> None:
    """Let them go on, those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def check_sums(daemon: Daemon) -> None:
    """The hourly sums are exactly those of the rows: no record was counted twice."""
    columns = "sum(input_tokens)::bigint AS i, sum(output_tokens)::bigint AS o"
    rows = daemon.query(f"SELECT count(*)::bigint AS n, {columns} FROM usage")
    assert daemon.query(f"SELECT sum(requests)::bigint AS n, {columns} FROM usage_rollup") == rows


def rows_of(daemon: Daemon, request_id: str) -> int:
    """How many rows the usage table has for a request."""
    counted: int = daemon.query("SELECT count(*) AS n FROM usage WHERE request_id::text = $1", request_id)[0]["n"]
    return counted


@pytest.mark.parametrize(
    "asked", [chat_stream, message_stream, response_stream, chat_whole, big_chat], ids=lambda asked: asked.__name__
)
def test_killed_right_after_the_end(own_scene: Scene, asked: Callable[[Scene], str]) -> None:
    """kill -9 the moment the client has its last event, with a database that cannot take the record before that."""
    daemon = own_scene.daemon
    stopped = freeze(daemon.postgres_pids())
    try:
        assert stopped
        request_id = asked(own_scene)
        daemon.kill()
    finally:
        thaw(stopped)
    daemon.wait_no_postgres()
    daemon.start()
    row = daemon.row(request_id)
    assert (row["status"], row["ending"], row["usage_source"]) == (200, "complete", "reported")
    assert (row["input_tokens"], row["output_tokens"]) == (bodies.INPUT_TOKENS, bodies.OUTPUT_TOKENS)
    time.sleep(0.5)
    assert rows_of(daemon, request_id) == 1
    check_sums(daemon)


def test_killed_many_times_while_shipping(own_scene: Scene) -> None:
    """kill -9 at moments that fall before, in and after shipping: every request that ended is there once."""
    daemon = own_scene.daemon
    seen: list[str] = []
    for delay_s in (0.0, 0.03, 0.1, 0.2, 0.4):
        seen += [chat_stream(own_scene), chat_whole(own_scene), message_stream(own_scene)]
        time.sleep(delay_s)
        daemon.kill()
        daemon.wait_no_postgres()
        daemon.start()
    for request_id in seen:
        assert daemon.row(request_id)["ending"] == "complete"
    assert [rows_of(daemon, request_id) for request_id in seen] == [1] * len(seen)
    check_sums(daemon)


def test_a_stream_under_way_becomes_interrupted(own_scene: Scene) -> None:
    """An answer that was still running when the process died is on record as interrupted, and never again."""
    daemon = own_scene.daemon
    own_scene.answer(sse_head(), chunk(bodies.chat_events()[0]), HANG)
    with RawClient(daemon.port) as client:
        received = client.send(post(daemon, "/v1/chat/completions", chat_request(stream=True))).read_until(b"word0")
        request_id = Reply(received).headers["x-request-id"]
        daemon.kill()
        assert b"[DONE]" not in client.read_all()
    daemon.wait_no_postgres()
    daemon.start()
    row = daemon.row(request_id)
    assert row["ending"] == "interrupted"
    assert row["usage_source"] == "unknown"
    assert (row["model"], row["upstream"], row["streamed"]) == ("plain", "oai", True)
    daemon.stop()
    daemon.start()
    time.sleep(0.5)
    assert rows_of(daemon, request_id) == 1


def test_killed_before_the_upstream_answers(own_scene: Scene) -> None:
    """A request that was with the upstream when the process died is on record too: it may cost money."""
    daemon = own_scene.daemon
    own_scene.answer(HANG)
    since = time.time()
    with RawClient(daemon.port) as client:
        client.send(post(daemon, "/v1/chat/completions", chat_request()))
        own_scene.upstream.wait()
        daemon.kill()
    daemon.wait_no_postgres()
    daemon.start()
    row = daemon.row_since(since)
    assert (row["ending"], row["usage_source"]) == ("interrupted", "unknown")
    assert row["input_tokens"] == -(-len(chat_request()) // 4)


def test_kill_leaves_no_postgres(own_scene: Scene) -> None:
    """After kill -9 no PostgreSQL of ours runs on; the next start needs no help."""
    daemon = own_scene.daemon
    assert daemon.postgres_pids()
    daemon.kill()
    daemon.wait_no_postgres()
    daemon.start()
    assert ask(daemon, post(daemon, "/v1/chat/completions", chat_request())).status == 200


def test_requests_do_not_notice_a_database_that_hangs(own_scene: Scene) -> None:
    """With PostgreSQL stopped dead, requests are answered; their records drain by themselves afterwards."""
    daemon = own_scene.daemon
    stopped = freeze(daemon.postgres_pids())
    try:
        seen = [chat_stream(own_scene) for _ in range(5)] + [chat_whole(own_scene) for _ in range(5)]
        assert daemon.metric("luntrex_ledger_spooled_total") >= len(seen), "the server was still stopped"
    finally:
        thaw(stopped)
    for request_id in seen:
        assert daemon.row(request_id, timeout_seconds=20)["ending"] == "complete"
    assert daemon.metric("luntrex_ledger_lost_total") == 0


def test_requests_do_not_notice_a_database_that_died(own_scene: Scene) -> None:
    """PostgreSQL killed under the daemon: requests go on, and every record is there once it is back."""
    daemon = own_scene.daemon
    pids = daemon.postgres_pids()
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    seen = [chat_stream(own_scene) for _ in range(3)]
    assert query_again(daemon, "SELECT 1") == [{"?column?": 1}]
    assert [daemon.row(request_id, timeout_seconds=20)["ending"] for request_id in seen] == ["complete"] * 3


def query_again(daemon: Daemon, sql: str, seconds: float = 30) -> list[dict[str, Any]]:
    """A query's rows, once the database answers again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return daemon.query(sql)
        except (OSError, IndexError, asyncpg.PostgresError, asyncpg.InterfaceError):
            assert time.monotonic() < deadline, "the database did not come back"
            time.sleep(0.2)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_lets_answers_end_and_ships_all(own_scene: Scene, sign: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: a running answer ends whole, everything is shipped, the exit status is 0, nothing stays."""
    daemon = own_scene.daemon
    events = bodies.chat_events()
    own_scene.answer(*bodies.stream(events, gap_seconds=0.15))
    with RawClient(daemon.port) as client:
        client.send(post(daemon, "/v1/chat/completions", chat_request(stream=True))).read_until(b"word0")
        assert daemon.process is not None
        daemon.process.send_signal(sign)
        answer = Reply(client.read_all())
    assert answer.complete
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert daemon.process.wait(30) == 0
    daemon.wait_no_postgres(5)
    assert not [path for path in (daemon.state / "spool").rglob("*.seg") if path.stat().st_size > 0]
    daemon.start()
    assert rows_of(daemon, answer.headers["x-request-id"]) == 1


def test_verbs_work_without_the_daemon(own_scene: Scene) -> None:
    """The command line starts the database itself when no daemon runs, and leaves nothing running."""
    daemon = own_scene.daemon
    request_id = chat_whole(own_scene)
    daemon.row(request_id)
    daemon.stop()
    assert request_id in daemon.usage()
    daemon.wait_no_postgres(5)


def test_killed_again_and_again_under_load(servers: LoopThread) -> None:
    """Five kills at random moments: each answer a client saw complete is on record once (tests/long/kills.py: 200)."""
    scripted = ScriptedUpstream(servers)
    scripted.script = paced
    with running(servers, own_configuration(scripted)) as daemon:
        seen = asyncio.run(kill_under_load(daemon, 5, 6, random.Random(5), lambda _kills, _seen: None))
        found = settle_accounts(daemon, seen, 5, 0)
        assert (found.lost, found.doubled, found.complaints) == ([], [], [])
        assert len(seen.complete) > 5
    scripted.stop()


def readiness(daemon: Daemon) -> tuple[int, dict[str, bool]]:
    """What `/readyz` says."""
    status, body = get(daemon.control_port, "/readyz")
    checks: dict[str, bool] = json.loads(body)["checks"]
    return status, checks


def test_a_full_spool_refuses_before_it_loses(servers: LoopThread) -> None:
    """With the database away and the spool at its bound: 503, not ready, counted; by itself well when it is back."""
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
    with running(
        servers, own_configuration(scripted) | {"ledger": {"max_bytes": 30_000, "segment_bytes": 10_000}}
    ) as daemon:
        assert readiness(daemon) == (
            200,
            dict.fromkeys(("accepting", "allowances", "database", "ledger", "no_maintenance", "storing"), True),
        )
        stopped = freeze(daemon.postgres_pids())
        try:
            answers = [ask(daemon, post(daemon, "/v1/chat/completions", chat_request())) for _ in range(120)]
            assert {answer.status for answer in answers} == {200, 503}
            assert answers[-1].status == 503
            assert "retry-after" in answers[-1].headers
            status, checks = readiness(daemon)
            assert (status, checks["accepting"], checks["ledger"]) == (503, True, False)
            assert daemon.metric("luntrex_ledger_unrecorded_total") > 0
            assert 0 < daemon.metric("luntrex_ledger_spool_bytes") <= 30_000
            assert daemon.metric("luntrex_ledger_backlog_bytes") > 10_000
            deadline = time.monotonic() + 10
            while not daemon.metric("luntrex_ledger_oldest_seconds"):  # at the shipper's next look
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert_identity(daemon)
        finally:
            thaw(stopped)
        deadline = time.monotonic() + 40
        while readiness(daemon)[0] != 200 or daemon.metric("luntrex_ledger_spooled_total"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ask(daemon, post(daemon, "/v1/chat/completions", chat_request())).status == 200
        for answer in answers:
            if answer.status == 200:
                assert daemon.row(answer.headers["x-request-id"])["ending"] == "complete"
        assert_identity(daemon)
        deadline = time.monotonic() + 10
        while (
            b"luntrex.ledger_trouble" not in daemon.stderr.read_bytes()
        ):  # said at the next look, which comes each second
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert daemon.stderr.read_bytes().count(b"luntrex.ledger_trouble") == 1
    scripted.stop()


def test_records_wait_while_the_disk_refuses(servers: LoopThread) -> None:
    """A file system without room for a segment: answers under way end whole, new requests get 503, nothing is lost."""
    scripted = ScriptedUpstream(servers)
    ready = threading.Event()
    scripted.script = [
        sse_head(),
        chunk(bodies.chat_events()[0]),
        ready,
        *map(chunk, bodies.chat_events()[1:]),
        LAST_CHUNK,
    ]
    with running(servers, own_configuration(scripted)) as daemon, RawClient(daemon.port) as client:
        request = post(daemon, "/v1/chat/completions", chat_request(stream=True))
        request_id = Reply(client.send(request).read_until(b"word0")).headers["x-request-id"]
        _, most = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (10, most))  # the kernel refuses: EFBIG
        ready.set()
        client.read_until(b"[DONE]")
        answer = ask(daemon, request)
        assert answer.status == 503
        status, checks = readiness(daemon)
        assert (status, checks["ledger"]) == (503, False)
        assert daemon.metric("luntrex_ledger_write_errors_total") > 0
        assert (daemon.metric("luntrex_ledger_spooled_total"), rows_of(daemon, request_id)) == (1, 0)
        assert_identity(daemon)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (most, most))
        assert daemon.row(request_id)["ending"] == "complete"
        deadline = time.monotonic() + 20
        while readiness(daemon)[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert_identity(daemon)
    scripted.stop()


def test_a_bad_file_is_told_and_costs_one_record(own_scene: Scene) -> None:
    """A byte that went bad in a dead directory: the start after says so in metrics, `ledger status` and quarantine."""
    daemon = own_scene.daemon
    stopped = freeze(daemon.postgres_pids())
    try:
        seen = [chat_whole(own_scene) for _ in range(5)]
        daemon.kill()
    finally:
        thaw(stopped)
    daemon.wait_no_postgres()
    (segment,) = [path for path in (daemon.state / "spool").rglob("*.seg") if seen[2].encode() in path.read_bytes()]
    data = segment.read_bytes()
    at = data.rindex(seen[2].encode())  # of its settle
    segment.write_bytes(data[:at] + b"X" + data[at + 1 :])
    status = json.loads(daemon.cli("ledger", "status", "--json").stdout)
    assert [each["damaged"] for each in status["directories"]] == [True]
    daemon.start()
    endings = [daemon.row(request_id)["ending"] for request_id in seen]
    assert endings == ["complete", "complete", "interrupted", "complete", "complete"]
    assert daemon.metric("luntrex_ledger_damaged_total") == 1
    assert daemon.metric("luntrex_ledger_interrupted_total") == 1
    assert json.loads(daemon.cli("ledger", "status", "--json").stdout)["quarantine_files"] == 1
    assert_identity(daemon)


def assert_identity(daemon: Daemon) -> None:
    """Nothing is unaccounted for, of one reading of the metrics."""
    text = get(daemon.control_port, "/metrics")[1].decode()
    names = ("accepted", "stored", "spooled", "quarantined", "lost")
    found = [
        float(value) for name in names for value in re.findall(rf"^luntrex_ledger_{name}_total (\S+)$", text, re.M)
    ]
    accepted, stored, spooled, quarantined, lost = found
    assert accepted == stored + spooled + quarantined
    assert lost == 0
    assert spooled >= 0


def own_configuration(scripted: ScriptedUpstream) -> dict[str, Any]:
    """Both dialects before a scripted upstream."""
    upstreams = [upstream("oai", "openai", f"{scripted.url}/v1"), upstream("ant", "anthropic", f"{scripted.url}/v1")]
    return {"upstreams": upstreams, "models": [model("plain", "oai"), model("claude", "ant")]}


def test_refused_records_are_tried_again(own_scene: Scene) -> None:
    """A record the database refused is in quarantine; `ledger replay --quarantine` stores it."""
    daemon = own_scene.daemon
    daemon.query("ALTER TABLE usage ADD CONSTRAINT not_now CHECK (model <> 'plain') NOT VALID")
    try:
        request_id = chat_whole(own_scene)
        other = message_stream(own_scene)
        assert daemon.row(other)["ending"] == "complete"
        deadline = time.monotonic() + 20
        while not daemon.metric("luntrex_ledger_quarantined_total"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert rows_of(daemon, request_id) == 0
        assert_identity(daemon)
    finally:
        daemon.query("ALTER TABLE usage DROP CONSTRAINT not_now")
    said = daemon.cli("ledger", "status").stdout
    assert "live" in said
    assert "`luntrex-proxy ledger replay --quarantine` tries them once more." in said
    done = json.loads(daemon.cli("ledger", "replay", "--quarantine", "--json").stdout)
    assert (done["retried"], done["finished"]) == (1, True)
    assert daemon.row(request_id)["ending"] == "complete"
    assert daemon.cli("ledger", "replay").stdout.startswith("stored 0, interrupted 0, quarantined 0")
    check_sums(daemon)
