"""Four daemons on one database share limits and budgets: together they let in what one would, and SDKs are told."""

import concurrent.futures
import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from luntrex_proxy.store import apikeys, budgets, limits
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.budgets import Terms
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.whole import calls
from tests.whole.daemon import Daemon, model
from tests.whole.fleet import Fleet
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request
from tests.whole.server import wait_until

PROCESSES = 4
SAID: Any = [{"role": "user", "content": "hello"}]
# A cent for each token of the answer, of which each has nine, and nothing else costs anything.
COST = bodies.OUTPUT_TOKENS * 10**10
PRICE = {"price": {"input": 0, "output": 10_000}}


@pytest.fixture(scope="module")
def fleet(servers: LoopThread) -> Iterator[Fleet]:
    """Four daemons, both dialects."""
    made = Fleet(servers, PROCESSES, models=[model("plain", "oai") | PRICE, model("claude", "ant") | PRICE])
    yield made
    made.remove()


def request(daemon: Daemon, key: str) -> bytes:
    """One that costs exactly what is held for it."""
    return post(daemon, "/v1/chat/completions", chat_request(max_tokens=bodies.OUTPUT_TOKENS), key=key)


def statuses(fleet: Fleet, key: str, each: int) -> list[int]:
    """What so many requests to each daemon get, all at once."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, daemon, request(daemon, key)) for daemon in fleet.daemons * each]
        return [one.result().status for one in asked]


def set_budget(fleet: Fleet, servers: LoopThread, account: str, requests: int, when_away: str = "closed") -> None:
    """For so many requests, once every daemon knows of it."""

    async def change() -> None:
        whose = await budgets.whose_account(fleet.pool, account)
        await budgets.change(fleet.pool, whose, {"total": requests * COST}, Terms(when_away=when_away))

    servers.run(change())
    time.sleep(1.0)  # promised


def spent(fleet: Fleet, account: str) -> tuple[int, int]:
    """How many requests the account's budget has paid and lent."""
    found = json.loads(fleet.daemons[0].cli("budgets", "list", "--account", account, "--json").stdout)
    return tuple(round(float(found[0][name]) * 10**12 / COST) for name in ("spent_dollars", "held_dollars"))


def test_a_budget_is_spent_once_by_all(fleet: Fleet, servers: LoopThread) -> None:
    """Exactly; SDKs stop at once; who is killed counts until its records are stored, and then what they cost."""
    account, made = fleet.make_key()
    set_budget(fleet, servers, account, 40)
    let_in = statuses(fleet, made.key, 15).count(200)
    assert 30 <= let_in <= 40
    # What one has at hand and does not use is given to who lacks it: the last cent is spent, wherever it is asked for.
    deadline = time.monotonic() + 15
    while let_in < 40:
        assert time.monotonic() < deadline, f"{let_in} of 40"
        let_in += statuses(fleet, made.key, 1).count(200)
        time.sleep(0.1)
    assert statuses(fleet, made.key, 2) == [429] * 8
    wait_until(lambda: spent(fleet, account) == (40, 0) or sum(spent(fleet, account)) == 40, 10, "all is stored")
    began = time.monotonic()
    for daemon in fleet.daemons:
        chat = calls.openai_client(daemon.url, made.key, max_retries=10)
        messages = calls.anthropic_client(daemon.url, made.key, max_retries=10)
        with pytest.raises(openai.RateLimitError, match=r"The limit: \$3.60 in total of the account; \$0") as ours:
            chat.chat.completions.create(model="plain", messages=SAID, stream=True)
        assert (ours.value.code, ours.value.type) == ("insufficient_quota", "insufficient_quota")
        with pytest.raises(anthropic.RateLimitError) as theirs:
            messages.messages.create(model="claude", max_tokens=9, messages=SAID)
        assert type(theirs.value).__name__ == "EnforcedSpendLimitReachedError"
    assert time.monotonic() - began < 5, "they tried again"
    dies(fleet, servers, account, made)


def dies(fleet: Fleet, servers: LoopThread, account: str, made: NewKey) -> None:
    """A daemon that has borrowed is killed: nobody spends that, until the next one on its directory has stored all."""
    set_budget(fleet, servers, account, 60)
    victim = fleet.daemons[-1]
    assert ask(victim, request(victim, made.key)).status == 200
    victim.kill()
    rest = Fleet.__new__(Fleet)
    rest.daemons = fleet.daemons[:-1]
    let_in = 1 + statuses(rest, made.key, 10).count(200)
    assert let_in <= 20
    victim.start()
    deadline = time.monotonic() + 20
    while let_in < 20:
        assert time.monotonic() < deadline, f"{let_in} of 20"
        let_in += statuses(fleet, made.key, 1).count(200)
        time.sleep(0.1)
    assert statuses(fleet, made.key, 2) == [429] * 8
    wait_until(lambda: sum(spent(fleet, account)) == 60, 10, "all is stored")


def test_a_new_key_is_held_to_what_counts_from_its_first_request_on(fleet: Fleet, servers: LoopThread) -> None:
    """One that replaces another brings no new money and no new requests, not even for a moment."""
    for of in ("budget", "limit"):
        _, made = fleet.make_key()
        key_id = made.info.key_id

        async def change(of: str = of, key_id: str = key_id) -> None:
            if of == "limit":
                await limits.of_key(fleet.pool, key_id, "", {"requests/day": 1})
            else:
                whose = await budgets.whose_key(fleet.pool, key_id)
                await budgets.change(fleet.pool, whose, {"total": COST}, Terms())

        servers.run(change())
        time.sleep(1.0)
        daemon = fleet.daemons[0]
        assert [ask(daemon, request(daemon, made.key)).status for _ in range(2)] == [200, 429]
        for _ in range(3):
            made = servers.run(apikeys.rotate(fleet.pool, fleet.lookup, made.info.key_id, overlap_s=60, bcrypt_cost=4))
            status = 401
            while status == 401:
                status = ask(daemon, request(daemon, made.key)).status
            assert status == 429, of


def test_a_limit_is_shared_and_outlives_its_processes(fleet: Fleet, servers: LoopThread) -> None:
    """All together let in the amount and at most a block of each beyond it; the next process goes on there."""
    _, made = fleet.make_key()
    servers.run(limits.of_key(fleet.pool, made.info.key_id, "", {"requests/day": 32}))
    time.sleep(1.0)
    let_in = statuses(fleet, made.key, 15).count(200)
    assert 32 <= let_in <= 32 + PROCESSES * 2
    fleet.daemons[0].kill()
    fleet.daemons[0].start()
    assert statuses(fleet, made.key, 2) == [429] * 8


def test_without_the_database_each_is_open_or_closed(fleet: Fleet, servers: LoopThread) -> None:
    """As it says itself; answers, /readyz and metrics tell."""
    (account, closed), (other, opened) = fleet.make_key(), fleet.make_key()
    set_budget(fleet, servers, account, 64)
    set_budget(fleet, servers, other, 64, "open")
    daemon = fleet.daemons[0]
    assert [ask(daemon, request(daemon, made.key)).status for made in (closed, opened)] == [200, 200]
    fleet.server.proxy.refuse()
    fleet.server.proxy.cut()
    try:
        for made, status, word in ((closed, 503, "closed"), (opened, 200, "open")):
            deadline = time.monotonic() + 20
            while "x-luntrex-allowance" not in (answer := ask(daemon, request(daemon, made.key))).headers:
                assert answer.status == 200, "what is at hand can be spent"
                assert time.monotonic() < deadline
            assert (answer.status, answer.headers["x-luntrex-allowance"]) == (status, word)
        assert not daemon.checks()["allowances"]
        assert daemon.metric("luntrex_allowances_away") == 1
        assert daemon.metric("luntrex_budget_unchecked_total") >= 1
    finally:
        fleet.server.proxy.listen_again()
    wait_until(lambda: daemon.checks()["allowances"], 15, "it is known again")
    wait_until(lambda: ask(daemon, request(daemon, closed.key)).status == 200, 15, "it goes on")
