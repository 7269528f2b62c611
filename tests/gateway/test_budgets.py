"""Budgets on the way of a request: held before anything is sent, charged as on record, refused in each dialect."""

import asyncio
import json
from dataclasses import replace

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.budgets import Budget
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Entry, Resolution
from luntrex_proxy.core.catalogue import Target as Listed
from luntrex_proxy.core.leases import Lease
from luntrex_proxy.core.pricing import COST_LIMIT_PICO, Price, Rates, Tier, fill_rates
from luntrex_proxy.gateway.route import Routing
from tests.fakes import KEY, Gateway, both_dialects, entry, serving, upstream
from tests.gateway.test_limits import CLAUDE, ENDS, USAGE
from tests.gateway.wire import (
    HANG,
    MESSAGES,
    STREAM_BODY,
    LoopUpstream,
    ask,
    connected,
    get,
    post,
    reply,
    upstream_server,
)

KEY_ID, ACCOUNT = "k" * 12, 7
BODY = b'{"model":"m","max_tokens":300,"n":2,"messages":[]}'
HELD = -(-len(BODY) // 4) * 3 + 600 * 5  # what tests/fakes.py asks for a token
COST = 30 * 3 + 12 * 5
DAY_END_US = 4_102_444_800_000_000  # 2100


def say(gateway: Gateway, left: int, *, budget_id: int = 1, is_open: bool = False, key: bool = False) -> None:
    """There is a budget of which so much can be lent."""
    keys = frozenset({KEY_ID}) if key else frozenset()
    gateway.budgets.say(ACCOUNT, budget_id, Budget(budget_id, ACCOUNT, keys, b"", "month", 10**13, is_open))
    gateway.lender.left[budget_id] = left


def lease(gateway: Gateway, budget_id: int = 1) -> Lease:
    """What this process has of it."""
    purses = gateway.budgets.applying(ACCOUNT, KEY_ID, b"")
    (found,) = [purse.lease for purse in purses if purse.budget.budget_id == budget_id]
    assert found is not None
    return found


async def test_money_is_held_and_charged_as_it_was() -> None:
    """What a request may cost at most is held while it runs, of every budget; what is on record stays."""
    go = asyncio.Event()
    async with upstream_server([go, USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, HELD)
        say(gateway, 10 * HELD, budget_id=2, key=True)
        async with connected(gateway.port) as client:
            await client.send(post(BODY))
            await up.wait()
            assert [lease(gateway, each).held for each in (1, 2)] == [HELD, HELD]
            assert (await ask(gateway.port, post(BODY))).status == 429
            go.set()
            assert (await client.reply()).status == 200
        assert [(lease(gateway, each).held, lease(gateway, each).used) for each in (1, 2)] == [(0, COST), (0, COST)]
        assert [each.cost_pico for each in gateway.outcomes] == [0, COST]
        asked = gateway.lender.asked
        small = b'{"model":"m","max_tokens":5,"messages":[]}'
        assert (await ask(gateway.port, post(small))).status == 200
        assert gateway.lender.asked == asked, "what is at hand needs nobody"


@pytest.mark.parametrize(
    ("prices", "service", "held"),
    [
        ({"cache_write_5m": 4, "cache_write_1h": 6}, b"", 6 * 300 + 5 * 100),
        ({"reasoning": 50}, b"", 3 * 300 + 50 * 100),
        ({"cached_input": 1}, b',"service_tier":"auto"', 2 * (3 * 300 + 5 * 100)),
        ({"cached_input": 1}, b"", 3 * 300 + 5 * 100),
    ],
)
async def test_what_may_be_dearer_is_held_as_such(prices: dict[str, int], service: bytes, held: int) -> None:
    """Nobody knows yet what of it is written to a cache, thought, or served sooner: with it, too, the amount holds."""
    body = b'{"model":"m","max_tokens":100,"messages":[]' + service + b',"seed":'
    body += b"1" * (4 * 300 - len(body) - 1) + b"}"
    async with upstream_server([HANG]) as up, serving(both_dialects(up.url)) as gateway:
        gateway.prices.rates = fill_rates(
            {"input": 3, "output": 5, **prices}, services=(("flex", 50), ("priority", 200))
        )
        say(gateway, 10 * held)
        async with connected(gateway.port) as client:
            await client.send(post(body))
            await up.wait()
            assert lease(gateway).held == held


async def held_for(gateway: Gateway, up: LoopUpstream, body: bytes) -> int:
    """What is held for one request while it runs."""
    async with connected(gateway.port) as client:
        await client.send(post(body))
        await up.wait(len(gateway.outcomes) + 1)
        held = lease(gateway).held
    await gateway.idle()
    assert lease(gateway).held == 0
    return held


async def test_what_is_held_follows_the_price_of_the_moment() -> None:
    """One of the table whenever it begins, with its tiers or without, one of the configuration with that."""
    own = replace(entry("m", ("a", "m")), rates=fill_rates({"input": 6, "output": 7}))
    async with upstream_server([HANG]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        size = -(-len(BODY) // 4)
        assert await held_for(gateway, up, BODY) == size * 3 + 600 * 5
        gateway.prices.rates = fill_rates({"input": 30, "output": 50})
        assert await held_for(gateway, up, BODY) == size * 30 + 600 * 50
        gateway.prices.rates = fill_rates(
            {"input": 1, "output": 2}, [Tier(size, fill_rates({"input": 8, "output": 9}))]
        )
        assert await held_for(gateway, up, BODY) == size * 1 + 600 * 2
        assert await held_for(gateway, up, BODY + b"    ") == (size + 1) * 8 + 600 * 9
        old = gateway.pipeline.routing
        gateway.pipeline.routing = Routing(Catalogue([own]), gateway.prices, old.upstreams, old.policy)
        gateway.prices.rates = own.rates
        assert await held_for(gateway, up, BODY) == size * 6 + 600 * 7
        gateway.prices.rates = None
        gateway.pipeline.routing = old
        assert await held_for(gateway, up, BODY) == 0
        assert gateway.budgets.unpriced == 1


async def test_a_budget_holds_from_the_request_that_comes_after_it() -> None:
    """However much was lent of it before, and set aside for this key."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        assert (await ask(gateway.port, post(BODY))).status == 200
        lease(gateway).granted = lease(gateway).block = 10**6
        assert [(await ask(gateway.port, post(BODY))).status for _ in range(2)] == [200, 200]
        assert gateway.budgets.wallet(ACCOUNT, KEY_ID, b"").till.free > HELD
        say(gateway, HELD - 1)
        assert (await ask(gateway.port, post(BODY))).status == 429
        say(gateway, 10**9)
        assert (await ask(gateway.port, post(BODY))).status == 200
        say(gateway, HELD - 1, budget_id=2, key=True)
        assert (await ask(gateway.port, post(BODY))).status == 429
        gateway.budgets.say(ACCOUNT, 2, None)
        assert (await ask(gateway.port, post(BODY))).status == 200


class PricesByUpstream:
    """What each of them asks for."""

    def __init__(self, rates: dict[str, Rates]) -> None:
        self._rates = rates

    def price(self, resolution: Resolution, candidate: Candidate, asked: str) -> Price:
        """By where it is served."""
        return Price(self._rates.get(candidate.upstream), "m", "test-1")


@pytest.mark.parametrize(("into", "out", "held"), [(300, 1, 30 * 300 + 5), (100, 900, 3 * 100 + 50 * 900)])
async def test_it_is_held_what_the_dearest_target_asks(into: int, out: int, held: int) -> None:
    """Which one that is depends on the request; never what is the dearest of each of them together."""
    body = b'{"model":"m","max_tokens":%d,"messages":[],"seed":' % out
    body += b"1" * (4 * into - len(body) - 1) + b"}"
    models = [Entry("m", tuple(Listed(name, Dialect.OPENAI, "m") for name in "abx"))]
    async with (
        upstream_server([HANG]) as up,
        serving([upstream(name, up.url) for name in "abx"], models) as gateway,
    ):
        gateway.pipeline.routing.prices = PricesByUpstream(
            {"a": fill_rates({"input": 30, "output": 5}), "b": fill_rates({"input": 3, "output": 50})}
        )
        say(gateway, 10**9)
        assert await held_for(gateway, up, body) == held
        assert gateway.budgets.unpriced == 0


async def test_a_price_beyond_all_budgets_is_refused() -> None:
    """With a number that a table can hold: what no budget has."""
    body = b'{"model":"m","max_tokens":1000000000,"messages":[]}'
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.prices.rates = fill_rates({"input": 10**12, "output": 10**12})
        say(gateway, 10**9)
        assert (await ask(gateway.port, post(body))).status == 429
        assert gateway.lender.most == COST_LIMIT_PICO


async def test_who_has_no_budget_asks_nobody() -> None:
    """Nor does another account's."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 0)
        gateway.keys.callers[KEY.encode()] = Caller(account_id=8, key_id=KEY_ID)
        assert (await ask(gateway.port, post(BODY))).status == 200
        assert gateway.lender.asked == 0


async def test_the_refusal_says_which_and_until_when() -> None:
    """429 as both SDKs know it, told not to retry; nothing was sent, and it is on record."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 0)
        gateway.lender.ends_us = DAY_END_US
        refused = await ask(gateway.port, post(BODY))
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
        assert "retry-after" not in refused.headers
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert "$10 per month of the account; $0 are left" in error["message"]
        assert "it begins anew at 2100-01-01T00:00:00Z" in error["message"]
        refused = await ask(gateway.port, post(CLAUDE, path=MESSAGES))
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
        error = refused.json()["error"]
        assert (error["type"], error["details"]["error_code"]) == ("rate_limit_error", "enforced_spend_limit_reached")
        assert not up.requests
        assert [each.code for each in gateway.outcomes] == ["budget_spent"] * 2


async def test_who_was_too_slow_asks_again() -> None:
    """What was lent to it others have taken: as long as there is more it is no budget that is spent, for good."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 3 * HELD)
        gateway.lender.others = HELD
        refused = await ask(gateway.port, post(BODY))
        assert (refused.status, refused.code, gateway.lender.asked) == (429, "insufficient_quota", 3)
        gateway.lender.left[1], gateway.lender.asked = 10**12, 0
        refused = await ask(gateway.port, post(BODY))
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "budget_unknown", "1")
        assert "x-should-retry" not in refused.headers
        gateway.lender.others = 0
        assert (await ask(gateway.port, post(BODY))).status == 200


@pytest.mark.parametrize("is_open", [False, True])
async def test_while_nobody_can_say_what_is_left(is_open: bool) -> None:
    """What is at hand is spent; then the budget says itself whether requests are let in, and the answer says so."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, HELD, is_open=is_open)
        assert (await ask(gateway.port, post(BODY))).status == 200
        gateway.lender.away = True
        small = post(b'{"model":"m","max_tokens":5,"messages":[]}')
        assert (await ask(gateway.port, small)).status == 200
        answer = await ask(gateway.port, post(BODY))
        assert answer.headers["x-luntrex-allowance"] == ("open" if is_open else "closed")
        await gateway.idle()
        assert lease(gateway).held == 0
        if is_open:
            assert (answer.status, gateway.budgets.unchecked) == (200, 1)
            assert lease(gateway).used == 3 * COST
        else:
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "budget_unknown", "1")


async def test_a_burst_that_is_not_heard_of_in_time_is_no_outage() -> None:
    """Nothing is spent of an open budget that was not lent: nobody has said that the database is away."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, HELD, is_open=True)
        gateway.lender.is_late = True
        refused = await ask(gateway.port, post(BODY))
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "budget_unknown", "1")
        assert "x-luntrex-allowance" not in refused.headers
        assert gateway.budgets.unchecked == 0


async def test_a_price_nobody_knows_stops_nothing_and_is_counted() -> None:
    """Somebody has to hear of it."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 0)
        gateway.prices.rates = None
        assert (await ask(gateway.port, post(BODY, path="/v1/moderations"))).status == 200
        assert gateway.budgets.unpriced == 0, "there is nothing to price"
        assert (await ask(gateway.port, post(BODY))).status == 200
        assert (gateway.budgets.unpriced, gateway.lender.asked) == (1, 0)


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_charges_what_is_on_record(end: str) -> None:
    """However the upstream ends it."""
    async with upstream_server(ENDS[end]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        await ask(gateway.port, post(STREAM_BODY))
        await gateway.idle()
        (outcome,) = gateway.outcomes
        assert (lease(gateway).used, lease(gateway).held) == (outcome.cost_pico, 0)


async def test_our_own_failures_give_back_what_was_held() -> None:
    """A full ledger, no upstream, a request that is wrong: nothing stays held, nothing is charged."""
    async with upstream_server([USAGE]) as up, serving(both_dialects(up.url)) as gateway:
        say(gateway, 10**9)
        gateway.ledger.full = True
        assert (await ask(gateway.port, post(BODY))).code == "ledger_full"
        assert (lease(gateway).held, lease(gateway).used) == (0, 0)
        gateway.ledger.full = False
        for bad in (post(b"{"), post(b'{"model":"nope"}'), post(b'{"model":"nowhere"}'), get("/v1/models")):
            await ask(gateway.port, bad)
        await gateway.idle()
        assert (lease(gateway).held, lease(gateway).used) == (0, 0)


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/v1/embeddings", {"model": "m", "input": "x" * 400}, 0),
        ("/v1/responses", {"model": "m", "input": "x", "max_output_tokens": 50}, 50),
        ("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 7}, 7),
        ("/v1/chat/completions", {"model": "m", "messages": [], "max_completion_tokens": 9, "stream": True}, 9),
    ],
)
async def test_every_billed_endpoint_is_held(path: str, body: dict[str, object], tokens: int) -> None:
    """None goes around a budget."""
    async with upstream_server([reply(200, b"{}")]) as up, serving(both_dialects(up.url)) as gateway:
        raw = json.dumps(body).encode()
        say(gateway, -(-len(raw) // 4) * 3 + tokens * 5 - 1)
        assert (await ask(gateway.port, post(raw, path=path))).status == 429
        gateway.lender.left[1] += 1
        assert (await ask(gateway.port, post(raw, path=path))).status != 429
