"""A million keys in a real daemon: how long until READY, how much memory, how long the loop ever stands still. By hand:

    python -m tests.long.many_keys [--keys 1000000] [--terms] [--json FILE]

Fills the daemon's own database, starts the daemon again, and asks it with a real key. Then everything that touches many
keys at once: changes, what their account says (suspended, resumed, another policy) until the first and the last of its
keys follow, all read anew with every key kept and with every key gone, all at their end in one moment, and a start with
a lost pepper, when every key has to be proven. With `--terms` every key has a beginning, an end and a scope.

The stall of a step is the longest time a timer of a millisecond came late in it, less the time others had the core;
`busy` is how long the loop's own code ran in one go (design section 10: 5 ms is the goal, 15 ms the bound).
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.filler import add_keys, execute
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.datadirectory import running_dsn
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, upstream
from tests.whole.fleet import Watch, answer, status

MIB = 1 << 20
VERSION = "UPDATE change_version SET version = version + 1 RETURNING version"
TOLD = "SELECT pg_notify('luntrex_changes', version::text) FROM v"
Found = dict[str, dict[str, float]]


def seconds_until(condition: Callable[[], bool], bound_s: float = 180) -> float:
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > bound_s:
            raise SystemExit("it did not happen")
        time.sleep(0.01)
    return time.monotonic() - started_at


class Measured:
    """A daemon and what was found."""

    def __init__(self, daemon: Daemon, stalls: Path, console: Console, servers: LoopThread) -> None:
        self.daemon, self.stalls, self.console, self._servers = daemon, stalls, console, servers
        self.found: Found = {}

    def resident_mib(self) -> float:
        return psutil.Process(self.daemon.pid).memory_info().rss / MIB

    @contextlib.contextmanager
    def step(self, what: str, settle_s: float = 3) -> Iterator[dict[str, float]]:
        """What happens in it is followed by some seconds; then come the stalls since it began, and the memory."""
        began_s = time.monotonic()
        figures: dict[str, float] = {}
        self.found[what] = figures
        yield figures
        time.sleep(settle_s)
        lines = [[float(word) for word in line.split()] for line in self.stalls.read_text().splitlines()]
        seen = [line for line in lines if len(line) == 3 and line[0] > began_s]
        figures["stall_ms"], figures["busy_ms"] = max(line[1] for line in seen), max(line[2] for line in seen)
        figures["resident_mib"] = self.resident_mib()
        figures["load"] = os.getloadavg()[0]
        self.console.print(what, figures, highlight=False)

    def restart(self, what: str) -> None:
        """Seconds to READY, of which loading is the part that grows."""
        self.daemon.stop()
        with self.step(what) as figures:
            started_at = time.monotonic()
            self.daemon.start()
            figures["ready_s"] = time.monotonic() - started_at

    def works(self) -> bool:
        return status(self.daemon, self.daemon.key) == 200

    def act(self, work: Callable[[Pool], Awaitable[object]]) -> float:
        """An act beside the daemon; the moment at which it was committed."""

        async def body() -> float:
            pool = await open_pool(running_dsn(self.daemon.state) or "")
            try:
                await work(pool)
                return time.monotonic()
            finally:
                await close_pool(pool)

        return self._servers.run(body())

    def sql(self, statement: str) -> None:
        execute(self.daemon.state, statement)

    def change(self, sql: str) -> None:
        """Change keys (`v.version` is the new version) and tell all processes."""
        self.sql(f"WITH v AS ({VERSION}), k AS ({sql}) {TOLD}")


def measure(measured: Measured, keys: int, *, terms: bool) -> None:
    daemon = measured.daemon
    measured.restart("one key")
    measured.console.print(f"Filling the database with {keys:,} keys ...")
    add_keys(daemon.state, keys - 1, terms=terms)
    measured.restart("many keys")
    assert measured.works()
    change_some(measured)
    change_all(measured)
    daemon.stop()
    (daemon.state / "pepper").unlink()
    measured.console.print(daemon.cli("secrets", "rotate", "pepper", "--lost").stdout)
    measured.restart("lost pepper")
    started_at = time.monotonic()
    assert measured.works()
    measured.found["lost pepper"]["first_use_s"] = time.monotonic() - started_at
    measured.console.print(daemon.cli("doctor").stdout)
    read_anew(measured)
    end_together(measured)


def change_some(measured: Measured) -> None:
    daemon = measured.daemon
    made = daemon.make_key("changed")
    seconds_until(lambda: status(daemon, made["key"]) == 200)
    with measured.step("one key revoked") as figures:
        daemon.cli("keys", "revoke", made["id"])
        figures["after_the_verb_s"] = seconds_until(lambda: status(daemon, made["key"]) == 401)
    with measured.step("100,000 keys changed at once", settle_s=8):
        measured.change(
            "UPDATE api_key SET version = v.version FROM v WHERE key_id IN"
            " (SELECT key_id FROM api_key WHERE name = 'filler' LIMIT 100000)"
        )


def change_all(measured: Measured) -> None:
    """Seconds from the commit of what the account says; the keys are the first and the last of its million."""
    daemon, account = measured.daemon, measured.daemon.account
    keys = {"first_key_s": daemon.key, "last_key_s": daemon.make_key("last")["key"]}
    for key in keys.values():
        seconds_until(lambda key=key: status(daemon, key) == 200)
    with measured.step("account suspended") as figures:
        watches = {name: Watch(daemon, key) for name, key in keys.items()}
        changed_at = measured.act(lambda pool: accounts.suspend(pool, account))
        for name, watch in watches.items():
            watch.wait()
            figures[name] = watch.refused_at - changed_at
            figures[name.replace("key", "stream")] = watch.cut_at - changed_at
    policy = "region=us; retention=none; training=never"  # no upstream here fits it
    for what, work, wanted in (
        ("account resumed", lambda pool: accounts.resume(pool, account), 200),
        ("another policy", lambda pool: accounts.set_policy(pool, account, policy), 403),
        ("the policy as before", lambda pool: accounts.set_policy(pool, account, None), 200),
    ):
        with measured.step(what) as figures:
            changed_at = measured.act(work)
            for name, key in keys.items():
                seconds_until(lambda key=key, wanted=wanted: status(daemon, key) == wanted)
                figures[name] = time.monotonic() - changed_at
    with measured.step("all read anew, all kept", settle_s=25):
        measured.sql("UPDATE change_version SET version = 0")


def read_anew(measured: Measured) -> None:
    with measured.step("all read anew, all unproven ones gone", settle_s=15):
        measured.sql("UPDATE api_key SET status = 'suspended' WHERE name = 'filler'")
        measured.sql("UPDATE change_version SET version = 0")
    with measured.step("all resumed, as proven ones", settle_s=25):
        measured.change(
            "UPDATE api_key SET status = 'active', version = v.version, pepper_fingerprint = i.pepper_fingerprint"
            " FROM v, installation i WHERE name = 'filler'"
        )
    with measured.step("all read anew, all gone", settle_s=20):
        measured.sql("UPDATE api_key SET status = 'suspended' WHERE name = 'filler'")
        measured.sql("UPDATE change_version SET version = 0")


def end_together(measured: Measured) -> None:
    """All that are there, and as many rows change: reading them takes longer than some of them live."""
    with measured.step("all resumed, to end in 60 s together", settle_s=110):
        measured.change(
            "UPDATE api_key SET status = 'active', version = v.version, not_before = NULL,"
            " expires_at = now() + interval '60 s' FROM v WHERE name = 'filler'"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--terms", action="store_true", help="every key begins, ends and has a scope")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console, servers = Console(width=160), LoopThread()
    scripted = ScriptedUpstream(servers)
    scripted.script = answer
    configuration = {
        "gateway": {"limits": {"key_failures_per_minute": None}},
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    with tempfile.TemporaryDirectory() as directory:
        stalls = Path(directory) / "stalls"
        daemon = Daemon(servers, configuration, BENCH_STALLS=str(stalls))
        daemon.program = ("-m", "benchmarks.watched")
        try:
            daemon.start()
            measured = Measured(daemon, stalls, console, servers)
            measure(measured, options.keys, terms=options.terms)
        finally:
            daemon.remove()
    scripted.stop()
    servers.stop()
    table = Table("what", "figures")
    for what, figures in measured.found.items():
        table.add_row(what, ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    console.print(table)
    extra = measured.found["many keys"]["resident_mib"] - measured.found["one key"]["resident_mib"]
    console.print(f"{options.keys:,} keys take {extra:.0f} MiB more than one.")
    if options.json:
        options.json.write_text(json.dumps(measured.found, indent=1) + "\n")


if __name__ == "__main__":
    main()
