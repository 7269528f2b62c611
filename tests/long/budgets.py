"""Four daemons, ten thousand requests at once, one budget: what is spent beyond it, against the bound. Run by hand:

    python -m tests.long.budgets [--requests 10000] [--runs honest,dear,...] [--json FILE]

    honest     each request costs what is held for it: nothing may go beyond the amount
    dear       each costs five times as much: beyond it goes at most what those cost too much that ran in a process when
               it let its last one in, as its records say
    away       the database goes away midway: nothing may go beyond it
    killed     two daemons are killed midway and started again: nothing may go beyond it
    limit      one on requests per hour: at most a block of each process beyond what the amount and the time allow. It
               is `open`: so many at once keep a process from hearing of the database in time, which is no outage

All connections are made first, then all requests are sent, and nothing is answered for some seconds, so that all run
at once. After that requests go on in waves until all there is is spent: only then a bound is tested. Each daemon
is asked with a key of its own, by which its records are told apart. Status 1 when a bound does not hold or a run has
not spent what there was.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from luntrex_proxy.store import accounts, apikeys, budgets, limits
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.budgets import Terms
from tests.long.slow_provider import provider
from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import model, unique, upstream
from tests.whole.fleet import Fleet, status
from tests.whole.raw import post
from tests.whole.scene import chat_request
from tests.whole.server import wait_until

PROCESSES = 4
HELD_TOKENS = 9
PICO_PER_TOKEN = 10**10
HELD = HELD_TOKENS * PICO_PER_TOKEN
PRICE = {"price": {"input": 0, "output": 10_000}}
DEAR = 5
PATIENCE_S = 120.0
_WAVE = 1_000  # at once, of all together
_CONNECTING_AT_ONCE = 200
_HOUR_S = 3_600


@dataclass
class Result:
    """One run."""

    name: str
    requests: int
    let_in: int
    refused: int  # for good: 429
    told_to_wait: int  # 503: so many came at once that not all could be decided in time
    failed: int
    waves: int  # of a thousand, after the first
    seconds: float
    amount: int  # in requests that cost what was held
    at_once: int  # under way when their process let its last one in, of all processes
    spent: float
    beyond: float
    bound: float
    good: bool


async def ask_all(ports: list[int], raw: list[bytes], count: int, sent: threading.Event | None = None) -> Counter[str]:
    """So many requests at once, each on a connection of its own; what became of them. `sent` once all are."""
    answers: Counter[str] = Counter()
    turns = asyncio.Semaphore(_CONNECTING_AT_ONCE)

    async def connect(number: int) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter] | None:
        async with turns:
            try:
                return number, *await asyncio.open_connection("127.0.0.1", ports[number % len(ports)])
            except OSError:
                answers["cut"] += 1
                return None

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            answers[line.split(b" ")[1].decode() if line else "cut"] += 1
        except (OSError, TimeoutError, IndexError):
            answers["cut"] += 1
        writer.close()

    made = [each for each in await asyncio.gather(*map(connect, range(count))) if each is not None]
    for number, _, writer in made:
        writer.write(raw[number % len(raw)])
    if sent is not None:
        sent.set()
    await asyncio.gather(*(hear(reader, writer) for _, reader, writer in made))
    return answers


class Bench:
    """The fleet and the runs."""

    def __init__(self, servers: LoopThread, requests: int, port: int, tokens: "Synchronized[int]") -> None:
        self.servers, self.requests, self.tokens = servers, requests, tokens
        wide = {"connections_per_address": None, "requests_per_address": None, "requests": 20_000}
        there = upstream("slow", "openai", f"http://127.0.0.1:{port}/v1", max_connections=12_000)
        self.fleet = Fleet(
            servers, PROCESSES, gateway={"limits": wide}, upstreams=[there], models=[model("plain", "slow") | PRICE]
        )

    def keys(self) -> tuple[str, list[NewKey]]:
        """An account with a key for each daemon, once every daemon knows them."""
        account = unique("acct")

        async def make() -> list[NewKey]:
            await accounts.create(self.fleet.pool, account)
            lookup = self.fleet.lookup
            return [
                await apikeys.create(self.fleet.pool, lookup, account, f"k{number}", bcrypt_cost=4)
                for number in range(PROCESSES)
            ]

        made = self.servers.run(make())
        for daemon in self.fleet.daemons:
            wait_until(lambda daemon=daemon: status(daemon, made[-1].key) == 200, 20, "keys are known")
        return account, made

    def ask(self, keys: list[NewKey], count: int, sent: threading.Event | None = None) -> Counter[str]:
        """So many at once, a quarter of them of each process."""
        body = chat_request(max_tokens=HELD_TOKENS)
        raw = [
            post(daemon, "/v1/chat/completions", body, key=key.key)
            for daemon, key in zip(self.fleet.daemons, keys, strict=True)
        ]
        return asyncio.run(ask_all([daemon.port for daemon in self.fleet.daemons], raw, count, sent))

    def run(self, name: str) -> Result:
        """One of the runs."""
        amount = self.requests // 2
        self.tokens.value = HELD_TOKENS * (DEAR if name == "dear" else 1)
        account, keys = self.keys()
        self._set(account, name, amount)
        began, sent = time.monotonic(), threading.Event()
        fault: Callable[[threading.Event], None] = getattr(self, f"_{name}", lambda _: None)
        faults = threading.Thread(target=fault, args=(sent,))
        faults.start()
        answers = self.ask(keys, self.requests, sent)
        faults.join()
        waves, is_spent = 0, False
        while time.monotonic() - began < PATIENCE_S and not is_spent:
            wave = self.ask(keys, _WAVE)
            waves, answers = waves + 1, answers + wave
            is_spent = wave["429"] == _WAVE
        seconds = time.monotonic() - began
        let_in, refused, late = answers["200"], answers["429"], answers["503"]
        failed = sum(answers.values()) - let_in - refused - late
        spent, at_once = self._spent(keys)
        beyond, bound = max(0.0, spent - amount), 0.0
        if name == "dear":
            bound = float(at_once * (DEAR - 1))
        elif name == "limit":
            beyond = max(0.0, let_in + failed - amount)
            bound = round(amount * seconds / _HOUR_S + PROCESSES * max(1, amount // 16), 1)
        return Result(
            name, sum(answers.values()), let_in, refused, late, failed, waves, round(seconds, 1), amount, at_once,
            round(spent, 2), round(beyond, 2), bound, is_spent and beyond <= bound,
        )  # fmt: skip

    def _set(self, account: str, name: str, amount: int) -> None:
        """The account's budget or limit, once every daemon knows of it."""

        async def change() -> None:
            if name == "limit":
                await limits.of_account(self.fleet.pool, account, "", {"requests/hour": amount}, when_away="open")
            else:
                whose = await budgets.whose_account(self.fleet.pool, account)
                await budgets.change(self.fleet.pool, whose, {"total": amount * HELD}, Terms())

        self.servers.run(change())
        time.sleep(1.5)  # promised within a second

    def _spent(self, keys: list[NewKey]) -> tuple[float, int]:
        """By the records since the budget was set: requests as they were held; how many ran when each let its last in.

        That was not before the last one came. A record's clock is exact to some milliseconds: whoever ended so shortly
        before counts as running.
        """

        def stored() -> bool:
            return all(daemon.metric("luntrex_ledger_spooled_total") == 0 for daemon in self.fleet.daemons)

        wait_until(stored, 60, "everything is stored")
        rows = self.fleet.server.sql(
            "WITH mine AS ("
            " SELECT u.key_id, cost_pico, u.started_at, u.started_at + duration_us * interval '1 us' AS ended"
            " FROM usage u LEFT JOIN budget b USING (account_id)"
            " WHERE u.key_id = ANY($1) AND cost_pico > 0 AND (b.since IS NULL OR u.started_at >= b.since)),"
            " last AS (SELECT key_id, max(started_at) AS came FROM mine GROUP BY key_id)"
            " SELECT coalesce(sum(cost_pico), 0) AS cost,"
            " count(*) FILTER (WHERE ended >= came - interval '50 ms') AS at_once FROM mine JOIN last USING (key_id)",
            [key.info.key_id for key in keys], database="luntrex",
        )  # fmt: skip
        return int(rows[0]["cost"]) / HELD, rows[0]["at_once"]

    def _away(self, sent: threading.Event) -> None:
        sent.wait(PATIENCE_S)
        self.fleet.server.proxy.refuse()
        self.fleet.server.proxy.cut()
        time.sleep(10)
        self.fleet.server.proxy.listen_again()

    def _killed(self, sent: threading.Event) -> None:
        sent.wait(PATIENCE_S)
        time.sleep(2)  # some have borrowed, and run
        for daemon in self.fleet.daemons[:2]:
            daemon.kill()
        for daemon in self.fleet.daemons[:2]:
            daemon.start()


def main() -> int:
    """Exit status 0: every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--runs", default="honest,dear,away,killed,limit")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results, names = [], options.runs.split(",")
    console = Console(stderr=True)
    servers = LoopThread()
    with (
        provider(multiprocessing.get_context("spawn")) as (port, tokens),
        Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True) as bar,
    ):
        bench = Bench(servers, options.requests, port, tokens)
        line = bar.add_task("runs", total=len(names))
        for name in names:
            bar.update(line, description=name)
            results.append(bench.run(name))
            print(json.dumps(asdict(results[-1])), flush=True)
            bar.advance(line)
        bench.fleet.remove()
    servers.stop()
    table = Table(*(name.upper().replace("_", " ") for name in asdict(results[0])))
    for each in results:
        table.add_row(*(str(value) for value in asdict(each).values()))
    Console(width=160).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
    return 0 if all(each.good for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
