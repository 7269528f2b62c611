"""`privacy-check`: clean beside a daemon that runs, nothing of it left; a leaking build is caught in every place."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luntrex_proxy.core.canaries import Marks
from luntrex_proxy.privacycheck import searching
from luntrex_proxy.privacycheck.checking import Installation, Verdict, check
from luntrex_proxy.privacycheck.searching import Place
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store.database import open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.clusters import copy_clusters
from tests.store.test_checkjournal import leave
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.simulated import SimulatedUpstream
from tests.whole.daemon import REPOSITORY, Daemon, model, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request
from tests.whole.server import Server


@pytest.fixture
def daemon(servers: LoopThread, simulator: SimulatedUpstream) -> Iterator[Daemon]:
    """A daemon on a database of its own, which is not the embedded one."""
    server = Server(servers)
    configuration = {
        "database": {"url": server.url()},
        "upstreams": [upstream("sim", "openai", simulator.url)],
        "models": [model("demo-small", "sim")],
    }
    made = Daemon(servers, configuration, server.admin_dsn)
    made.environment["TEST_PROVIDER_KEY"] = simulator.secret
    try:
        made.start()
        yield made
    finally:
        made.remove()
        server.remove()


def everything_kept(daemon: Daemon) -> dict[str, int]:
    """How many rows the tables have that a check could leave something in."""
    tables = ("account", "api_key", "usage", "usage_rollup", "usage_rollup_daily", "attempt", "spool_position")
    return {table: daemon.query(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def kill_midway(daemon: Daemon) -> None:
    """kill -9 a check as soon as its requests leave something in the tables."""
    with subprocess.Popen(
        [sys.executable, "-m", "luntrex_proxy", "privacy-check"],
        cwd=daemon.directory,
        env=daemon.environment | {"LUNTREX_CONFIG": str(daemon.config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        while not daemon.query("SELECT FROM usage JOIN account USING (account_id) WHERE name LIKE 'privacy-check-%'"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()


def test_a_check_beside_a_running_daemon_finds_nothing_and_leaves_nothing(daemon: Daemon) -> None:
    """All said, all searched, the rest named; traces gone but for the audit log's, without the account's name."""
    assert ask(daemon, post(daemon, "/v1/chat/completions", chat_request("demo-small"))).status == 200
    daemon.rows_where("true")
    before = everything_kept(daemon)
    temporary = Path(tempfile.mkdtemp(prefix="lx"))  # its own: other tests check beside this one
    daemon.environment["TMPDIR"] = str(temporary)
    done = daemon.cli("privacy-check", "--json", check=False)
    found = json.loads(done.stdout)
    assert (found["leaks"], found["proven"], found["unexpected"]) == (False, True, []), done.stderr
    assert found["requests"] > 60
    places = {place["name"]: place for place in found["places"]}
    assert {"database tables", "files of the daemon", "log", "metrics", "refusals", "state directory"} <= set(places)
    assert places["database tables"]["control"] == places["log"]["control"] == "found"
    for place in ("the database server's files, log and backups", "the journal of the installation's own daemon"):
        assert places[place]["not_checked"]
    assert done.returncode == 1, "not everything could be checked"
    assert any("KMS" in sentence for sentence in found["policy_shortfalls"])
    assert any("pepper" in sentence and "plain files" in sentence for sentence in found["policy_shortfalls"])

    asked = daemon.cli("privacy-check", "--upstream", "sim", check=False, stdin="n\n")
    assert (asked.returncode, "sends test words to a provider" in asked.stderr) == (1, True)
    assert "No model without a *" in daemon.cli("privacy-check", "--upstream", "x", "--yes", check=False).stderr
    table = daemon.cli("privacy-check", "--upstream", "sim", "--allow-unchecked", stdin="y\n")
    assert "NOT CHECKED" in table.stdout
    assert "what sim keeps" in table.stdout
    assert "nothing of it was found" in table.stdout

    assert everything_kept(daemon) == before
    assert list(temporary.iterdir()) == []

    kill_midway(daemon)
    assert list(temporary.iterdir()), "it had no time to clean up"
    deadline = time.monotonic() + 30  # the daemon that runs does it for it
    while list(temporary.iterdir()) or everything_kept(daemon) != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert daemon.said("luntrex.check_leftovers_removed")
    temporary.rmdir()
    assert daemon.query("SELECT count(*) AS n FROM audit_personal WHERE word LIKE 'privacy-check%'")[0]["n"] == 0
    daemon.cli("audit", "verify")
    assert ask(daemon, post(daemon, "/v1/chat/completions", chat_request("demo-small"))).status == 200


def test_a_leaking_build_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control, in each place that is searched: log, spool, table, metrics, refusals, files."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    copy_clusters()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    server = EmbeddedPostgres(state)
    dsn = server.start()

    async def run() -> Verdict:
        pool = await open_pool(dsn)
        try:
            await migrate(pool, post=True)
            await leave(pool, state, tmp_path / "lx-check-before")
            installation = Installation(Settings(), pool, dsn, state, embedded=True)
            program = (sys.executable, "-m", "tests.whole.leaking")
            told: list[str] = []
            verdict = await check(installation, program, told.append)
            assert told[0] == "removed what a check has left that was ended before its end"
            assert not (tmp_path / "lx-check-before").exists()
            assert await pool.fetchval("SELECT count(*) FROM account") == 0
            return verdict
        finally:
            await pool.close()

    try:
        verdict = asyncio.run(run())
    finally:
        server.stop()
    assert verdict.leaks
    caught = {place.name for place in verdict.places if place.hits}
    assert caught == {place.name for place in verdict.places if not place.not_checked}
    assert any("(compressed)" in hit.where for place in verdict.places for hit in place.hits)


def test_a_search_that_does_not_find_what_was_planted_proves_nothing(tmp_path: Path) -> None:
    """Nothing planted, or in a place that is not looked into: the verdict says so, however clean all looks."""
    said, planted = Marks("zqa1b2c3d4e5f6"), Marks("zpa1b2c3d4e5f6")
    since = searching.now()
    (tmp_path / "file").write_text("nothing")
    assert searching.search_files("files", tmp_path, said, planted, since)[0].control == "NOT FOUND"
    assert searching.search_text("log", b"nothing", said, b"luntrex.request").control == "NOT FOUND"
    (tmp_path / "big").write_bytes(bytes((8 << 20) - 5) + planted("edge").encode() + said("edge").encode())
    [place] = searching.search_files("files", tmp_path, said, planted, since)
    assert (place.control, bool(place.hits)) == ("found", True)
    assert not Verdict([Place("x", control="NOT FOUND")]).proven
    assert not Verdict(unexpected=["chat: 401 instead of 200"]).proven
    assert Verdict([Place("x", control="found")]).proven


def test_a_file_that_cannot_be_read_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and so is a directory; one that is gone meanwhile is none, and links lead elsewhere."""
    said, since = Marks("zqa1b2c3d4e5f6"), searching.now()
    for name in ("closed", "gone", "open"):
        (tmp_path / name).write_text(said("word"))
    (tmp_path / "link").symlink_to("/etc/shadow")
    read, walk = searching._pieces, searching.os.walk

    def pieces(path: Path) -> Iterator[bytes]:
        if path.name != "open":
            raise PermissionError if path.name == "closed" else FileNotFoundError
        return read(path)

    def walking(root: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
        yield from walk(root, onerror=onerror)
        onerror(PermissionError(13, "Permission denied", str(root / "secret")))

    monkeypatch.setattr(searching, "_pieces", pieces)
    monkeypatch.setattr(searching.os, "walk", walking)
    place, closed = searching.search_files("files", tmp_path, said, None, since)
    assert [hit.where for hit in place.hits] == [str(tmp_path / "open")]
    assert closed.name in {f"files: {tmp_path / name} and 1 more" for name in ("closed", "secret")}
    assert closed.not_checked
