"""A million keys in a real daemon: how long until READY, how much memory, how soon a change is known. Run by hand:

    python -m tests.long.many_keys [--keys 1000000] [--json FILE]

Fills the daemon's own database, starts the daemon again, and asks it with a real key. Then a change to one key of the
million, one to a whole account's 1,000 keys, and a start with a lost pepper, when every key has to be proven.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.filler import add_keys
from tests.upstreams.bodies import answer_by_path
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request

MIB = 1 << 20


def status(daemon: Daemon, key: str) -> int:
    return ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=key)).status


def seconds_until(condition: Callable[[], bool], bound_s: float = 60) -> float:
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > bound_s:
            raise SystemExit("it did not happen")
        time.sleep(0.01)
    return time.monotonic() - started_at


def restart(daemon: Daemon) -> dict[str, float]:
    """Seconds to READY, of which loading is the part that grows; resident MiB; longest stall of the loop seen."""
    daemon.stop()
    started_at = time.monotonic()
    daemon.start()
    ready_s = time.monotonic() - started_at
    return {"ready_s": ready_s, "resident_mib": psutil.Process(daemon.pid).memory_info().rss / MIB}


def measure(daemon: Daemon, keys: int, console: Console) -> dict[str, Any]:
    found: dict[str, Any] = {"one key": restart(daemon)}
    console.print(f"Filling the database with {keys:,} keys ...")
    add_keys(daemon.state, keys - 1)
    found["many keys"] = restart(daemon)
    assert status(daemon, daemon.key) == 200
    made = daemon.make_key("changed")
    seconds_until(lambda: status(daemon, made["key"]) == 200)
    daemon.cli("keys", "revoke", made["id"])
    found["revoked_after_the_verb_s"] = seconds_until(lambda: status(daemon, made["key"]) == 401)
    started_at = time.monotonic()
    daemon.query("WITH v AS (UPDATE change_version SET version = version + 1 RETURNING version),"
                 " k AS (UPDATE api_key SET version = v.version FROM v WHERE key_id IN"
                 " (SELECT key_id FROM api_key WHERE name = 'filler' LIMIT 100000))"
                 " SELECT pg_notify('luntrex_changes', version::text) FROM v")  # fmt: skip
    written_s = time.monotonic() - started_at
    time.sleep(6)
    found["100,000 keys changed at once"] = {
        "written_s": written_s,
        "loop_lag_s": daemon.metric("luntrex_loop_lag_seconds"),
        "resident_mib": psutil.Process(daemon.pid).memory_info().rss / MIB,
    }
    daemon.stop()
    (daemon.state / "pepper").unlink()
    console.print(daemon.cli("secrets", "rotate", "pepper", "--lost").stdout)
    found["lost pepper"] = restart(daemon)
    started_at = time.monotonic()
    assert status(daemon, daemon.key) == 200
    found["lost pepper"]["first_use_s"] = time.monotonic() - started_at
    console.print(daemon.cli("doctor").stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console, servers = Console(width=160), LoopThread()
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: answer_by_path(exchange.path, exchange.body)
    configuration = {
        "gateway": {"limits": {"key_failures_per_minute": None}},
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    with running(servers, configuration) as daemon:
        found = measure(daemon, options.keys, console)
    scripted.stop()
    servers.stop()
    table = Table("what", "figures")
    for what, figures in found.items():
        said = figures if isinstance(figures, float) else ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
        table.add_row(what, f"{said:.2f}" if isinstance(said, float) else said)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
