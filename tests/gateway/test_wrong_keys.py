"""Wrong keys: a network that sends many has to wait, keys that work go on, and a key that must be proven is."""

import asyncio

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from tests.fakes import KEY, both_dialects, serving, until
from tests.gateway.doors import LOCAL, entered, port_of
from tests.gateway.wire import BODY, CHAT, MESSAGES, ask, connected, get, post, upstream_server

WRONG = make_key(bytes(range(RANDOM_BYTES)))[1].decode()
INJECTIONS = (
    "lx_' OR '1'='1", "lx_\"; DROP TABLE api_key; --",
    "lx_%00%0d%0aX-A: b", "lx_${jndi:ldap://x}", "lx_" + "a" * 60_000,
    "lx_%s%n", "lx_\\x00", "Bearer lx_", "lx_{{7*7}}", "lx_../../pepper",
)  # fmt: skip


async def test_the_twenty_first_wrong_key_waits_and_good_ones_do_not() -> None:
    """20 failures are 401; then 429 with Retry-After for every key that is not known, and 200 for one that is."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        for n in range(21):
            assert (await ask(gateway.port, post(BODY, key="lx_wrong"))).status == 401, n
        for path, key in ((CHAT, "lx_wrong"), (CHAT, WRONG), (CHAT, "sk-x"), (CHAT, ""), (MESSAGES, "lx_wrong")):
            refused = await ask(gateway.port, post(BODY, path=path, key=key))
            assert refused.status == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert "x-should-retry" not in refused.headers or refused.headers["x-should-retry"] == "false"
        assert (await ask(gateway.port, post(BODY))).status == 200
        assert (await ask(gateway.port, get("/v1/models"))).status == 200
        codes = [code for _, code in gateway.refused_keys]
        assert (codes.count("invalid_api_key"), codes.count("too_many_failures")) == (21, 5)
        assert [outcome.code for outcome in gateway.outcomes].count("too_many_failures") == 5
        assert len(up.requests) == 1


@pytest.mark.parametrize("slow", [False, True])
async def test_a_burst_of_wrong_keys_counts_exactly(slow: bool) -> None:
    """A hundred at once from one network: 21 are 401 and 79 are 429, also when each look takes its time."""
    may_answer = asyncio.Event()

    async def prove(_: bytes, __: str) -> Caller | None:
        await may_answer.wait()
        return None

    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        if slow:
            gateway.pipeline.door._prove = prove
        burst = [asyncio.create_task(ask(gateway.port, post(BODY, key=WRONG))) for _ in range(100)]
        await until(lambda: len(gateway.refused_keys) >= 79)
        may_answer.set()
        statuses = [(await one).status for one in burst]
        assert (statuses.count(401), statuses.count(429)) == (21, 79)
        codes = [code for _, code in gateway.refused_keys]
        assert (codes.count("invalid_api_key"), codes.count("too_many_failures")) == (21, 79)
        assert (await ask(gateway.port, post(BODY))).status == 200
        assert len(up.requests) == 1


async def test_failures_count_by_network() -> None:
    """A /24 shares its failures, another network has its own; the trusted proxy's word names them."""
    clients = Clients(LOCAL, "x_forwarded_for")
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits={"key_failures_per_minute": 2}) as gateway,
        entered(gateway, Entrance(clients, Addresses(None))) as opened,
    ):
        gateway.pipeline.clients = clients

        async def status(address: str, key: str = "lx_wrong") -> int:
            return (await ask(port_of(opened), post(BODY, f"X-Forwarded-For: {address}", key=key))).status

        got = [await status(f"203.0.113.{n}") for n in range(5)]
        assert got == [401, 401, 401, 429, 429]
        assert await status("198.51.100.1") == 401
        assert await status("203.0.113.200", KEY) == 200
        assert {network for network, _ in gateway.refused_keys} == {"203.0.113.0/24", "198.51.100.0/24"}
        gateway.pipeline.set_limits(gateway.pipeline.limits.model_copy(update={"key_failures_per_minute": None}))
        assert [await status("198.51.100.1") for _ in range(5)] == [401] * 5


async def test_a_key_that_is_proven_is_served() -> None:
    """A key only bcrypt can tell is served like any other; a wrong one of the same form is 401."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.keys.unproven[WRONG.encode()] = Caller(account_id=8, key_id=WRONG[3:15])
        assert (await ask(gateway.port, post(BODY, key=WRONG))).status == 200
        assert (await gateway.outcome()).account_id == 8
        gateway.keys.unproven.clear()
        gateway.keys.callers.pop(WRONG.encode())
        assert (await ask(gateway.port, post(BODY, key=WRONG))).status == 401
        assert len(up.requests) == 1


@pytest.mark.parametrize(("busy", "current"), [(True, True), (False, False)])
async def test_a_key_that_cannot_be_checked_now_is_not_wrong(busy: bool, current: bool) -> None:
    """503 with Retry-After, and it is no failure of its network."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits={"key_failures_per_minute": 1}) as gateway,
    ):
        gateway.keys.busy, gateway.keys.current = busy, current
        for _ in range(5):
            refused = await ask(gateway.port, post(BODY, key=WRONG))
            assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "keys_unavailable", "1")
        assert [code for _, code in gateway.refused_keys] == ["keys_unavailable"] * 5, "told, but no failure"
        assert len(gateway.pipeline.door.attempts) <= 1


async def test_a_key_that_must_not_work_yet_or_any_more_is_401() -> None:
    """Not-before and expiry are asked at each request, and count as failures."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        for times in ({"not_before": 4e9}, {"expires_at": 1.0}):
            gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, **times)
            assert (await ask(gateway.port, post(BODY))).status == 401
        assert [code for _, code in gateway.refused_keys] == ["invalid_api_key"] * 2


async def test_a_client_that_leaves_while_its_key_is_proven_is_let_go() -> None:
    """The request ends with its client; nothing is sent upstream for it."""
    started, never = asyncio.Event(), asyncio.Event()

    async def prove(_: bytes, __: str) -> Caller | None:
        started.set()
        await never.wait()
        return None

    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.pipeline.door._prove = prove
        async with connected(gateway.port) as client:
            await client.send(post(BODY, key=WRONG))
            await asyncio.wait_for(started.wait(), 5)
        await until(lambda: gateway.pipeline.inflight == 0)
        assert len(up.requests) == 0
        assert gateway.outcomes[-1].code == "client_gone"


@pytest.mark.parametrize("key", INJECTIONS)
@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "x-api-key: {}"])
async def test_injections_are_inert(key: str, header: str) -> None:
    """SQL, headers, templates, paths, over-long keys: 401 (or 431), nothing of them comes back or goes up."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        answer = await ask(gateway.port, post(BODY, header.format(key), key=""))
        assert answer.status in (401, 431)
        assert key.encode() not in answer.head + answer.body
        assert up.connections == 0
        assert (await ask(gateway.port, post(BODY))).status == 200
