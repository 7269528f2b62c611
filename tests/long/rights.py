"""Export and erasure of a person with a million requests while the relay is under load, and of a thousand people.

    python -m tests.long.rights [--rows 1000000] [--people 1000] [--threads 4]

Printed: the longest delay of the daemon's loop and its memory before, during and after; how long each took; where
canaries were still found. Status 1 when a canary is left, a sum changed or somebody else lost a row.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from pathlib import Path

import psutil

from luntrex_proxy.store import erasing
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.store import crowd
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.erasures import fill, left_of, now, until
from tests.whole.load import Load
from tests.whole.scene import Scene

CANARY = "canary7f3a"
PART = 50  # people erased between two looks at everybody else
_SAMPLE_S = 0.2
_TOTALS = (
    "SELECT (SELECT sum(requests) FROM usage_rollup)::bigint AS hours, (SELECT sum(requests) FROM usage_rollup_daily)"
    "::bigint AS days, (SELECT sum(cost_pico) FROM usage_rollup_daily)::text AS cost"
)


class Watch:
    """The daemon's loop delay and memory, sampled inside a `with`."""

    def __init__(self, daemon: Daemon, what: str) -> None:
        self._daemon, self._what = daemon, what
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.lag_s, self.rss = 0.0, 0

    def __enter__(self) -> "Watch":
        time.sleep(31)  # what the metric remembers of before is gone
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        took = time.monotonic() - self._begun
        self._over.set()
        self._thread.join()
        print(f"{self._what}: {took:.1f} s, longest delay {self.lag_s * 1000:.1f} ms, RSS at most {self.rss >> 20} MiB")

    def _run(self) -> None:
        process = psutil.Process(self._daemon.pid)
        while not self._over.wait(_SAMPLE_S):
            self.rss = max(self.rss, process.memory_info().rss)
            self.lag_s = max(self.lag_s, self._daemon.metric("luntrex_loop_lag_seconds"))


def export(daemon: Daemon, person: str, rows: int) -> None:
    """Fetch the export as a browser would, and count what is in it."""
    token = "t" * 43
    daemon.query(
        "INSERT INTO export_link (person_id, token_hash) VALUES ($1, $2)",
        uuid.UUID(person), hashlib.sha256(token.encode()).digest(),
    )  # fmt: skip
    target = daemon.directory / "export.zip"
    connection = http.client.HTTPConnection("127.0.0.1", daemon.control_port, timeout=600)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    connection.request("POST", "/rights/download", f"token={token}", headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    with target.open("wb") as file:
        while piece := answer.read(1 << 16):
            file.write(piece)
    with zipfile.ZipFile(target) as archive:
        sums = json.loads(archive.read("manifest.json"))
        with archive.open("data/usage.csv") as lines:
            found = sum(1 for _ in lines) - 1
        print(f"export: {target.stat().st_size >> 20} MiB, {found} requests, "
              f"{sums['data/usage.json']['bytes'] >> 20} MiB of JSON")  # fmt: skip
    assert found >= rows
    target.unlink()


async def many(people: int) -> int:
    """Erase so many in random order, of each table in the schema; how many tables others lost something of."""
    with tempfile.TemporaryDirectory(prefix="lx-") as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            pool = await open_pool(server.start(), max_size=4)
            await migrate(pool, post=True)
            await crowd.fill(pool, people)
            wrong = await _erase_all(pool, Path(directory), people)
            await close_pool(pool)
        finally:
            server.stop()
    return wrong


async def _erase_all(pool: Pool, directory: Path, people: int) -> int:
    order = [row[0] for row in await pool.fetch("SELECT person_id FROM crowd.c ORDER BY n <= 100, md5(n::text)")]
    totals, wrong, took_s = await pool.fetch(crowd.TOTALS), 0, 0.0
    for begin in range(0, people, PART):
        part = order[begin : begin + PART]
        others, _ = await crowd.others(pool, part)
        async with pool.acquire() as connection:
            before, begun_s = await others.look(connection), time.monotonic()
            for person in part:
                await erasing.erase_person(pool, directory, person, now(), 2192, although_last_owner=True)
            took_s += time.monotonic() - begun_s
            after = await others.look(connection)
        lost = {name: said for name, rest in before.items() if (said := rest.lost_to(after[name]))}
        wrong += len(lost)
        print(f"{begin + len(part)} people erased, of others lost: {lost or 'nothing'}", flush=True)
    left = await pool.fetchval("SELECT count(*) FROM person")
    is_whole = await pool.fetch(crowd.TOTALS) == totals
    print(f"{people} people in random order: {took_s:.0f} s, {left} left, sums {'kept' if is_whole else 'CHANGED'}")
    return wrong + left + (not is_whole)


def main() -> int:
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=4)
    given = parser.parse_args()
    servers = LoopThread()
    scripted = ScriptedUpstream(servers)
    configuration = {"upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")], "models": [model("plain", "oai")]}
    with running(servers, configuration) as daemon:
        Scene(daemon, scripted).reset()
        made = daemon.make_key(CANARY)
        owner = uuid.uuid4()
        daemon.query("INSERT INTO person (person_id, email, affirmed_16_at) VALUES ($1, 'o@x.org', now())", owner)
        daemon.query("INSERT INTO membership SELECT $1, account_id, 'owner' FROM account LIMIT 1", owner)
        person = fill(daemon, made["id"], given.rows, CANARY)
        words, ids = [CANARY], [made["id"], person]
        assert left_of(daemon, words, []), "the search finds nothing that is there"
        assert left_of(daemon, [], ids), "the search finds nothing that is there"
        if os.geteuid() == 0:
            psutil.Process(daemon.pid).nice(-15)  # what else this machine does is not what is measured
        with Load(daemon, threads=given.threads, pause_s=0.01) as load:
            with Watch(daemon, "load alone"):
                time.sleep(20)
            with Watch(daemon, "with an export"):
                export(daemon, person, given.rows)
            totals, request = daemon.query(_TOTALS), json.loads(daemon.cli("rights", "erase", person, "--json").stdout)
            with Watch(daemon, "with an erasure"):
                daemon.query("UPDATE rights_request SET act_at = now() WHERE reference = $1", request["reference"])
                done = "SELECT count(*) AS n FROM rights_request WHERE state = 'done'"
                until(lambda: daemon.query(done) == [{"n": 1}], 900)
            print(f"load: {len(load.completed)} whole answers, {len(load.wrong)} others")
        status = json.loads(daemon.cli("rights", "status", request["reference"], "--json").stdout)
        print(f"receipt: {status['receipt']['unlinked']} unlinked, {status['receipt']['erased']} erased")
        after = daemon.query(_TOTALS)
        assert after[0]["days"] >= totals[0]["days"], (totals, after)
        unlinked = daemon.query("SELECT count(*) AS n FROM usage WHERE key_id = 'erased'")[0]["n"]
        time.sleep(10)
        found = left_of(daemon, words, ids)
        print(f"unlinked: {unlinked} rows; canaries found: {found or 'none'}")
        wrong = asyncio.run(many(given.people)) if given.people else 0
    scripted.stop()
    servers.stop()
    return 1 if found or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
