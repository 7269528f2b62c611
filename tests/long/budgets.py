"""Four daemons, ten thousand requests at once, one budget: what is spent beyond it, against the bound. Run by hand:

    python -m tests.long.budgets [--requests 10000] [--json FILE]

    honest     each request costs what is held for it: nothing may go beyond the amount
    dear       each costs five times as much, a hundred at a time in each process: beyond it goes at most what those
               that run together cost too much
    away       the database goes away midway: nothing may go beyond it
    killed     two daemons are killed midway and started again: nothing may go beyond it, and all of it can be spent
    limit      one on requests: at most a block of each process beyond the amount

Each process answers after two seconds, so that all requests are under way at once. Status 1 when a bound does not hold.
"""

import argparse
import asyncio
import json
import math
import resource
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from luntrex_proxy.store import budgets, limits
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.budgets import Terms
from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import model, upstream
from tests.whole.fleet import Fleet
from tests.whole.raw import post
from tests.whole.scene import chat_request
from tests.whole.server import wait_until

PROCESSES = 4
ANSWERS_AFTER_S = 2.0
HELD_TOKENS = 9
PICO_PER_TOKEN = 10**10
HELD = HELD_TOKENS * PICO_PER_TOKEN
PRICE = {"price": {"input": 0, "output": 10_000}}
PATIENCE_S = 120.0
_DEAR_AT_ONCE = 100


@dataclass
class Result:
    """One run."""

    name: str
    requests: int
    let_in: int
    refused: int
    failed: int
    seconds: float
    amount: int  # in requests that cost what was held
    spent: float
    beyond: float
    bound: float
    good: bool


class Provider:
    """Answers every request after a while with so many tokens; one per run, in a loop of its own."""

    def __init__(self, servers: LoopThread) -> None:
        self.tokens = HELD_TOKENS
        self._server: asyncio.Server
        servers.run(self._listen())
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Answering(self), "127.0.0.1", backlog=4_096
        )


class _Answering(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if len(body) < size:
            return
        self._received = body[size:]
        asyncio.get_running_loop().call_later(ANSWERS_AFTER_S, self._answer)

    def _answer(self) -> None:
        tokens = self._provider.tokens
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
        body = json.dumps({"object": "chat.completion", "choices": [], "usage": usage}).encode()
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)


async def ask_all(
    ports: list[int], raw: list[bytes], count: int, tick: "threading.Event | None" = None, at_once: int = 10**6
) -> Counter[str]:
    """So many requests at once, each on a connection of its own; what became of them."""
    answers: Counter[str] = Counter()
    done, turns = 0, [asyncio.Semaphore(at_once) for _ in ports]

    async def one(number: int) -> None:
        nonlocal done
        which = number % len(ports)
        await turns[which].acquire()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[which])
            writer.write(raw[which])
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            answers[line.split(b" ")[1].decode() if line else "cut"] += 1
            writer.close()
        except (OSError, TimeoutError, IndexError):
            answers["cut"] += 1
        turns[which].release()
        done += 1
        if tick is not None and done >= count // 3:
            tick.set()

    await asyncio.gather(*(one(number) for number in range(count)))
    return answers


class Bench:
    """The fleet and the runs."""

    def __init__(self, servers: LoopThread, requests: int) -> None:
        self.servers, self.requests = servers, requests
        self.provider = Provider(servers)
        wide = {"connections_per_address": None, "requests_per_address": None, "requests": 20_000}
        there = upstream("slow", "openai", f"{self.provider.url}/v1", max_connections=12_000)
        self.fleet = Fleet(
            servers, PROCESSES, gateway={"limits": wide}, upstreams=[there], models=[model("plain", "slow") | PRICE]
        )

    def key(self, amount: int, when_away: str = "closed") -> tuple[str, NewKey]:
        """A key in an account with a budget for so many requests, once every daemon knows of it."""
        account, made = self.fleet.make_key()

        async def change() -> None:
            whose = await budgets.whose_account(self.fleet.pool, account)
            await budgets.change(self.fleet.pool, whose, {"total": amount * HELD}, Terms(when_away=when_away))

        self.servers.run(change())
        time.sleep(1.5)
        return account, made

    def ask(self, made: NewKey, count: int, tick: threading.Event | None = None, at_once: int = 10**6) -> Counter[str]:
        """All at once, or so many at a time to each process."""
        body = chat_request(max_tokens=HELD_TOKENS)
        raw = [post(daemon, "/v1/chat/completions", body, key=made.key) for daemon in self.fleet.daemons]
        return asyncio.run(ask_all([daemon.port for daemon in self.fleet.daemons], raw, count, tick, at_once))

    def spent(self, made: NewKey) -> float:
        """What the key's requests cost by the usage table since its budget was set, in requests as they were held."""

        def stored() -> bool:
            return all(
                daemon.metric("luntrex_ledger_spooled_total") == 0
                for daemon in self.fleet.daemons
                if daemon.process is not None and daemon.process.poll() is None
            )

        wait_until(stored, 60, "everything is stored")
        (row,) = self.fleet.server.sql(
            "SELECT coalesce(sum(u.cost_pico), 0) AS cost FROM usage u JOIN budget b USING (account_id)"
            " WHERE u.key_id = $1 AND u.started_at >= b.since", made.info.key_id, database="luntrex",
        )  # fmt: skip
        return int(row["cost"]) / HELD

    def run(self, name: str) -> Result:
        """One of the runs."""
        began = time.monotonic()
        amount, bound, tick = self.requests // 2, 0.0, threading.Event()
        self.provider.tokens = HELD_TOKENS * (5 if name == "dear" else 1)
        _, made = self.key(10**6 if name == "limit" else amount)
        if name == "limit":
            self.servers.run(limits.of_key(self.fleet.pool, made.info.key_id, "", {"requests/day": amount}))
            time.sleep(1.5)
        faults = threading.Thread(target=getattr(self, f"_{name}", lambda _: None), args=(tick,))
        faults.start()
        answers = self.ask(made, self.requests, tick, _DEAR_AT_ONCE if name == "dear" else self.requests)
        tick.set()
        faults.join()
        let_in, refused = answers["200"], answers["429"] + answers["503"]
        spent = self.spent(made)
        beyond = max(0.0, spent - amount)
        if name == "dear":  # each costs four times more than was held
            bound = 4.0 * PROCESSES * _DEAR_AT_ONCE
        elif name == "limit":
            beyond, bound = max(0, let_in - amount), PROCESSES * max(1, amount // 16)
        good = beyond <= bound
        if name == "killed":
            good = good and self._can_spend_the_rest(made, amount)
        return Result(
            name, self.requests, let_in, refused, sum(answers.values()) - let_in - refused,
            round(time.monotonic() - began, 1), amount, round(spent, 2), round(beyond, 2), bound, good,
        )  # fmt: skip

    def _away(self, tick: threading.Event) -> None:
        tick.wait(PATIENCE_S)
        self.fleet.server.proxy.refuse()
        self.fleet.server.proxy.cut()
        time.sleep(10)
        self.fleet.server.proxy.listen_again()

    def _killed(self, tick: threading.Event) -> None:
        tick.wait(PATIENCE_S)
        for daemon in self.fleet.daemons[:2]:
            daemon.kill()
        for daemon in self.fleet.daemons[:2]:
            daemon.start()

    def _can_spend_the_rest(self, made: NewKey, amount: int) -> bool:
        """What dead processes had borrowed is there again; requests that nobody knows the cost of cost nothing."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.spent(made) >= amount:
                break
            self.ask(made, 400)
        return math.isclose(self.spent(made), amount)


def main() -> int:
    """Exit status 0: every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--runs", default="honest,dear,away,killed,limit")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    servers = LoopThread()
    bench = Bench(servers, options.requests)
    results, names = [], options.runs.split(",")
    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True) as bar:
        line = bar.add_task("runs", total=len(names))
        for name in names:
            bar.update(line, description=name)
            results.append(bench.run(name))
            bar.advance(line)
    bench.fleet.remove()
    servers.stop()
    table = Table(
        "RUN", "ASKED", "LET IN", "REFUSED", "FAILED", "SECONDS", "AMOUNT", "SPENT", "BEYOND", "BOUND", "GOOD"
    )
    for each in results:
        table.add_row(*(str(value) for value in asdict(each).values()))
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
    return 0 if all(each.good for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
