"""Keys that are limited: what lies outside is refused before anything is sent, what lies inside passes as always."""

import asyncio

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.core.scope import Scope, read_scope
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from tests.fakes import KEY, Gateway, both_dialects, entry, serving, until, upstream
from tests.gateway.doors import LOCAL, entered, port_of
from tests.gateway.wire import BODY, CHAT, MESSAGES, ask, connected, get, post, upstream_server

CLAUDE = BODY.replace(b'"m"', b'"claude"')
EMBEDDINGS = "/v1/embeddings"


def limit(gateway: Gateway, scope: Scope) -> None:
    """The one key is limited from now on."""
    gateway.keys.callers[KEY.encode()] = Caller(account_id=7, key_id="k" * 12, scope=scope)


async def test_endpoints() -> None:
    """A key for chat alone may not embed, in the words of the dialect; nothing was sent, and it is on record."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, read_scope(["chat.completions"]))
        assert (await ask(gateway.port, post(BODY))).status == 200
        refused = await ask(gateway.port, post(BODY, path=EMBEDDINGS))
        assert (refused.status, refused.code) == (403, "endpoint_not_allowed")
        assert REFUSALS["endpoint_not_allowed"].sentence in refused.body.decode()
        theirs = await ask(gateway.port, post(CLAUDE, path=MESSAGES))
        assert (theirs.status, theirs.json()["error"]["type"]) == (403, "permission_error")
        assert (await ask(gateway.port, get("/v1/models"))).status == 403
        assert len(up.requests) == 1
        assert [outcome.code for outcome in gateway.outcomes].count("endpoint_not_allowed") == 3
        assert {outcome.account_id for outcome in gateway.outcomes} == {7}
        assert gateway.refused_keys == []


async def test_models() -> None:
    """A model outside is as if it did not exist, also in the list; a name by its beginning passes."""
    models = (entry("m", ("a", "m")), entry("m2", ("a", "m2")), entry("x", ("a", "x")))
    async with upstream_server() as up, serving(both_dialects(up.url), models) as gateway:
        limit(gateway, read_scope(models=["m*"]))
        assert (await ask(gateway.port, post(BODY))).status == 200
        assert (await ask(gateway.port, post(BODY.replace(b'"m"', b'"m2"')))).status == 200
        refused = await ask(gateway.port, post(BODY.replace(b'"m"', b'"x"')))
        unknown = await ask(gateway.port, post(BODY.replace(b'"m"', b'"no"')))
        assert (refused.status, refused.json()) == (404, unknown.json()), "nothing tells one from the other"
        listed = (await ask(gateway.port, get("/v1/models"))).json()
        assert [model["id"] for model in listed["data"]] == ["m", "m2"]
        assert (await ask(gateway.port, get("/v1/models/x"))).status == 404
        assert (await ask(gateway.port, get("/v1/models/m2"))).status == 200
        assert len(up.requests) == 2


async def test_the_list_behind_a_wildcard_is_the_keys_own() -> None:
    """Where every name passes, an upstream's list would show what the key may not use: its own names stand there."""
    wildcard = (entry("*", ("a", "*")),)
    async with upstream_server() as up, serving(both_dialects(up.url), wildcard) as gateway:
        limit(gateway, read_scope(models=["gpt-a", "gpt-b", "o3*"]))
        listed = (await ask(gateway.port, get("/v1/models"))).json()
        assert [model["id"] for model in listed["data"]] == ["gpt-a", "gpt-b"]
        assert (await ask(gateway.port, get("/v1/models/other"))).status == 404
        assert up.connections == 0


async def test_regions() -> None:
    """A key's regions narrow the policy: an upstream elsewhere is never asked, and a header cannot widen them."""
    models = (entry("m", ("eu", "m"), ("us", "m")), entry("far", ("us", "m")))
    async with upstream_server() as eu, upstream_server() as us:
        ups = [upstream("eu", eu.url, region="eu"), upstream("us", us.url, region="us")]
        async with serving(ups, models) as gateway:
            limit(gateway, read_scope(regions=["eu"]))
            for headers in ((), ("x-luntrex-policy: region=us,eu",)):
                assert (await ask(gateway.port, post(BODY, *headers))).status == 200
            refused = await ask(gateway.port, post(BODY.replace(b'"m"', b'"far"')))
            assert (refused.status, refused.code, refused.json()["error"]["param"]) == (
                403,
                "policy_excludes",
                "region",
            )
            assert (await ask(gateway.port, post(BODY, "x-luntrex-policy: region=us"))).status == 403
            assert (len(eu.requests), len(us.requests)) == (2, 0)


@pytest.mark.parametrize(
    ("networks", "header", "status"),
    [
        (["127.0.0.0/8"], None, 200),
        (["192.0.2.0/24"], None, 403),
        (["192.0.2.0/24"], "192.0.2.77", 200),
        (["192.0.2.0/24"], "198.51.100.1, 192.0.2.77", 200),
        (["192.0.2.0/24"], "192.0.2.77, 198.51.100.1", 403),  # what a client writes itself does not count
        (["192.0.2.0/24"], "unknown", 403),
        (["2001:db8::/32"], "2001:db8:1:2:3::4", 200),
        (["2001:db8:1:2:3::/80"], "2001:db8:1:2:4::4", 403),  # finer than the /64 that limits count by
    ],
)
async def test_networks(networks: list[str], header: str | None, status: int) -> None:
    """The client's address as the trusted proxy says it, whole; where nobody says it, the key is refused."""
    source = "peer" if header is None else "x_forwarded_for"
    clients = Clients(() if header is None else LOCAL, source)
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, Entrance(clients, Addresses(None))) as opened,
    ):
        gateway.pipeline.clients = clients
        limit(gateway, read_scope(networks=networks))
        headers = [] if header is None else [f"X-Forwarded-For: {header}"]
        answer = await ask(port_of(opened), post(BODY, *headers))
        assert answer.status == status
        assert len(up.requests) == (status == 200)
        assert [code for _, code in gateway.refused_keys] == ["address_not_allowed"] * (status == 403)
        assert b"192.0.2" not in up.raw + answer.body


async def test_a_header_of_a_stranger_is_no_address() -> None:
    """From who is no trusted proxy X-Forwarded-For says nothing."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        limit(gateway, read_scope(networks=["192.0.2.0/24"]))
        assert (await ask(gateway.port, post(BODY, "X-Forwarded-For: 192.0.2.1"))).status == 403


async def test_a_unix_socket_has_no_address(tmp_path: object) -> None:
    """A key limited to networks does not work where no address is known, and an unlimited one does."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, Entrance(), f"unix:{tmp_path}/s"),
    ):
        limit(gateway, read_scope(networks=["0.0.0.0/0", "::/0"]))

        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write(post(BODY, path=CHAT))
        assert b" 403 " in await reader.readline()
        writer.close()
        assert gateway.refused_keys == [("local", "address_not_allowed")]


@pytest.mark.parametrize(
    ("now", "status", "code"),
    [
        (Caller(7, "k" * 12, scope=read_scope(["embeddings"])), 403, "endpoint_not_allowed"),
        (Caller(7, "k" * 12, scope=read_scope(networks=["192.0.2.0/24"])), 403, "address_not_allowed"),
        (Caller(7, "k" * 12, scope=read_scope(models=["x"])), 404, "model_not_found"),
        (Caller(7, "k" * 12, scope=read_scope(regions=["us"])), 403, "policy_excludes"),
        (Caller(7, "k" * 12, policy=read_policy("region=us; retention=none; training=never")), 403, "policy_excludes"),
        (Caller(7, "k" * 12, expires_at=1.0), 401, "key_revoked"),
        (None, 401, "key_revoked"),
        (Caller(7, "k" * 12, scope=read_scope(["chat.completions"], ["m"])), 200, "ok"),
    ],
)
async def test_limits_are_those_of_the_moment_of_forwarding(now: Caller | None, status: int, code: str) -> None:
    """What changes while a body comes holds for its request, whichever limit it is; nothing outside it is sent."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, connected(gateway.port) as client:
        request = post(BODY)
        await client.send(request[:-5])
        await until(lambda: gateway.pipeline.inflight == 1)
        if now is None:
            del gateway.keys.callers[KEY.encode()]
        else:
            gateway.keys.callers[KEY.encode()] = now
        gateway.keys.generation += 1
        answer = await (await client.send(request[-5:])).reply()
        assert answer.status == status
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.account_id) == (code, 7)
        assert len(up.requests) == (status == 200)


async def test_a_body_that_takes_its_time_costs_no_look_when_nothing_changed() -> None:
    """The ring is asked again only when its generation is another one."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, connected(gateway.port) as client:
        request = post(BODY)
        await client.send(request[:-5])
        await until(lambda: gateway.pipeline.inflight == 1)
        gateway.keys.raises = AssertionError("asked again")
        assert (await (await client.send(request[-5:])).reply()).status == 200
        assert len(up.requests) == 1
